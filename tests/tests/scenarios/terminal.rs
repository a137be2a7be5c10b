//! The terminal of the person at the machine, tested by pressing keys: on a serial line, and on a screen with a
//! keyboard.

use crate::POWER_OFF;
use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::scenario::{Boot, Scenario};
use std::fs;

/// Interactive steps, and a service that copies the screen to the serial line.
const WORKFLOW: &str = r#"
jobs:
  work:
    services:
      mirror: {image: REGISTRY/tool, command: [sh, /mirror.sh]}
    container: {image: REGISTRY/tool, env: {PS1: "ready> "}}
    steps:
      - run: echo "$(tty) $TERM $(stty size)"; exec sh -i
      - run: |
          printf '\033[5;10r\033[7m\033[?25l'
          stty raw -echo
          [ "$TERM" = vt220 ] || kbd_mode -s -C /dev/tty1
          kill -9 $$
        continue-on-error: true
      - run: sh /sane.sh
      - run: echo pause $((40 + 1)); read x
      - run: echo after the pause; sleep 1
  end: {needs: work, container: REGISTRY/end}
"#;

/// Prints all lines of the screen whenever they change. Without a screen it does nothing.
const MIRROR: &str = r#"
grep -q tty0 /sys/class/tty/console/active || exec sleep 9999
while :; do
    new=$(fold -w 80 /dev/vcs1 | sed 's/ *$//' | grep .)
    [ "$new" = "$old" ] || echo "$new" > /dev/ttyS0
    old=$new
    sleep 0.2
done
"#;

/// Checks that the terminal has normal settings after another program used it.
const CHECK_TERMINAL: &str = r#"
stty -a | grep -q ' icanon' && stty -a | grep -q ' echo ' || echo 'NOT: settings'
if [ "$TERM" = linux ]; then
    seq 40
    sleep 1
    [ $(fold -w 80 /dev/vcs1 | grep -cE '^[0-9]+ *$') -gt 20 ] || echo 'NOT: scrolling'
    printf plain
    sleep 1
    grep -q "$(printf 'p\007l\007a\007i\007n\007')" /dev/vcsa1 || echo 'NOT: colours'
fi
printf 'your name? '
read name
echo "hello, $name, you are $((6 * 7))"
"#;

fn tool() -> Result<Recipe> {
    let mut recipe = Recipe::busybox()?.program("/usr/bin/whiptail")?.program("/usr/bin/kbd_mode")?;
    for terminal in ["/lib/terminfo/l/linux", "/lib/terminfo/v/vt220"] {
        recipe = recipe.file(terminal, 0o644, fs::read(terminal)?)?;
    }
    recipe.file("/mirror.sh", 0o755, MIRROR)?.file("/sane.sh", 0o755, CHECK_TERMINAL)
}

fn interactive() -> Result<Scenario> {
    let scenario = Scenario::new()?.image("tool", tool()?)?.image("end", Recipe::script(POWER_OFF)?)?;
    Ok(scenario.workflow(WORKFLOW).append("rd.iguana.on_failure=poweroff"))
}

#[test]
fn a_serial_line_is_interactive() -> Result<()> {
    let mut boot = interactive()?.boot()?;
    boot.expect("/dev/pts/0 vt220 24 80")?;
    keys_reach_the_job_and_not_iguana(&mut boot)?;
    full_screen_programs_work(&mut boot)?;
    a_killed_program_leaves_no_trace(&mut boot)?;
    suspended_output_resumes(&mut boot)?;
    boot.expect_all(&["job work: succeeded", "handover: power off"])?;
    assert_all_held(&boot.ends()?);
    Ok(())
}

#[test]
fn a_screen_is_interactive() -> Result<()> {
    let mut boot = interactive()?.screen()?.boot()?;
    boot.expect("/dev/pts/0 linux 25 80")?;
    keys_reach_the_job_and_not_iguana(&mut boot)?;
    full_screen_programs_work(&mut boot)?;
    a_killed_program_leaves_no_trace(&mut boot)?;
    suspended_output_resumes(&mut boot)?;
    assert_all_held(&boot.ends()?);
    Ok(())
}

fn keys_reach_the_job_and_not_iguana(boot: &mut Boot) -> Result<()> {
    boot.expect("ready>")?;
    runs(boot, "one")?;
    boot.types("\x03")?;
    says(boot, "echo still here $((40 + 2))", "still here 42")?;

    runs(boot, "two")?;
    boot.types("\x1a")?;
    boot.expect("Stopped")?;
    says(boot, "jobs; echo listed $((40 + 3))", "listed 43")?;
    says(boot, "fg", "on 64")?;
    boot.types("\x03")?;
    says(boot, "jobs; echo back $((40 + 4))", "back 44")
}

/// Runs a program that does not end by itself. It prints a text when it starts, and when it continues.
fn runs(boot: &mut Boot, name: &str) -> Result<()> {
    let script =
        format!("trap \"echo on $((8 * 8))\" CONT; echo {name} $((7 * 7)); while sleep 1; do :; done");
    says(boot, &format!("sh -c '{script}'"), &format!("{name} 49"))
}

fn says(boot: &mut Boot, command: &str, answer: &str) -> Result<()> {
    boot.types(&format!("{command}\n"))?;
    boot.expect(answer).map(drop)
}

fn full_screen_programs_work(boot: &mut Boot) -> Result<()> {
    says(boot, "vi /tmp/text; tr a-z A-Z < /tmp/text", "/tmp/text")?;
    boot.expect("1/1")?;
    boot.types("ihello from vi\x1b")?;
    // Escape alone must not be taken for the beginning of an escape sequence.
    boot.expect("- /tmp/text [Modified]")?;
    boot.types(":wq\n")?;
    boot.expect("HELLO FROM VI")?;
    for (button, keys, answer) in [("Wipe", "\r", "answer 0"), ("Erase", "\t\r", "answer 1")] {
        let question = format!("whiptail --yes-button {button} --yesno 'All of it?' 9 40; echo answer $?");
        says(boot, &question, &format!("<{button}>"))?;
        boot.types(keys)?;
        boot.expect(answer)?;
    }
    boot.types("exit\n")
}

fn a_killed_program_leaves_no_trace(boot: &mut Boot) -> Result<()> {
    boot.expect("your name?")?;
    boot.types("Ada\n")?;
    // The typed text is echoed.
    boot.expect("Ada")?;
    boot.expect("hello, Ada, you are 42").map(drop)
}

/// Ctrl-S is for the running program; it must not stop Iguana.
fn suspended_output_resumes(boot: &mut Boot) -> Result<()> {
    // Not before the program has the terminal: its title does not have the sum.
    boot.expect("pause 41")?;
    boot.types("\x13\n")?;
    boot.expect("after the pause").map(drop)
}

fn assert_all_held(said: &str) {
    let broken: Vec<&str> = said.lines().filter(|line| line.starts_with("NOT: ")).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(said.contains("reboot: Power down"), "{said}");
}
