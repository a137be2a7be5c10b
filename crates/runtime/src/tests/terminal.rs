//! Programs with a terminal, one after the other.

use super::confinement::with_perl;
use super::*;
use std::thread::JoinHandle;

/// A terminal, and what a person at it sees.
pub(super) struct Screen {
    person: File,
    path: PathBuf,
}

impl Screen {
    pub(super) fn new() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap().into_bytes();
        Self { person: person.into(), path: std::ffi::OsString::from_vec(path).into() }
    }

    pub(super) fn shows(&mut self, text: &str) -> String {
        let mut shown = String::new();
        let mut block = [0; 1024];
        until(text, || {
            let mut poll = [rustix::event::PollFd::new(&self.person, rustix::event::PollFlags::IN)];
            let soon = rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            if rustix::event::poll(&mut poll, Some(&soon)).unwrap() > 0 {
                let count = self.person.read(&mut block).unwrap_or(0);
                shown += &String::from_utf8_lossy(&block[..count]);
            }
            shown.contains(text)
        });
        shown
    }

    fn terminal(&self) -> Terminal {
        Terminal::of(std::slice::from_ref(&self.path))
    }

    pub(super) fn script(&self, script: &str) -> Program {
        script_at(&self.terminal(), script)
    }

    /// Answers each question for the terminal's attributes (`ESC [ c`), some of them every 200 ms, like a terminal at a slow
    /// line. Returns what was shown until `last` was.
    fn answer(mut self, at_once: usize, last: &'static str) -> JoinHandle<String> {
        std::thread::spawn(move || {
            let (mut shown, mut answered, mut since) = (String::new(), 0, Instant::now());
            let mut block = [0; 1024];
            let start = Instant::now();
            while !shown.contains(last) {
                assert!(start.elapsed() < 4 * SOON, "{shown:?}");
                let mut poll = [rustix::event::PollFd::new(&self.person, rustix::event::PollFlags::IN)];
                let soon = rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
                if rustix::event::poll(&mut poll, Some(&soon)).unwrap() > 0 {
                    let count = self.person.read(&mut block).unwrap_or(0);
                    shown += &String::from_utf8_lossy(&block[..count]);
                }
                let asked = shown.matches("\x1b[c").count();
                if asked == answered {
                    since = Instant::now();
                } else if since.elapsed() > Duration::from_millis(200) {
                    let count = at_once.min(asked - answered);
                    self.person.write_all("\x1b[?1;2c".repeat(count).as_bytes()).unwrap();
                    (answered, since) = (answered + count, Instant::now());
                }
            }
            shown
        })
    }
}

fn script_at(terminal: &Terminal, script: &str) -> Program {
    let command = ProgramCommand::Exactly(["sh", "-c", script].map(Into::into).into());
    Program { command, ..Program::of_image(Stdio::Terminal(terminal.clone())) }
}

#[test]
fn programs_own_the_terminal_in_turn() {
    for lab in [Lab::new(), Lab::unprivileged()] {
        let mut screen = Screen::new();
        let container = lab.start();
        for turn in ["first", "second"] {
            let script =
                format!("[ -t 0 ] && [ -t 1 ] && : > /dev/tty && read name && echo {turn}, $name $TERM");
            let mut program = container.run(&screen.script(&script)).unwrap();
            assert!(
                container.run(&screen.script("true")).map(drop).unwrap_err().to_string().contains("terminal")
            );
            assert_eq!(lab.says(&container, "echo beside it"), "beside it");
            screen.person.write_all(b"Ada\n").unwrap();
            screen.shows(&format!("{turn}, Ada vt220"));
            assert_eq!(program.wait(Some(SOON)).unwrap(), ProgramExit::With(0));
        }
        // A process in the background does not keep the terminal from the next program.
        let ended =
            container.run(&screen.script("sleep 1000 & echo left")).unwrap().wait(Some(SOON)).unwrap();
        assert!(ended.is_success());
        let mut program = container.run(&screen.script("echo again; sleep 1000")).unwrap();
        screen.shows("again");
        screen.person.write_all(b"\x03").unwrap();
        assert_eq!(program.wait(Some(SOON)).unwrap(), ProgramExit::With(128 + libc::SIGINT as u8));
    }
}

