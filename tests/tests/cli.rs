//! The command line as a user sees it: exit codes, what goes to stdout and what to stderr, help and errors word for word,
//! shares, policies, pictures, logs; and that nothing a guest says can act on a terminal.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use insta::{Settings, assert_snapshot};
use rollcage_tests::{Ran, Rollcage, Scratch, builder, fixture, fixture_path, program, shipped, target, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

// ── Running, and what was said ──────────────────────────────────────────────────────────────────────────────────────

/// The program as a user runs it, with what would colour or wrap its text taken away.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Rollcage::command();
    command.args(arguments).env_remove("COLUMNS").env_remove("CLICOLOR_FORCE").env("RUST_LIB_BACKTRACE", "1");
    command
}

pub(crate) fn run(arguments: &[&str]) -> Ran {
    within(60, &mut command(arguments))
}

/// A run that must be complete and say nothing on stderr; its object.
pub(crate) fn json(arguments: &[&str]) -> Value {
    let ran = run(&[arguments, &["--json"]].concat());
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    object(&ran)
}

/// Exactly one object, on a line.
fn object(ran: &Ran) -> Value {
    assert!(ran.stdout.ends_with('\n') && ran.stdout.lines().count() == 1, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// The path of a fixture's component.
pub(crate) fn guest(name: &str) -> String {
    fixture_path(name).to_str().unwrap().to_owned()
}

/// Compares with a snapshot file, without what is another in each run or on each machine.
pub(crate) fn snapshot(name: &str, text: &str) {
    let text = text.replace(guests_folder().to_str().unwrap(), "[GUESTS]");
    let mut settings = Settings::clone_current();
    for (pattern, replacement) in [
        (r"[0-9a-f]{64}", "[HASH]"),
        (r"[0-9,]+ bytes, sha256", "[BYTES] bytes, sha256"),
        (r"[0-9,]+ steps/s", "[SPEED] steps/s"),
        (r"[0-9.]+ m?s( \(compiling [0-9.]+ m?s\))? until", "[TIME] until"),
        (r"seed: [0-9]+ was drawn; `--seed [0-9]+`", "seed: [SEED] was drawn; `--seed [SEED]`"),
        (r"walls       .*", "walls       [WALLS]"),
        (r"/src/lib\.rs:[0-9]+:[0-9]+", "/src/lib.rs:[PLACE]"),
        (r"rollcage [0-9]+\.[0-9]+\.[0-9]+", "rollcage [VERSION]"),
    ] {
        settings.add_filter(pattern, replacement);
    }
    settings.bind(|| assert_snapshot!(name, text));
}

fn guests_folder() -> std::path::PathBuf {
    target().join("guests/wasm32-wasip2/release")
}

/// What was typed and what was said, for a snapshot of many commands.
pub(crate) fn told(arguments: &[&str], ran: &Ran) -> String {
    let quoted = |argument: &&str| match argument.contains([' ', '"', '[', '*', '\\']) {
        true => format!("'{argument}'"),
        false => (*argument).to_owned(),
    };
    let arguments: Vec<String> = arguments.iter().map(quoted).collect();
    format!("$ rollcage {}\n{}\n", arguments.join(" "), ran.stderr)
}

/// Nothing here can act on a terminal, mislead a reader, or pass for a line of the host's; and no backtrace is shown.
pub(crate) fn assert_harmless(text: &str, whence: &dyn std::fmt::Debug) {
    let acts = |character: char| {
        character.is_control() && character != '\n'
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(acts), "{whence:?}: {text:?}");
    assert!(text.lines().all(|line| !line.starts_with("error: all is well")), "{whence:?}: {text}");
    assert!(!text.contains("stack backtrace") && !text.contains("   0: "), "{whence:?}: {text}");
}

fn assert_both_harmless(ran: &Ran, whence: &dyn std::fmt::Debug) {
    assert_harmless(&ran.stdout, whence);
    assert_harmless(&ran.stderr, whence);
}

// ── Exit codes and streams ──────────────────────────────────────────────────────────────────────────────────────────

/// Results to stdout, everything else to stderr; 0, 1 or 2.
#[test]
fn a_command_ends_as_it_should() {
    let [trap, masked, create_fail] = [guest("trap"), guest("masked"), guest("create-fail")];
    let scratch = Scratch::new("cli-ends");
    let picture = scratch.folder().join("a.png");
    let picture = picture.to_str().unwrap();
    // (arguments, exit code, whether there is a result, the beginning of stderr)
    let table: &[(&[&str], i32, bool, &str)] = &[
        (&["run", "cartpole", "--seed=1", "--episodes=2"], 0, true, ""),
        (&["run", "cartpole", "--seed=1", "--steps=0"], 0, true, ""),
        (&["run", "cartpole", "--episodes=2"], 0, true, "seed: "),
        (&["run", "frozenlake", "--seed=1", "--envs=3", "--autoreset=same-step"], 0, true, ""),
        (&["run", &masked, "--seed=1", "--steps=9", "--policy=zeros"], 0, true, ""),
        // A fault from which the env comes back costs nothing.
        (&["run", &trap, "--seed=1", "--episodes=3", "--config=only_seed=1"], 0, true, "fault: env 0 (instance 0)"),
        // Every new instance meets it: the budget is spent.
        (&["run", &trap, "--seed=1", "--episodes=3"], 1, true, "fault: env 0 (instance 0)"),
        (&["run", &trap, "--seed=1", "--episodes=3", "--on-fault=raise"], 1, true, "fault: env 0 (instance 0)"),
        (&["run", &trap, "--seed=1", "--episodes=3", "--on-fault=mask"], 1, true, "fault: env 0 (instance 0)"),
        (&["run", &trap, "--seed=1", "--episodes=3", "--on-fault=mask", "--envs=3"], 1, true, "fault: env "),
        (&["run", &trap, "--seed=1", "--episodes=1", "--config=in_call=reset"], 1, true, "fault: env 0 (instance 0)"),
        (&["run", &create_fail, "--seed=1"], 1, true, "fault: env 0 (instance 0)"),
        (
            &["run", &trap, "--seed=1", "--episodes=1", "--config=in_call=render", "--render", picture],
            1,
            true,
            "error: not all was played: picture `",
        ),
        (&["run", &create_fail, "--seed=1", "--config=what=config"], 2, false, "error: config `what`: "),
        (&["run", "cartpole", "--config=sutton_barto_reward=1"], 2, false, "error: config `sutton_barto_reward`: "),
        (&["run", "cartpole", "--step=1"], 2, false, "error: "),
        (&["run"], 2, false, "error: "),
        (&[], 2, false, "Run untrusted reinforcement-learning environments"),
        (&["inspect", "cartpole"], 0, true, ""),
        (&["inspect", "nowhere.wasm"], 2, false, "error: "),
        // What needs a config can be asked for without one.
        (&["inspect", &create_fail], 0, true, ""),
        (&["inspect", &create_fail, "--config=what=config"], 2, false, "error: config `what`: "),
        (&["inspect", &create_fail, "--config=what=failed"], 1, false, "error: env 0 (instance 0), "),
        (&["list"], 0, true, ""),
        (&["--version"], 0, true, ""),
        (&["--help"], 0, true, ""),
        (&["help", "run"], 0, true, ""),
        (&["run", "--help"], 0, true, ""),
    ];
    for (arguments, status, result, stderr) in table {
        let ran = run(arguments);
        assert_eq!(ran.status, Some(*status), "{arguments:?}: {ran:?}");
        assert_eq!(!ran.stdout.is_empty(), *result, "{arguments:?}: {ran:?}");
        assert!(ran.stderr.starts_with(stderr) && ran.stderr.is_empty() == stderr.is_empty(), "{arguments:?}: {ran:?}");
        assert_both_harmless(&ran, arguments);
        if arguments.first() == Some(&"run") && arguments.len() > 2 {
            // With `--json` the same; the object, if there is one, says why it is not complete.
            let ran = run(&[arguments, &["--json"][..]].concat());
            assert_eq!(ran.status, Some(*status), "{arguments:?}: {ran:?}");
            assert!(ran.stderr.starts_with(stderr), "{arguments:?}: {ran:?}");
            match result {
                true => assert_eq!(object(&ran)["incomplete"].is_string(), *status == 1, "{arguments:?}: {ran:?}"),
                false => assert_eq!(ran.stdout, "", "{arguments:?}"),
            }
        }
    }
}

/// A run that an interrupt ends says how far it came; a second one would not be needed.
#[test]
fn an_interrupt_ends_a_run_with_a_report() {
    // Its first episode ends in a fault, which is told at once: then it plays.
    let trap = guest("trap");
    let arguments = ["run", &trap, "--seed=1", "--episodes=1000000000", "--config=only_seed=1", "--json"];
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut lines = stderr.by_ref().lines().map(Result::unwrap);
        let line = lines.find(|line| !rollcage_tests::is_slow(line)).unwrap();
        assert!(line.starts_with("fault: env 0 (instance 0), episode 0, step 3: trap: "), "{line}");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!(ran.status, Some(130), "{signal:?}");
        let report = object(&ran);
        assert_eq!((&report["incomplete"], &report["faults_total"]), (&json!("interrupted"), &json!(1)), "{signal:?}");
        assert_harmless(&said, &signal);
    }
}

/// Who reads no further has what was wanted: `rollcage run … | head`.
#[test]
fn a_broken_pipe_is_no_error() {
    let run = ["run", "cartpole", "--seed=1", "--episodes=2"];
    for arguments in [&run[..], &["run", "cartpole", "--seed=1", "--json"], &["inspect", "cartpole"], &["--help"]] {
        let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // Nobody listens to complaints either.
    let mut child = command(&["run", "cartpol"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

/// What the system refuses is neither the user's nor an env's fault, and comes without a backtrace as well.
#[test]
fn a_full_disk_is_said() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(&["list"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let ran = Ran::from(output);
    assert_eq!(ran.status, Some(1));
    assert_eq!(ran.stderr, "error: writing to stdout: No space left on device (os error 28)\n");
}

/// A recording that the disk has no room for: which file, and why.
#[test]
fn a_full_disk_is_said_with_the_file() {
    let scratch = Scratch::new("cli-full");
    let folder = scratch.folder().join("disk");
    std::fs::create_dir(&folder).unwrap();
    let small = "mount -t tmpfs -o size=64k none \"$0\"";
    let Some(mut command) = Rollcage::command_in_mounts(small, &folder) else { return };
    let record = folder.join("first");
    let arguments = ["run", "cartpole", "--seed=1", "--steps=20000", "--envs=2", "--record", record.to_str().unwrap()];
    let ran = within(60, command.args(arguments));
    assert_eq!(ran.status, Some(1), "{ran:?}");
    let told = format!("writing a recording: `{}`: No space left on device (os error 28)", record.display());
    assert!(ran.stderr.lines().any(|line| line.starts_with("error: ") && line.ends_with(&told)), "{ran:?}");
}

/// What ships for a plugin is at hand wherever the program is, and the hint that names it can be typed.
#[test]
fn grants_that_ship_are_found_by_their_plugins_name() {
    let scratch = Scratch::new("cli-shipped-grants");
    let run = |arguments: &[&str]| within(60, command(arguments).current_dir(scratch.folder()));
    let ran = run(&["run", "go", "--seed=1"]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(
        ran.stderr.contains("hint: `--grants go` gives all that it wants: the file ships with rollcage\n"),
        "{ran:?}"
    );
    let ran = run(&["inspect", "go", "--grants", "go"]);
    let spaces = ran.status == Some(0) && ran.stdout.contains("observations  Box(-1, 1, (9, 9), int8)");
    assert!(spaces || ran.stderr.starts_with("error: service `gnugo`: "), "{ran:?}");
    let ran = run(&["run", "go", "--seed=1", "--steps=2", "--grants", "go"]);
    // It plays, or the machine has no GNU Go.
    let played = ran.status == Some(0) && ran.stdout.contains("lease=gtp:6200-6299");
    assert!(played || ran.stderr.starts_with("error: service `gnugo`: "), "{ran:?}");
    let ran = run(&["run", "short-kick", "--seed=1", "--steps=2", "--grants", "short-kick"]);
    assert!(!ran.stderr.contains("grants file") && !ran.stderr.contains("which is not granted"), "{ran:?}");
}

/// As editors on Windows write them, and a shell's `>` there.
#[test]
fn a_mark_before_a_users_file_is_not_a_part_of_it() {
    let scratch = Scratch::new("cli-marks");
    let file = |name: &str, text: &str| scratch.file(name, format!("\u{feff}{text}")).to_str().unwrap().to_owned();
    let grants = file("grants.toml", "[grant]\nclock = 'real'\n");
    let policy = file("actions.jsonl", "[1]\n[0]\n");
    let base = ["run", "cartpole", "--seed=1", "--steps=2"];
    for (name, text) in [
        ("a.toml", "sutton_barto_reward = true\n"),
        ("a.json", "{\"sutton_barto_reward\": true}"),
        ("a.yaml", "sutton_barto_reward: true\n"),
    ] {
        let config = file(name, text);
        let object = json(&[&base[..], &["--config-file", &config]].concat());
        assert_eq!(object["config"]["sutton_barto_reward"], true, "{name}");
    }
    let object = json(&[&base[..], &["--grants", &grants, "--policy", &policy]].concat());
    assert_eq!((&object["grants"], &object["steps"]), (&json!(["clock=real"]), &json!(2)));
    let folder = scratch.folder().join("first");
    let folder = folder.to_str().unwrap();
    json(&[&base[..], &["--record", folder, "--policy=zeros"]].concat());
    let receipt = run(&["verify", folder]).stdout.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    let ran = run(&["verify", folder, "--against", &file("receipt", &receipt)]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
}

/// Somebody who finds the hidden mode learns quickly that it is none of theirs.
#[test]
fn a_worker_started_by_hand_ends_at_once() {
    let scratch = Scratch::new("cli-worker");
    let file = scratch.file("stdin", "{}\n");
    let (host, worker) = UnixStream::pair().unwrap();
    drop(host);
    let stdin: [(&str, Stdio); 4] = [
        ("nothing", Stdio::null()),
        ("a file", std::fs::File::open(file).unwrap().into()),
        ("a pipe", Stdio::piped()),
        ("a socket whose other end is closed", std::os::fd::OwnedFd::from(worker).into()),
    ];
    for (what, stdin) in stdin {
        for arguments in [&["__rollcage-worker"][..], &["__rollcage-worker", "compile", "--help"]] {
            // One stdin serves once.
            let stdin = if arguments.len() > 1 { Stdio::null() } else { Stdio::piped() };
            let ran = within(5, command(arguments).stdin(stdin));
            assert!(ran.status.is_some_and(|status| status != 0), "{what}: {ran:?}");
            assert_eq!(ran.stdout, "", "{what}");
            assert!(ran.stderr.starts_with("worker: ") && ran.stderr.lines().count() == 1, "{what}: {ran:?}");
        }
        let ran = within(5, command(&["__rollcage-worker"]).stdin(stdin));
        assert!(ran.status.is_some_and(|status| status != 0) && ran.stdout.is_empty(), "{what}: {ran:?}");
        assert_both_harmless(&ran, &what);
    }
}

// ── Help and errors, word for word ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn help_is_what_it_was() {
    for (name, arguments) in [
        ("help", &["--help"][..]),
        ("help_short", &["-h"]),
        ("help_run", &["run", "--help"]),
        ("help_run_short", &["run", "-h"]),
        ("help_build", &["build", "--help"]),
        ("help_inspect", &["inspect", "--help"]),
        ("help_list", &["list", "--help"]),
        ("help_cache", &["cache", "--help"]),
        ("help_cache_size", &["cache", "size", "--help"]),
        ("help_cache_clear", &["cache", "clear", "--help"]),
        ("help_doctor", &["doctor", "--help"]),
        ("help_lease", &["lease", "--help"]),
        ("version", &["--version"]),
    ] {
        let ran = run(arguments);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        snapshot(name, &ran.stdout);
    }
    // Asked for nothing, it says what there is; as an error, to stderr.
    let ran = run(&[]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""));
    snapshot("no_arguments", &ran.stderr);
}

#[test]
fn what_is_shown_is_what_it_was() {
    for (name, arguments) in [
        ("summary", &["run", "cartpole", "--seed=7", "--envs=3", "--episodes=9"][..]),
        ("summary_of_nothing", &["run", "cartpole", "--seed=7", "--steps=0"]),
        ("inspect_cartpole", &["inspect", "cartpole"]),
        ("inspect_frozenlake", &["inspect", "frozenlake"]),
        ("inspect_blackjack", &["inspect", "blackjack"]),
        ("list", &["list"]),
    ] {
        let ran = run(arguments);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        snapshot(name, &ran.stdout);
    }
}

/// Runs that were begun and not finished: a summary on stdout, the faults as they came on stderr.
#[test]
fn faults_are_told() {
    let panic = guest("panic");
    for (name, arguments) in [
        ("fault_raise", &["run", &panic, "--seed=1", "--episodes=2", "--on-fault=raise"][..]),
        (
            "fault_mask",
            &["run", &panic, "--seed=1", "--episodes=4", "--envs=2", "--on-fault=mask", "--config=only_seed=2"],
        ),
        ("fault_budget", &["run", &panic, "--seed=1", "--episodes=1"]),
    ] {
        let ran = run(arguments);
        assert_eq!(ran.status, Some(1), "{arguments:?}");
        snapshot(&format!("{name}.stdout"), &ran.stdout);
        snapshot(&format!("{name}.stderr"), &ran.stderr);
    }
}

/// One or two plain lines that say what to do; nothing on stdout; exit status 2.
#[test]
fn errors_are_plain() {
    let scratch = Scratch::new("cli-errors");
    scratch.file("core.wasm", b"\0asm\x01\0\0\0");
    std::fs::copy(guest("escape"), scratch.folder().join("escape.wasm")).unwrap();
    scratch.file("empty.wasm", b"");
    scratch.file("text.wasm", b"(component)");
    scratch.file("cut.wasm", b"\0asm");
    scratch.file("torn.wasm", &component(&["wasi:cli/environment@0.2.0"], &[])[..20]);
    scratch.file("nothing.wasm", component(&[], &[]));
    scratch.file("wasi03.wasm", component(&["wasi:io/poll@0.2.0", "wasi:cli/environment@0.3.0"], &[OURS]));
    scratch.file("future.wasm", component(&[], &["rollcage:env/environment@9.9.0"]));
    scratch.file("http.wasm", component(&["wasi:io/poll@0.2.0", "wasi:http/types@0.2.0"], &[OURS]));
    scratch.file("hollow.wasm", component(&[], &[OURS]));
    scratch.file("vile.wasm", component(&["evil:\u{1b}[2J/\u{202e}x@0.1.0"], &[OURS]));
    scratch.file("list.toml", "a = [1\n");
    scratch.file("list.json", "[1, 2]");
    scratch.file("ok.txt", "a = 1\n");
    scratch.file("short.jsonl", "[1, 0]\n");
    let [no_export, bad_name] = [guest("no-export"), guest("bad-name")];
    let table: &[&[&str]] = &[
        // What is typed.
        &["frobnicate"],
        &["run"],
        &["run", "cartpole", "frozenlake"],
        &["run", "cartpole", "--episode=3"],
        &["run", "cartpole", "--episodes=3", "--steps=3"],
        &["run", "cartpole", "--episodes=-3"],
        &["run", "cartpole", "--envs=0"],
        &["run", "cartpole", "--envs=4097"],
        &["run", "cartpole", "--envs=many"],
        &["run", "cartpole", "--seed=-1"],
        &["run", "cartpole", "--seed=18446744073709551616"],
        &["run", "cartpole", "--seed=18446744073709551615", "--envs=2"],
        &["run", "cartpole", "--seed=1.5"],
        &["run", "cartpole", "--autoreset=next"],
        &["run", "cartpole", "--on-fault=weep"],
        &["run", "cartpole", "--backend=jit"],
        &["run", "cartpole", "--memory=64KB"],
        &["run", "cartpole", "--memory=lots"],
        &["run", "cartpole", "--step-timeout=10"],
        &["run", "cartpole", "--step-timeout=0s"],
        &["run", "cartpole", "--step-timeout=1year"],
        &["run", "cartpole", "--fuel=0"],
        &["run", "cartpole", "--max-episode-steps=0"],
        &["run", "cartpole", "--max-episode-steps=-1"],
        &["run", "cartpole", "--seed=1", "--policy=greedy"],
        &["run", "cartpole", "--seed=1", "--policy=nowhere.jsonl"],
        &["run", "cartpole", "--seed=1", "--policy=short.jsonl"],
        // Pictures.
        &["run", "cartpole", "--render=a.bmp"],
        &["run", "cartpole", "--render=nowhere/a.png"],
        &["run", "cartpole", "--render=a.txt"],
        &["run", "escape.wasm", "--render=a.gif"],
        &["run", "mirror", "--render=a.png"],
        // Plugins.
        &["run", "cartpol"],
        &["run", "Frozen-Lake"],
        &["inspect", "pong"],
        &["run", "nowhere.wasm"],
        &["run", "."],
        &["run", "core.wasm"],
        &["run", "empty.wasm"],
        &["run", "text.wasm"],
        &["run", "cut.wasm"],
        &["run", "torn.wasm"],
        &["run", "nothing.wasm"],
        &["run", "wasi03.wasm"],
        &["run", "future.wasm"],
        &["run", "http.wasm"],
        &["run", "vile.wasm"],
        &["run", &no_export],
        &["inspect", &no_export],
        &["run", &bad_name],
        // Config files.
        &["run", "cartpole", "--config-file=nowhere.toml"],
        &["run", "cartpole", "--config-file=ok.txt"],
        &["run", "cartpole", "--config-file=list.toml"],
        &["run", "cartpole", "--config-file=list.json"],
        &["run", "cartpole", "--config-file=."],
    ];
    let mut all = String::new();
    for arguments in table {
        let ran = within(30, command(arguments).current_dir(scratch.folder()));
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", ran.stderr);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines.len() <= 2, "{arguments:?}: {lines:?}");
        assert!(lines[1..].iter().all(|line| line.starts_with("hint: ")), "{arguments:?}: {lines:?}");
        assert_harmless(&ran.stderr, arguments);
        all.push_str(&told(arguments, &ran));
    }
    snapshot("errors", &all);
    for picture in ["a.gif", "a.png", "a.txt"] {
        assert!(!scratch.folder().join(picture).exists(), "{picture} was drawn before it was refused");
    }
    // What the engine says of an export that has nothing in it is the engine's affair.
    let ran = within(30, command(&["run", "hollow.wasm"]).current_dir(scratch.folder()));
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.starts_with("error: plugin `hollow.wasm`: "), "{ran:?}");
    assert_harmless(&ran.stderr, &"hollow.wasm");
}

/// The export that makes a component a plugin.
const OURS: &str = "rollcage:env/environment@0.1.0";

/// A component, written by hand, of instances without anything in them: these imports, these exports.
fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
    let mut section = |id: u8, items: usize, content: &[u8]| {
        let mut body = unsigned(items);
        body.extend(content);
        wasm.push(id);
        wasm.extend(unsigned(body.len()));
        wasm.extend(body);
    };
    let name = |name: &str| [&[0][..], &unsigned(name.len())[..], name.as_bytes()].concat();
    // A type: an instance that exports nothing. Imports: name, an instance of that type.
    section(7, 1, &[0x42, 0]);
    let imported: Vec<u8> = imports.iter().flat_map(|import| [&name(import)[..], &[5, 0][..]].concat()).collect();
    section(10, imports.len(), &imported);
    // One more instance, made of no exports. Exports: name, that instance, no type.
    section(5, 1, &[1, 0]);
    let ours = unsigned(imports.len());
    let exported: Vec<u8> =
        exports.iter().flat_map(|export| [&name(export)[..], &[5][..], &ours[..], &[0][..]].concat()).collect();
    section(11, exports.len(), &exported);
    wasm
}

/// LEB128.
fn unsigned(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

#[test]
fn doctor_looks_at_this_machine() {
    let ran = run(&["doctor"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    // First this program and the machine, then the checks, then the layers.
    let (machine, rest): (Vec<&str>, Vec<&str>) = ran.stdout.lines().partition(|line| line.starts_with("    "));
    for what in ["rollcage", "kernel", "cores", "memory", "descriptors", "processes"] {
        assert!(machine.iter().any(|line| line.trim_start().starts_with(what)), "{what}: {}", ran.stdout);
    }
    let layers = rest.iter().position(|line| line.starts_with("walls around an env: ")).unwrap();
    let (lines, _) = rest.split_at(layers);
    assert!(lines.iter().all(|line| line.starts_with("ok  ") || line.starts_with("--  ")), "{}", ran.stdout);
    for what in ["sealed memory", "pidfd", "seqpacket", "cache", "worker"] {
        assert!(
            lines.iter().any(|line| line.strip_prefix("ok  ").is_some_and(|line| line.starts_with(what))),
            "{what}"
        );
    }
    let object = json(&["doctor"]);
    assert_eq!(object["machine"].as_object().unwrap().len(), 6);
    assert_eq!(object["checks"].as_array().unwrap().len(), lines.len());
    let level = object["sandbox"]["level"].as_str().unwrap_or("none").to_owned();
    assert!(ran.stdout.contains(&format!("level {level}")), "{}", ran.stdout);
    // A cache that cannot be used is said, and is no reason not to run.
    let ran = within(60, command(&["doctor"]).env("ROLLCAGE_CACHE", "/dev/null/cache"));
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("--  cache            cache folder `/dev/null/cache`: "), "{}", ran.stdout);
}

#[test]
fn list_names_what_ships() {
    let object = json(&["list"]);
    let names: Vec<&str> =
        object["plugins"].as_array().unwrap().iter().map(|row| row["plugin"].as_str().unwrap()).collect();
    let shipped: Vec<&str> = rollcage::plugin::shipped::PLUGINS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, shipped);
    assert!(names.is_sorted() && names.contains(&"cartpole"), "{names:?}");
    for row in object["plugins"].as_array().unwrap() {
        assert_eq!(keys(row), ["plugin", "sha256", "version", "summary", "interface"]);
    }
}

// ── The object ──────────────────────────────────────────────────────────────────────────────────────────────────────

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_object_has_the_keys_of_the_contract() {
    const KEYS: [&str; 28] = [
        "plugin",
        "sha256",
        "envs",
        "seed",
        "config",
        "steps",
        "episodes",
        "return",
        "length",
        "steps_per_second",
        "start_seconds",
        "compile_seconds",
        "import_seconds",
        "start",
        "envs_per_worker",
        "faults",
        "faults_total",
        "oddities",
        "digest",
        "digests",
        "walls",
        "level",
        "grants",
        "refused",
        "picture",
        "recording",
        "from",
        "incomplete",
    ];
    let trap = guest("trap");
    let quiet = run(&["run", "cartpole", "--seed=3", "--envs=2", "--episodes=4", "--json"]);
    let loud = run(&["run", &trap, "--seed=3", "--envs=2", "--episodes=4", "--json", "--on-fault=mask"]);
    let idle = run(&["run", "cartpole", "--seed=3", "--envs=2", "--steps=0", "--json"]);
    for (what, ran) in [("quiet", &quiet), ("loud", &loud), ("idle", &idle)] {
        let object = object(ran);
        assert_eq!(keys(&object), KEYS, "{what}");
        let hash = |value: &Value| {
            let text = value.as_str().unwrap();
            text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        assert!(object["plugin"].is_string() && hash(&object["sha256"]) && hash(&object["digest"]), "{what}");
        assert_eq!((&object["envs"], &object["seed"]), (&json!(2), &json!(3)), "{what}");
        assert!(object["config"].is_object() && object["steps"].is_u64() && object["episodes"].is_u64(), "{what}");
        assert!(object["steps_per_second"].is_number() && object["start_seconds"].is_number(), "{what}");
        assert!(object["faults"].is_array() && object["faults_total"].is_u64(), "{what}");
        let digests = object["digests"].as_array().unwrap();
        assert!(digests.len() == 2 && digests.iter().all(hash), "{what}");
        assert!(object["walls"].as_array().unwrap().iter().all(Value::is_string), "{what}");
        assert_eq!(object["grants"], json!([]), "{what}");
    }

    let quiet = object(&quiet);
    assert_eq!(
        (&quiet["plugin"], &quiet["episodes"], &quiet["faults_total"]),
        (&json!("cartpole"), &json!(4), &json!(0))
    );
    assert_eq!((&quiet["config"], &quiet["incomplete"]), (&json!({"sutton_barto_reward": false}), &Value::Null));
    for figures in [&quiet["return"], &quiet["length"]] {
        assert_eq!(keys(figures), ["mean", "min", "max"]);
        let [mean, min, max] = ["mean", "min", "max"].map(|key| figures[key].as_f64().unwrap());
        assert!(min <= mean && mean <= max && min > 0.0);
    }
    // All steps of CartPole belong to an episode here, and each is worth 1.
    let total = |figures: &Value| figures["mean"].as_f64().unwrap() * 4.0;
    assert_eq!(total(&quiet["return"]), total(&quiet["length"]));
    assert_eq!(total(&quiet["length"]), quiet["steps"].as_f64().unwrap());

    let loud = object(&loud);
    assert_eq!((&loud["episodes"], &loud["faults_total"]), (&json!(0), &json!(2)));
    assert_eq!((&loud["return"], &loud["length"]), (&Value::Null, &Value::Null), "no episode has ended");
    // Three steps each answered; the fourth did not.
    assert_eq!(loud["steps"], json!(6));
    // Of one step they come in the order in which they were met.
    let mut faults = loud["faults"].as_array().unwrap().clone();
    faults.sort_by_key(|fault| fault["env"].as_u64());
    for (env, fault) in faults.iter().enumerate() {
        assert_eq!(keys(fault), ["env", "instance", "episode", "step", "kind", "message"]);
        let expected = json!({"env": env, "instance": 0, "episode": 0, "step": 3, "kind": "trap"});
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&fault[key], value, "{key}");
        }
        assert!(fault["message"].as_str().unwrap().contains("unreachable"));
    }
    let why = loud["incomplete"].as_str().unwrap();
    assert!(why.contains("env 0 is masked after a fault: trap: ") && why.contains("env 1 is masked"), "{why}");

    let idle = object(&idle);
    assert_eq!((&idle["steps"], &idle["return"]), (&json!(0), &Value::Null));
    assert_eq!((&idle["steps_per_second"], &idle["incomplete"]), (&json!(0.0), &Value::Null));
}

#[test]
fn the_object_of_inspect_has_the_keys_of_the_contract() {
    const KEYS: [&str; 22] = [
        "plugin",
        "sha256",
        "bytes",
        "name",
        "version",
        "summary",
        "interface",
        "observation_space",
        "action_space",
        "action_masked",
        "actions_out_of_bounds",
        "info_fields",
        "max_episode_steps",
        "reward_threshold",
        "spaces_unknown",
        "render_modes",
        "render_fps",
        "wants",
        "package",
        "runtime",
        "config",
        "config_schema",
    ];
    let lake = json(&["inspect", "frozenlake", "--config=map_name=8x8"]);
    assert_eq!(keys(&lake), KEYS);
    assert_eq!((&lake["name"], &lake["interface"]), (&json!("frozenlake"), &json!("0.1.0")));
    assert_eq!((&lake["max_episode_steps"], &lake["reward_threshold"]), (&json!(200), &json!(0.85)));
    assert!(lake["observation_space"].to_string().contains("64"), "{}", lake["observation_space"]);
    let rows = lake["config"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["key"].as_str().unwrap()).collect::<Vec<_>>().len(), 5);
    rows.iter().for_each(|row| assert_eq!(keys(row), ["key", "type", "default", "range", "doc"]));
    let unknown = json(&["inspect", &guest("create-fail")]);
    assert_eq!(keys(&unknown), KEYS);
    assert_eq!(unknown["observation_space"], Value::Null);
    assert!(unknown["spaces_unknown"].as_str().unwrap().contains("the simulator is not installed"));
}

// ── Shares ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Env i of N plays its share from seed + i, whatever the others do: as it would alone.
#[test]
fn shares_are_those_of_single_envs() {
    let table: &[(&str, u64, &str, &[u64])] = &[
        ("cartpole", 10, "--steps", &[4, 3, 3]),
        ("cartpole", 100, "--steps", &[34, 33, 33]),
        ("frozenlake", 2, "--steps", &[1, 1, 0, 0]),
        ("blackjack", 0, "--steps", &[0, 0]),
        ("cartpole", 5, "--episodes", &[2, 2, 1]),
        ("blackjack", 1, "--episodes", &[1, 0]),
        ("frozenlake", 33, "--episodes", &[3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
    ];
    for (number, (plugin, total, unit, shares)) in table.iter().enumerate() {
        let mode = ["--autoreset=next-step", "--autoreset=same-step", "--autoreset=disabled"][number % 3];
        let play = |envs: usize, total: u64, seed: usize| {
            let (envs, total, seed) = (format!("--envs={envs}"), format!("{unit}={total}"), format!("--seed={seed}"));
            json(&["run", plugin, &envs, &total, &seed, mode])
        };
        let together = play(shares.len(), *total, 70);
        let what = format!("{plugin} {unit} {total} {mode}");
        let done = together[unit.trim_start_matches('-')].as_u64();
        assert_eq!(done, Some(*total), "{what}");
        let mut steps = 0;
        for (env, share) in shares.iter().enumerate() {
            let alone = play(1, *share, 70 + env);
            assert_eq!(together["digests"][env], alone["digests"][0], "{what}: env {env}");
            steps += alone["steps"].as_u64().unwrap();
        }
        assert_eq!(together["steps"].as_u64(), Some(steps), "{what}");
    }
}

/// A reset is no step, and ends of episodes are the same in every mode; under `disabled` the run itself resets.
#[test]
fn every_autoreset_mode_plays_the_same_episodes() {
    for goal in ["--episodes=12", "--steps=200"] {
        let play = |mode: &str| json(&["run", "cartpole", "--seed=4", "--envs=2", goal, "--autoreset", mode]);
        let [next, same, disabled] = ["next-step", "same-step", "disabled"].map(play);
        for key in ["steps", "episodes", "return", "length", "faults_total"] {
            assert_eq!((&next[key], &next[key]), (&same[key], &disabled[key]), "{goal}: {key}");
        }
        assert!(next["episodes"].as_u64().unwrap() >= 4, "{goal}");
    }
}

#[test]
fn a_time_limit_can_be_set() {
    let ends = json(&["run", "cartpole", "--seed=4", "--envs=2", "--episodes=12", "--max-episode-steps=3"]);
    assert_eq!(ends["length"], json!({"mean": 3.0, "min": 3.0, "max": 3.0}));
    assert_eq!((&ends["steps"], &ends["episodes"]), (&json!(36), &json!(12)));
    // Longer than the env's own, too: never fallen, it would stop at 20.
    let masked = json(&["run", &guest("masked"), "--seed=4", "--episodes=2", "--max-episode-steps=33"]);
    assert_eq!(masked["length"]["min"], json!(33.0));
    // None: it goes on for all steps there are.
    let endless = json(&["run", "pendulum", "--seed=4", "--steps=450", "--max-episode-steps=none"]);
    assert_eq!((&endless["steps"], &endless["episodes"]), (&json!(450), &json!(0)));
    let cut = json(&["run", "pendulum", "--seed=4", "--steps=450"]);
    assert_eq!((&cut["steps"], &cut["episodes"]), (&json!(450), &json!(2)));
}

#[test]
fn a_drawn_seed_is_said_and_plays_the_same_again() {
    let ran = run(&["run", "cartpole", "--episodes=3", "--json"]);
    let drawn = object(&ran);
    let seed = drawn["seed"].as_u64().unwrap();
    assert_eq!(ran.stderr, format!("seed: {seed} was drawn; `--seed {seed}` plays the same again\n"));
    assert!(seed < 1 << 53, "readers that keep numbers as doubles lose it");
    let again = json(&["run", "cartpole", "--episodes=3", &format!("--seed={seed}")]);
    assert_eq!((&drawn["digest"], &drawn["digests"]), (&again["digest"], &again["digests"]));
    let other = object(&run(&["run", "cartpole", "--episodes=3", "--json"]));
    assert_ne!(drawn["seed"], other["seed"]);
    // The last seed there is.
    json(&["run", "cartpole", "--steps=2", "--envs=2", "--seed=18446744073709551614"]);
}

// ── Policies ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// One of each kind of value: what a file says is what the envs are given.
#[test]
fn a_file_of_actions_is_played() {
    let first = json!({
        "which": 11, "levers": [[1, 0], [8, 2]], "bits": [[0, 1, 0], [1, 0, 1]], "say what": "hey",
        "push": [0.25, "Infinity"], "pair": [2, -100],
    });
    let second = json!({
        "pair": [0, 100], "push": [-1, 0], "say what": "", "bits": [[1, 1, 1], [0, 0, 0]], "levers": [[0, -1], [5, 0]],
        "which": 13,
    });
    let lines = [json!([first, second]), json!([second, first]), json!([first, first])];
    let text: String = lines.iter().map(|line| format!("{line}\n\n")).collect();
    let scratch = Scratch::new("cli-actions");
    let file = scratch.file("a.jsonl", text);
    let spaces = guest("spaces");
    let played = json(&["run", &spaces, "--seed=5", "--envs=2", "--steps=100", "--policy", file.to_str().unwrap()]);
    assert_eq!((&played["steps"], &played["incomplete"]), (&json!(6), &Value::Null));

    let mut envs = builder(fixture("spaces")).envs(2).seed(5).build().unwrap();
    let layout = envs.spec().action_space.layout();
    envs.reset(None).unwrap();
    for line in &lines {
        let mut actions = vec![0; 2 * layout.stride];
        for (action, value) in actions.chunks_mut(layout.stride).zip(line.as_array().unwrap()) {
            layout.from_json(value, action).unwrap();
        }
        envs.step(&actions).unwrap();
    }
    let digests: Vec<String> = envs.digests().iter().map(ToString::to_string).collect();
    assert_eq!(played["digests"], json!(digests));
}

/// What ends first, file or share, ends the run.
#[test]
fn a_file_ends_a_run_or_the_share_does() {
    let scratch = Scratch::new("cli-file-ends");
    let file = scratch.file("a.jsonl", "[0, 1]\n".repeat(6));
    let play = |goal: &str| {
        let file = file.to_str().unwrap();
        let object = json(&["run", "cartpole", "--seed=5", "--envs=2", goal, "--policy", file]);
        assert_eq!(object["incomplete"], Value::Null);
        object["steps"].as_u64().unwrap()
    };
    assert_eq!(["--episodes=50", "--steps=50", "--steps=12", "--steps=7", "--steps=0"].map(play), [12, 12, 12, 7, 0]);
}

/// The entry of an env that a step only resets is ignored, and so is that of one whose share is done; nothing else is.
#[test]
fn entries_that_nobody_plays_are_not_read() {
    let scratch = Scratch::new("cli-ignored");
    // Who sticks ends the episode, so every second step of next-step is a reset.
    let skips = scratch.file("skips.jsonl", "[0]\n[\"a reset\"]\n[0]\n[null]\n[0]\n");
    let plain = scratch.file("plain.jsonl", "[0]\n[0]\n[0]\n");
    let done = scratch.file("done.jsonl", "[1, 1]\n[1, 1]\n[1, \"done\"]\n");
    let play = |file: &Path, mode: &str| {
        run(&["run", "blackjack", "--seed=1", "--json", "--policy", file.to_str().unwrap(), "--autoreset", mode])
    };
    let returns = |ran: &Ran| {
        let object = object(ran);
        assert_eq!((&object["steps"], &object["episodes"]), (&json!(3), &json!(3)), "{ran:?}");
        object["return"].clone()
    };
    let next = returns(&play(&skips, "next-step"));
    // The other modes have no such steps: a reset by the run takes no line.
    for mode in ["same-step", "disabled"] {
        assert_eq!(returns(&play(&plain, mode)), next, "{mode}");
        let ran = play(&skips, mode);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{mode}");
        let expected = format!("{}:2: env 0: expected an integer, got \"a reset\"\n", skips.display());
        assert!(ran.stderr.contains(&expected), "{mode}: {ran:?}");
    }
    // Env 1 has had its two steps.
    json(&["run", "cartpole", "--seed=1", "--envs=2", "--steps=5", "--policy", done.to_str().unwrap()]);
}

/// File, line and env, what was given and what is allowed; nothing on stdout.
#[test]
fn a_wrong_line_is_named() {
    let scratch = Scratch::new("cli-lines");
    let [spaces, masked, ours] = [guest("spaces"), guest("masked"), "cartpole".to_owned()];
    let whole = r#"{"which": 11, "levers": [[1, 0], [8, 2]], "bits": [[0, 1, 0], [1, 0, 1]], "say what": "hey", "push": [0, 0], "pair": [2, 0]}"#;
    let with = |from: &str, to: &str| {
        assert!(whole.contains(from));
        format!("[{}]\n", whole.replace(from, to))
    };
    let table: Vec<(&str, &str, String)> = vec![
        (&ours, "1", "[0]\n[2]\n".to_owned()),
        (&ours, "1", "[0]\n\n[-1]\n".to_owned()),
        (&ours, "1", "[0.5]\n".to_owned()),
        (&ours, "1", "[true]\n".to_owned()),
        (&ours, "1", "[[0]]\n".to_owned()),
        (&ours, "1", "[null]\n".to_owned()),
        (&ours, "1", "[\"\u{1b}[2J\u{202e}\"]\n".to_owned()),
        (&ours, "2", "[0, 1]\n[0]\n".to_owned()),
        (&ours, "2", "[0, 1]\n[0, 7]\n".to_owned()),
        (&ours, "1", "0\n".to_owned()),
        (&ours, "1", "{}\n".to_owned()),
        (&ours, "1", "[0\n".to_owned()),
        (&ours, "1", "[0] [0]\n".to_owned()),
        (&ours, "1", "random\n".to_owned()),
        (&ours, "1", format!("{}0{}\n", "[".repeat(500), "]".repeat(500))),
        (&masked, "1", "[0]\n[0]\n".to_owned()),
        (&spaces, "1", with("\"which\": 11", "\"which\": 9")),
        (&spaces, "1", with("\"which\": 11, ", "")),
        (&spaces, "1", with("\"which\": 11", "\"which\": 11, \"witch\": 1")),
        (&spaces, "1", with("[[1, 0], [8, 2]]", "[[1, 0], [8, 5]]")),
        (&spaces, "1", with("[[1, 0], [8, 2]]", "[1, 0, 8, 2]")),
        (&spaces, "1", with("[[0, 1, 0], [1, 0, 1]]", "[[0, 1, 0], [1, 0, 2]]")),
        (&spaces, "1", with("\"hey\"", "7")),
        (&spaces, "1", with("\"hey\"", "\"seven letters\"")),
        (&spaces, "1", with("\"hey\"", "\"\\u001b[2J\"")),
        (&spaces, "1", with("\"push\": [0, 0]", "\"push\": [1.5, 0]")),
        (&spaces, "1", with("\"push\": [0, 0]", "\"push\": [\"NaN\", 0]")),
        (&spaces, "1", with("\"push\": [0, 0]", "\"push\": [0]")),
        (&spaces, "1", with("\"pair\": [2, 0]", "\"pair\": [2, 101]")),
        (&spaces, "1", with("\"pair\": [2, 0]", "\"pair\": {\"0\": 2}")),
    ];
    let mut all = String::new();
    for (plugin, envs, text) in table {
        scratch.file("a.jsonl", &text);
        let arguments = ["run", plugin, "--seed=1", "--policy=a.jsonl", "--envs", envs];
        let ran = within(30, command(&arguments).current_dir(scratch.folder()));
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{text}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: a.jsonl:"), "{text}: {}", ran.stderr);
        assert_harmless(&ran.stderr, &text);
        let shown: Vec<String> = text.lines().map(|line| line.chars().take(200).collect()).collect();
        all.push_str(&format!("{}\n{}\n", shown.join("\n").replace(['\u{1b}', '\u{202e}'], "?"), ran.stderr));
    }
    snapshot("wrong_lines", &all);
}

#[test]
fn zeros_are_zeros() {
    let scratch = Scratch::new("cli-zeros");
    let file = scratch.file("a.jsonl", "[0, 0]\n".repeat(30));
    let play = |policy: &str| json(&["run", "frozenlake", "--seed=2", "--envs=2", "--steps=40", "--policy", policy]);
    let [zeros, read, random] = ["zeros", file.to_str().unwrap(), "random"].map(play);
    assert_eq!(zeros["digests"], read["digests"]);
    assert_ne!(zeros["digests"], random["digests"]);
}

/// The guest refuses what its mask forbids, and that would be a usage error.
#[test]
fn policies_keep_to_the_mask() {
    let [masked, spaces] = [guest("masked"), guest("spaces")];
    for mode in ["next-step", "same-step", "disabled"] {
        for policy in ["random", "zeros"] {
            let more = ["--seed=9", "--envs=3", "--steps=3000", "--autoreset", mode, "--policy", policy];
            for plugin in [&[masked.as_str()][..], &[&spaces, "--config=masked=true"]] {
                let object = json(&[&["run"], plugin, &more].concat());
                assert_eq!((&object["steps"], &object["faults_total"]), (&json!(3000), &json!(0)), "{plugin:?} {mode}");
            }
        }
    }
}

// ── Pictures and logs ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_picture_is_a_png() {
    let scratch = Scratch::new("cli-png");
    let trap = guest("trap");
    for (plugin, width, height) in [("cartpole", 600_u32, 400_u32), (&trap, 4, 2)] {
        let path = scratch.folder().join("a.png");
        json(&["run", plugin, "--seed=1", "--steps=3", "--render", path.to_str().unwrap()]);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..16], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "{plugin}");
        assert_eq!(bytes[16..24], [width.to_be_bytes(), height.to_be_bytes()].concat(), "{plugin}");
        // Eight bits each of red, green and blue.
        assert_eq!(bytes[24..26], [8, 2], "{plugin}");
        assert!(bytes.ends_with(b"\0\0\0\0IEND\xaeB`\x82"), "{plugin}");
    }
}

/// The delays of a GIF's frames, in hundredths of a second, and what is on the screen at last, as RGB.
fn read_gif(path: &std::path::Path) -> (Vec<u16>, Vec<u8>) {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(std::fs::File::open(path).unwrap()).unwrap();
    let width = usize::from(decoder.width());
    let (mut delays, mut screen) = (Vec::new(), vec![0; width * usize::from(decoder.height()) * 3]);
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        delays.push(frame.delay);
        let [left, top, columns] = [frame.left, frame.top, frame.width].map(usize::from);
        for (at, pixel) in frame.buffer.chunks_exact(4).enumerate() {
            let to = ((at / columns + top) * width + at % columns + left) * 3;
            screen[to..to + 3].copy_from_slice(&pixel[..3]);
        }
    }
    (delays, screen)
}

#[test]
fn a_gif_is_the_first_episode_of_env_0() {
    let scratch = Scratch::new("cli-gif");
    let path = scratch.folder().join("a.gif");
    let shown = path.to_str().unwrap();
    let length = json(&["run", "cartpole", "--seed=7", "--episodes=1"])["length"]["mean"].as_f64().unwrap();
    let plain = json(&["run", "cartpole", "--seed=7", "--envs=2", "--episodes=5"]);
    assert_eq!(plain["picture"], serde_json::Value::Null);
    for (mode, frames) in [("next-step", length + 1.0), ("disabled", length + 1.0), ("same-step", length)] {
        let drawn =
            json(&["run", "cartpole", "--seed=7", "--envs=2", "--episodes=5", "--autoreset", mode, "--render", shown]);
        assert_eq!(drawn["digest"], plain["digest"], "{mode}: pictures change nothing");
        assert_eq!(drawn["picture"]["frames"].as_f64(), Some(frames), "{mode}: {}", drawn["picture"]);
        assert_eq!((&drawn["picture"]["width"], &drawn["picture"]["height"]), (&600.into(), &400.into()));
        let (delays, _) = read_gif(&path);
        assert_eq!(Some(delays.len() as f64), drawn["picture"]["frames"].as_f64());
        // 50 a second, and the last one stays for a second.
        let (last, others) = delays.split_last().unwrap();
        assert!(*last == 100 && others.iter().all(|delay| *delay == 2), "{mode}: {delays:?}");
    }

    // The last frame is the state in which the episode ends, pixel for pixel that of a PNG.
    json(&["run", "taxi", "--seed=3", "--steps=20", "--render", shown]);
    let png = scratch.folder().join("a.png");
    json(&["run", "taxi", "--seed=3", "--steps=20", "--render", png.to_str().unwrap()]);
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&png).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    assert!(read_gif(&path).1 == pixels, "the GIF's last frame is not the PNG");
}

