//! Wall 2, seen from both sides: what an intruder behind it gets done (nothing), and what an honest worker still does.
//!
//! `SECURITY.md` lists the attempts and says which wall stops each alone; a test here compares.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rollcage::cage::seccomp::{Allow, Answer, Argument, Of, Purpose, TABLE};
use rollcage::record::writer::Record;
use rollcage::replay::folder::Rollout;
use rollcage::replay::how::Replaying;
use rollcage::replay::rerun::replay;
use rollcage::{Access, Error, Grant, OnFault, Plugin, Standing, Start, VecEnv, Wall, Walls, cage};
use rollcage_tests::attempts::{ATTEMPTS, Alone, Attempt, DIRECTORY_ATTEMPTS, Stopped};
use rollcage_tests::{
    Process, Rollcage, Scratch, builder, cache, discrete, fixture, fixture_path, is_root, program, root, shipped,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Nobody's user id: as ordinary as a user can be.
const NOBODY: u32 = 65534;

/// The intruder, where every user can start it.
struct Intruder {
    program: PathBuf,
    folder: Scratch,
    scenes: AtomicUsize,
}

impl Intruder {
    fn new(name: &str) -> Intruder {
        let folder = Scratch::for_every_user(&format!("walls-{name}"));
        let program = folder.folder().join("intruder");
        std::fs::copy(env!("CARGO_BIN_EXE_intruder"), &program).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        Intruder { program, folder, scenes: AtomicUsize::new(0) }
    }

    /// One deed, in a scene of its own: how it ended.
    fn does(&self, user: Option<u32>, column: &str, entry: &str, omitted: &str, deed: &str) -> String {
        let scene = self.folder.folder().join(self.scenes.fetch_add(1, Relaxed).to_string());
        let mut command = Command::new(&self.program);
        command.args(["host", column, entry, omitted, deed]).arg(&scene).stdin(Stdio::null());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(!said.is_empty(), "{column} {deed}: {}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

/// Runs all items on both cores, since each is a few processes that wait for one another.
fn each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = Mutex::new(items.iter());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let item = next.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                    let Some(item) = item else { return };
                    work(item);
                }
            });
        }
    });
}

// ── The intruder's table ────────────────────────────────────────────────────────────────────────────────────────────

/// Refused by a wall, and not a scene that could not be set.
fn is_denied(end: &str) -> bool {
    end.starts_with("denied: ") || end.starts_with("signal 31") || end.starts_with("signal 25")
}