#[test]
fn background_programs_cannot_read_input_for_the_next() {
    let lab = Lab::new();
    let mut screen = Screen::new();
    let container = lab.start();
    let thief = screen.script("(until [ -e /srv/now ]; do sleep 0.01; done; cat </dev/tty) & true");
    assert!(container.run(&thief).unwrap().wait(Some(SOON)).unwrap().is_success());
    lab.says(&container, "touch /srv/now; until grep -q 'State:.T' /proc/[0-9]*/status; do sleep 0.01; done");
    screen.person.write_all(b"Bob\n").unwrap();
    let mut program = container.run(&screen.script("read name; echo got $name")).unwrap();
    screen.shows("got Bob");
    assert!(program.wait(Some(SOON)).unwrap().is_success());
}

#[test]
fn a_program_has_a_named_terminal_and_its_lines_are_observed() {
    for lab in [Lab::new(), Lab::unprivileged()] {
        let screen = Screen::new();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&heard);
        let terminal = screen.terminal().heard_by(move |line| {
            lines.lock().unwrap().push(line.to_owned());
        });
        let script = "[ $(tty) = /dev/pts/0 ] || [ -c $(tty) ] && stty size; printf '\\033[1mlast\\033[0m'";
        let command = ProgramCommand::Exactly(["sh", "-c", script].map(Into::into).into());
        let program = Program { command, ..Program::of_image(Stdio::Terminal(terminal)) };
        let container = lab.start();
        assert!(container.run(&program).unwrap().wait(Some(SOON)).unwrap().is_success());
        assert_eq!(*heard.lock().unwrap(), ["24 80", "last"]);
    }
}

#[test]
fn commands_and_secrets_are_filtered_before_anybody_sees_them() {
    let lab = Lab::new();
    let mut screen = Screen::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (lines, secrets) = (Arc::clone(&heard), printable::Secrets::default());
    let of_command = secrets.clone();
    let on_command = move |line: &str| match line.strip_prefix("::mask::") {
        Some(value) => {
            of_command.add(value);
            Shown::Nothing
        }
        None => Shown::Instead(line.replace("::group::", "> ")),
    };
    let terminal = screen.terminal().heard_by(move |line| lines.lock().unwrap().push(line.to_owned()));
    let terminal = terminal.filtered_by(on_command, secrets);
    // The first half of the secret and what looks like a command wait for the rest, but not for ever.
    let script = "echo ::group::Disks; echo ::mask::s3cret; printf 'it is s3'; sleep 0.01; echo cret; printf 'name: s'; \
        read name; echo; printf ::; sleep 1; echo end";
    let program = script_at(&terminal, script);
    let container = lab.start();
    let mut program = container.run(&program).unwrap();
    let shown = screen.shows("name: s");
    assert!(shown.contains("> Disks\r\n") && shown.contains("it is ***\r\n"), "{shown:?}");
    screen.person.write_all(b"Ada\n").unwrap();
    screen.shows("::end");
    assert!(program.wait(Some(SOON)).unwrap().is_success());
    assert!(!shown.contains("mask"), "{shown:?}");
    assert_eq!(*heard.lock().unwrap(), ["> Disks", "it is ***", "name: sAda", "", "::end"]);
}

#[test]
fn a_key_press_moves_the_terminal_to_another_console() {
    let lab = Lab::new();
    let (mut first, mut main) = (Screen::new(), Screen::new());
    let terminal = Terminal::of(&[first.path.clone(), main.path.clone()]);
    let script = "trap 'echo redrawn' WINCH; echo asks; until read name; do :; done; echo hello, $name";
    let command = ProgramCommand::Exactly(["sh", "-c", script].map(Into::into).into());
    let program = Program { command, ..Program::of_image(Stdio::Terminal(terminal)) };
    let container = lab.start();
    let mut running = container.run(&program).unwrap();
    main.shows("asks");
    first.shows("asks");
    // This key only changes to the console.
    first.person.write_all(b"x").unwrap();
    first.person.flush().unwrap();
    first.shows("redrawn");
    first.person.write_all(b"Ada\n").unwrap();
    first.shows("hello, Ada");
    main.shows("hello, Ada");
    assert!(running.wait(Some(SOON)).unwrap().is_success());
}

