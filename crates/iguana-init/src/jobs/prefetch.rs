//! Pulls the images of the next job while the present one runs and does not use the network.

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

/// How often to check whether the last pull has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How often a job that waits for a prefetch reports it.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// A prefetch in progress; cancelled on drop, for example when the job is skipped.
pub(super) struct Prefetch {
    wanted: Vec<Reference>,
    time: Arc<PrefetchTime>,
    pulls: Option<JoinHandle<HashMap<Reference, Arc<VerifiedImage>>>>,
}

/// The images of a job that are known before the previous job has ended, and that need no credentials.
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
                // The job tries again, and reports an error then.
                Err(error) => {
                    let text = format!("image {image}: cannot prefetch: {error:#}");
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

    /// Waits for the pulls and returns the images. From now on they report their progress, and why they wait.
    pub(super) fn finish(mut self, report: &Report) -> HashMap<Reference, Arc<VerifiedImage>> {
        let trouble = self.time.await_end();
        if let Some(pulls) = self.pulls.as_ref().filter(|pulls| !pulls.is_finished()) {
            report.say("images: waiting for those being prefetched");
            if let Some(why) = trouble {
                report.warn(why);
            }
            let (start, mut told) = (Instant::now(), Instant::now());
            while !pulls.is_finished() {
                thread::sleep(POLL_INTERVAL);
                if told.elapsed() >= REPORT_INTERVAL {
                    told = Instant::now();
                    report.say(format_args!("images: still waiting ({} s)", start.elapsed().as_secs()));
                }
            }
        }
        let came = self.pulls.take().and_then(|pulls| pulls.join().ok()).unwrap_or_default();
        came.keys().for_each(|image| {
            report.say(format_args!("image {image}: ready, prefetched during the previous job"));
        });
        came
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.time.is_left.store(false, Ordering::Relaxed);
    }
}

/// The state that the prefetch and the job share.
#[derive(Debug)]
pub(super) struct PrefetchTime {
    /// Whether the prefetch may go on: until its job has begun, or will not run.
    pub(super) is_left: AtomicBool,
    /// Whether the job is waiting for the images.
    pub(super) is_awaited: AtomicBool,
    /// The last error that is being retried.
    trouble: Mutex<Option<String>>,
}

impl PrefetchTime {
    fn begin() -> Self {
        Self { is_left: AtomicBool::new(true), is_awaited: AtomicBool::new(false), trouble: Mutex::new(None) }
    }

    /// Records an error that is being retried.
    pub(super) fn add_trouble(&self, why: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Marks the prefetch as awaited by a job. Returns the last error so far.
    fn await_end(&self) -> Option<String> {
        self.is_awaited.store(true, Ordering::Relaxed);
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