#[test]
fn every_attempt_fails_behind_the_walls_and_succeeds_outside() {
    let intruder = Intruder::new("attempts");
    let users: &[(&str, Option<u32>)] =
        if is_root() { &[("root", None), ("ordinary", Some(NOBODY))] } else { &[("ordinary", None)] };
    let mut runs: Vec<(&Attempt, &str, Option<u32>, &str)> = Vec::new();
    for attempt in ATTEMPTS {
        for (name, user) in users {
            runs.extend(["outside", "all", "no-landlock", "no-seccomp"].map(|column| (attempt, *name, *user, column)));
            // What an older Landlock alone stops; none of it is looked at above.
            runs.extend(VERSIONS.map(|column| (attempt, *name, *user, column)));
        }
    }
    // What is another wall's is only looked at where the kernel is as old as the table.
    let version = cage::landlock_abi().unwrap_or(0);
    let as_written = (6..=8).contains(&version);
    let wrong = Mutex::new(Vec::new());
    each(&runs, |(attempt, name, user, column)| {
        let end = intruder.does(*user, column, "pure", "-", attempt.name);
        let expected = match *column {
            "outside" => end == "done",
            "all" => is_denied(&end),
            "no-landlock" => is_denied(&end),
            _ => {
                let pretended = column.split_once('@').and_then(|(_, version)| version.parse().ok());
                let stops = attempt.without_seccomp.stops(version.min(pretended.unwrap_or(u32::MAX)));
                // A small wall may stop one user: root's worker may not look into its host, an ordinary one into itself.
                let by_a_small_one = *name == "root" || !as_written || attempt.without_seccomp != Alone::Open;
                is_denied(&end) && (stops || by_a_small_one) || end == "done" && !stops
            }
        };
        if !expected {
            wrong.lock().unwrap().push(format!("{} {column} as {name}: {end}", attempt.name));
        }
    });
    // A copy of a worker that put up the walls, as every env is, and one that may be copied again.
    let copies: Vec<(&Attempt, &str)> =
        ATTEMPTS.iter().flat_map(|attempt| ["copied", "branched"].map(|entry| (attempt, entry))).collect();
    each(&copies, |(attempt, entry)| {
        let end = intruder.does(None, "all", entry, "-", attempt.name);
        if !is_denied(&end) {
            wrong.lock().unwrap().push(format!("{} {entry}: {end}", attempt.name));
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(ATTEMPTS.len() >= 40);
}

/// Landlock of older kernels, without seccomp.
const VERSIONS: [&str; 6] =
    ["no-seccomp@0", "no-seccomp@1", "no-seccomp@2", "no-seccomp@3", "no-seccomp@4", "no-seccomp@5"];

/// What stops the attempts of a worker with a directory, for one that reads it and one that writes it. Without the namespaces,
/// which are not everywhere.
#[test]
fn a_directory_is_confined_from_the_landlock_on_that_level_full_demands() {
    let intruder = Intruder::new("directories");
    let kernel = cage::landlock_abi().unwrap_or(0);
    let users: &[(&str, Option<u32>)] =
        if is_root() { &[("root", None), ("ordinary", Some(NOBODY))] } else { &[("ordinary", None)] };
    let mut runs = Vec::new();
    for attempt in DIRECTORY_ATTEMPTS {
        for (name, user) in users {
            for version in 0..=kernel.min(6) {
                runs.push((attempt.name, "reader", attempt.reader, *name, *user, version));
                runs.push((attempt.name, "writer", attempt.writer, *name, *user, version));
            }
        }
    }
    let (wrong, through) = (Mutex::new(Vec::new()), Mutex::new(BTreeSet::new()));
    each(&runs, |(attempt, entry, stopped, name, user, version)| {
        let end = intruder.does(*user, &format!("no-namespaces@{version}"), entry, "-", attempt);
        let expected = match stopped {
            Stopped::Seccomp => is_denied(&end),
            Stopped::From(from) if version >= from => is_denied(&end),
            Stopped::From(from) => {
                if end == "done" && version + 1 == *from {
                    through.lock().unwrap().insert((*attempt, *entry));
                }
                // A small wall may stop one user: root's worker may not look into its host, an ordinary one into itself.
                end == "done" || is_denied(&end)
            }
            Stopped::Never | Stopped::Granted => end == "done",
        };
        if !expected {
            wrong.lock().unwrap().push(format!("{attempt} {entry} as {name}, Landlock {version}: {end}"));
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // With the version before, each gets through for some user: the row is no guess.
    let from = |stopped| matches!(stopped, Stopped::From(from) if from <= kernel);
    let rows = DIRECTORY_ATTEMPTS
        .iter()
        .flat_map(|attempt| [(attempt.name, "reader", attempt.reader), (attempt.name, "writer", attempt.writer)]);
    let expected: BTreeSet<(&str, &str)> =
        rows.filter(|(_, _, stopped)| from(*stopped)).map(|(name, entry, _)| (name, entry)).collect();
    assert_eq!(through.into_inner().unwrap(), expected);
    // What the level demands is what stops all.
    let latest = DIRECTORY_ATTEMPTS
        .iter()
        .flat_map(|attempt| [attempt.reader, attempt.writer])
        .filter_map(|stopped| if let Stopped::From(version) = stopped { Some(version) } else { None });
    let latest = latest.max().unwrap();
    let standing = |landlock| Standing { walls: Walls::SANDBOX.without(Wall::Landlock), landlock, missing: Vec::new() };
    assert!(standing(latest).confines_directories() && !standing(latest - 1).confines_directories());
}

/// A cell of a table: whether it is stopped.
fn cell(stopped: bool) -> &'static str {
    if stopped { "stops it" } else { "–" }
}

/// The table of attempts, as `SECURITY.md` has it.
fn attempts_in_markdown() -> String {
    let mut text =
        "| attempt | seccomp, without Landlock | without seccomp: no Landlock | 1 | 2 | 3 | 4 | 5 | 6 |\n".to_owned();
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for attempt in ATTEMPTS {
        let cells: Vec<&str> = (0..=6).map(|version| cell(attempt.without_seccomp.stops(version))).collect();
        writeln!(text, "| {} | stops it | {} |", attempt.what, cells.join(" | ")).unwrap();
    }
    text
}

/// The table of attempts of a worker with a directory, as `SECURITY.md` has it.
fn directory_attempts_in_markdown() -> String {
    let mut text = "| attempt | a read-only directory | a writable directory |\n|---|---|---|\n".to_owned();
    let word = |stopped| match stopped {
        Stopped::Seccomp => "seccomp stops it".to_owned(),
        Stopped::From(version) => format!("Landlock stops it, from version {version} on"),
        Stopped::Never => "**nothing stops it**".to_owned(),
        Stopped::Granted => "granted".to_owned(),
    };
    for attempt in DIRECTORY_ATTEMPTS {
        writeln!(text, "| {} | {} | {} |", attempt.what, word(attempt.reader), word(attempt.writer)).unwrap();
    }
    text
}

/// The table of system calls, as `SECURITY.md` has it.
fn calls_in_markdown() -> String {
    let mut text = "| who | call | without it |\n|---|---|---|\n".to_owned();
    for row in TABLE {
        let who = match row.of {
            Of::Every => "every worker",
            Of::Compiler => "compile",
            Of::Env => "env",
            Of::Loading => "env, until its code is loaded",
            Of::Reader => "env with a directory",
            Of::Writer => "env with a writable directory",
            Of::Sleeper => "env with `clock=real`",
            Of::Talker => "env with a socket",
            Of::Listener => "env with a socket that listens",
            Of::Recorder => "env whose recording captures",
            Of::Replayer => "env that is served a capture",
            Of::Carrier => "env of a plugin with assets",
            Of::Copied => "env that may be copied, and what envs are copied from",
            Of::Pristine => "what envs are copied from that may not be copied",
        };
        let denied = if row.answer == Answer::Denied { " (answered `EPERM`)" } else { "" };
        writeln!(text, "| {who} | `{}`{denied} | {} |", row.call, row.why).unwrap();
    }
    text
}

#[test]
fn security_md_has_the_tables() {
    let path = root().join("SECURITY.md");
    let mut page = std::fs::read_to_string(&path).unwrap();
    let tables = [
        ("attempts", attempts_in_markdown()),
        ("directory-attempts", directory_attempts_in_markdown()),
        ("calls", calls_in_markdown()),
    ];
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- {name}: generated -->\n"), format!("<!-- /{name} -->"));
        let at = page.find(&begin).unwrap() + begin.len();
        let to = at + page[at..].find(&end).unwrap();
        if std::env::var_os("ROLLCAGE_UPDATE").is_some() {
            page.replace_range(at..to, &table);
        } else {
            assert_eq!(&page[at..to], table, "`cargo xtask golden` writes it anew");
        }
    }
    if std::env::var_os("ROLLCAGE_UPDATE").is_some() {
        std::fs::write(path, page).unwrap();
    }
}

// ── The table of system calls ───────────────────────────────────────────────────────────────────────────────────────

/// Where a row holds: how far the intruder enters to meet it.
fn entry(of: Of) -> (&'static str, Purpose, bool) {
    let granted = Purpose::GRANTED;
    match of {
        Of::Loading => ("loading", Purpose::PURE, true),
        Of::Compiler => ("compile", Purpose::Compile, true),
        Of::Every | Of::Env => ("pure", Purpose::PURE, false),
        // A directory has another row for the same call, which knows no number.
        Of::Replayer | Of::Carrier => ("replayer", Purpose::REPLAYER, false),
        Of::Reader
        | Of::Writer
        | Of::Sleeper
        | Of::Talker
        | Of::Listener
        | Of::Recorder
        | Of::Copied
        | Of::Pristine => ("granted", granted, false),
    }
}

fn call(number: libc::c_long, registers: [u64; 6]) -> String {
    format!("call:{number}:{}", registers.map(|register| register.to_string()).join(","))
}

/// Whether some row of those that hold lets a call through.
fn is_in_table(number: libc::c_long, registers: [u64; 6], purpose: Purpose, loading: bool) -> bool {
    TABLE.iter().filter(|row| row.number == number && purpose.has(row.of, loading)).any(|row| {
        row.arguments.iter().all(|argument| match *argument {
            Argument::Is(at, value) => registers[usize::from(at)] & 0xffff_ffff == value,
            Argument::Only(at, bits) => registers[usize::from(at)] & !bits == 0,
            Argument::Exactly(at, value) => registers[usize::from(at)] == value,
            Argument::Above(at, value) => registers[usize::from(at)] & 0xffff_ffff > value,
        })
    })
}

#[test]
fn every_row_lets_through_what_it_says_and_no_more() {
    let intruder = Intruder::new("rows");
    let wrong = Mutex::new(Vec::new());
    let refused = AtomicUsize::new(0);
    each(TABLE, |row: &Allow| {
        let (entry, purpose, loading) = entry(row.of);
        let mut registers = [0u64; 6];
        for argument in row.arguments {
            match *argument {
                Argument::Is(at, value) | Argument::Only(at, value) | Argument::Exactly(at, value) => {
                    registers[usize::from(at)] = value
                }
                Argument::Above(at, value) => registers[usize::from(at)] = value + 1,
            }
        }
        // A time that cannot be read: without one it would wait for ever.
        registers[2] |= u64::from(row.call == "ppoll");
        // A signal frame of nothing is a crash, and a crash is no SIGSYS.
        let end = intruder.does(None, "all", entry, "-", &call(row.number, registers));
        if end.starts_with("signal 31") {
            wrong.lock().unwrap().push(format!("{} {registers:?} is refused", row.call));
        }
        for argument in row.arguments {
            let (at, changed) = match *argument {
                Argument::Is(at, value) => (at, vec![value ^ 0x40, value ^ 0x8000_0000]),
                Argument::Above(at, value) => (at, vec![value, 0, 1 << 32]),
                Argument::Exactly(at, value) => (at, vec![value ^ 0x1000, value ^ 1 << 40, value ^ 1 << 63, 0]),
                Argument::Only(at, bits) => {
                    (at, vec![bits | 1 << (!bits).trailing_zeros(), bits | 1 << 40, bits | 1 << 63])
                }
            };
            for value in changed {
                let mut registers = registers;
                registers[usize::from(at)] = value;
                assert!(!is_in_table(row.number, registers, purpose, loading), "{} {registers:?}", row.call);
                let end = intruder.does(None, "all", entry, "-", &call(row.number, registers));
                refused.fetch_add(1, Relaxed);
                if !end.starts_with("signal 31") {
                    wrong.lock().unwrap().push(format!("{} {registers:?} passes: {end}", row.call));
                }
            }
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(refused.into_inner() > 40);
}

#[test]
fn a_call_without_a_row_ends_the_process() {
    /// Past the newest call of Linux 6.18 on x86-64 and aarch64.
    const CALLS: libc::c_long = 480;
    let intruder = Intruder::new("calls");
    for (entry, purpose, loading) in
        [("pure", Purpose::PURE, false), ("compile", Purpose::Compile, true), ("granted", entry(Of::Reader).1, false)]
    {
        let has: BTreeSet<libc::c_long> =
            TABLE.iter().filter(|row| purpose.has(row.of, loading)).map(|row| row.number).collect();
        // Every call for the worker of most envs; for the others those that somebody else has.
        let all: Vec<libc::c_long> = match entry {
            "pure" => (0..CALLS).filter(|number| !has.contains(number)).collect(),
            _ => TABLE.iter().map(|row| row.number).filter(|number| !has.contains(number)).collect(),
        };
        let wrong = Mutex::new(Vec::new());
        // The kernel's own trampolines for `uprobe` and `uretprobe` are let past every filter (Linux 6.14); called from
        // anywhere else they do nothing, or end the process.
        let trampolines: &[libc::c_long] = if cfg!(target_arch = "x86_64") { &[335, 336] } else { &[] };
        each(&all, |number| {
            if trampolines.contains(number) {
                return;
            }
            let end = intruder.does(None, "all", entry, "-", &call(*number, [0; 6]));
            if !end.starts_with("signal 31") {
                wrong.lock().unwrap().push(format!("{entry}: {number}: {end}"));
            }
        });
        let wrong = wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    // The other number spaces of the same processor: x32's.
    if cfg!(target_arch = "x86_64") {
        let end = intruder.does(None, "all", "pure", "-", &call(0x4000_0000 | libc::SYS_getpid, [0; 6]));
        assert!(end.starts_with("signal 31"), "{end}");
    }
}

#[test]
fn what_goes_wrong_in_a_worker_itself_is_told_behind_the_filter() {
    let intruder = Intruder::new("own");
    for (deed, expected, message) in [
        ("log", "done", ""),
        ("clock", "done", ""),
        ("panic", "status 70", "a worker's own panic"),
        // Not by SIGABRT, which it may not send itself: by the forbidden instruction after it.
        ("abort", "signal 11", ""),
        ("overflow", "signal 11", "has overflowed its stack"),
        ("crash", "signal 11", ""),
        ("memory", "signal 11", "memory allocation of 16777216 bytes failed"),
    ] {
        for entry in ["pure", "compile", "granted"] {
            for user in if is_root() { &[None, Some(NOBODY)] } else { &[None][..] } {
                let end = intruder.does(*user, "all", entry, "-", deed);
                assert!(end.starts_with(expected) && end.contains(message), "{entry} {deed}: {end}");
            }
        }
    }
}

/// What an honest worker does, call by call, told in lines; its program may lack a system call.
fn story(program: &Path, folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |what: &str, how: String| lines.push(format!("{what}: {}", how.lines().next().unwrap_or_default()));
    let timeouts = rollcage::Limits { start_timeout: Duration::from_secs(5), ..Default::default() };
    let env = |plugin: Plugin| {
        let limits = timeouts.clone().call_timeouts(Duration::from_secs(5));
        builder(plugin).worker(program).limits(limits).on_fault(OnFault::Raise)
    };

    // Steps, a memory that grows until it is refused, a trap, a panic with its message.
    for name in ["memory", "trap", "panic", "logs"] {
        let mut envs = match env(fixture(name)).build() {
            Ok(envs) => envs,
            Err(error) => {
                tell(name, fault_kind(&error));
                continue;
            }
        };
        let end =
            envs.reset(None).map(drop).and_then(|()| (0..6).try_for_each(|_| envs.step(&discrete(&[0])).map(drop)));
        tell(name, end.err().map_or("no fault".to_owned(), |error| fault_kind(&error)));
    }

    // Stopped and continued while it waits.
    let stop_and_continue = || -> Result<(), Error> {
        let mut envs = env(fixture("echo")).build()?;
        envs.reset(None)?;
        if let Some(pid) = envs.pid(0).and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap())) {
            std::thread::sleep(Duration::from_millis(20));
            // One that is gone is told by the step.
            let stopped = kill_process(pid, Signal::STOP).is_ok();
            std::thread::sleep(Duration::from_millis(20));
            let _ = kill_process(pid, Signal::CONT);
            std::thread::sleep(Duration::from_millis(if stopped { 20 } else { 0 }));
        }
        envs.step(&discrete(&[0])).map(drop)
    };
    tell("stop and continue", stop_and_continue().err().map_or("no fault".to_owned(), |error| fault_kind(&error)));

    // Every operation on files, each in the same env, and a wait in real time.
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::write(folder.join("file"), "some text").unwrap();
    std::os::unix::fs::symlink("file", folder.join("link")).unwrap();
    let dir = |guest: &str, access| Grant::Dir { host: folder.to_owned(), guest: guest.to_owned(), access };
    let operations: &[(&str, Value)] = &[
        ("flags", json!({"path": "file"})),
        ("read", json!({"path": "file"})),
        ("read-stream", json!({"path": "file"})),
        ("write", json!({"path": "new", "text": "x"})),
        ("append-stream", json!({"path": "new", "text": "x"})),
        ("set-size", json!({"path": "new", "size": 1})),
        ("advise", json!({"path": "file"})),
        ("sync", json!({"path": "file"})),
        ("sync-data", json!({"path": "file"})),
        ("list", json!({"path": "."})),
        ("stat", json!({"path": "file"})),
        ("stat-open", json!({"path": "file"})),
        ("readlink", json!({"path": "link"})),
        ("symlink", json!({"path": "made-link", "target": "file"})),
        ("mkdir", json!({"path": "made"})),
        ("rmdir", json!({"path": "made"})),
        ("link", json!({"path": "new", "to": "linked"})),
        ("rename", json!({"path": "linked", "to": "renamed"})),
        ("unlink", json!({"path": "renamed"})),
        ("set-times", json!({"path": "file", "seconds": 1})),
        ("set-times-open", json!({"path": "file", "seconds": 1, "mode": ["write"]})),
        ("write", json!({"path": "immutable", "text": "x"})),
    ];
    let immutable = folder.join("immutable");
    std::fs::write(&immutable, "").unwrap();
    let attribute = |flag: &str| {
        let done = Command::new("chattr").arg(flag).arg(&immutable).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    let fixed = attribute("+i");
    match env(fixture("files")).grant(dir("/data", Access::ReadWrite)).build() {
        Ok(mut envs) => {
            for (method, arguments) in operations {
                let mut arguments = arguments.clone();
                arguments["dir"] = json!("/data");
                let end = envs.call(0, method, &arguments);
                tell(method, end.map_or_else(|error| fault_kind(&error), |value| value.to_string()));
            }
        }
        Err(error) => tell("files", fault_kind(&error)),
    }
    if fixed {
        attribute("-i");
    }
    match env(fixture("probe")).grant(Grant::RealClock).build() {
        Ok(mut envs) => {
            let end = envs.call(0, "sleep", &json!({"ms": 3}));
            tell("sleep", end.map_or_else(|error| fault_kind(&error), |_| "slept".to_owned()));
        }
        Err(error) => tell("probe", fault_kind(&error)),
    }

    // Copies: an env that starts as one, one that is copied itself, and one that gives that up.
    for branching in [true, false] {
        let how = || -> Result<String, Error> {
            let mut envs = env(fixture("echo")).start(Start::Fork).branching(branching).build()?;
            envs.reset(None)?;
            let started = envs.started_by(0);
            let branched = match envs.branch(0, 1) {
                Ok(mut branch) => branch.step(&discrete(&[0])).map(|_| "steps".to_owned()),
                Err(error) => Ok(fault_kind(&error)),
            };
            Ok(format!("{started:?}, {}", branched?))
        };
        tell("copies", how().unwrap_or_else(|error| fault_kind(&error)));
    }

    // What comes in is written down, and served again.
    let recorded = || -> Result<String, Error> {
        let at = folder.join("recorded");
        let made = env(fixture("numbers")).grant(Grant::RealClock).grant(Grant::RealRandom).start(Start::Spawn);
        let mut envs = made.record(Record { folder: at.clone(), embed_plugin: false }).build()?;
        envs.reset(None)?;
        let action = vec![0; envs.spec().action_space.stride()];
        (0..3).try_for_each(|_| envs.step(&action).map(drop))?;
        envs.finish_recording()?;
        drop(envs);
        let how = Replaying { worker: Some(program.to_owned()), cache: Some(cache()), ..Replaying::default() };
        let Ok(rollout) = Rollout::open(&at) else { return Ok("no recording".to_owned()) };
        Ok(match replay(&rollout, &fixture("numbers"), &how, |_| ()) {
            Ok(replayed) => format!("{} steps, {:?}", replayed.steps, replayed.difference.map(|found| found.field)),
            Err(_) => "no replay".to_owned(),
        })
    };
    tell("recorded", recorded().unwrap_or_else(|error| fault_kind(&error)));

    // Files that came with the plugin.
    match env(crate::assets::carrying(&crate::assets::section(&[(b"file", b"text")]))).build() {
        Ok(mut envs) => {
            let end = envs.call(0, "read", &json!({"path": "file", "length": 9}));
            tell("assets", end.map_or_else(|error| fault_kind(&error), |value| value.to_string()));
        }
        Err(error) => tell("assets", fault_kind(&error)),
    }

    // Each use of a socket, as a client of a server of this test's and as a server of a client's.
    let (server, free) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), free_port());
    let at = server.local_addr().unwrap();
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let over = std::sync::Arc::clone(&ended);
    let echo = std::thread::spawn(move || {
        let (Ok((mut stream, _)), false) = (server.accept(), over.load(Relaxed)) else { return };
        let mut heard = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut heard) {
            // Not at once, so that the other side has to wait for it.
            std::thread::sleep(Duration::from_millis(20));
            let _ = stream.write_all(&heard[..count]);
        }
    });
    let grants =
        [format!("tcp-connect={at}"), format!("tcp-listen={free}")].map(|grant| grant.parse::<Grant>().unwrap());
    match env(fixture("talker")).grants(grants.into_iter().collect()).build() {
        Ok(mut envs) => {
            for (method, arguments) in [
                ("connect", json!({"to": at.to_string()})),
                ("say", json!({"text": "hello"})),
                ("end", json!({})),
                ("listen", json!({"at": free.to_string()})),
                ("accept", json!({})),
            ] {
                let client = (method == "accept").then(|| std::net::TcpStream::connect(free));
                // It says nothing, so the env's side ends at once.
                drop(client);
                let end = envs.call(0, method, &arguments);
                let how = end.map_or_else(|error| fault_kind(&error), |value| value["ok"].is_null().to_string());
                tell(method, how);
            }
        }
        Err(error) => tell("talker", fault_kind(&error)),
    }
    ended.store(true, Relaxed);
    drop(std::net::TcpStream::connect(at));
    echo.join().unwrap();
    lines
}

fn free_port() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// How a call failed, without what differs between two runs.
fn fault_kind(error: &Error) -> String {
    match error {
        Error::Fault(fault) => format!("{} {}", fault.kind, fault.message.contains("SIGSYS")),
        Error::Usage(error) => error.message.clone(),
        other => other.to_string(),
    }
}

#[test]
fn no_row_is_there_for_nothing() {
    // Whoever reads the code that is there must not compile: the gaps' workers load what the real program compiled.
    for name in ["memory", "trap", "panic", "logs", "echo", "files", "probe", "talker", "numbers"] {
        builder(fixture(name)).prepare().unwrap();
    }
    builder(crate::assets::carrying(&crate::assets::section(&[(b"file", b"text")]))).prepare().unwrap();
    let folder = Scratch::for_every_user("walls-gaps");
    let intruder = Intruder::new("gaps-own");
    let gap = |row: &str| {
        let program = folder.folder().join(format!("gap-{row}"));
        std::fs::copy(env!("CARGO_BIN_EXE_gap"), &program).unwrap();
        program
    };
    let compile = |program: &Path| match VecEnv::builder(fixture("trap")).worker(program).prepare() {
        Ok(_) => "prepared".to_owned(),
        Err(error) => fault_kind(&error),
    };
    let own = |row: &str| -> Vec<String> {
        let deeds = ["panic", "abort", "clock", "overflow", "memory", "crash"];
        let first = |end: String| end.split(':').next().unwrap_or_default().to_owned();
        deeds.iter().map(|deed| first(intruder.does(None, "all", "pure", row, deed))).collect()
    };
    let whole = gap("all");
    let (told, compiled, owned) = (story(&whole, &folder.folder().join("all")), compile(&whole), own("-"));
    assert!(told.iter().filter(|line| line.contains("ok")).count() > 15, "{told:#?}");
    assert_eq!(compiled, "prepared");

    let idle = Mutex::new(Vec::new());
    let rows: Vec<usize> = (0..TABLE.len()).collect();
    each(&rows, |row| {
        // What sets an immutable file is root's alone, and there are file systems without.
        let immutable = !told.iter().any(|line| line.starts_with("write: {\"error\":\"not-permitted\""));
        if immutable && (TABLE[*row].of, TABLE[*row].call) == (Of::Reader, "openat") {
            return;
        }
        let number = row.to_string();
        let program = gap(&number);
        let needed = own(&number) != owned
            || story(&program, &folder.folder().join(format!("story-{row}"))) != told
            || compile(&program) != compiled;
        if !needed {
            idle.lock().unwrap().push(format!("{row}: {} ({})", TABLE[*row].call, TABLE[*row].why));
        }
        std::fs::remove_file(program).unwrap();
    });
    let idle = idle.into_inner().unwrap();
    assert!(idle.is_empty(), "rows that nothing needs: {idle:#?}");
}

// ── Real runs ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// What the kernel says of a worker behind every wall.
fn is_walled(worker: Process) -> bool {
    let none = "0000000000000000";
    worker.status("Seccomp") == "2"
        && worker.status("NoNewPrivs") == "1"
        && ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].iter().all(|set| worker.status(set) == none)
}

#[test]
fn every_worker_of_a_run_stands_behind_its_walls() {
    let mut envs = shipped("cartpole").envs(3).build().unwrap();
    let check = |envs: &VecEnv| {
        for env in 0..envs.len() {
            let worker = Process(envs.pid(env).unwrap());
            assert!(is_walled(worker), "env {env}");
            // Three filters: what is denied in words, the first, the second.
            assert_eq!(worker.status("Seccomp_filters"), "3");
            if is_root() {
                let open = worker.descriptors();
                assert!(open.len() <= 5, "env {env}: {open:?}");
            }
        }
    };
    check(&envs);
    envs.reset(None).unwrap();
    for _ in 0..10 {
        envs.step(&discrete(&[0, 1, 0])).unwrap();
    }
    check(&envs);
    assert_eq!(envs.walls().and(Walls::SANDBOX), Walls::SANDBOX);
    assert!(envs.missing_walls().iter().all(|(wall, _)| *wall == Wall::Namespaces));

    // A worker after a fault too.
    let mut envs = builder(fixture("trap")).build().unwrap();
    envs.reset(None).unwrap();
    while envs.faults().total() < 2 {
        envs.step(&discrete(&[0])).unwrap();
    }
    envs.reset(None).unwrap();
    assert!(is_walled(Process(envs.pid(0).unwrap())));
}

#[test]
fn compiling_and_describing_happen_behind_the_walls() {
    rollcage_tests::alone("walls::compiling_and_describing_happen_behind_the_walls", || {
        let seen = Mutex::new(BTreeSet::new());
        let building = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let look = || -> Option<()> {
                    for child in Process(std::process::id()).children() {
                        let line = std::fs::read(format!("/proc/{}/cmdline", child.0)).ok()?;
                        let line = String::from_utf8_lossy(&line).into_owned();
                        let what = ["compile", "describe"].into_iter().find(|what| line.contains(what))?;
                        let status = std::fs::read_to_string(format!("/proc/{}/status", child.0)).ok()?;
                        if ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"]
                            .iter()
                            .all(|field| status.contains(field))
                        {
                            seen.lock().unwrap().insert(what);
                        }
                    }
                    None
                };
                while building.load(Relaxed) {
                    look();
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
            // It compiles for a while and never describes itself.
            let limits = rollcage::Limits { start_timeout: Duration::from_millis(300), ..Default::default() };
            let refused = VecEnv::builder(fixture("describe-loop")).worker(program()).limits(limits).build();
            building.store(false, Relaxed);
            assert!(refused.is_err());
        });
        assert_eq!(seen.into_inner().unwrap().into_iter().collect::<Vec<_>>(), ["compile", "describe"]);
    });
}

#[test]
fn an_ordinary_user_has_the_same_walls() {
    if !is_root() {
        return;
    }
    let folder = Scratch::for_every_user("walls-user");
    let copy = folder.folder().join("rollcage");
    std::fs::copy(program(), &copy).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        command.args(arguments).env_clear().env("ROLLCAGE_CACHE", folder.folder().join("cache")).stdin(Stdio::null());
        command.uid(NOBODY).gid(NOBODY).output().unwrap()
    };
    let output =
        run(&["run", "cartpole", "--envs", "2", "--steps", "100", "--seed", "1", "--json", "--require-sandbox"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (_, as_root) = Rollcage::json(["run", "cartpole", "--envs", "2", "--steps", "100", "--seed", "1"]);
    assert_eq!(report["digest"], as_root["digest"]);
    assert_eq!(report["walls"], as_root["walls"]);
}

/// The program as it runs on a system that lacks a system call.
fn without(number: libc::c_long, arguments: &[&str]) -> rollcage_tests::Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_intruder"));
    command.arg("without").arg(number.to_string()).arg(program()).args(arguments);
    let cache = rollcage_tests::cache_folder();
    command.env("ROLLCAGE_CACHE", cache).stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn a_missing_wall_is_told_and_refused_where_the_sandbox_is_required() {
    let play = ["run", "cartpole", "--steps", "10", "--seed", "1", "--json"];
    for (number, wall) in [(libc::SYS_landlock_create_ruleset, "landlock"), (libc::SYS_seccomp, "seccomp")] {
        let ran = without(number, &play);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert!(ran.stderr.contains(&format!("warning: the sandbox layer `{wall}` is not active")), "{ran:?}");
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        let walls: Vec<&str> = report["walls"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(!walls.contains(&wall) && walls.contains(&"no-new-privs"), "{walls:?}");

        let mut required = play.to_vec();
        required.push("--require-sandbox");
        let ran = without(number, &required);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.stderr.contains(&format!("its layer `{wall}` is not active")), "{ran:?}");
        // Compiling too: nothing of the plugin is read.
        required.push("--no-cache");
        assert_eq!(without(number, &required).status, Some(2));

        let ran = without(number, &["doctor"]);
        assert!(ran.stdout.contains(&format!("missing: {wall}: ")), "{ran:?}");
        let level =
            if wall == "landlock" { "ok  sandbox          level full: " } else { "--  sandbox          level none: " };
        assert!(ran.stdout.contains(level), "{ran:?}");
        // Without the filter nothing is copied.
        assert_eq!(report["start"], json!(if wall == "landlock" { "fork" } else { "spawn" }), "{report}");
    }
    // One wall more where it is, and none that another one needs.
    let mut required = play.to_vec();
    required.push("--require-sandbox");
    let ran = without(libc::SYS_unshare, &required);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("warning: the sandbox layer `namespaces` is not active"), "{ran:?}");
}

/// An older kernel has a part of Landlock. What it lacks is named, and a level refuses what would get through.
#[test]
fn an_older_landlock_is_enough_for_a_level_and_not_for_a_directory() {
    let folder = Scratch::new("levels");
    let grant = format!("dir={}:/data", folder.folder().display());
    let run = |version: &str, more: &[&str]| {
        let play = ["run", "cartpole", "--steps", "10", "--seed", "1", "--json", "--pretend-landlock", version];
        Rollcage::run([&play, more].concat())
    };
    for (version, level, directory, expected) in [
        ("0", "full", false, Ok("full")),
        ("0", "strict", false, Err("its layer `landlock` is not active: this kernel has no Landlock")),
        ("2", "strict", false, Err("version 2 of it, without truncate, TCP, ioctl, signals and abstract sockets")),
        ("2", "full", true, Err("needs version 3 of it (Linux 6.2), and here is version 2")),
        ("3", "full", true, Ok("full")),
        ("0", "seccomp", true, Ok("seccomp")),
        ("6", "strict", true, Ok("strict")),
    ] {
        let level = format!("--require-sandbox={level}");
        let mut more = vec![level.as_str()];
        if directory {
            more.extend(["--grant", &grant]);
        }
        let ran = run(version, &more);
        match expected {
            Ok(reached) => {
                assert_eq!(ran.status, Some(0), "{version} {level}: {ran:?}");
                let report: Value = serde_json::from_str(&ran.stdout).unwrap();
                assert_eq!(
                    (&report["level"], &report["start"]),
                    (&json!(reached), &json!("fork")),
                    "{version} {level}"
                );
            }
            Err(words) => {
                assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{version} {level}: {ran:?}");
                assert!(ran.stderr.contains(words), "{version} {level}: {ran:?}");
            }
        }
    }
    // Without a level a directory that nothing confines is a warning of its own.
    let ran = run("2", &["--grant", &grant]);
    assert!(ran.stderr.contains("a plugin that breaks out of wasm can reach other files"), "{ran:?}");
    let ran = run("2", &[]);
    assert!(ran.stderr.contains("what is missing of it, seccomp alone stops"), "{ran:?}");
    let wrong = Rollcage::run(["run", "cartpole", "--steps", "1", "--require-sandbox=most"]);
    assert!(
        wrong.status == Some(2) && wrong.stderr.contains("`seccomp`, `full` and `strict` are possible"),
        "{wrong:?}"
    );
}

#[test]
fn walls_are_switched_off_loudly() {
    let (status, report) = Rollcage::json(["run", "cartpole", "--steps", "10", "--seed", "1", "--walls", "none"]);
    assert_eq!((status, &report["walls"]), (Some(0), &json!(["wasm", "process"])));
    let ran = Rollcage::run(["run", "cartpole", "--steps", "10", "--seed", "1", "--walls", "none"]);
    assert_eq!(ran.walls.as_deref(), Some("walls: wasm, process"));
    assert!(ran.stderr.contains("warning: NO SANDBOX"), "{ran:?}");
    let ran = Rollcage::run(["run", "cartpole", "--steps", "10", "--seed", "1"]);
    let line = ran.walls.unwrap_or_default();
    assert!(line.starts_with("walls: wasm, process, ") && line.ends_with("landlock, seccomp"), "{line}");
    let ran = Rollcage::run(["run", "cartpole", "--steps", "10", "--require-sandbox", "--walls", "none"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");

    // What a debugger's user wants: no deadline, and the guest's words as they come.
    let panics = fixture_path("panic").to_str().unwrap().to_owned();
    let ran = Rollcage::run(["run", &panics, "--steps", "4", "--seed", "1", "--debug"]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("--walls none"), "{ran:?}");
    let ran = Rollcage::run(["run", &panics, "--steps", "6", "--seed", "1", "--debug", "--walls", "none"]);
    assert!(ran.stderr.contains("panicked at"), "{ran:?}");
}

#[test]
fn a_forbidden_call_is_told_as_what_it_is() {
    // A worker that lacks what a memory needs in order to grow, for a forbidden call that comes for certain.
    let row = TABLE.iter().position(|row| (row.of, row.call) == (Of::Env, "mprotect")).unwrap();
    let folder = Scratch::for_every_user("walls-told");
    let program = folder.folder().join(format!("gap-{row}"));
    std::fs::copy(env!("CARGO_BIN_EXE_gap"), &program).unwrap();
    builder(fixture("memory")).prepare().unwrap();
    let error = builder(fixture("memory")).worker(&program).on_fault(OnFault::Raise).build().err().unwrap();
    let Error::Fault(fault) = error else { panic!("{error:?}") };
    assert_eq!(fault.kind, rollcage::FaultKind::Signalled);
    assert!(fault.message.contains("SIGSYS"), "{fault}");
}
