//! The kernel modules that a container sees. A machine without any plays the initrd here: the test makes some.

use super::*;

/// The directory of the running kernel's modules, with one file; removed at the end if it was made.
struct Modules {
    directory: PathBuf,
    made: bool,
}

impl Modules {
    fn make() -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let directory = Path::new("/lib/modules").join(release);
        let made = !directory.exists();
        if made {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("modules.dep"), "of the machine\n").unwrap();
        }
        Self { directory, made }
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        if self.made {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// What a script says in a container of its own.
fn says_once(lab: &Lab, script: &str) -> String {
    lab.says(&lab.start(), script)
}

#[test]
fn privileged_containers_see_the_machines_modules_unless_they_bring_their_own() {
    let machine = Modules::make();
    let file = machine.directory.join("modules.dep").display().to_string();
    let modules = fs::read_to_string(&file).unwrap();
    let look =
        format!("head -n 1 {file} 2>/dev/null || echo none; touch {file} 2>/dev/null && echo writable");
    let look = format!("({look}) | cat");
    let first = modules.lines().next().unwrap_or_default();
    assert_eq!(says_once(&Lab::new(), &look), first);
    assert_eq!(says_once(&Lab::unprivileged(), &look), "none");
    let lab = Lab::new();
    let own = lab.image.layers[0].join(machine.directory.strip_prefix("/").unwrap());
    fs::create_dir_all(&own).unwrap();
    // The modules of another kernel, or an empty directory, do not count.
    assert_eq!(says_once(&lab, &look), first);
    fs::write(own.join("modules.dep"), "of the image\n").unwrap();
    assert_eq!(says_once(&lab, &look), "of the image\nwritable");
    let lab = Lab::new();
    fs::write(lab.image.layers[0].join("lib"), "a file").unwrap();
    assert_eq!(says_once(&lab, "echo runs"), "runs");
    let mut lab = Lab::new();
    lab.plan.mounts.push(Mount::bind(lab.directory("lib"), "/lib/modules"));
    assert_eq!(says_once(&lab, "ls /lib/modules"), "");
}
