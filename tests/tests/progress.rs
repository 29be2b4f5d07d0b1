//! What is seen on stderr while something takes its time: a compilation, a run; as lines, and on a terminal.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rollcage_tests::{Rollcage, Scratch, eventually, fixture_path, is_slow, program, within};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{assert_harmless, command};

/// A program on its way, and what it has said so far. It ends with this value.
struct Watched {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Watched {
    /// What goes to stdout, if `of_stdout`, else what goes to stderr.
    fn start(command: &mut Command, of_stdout: bool) -> Watched {
        let (mine, other) = (Stdio::piped(), Stdio::null());
        let (stdout, stderr) = if of_stdout { (mine, other) } else { (other, mine) };
        let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        let mut output: Box<dyn Read + Send> = match (child.stdout.take(), child.stderr.take()) {
            (Some(output), _) => Box::new(output),
            (_, output) => Box::new(output.unwrap()),
        };
        let said = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Watched { child, said }
    }

    /// On a terminal: Python's `pty`, which lets go of it when it is ended. The program is then hung up on.
    fn on_a_terminal(arguments: &[&str], cache: &std::path::Path) -> Watched {
        let mut command = Command::new("python3");
        command.args(["-c", "import pty, sys; pty.spawn(sys.argv[1:])"]).arg(program()).args(arguments);
        Watched::start(command.env("TERM", "xterm").env("ROLLCAGE_CACHE", cache), true)
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said this.
    fn until(&self, what: &str) {
        eventually(what, 100, || self.said().contains(what));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compiling it takes more time than there is: only who looks on from outside sees the line and ends it.
#[test]
fn a_compilation_is_told_when_it_takes_its_time() {
    let scratch = Scratch::new("progress-compiling");
    let home = scratch.folder().join("ho\u{1b}me");
    std::fs::create_dir(&home).unwrap();
    let plugin = scratch.folder().join("sl\u{1b}[2Jow.wasm");
    std::fs::copy(fixture_path("code-slow"), &plugin).unwrap();
    let plugin = plugin.to_str().unwrap();
    let name = plugin.replace('\u{1b}', "\\u{1b}");
    for (arguments, kept) in [
        (&["run", plugin, "--seed=1"][..], " (once, kept in ~/.cache/rollcage)"),
        (&["run", plugin, "--no-cache"], ""),
        (&["inspect", plugin], " (once, kept in ~/.cache/rollcage)"),
    ] {
        let mut command = command(arguments);
        command.env_remove("ROLLCAGE_CACHE").env_remove("XDG_CACHE_HOME").env("HOME", &home);
        let mut watched = Watched::start(&mut command, false);
        let line = format!("compiling {name}{kept} …\n");
        watched.until(&line);
        kill_process(Pid::from_child(&watched.child), Signal::INT).unwrap();
        watched.child.wait().unwrap();
        assert!(watched.said().starts_with(&line) && is_slow(&line), "{}", watched.said());
        assert_harmless(&watched.said(), &arguments);
    }
    // A folder elsewhere is shown as it is.
    let elsewhere = scratch.folder().join("else\u{1b}where");
    let mut command = command(&["run", plugin]);
    let watched = Watched::start(command.env("ROLLCAGE_CACHE", &elsewhere), false);
    let shown = elsewhere.to_str().unwrap().replace('\u{1b}', "\\u{1b}");
    watched.until(&format!("compiling {name} (once, kept in {shown}) …\n"));
}

/// On a terminal the line turns, and is not left behind.
#[test]
fn a_compilation_is_told_on_a_terminal() {
    let scratch = Scratch::new("progress-terminal");
    let slow = scratch.folder().join("s.wasm");
    std::fs::copy(fixture_path("code-slow"), &slow).unwrap();
    let cache = scratch.folder().join("c");
    let watched = Watched::on_a_terminal(&["run", slow.to_str().unwrap(), "--seed=1"], &cache);
    eventually("it turns", 100, || watched.said().matches(" compiling ").count() >= 3);
    drop(watched);
    // Each of these is told or not, as the machine is slow or quick.
    let watched = Watched::on_a_terminal(&["list"], &cache);
    watched.until("\ntaxi ");
    assert!(!watched.said().contains("…\r\n"), "{:?}", watched.said());
}

#[test]
fn a_run_says_how_far_it_is() {
    for (goal, done) in
        [("--steps=900000000", " of 900,000,000 steps, "), ("--episodes=900000000", " of 900,000,000 episodes, ")]
    {
        let arguments = ["run", "cartpole", "--seed=1", goal, "--progress=100ms", "--envs=2"];
        let mut watched = Watched::start(&mut command(&arguments), false);
        eventually("two lines", 100, || watched.said().matches("\nprogress: ").count() >= 2);
        kill_process(Pid::from_child(&watched.child), Signal::INT).unwrap();
        assert_eq!(watched.child.wait().unwrap().code(), Some(130));
        let said = watched.said();
        let lines: Vec<&str> = said.lines().filter(|line| !is_slow(line) && !line.starts_with("walls: ")).collect();
        for line in &lines[..2] {
            assert!(line.starts_with("progress: ") && line.contains(done), "{said}");
            assert!(line.contains(" steps/s, ") && line.contains(" elapsed, ") && line.ends_with(" left"), "{said}");
        }
    }
    // A file may end before the goal: nothing is said of what is left. And none of it is in the results.
    let scratch = Scratch::new("progress-lines");
    let actions = scratch.file("a.jsonl", "[1]\n".repeat(200_000));
    let policy = format!("--policy={}", actions.display());
    let arguments = ["run", "cartpole", "--seed=1", "--steps=900000000", "--progress=1ms", "--json", &policy];
    let ran = within(100, &mut command(&arguments));
    assert!(ran.status == Some(0) && ran.stdout.lines().count() == 1, "{ran:?}");
    assert!(ran.stderr.contains("progress: ") && !ran.stderr.contains(" left"), "{}", ran.stderr);
}

#[test]
fn a_bar_has_elapsed_and_remaining_time() {
    let arguments = ["run", "cartpole", "--seed=1", "--steps=900000000"];
    let watched = Watched::on_a_terminal(&arguments, &rollcage_tests::cache_folder());
    watched.until("/900,000,000 steps");
    watched.until(" left");
    assert!(!watched.said().contains("progress: "), "{:?}", watched.said());
}

/// How much of a start was compiling: with a warm cache nothing.
#[test]
fn a_summary_says_what_compiling_took() {
    let scratch = Scratch::new("progress-summary");
    let run = |more: &[&str]| {
        let mut command = Rollcage::command();
        command.env("ROLLCAGE_CACHE", scratch.folder()).args(["run", "blackjack", "--steps=1", "--seed=1"]).args(more);
        let ran = within(60, &mut command);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        ran.stdout
    };
    let is_told = |summary: &str| {
        let line = summary.lines().find(|line| line.starts_with("  start ")).unwrap();
        assert!(line.ends_with(" until every env had answered its first reset"), "{line}");
        line.contains("s (compiling ")
    };
    assert!(is_told(&run(&[])));
    assert!(!is_told(&run(&[])));
    assert!(is_told(&run(&["--no-cache"])));
    let object = |more: &[&str]| -> serde_json::Value { serde_json::from_str(&run(more)).unwrap() };
    assert!(object(&["--json"])["compile_seconds"].is_null());
    let cold = object(&["--json", "--no-cache"]);
    let seconds = |key: &str| cold[key].as_f64().unwrap();
    assert!(seconds("compile_seconds") > 0.0 && seconds("compile_seconds") < seconds("start_seconds"), "{cold}");
}