#[test]
fn console_settings_are_restored_after_a_container_or_a_killed_program() {
    let lab = Lab::new();
    let mut screen = Screen::new();
    let console = File::options().read(true).write(true).open(&screen.path).unwrap();
    let modes = || rustix::termios::tcgetattr(&console).unwrap();
    let before = modes();
    let container = lab.start();
    let run = |script: &str| container.run(&screen.script(script)).unwrap().wait(Some(SOON)).unwrap();
    assert!(run("echo ordinary").is_success());
    assert!(!run("stty raw -echo; printf '\\033[7mreverse'; kill -9 $$").is_success());
    assert!(run("stty -a | grep -q ' icanon' && stty -a | grep -q ' echo '").is_success());
    drop(container);
    assert_eq!(format!("{:?}", modes()), format!("{before:?}"));
    let shown = screen.shows("\x1b[J");
    let (ordinary, drawn) = shown.split_once("\x1b[7mreverse").unwrap();
    assert_eq!(ordinary, "ordinary\r\n");
    assert!(drawn.starts_with("\x1b[!p\x1b[0m"), "{drawn:?}");
}

#[test]
fn changes_of_a_container_to_a_console_are_undone() {
    let mut screen = Screen::new();
    let console = File::options().read(true).write(true).open(&screen.path).unwrap();
    let modes = || rustix::termios::tcgetattr(&console).unwrap();
    let (before, terminal) = (modes(), screen.terminal());
    terminal.restore();
    let mut raw = before.clone();
    raw.make_raw();
    rustix::termios::tcsetattr(&console, rustix::termios::OptionalActions::Now, &raw).unwrap();
    rustix::termios::tcflow(&console, rustix::termios::Action::OOff).unwrap();
    terminal.restore();
    assert_eq!(format!("{:?}", modes()), format!("{before:?}"));
    // Nothing was written the first time.
    assert!(screen.shows("\x1b[J").starts_with("\x1b[!p\x1b[0m"));
}

#[test]
fn a_serial_line_is_reset_after_escape_sequences_of_a_program() {
    let lab = Lab::new();
    let mut screen = Screen::new();
    let container = lab.start();
    let concealed = container.run(&screen.script("printf '\\033[8mconcealed'")).unwrap().wait(Some(SOON));
    assert!(concealed.unwrap().is_success());
    assert!(screen.shows("\x1b[J").contains("concealed\x1b[!p\x1b[0m"));
}

#[test]
fn a_blocked_console_does_not_block_the_program() {
    let lab = Lab::new();
    let (main, stuck) = (Screen::new(), Screen::new());
    // Without an open descriptor, a pseudo-terminal is hung up.
    let [_open, stopped] =
        [&main, &stuck].map(|screen| File::options().read(true).write(true).open(&screen.path).unwrap());
    rustix::termios::tcflow(&stopped, rustix::termios::Action::OOff).unwrap();
    let mut main_output = main.person.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut main_output, &mut std::io::sink()));
    let terminal = Terminal::of(&[stuck.path.clone(), main.path.clone()]);
    let command = ProgramCommand::Exactly(["sh", "-c", "seq 20000"].map(Into::into).into());
    let program = Program { command, ..Program::of_image(Stdio::Terminal(terminal)) };
    let container = lab.start();
    assert!(container.run(&program).unwrap().wait(Some(SOON)).unwrap().is_success());
}

#[test]
fn no_process_is_left_suspended() {
    let lab = Lab::new();
    let mut screen = Screen::new();
    let container = lab.start();
    let mut program = container.run(&screen.script("echo up; read name; echo got $name")).unwrap();
    screen.shows("up");
    screen.person.write_all(b"\x1aAda\n").unwrap();
    screen.shows("got Ada");
    assert!(program.wait(Some(SOON)).unwrap().is_success());
}

