//! The table of all keys. It states which values a key accepts; `read` implements what a key means.
//!
//! The spellings are GitHub's (docs.github.com, "Workflow syntax for GitHub Actions") where GitHub has the key. Those
//! of the first Iguana, which used `_` instead of `-`, are aliases.

use super::schema::{Key, Object, ValueKind};
use format_version::{FIRST, Format};

/// The format of workflows. Raise it when an older initrd would misread a workflow that uses a new feature.
pub const FORMAT: Format = Format { document: "the workflow", newest: 1 };

const TEXT: &ValueKind = &ValueKind::Text;
const SCALAR: &ValueKind = &ValueKind::Scalar;

const fn key(name: &'static str, kind: ValueKind, doc: &'static str) -> Key {
    Key { name, aliases: &[], kind, required: false, doc }
}

const fn required(name: &'static str, kind: ValueKind, doc: &'static str) -> Key {
    Key { name, aliases: &[], kind, required: true, doc }
}

const fn alias(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: ValueKind,
    doc: &'static str,
) -> Key {
    Key { name, aliases, kind, required: false, doc }
}

/// The whole document.
pub const WORKFLOW: Object = Object {
    name: "a workflow",
    keys: &[
        key(
            "version",
            ValueKind::Integer(FIRST, FORMAT.newest),
            "the version of the workflow format that it needs; default: 1",
        ),
        key(
            "name",
            ValueKind::Scalar,
            "a title, shown at the start; a trust directory selects workflows by it",
        ),
        key("description", ValueKind::Scalar, "a description for readers of the file"),
        key(
            "serial",
            ValueKind::Integer(0, 1 << 53),
            "a number that increases with each version; a trust directory with `min-serial` rejects older \
             versions",
        ),
        key(
            "valid-until",
            ValueKind::Text,
            "the RFC 3339 date, or date and time, after which no machine runs it; a date includes the whole \
             day in UTC",
        ),
        key("env", ValueKind::Map(SCALAR), "environment variables for every container"),
        key("defaults", ValueKind::Object(&DEFAULTS), "defaults for steps"),
        alias(
            "on-failure",
            &["on_failure"],
            ValueKind::Choice(&["continue", "reboot", "shell", "poweroff", "local"]),
            "what happens after the last job if a job failed without `continue-on-error`; `continue`, the \
             default, lets the result files decide",
        ),
        key(
            "state",
            ValueKind::Text,
            "where the outcome of the workflow is recorded for the next boot: `esp`, or a file system as in \
             the mount list",
        ),
        key(
            "strict",
            ValueKind::Bool,
            "whether the mount list is refused if it has a line for swap space or one that is not understood; \
             `false`, the default, skips such lines with a warning",
        ),
        key("shared", ValueKind::Object(&SHARED), "options of the directory `/iguana`"),
        required(
            "jobs",
            ValueKind::Ids(&ValueKind::Object(&JOB)),
            "the jobs by their IDs, in the order in which they run",
        ),
        key("on", ValueKind::Ignored, "a workflow runs when its machine boots"),
        key("run-name", ValueKind::Ignored, "a workflow runs once per boot"),
        key("permissions", ValueKind::Ignored, "there is no GitHub token"),
    ],
};

/// `shared:`.
pub const SHARED: Object = Object {
    name: "`shared`",
    keys: &[required(
        "size",
        ValueKind::Size,
        "the maximum size of `/iguana`; default: a quarter of the machine's memory, and at least 64 MiB",
    )],
};

/// `defaults:`.
pub const DEFAULTS: Object = Object {
    name: "`defaults`",
    keys: &[required("run", ValueKind::Object(&RUN_DEFAULTS), "defaults for steps with `run`")],
};

/// `defaults.run:`.
pub const RUN_DEFAULTS: Object = Object {
    name: "`defaults.run`",
    keys: &[
        key("shell", ValueKind::Text, "the shell of the steps"),
        alias(
            "working-directory",
            &["working_directory"],
            ValueKind::Text,
            "the directory in which the steps start",
        ),
    ],
};

const NEEDS: ValueKind = ValueKind::Either(&[ValueKind::Text, ValueKind::List(TEXT)]);
const WORDS: ValueKind = ValueKind::Either(&[ValueKind::Scalar, ValueKind::List(SCALAR)]);
const CONTAINER_OR_IMAGE: ValueKind = ValueKind::Either(&[ValueKind::Text, ValueKind::Object(&CONTAINER)]);

