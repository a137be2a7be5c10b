//! Programs with a terminal, one after the other.

use super::*;

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

    pub(super) fn script(&self, script: &str) -> Program {
        let command = ProgramCommand::Exactly(["sh", "-c", script].map(Into::into).into());
        Program { command, ..Program::of_image(Stdio::Terminal(self.path.clone())) }
    }
}

#[test]
fn programs_have_the_terminal_in_turn() {
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
fn what_stays_in_the_background_does_not_read_what_is_typed_for_the_next() {
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
fn nobody_is_left_suspended() {
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
fn a_program_without_a_terminal_reads_nothing_and_has_no_descriptors_but_three() {
    let lab = Lab::new();
    let container = lab.start();
    // Descriptor 3 is the directory that is listed.
    let script = "cat; [ -t 0 ] || echo none; exec ls /proc/self/fd";
    assert_eq!(lab.says(&container, script), "none\n0\n1\n2\n3");
}
