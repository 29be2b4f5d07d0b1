//! What every whole-system test needs: the program, the fixtures, a Python with the real Gymnasium, `/proc`.
//!
//! `cargo xtask test` builds the program and the fixtures first; here they are only found.
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test helper that cannot go on fails its test")]

pub mod attempts;
pub mod lies;
pub mod outcome;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rollcage::{Builder, Cache, Plugin, Start, VecEnv};

/// Cargo's target folder: this program lies in `TARGET/release/deps`.
pub fn target() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// The `rollcage` program under test.
pub fn program() -> PathBuf {
    let program = target().join("release/rollcage");
    assert!(program.exists(), "{} is not built: run `cargo xtask test`", program.display());
    program
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The component of a fixture of `tests/hostile/`, by its crate's name, or a plugin that `tests/smith` crafted.
pub fn fixture_path(name: &str) -> PathBuf {
    let crafted = crafted_folder().join(format!("{name}.wasm"));
    if crafted.exists() {
        return crafted;
    }
    // Of a program cargo keeps the name, of a library it writes underscores.
    let folder = target().join("guests/wasm32-wasip2/release");
    let program = folder.join(format!("{name}.wasm"));
    let library = folder.join(format!("{}.wasm", name.replace('-', "_")));
    let path = if program.exists() { program } else { library };
    assert!(path.exists(), "{} is not built: run `cargo xtask test`", path.display());
    path
}

/// Where the plugins lie that `tests/smith` crafts.
pub fn crafted_folder() -> PathBuf {
    target().join("smith/crafted")
}

/// Has `tests/smith` make random plugins: `SEED.wasm` in the folder, for each seed.
pub fn random_plugins(folder: &Path, seeds: std::ops::Range<u64>) {
    let program = target().join("smith/release/rollcage-smith");
    assert!(program.exists(), "{} is not built: run `cargo xtask test`", program.display());
    let count = seeds.end - seeds.start;
    let mut command = Command::new(program);
    let output = command.arg("random").arg(folder).args([seeds.start, count].map(|number| number.to_string())).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A fixture as a plugin.
pub fn fixture(name: &str) -> Plugin {
    Plugin::from_file(&fixture_path(name)).unwrap()
}

/// The env of a measurement: CartPole, or the plugin's file and the config that the command names.
pub fn measured(named: &[String]) -> rollcage::Builder {
    match named {
        [file, config] => {
            let config: serde_json::Value = serde_json::from_str(config).unwrap();
            rollcage::VecEnv::builder(Plugin::from_file(file.as_ref()).unwrap()).config(&config).unwrap()
        }
        _ => rollcage::VecEnv::builder(Plugin::shipped("cartpole").unwrap()),
    }
}

/// A cache of compiled plugins that all tests share: kept between runs, so that a plugin is compiled once.
pub fn cache() -> Cache {
    Cache::open(&cache_folder()).unwrap()
}

/// Where [`cache`] lies.
pub fn cache_folder() -> PathBuf {
    target().join("test-cache")
}

/// A builder for envs of a fixture or of a shipped plugin, with the program under test as worker. They start as envs do by
/// default, each in a worker of its own; where a test runs others over the other start or gear, as it says.
pub fn builder(plugin: Plugin) -> Builder {
    let start = std::env::var("ROLLCAGE_TEST_START").map_or(Start::Best, |start| start.parse().unwrap());
    VecEnv::builder(plugin).worker(program()).cache(cache()).start(start).envs_per_worker(envs_per_worker())
}

/// How many envs share a worker in this test run.
pub fn envs_per_worker() -> usize {
    std::env::var("ROLLCAGE_TEST_ENVS_PER_WORKER").map_or(1, |envs| envs.parse().unwrap())
}

/// A builder for envs of a shipped plugin.
pub fn shipped(name: &str) -> Builder {
    builder(Plugin::shipped(name).unwrap())
}

/// Actions for Discrete action spaces: one number per env.
pub fn discrete(actions: &[i64]) -> Vec<u8> {
    actions.iter().flat_map(|action| action.to_le_bytes()).collect()
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit status; none after a signal.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error, but for the line that says which walls stand, and those that a slow machine sees and a quick one does not.
    pub stderr: String,
    /// The line about walls, if a run got as far.
    pub walls: Option<String>,
}

/// Whether a line of stderr is there only because something took its time: a compilation more than half a second.
pub fn is_slow(line: &str) -> bool {
    line.starts_with("compiling ") && line.trim_end().ends_with('…')
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let said = String::from_utf8(output.stderr).unwrap();
        let (walls, others): (Vec<&str>, Vec<&str>) =
            said.split_inclusive('\n').filter(|line| !is_slow(line)).partition(|line| line.starts_with("walls: "));
        Ran {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: others.concat(),
            walls: walls.first().map(|line| line.trim_end().to_owned()),
        }
    }
}

/// The `rollcage` program as a user runs it.
pub struct Rollcage;

impl Rollcage {
    /// Runs it to its end.
    pub fn run<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
        Rollcage::command().args(arguments).output().unwrap().into()
    }

    /// A command for it, with the tests' cache and nothing on stdin.
    pub fn command() -> Command {
        let mut command = Command::new(program());
        command.env("ROLLCAGE_CACHE", cache_folder()).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command
    }

    /// The program in a mount namespace of its own, in which this line of `sh` has been done before; `$0` in it is `file`.
    /// None: this machine lets nobody have one.
    pub fn command_in_mounts(line: &str, file: &Path) -> Option<Command> {
        let mounts = || {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]).stdin(Stdio::null());
            command
        };
        let probe = mounts().args(["mount -t tmpfs none /mnt", "probe"]).output();
        if !probe.is_ok_and(|probe| probe.status.success()) {
            return None;
        }
        let mut command = mounts();
        command.arg(format!("{line} && exec \"$@\"")).arg(file).arg(program());
        command.env("ROLLCAGE_CACHE", cache_folder()).env("RUST_BACKTRACE", "1");
        Some(command)
    }

    /// Runs it with `--json` and reads the one object that it prints.
    pub fn json<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> (Option<i32>, serde_json::Value) {
        let ran: Ran = Rollcage::command().args(arguments).arg("--json").output().unwrap().into();
        let object = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        (ran.status, object)
    }
}