#[test]
fn a_gif_ends_where_it_has_to() {
    let scratch = Scratch::new("cli-gif-ends");
    let path = scratch.folder().join("a.gif");
    let run = |arguments: &[&str]| {
        let more = ["--seed=1", "--json", "--render", path.to_str().unwrap()];
        let ran = Rollcage::run([&["run"], arguments, &more].concat());
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
        (ran.status, report["picture"].clone(), report["incomplete"].clone())
    };
    let frames = |picture: &serde_json::Value| picture["frames"].as_u64();
    // A thousand frames, however long the episode.
    let (_, picture, _) = run(&["mountaincar", "--max-episode-steps=1200", "--episodes=1", "--policy=zeros"]);
    assert_eq!((frames(&picture), read_gif(&path).0.len()), (Some(1000), 1000));
    // No step: the first state.
    assert_eq!(frames(&run(&["mountaincar", "--steps=0"]).1), Some(1));
    assert_eq!(read_gif(&path).0, [100]);
    // A fault: what there was before, and the run goes on.
    let trap = guest("trap");
    let (status, picture, incomplete) = run(&[&trap, "--steps=20"]);
    assert_eq!((status, frames(&picture), incomplete), (Some(0), Some(4), serde_json::Value::Null));
    // A picture that cannot be had: the run goes on, and says so at its end.
    let (status, picture, incomplete) = run(&[&trap, "--steps=20", "--config=in_call=render"]);
    assert_eq!((status, picture), (Some(1), serde_json::Value::Null));
    assert!(incomplete.as_str().unwrap().contains("a.gif"), "{incomplete}");
    // No picture at all, since there was no state.
    let (status, picture, incomplete) = run(&[&trap, "--steps=20", "--config=in_call=reset", "--on-fault=mask"]);
    assert_eq!((status, picture), (Some(1), serde_json::Value::Null));
    assert!(incomplete.as_str().unwrap().contains("env 0 is masked"), "{incomplete}");
}

