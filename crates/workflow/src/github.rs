//! Where the language differs from GitHub's: what does not exist here, and what to do instead. What is accepted and has
//! no effect is in [`crate::language`].

/// Keys that cannot be ignored, because they change what runs.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("strategy", "there is no matrix: write one job for each case"),
    ("concurrency", "a machine runs only one workflow: remove it"),
    ("environment", "there are no deployment environments: remove it"),
    ("secrets", "put secrets into `credentials` or into the container"),
    ("ports", "containers share the machine's network: remove it"),
    ("network", "containers share the machine's network: remove it"),
    ("uses", "reusable workflows are not supported; a step can use `docker://IMAGE`"),
    ("snapshot", "there are no runner images: remove it"),
];

/// Contexts of expressions.
pub(super) const CONTEXTS: &[(&str, &str)] = &[
    ("github", "there is no event or repository: `machine` and `cmdline` describe where the workflow runs"),
    ("inputs", "use `cmdline` or `machine` for values that differ between machines"),
    ("job", "use `needs` and `steps` for results"),
    ("jobs", "use `needs` for the results of needed jobs"),
    ("matrix", "there is no matrix: write one job for each case"),
    ("runner", "use `machine` for where the workflow runs"),
    ("secrets", "put secrets into `credentials` or into the container"),
    ("steps", "it is available only in steps and the job's `outputs`"),
    ("strategy", "there is no matrix: write one job for each case"),
    ("vars", "define variables in `env:`"),
];

/// Functions of expressions.
pub(super) const FUNCTIONS: &[(&str, &str)] = &[
    ("case", "use `&&` and `||`: `env.FAST == 'yes' && 'a' || 'b'`"),
    ("fromJSON", "pass each value as a separate output"),
    ("hashFiles", "compute the hash in a step and pass it on as an output"),
];