/// A Python with `gymnasium==1.4.0`: a venv beside the builds, made by whoever needs it first.
pub fn gymnasium() -> PathBuf {
    let venv = target().join("venv-gymnasium-1.4.0");
    let python = venv.join("bin/python");
    let lock = std::fs::File::create(target().join("venv-gymnasium.lock")).unwrap();
    lock.lock().unwrap();
    let made = venv.join("made");
    if !made.exists() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "gymnasium==1.4.0", "numpy==2.4.6"]));
        std::fs::write(&made, "").unwrap();
    }
    python
}

/// Whether this program is root: it may look into a process that is not dumpable, and become another user.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A process as `/proc` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub u32);

impl Process {
    /// This one.
    pub fn own() -> Process {
        Process(std::process::id())
    }

    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    /// Whether it is there, dead but not reaped included.
    pub fn exists(self) -> bool {
        self.file("stat").exists()
    }

    /// Its environment.
    pub fn environ(self) -> Vec<u8> {
        std::fs::read(self.file("environ")).unwrap()
    }

    /// Its descriptors: numbers and what they lead to.
    pub fn descriptors(self) -> Vec<(i32, String)> {
        let entries = std::fs::read_dir(self.file("fd")).unwrap().map(Result::unwrap);
        let mut all: Vec<_> = entries
            .map(|entry| {
                let number = entry.file_name().to_str().unwrap().parse().unwrap();
                (number, std::fs::read_link(entry.path()).unwrap().display().to_string())
            })
            .collect();
        all.sort();
        all
    }

    /// What a worker is for, as `ps` shows it: `env 3`; `envs` for one that is copied.
    pub fn title(self) -> String {
        let line = std::fs::read(self.file("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.get(2).map(|word| String::from_utf8_lossy(word).trim().to_owned()).unwrap_or_default()
    }

    /// Its children that are envs, or have several.
    pub fn envs(self) -> Vec<Process> {
        self.children()
            .into_iter()
            .filter(|child| child.title().starts_with("env ") || child.title().starts_with("envs "))
            .collect()
    }

    /// A field of its `status`, as text.
    pub fn status(self, field: &str) -> String {
        let status = std::fs::read_to_string(self.file("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
    }

    /// Its state letter: `R`, `S`, `T`, `Z`…
    pub fn state(self) -> Option<char> {
        let stat = std::fs::read_to_string(self.file("stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Its parent's id.
    pub fn parent(self) -> Option<u32> {
        let stat = std::fs::read_to_string(self.file("stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    }

    /// Processes whose parent it is.
    pub fn children(self) -> Vec<Process> {
        let mut children: Vec<_> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| Some(Process(entry.ok()?.file_name().to_str()?.parse().ok()?)))
            .filter(|process| process.parent() == Some(self.0))
            .collect();
        children.sort();
        children
    }
}

/// Waits for something that must come true, at most `seconds`.
pub fn eventually(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    while !holds() {
        assert!(std::time::Instant::now() < until, "not within {seconds} s: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Runs a test's body in a process of its own, where nothing of other tests is: `name` is the test's own, with its module.
pub fn alone(name: &str, body: impl FnOnce()) {
    const ALONE: &str = "ROLLCAGE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some_and(|running| running == name) {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(ALONE, name)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{name}, alone: {said}");
}

/// Runs a command that must end by itself within `seconds`.
pub fn within(seconds: u64, command: &mut Command) -> Ran {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = rustix::process::Pid::from_child(&child);
    let (sender, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match answer.recv_timeout(std::time::Duration::from_secs(seconds)) {
        Ok(output) => output.unwrap().into(),
        Err(_) => {
            // It was not waited for yet, so the id is still its own.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            panic!("not within {seconds} s: {command:?}");
        }
    }
}

/// A folder for the files of one test; it goes away with this value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty one; `name` is the test's.
    pub fn new(name: &str) -> Scratch {
        let folder = target().join(format!("tmp/{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    /// One that every user of the machine can reach and change, outside of the target folder, which others may not enter.
    pub fn for_every_user(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("rollcage-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        Scratch(folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it, and says where.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
