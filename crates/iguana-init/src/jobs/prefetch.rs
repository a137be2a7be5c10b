//! What the next job needs, pulled while the present one runs and has no use for the network.

use super::images::Images;
use crate::report::{Report, Waiting};
use fetch::http;
use oci_pull::VerifiedImage;
use oci_reference::Reference;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use workflow::Job;

/// Images on their way. Those of a job that is skipped are given up when this is dropped.
pub(super) struct Prefetch {
    wanted: Vec<Reference>,
    time: Time,
    pulls: JoinHandle<HashMap<Reference, Arc<VerifiedImage>>>,
}

/// The images of a job that are known before the job before it has ended, and that anybody may have.
pub(super) fn known(job: &Job) -> impl Iterator<Item = &Reference> {
    let open = job.containers().filter(|container| container.credentials.is_none());
    open.flat_map(|container| container.images().filter_map(|image| image.reference.as_ref()))
}

impl Prefetch {
    pub(super) fn start(images: Arc<Images>, wanted: Vec<Reference>, report: Report) -> Self {
        let has_time = Arc::new(AtomicBool::new(true));
        let (theirs, list) = (Arc::clone(&has_time), wanted.clone());
        let pulls = thread::spawn(move || {
            let pull = |image: Reference| match images.pull_ahead(&image, &theirs, &report) {
                Ok(pulled) => Some((image, Arc::new(pulled))),
                // The job itself will try again, and tell.
                Err(error) => {
                    report.detail(format_args!("image {image}: not pulled ahead: {error:#}"));
                    None
                }
            };
            list.into_iter().map_while(pull).collect()
        });
        Self { wanted, time: Time(has_time), pulls }
    }

    pub(super) fn has(&self, image: &Reference) -> bool {
        self.wanted.contains(image)
    }

    /// Those that came.
    pub(super) fn finish(self, report: &Report) -> HashMap<Reference, Arc<VerifiedImage>> {
        let Self { pulls, time: _time, .. } = self;
        let _waiting = Waiting::start(
            report,
            "images: waiting for those that were begun during the job before".into(),
            http::DOCUMENT_TIME_LIMIT,
        );
        let came = pulls.join().unwrap_or_default();
        came.keys().for_each(|image| {
            report.say(format_args!("image {image}: ready, pulled while the job before ran"));
        });
        came
    }
}

/// The time that prefetching has: it is over when this is dropped.
struct Time(Arc<AtomicBool>);

impl Drop for Time {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
