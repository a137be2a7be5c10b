//! Layers from a source that fails in every way.

use super::super::layers::fetch_all;
use super::*;
use fetch::http::Deadline;
use oci_layer::Capacity;
use std::cell::RefCell;
use std::io::Cursor;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A source that calls `serve` with the digest, the offset in the blob, and the number of requests so far.
struct Fake<F> {
    serve: F,
    asked: Mutex<Vec<u64>>,
}

impl<F> Fake<F>
where
    F: Fn(Digest, u64, usize) -> Result<Box<dyn Read>, Failure> + Send + Sync + 'static,
{
    fn new(serve: F) -> Arc<Self> {
        Arc::new(Self { serve, asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }
}

impl<F> ImageSource for Fake<F>
where
    F: Fn(Digest, u64, usize) -> Result<Box<dyn Read>, Failure> + Send + Sync + 'static,
{
    fn name(&self) -> String {
        "r.example/x".into()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn manifest(&self, _: &str, _: Deadline) -> Result<Vec<u8>, Failure> {
        Err(Failure::absent(anyhow::anyhow!("no manifests")))
    }

    fn document(&self, _: Digest, _: Deadline) -> Result<Vec<u8>, Failure> {
        Err(Failure::absent(anyhow::anyhow!("no documents")))
    }

    fn blob(&self, digest: Digest, _: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(start);
        let count = asked.len();
        drop(asked);
        (self.serve)(digest, start, count)
    }
}

/// Unlimited capacity.
struct Room;

impl Capacity for Room {
    fn left(&self) -> u64 {
        1 << 30
    }

    fn stretch(&self) {}
}

/// A stream that breaks at its end.
struct Breaking<R>(R);

impl<R: Read> Read for Breaking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

/// A tar with one file of this size.
fn tar(bytes: usize) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path("a").unwrap();
    header.set_size(bytes as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, io::repeat(7).take(bytes as u64)).unwrap();
    builder.into_inner().unwrap()
}

fn wanted(bytes: &[u8]) -> Wanted {
    let digest = Digest::of(bytes);
    Wanted {
        digest,
        diff_id: digest,
        compression: Compression::None,
        is_foreign: false,
        bytes: bytes.len() as u64,
    }
}

/// The result of fetching these layers, and the events.
fn fetched(source: &Arc<dyn ImageSource>, layers: &[Wanted]) -> (Result<usize, String>, Vec<String>) {
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path()).unwrap();
    let into = Target { store: &store, capacity: &Room, at_once: 1, work: &Work::of_image() };
    let told = RefCell::new(Vec::new());
    let tell = |event| {
        if let PullEvent::Waiting { why, tried, tries, .. } = event {
            told.borrow_mut().push(format!("{tried} of {tries}: {why}"));
        }
    };
    let layers: Vec<_> = layers.iter().collect();
    let sources = Sources(vec![Arc::clone(source)]);
    let outcome = fetch_all(&sources, into, &layers, Duration::from_secs(5), &tell);
    let outcome = outcome.map(|layers| layers.len()).map_err(|error| format!("{error:#}"));
    (outcome, told.into_inner())
}

fn body(bytes: Vec<u8>) -> Result<Box<dyn Read>, Failure> {
    Ok(Box::new(Cursor::new(bytes)))
}

#[test]
fn a_damaged_layer_is_named_by_its_digest_and_fetched_again() {
    let content = tar(100_000);
    let layer = wanted(&content);
    let digest = layer.digest;
    // In the header of the archive, which the unpacker sees first.
    let source = Fake::new(move |_, _, count| {
        let mut bytes = content.clone();
        bytes[3] ^= u8::from(count == 1);
        body(bytes)
    });
    let (outcome, told) = fetched(&(source.clone() as Arc<dyn ImageSource>), &[layer]);
    assert_eq!(outcome, Ok(1), "{told:?}");
    assert_eq!(source.asked(), [0, 0]);
    assert!(told.len() == 1 && told[0].starts_with("1 of 3: `r.example/x: sha256:"), "{told:?}");
    assert!(told[0].contains("arrived damaged: the layer has digest"), "{told:?}");
    assert!(told[0].contains(&format!("instead of `{digest}`")), "{told:?}");
}

#[test]
fn a_layer_damaged_each_time_fails_with_its_digest() {
    let layer = wanted(&tar(100));
    let source = Fake::new(|_, _, _| body(vec![9; tar(100).len()]));
    let (outcome, told) = fetched(&(source.clone() as Arc<dyn ImageSource>), &[layer]);
    let error = outcome.unwrap_err();
    assert!(error.contains("gave up after 3 attempts") && error.contains("arrived damaged"), "{error}");
    assert!(!error.contains("tar"), "{error}");
    assert_eq!((source.asked().len(), told.len()), (3, 2));
}

#[test]
fn a_verified_layer_that_is_not_an_archive_is_fetched_once() {
    let bytes = vec![9; 100_000];
    let layer = wanted(&bytes);
    let source = Fake::new(move |_, _, _| body(bytes.clone()));
    let (outcome, told) = fetched(&(source.clone() as Arc<dyn ImageSource>), &[layer]);
    assert!(outcome.is_err_and(|error| error.contains("no tar header")) && told.is_empty());
    assert_eq!(source.asked(), [0]);
}

#[test]
fn a_layer_that_is_longer_than_its_manifest_says_is_refused() {
    let bytes = tar(100);
    let mut layer = wanted(&bytes);
    layer.bytes -= 1;
    let source = Fake::new(move |_, _, _| body(bytes.clone()));
    let (outcome, _) = fetched(&(source as Arc<dyn ImageSource>), &[layer]);
    let error = outcome.unwrap_err();
    assert!(
        error.contains("the layer is longer than the") && error.contains("bytes stated in the manifest"),
        "{error}"
    );
}

#[test]
fn a_connection_lost_after_the_last_byte_is_complete() {
    let content = tar(600_000);
    let layer = wanted(&content);
    let source = Fake::new(move |_, _, _| Ok(Box::new(Breaking(Cursor::new(content.clone())))));
    let (outcome, told) = fetched(&(source.clone() as Arc<dyn ImageSource>), &[layer]);
    assert_eq!((outcome, told, source.asked()), (Ok(1), vec![], vec![0]));
}

#[test]
fn an_interrupted_transfer_resumes_at_the_byte_it_reached() {
    let content = tar(600_000);
    let layer = wanted(&content);
    let source = Fake::new(move |_, start, count| {
        let rest = content[start as usize..].to_vec();
        let end = if count == 1 { 300_001 } else { rest.len() };
        Ok(Box::new(Breaking(Cursor::new(rest[..end].to_vec()))))
    });
    let (outcome, told) = fetched(&(source.clone() as Arc<dyn ImageSource>), &[layer]);
    assert_eq!((outcome, source.asked()), (Ok(1), vec![0, 300_001]));
    assert!(told[0].contains("the connection was lost after 300001 of"), "{told:?}");
}

#[test]
fn a_fatal_error_of_one_layer_stops_the_others_at_once() {
    /// A stream of one byte per second.
    struct Trickle;
    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            thread::sleep(Duration::from_secs(1));
            buffer[0] = 0;
            Ok(1)
        }
    }
    let [large, small] = [wanted(&tar(100_000)), wanted(&tar(100))];
    let lost = large.digest;
    let source = Fake::new(move |digest, _, _| {
        if digest != lost {
            return Ok(Box::new(Trickle));
        }
        thread::sleep(Duration::from_millis(300));
        Err(Failure::permanent(anyhow::anyhow!("this layer is lost")))
    });
    let start = Instant::now();
    let (outcome, _) = fetched(&(source as Arc<dyn ImageSource>), &[large, small]);
    assert!(outcome.is_err_and(|error| error.ends_with("this layer is lost")));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn only_an_absent_layer_is_explained_by_its_type() {
    let lost = "the registry has lost a part of the image";
    let push = "push the image again with all of its layers";
    for (is_foreign, is_absent, expected) in
        [(true, true, push), (true, false, lost), (false, true, lost), (false, false, lost)]
    {
        let source = Fake::new(move |_, _, _| {
            Err(Failure { is_absent, ..Failure::permanent(hint::hinted("404", lost)) })
        });
        let layer = Wanted { is_foreign, ..wanted(b"") };
        let room = tempfile::tempdir().unwrap();
        let into = Target {
            store: &Store::open(room.path()).unwrap(),
            capacity: &Room,
            at_once: 1,
            work: &Work::of_image(),
        };
        let sources = Sources(vec![source as Arc<dyn ImageSource>]);
        let error = fetch_all(&sources, into, &[&layer], Duration::from_secs(5), &|_| ()).unwrap_err();
        assert_eq!(hint::of(&error), Some(expected), "{error:#}");
        let is_named = format!("{error:#}").contains("not distributed by registries");
        assert_eq!(is_named, expected == push, "{error:#}");
    }
}
