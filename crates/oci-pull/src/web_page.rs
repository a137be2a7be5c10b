//! Web pages where a document of a registry was expected: those of login pages, proxies and captive portals.

use hint::hinted;

/// Whether a body is a web page. No JSON document begins like one (RFC 8259, section 2).
pub(super) fn is_web_page(body: &[u8]) -> bool {
    let text = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    text.trim_ascii_start().starts_with(b"<")
}

/// Refuses a web page in place of `what`.
pub(super) fn refuse(url: &str, what: &str, body: &[u8]) -> anyhow::Result<()> {
    if !is_web_page(body) {
        return Ok(());
    }
    Err(hinted(
        format!("`{url}` responded with a web page, not with {what}"),
        "check that a registry responds there, not a login page or a proxy: fetch the URL with `curl`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_is_recognised_by_its_beginning() {
        for page in ["<!DOCTYPE html><title>Sign in</title>", "\n <html>", "\u{feff}<?xml version=\"1.0\"?>"]
        {
            let error = refuse("https://r.example/v2/x", "a manifest", page.as_bytes()).unwrap_err();
            let told = "`https://r.example/v2/x` responded with a web page, not with a manifest";
            assert_eq!(error.to_string(), told);
            assert!(hint::of(&error).is_some());
        }
        for other in ["{\"a\": \"<html>\"}", " []", "", "Not found"] {
            assert!(refuse("u", "a manifest", other.as_bytes()).is_ok(), "{other}");
        }
    }
}
