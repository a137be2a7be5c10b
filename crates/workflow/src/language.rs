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
            "the version of this language that it needs; 1 unless it says otherwise",
        ),
        key(
            "name",
            ValueKind::Scalar,
            "what the person at the machine is shown, and which workflow it is for a trust",
        ),
        key("description", ValueKind::Scalar, "for the reader of the file"),
        key(
            "serial",
            ValueKind::Integer(0, 1 << 53),
            "a number that grows with each version, so that a trust with `min-serial` runs no old one",
        ),
        key(
            "valid-until",
            ValueKind::Text,
            "a date, or date and time, of RFC 3339 after which no machine runs it; a date counts to its end in UTC",
        ),
        key("env", ValueKind::Map(SCALAR), "variables of every container"),
        key("defaults", ValueKind::Object(&DEFAULTS), "what steps do unless they say otherwise"),
        alias(
            "on-failure",
            &["on_failure"],
            ValueKind::Choice(&["continue", "reboot", "shell", "poweroff", "local"]),
            "what happens after the last job when one failed that was not allowed to; `continue`, the default, \
             lets the result files decide",
        ),
        key(
            "state",
            ValueKind::Text,
            "where it is noted what became of the workflow, for the next boot: `esp`, or a file system as in the mount \
             list",
        ),
        key("shared", ValueKind::Object(&SHARED), "the directory `/iguana`"),
        required(
            "jobs",
            ValueKind::Ids(&ValueKind::Object(&JOB)),
            "the jobs by their ids, in the order in which they run",
        ),
        key("on", ValueKind::Ignored, "a workflow runs when its machine boots"),
        key("run-name", ValueKind::Ignored, "a workflow runs once in a boot"),
        key("permissions", ValueKind::Ignored, "there is no GitHub token"),
    ],
};

/// `shared:`.
pub const SHARED: Object = Object {
    name: "`shared`",
    keys: &[required(
        "size",
        ValueKind::Size,
        "the most that `/iguana` may hold; a quarter of the machine's memory, and at least 64 MiB, unless it says \
         otherwise",
    )],
};

/// `defaults:`.
pub const DEFAULTS: Object = Object {
    name: "`defaults`",
    keys: &[required("run", ValueKind::Object(&RUN_DEFAULTS), "for steps with `run`")],
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
        key("name", ValueKind::Scalar, "what the person at the machine is shown instead of the id"),
        required("container", CONTAINER_OR_IMAGE, "the container that does the work: an image, or a map"),
        key(
            "services",
            ValueKind::Ids(&ValueKind::Object(&SERVICE)),
            "containers that run beside it, by name",
        ),
        key("needs", NEEDS, "jobs that must have succeeded before: an id, or a list of ids"),
        key("if", ValueKind::Scalar, "an expression; when it is false the job is skipped"),
        key("env", ValueKind::Map(SCALAR), "variables of the job's containers and steps"),
        key(
            "steps",
            ValueKind::List(&ValueKind::Object(&STEP)),
            "what to run in the container instead of its own program",
        ),
        key("outputs", ValueKind::Map(SCALAR), "texts for jobs that need this one"),
        key("defaults", ValueKind::Object(&DEFAULTS), "what steps do unless they say otherwise"),
        alias(
            "continue-on-error",
            &["continue_on_error"],
            ValueKind::Bool,
            "whether a failure counts as success for others",
        ),
        key(
            "timeout",
            ValueKind::Duration,
            "the longest time that the job may take, from its first program on",
        ),
        alias("timeout-minutes", &["timeout_minutes"], ValueKind::Minutes, "the same in minutes"),
        key("retries", RETRIES_KIND, "how often to try again after a failure"),
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
        required("times", ValueKind::Integer(0, 1000), "how many times to try again"),
        key("delay", ValueKind::Duration, "how long to wait before each"),
    ],
};

