//! Converts the bytes of a document to a plan, with all findings.

use super::language::FORMAT;
use super::plan::Plan;
use super::read;
use annotate_snippets::Renderer;
use hint::hinted;
use yaml_tree::document;
use yaml_tree::document::{Node, ScalarType};
use yaml_tree::finding::{Finding, Findings, SourceText};

/// Number of findings in an error message; `iguana check` shows all.
const SHOWN: usize = 5;

/// The rule for a document that needs a newer version of the language.
const VERSION_RULE: &str = "version";

/// The result of checking a document.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The document, with replacement characters where it is not UTF-8.
    pub source: SourceText,
    /// The findings in the order of the document.
    pub findings: Vec<Finding>,
    /// The plan; `None` if a finding is an error.
    pub plan: Option<Plan>,
}

/// Checks a workflow. Any bytes are accepted.
#[must_use]
pub fn check(bytes: &[u8]) -> Checked {
    let mut findings = Findings::default();
    let plan = match std::str::from_utf8(bytes) {
        _ if bytes.len() > document::LARGEST => {
            let message = format!("the file exceeds {} bytes, the limit for a workflow", document::LARGEST);
            findings.error("too-large", &(0..0), message, "check that this is the right file");
            None
        }
        Ok(text) => plan(text, &mut findings),
        Err(error) => {
            let at = error.valid_up_to();
            let message = format!("this is not UTF-8 text: it contains the byte {:#04X}", bytes[at]);
            findings.error("utf-8", &(at..at + 1), message, "save the file as UTF-8");
            None
        }
    };
    // Do not copy all of an oversized document for the messages.
    let shown = &bytes[..bytes.len().min(document::LARGEST)];
    let plan = plan.filter(|_| !findings.has_errors());
    Checked {
        source: SourceText::new(String::from_utf8_lossy(shown)),
        findings: findings.into_sorted(),
        plan,
    }
}

fn plan(text: &str, findings: &mut Findings) -> Option<Plan> {
    let root = document::read(text, findings)?;
    if !is_version_known(&root, findings) {
        return None;
    }
    let workflow = read::workflow(text, &root, findings);
    Some(Plan::of(workflow, findings))
}

/// Whether the document's version of the language is supported. In a newer one nothing else is checked, because
/// unknown keys are not mistakes there. A version that is not a number is left to the later checks: compose files
/// have a text.
fn is_version_known(root: &Node, findings: &mut Findings) -> bool {
    let stated = root.entries().iter().find(|(key, _)| key.name == "version");
    let Some((_, value)) = stated else { return true };
    let number = value.scalar().filter(|scalar| scalar.kind() == ScalarType::Number);
    let number = number.and_then(|scalar| scalar.text.parse().ok());
    let Some(Err(error)) = number.map(|number| FORMAT.check(number)) else { return true };
    let hint = hint::of(&error).unwrap_or_default().to_owned();
    findings.error(VERSION_RULE, &value.span, error.to_string(), hint);
    false
}

