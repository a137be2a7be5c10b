//! The file `iguana.conf` in TOML: what the trust demands beyond podman's own files.

use crate::cmdline::Settings;
use crate::system_options;
use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use format_version::{FIRST, Format};
use hint::{WithHint as _, hinted};
use oci_reference::Reference;
use oci_trust::key::PublicKey;
use oci_trust::pins::{Lock, Pins};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use trust_directory;
use trust_directory::Files;
use workflow::Plan;

/// Name of the file in the trust directory.
pub const FILE: &str = "iguana.conf";

/// The format of the whole directory. This file states its version.
const FORMAT: Format = Format { document: "the trust directory", newest: 1 };

/// The longest signature in bytes, as text: far above one of RSA with 8192 bits.
const LONGEST_SIGNATURE: usize = 4096;

/// Options by which modules are loaded that no device needs.
const LOADS_MODULES: &[&str] = &["rd.driver.pre", "rd.driver.post"];

/// Prefix of the control URL of a workflow in a registry.
const ARTIFACT: &str = "oci://";

/// The demands of a trust directory. Without the file nothing is demanded.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Rules {
    /// Version of the format, which was checked by way of [`Stated`].
    #[serde(rename = "version")]
    _version: Option<u64>,
    workflow: WorkflowRules,
    command_line: CommandLineRules,
    /// Base of relative paths.
    #[serde(skip)]
    directory: PathBuf,
}

/// The part that is parsed first: in a file of a newer version, unknown keys are not mistakes.
#[derive(Deserialize)]
struct Stated {
    version: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct WorkflowRules {
    /// Default for entries of `accept` without keys of their own.
    keys: Vec<PathBuf>,
    require_digest: bool,
    accept: Vec<Accept>,
}

/// `[[workflow.accept]]`: a workflow that this machine accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Accept {
    /// The exact `name:` of the workflow; `None` accepts any.
    pub(super) name: Option<String>,
    /// Public keys, one of which must have signed it.
    keys: Vec<PathBuf>,
    /// The lowest accepted `serial:`.
    pub(super) min_serial: u64,
    /// The control URLs to which the entry applies. An empty list applies to all URLs that no other entry has.
    from: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct CommandLineRules {
    /// Allowed options of the command line: `KEY` or `KEY=VALUE`.
    allow: Option<Vec<String>>,
    shell: bool,
}

impl Default for CommandLineRules {
    fn default() -> Self {
        Self { allow: None, shell: true }
    }
}

impl Accept {
    /// Whether the entry has this control URL in `from`. The URL is compared as written, without its query. An
    /// `oci://` entry has a repository, with or without a tag or digest.
    fn names(&self, control_url: &str) -> bool {
        self.from.iter().any(|from| is_at(from, control_url))
    }

    /// Whether the entry is for artifacts of a registry only, whose signatures the policy checks.
    fn is_of_artifacts(&self) -> bool {
        !self.from.is_empty() && self.from.iter().all(|from| from.starts_with(ARTIFACT))
    }

    fn check(&self, has_keys: bool) -> anyhow::Result<()> {
        ensure!(self.name.as_deref() != Some(""), "`name` is empty");
        ensure!(
            self.name.is_some() || !self.keys.is_empty(),
            "it has neither `name` nor `keys`, so it would accept any workflow"
        );
        ensure!(
            has_keys || !self.keys.is_empty() || self.is_of_artifacts(),
            "it has no `keys`, and a name alone proves nothing"
        );
        self.from.iter().try_for_each(|from| {
            ensure!(!from.is_empty(), "`from` contains an empty URL");
            from.strip_prefix(ARTIFACT).map_or(Ok(()), |name| repository(name).map(drop))
        })
    }
}

fn is_at(from: &str, control_url: &str) -> bool {
    match (from.strip_prefix(ARTIFACT), control_url.strip_prefix(ARTIFACT)) {
        // registries.conf decides what a short name means; it need not be Docker Hub's image of the full name.
        (Some(from), Some(url)) if is_short(from) != is_short(url) => false,
        (Some(from), Some(url)) => match (repository(from), repository(url)) {
            (Ok((from, tag)), Ok((url, wanted))) => from == url && tag.is_none_or(|tag| Some(tag) == wanted),
            _ => false,
        },
        (None, None) => from == control_url.split_once('?').map_or(control_url, |(path, _)| path),
        _ => false,
    }
}

fn is_short(name: &str) -> bool {
    let reference = name.parse::<Reference>().ok();
    reference.is_some_and(|reference| reference.named().is_some_and(|named| named.short_name().is_some()))
}

/// The repository of an artifact, and its tag or digest if there is one.
fn repository(name: &str) -> anyhow::Result<(String, Option<String>)> {
    let reference: Reference = name.parse()?;
    let Some(named) = reference.named() else { bail!("`{name}` does not name a repository in a registry") };
    let last = name.rsplit('/').next().unwrap_or_default();
    Ok((named.name(), last.contains([':', '@']).then(|| named.identifier())))
}

impl Rules {
    /// Reads the `iguana.conf` of a directory.
    ///
    /// # Errors
    /// When it cannot be read or has unknown content.
    pub fn from_directory(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        let Some(text) = Files::of(directory)?.text(FILE)? else { return Ok(Self::default()) };
        let rules = Self::parse(&text, directory).with_context(|| format!("cannot use `{}`", path.display()));
        rules.or_hint("docs/security.md lists its keys; nothing runs until it is corrected")
    }