/// An entry of `steps:`.
pub const STEP: Object = Object {
    name: "a step",
    keys: &[
        key("id", ValueKind::Id, "a name for expressions: `steps.ID.outputs`"),
        key("name", ValueKind::Scalar, "what the person at the machine is shown"),
        key("if", ValueKind::Scalar, "an expression; when it is false the step is skipped"),
        key("run", ValueKind::Scalar, "a script for the shell"),
        key("uses", ValueKind::Text, "`docker://IMAGE`: another container, run as a step"),
        key("with", ValueKind::Object(&WITH), "what the container of `uses` runs"),
        key("env", ValueKind::Map(SCALAR), "variables of this step"),
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
            "whether the job goes on after a failure",
        ),
        key("timeout", ValueKind::Duration, "the longest time that one try may take"),
        alias("timeout-minutes", &["timeout_minutes"], ValueKind::Minutes, "the same in minutes"),
        key("retries", RETRIES_KIND, "how often to try again after a failure"),
    ],
};

/// `with:` of a step that uses a container.
pub const WITH: Object = Object {
    name: "`with`",
    keys: &[
        key("entrypoint", WORDS, "the program instead of the image's"),
        key("args", WORDS, "its arguments instead of the image's"),
    ],
};

/// The keys that containers of jobs and services have in common.
const OF_CONTAINERS: [Key; 15] = [
    required("image", ValueKind::Text, "the image to pull"),
    key(
        "env",
        ValueKind::Map(SCALAR),
        "variables of this container; they win over the workflow's and the job's",
    ),
    key(
        "volumes",
        ValueKind::List(&VOLUME_KIND),
        "directories, files and sockets that it shares, and images",
    ),
    key("entrypoint", WORDS, "the program instead of the image's"),
    key("command", WORDS, "its arguments instead of the image's"),
    key("user", ValueKind::Scalar, "`USER[:GROUP]` instead of the image's, names or numbers"),
    key("workdir", ValueKind::Text, "the directory in which it starts, instead of the image's"),
    key("privileged", ValueKind::Bool, "`false`: it gets no more rights than podman gives by default"),
    key(
        "handover",
        ValueKind::Bool,
        "whether it may write the mount list and the kernel action; `true` unless it is `privileged: false`",
    ),
    alias("read-only", &["read_only"], ValueKind::Bool, "whether its root file system is read-only"),
    key("pid", ValueKind::Choice(&["host"]), "`host`: it sees and may end the machine's processes"),
    key("credentials", ValueKind::Object(&CREDENTIALS), "for a registry that demands a name"),
    key("options", ValueKind::Text, "options of `docker create` that have a meaning here"),
    key("memory", ValueKind::Size, "the most memory that it may use, files in its root included"),
    key("pids", ValueKind::Integer(1, 4_194_304), "the most processes and threads that it may have"),
];

/// `container:` in long form.
pub const CONTAINER: Object = Object {
    name: "a container",
    keys: &joined::<1, 16>(
        OF_CONTAINERS,
        [key("tty", ValueKind::Bool, "whether it has the machine's terminal; `true` unless it is a service")],
    ),
};

/// `credentials:`.
pub const CREDENTIALS: Object = Object {
    name: "`credentials`",
    keys: &[
        required("username", ValueKind::Scalar, "who pulls"),
        required("password", ValueKind::Scalar, "with which password or token"),
    ],
};

const VOLUME_KIND: ValueKind = ValueKind::Either(&[ValueKind::Text, ValueKind::Object(&VOLUME)]);

/// An entry of `volumes:` in long form.
pub const VOLUME: Object = Object {
    name: "a volume",
    keys: &[
        key(
            "type",
            ValueKind::Choice(&["volume", "bind", "tmpfs", "image"]),
            "what it is; `volume` unless it says otherwise",
        ),
        key("source", ValueKind::Text, "a name, a path of the machine, or an image"),
        required("target", ValueKind::Text, "the path in the container"),
        alias("read-only", &["read_only"], ValueKind::Bool, "whether the container may only read it"),
        key("size", ValueKind::Size, "of a tmpfs: the most that it may hold"),
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
                "what happens when it ends before its job: `never`, the default, fails the job",
            ),
            key("ready", ValueKind::Object(&READY), "when it counts as started; its job begins then"),
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
        key("command", WORDS, "a command in the service's container that succeeds"),
        key("port", ValueKind::Integer(1, 65535), "a TCP port of the machine that takes connections"),
        key("path", ValueKind::Text, "a path in the service's container that appears"),
        key("timeout", ValueKind::Duration, "how long to wait for it; 60 s unless it says otherwise"),
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