impl Checked {
    /// Returns the plan, or an error with the first findings in text form. The error has a hint if one hint applies
    /// to the whole document.
    ///
    /// # Errors
    /// When the document is not a workflow that can run.
    pub fn into_plan(self, file: &str) -> anyhow::Result<Plan> {
        let Some(plan) = self.plan else {
            let renderer = Renderer::plain();
            let shown = self.findings.iter().take(SHOWN);
            let mut blocks: Vec<String> =
                shown.map(|finding| finding.render(file, &self.source, &renderer)).collect();
            if self.findings.len() > SHOWN {
                blocks.push(format!("and {} more", self.findings.len() - SHOWN));
            }
            let text = blocks.join("\n");
            return Err(match &self.findings[..] {
                [Finding { rule: VERSION_RULE, hint: Some(hint), .. }] => hinted(text, hint),
                _ => anyhow::Error::msg(text),
            });
        };
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VolumeSource;
    use std::time::Duration;

    fn rules(text: &str) -> Vec<(&'static str, String)> {
        let checked = check(text.as_bytes());
        checked
            .findings
            .iter()
            .map(|finding| (finding.rule, checked.source.text()[finding.span.clone()].to_owned()))
            .collect()
    }

    fn rule(text: &str) -> (&'static str, String) {
        let found = rules(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        found[0].clone()
    }

    #[test]
    fn the_whole_language_is_read() {
        let text = r#"
name: Everything
env: {GLOBAL: "1", WHERE: "${{ machine.arch }}"}
defaults: {run: {shell: sh}}
on-failure: shell
jobs:
  build:
    name: "Build on ${{ env.WHERE }}"
    container: r.example/build:1
    outputs: {disk: "${{ steps.find.outputs.disk }}"}
    timeout: 5m
    retries: {times: 2, delay: 3s}
    steps:
      - id: find
        run: echo "disk=/dev/vda" >> $IGUANA_OUTPUT
      - uses: docker://r.example/tool
        with: {args: [--disk, "${{ steps.find.outputs.disk }}"]}
        if: steps.find.outcome == 'success'
        continue-on-error: true
        timeout-minutes: 1.5
  install:
    needs: build
    if: ${{ needs.build.result == 'success' && !contains(cmdline.skip, 'install') }}
    container:
      image: "r.example/${{ machine.arch }}/install"
      env: {DISK: "${{ needs.build.outputs.disk }}"}
      volumes:
        - common:/run/common:ro
        - {type: image, source: r.example/data, target: /data}
        - {type: tmpfs, target: /scratch, size: 64M}
      command: install --now "two words"
      privileged: false
      options: --read-only -e MORE=1 --network host
    services:
      db: {image: r.example/db, ready: {port: 5432, timeout: 10s}}
"#;
        let checked = check(text.as_bytes());
        let found: Vec<&str> = checked.findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(found, ["`--network` has no effect: it always applies"]);
        let plan = checked.plan.unwrap();
        let (_, build) = &plan.jobs[0];
        assert_eq!((build.limits.retries, build.limits.delay), (2, Duration::from_secs(3)));
        assert_eq!(build.steps[1].limits.timeout, Some(Duration::from_secs(90)));
        let container = &plan.jobs[1].1.container;
        assert_eq!(container.volumes[2].source, VolumeSource::Tmpfs(Some(64 << 20)));
        assert!(container.read_only && !container.privileged && container.image.reference.is_none());
        let command = container.command.as_ref().unwrap();
        assert_eq!(command[2].as_literal(), Some("two words"));
        assert_eq!(container.env["MORE"].as_literal(), Some("1"));
    }

    #[test]
    fn a_step_in_a_container_of_its_own_has_the_rights_of_its_job() {
        let text = "jobs: {a: {container: {image: r.example/a, handover: false, tty: false, read-only: true, user: '1', \
            memory: 1G, pids: 9, entrypoint: x, workdir: /x}, steps: [{uses: 'docker://r.example/b', with: {args: y}}]}}";
        let plan = check(text.as_bytes()).plan.unwrap();
        let (_, job) = &plan.jobs[0];
        let [job, step] = job.containers().collect::<Vec<_>>()[..] else { panic!("two containers") };
        let of_image = |step: &crate::Container| crate::Container {
            image: step.image.clone(),
            entrypoint: None,
            command: step.command.clone(),
            directory: None,
            ..job.clone()
        };
        assert_eq!(*step, of_image(step));
        assert_eq!((step.handover, step.tty, step.pids), (Some(false), false, Some(9)));
    }

    #[test]
    fn all_mistakes_are_found_in_one_run_and_in_order() {
        let text = "jobs:\n  a:\n    container: x/UPPER\n    neds: b\n  b:\n    container: r.example/x\n    needs: [c]\n";
        let expected =
            [("image", "x/UPPER".to_owned()), ("unknown-key", "neds".into()), ("needs", "c".into())];
        assert_eq!(rules(text), expected);
    }

    #[test]
    fn a_marker_is_below_the_error() {
        let job = |rest: &str| format!("jobs:\n  a:\n    container: r.example/x\n{rest}");
        for (rest, rule_name, marked) in [
            ("    if: needs.b.result == 'success'\n", "name", "needs.b.result"),
            ("    env: {A: \"x ${{ env.NONE }}\"}\n", "name", "env.NONE"),
            (
                "    steps:\n      - run: |\n          echo\n          echo ${{ machine.cpu }}\n",
                "name",
                "machine.cpu",
            ),
            ("    steps: [{run: 'a', uses: 'docker://x'}]\n", "step", "{run: 'a', uses: 'docker://x'}"),
            ("    timeout: 90\n", "type", "90"),
            ("    steps: [{uses: actions/checkout@v4}]\n", "uses", "actions/checkout@v4"),
            ("    <<: [1]\n", "merge", "<<"),
        ] {
            assert_eq!(rule(&job(rest)), (rule_name, marked.to_owned()), "{rest}");
        }
    }

    #[test]
    fn numbers_and_booleans_in_env_are_texts() {
        let checked = check(b"env: {A: 1, B: true, C: 1.50}\njobs: {a: {container: r.example/x}}");
        let plan = checked.plan.unwrap();
        let values: Vec<_> = plan.env.values().filter_map(|value| value.as_literal()).collect();
        assert_eq!(values, ["1", "true", "1.50"]);
    }

    #[test]
    fn anchors_and_merge_keys_are_followed() {
        let text =
            "jobs:\n  a: &a {container: r.example/x, timeout: 5s}\n  b: {<<: *a, timeout: 9s, needs: a}\n";
        let plan = check(text.as_bytes()).plan.unwrap();
        assert_eq!(plan.jobs[1].1.limits.timeout, Some(Duration::from_secs(9)));
    }

    #[test]
    fn many_notes_do_not_hide_an_error() {
        let noted = |id: usize| format!("  j{id}: {{container: r.example/a, runs-on: x}}\n");
        let notes: String = (0..500).map(noted).collect();
        let checked = check(format!("jobs:\n{notes}  last: {{}}\n").as_bytes());
        assert!(checked.plan.is_none());
        assert!(checked.findings.iter().any(|finding| finding.rule == "missing-key"));
        assert_eq!(checked.findings.last().map(|finding| finding.rule), Some("more"));
    }

    #[test]
    fn quotations_in_messages_are_short_and_escaped() {
        let checked =
            check(format!("jobs: {{a: {{container: a, \"\\e[31m{}\": 1}}}}", "k".repeat(900)).as_bytes());
        let message = &checked.findings[0].message;
        assert!(
            message.starts_with(r"a job has no key `\u{1b}[31mkkk") && message.ends_with('…'),
            "{message}"
        );
        assert!(message.len() < 600, "{message}");
    }

    #[test]
    fn malicious_documents_cost_little() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let before = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", "));
        }
        assert_eq!(check(bomb.as_bytes()).findings[0].rule, "too-large");
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert_eq!(check(deep.as_bytes()).findings[0].rule, "too-deep");
        assert_eq!(check(&vec![b'x'; 10 << 20]).findings[0].rule, "too-large");
        assert_eq!(check(b"jobs: \xff").findings[0].rule, "utf-8");
        assert_eq!(check(b"").findings[0].rule, "empty");
        assert_eq!(check(b"a: &a [*a]").findings[0].rule, "alias-loop");
    }

    #[test]
    fn documents_are_accepted_up_to_their_limits() {
        let limits = ["too-large", "too-deep"];
        let is_taken =
            |text: &str| !check(text.as_bytes()).findings.iter().any(|found| limits.contains(&found.rule));
        let long = |bytes: usize| format!("# {}", "x".repeat(bytes - 2));
        assert!(is_taken(&long(1 << 20)) && !is_taken(&long((1 << 20) + 1)));
        // The whole document is the first level.
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(is_taken(&deep(41)) && !is_taken(&deep(42)));
        let wide = |entries: usize| format!("[{}]", "x,".repeat(entries));
        assert!(is_taken(&wide(2000)) && !is_taken(&wide(2001)));
        let heavy = |items: usize| format!("- &a [{}]\n{}", "x,".repeat(1249), "- *a\n".repeat(items));
        assert!(is_taken(&heavy(198)) && !is_taken(&heavy(200)));
    }

    #[test]
    fn a_newer_workflow_is_refused_by_its_version_and_not_by_what_is_unknown_in_it() {
        let newer = "version: 2\nname: Install\nstages: [a, b]\njobs: {a: {image: r.example/x}}\n";
        assert_eq!(rule(newer), ("version", "2".into()));
        let error = check(newer.as_bytes()).into_plan("w.yaml").unwrap_err();
        let text = error.to_string();
        for part in ["the workflow needs version `2`", "reads only versions up to 1", "w.yaml:1:10"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(hint::of(&error).unwrap().contains("a newer initrd"));
    }

    #[test]
    fn a_workflow_may_state_the_version_that_it_needs() {
        let jobs = "jobs: {a: {container: r.example/x}}";
        let plan = |text: &str| check(text.as_bytes()).plan.is_some();
        assert!(plan(jobs) && plan(&format!("version: 1\n{jobs}")));
        assert_eq!(rule(&format!("version: 0\n{jobs}")).0, "version");
        for version in ["1.4.0", "one", "1.0", "[1]", "-1", "'1'", "'3.8'"] {
            assert_eq!(rule(&format!("version: {version}\n{jobs}")), ("type", version.to_owned()));
        }
    }

    #[test]
    fn an_error_shows_the_line_and_the_hint() {
        let error = check(b"jobs:\n  a: {contianer: x}\n").into_plan("w.yaml").unwrap_err();
        let text = error.to_string();
        for part in
            ["a job has no key `contianer`", "w.yaml:2:7", "^^^^^^^^^", "hint: did you mean `container`?"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
}