/// An entry of `jobs:`.
pub const JOB: Object = Object {
    name: "a job",
    keys: &[
        key("name", ValueKind::Scalar, "a title, shown with the ID"),
        required("container", CONTAINER_OR_IMAGE, "the container that does the work: an image, or a map"),
        key(
            "services",
            ValueKind::Ids(&ValueKind::Object(&SERVICE)),
            "containers that run alongside the job, by name",
        ),
        key("needs", NEEDS, "jobs that must succeed first: an ID, or a list of IDs"),
        key("if", ValueKind::Scalar, "an expression; if it is false, the job is skipped"),
        key("env", ValueKind::Map(SCALAR), "environment variables for the job's containers and steps"),
        key(
            "steps",
            ValueKind::List(&ValueKind::Object(&STEP)),
            "what runs in the container instead of the image's program",
        ),
        key("outputs", ValueKind::Map(SCALAR), "values for jobs that need this one"),
        key("defaults", ValueKind::Object(&DEFAULTS), "defaults for steps"),
        alias(
            "continue-on-error",
            &["continue_on_error"],
            ValueKind::Bool,
            "whether a failure counts as success",
        ),
        key(
            "timeout",
            ValueKind::Duration,
            "the time limit for the job, from the start of its first program",
        ),
        alias("timeout-minutes", &["timeout_minutes"], ValueKind::Minutes, "the same in minutes"),
        key("retries", RETRIES_KIND, "how often to retry after a failure"),
        key("runs-on", ValueKind::Ignored, "a job runs on the machine that boots"),
        key("permissions", ValueKind::Ignored, "there is no GitHub token"),
    ],
};

const RETRIES_KIND: ValueKind =
    ValueKind::Either(&[ValueKind::Integer(0, 1000), ValueKind::Object(&RETRIES)]);

/// `retries:` in long form.
pub const RETRIES: Object = Object {
    name: "`retries`",
    keys: &[
        required("times", ValueKind::Integer(0, 1000), "the number of retries"),
        key("delay", ValueKind::Duration, "the time to wait before each retry"),
    ],
};

/// An entry of `steps:`.
pub const STEP: Object = Object {
    name: "a step",
    keys: &[
        key("id", ValueKind::Id, "the step's name in expressions: `steps.ID.outputs`"),
        key("name", ValueKind::Scalar, "a title, shown when the step starts"),
        key("if", ValueKind::Scalar, "an expression; if it is false, the step is skipped"),
        key("run", ValueKind::Scalar, "a script for the shell"),
        key("uses", ValueKind::Text, "`docker://IMAGE`: another container, run as a step"),
        key("with", ValueKind::Object(&WITH), "what the container of `uses` runs"),
        key("env", ValueKind::Map(SCALAR), "environment variables for this step"),
        key(
            "shell",
            ValueKind::Text,
            "`bash`, `sh`, `python`, or a command with `{0}` for the script's file",
        ),
        alias(
            "working-directory",
            &["working_directory"],
            ValueKind::Text,
            "the directory in which it starts",
        ),
        alias(
            "continue-on-error",
            &["continue_on_error"],
            ValueKind::Bool,
            "whether the job continues after a failure",
        ),
        key("timeout", ValueKind::Duration, "the time limit for one attempt"),
        alias("timeout-minutes", &["timeout_minutes"], ValueKind::Minutes, "the same in minutes"),
        key("retries", RETRIES_KIND, "how often to retry after a failure"),
    ],
};

/// `with:` of a step that uses a container.
pub const WITH: Object = Object {
    name: "`with`",
    keys: &[
        key("entrypoint", WORDS, "the program, instead of the image's entrypoint"),
        key("args", WORDS, "the arguments, instead of the image's command"),
    ],
};

