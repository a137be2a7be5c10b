//! Which programs are init systems: podman's rule for `--systemd=true` (podman-run(1)).

use std::path::Path;

/// The paths of init systems, besides those named `systemd`.
const PATHS: &[&str] = &["/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"];

/// Whether the program with these arguments is started as an init system.
#[must_use]
pub fn is_init_system(arguments: &[String]) -> bool {
    let words = match arguments {
        // `CMD` of a Containerfile in its shell form.
        [shell, option, words @ ..] if shell == "/bin/sh" && option == "-c" => words,
        words => words,
    };
    let is_systemd = |word: &str| Path::new(word).file_name().is_some_and(|name| name == "systemd");
    words.first().is_some_and(|word| PATHS.contains(&word.as_str()) || is_systemd(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_system_is_known_by_its_name_as_in_podman() {
        let is_one =
            |words: &str| is_init_system(&words.split_whitespace().map(Into::into).collect::<Vec<_>>());
        for words in ["/sbin/init", "/usr/sbin/init --log-level=debug", "systemd", "/lib/systemd/systemd"] {
            assert!(is_one(words) && is_one(&format!("/bin/sh -c {words}")), "{words}");
        }
        for words in ["", "init", "/bin/init", "systemd-run", "sh -c /sbin/init", "tini /sbin/init"] {
            assert!(!is_one(words), "{words}");
        }
    }
}