#[test]
fn a_picture_of_text_is_what_the_env_shows() {
    let scratch = Scratch::new("cli-txt");
    let actions = scratch.file("a.jsonl", "[2]\n[1]\n");
    let path = scratch.folder().join("a.txt");
    let [actions, shown] = [actions.to_str().unwrap(), path.to_str().unwrap()];
    let calm = "--config=is_slippery=false";
    json(&["run", "frozenlake", "--seed=1", "--steps=1", calm, "--policy", actions, "--render", shown]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "  (Right)\nS\u{1b}[41mF\u{1b}[0mFF\nFHFH\nFFFH\nHFFG\n");
    // Colours stay in a picture, and nothing else that acts.
    json(&["run", &guest("escape"), "--seed=1", "--steps=1", "--config=at=-1", "--render", shown]);
    let vile = std::fs::read_to_string(&path).unwrap();
    assert!(vile.contains("\u{1b}[31mred") && vile.ends_with("\u{1b}[0m\n"), "{vile:?}");
    let plain = vile.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "");
    assert!(plain.starts_with("\\u{1b}[2J\\u{1b}]0;owned"), "{vile:?}");
    assert_harmless(plain.split('\n').next().unwrap(), &"a.txt");
}

#[test]
fn logs_are_shown_by_env() {
    let logs = guest("logs");
    let ran = run(&["run", &logs, "--seed=1", "--envs=2", "--episodes=2", "--config=bytes=60", "--logs"]);
    let line = |env: u32, number: u32| format!("[env {env}] log line {number:012}\n");
    let expected: String = (0..2).flat_map(|env| (0..3).map(move |number| line(env, number))).collect();
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), expected.as_str()));
    assert!(!ran.stdout.contains("log line"));
    // Shown on demand alone.
    let ran =
        run(&["run", &logs, "--seed=1", "--envs=2", "--episodes=2", "--config=bytes=60", "--config=stream=stdout"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    assert!(!ran.stdout.contains("log line"));
    // The newest are kept; what is dropped is counted. 9,091 lines of 22 bytes are 200,002.
    let ran = run(&["run", &logs, "--seed=1", "--episodes=1", "--config=bytes=200000", "--logs"]);
    let mut lines = ran.stderr.lines();
    let first = lines.next().unwrap();
    let dropped =
        first.strip_prefix("[env 0] (").and_then(|rest| rest.strip_suffix(" bytes before this were dropped)"));
    let dropped: usize = dropped.unwrap_or_else(|| panic!("{first}")).replace(',', "").parse().unwrap();
    let kept: usize = lines.clone().map(|line| line.strip_prefix("[env 0] ").unwrap().len() + 1).sum();
    assert_eq!(dropped + kept, 200_002);
    assert_eq!(lines.last(), Some("[env 0] log line 000000009090"));
}

// ── Text of guests and of users ─────────────────────────────────────────────────────────────────────────────────────

/// Every way by which a guest's text comes to the terminal, with and without `--json`.
#[test]
fn no_text_of_a_guest_acts_on_a_terminal() {
    let scratch = Scratch::new("cli-escape");
    let escape = guest("escape");
    let picture = scratch.folder().join("a.txt");
    for arguments in [&["inspect", &escape][..], &["inspect", &escape, "--json"]] {
        let ran = run(arguments);
        assert_eq!(ran.status, Some(0), "{arguments:?}");
        assert!(ran.stdout.contains("owned"));
        assert_both_harmless(&ran, &arguments);
    }
    let mut said = 0;
    for through in ["log", "panic", "failed", "restart", "refusal", "extra"] {
        for in_call in ["create", "reset", "step", "render", "close"] {
            for more in [&["--on-fault=raise", "--json"][..], &["--on-fault=mask", "--logs"]] {
                let config = [format!("--config=through={through}"), format!("--config=in_call={in_call}")];
                let mut arguments = vec!["run", &escape, "--seed=1", "--episodes=2", &config[0], &config[1]];
                arguments.extend(["--render", picture.to_str().unwrap()]);
                arguments.extend(more);
                let ran = run(&arguments);
                assert!(matches!(ran.status, Some(0..=2)), "{arguments:?}: {ran:?}");
                assert_both_harmless(&ran, &arguments);
                said += usize::from(ran.stderr.contains("owned"));
                if ran.status != Some(2) && more.contains(&"--json") {
                    // A reader of the object gets back what was said.
                    let config = object(&ran)["config"]["colour"].clone();
                    assert!(config.as_str().unwrap().starts_with("\u{1b}[2J\u{1b}]0;owned\u{7}"), "{arguments:?}");
                }
            }
        }
    }
    assert!(said >= 20, "only {said} runs had anything to escape");
    // As it happens, with a budget for it.
    let ran = run(&["run", &escape, "--seed=1", "--episodes=2", "--config=through=panic", "--logs"]);
    assert!(ran.stderr.contains("  log: \\u{1b}[2J\\u{1b}]0;owned\\u{7}"), "{}", ran.stderr);
    assert_both_harmless(&ran, &"panic");
    let ran = run(&["run", &guest("create-fail"), "--seed=1", "--config=what=keys-control"]);
    assert_eq!(ran.status, Some(1));
    assert_both_harmless(&ran, &"keys-control");
}

/// Nor does what the user typed: it may come from a script, or from a name that somebody else gave a file.
#[test]
fn no_text_of_a_user_acts_on_a_terminal() {
    const VILE: &str = "a\u{1b}[2J\u{9b}31m\u{202e}b\r\nerror: all is well\n";
    let scratch = Scratch::new("cli-vile");
    let with = |before: &str, after: &str| format!("{before}{VILE}{after}");
    let plugin = with("", ".wasm");
    scratch.file(&plugin, std::fs::read(fixture_path("trap")).unwrap());
    scratch.file(&with("not-", ".wasm"), "");
    scratch.file(&with("", ".toml"), "sutton_barto_reward = 1\n");
    scratch.file(&with("broken-", ".toml"), format!("a = '{VILE}"));
    scratch.file("vile.yaml", "\"a\\e[2J\\u202e\": 1\n");
    scratch.file(&with("", ".jsonl"), "[7]\n");
    for arguments in [
        vec!["run".to_owned(), plugin.clone(), "--seed=1".to_owned(), "--episodes=1".to_owned()],
        vec!["run".to_owned(), plugin.clone(), "--seed=1".to_owned(), "--episodes=1".to_owned(), "--json".to_owned()],
        vec!["inspect".to_owned(), plugin.clone()],
        vec!["inspect".to_owned(), plugin, "--json".to_owned()],
        vec!["run".to_owned(), with("not-", ".wasm")],
        vec!["run".to_owned(), with("nowhere/", ".wasm")],
        vec!["run".to_owned(), VILE.to_owned()],
        vec![VILE.to_owned()],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--", "")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--config=", "=1")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--config='", "'=1")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--config=sutton_barto_reward=", "")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--config-file=", ".toml")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--config-file=broken-", ".toml")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--config-file=nowhere-", ".toml")],
        vec!["run".to_owned(), "cartpole".to_owned(), "--config-file=vile.yaml".to_owned()],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--policy=", "")],
        vec!["run".to_owned(), "cartpole".to_owned(), "--seed=1".to_owned(), with("--policy=", ".jsonl")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--render=", ".png")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--render=nowhere/", "/a.png")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--render=", ".txt")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--memory=", "")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--step-timeout=", "")],
        vec!["run".to_owned(), "cartpole".to_owned(), with("--autoreset=", "")],
    ] {
        let mut command = Rollcage::command();
        let ran = within(60, command.args(&arguments).current_dir(scratch.folder()));
        assert!(matches!(ran.status, Some(0..=2)), "{arguments:?}: {ran:?}");
        assert_both_harmless(&ran, &arguments);
    }
    let folder = scratch.folder().join(VILE);
    let mut command = Rollcage::command();
    let ran = within(60, command.args(["run", "cartpole", "--steps=1", "--seed=1"]).env("ROLLCAGE_CACHE", &folder));
    assert_eq!(ran.status, Some(0), "{ran:?}");
    // Damaged, it is named in a warning.
    for entry in std::fs::read_dir(&folder).unwrap() {
        std::fs::write(entry.unwrap().path(), "damaged").unwrap();
    }
    let mut command = Rollcage::command();
    let ran = within(60, command.args(["run", "cartpole", "--steps=1", "--seed=1"]).env("ROLLCAGE_CACHE", &folder));
    assert!(ran.stderr.contains("damaged"), "{ran:?}");
    assert_both_harmless(&ran, &"the cache's folder");
    let mut command = Rollcage::command();
    let ran = within(60, command.arg("doctor").env("ROLLCAGE_CACHE", &folder));
    assert_both_harmless(&ran, &"doctor");
}

