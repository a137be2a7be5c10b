//! What the next job needs, pulled while the present one runs and has no use for the network.

use super::images::Images;
use crate::report::Report;
use oci_pull::VerifiedImage;
use oci_reference::Reference;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use workflow::Job;

/// How soon it is known that the last image has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often whoever waits is told so.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Images on their way. Those of a job that is skipped are given up when this is dropped.
pub(super) struct Prefetch {
    wanted: Vec<Reference>,
    time: Arc<PrefetchTime>,
    pulls: Option<JoinHandle<HashMap<Reference, Arc<VerifiedImage>>>>,
}

/// The images of a job that are known before the job before it has ended, and that anybody may have.
pub(super) fn known(job: &Job) -> impl Iterator<Item = &Reference> {
    let open = job.containers().filter(|container| container.credentials.is_none());
    open.flat_map(|container| container.images().filter_map(|image| image.reference.as_ref()))
}

impl Prefetch {
    pub(super) fn start(images: Arc<Images>, wanted: Vec<Reference>, report: Report) -> Self {
        let time = Arc::new(PrefetchTime::begin());
        let (theirs, list) = (Arc::clone(&time), wanted.clone());
        let pulls = thread::spawn(move || {
            let pull = |image: Reference| match images.pull_ahead(&image, &theirs, &report) {
                Ok(pulled) => Some((image, Arc::new(pulled))),
                // The job itself will try again, and tell.
                Err(error) => {
                    let text = format!("image {image}: not pulled ahead: {error:#}");
                    if theirs.is_awaited.load(Ordering::Relaxed) {
                        report.warn(text)
                    } else {
                        report.detail(text)
                    }
                    None
                }
            };
            list.into_iter().map_while(pull).collect()
        });
        Self { wanted, time, pulls: Some(pulls) }
    }

    pub(super) fn has(&self, image: &Reference) -> bool {
        self.wanted.contains(image)
    }

    /// Those that came. What is still on its way tells from now on how far it is, and why it waits.
    pub(super) fn finish(mut self, report: &Report) -> HashMap<Reference, Arc<VerifiedImage>> {
        let trouble = self.time.await_end();
        if let Some(pulls) = self.pulls.as_ref().filter(|pulls| !pulls.is_finished()) {
            report.say("images: waiting for those that were begun during the job before");
            trouble.iter().for_each(|why| report.warn(why));
            let (start, mut told) = (Instant::now(), Instant::now());
            while !pulls.is_finished() {
                thread::sleep(LOOK_EVERY);
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    report.say(format_args!("images: still waiting ({} s)", start.elapsed().as_secs()));
                }
            }
        }
        let came = self.pulls.take().and_then(|pulls| pulls.join().ok()).unwrap_or_default();
        came.keys().for_each(|image| {
            report.say(format_args!("image {image}: ready, pulled while the job before ran"));
        });
        came
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.time.is_left.store(false, Ordering::Relaxed);
    }
}

/// The time that prefetching has, and what came of it.
#[derive(Debug)]
pub(super) struct PrefetchTime {
    /// Until the job that needs the images has begun, or is known not to.
    pub(super) is_left: AtomicBool,
    /// Whether that job is waiting for them.
    pub(super) is_awaited: AtomicBool,
    /// The last thing that failed and is tried again.
    trouble: Mutex<Option<String>>,
}

impl PrefetchTime {
    fn begin() -> Self {
        Self { is_left: AtomicBool::new(true), is_awaited: AtomicBool::new(false), trouble: Mutex::new(None) }
    }

    /// Something failed and is tried again.
    pub(super) fn has_trouble(&self, why: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// From now on a job waits; what has failed so far.
    fn await_end(&self) -> Option<String> {
        self.is_awaited.store(true, Ordering::Relaxed);
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