/// The keys that containers of jobs and services have in common.
const OF_CONTAINERS: [Key; 15] = [
    required("image", ValueKind::Text, "the image to pull"),
    key(
        "env",
        ValueKind::Map(SCALAR),
        "environment variables for this container; they override the workflow's and the job's",
    ),
    key("volumes", ValueKind::List(&VOLUME_KIND), "directories, files, sockets and images to mount"),
    key("entrypoint", WORDS, "the program, instead of the image's entrypoint"),
    key("command", WORDS, "the arguments, instead of the image's command"),
    key("user", ValueKind::Scalar, "`USER[:GROUP]`, as names or numbers, instead of the image's user"),
    key("workdir", ValueKind::Text, "the working directory, instead of the image's"),
    key("privileged", ValueKind::Bool, "`false` restricts it to podman's default rights"),
    key(
        "handover",
        ValueKind::Bool,
        "whether it may write the mount list and the kernel action; default: `true`, with `privileged: \
         false` `false`",
    ),
    alias("read-only", &["read_only"], ValueKind::Bool, "whether its root file system is read-only"),
    key("pid", ValueKind::Choice(&["host"]), "`host`: it can see and end the machine's processes"),
    key("credentials", ValueKind::Object(&CREDENTIALS), "the login for the image's registry"),
    key("options", ValueKind::Text, "supported options of `docker create`"),
    key("memory", ValueKind::Size, "the memory limit, including files in its root"),
    key("pids", ValueKind::Integer(1, 4_194_304), "the limit of processes and threads"),
];

/// `container:` in long form.
pub const CONTAINER: Object = Object {
    name: "a container",
    keys: &joined::<1, 16>(
        OF_CONTAINERS,
        [key("tty", ValueKind::Bool, "whether it has the machine's terminal; default: `true`")],
    ),
};

/// `credentials:`.
pub const CREDENTIALS: Object = Object {
    name: "`credentials`",
    keys: &[
        required("username", ValueKind::Scalar, "the user name"),
        required("password", ValueKind::Scalar, "the password or token"),
    ],
};

const VOLUME_KIND: ValueKind = ValueKind::Either(&[ValueKind::Text, ValueKind::Object(&VOLUME)]);

/// An entry of `volumes:` in long form.
pub const VOLUME: Object = Object {
    name: "a volume",
    keys: &[
        key("type", ValueKind::Choice(&["volume", "bind", "tmpfs", "image"]), "the type; default: `volume`"),
        key("source", ValueKind::Text, "a name, a path of the machine, or an image"),
        required("target", ValueKind::Text, "the path in the container"),
        alias("read-only", &["read_only"], ValueKind::Bool, "whether it is mounted read-only"),
        key("size", ValueKind::Size, "the maximum size of a tmpfs"),
    ],
};

/// An entry of `services:`.
pub const SERVICE: Object = Object {
    name: "a service",
    keys: &joined::<2, 17>(
        OF_CONTAINERS,
        [
            key(
                "restart",
                ValueKind::Choice(&["never", "on-failure", "always"]),
                "whether it is restarted when it ends before its job; `never`, the default, fails the job",
            ),
            key("ready", ValueKind::Object(&READY), "when the service is ready; the job starts then"),
        ],
    ),
};

/// Appends keys to the common ones; `ALL` is the total number.
const fn joined<const MORE: usize, const ALL: usize>(common: [Key; 15], more: [Key; MORE]) -> [Key; ALL] {
    let mut all = [common[0]; ALL];
    let mut at = 0;
    while at < ALL {
        all[at] = if at < common.len() { common[at] } else { more[at - common.len()] };
        at += 1;
    }
    all
}

/// `ready:`, which must have exactly one of its first three keys.
pub const READY: Object = Object {
    name: "`ready`",
    keys: &[
        key("command", WORDS, "a command in the service's container that must succeed"),
        key("port", ValueKind::Integer(1, 65535), "a TCP port of the machine that must accept connections"),
        key("path", ValueKind::Text, "a path in the service's container that must exist"),
        key("timeout", ValueKind::Duration, "how long to wait; default: 60 s"),
    ],
};

/// The objects of the language, each with its path of keys.
pub const OBJECTS: &[(&str, &Object)] = &[
    ("", &WORKFLOW),
    ("shared", &SHARED),
    ("jobs.ID", &JOB),
    ("jobs.ID.steps[]", &STEP),
    ("jobs.ID.steps[].with", &WITH),
    ("jobs.ID.container", &CONTAINER),
    ("jobs.ID.container.volumes[]", &VOLUME),
    ("jobs.ID.container.credentials", &CREDENTIALS),
    ("jobs.ID.services.NAME", &SERVICE),
    ("jobs.ID.services.NAME.ready", &READY),
    ("retries", &RETRIES),
    ("defaults", &DEFAULTS),
    ("defaults.run", &RUN_DEFAULTS),
];
