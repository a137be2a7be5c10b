//! Where the language differs from GitHub's: keys that are not supported, with what to do instead.

/// Keys of GitHub's language that cannot be ignored, because they change what runs.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    ("strategy", "there is no matrix: write one job for each case"),
    ("concurrency", "a machine runs only one workflow: remove it"),
    ("environment", "there are no deployment environments: remove it"),
    ("secrets", "put secrets into `credentials` or into the container"),
    ("ports", "containers share the machine's network: remove it"),
    ("network", "containers share the machine's network: remove it"),
    ("uses", "reusable workflows are not supported; a step can use `docker://IMAGE`"),
    ("snapshot", "there are no runner images: remove it"),
];
