//! Any bytes as a workflow: whatever they are, there is an answer, and every mark can be shown.
#![no_main]

use annotate_snippets::Renderer;
use workflow::check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let checked = check(bytes);
    let text = checked.source.text();
    for finding in checked.findings.iter().take(20) {
        assert!(finding.span.start <= finding.span.end, "{finding:?}");
        assert!(finding.span.start <= text.len(), "{finding:?}");
        drop(finding.render("workflow.yaml", &checked.source, &Renderer::plain()));
    }
    assert!(checked.plan.is_some() || !checked.findings.is_empty(), "refused without a word");
});
