//! A source of images for tests, in memory.

use crate::retry::Failure;
use crate::source::ImageSource;
use fetch::http::Deadline;
use oci_reference::digest::Digest;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::time::Duration;

/// Documents and blobs by tag or digest.
#[derive(Default)]
pub(super) struct Source(pub(super) HashMap<String, Vec<u8>>);

impl Source {
    pub(super) fn put(&mut self, bytes: &[u8]) -> Digest {
        self.0.insert(Digest::of(bytes).to_string(), bytes.to_vec());
        Digest::of(bytes)
    }
}

impl ImageSource for Source {
    fn name(&self) -> String {
        "r.example/x".into()
    }

    fn manifest(&self, identifier: &str, _: Deadline) -> Result<Vec<u8>, Failure> {
        let found = self.0.get(identifier).cloned();
        found.ok_or_else(|| Failure::absent(anyhow::anyhow!("no `{identifier}`")))
    }

    fn document(&self, digest: Digest, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        self.manifest(&digest.to_string(), deadline)
    }

    fn blob(&self, digest: Digest, _: u64, _: u64) -> Result<Box<dyn Read + '_>, Failure> {
        let deadline = Deadline::within(Duration::from_secs(1));
        Ok(Box::new(Cursor::new(self.document(digest, deadline)?)))
    }
}
