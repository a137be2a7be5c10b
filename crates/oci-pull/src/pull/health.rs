//! The health check of an image (`HEALTHCHECK` of a Containerfile): docker's extension of the image's config, which
//! podman takes, too (moby, Docker Image Specification v1.3, `Healthcheck`).

use anyhow::Context as _;
use serde::Deserialize;
use std::time::Duration;

/// Docker's defaults, for fields that are absent or 0.
const INTERVAL: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
/// The shell of `CMD-SHELL`.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A command that succeeds when the image's own program works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The command, run in the container.
    pub command: Vec<String>,
    /// How long docker lets it fail before the container counts as unhealthy: the start period, and the intervals of
    /// all retries.
    pub until_unhealthy: Duration,
}

#[derive(Deserialize)]
struct Configuration {
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "Healthcheck")]
    health_check: Option<Described>,
}

/// Times are in nanoseconds.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    #[serde(default)]
    test: Option<Vec<String>>,
    #[serde(default)]
    interval: u64,
    #[serde(default)]
    start_period: u64,
    #[serde(default)]
    retries: u32,
}

impl HealthCheck {
    /// The health check in an image's config, if it has one.
    ///
    /// # Errors
    /// When it is malformed.
    pub(super) fn of(configuration: &[u8]) -> anyhow::Result<Option<Self>> {
        let read: Configuration =
            serde_json::from_slice(configuration).context("the image's `Healthcheck` is malformed")?;
        let Some(described) = read.config.and_then(|config| config.health_check) else { return Ok(None) };
        let words = described.test.unwrap_or_default();
        let command = match words.split_first() {
            Some((kind, words)) if kind == "CMD" => words.to_vec(),
            Some((kind, words)) if kind == "CMD-SHELL" => {
                SHELL.iter().map(ToString::to_string).chain(words.iter().cloned()).collect()
            }
            // `NONE` removes the check of the base image.
            _ => Vec::new(),
        };
        let interval =
            if described.interval == 0 { INTERVAL } else { Duration::from_nanos(described.interval) };
        let retries = if described.retries == 0 { RETRIES } else { described.retries };
        let until_unhealthy =
            Duration::from_nanos(described.start_period).saturating_add(interval.saturating_mul(retries));
        Ok((!command.is_empty()).then_some(Self { command, until_unhealthy }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Option<(String, u64)> {
        let text = format!(r#"{{"config":{{"Healthcheck":{text}}}}}"#);
        let check = HealthCheck::of(text.as_bytes()).unwrap();
        check.map(|check| (check.command.join(" "), check.until_unhealthy.as_secs()))
    }

    #[test]
    fn checks_are_read_as_docker_writes_them() {
        let told = |command: &str, seconds| Some((command.to_owned(), seconds));
        assert_eq!(check(r#"{"Test":["CMD","test","-e","/x"]}"#), told("test -e /x", 90));
        let timed = r#"{"Test":["CMD-SHELL","curl -f x"],"Interval":2000000000,"StartPeriod":5000000000,"Timeout":1,"Retries":4}"#;
        assert_eq!(check(timed), told("/bin/sh -c curl -f x", 13));
        for none in ["null", "{}", r#"{"Test":[]}"#, r#"{"Test":["NONE"]}"#, r#"{"Test":["CMD"]}"#] {
            assert_eq!(check(none), None, "{none}");
        }
        assert_eq!(HealthCheck::of(br#"{"config":null}"#).unwrap(), None);
        assert_eq!(HealthCheck::of(b"{}").unwrap(), None);
        let longest = format!(r#"{{"Test":["CMD","x"],"Interval":{0},"Retries":4294967295}}"#, u64::MAX);
        assert!(check(&longest).is_some());
    }

    #[test]
    fn a_malformed_check_is_told() {
        let error = HealthCheck::of(br#"{"config":{"Healthcheck":{"Test":"x"}}}"#).unwrap_err();
        assert!(format!("{error:#}").contains("`Healthcheck`"));
    }
}