    /// Parses the text of the file; relative paths begin at `directory`.
    ///
    /// # Errors
    /// When it needs a newer version of the format, has unknown content, or a demand is incomplete.
    pub fn parse(text: &str, directory: &Path) -> anyhow::Result<Self> {
        let stated: Stated = toml::from_str(text)?;
        FORMAT.check(stated.version.unwrap_or(FIRST))?;
        let rules = Self { directory: directory.to_owned(), ..toml::from_str(text)? };
        rules.workflow.check()?;
        Ok(rules)
    }

    /// Whether a workflow must be signed.
    #[must_use]
    pub fn demand_signature(&self) -> bool {
        !self.workflow.accept.is_empty()
    }

    /// Whether every image must be named by its digest, or be pinned by a signed lock file.
    #[must_use]
    pub fn demand_digests(&self) -> bool {
        self.workflow.require_digest
    }

    /// The digests of images that are not named by a workflow.
    ///
    /// # Errors
    /// When digests are demanded and an image has none.
    pub fn pins_of_images(&self, plan: &Plan) -> anyhow::Result<Pins> {
        if !self.demand_digests() {
            return Ok(Pins::default());
        }
        let pins = Pins::demanded(Lock::default());
        pins.check(plan.images())?;
        Ok(pins)
    }

    /// The entries of `accept` for a control URL: those that have it in `from`, or else those without `from`. Without
    /// a control URL, all entries.
    pub(super) fn accepted(&self, control_url: Option<&str>) -> Vec<&Accept> {
        let all = &self.workflow.accept;
        let Some(url) = control_url else { return all.iter().collect() };
        let named: Vec<_> = all.iter().filter(|entry| entry.names(url)).collect();
        if !named.is_empty() {
            return named;
        }
        all.iter().filter(|entry| entry.from.is_empty()).collect()
    }

    /// Whether an entry of `accept` is for the artifact at this control URL. Then the signature that the policy
    /// checked is enough.
    pub(super) fn accepts_artifact(&self, control_url: &str) -> bool {
        control_url.starts_with(ARTIFACT) && self.workflow.accept.iter().any(|entry| entry.names(control_url))
    }

    /// Whether Iguana may follow this option of the kernel command line. Of other programs' options, only those that select
    /// the system to start, or modules to load, are restricted.
    pub(super) fn allow_option(&self, key: &str, value: &str) -> bool {
        let key = system_options::known_name(key);
        let is_restricted = key.starts_with("rd.iguana.")
            || system_options::selects_system(key)
            || LOADS_MODULES.contains(&key);
        !is_restricted || self.lists(key, value)
    }

    /// Whether modules may be loaded by this option of the kernel command line.
    #[must_use]
    pub fn allows_modules(&self, key: &str, value: &str) -> bool {
        self.allow_option(key, value)
    }

    /// Whether `command-line.allow` lists the option, or there is no such list.
    pub(super) fn lists(&self, key: &str, value: &str) -> bool {
        let is_it = |entry: &String| match entry.split_once('=') {
            Some(pair) => pair == (key, value),
            None => entry == key,
        };
        self.command_line.allow.as_ref().is_none_or(|allowed| allowed.iter().any(is_it))
    }

    /// Whether it lists this option with this value, or there is no such list.
    pub(super) fn lists_exactly(&self, option: &str) -> bool {
        self.command_line.allow.as_ref().is_none_or(|allowed| allowed.iter().any(|entry| entry == option))
    }

