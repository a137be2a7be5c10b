//! What happens after the last job, and after a failure.

use crate::POWER_OFF;
use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::scenario::Scenario;

#[test]
fn reboot_by_kernel_action() -> Result<()> {
    let mut boot = Scenario::new()?.job(Recipe::script("echo reboot > /iguana/kernelAction")?)?.boot()?;
    boot.expect_all(&["job job: succeeded", "memory: peak ", "handover: reboot"])?;
    assert!(boot.ends()?.contains("reboot: Restarting system"));
    Ok(())
}

#[test]
fn power_off_by_kernel_action() -> Result<()> {
    let mut boot = Scenario::new()?.job(Recipe::script(POWER_OFF)?)?.boot()?;
    boot.expect_all(&["job job: succeeded", "handover: power off"])?;
    assert!(boot.ends()?.contains("reboot: Power down"));
    Ok(())
}

#[test]
fn a_failed_job_gives_a_shell_when_asked_for() -> Result<()> {
    let scenario = Scenario::new()?.job(Recipe::script("echo broken >&2; exit 7")?)?;
    let mut boot = scenario.append("rd.iguana.on_failure=shell").boot()?;
    boot.expect("job job: failed: exit status 7")?;
    boot.fails_in("job")?;
    boot.expect("a shell")?;
    boot.types("echo the answer is $((6 * 7))\n")?;
    boot.expect("the answer is 42")?;
    boot.types("ls -l /proc/$$/fd/0; cat /run/iguana/log | grep -c 'exit status 7'\n")?;
    boot.expect("1")?;
    boot.types("poweroff -f\n")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_failed_job_reboots_by_default() -> Result<()> {
    let mut boot = Scenario::new()?.job(Recipe::script("kill -9 $$; exit 1")?)?.boot()?;
    boot.expect("job job: failed: ")?;
    boot.fails_in("job")?;
    boot.expect("rebooting in 10 s (rd.iguana.on_failure=reboot)")?;
    assert!(boot.ends()?.contains("reboot: Restarting system"));
    Ok(())
}
