//! Fetches with retries, as the table of retries says.

use super::{DOCUMENT_TIME_LIMIT, Deadline};
use retry::{Attempts, Failure, Pause};
use std::thread;

/// What happens during a fetch.
#[derive(Debug)]
pub enum RetryEvent {
    /// A request begins, and must be answered by this time.
    Asking(Deadline),
    /// An attempt failed; the next one follows after the pause.
    Pausing(Pause),
}

/// Makes attempts until one succeeds; `watch` is called for each attempt and each pause.
///
/// # Errors
/// The last failure, when it is permanent or a limit is reached.
pub fn retrying<T>(
    watch: &mut dyn FnMut(&RetryEvent),
    mut attempt: impl FnMut(Deadline) -> Result<T, Failure>,
) -> anyhow::Result<T> {
    let mut attempts = Attempts::usual();
    loop {
        let deadline = Deadline::within(attempts.left().min(DOCUMENT_TIME_LIMIT));
        watch(&RetryEvent::Asking(deadline));
        match attempt(deadline) {
            Ok(done) => return Ok(done),
            Err(failure) => {
                let pause = attempts.pause(failure)?;
                let wait = pause.wait;
                watch(&RetryEvent::Pausing(pause));
                thread::sleep(wait);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;
    use crate::tls::Roots;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// A server that sends these answers, one for each connection.
    fn server(answers: &'static [&str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        thread::spawn(move || {
            for (answer, stream) in answers.iter().zip(listener.incoming()) {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(stream, "HTTP/1.1 {answer}\r\nconnection: close\r\n\r\nit is here");
            }
        });
        url
    }

    /// The result of a fetch, and the events on the way.
    fn fetched(url: &str) -> (anyhow::Result<Vec<u8>>, Vec<String>) {
        let client = Client::new(&Roots::default());
        let mut told = Vec::new();
        let mut watch = |event: &RetryEvent| match event {
            RetryEvent::Asking(deadline) => told.push(format!("asking, {} s", deadline.limit().as_secs())),
            RetryEvent::Pausing(pause) => {
                told.push(format!("{} of {}: {:#}", pause.tried, pause.tries, pause.why))
            }
        };
        (retrying(&mut watch, |deadline| client.fetch(url, deadline)), told)
    }

    #[test]
    fn a_document_is_fetched_again_after_a_transient_failure() {
        let url = server(&["503 X\r\nretry-after: 1", "500 X", "200 X"]);
        let (outcome, told) = fetched(&url);
        assert_eq!(outcome.unwrap(), b"it is here");
        assert!(told[1].starts_with("1 of 10: ") && told[1].contains("is overloaded"), "{told:?}");
        assert!(told[3].starts_with("1 of 5: the server responded with `500"), "{told:?}");
        assert!(told[0] == "asking, 299 s" || told[0] == "asking, 300 s", "{told:?}");
        assert_eq!((told[2].as_str(), told.len()), ("asking, 300 s", 5));
    }

    #[test]
    fn a_permanent_failure_is_not_retried() {
        let (outcome, told) = fetched(&server(&["404 X"]));
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("the server responded with `404") && told.len() == 1, "{error:#}");
    }
}