#[test]
fn a_program_without_a_terminal_has_empty_input_and_three_descriptors() {
    let lab = Lab::new();
    let container = lab.start();
    // Descriptor 3 is the directory that is listed.
    let script = "cat; [ -t 0 ] || echo none; exec ls /proc/self/fd";
    assert_eq!(lab.says(&container, script), "none\n0\n1\n2\n3");
}

/// A terminal answers some sequences. Who has no terminal must not choose the input of who has it next.
#[test]
fn what_a_terminal_answers_is_not_input_of_the_next_program() {
    let lab = Lab::unprivileged();
    let mut screen = Screen::new();
    let terminal = screen.terminal();
    screen.person.write_all(b"\x1b[24;80R").unwrap();
    terminal.restore();
    screen.person.write_all(b"\x1b[?1;2c").unwrap();
    let container = lab.start();
    let script = "stty -icanon -echo min 0 time 5; echo reads; cat | od -c; echo end";
    let mut program = container.run(&screen.script(script)).unwrap();
    let shown = screen.shows("end");
    assert!(!shown.contains("033"), "{shown}");
    assert_eq!(program.wait(Some(SOON)).unwrap(), ProgramExit::With(0));
}

/// A terminal at a slow line answers long after the end of the program that asked.
#[test]
fn what_a_terminal_answers_late_is_not_input_of_the_next_program() {
    let lab = Lab::unprivileged();
    let screen = Screen::new();
    let terminal = screen.terminal();
    let answering = screen.answer(100, "end");
    let ask = script_at(&terminal, "for i in $(seq 500); do printf '\\033[c'; done");
    assert!(lab.start().run(&ask).unwrap().wait(Some(SOON)).unwrap().is_success());
    terminal.restore();
    let read = script_at(&terminal, "stty -icanon -echo min 0 time 10; cat | od -c; echo end");
    assert!(lab.start().run(&read).unwrap().wait(Some(SOON)).unwrap().is_success());
    let shown = answering.join().unwrap();
    assert!(!shown.contains("033"), "{shown:?}");
}

/// A terminal that answers for longer than anyone waits.
#[test]
fn keys_are_read_only_after_the_last_answer() {
    let lab = Lab::unprivileged();
    let screen = Screen::new();
    let (terminal, mut person) = (screen.terminal(), screen.person.try_clone().unwrap());
    let answering = screen.answer(1, "got");
    let ask = script_at(&terminal, "for i in $(seq 30); do printf '\\033[c'; done");
    assert!(lab.start().run(&ask).unwrap().wait(Some(SOON)).unwrap().is_success());
    let container = lab.start();
    let begun = Instant::now();
    let mut program = container
        .run(&script_at(&terminal, "stty -echo; read key; echo \"$key\" | od -c; echo got"))
        .unwrap();
    std::thread::sleep(Duration::from_secs(9).saturating_sub(begun.elapsed()));
    person.write_all(b"x\n").unwrap();
    assert!(program.wait(Some(SOON)).unwrap().is_success());
    let shown = answering.join().unwrap();
    assert!(shown.contains("0000000   x  \\n") && !shown.contains("033"), "{shown:?}");
}

/// A program with the terminal leads no session, so it may join the group of a child.
#[test]
fn a_program_that_leaves_its_group_is_ended_at_its_limit() {
    let mut lab = Lab::unprivileged();
    with_perl(&mut lab);
    let mut screen = Screen::new();
    let container = lab.start();
    let leave = "$SIG{TERM} = q(IGNORE); if (!($child = fork)) { setpgrp(0, 0); sleep 1000 } \
        sleep 1; setpgrp(0, $child); print qq(left\\n); sleep 1000";
    let mut program =
        container.run(&screen.script(&format!("exec /usr/bin/perl -e '$| = 1; {leave}'"))).unwrap();
    screen.shows("left");
    let ended = program.wait(Some(Duration::from_millis(100))).unwrap();
    assert!(matches!(ended, ProgramExit::TimedOut { by_force: true, .. }), "{ended:?}");
    container.run(&screen.script("echo next")).unwrap().wait(Some(SOON)).unwrap();
    screen.shows("next");
}