    /// The same as [`Self::lists`], for every value of the option.
    pub(super) fn lists_any(&self, key: &str) -> bool {
        self.command_line.allow.as_ref().is_none_or(|allowed| allowed.iter().any(|entry| entry == key))
    }

    /// The allowed settings of a kernel command line.
    #[must_use]
    pub fn settings(&self, cmdline: &str) -> Settings {
        let settings = Settings::parse_allowed(cmdline, |key, value| self.allow_option(key, value));
        Settings { no_shell: !self.command_line.shell, ..settings }
    }

    /// The keys of all entries, so that a build can check that each of them can be read.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub fn workflow_keys(&self) -> anyhow::Result<Vec<PublicKey>> {
        self.keys_of(&self.workflow.accept.iter().collect::<Vec<_>>())
    }

    /// The keys for these entries. One of them must have signed the workflow.
    pub(super) fn keys_of(&self, entries: &[&Accept]) -> anyhow::Result<Vec<PublicKey>> {
        let paths = entries.iter().flat_map(|entry| match entry.keys.is_empty() {
            true => &self.workflow.keys,
            false => &entry.keys,
        });
        let mut keys: Vec<PublicKey> = Vec::new();
        for path in paths {
            let key = self.key(path)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    fn key(&self, path: &Path) -> anyhow::Result<PublicKey> {
        let pem = trust_directory::key(&self.directory, path)?;
        let shown = trust_directory::place_in(&self.directory, path);
        PublicKey::from_pem(&pem).with_context(|| format!("cannot use the key `{}`", shown.display()))
    }
}

impl WorkflowRules {
    fn check(&self) -> anyhow::Result<()> {
        if self.accept.is_empty() && !self.keys.is_empty() {
            return Err(hinted(
                "`workflow.keys` alone accepts every workflow ever signed with them, including those for \
                 other machines",
                "add the workflow for this machine: `[[workflow.accept]]` with `name = \"NAME\"`, the value \
                 of its `name:`",
            ));
        }
        for (number, entry) in self.accept.iter().enumerate() {
            let fails = || format!("`workflow.accept`, entry {}", number + 1);
            entry.check(!self.keys.is_empty()).with_context(fails)?;
            let is_same = |other: &Accept| other.name == entry.name && other.from == entry.from;
            let is_new = entry.name.is_none() || !self.accept[..number].iter().any(is_same);
            ensure!(is_new, "`workflow.accept` lists `{}` twice", entry.name.as_deref().unwrap_or_default());
        }
        Ok(())
    }
}

/// The key that signed a document. `signature` has the format of `cosign sign-blob` or `openssl dgst -sign`.
///
/// # Errors
/// When none of the keys did.
pub(super) fn signer<'a>(
    keys: &'a [PublicKey],
    document: &[u8],
    signature: &[u8],
) -> anyhow::Result<&'a PublicKey> {
    ensure!(signature.len() <= LONGEST_SIGNATURE, "the signature is larger than {LONGEST_SIGNATURE} bytes");
    let text = std::str::from_utf8(signature).map(|text| text.split_whitespace().collect::<String>());
    let decoded = text.ok().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let bytes = decoded.as_deref().unwrap_or(signature);
    keys.iter().find(|key| key.has_signed(document, bytes)).ok_or_else(|| {
        hinted(
            "it is not signed by any key of the trust directory",
            "sign its current content: `cosign sign-blob --key KEY FILE > FILE.sig`, or `openssl dgst \
             -sha256 -sign KEY FILE > FILE.sig`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_trust::testing::Signer;

    #[test]
    fn signatures_of_cosign_and_openssl_are_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, other) = (Signer::new(), Signer::new());
        std::fs::create_dir(directory.path().join("keys")).unwrap();
        std::fs::write(directory.path().join("keys/a.pub"), ours.pem()).unwrap();
        let text = "[workflow]\nkeys = ['/etc/containers/keys/a.pub']\n[[workflow.accept]]\nname = 'a'\n";
        std::fs::write(directory.path().join(FILE), text).unwrap();
        let rules = Rules::from_directory(directory.path()).unwrap();
        assert!(rules.demand_signature());
        let keys = rules.workflow_keys().unwrap();
        let raw = ours.sign(b"jobs: {}");
        let base64 = BASE64_STANDARD.encode(&raw);
        let folded = format!("{}\n{}\n", &base64[..20], &base64[20..]);
        for signature in [&raw[..], base64.as_bytes(), folded.as_bytes()] {
            signer(&keys, b"jobs: {}", signature).unwrap();
        }
        for signature in [&raw[..20], b"", &other.sign(b"jobs: {}"), &[b'A'; 5000]] {
            assert!(signer(&keys, b"jobs: {}", signature).is_err());
        }
        let error = signer(&keys, b"jobs: {a}", &raw).unwrap_err();
        assert!(error.to_string().contains("not signed by any key of the trust directory"));
    }

    #[test]
    fn unknown_rules_are_errors_and_absent_rules_demand_nothing() {
        let none = Rules::from_directory(Path::new("/nonexistent")).unwrap();
        assert!(!none.demand_signature() && !none.demand_digests() && !none.settings("").no_shell);
        assert!(none.allow_option("rd.iguana.debug", "") && none.allow_option("root", "/dev/vda"));
        for text in
            ["x = 1", "[workflow]\nkey = 'a'", "[workflow]\nmin-serial = 1", "[command-line]\nshell = 1", "["]
        {
            assert!(Rules::parse(text, Path::new("/")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_newer_trust_directory_is_refused_by_its_version_and_not_by_what_is_unknown_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let newer = "version = 2\nquorum = 3\n[workflow]\nrequire-digest = 'always'\n";
        std::fs::write(directory.path().join(FILE), newer).unwrap();
        // Another file of the directory may have a newer format, too.
        std::fs::write(directory.path().join("registries.conf"), "[[mirrors]]").unwrap();
        let error = crate::Trust::from_directory(directory.path()).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("iguana.conf`: the trust directory needs version `2` of its format"), "{text}");
        assert!(hint::of(&error).unwrap().contains("a newer initrd"));
        Rules::parse("version = 1\n[command-line]\nshell = false", Path::new("/")).unwrap();
        for version in ["0", "-1", "'1'", "1.0"] {
            assert!(Rules::parse(&format!("version = {version}"), Path::new("/")).is_err(), "{version}");
        }
    }

    #[test]
    fn a_dangling_link_is_not_an_absent_file() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join(FILE)).unwrap();
        let error = format!("{:#}", Rules::from_directory(directory.path()).unwrap_err());
        assert!(error.contains("iguana.conf") && error.contains("dangling"), "{error}");
    }

    #[test]
    fn the_command_line_says_what_is_listed() {
        let text =
            "[command-line]\nshell = false\nallow = ['rd.iguana.debug', 'rd.iguana.on_failure=poweroff']";
        let rules = Rules::parse(text, Path::new("/")).unwrap();
        let settings = rules.settings(
            "rd.iguana.debug rd.iguana.control_url=http://evil.example/x root=/dev/vda init=/bin/sh \
             rd.iguana.on_failure=poweroff rd.iguana.on_failure=local quiet nameserver=9.9.9.9 rd.driver.pre=brd",
        );
        assert!(settings.debug && settings.no_shell && settings.control_url.is_none());
        assert!(
            settings.root.is_none() && settings.init.is_none() && settings.network.name_servers.len() == 1
        );
        assert_eq!(settings.on_failure, crate::cmdline::OnFailure::PowerOff);
        let told = settings.warnings.join("\n");
        assert_eq!(settings.warnings.len(), 5, "{told}");
        for option in [
            "rd.iguana.control_url=",
            "root=/dev/vda",
            "init=/bin/sh",
            "rd.iguana.on_failure=local",
            "rd.driver.pre=brd",
        ] {
            assert!(told.contains(&format!("kernel option `{option}")), "{option}: {told}");
        }
        assert!(told.contains("the trust directory of this initrd does not allow it"));
        assert!(rules.refuse_system("quiet root=/dev/vda") && rules.refuse_system("\"init=/bin/sh -x\""));
        assert!(!rules.refuse_system("quiet rootfstype=ext4") && rules.allows_init("root=/dev/vda"));
        let rules = Rules::parse("[command-line]\nallow = ['root=LABEL=system']", Path::new("/")).unwrap();
        assert!(
            !rules.refuse_system("root=LABEL=system")
                && rules.refuse_system("root=LABEL=system root=/dev/sdb")
        );
    }

    #[test]
    fn quotes_cannot_hide_a_system_option() {
        let rules = Rules::parse("[command-line]\nallow = []", Path::new("/")).unwrap();
        for hidden in [
            "x=\"y root=/dev/sdb z\"",
            "\" root=/dev/sdb\"",
            "x=\"\ty\tinit=/bin/sh\"",
            "'root=/dev/sdb'",
            "'init=\"/bin/sh\"'",
            "ro'ot=/dev/sdb'",
            "x=\"y 'root=/dev/sdb'\"",
        ] {
            assert!(rules.refuse_system(hidden), "{hidden}");
        }
        let rules = Rules::parse("[command-line]\nallow = ['root=LABEL=my root']", Path::new("/")).unwrap();
        assert!(!rules.refuse_system("quiet root=\"LABEL=my root\" x='y'"));
    }

    /// `root=LABEL=system\u{a0}` is another disk for dracut, and one with `\u{b}` for systemd.
    #[test]
    fn white_space_cannot_hide_a_system_option() {
        let rules = Rules::parse("[command-line]\nallow = ['root=LABEL=system']", Path::new("/")).unwrap();
        for space in ['\u{a0}', '\u{85}', '\u{3000}', '\u{b}', '\u{c}'] {
            assert!(rules.refuse_system(&format!("quiet root=LABEL=system{space}x")), "{space:?}");
        }
        assert!(!rules.refuse_system("quiet\troot=LABEL=system\n"));
    }

    #[test]
    fn every_option_that_names_init_is_covered_by_the_rules() {
        let none = Rules::parse("[command-line]\nallow = []", Path::new("/")).unwrap();
        let one = Rules::parse("[command-line]\nallow = ['init=/bin/x']", Path::new("/")).unwrap();
        for name in ["init", "real_init", "rd.distroinit"] {
            let [other, allowed] = ["/bin/sh", "/bin/x"].map(|program| format!("quiet {name}={program}"));
            assert!(none.refuse_system(&allowed) && !none.allows_init(&allowed), "{name}");
            assert!(one.refuse_system(&other) && !one.allows_init(&other), "{name}");
            assert!(!one.refuse_system(&allowed) && one.allows_init(&allowed), "{name}");
        }
    }

    #[test]
    fn nothing_is_accepted_by_omission() {
        let keys = "[workflow]\nkeys = ['a']\n";
        for (text, words) in [
            (keys.to_owned(), "accepts every workflow"),
            (format!("{keys}[[workflow.accept]]\n"), "would accept any workflow"),
            (format!("{keys}[[workflow.accept]]\nname = ''"), "`name` is empty"),
            ("[[workflow.accept]]\nname = 'a'".into(), "a name alone proves nothing"),
            (format!("{keys}[[workflow.accept]]\nname = 'a'\n[[workflow.accept]]\nname = 'a'"), "`a` twice"),
            (format!("{keys}[[workflow.accept]]\nname = 'a'\nfrom = ['']"), "empty URL"),
            (format!("{keys}[[workflow.accept]]\nname = 'a'\nfrom = ['oci://A B']"), "entry 1"),
            (format!("{keys}[[workflow.accept]]\nname = 'a'\nmin-serial = -1"), "min-serial"),
            (format!("{keys}[[workflow.accept]]\nname = 'a'\nserial = 1"), "serial"),
        ] {
            let error = format!("{:#}", Rules::parse(&text, Path::new("/")).unwrap_err());
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn an_entry_is_for_the_control_urls_that_it_names() {
        for (from, url, expected) in [
            ("https://a.example/x.yaml", "https://a.example/x.yaml", true),
            ("https://a.example/x.yaml", "https://a.example/x.yaml?mac=1", true),
            ("https://a.example/x.yaml", "https://a.example/y.yaml", false),
            ("https://a.example/x.yaml", "http://a.example/x.yaml", false),
            ("oci://r.example/a", "oci://r.example/a:1", true),
            ("oci://r.example/a:1", "oci://r.example/a:1", true),
            ("oci://r.example/a:1", "oci://r.example/a:2", false),
            ("oci://r.example/a:latest", "oci://r.example/a", false),
            ("oci://r.example/a", "oci://r.example/a/b", false),
            ("oci://r.example/a", "oci://r.example:5000/a", false),
            ("oci://r.example/a", "https://r.example/a", false),
            ("oci://docker.io/library/a", "oci://docker.io/a:1", true),
            ("oci://a", "oci://a:1", true),
            ("oci://docker.io/library/a", "oci://a:1", false),
            ("oci://a", "oci://docker.io/library/a:1", false),
        ] {
            assert_eq!(is_at(from, url), expected, "{from} {url}");
        }
    }
}
