//! What workflows may know about the machine: the `machine` context of expressions.

use super::memory;
use anyhow::Context as _;
use iguana_core::hint::hinted;
use iguana_core::workflow::expression::Value;
use std::fs;
use std::path::Path;

/// What the firmware says (Documentation/ABI/testing/sysfs-firmware-dmi-tables); some of it for root only.
const FIRMWARE: &[(&str, &str)] = &[
    ("uuid", "/sys/class/dmi/id/product_uuid"),
    ("serial", "/sys/class/dmi/id/product_serial"),
    ("vendor", "/sys/class/dmi/id/sys_vendor"),
    ("product", "/sys/class/dmi/id/product_name"),
];
/// What may stand in a URL.
const IN_URLS: &[&str] = &["mac", "uuid", "serial", "hostname", "arch"];
const CARDS: &str = "/sys/class/net";

/// The facts by the names in [`iguana_core::workflow::MACHINE`]. One that the machine does not tell is empty.
pub(crate) fn read() -> Value {
    let text = |text: String| Value::Text(text);
    let system = rustix::system::uname();
    let mut facts: Vec<(&str, Value)> =
        FIRMWARE.iter().map(|(name, path)| (*name, text(line(Path::new(path))))).collect();
    facts.push(("mac", text(first_mac(Path::new(CARDS)))));
    facts.push(("hostname", text(system.nodename().to_string_lossy().into_owned())));
    facts.push(("arch", text(system.machine().to_string_lossy().into_owned())));
    let mebibytes = memory::read().map_or(0, |memory| memory.total >> 20);
    facts.push(("memory", Value::Number(mebibytes as f64)));
    Value::Map(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A URL with this machine's own in the place of `${mac}`, `${uuid}`, `${serial}`, `${hostname}`, `${arch}`, as iPXE
/// writes them. So one command line serves many machines.
///
/// # Errors
/// When a name is not known, or the machine does not tell it.
pub(crate) fn filled(url: &str) -> anyhow::Result<String> {
    let Value::Map(facts) = read() else { return Ok(url.to_owned()) };
    let fact = |name: &str| facts.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let mut filled = String::new();
    let mut rest = url;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) =
            after.split_once('}').with_context(|| format!("`{url}` has a `${{` without its `}}`"))?;
        let value = match fact(name).filter(|_| IN_URLS.contains(&name)) {
            Some(Value::Text(text)) if !text.is_empty() => text,
            Some(_) => {
                return Err(hinted(
                    format!("`{url}` asks for `${{{name}}}`, which this machine does not tell"),
                    format!("use another of `${{{}}}`", IN_URLS.join("}`, `${")),
                ));
            }
            None => {
                return Err(hinted(
                    format!("`{url}` asks for `${{{name}}}`, which is not known"),
                    format!("known are `${{{}}}`", IN_URLS.join("}`, `${")),
                ));
            }
        };
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    Ok(filled + rest)
}

/// The options of the kernel command line: the `cmdline` context. One without a value is true.
pub(crate) fn cmdline(text: &str) -> Value {
    let value = |value: Option<String>| value.map_or(Value::Bool(true), Value::Text);
    let options = iguana_core::cmdline::options(text);
    Value::Map(options.into_iter().map(|(name, given)| (name, value(given))).collect())
}

fn line(path: &Path) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The address of the first real card by name: the one in a machine that has one.
fn first_mac(cards: &Path) -> String {
    let folders = fs::read_dir(cards).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut real: Vec<_> = folders.filter(|card| card.join("device").exists()).collect();
    real.sort();
    real.first().map(|card| line(&card.join("address"))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gets_what_is_this_machines_own() {
        let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
        let url = filled("http://x/${arch}/${arch}.yaml").unwrap();
        assert_eq!(url, format!("http://x/{machine}/{machine}.yaml"));
        assert_eq!(filled("http://x/$1").unwrap(), "http://x/$1");
        for (url, expected) in
            [("http://x/${ip}", "which is not known"), ("http://x/${mac", "without its `}`")]
        {
            let error = filled(url).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_fact_of_the_language_is_there() {
        let Value::Map(facts) = read() else { panic!("the facts are a map") };
        let mut names: Vec<&str> = facts.keys().map(String::as_str).collect();
        let mut expected = iguana_core::workflow::MACHINE.to_vec();
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
