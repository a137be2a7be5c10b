//! Facts about the machine: the `machine` context of expressions.

use super::memory;
use anyhow::Context as _;
use hint::hinted;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use workflow::expression::Value;

/// Attributes from the firmware (Documentation/ABI/testing/sysfs-firmware-dmi-tables). Some are readable for root only.
const FIRMWARE: &[(&str, &str)] = &[
    ("uuid", "/sys/class/dmi/id/product_uuid"),
    ("serial", "/sys/class/dmi/id/product_serial"),
    ("vendor", "/sys/class/dmi/id/sys_vendor"),
    ("product", "/sys/class/dmi/id/product_name"),
];
/// The host name of a machine to which none was given (`UTS_NODENAME` in the kernel's sources).
const NO_HOSTNAME: &str = "(none)";
/// Facts that may be used in a control URL.
const IN_URLS: &[&str] = &["mac", "uuid", "serial", "hostname", "arch"];
const SYS_CLASS_NET: &str = "/sys/class/net";

/// All facts in [`workflow::MACHINE`]. Unknown ones are empty.
pub(crate) fn read() -> Value {
    let text = |text: String| Value::Text(text);
    let system = rustix::system::uname();
    let mut facts: Vec<(&str, Value)> =
        FIRMWARE.iter().map(|(name, path)| (*name, text(line(Path::new(path))))).collect();
    facts.push(("mac", text(first_mac(Path::new(SYS_CLASS_NET)))));
    let hostname = system.nodename().to_string_lossy();
    facts.push((
        "hostname",
        text(if hostname == NO_HOSTNAME { String::new() } else { hostname.into_owned() }),
    ));
    facts.push(("arch", text(system.machine().to_string_lossy().into_owned())));
    let mebibytes = memory::read().map_or(0, |memory| memory.total >> 20);
    facts.push(("memory", Value::Number(mebibytes as f64)));
    Value::Map(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Replaces `${mac}`, `${uuid}`, `${serial}`, `${hostname}` and `${arch}` in a URL by this machine's values, so that
/// one command line serves many machines. `$[mac]` and so on mean the same, because some boot loaders interpret braces.
///
/// Some values are chosen by a DHCP server, or by the vendor who wrote the firmware's tables. So a value can only
/// become a part of one path segment: everything else is percent-encoded or refused.
///
/// # Errors
/// When a name is unknown, the machine has no such value, or the value would lead to another directory.
pub(crate) fn filled(url: &str) -> anyhow::Result<String> {
    let Value::Map(facts) = read() else { return Ok(url.to_owned()) };
    let facts = facts.into_iter().filter(|(name, _)| IN_URLS.contains(&name.as_str()));
    let texts = facts.filter_map(|(name, value)| match value {
        Value::Text(text) => Some((name, text)),
        _ => None,
    });
    filled_with(url, &texts.collect())
}

fn filled_with(url: &str, facts: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let mut filled = String::new();
    let mut rest = url;
    while let Some(start) = rest.find("${").into_iter().chain(rest.find("$[")).min() {
        let (before, after) = rest.split_at(start);
        let (open, close) = if after.starts_with("${") { ("${", '}') } else { ("$[", ']') };
        let (name, after) = after[open.len()..]
            .split_once(close)
            .with_context(|| format!("`{url}` has a `{open}` without `{close}`"))?;
        filled.push_str(before);
        filled.push_str(&part(url, name, facts.get(name))?);
        rest = after;
    }
    Ok(filled + rest)
}

/// The text that replaces `name` in `url`.
fn part(url: &str, name: &str, value: Option<&String>) -> anyhow::Result<String> {
    let names = IN_URLS.join("}`, `${");
    let asks = format!("`{url}` uses `${{{name}}}`");
    match value.map(String::as_str) {
        None => Err(hinted(format!("{asks}, which is unknown"), format!("use one of `${{{names}}}`"))),
        Some("") => Err(hinted(
            format!("{asks}, which this machine does not have"),
            format!("use another of `${{{names}}}`"),
        )),
        Some(value @ ("." | "..")) => Err(hinted(
            format!("{asks}, which is `{value}` on this machine and would lead to another directory"),
            format!("correct the machine's data or its DHCP server, or use another of `${{{names}}}`"),
        )),
        // The address comes from the kernel and has only hexadecimal digits and colons, so it needs no encoding.
        Some(mac) if name == "mac" && mac.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') => {
            Ok(mac.into())
        }
        Some(value) => Ok(percent_encoded(value)),
    }
}

/// Percent-encodes `text`, except for the unreserved characters (RFC 3986, sections 2.1 and 2.3).
fn percent_encoded(text: &str) -> String {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = |byte: u8| match is_unreserved(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

/// The options of the kernel command line: the `cmdline` context. An option without a value is `true`.
pub(crate) fn cmdline(text: &str) -> Value {
    let value = |value: Option<String>| value.map_or(Value::Bool(true), Value::Text);
    let options = config::cmdline::options(text);
    Value::Map(options.into_iter().map(|(name, given)| (name, value(given))).collect())
}

fn line(path: &Path) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The MAC address of the first hardware interface by name: the only one in most machines.
fn first_mac(interfaces: &Path) -> String {
    let directories = fs::read_dir(interfaces).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut real: Vec<_> = directories.filter(|interface| interface.join("device").exists()).collect();
    real.sort();
    real.first().map(|interface| line(&interface.join("address"))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_this_machine_are_inserted_into_a_url() {
        let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
        let url = filled("http://x/${arch}/${arch}.yaml").unwrap();
        assert_eq!(url, format!("http://x/{machine}/{machine}.yaml"));
        assert_eq!(filled("http://x/$1").unwrap(), "http://x/$1");
        for (url, expected) in [
            ("http://x/${ip}", "which is unknown"),
            ("http://x/${mac", "without `}`"),
            ("http://x/$[mac}", "without `]`"),
        ] {
            let error = filled(url).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// Fills `url` on a machine with this serial number.
    fn with_serial(url: &str, serial: &str) -> anyhow::Result<String> {
        filled_with(url, &BTreeMap::from([("serial".to_owned(), serial.to_owned())]))
    }

    #[test]
    fn a_fact_of_the_machine_is_one_component_of_a_url() {
        let url = |serial: &str| with_serial("http://x/m/${serial}.yaml?of=${serial}", serial).unwrap();
        let encoded = |serial: &str| {
            url(serial).strip_prefix("http://x/m/").unwrap().split_once(".yaml?of=").unwrap().0.to_owned()
        };
        for (serial, expected) in [
            ("a-b_c.d~9", "a-b_c.d~9"),
            ("../admin/evil.yaml?role=admin&x=", "..%2Fadmin%2Fevil.yaml%3Frole%3Dadmin%26x%3D"),
            ("a b#c", "a%20b%23c"),
            ("%2e%2e", "%252e%252e"),
            ("${arch}", "%24%7Barch%7D"),
            ("evil.example:80@", "evil.example%3A80%40"),
            ("a\\b\r\n", "a%5Cb%0D%0A"),
            ("Gerät", "Ger%C3%A4t"),
            ("...", "..."),
        ] {
            assert_eq!(encoded(serial), expected);
        }
        let both = with_serial("http://x/$[serial]${serial}$[serial]", "a/").unwrap();
        assert_eq!(both, "http://x/a%2Fa%2Fa%2F");
        assert_eq!(url("a/b"), "http://x/m/a%2Fb.yaml?of=a%2Fb");
        let path = with_serial("hd:LABEL=A:/m/${serial}", "a/../../b").unwrap();
        assert_eq!(path, "hd:LABEL=A:/m/a%2F..%2F..%2Fb");
    }

    #[test]
    fn values_that_lead_to_another_directory_are_refused() {
        for (serial, expected) in [
            (".", "uses `${serial}`, which is `.` on this machine and would lead to another directory"),
            ("..", "uses `${serial}`, which is `..` on this machine"),
            ("", "uses `${serial}`, which this machine does not have"),
        ] {
            for url in ["http://x/${serial}/a.yaml", "hd:LABEL=A:/${serial}/a.yaml"] {
                let error = with_serial(url, serial).unwrap_err().to_string();
                assert!(error.contains(expected), "{error}");
            }
        }
    }

    #[test]
    fn a_mac_address_keeps_its_colons() {
        let mac = |mac: &str| {
            filled_with("http://x/${mac}", &BTreeMap::from([("mac".into(), mac.into())])).unwrap()
        };
        assert_eq!(mac("52:54:00:12:34:56"), "http://x/52:54:00:12:34:56");
        assert_eq!(mac("52:54/../"), "http://x/52%3A54%2F..%2F");
    }

    #[test]
    fn the_facts_match_the_machine_context() {
        let Value::Map(facts) = read() else { panic!("the facts are a map") };
        let mut names: Vec<&str> = facts.keys().map(String::as_str).collect();
        let mut expected = workflow::MACHINE.to_vec();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(facts["arch"], Value::Text(std::env::consts::ARCH.into()));
    }

    #[test]
    fn an_option_without_a_value_is_true() {
        let Value::Map(options) = cmdline("quiet site=berlin empty= site=\"san jose\"") else {
            panic!("a map")
        };
        assert_eq!(options["quiet"], Value::Bool(true));
        assert_eq!(options["site"], Value::Text("san jose".into()));
        assert!(!options["empty"].is_true());
    }
}
