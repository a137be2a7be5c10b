//! What a person sees at a machine with more than one console.

use anyhow::{Result, ensure};
use iguana_lab::image::Recipe;
use iguana_lab::scenario::Scenario;
use serde_json::json;

/// Prints, on the serial line, whether the screen and the kernel's log have the lines of Iguana.
const READER: &str = r#"
fold -w 80 /dev/vcs1 | grep -q 'iguana: job job: started' && echo the screen has it > /dev/ttyS0
dmesg | grep -q 'iguana: job job: started' && echo the kernel log has it > /dev/ttyS0
echo poweroff > /iguana/kernelAction
"#;

#[test]
fn every_console_and_the_kernel_log_show_each_line_once() -> Result<()> {
    let recipe = Recipe::busybox()?.file("/reader.sh", 0o755, READER)?;
    let scenario = Scenario::new()?.job(recipe.set("Cmd", json!(["sh", "/reader.sh"])))?.screen()?;
    let mut boot = scenario.append("rd.iguana.on_failure=poweroff").boot()?;
    // The serial line is not the main console.
    boot.expect("iguana: job job: started")?;
    boot.expect_all(&["the screen has it", "the kernel log has it", "handover: power off"])?;
    let said = boot.ends()?;
    ensure!(said.matches("iguana: job job: started").count() == 1, "{said}");
    Ok(())
}