/// The library's own programs have no command line: what a worker is started from is said when it is none.
#[test]
fn a_worker_program_must_be_one() {
    let build = |path: &str| shipped("cartpole").worker(path).build().err().unwrap().to_string();
    assert_eq!(build("/nowhere/rollcage"), "worker program `/nowhere/rollcage`: no such file");
    assert_eq!(build("/bin/false"), "worker program `/bin/false` ended before it said hello");
    assert!(program().exists());
}

/// `ulimit -s 64`: workers and program make their stacks larger, if they may; else it is said before anything is started.
#[test]
fn a_stack_limit_of_64_kib_is_raised_or_told() {
    let run = |flags: &str| {
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit {flags} 64 && exec \"$0\" run cartpole --steps 10 --seed 1 --no-cache --envs 2");
        within(100, command.args(["-c", &script]).arg(program()).stdin(std::process::Stdio::null()))
    };
    let ran = run("-S -s");
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    // Soft and hard.
    let ran = run("-s");
    let mays = std::fs::read_to_string("/proc/self/status").unwrap();
    let mays = mays.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let may_raise = u64::from_str_radix(mays, 16).unwrap() & 1 << 24 != 0;
    if may_raise {
        assert_eq!(ran.status, Some(0), "{ran:?}");
    } else {
        assert_eq!(ran.status, Some(2), "{ran:?}");
        assert!(ran.stderr.contains("the hard limit of the stack is 64 KiB"), "{ran:?}");
    }
}

