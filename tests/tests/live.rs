//! `iguana-init run` and `iguana-workflow` on a system that is up. They must be run by root, as all of this.

use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::live::LiveSystem;
use iguana_lab::program;
use iguana_lab::registry::Registry;
use std::process::Output;

fn system(script: &str) -> Result<LiveSystem> {
    let registry = Registry::plain()?;
    registry.push_recipe(Recipe::script(script)?, "tool")?;
    LiveSystem::new(registry)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_says(output: &Output, status: i32, words: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in\n{text}");
    }
}

const WORKFLOW: &str = "
name: Live
on: push
jobs:
  own: {container: REGISTRY/tool}
  steps:
    needs: own
    container: {image: REGISTRY/tool, volumes: ['/iguana:/again']}
    steps:
      - run: echo \"new root $NEWROOT, id $(wc -c < /again/machine-id)\"
      - run: mount -t tmpfs none /tmp && echo may mount || echo may not mount
";

#[test]
fn a_workflow_runs_on_a_system_that_is_up() -> Result<()> {
    let system = system("echo the own program")?;
    let file = system.workflow(WORKFLOW)?;
    let output = system.run(&program("iguana-init"), "iguana-init", &["run", &file])?;
    let expected = [
        "note: ",
        "`on` has no effect",
        "the own program",
        "new root /sysroot, id 33",
        "may mount",
        "job steps: succeeded",
    ];
    assert_says(&output, 0, &expected);
    assert!(!text(&output).contains("manifest sha256:"));
    Ok(())
}

#[test]
fn the_classic_command_line_works() -> Result<()> {
    let system = system("exit 3")?;
    let file = system.workflow(WORKFLOW)?;
    let run = |arguments: &[&str]| system.run(&program("iguana-init"), "iguana-workflow", arguments);
    let failed = run(&["--newroot", "/mnt", "--debug", &file])?;
    assert_says(
        &failed,
        1,
        &["manifest sha256:", "the job `own` failed", "why: exit status 3", "skipped: needs `own`"],
    );
    let quiet = run(&["--log-level", "error", &file])?;
    assert_says(&quiet, 1, &["the job `own` failed"]);
    assert!(!text(&quiet).contains("job own: started"));
    assert_says(&run(&["--fast", &file])?, 2, &["--fast", "hint: "]);
    assert_says(&run(&["/nowhere.yaml"])?, 1, &["cannot read the workflow `/nowhere.yaml`"]);
    let mistake = system.workflow("jobs: {a: {contianer: x}}")?;
    assert_says(&run(&[&mistake])?, 3, &["did you mean `container`?"]);
    assert_says(&run(&["--help"])?, 0, &["--dry-run"]);
    Ok(())
}

#[test]
fn rights_and_new_root_are_the_callers_choice() -> Result<()> {
    let system = system("true")?;
    let file = system.workflow(WORKFLOW)?;
    let output = system.run(
        &program("iguana-init"),
        "iguana-workflow",
        &["--unprivileged", "--newroot", "/mnt", &file],
    )?;
    assert_says(&output, 0, &["new root /mnt", "may not mount"]);
    Ok(())
}

#[test]
fn a_rehearsal_tells_everything_and_does_nothing() -> Result<()> {
    let system = system("echo this ran")?;
    let file = system.workflow(WORKFLOW)?;
    let output = system.run(&program("iguana-init"), "iguana-workflow", &["--dry-run", &file])?;
    let expected =
        ["1. job own", "pull 127.0.0.1:", "2. job steps", "needs own", "the machine's /iguana at /again"];
    assert_says(&output, 0, &expected);
    assert!(!text(&output).contains("this ran"));
    Ok(())
}

#[test]
fn a_second_run_finds_nothing_in_its_way() -> Result<()> {
    let system = system("echo one > /iguana/progress")?;
    let (file, init) = (system.workflow(WORKFLOW)?, program("iguana-init"));
    let twice = format!("{0} run {file} && {0} run {file}", init.display());
    let output = system.run("/bin/sh".as_ref(), "sh", &["-c", &twice])?;
    assert_says(&output, 0, &["progress: one"]);
    assert_eq!(text(&output).matches("job steps: succeeded").count(), 2);
    Ok(())
}
