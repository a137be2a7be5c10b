//! What the trust in an initrd demands of the command line and of workflows, in a machine.

use anyhow::Result;
use iguana_lab::initrd::Initrd;
use iguana_lab::scenario::Scenario;

#[test]
fn the_command_line_loosens_nothing() -> Result<()> {
    let (initrd, _) = Initrd::strict()?;
    let mut boot = Scenario::with(&initrd)
        .workflow("jobs: {evil: {container: r.example/evil}}")
        .append("rd.iguana.debug rd.iguana.containers=r.example/evil rd.iguana.on_failure=shell")
        .boot()?;
    boot.expect_all(&[
        "kernel option `rd.iguana.debug` is ignored: the trust in this initrd does not allow it",
        "kernel option `rd.iguana.containers=r.example/evil` is ignored",
    ])?;
    let block = boot.fails_in("control file")?;
    assert!(block.contains("the trust does not let `http://"), "{block}");
    assert!(block.contains("there is no signature of it"), "{block}");
    boot.expect_all(&["on failure: rebooting in"])?;
    let said = boot.said();
    assert!(said.contains("on failure: no shell: the trust in this initrd allows none"), "{said}");
    assert!(!said.contains("TLS is verified"), "{said}");
    Ok(())
}

#[test]
fn a_signed_workflow_runs_in_a_strict_initrd() -> Result<()> {
    let (initrd, key) = Initrd::strict()?;
    let workflow = "on-failure: poweroff\njobs: {none: {container: 127.0.0.1:1/none}}";
    let signature = key.sign(workflow.as_bytes())?;
    let mut boot = Scenario::with(&initrd).workflow(workflow).beside_workflow(".sig", signature).boot()?;
    boot.expect("iguana: workflow: signed by ECDSA P-256 sha256:")?;
    let block = boot.fails_in("image")?;
    assert!(block.contains("the policy rejects it") || block.contains("127.0.0.1:1"), "{block}");
    Ok(())
}