#[test]
fn what_is_told_on_stderr_can_be_less_more_or_colored() {
    let play = ["run", "cartpole", "--steps=20", "--seed=1"];
    let with = |more: &[&str]| run(&[&play, more].concat());
    let quiet = with(&["-q"]);
    assert_eq!((quiet.status, quiet.stderr.as_str()), (Some(0), ""));
    assert!(with(&["-q", "--walls=none"]).stderr.contains("NO SANDBOX"), "that is told in any case");
    let loud = with(&["-v"]);
    assert!(loud.stderr.contains("note: envs started by ") && loud.stderr.contains("sandbox level"), "{loud:?}");
    assert!(with(&["-v", "-q"]).status == Some(2), "one of both");
    // Errors are told in any case; with --json the last line is an object.
    let wrong = run(&["run", "nowhere", "--quiet", "--json"]);
    assert!(wrong.stderr.starts_with("error: plugin `nowhere`") && !wrong.stderr.contains("hint: "), "{wrong:?}");
    for arguments in [["run", "nowhere", "--json"], ["doctor", "--json", "--fly"], ["list", "--json", "more"]] {
        let wrong = run(&arguments);
        let object: Value = serde_json::from_str(wrong.stderr.lines().last().unwrap()).unwrap();
        assert_eq!((object["status"].as_i64(), wrong.status), (Some(2), Some(2)), "{arguments:?}");
        assert!(wrong.stderr.contains(&format!("error: {}", object["error"].as_str().unwrap())), "{wrong:?}");
        assert!(object["hints"].as_array().unwrap().iter().all(Value::is_string));
    }
    let colored = run(&["run", "nowhere", "--color=always"]);
    assert!(colored.stderr.starts_with("\u{1b}["), "{colored:?}");
    assert!(run(&["run", "nowhere", "--color=never"]).stderr.starts_with("error: "));
}

#[test]
fn every_command_has_json_completions_and_a_page() {
    let folder = Scratch::new("cli-pages");
    let pages = folder.folder().to_str().unwrap();
    let object = json(&["man", pages]);
    let names: Vec<&str> = object["pages"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let help = run(&["--help"]).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|word| !word.is_empty()))
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 12, "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).stdout;
        assert!(
            commands.iter().all(|command| script.contains(command)) && script.contains("require-sandbox"),
            "{shell}"
        );
    }
    for command in commands {
        let page = format!("rollcage-{command}.1");
        assert!(names.contains(&page.as_str()), "{page}: {names:?}");
        assert!(std::fs::read_to_string(folder.folder().join(page)).unwrap().contains(".SH"), "{command}");
        // `key` and `cache` have it below; what `lease` runs has the output.
        let help = run(&[command, "--help"]).stdout;
        assert!(help.contains("--json") || matches!(command, "key" | "cache" | "lease"), "{command}");
    }
}
