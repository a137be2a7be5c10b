//! A workflow that is put together from the bytes, so that what lies behind the YAML is reached: keys of the
//! language in their places, with values from a list that holds good and bad ones, and the bytes themselves.
#![no_main]

use workflow::{check, language};

const VALUES: &[&str] = &[
    "a",
    "b",
    "[a, b]",
    "{}",
    "{a: b}",
    "r.example/x",
    "docker://r.example/x",
    "90s",
    "0",
    "true",
    "/path:/path:ro",
    "{type: image, source: x, target: /y}",
    "{port: 80}",
    "${{ env.A }}",
    "'${{ needs.a.outputs.b }}'",
    "[{run: x}, {uses: docker://x, id: a}]",
    "{image: x, volumes: [a:/b, /c]}",
    "&x [a]",
    "*x",
    "--user 1 --tmpfs /x",
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.iter().copied();
    let mut next = |below: usize| usize::from(bytes.next().unwrap_or(0)) % below;
    let mut text = String::from("env: {A: '1'}\njobs:\n");
    for id in ["a", "b", "c"] {
        text += &format!("  {id}:\n    container: r.example/{id}\n");
        for _ in 0..next(8) {
            let key = &language::JOB.keys[next(language::JOB.keys.len())];
            text += &format!("    {}: {}\n", key.name, VALUES[next(VALUES.len())]);
        }
    }
    let checked = check(text.as_bytes());
    assert!(checked.plan.is_some() || !checked.findings.is_empty(), "refused without a word:\n{text}");
});
