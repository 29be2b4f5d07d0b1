//! Port leases: nobody shares a port, nobody keeps one after death, and nothing that a leased command started is left.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};

use rollcage_tests::{Process, Ran, Rollcage, eventually, within};
use rustix::process::{Pid, Signal, kill_process};

/// Runs `rollcage lease` to its end.
fn lease(arguments: &[&str]) -> Ran {
    within(60, Rollcage::command().arg("lease").args(arguments))
}

/// The first of so many ports that are free now, for this test alone: tests run beside each other, each in a process,
/// and below the range that the kernel gives ports from.
fn ports(test: u16) -> u16 {
    17_000 + 50 * test
}

/// A command under a lease, and the first line it printed. It is ended with this value.
struct Leased {
    child: Child,
    output: BufReader<ChildStdout>,
    line: String,
}

impl Leased {
    fn start(arguments: &[&str]) -> Leased {
        Leased::of(Rollcage::command().arg("lease").args(arguments))
    }

    fn of(command: &mut Command) -> Leased {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut leased = Leased { child, output, line: String::new() };
        leased.output.read_line(&mut leased.line).unwrap();
        leased
    }

    /// Numbers on its first line.
    fn numbers(&self) -> Vec<u32> {
        self.line.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    fn process(&self) -> Process {
        Process(self.child.id())
    }

    fn keeper(&self) -> Process {
        match self.process().children()[..] {
            [keeper] => keeper,
            ref others => panic!("one keeper was expected: {others:?}"),
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        // It ends by itself within two seconds, with all that it started.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// That nobody else has the port: it can be leased at once.
fn assert_free(port: u16) {
    let ran = lease(&["--timeout", "0s", &format!("a:{port}-{port}"), "--", "echo", "{a}"]);
    assert_eq!((ran.status, ran.stdout.trim()), (Some(0), port.to_string().as_str()), "{ran:?}");
}

fn kill(process: Process) {
    kill_process(Pid::from_raw(process.0.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// A command that has a child of its own in another session, which ignores SIGTERM, and tells the ids of both.
const FAMILY: &str = "setsid sh -c 'trap \"\" TERM; sleep 600 & echo $$ $!; wait' & wait";

#[test]
fn a_command_gets_its_ports() {
    let (lo, other) = (ports(0), ports(0) + 20);
    let ran = lease(&[
        &format!("agent:{lo}-{}:count=2", lo + 9),
        &format!("my-peer:{other}-{other}"),
        "--",
        "sh",
        "-c",
        "echo {agent} {agent+1} {my-peer} $ROLLCAGE_LEASE_AGENT $ROLLCAGE_LEASE_MY_PEER {{}} $0",
        "x{agent}y",
    ]);
    let expected = format!("{lo} {} {other} {lo} {other} {{}} x{lo}y\n", lo + 1);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), expected.as_str(), ""));
}

#[test]
fn blocks_are_count_long_and_stride_apart() {
    let lo = ports(1);
    let range = format!("a:{lo}-{}", lo + 9);
    let arguments = ["--count=2", "--stride=4", "--timeout=0s", &range, "--", "sh", "-c", "echo {a} {a+1}; sleep 600"];
    let [first, second, third] = [(); 3].map(|()| Leased::start(&arguments));
    for (leased, at) in [(&first, 0), (&second, 4), (&third, 8)] {
        assert_eq!(leased.numbers(), [lo + at, lo + at + 1].map(u32::from));
    }
    let ran = lease(&arguments);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""));
    let [one, two, three] = [&first, &second, &third].map(|leased| leased.keeper().0);
    let held = format!("{lo} by process {one}, {} by process {two}, {} by process {three}", lo + 4, lo + 8);
    let expected = format!("taking leases: lease `a`: ports {lo}-{} (in blocks of 2): all held: {held}", lo + 9);
    assert_eq!(ran.stderr, format!("error: {expected}\n"));
    // A waiter gets what comes free.
    let waiter = std::thread::spawn(move || lease(&["--timeout=30s", &format!("a:{lo}-{lo}"), "--", "echo", "{a}"]));
    drop(first);
    assert_eq!(waiter.join().unwrap().stdout, format!("{lo}\n"));
}

#[test]
fn leases_taken_at_once_share_no_port() {
    let lo = ports(2);
    let range = format!("a:{lo}-{}", lo + 15);
    let other = format!("b:{}-{}:count=2", lo + 20, lo + 35);
    let start = || {
        let (range, other) = (range.clone(), other.clone());
        std::thread::spawn(move || {
            Leased::start(&["--timeout=30s", &range, &other, "--", "sh", "-c", "echo {a} {b} {b+1}; sleep 600"])
        })
    };
    let threads: Vec<_> = (0..8).map(|_| start()).collect();
    let all: Vec<Leased> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let given: Vec<u32> = all.iter().flat_map(Leased::numbers).collect();
    assert_eq!(given.len(), 24);
    assert_eq!(given.iter().collect::<HashSet<_>>().len(), 24, "{given:?}");
}

#[test]
fn a_port_that_a_stranger_has_is_left_alone() {
    let lo = ports(3);
    for (address, taken) in [("127.0.0.1", lo + 1), ("0.0.0.0", lo + 1), ("[::]", lo + 1)] {
        let stranger = TcpListener::bind(format!("{address}:{taken}")).unwrap();
        // Of the first block the second port is taken: the first is given back, and free for another lease.
        let ran = lease(&[&format!("a:{lo}-{}:count=2", lo + 5), "--", "echo", "{a}"]);
        assert_eq!(ran.stdout, format!("{}\n", lo + 2), "{address}: {ran:?}");
        assert_free(lo);
        let ran = lease(&["--timeout=0s", &format!("a:{taken}-{taken}"), "--", "echo", "{a}"]);
        assert_eq!(ran.status, Some(1));
        let who = format!("all held: {taken} bound by somebody without a lease\n");
        assert!(ran.stderr.ends_with(&who), "{ran:?}");
        drop(stranger);
    }
}

#[test]
fn a_command_ends_as_it_would_alone() {
    let range = format!("a:{}-{}", ports(4), ports(4) + 20);
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)] {
        let ran = lease(&[&range, "--", "sh", "-c", script]);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(status), ""), "{script}");
    }
    // What it reads and writes is its own.
    let mut command = Rollcage::command();
    command.args(["lease", &range, "--", "sh", "-c", "cat; echo err >&2; pwd"]);
    let ran = within(60, command.stdin(std::fs::File::open("/proc/self/comm").unwrap()).current_dir("/usr"));
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!((ran.stdout, ran.stderr.as_str()), (format!("{own}/usr\n"), "err\n"));
    // And it has no descriptor but those.
    let ran = lease(&[&range, "--", "ls", "/proc/self/fd"]);
    assert_eq!(ran.stdout, "0\n1\n2\n3\n");
}

#[test]
fn what_is_typed_wrong_starts_nothing() {
    let range = format!("a:{}-{}", ports(5), ports(5) + 9);
    for (arguments, message, hint) in [
        (&[&range, "--", "echo", "{b}"][..], "`{b}`: unknown placeholder `{b}`", "there is `{a}`; "),
        (&[&range, "--", "echo", "{a+1}"], "`{a+1}`: unknown placeholder `{a+1}`", "there is `{a}`; "),
        (&["--count=3", &range, "--", "echo", "{"], "`{`: `{` without `}`", "there is `{a}`, `{a+1}`, `{a+2}`; "),
        (&["a:1", "--", "true"], "lease `a:1`: expected a range LO-HI, got `1`", "a lease is NAME:LO-HI"),
        (&[&range, &range, "--", "true"], &format!("lease `{range}`: the name `a` is given twice"), "more ports"),
        (
            &[&range, "--", "/nowhere"],
            "the command did not start: /nowhere: No such file or directory (os error 2)",
            "",
        ),
        (&[&range], "the following required arguments were not provided: <COMMAND>...", "`rollcage lease --help`"),
    ] {
        let ran = lease(arguments);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.stderr.starts_with(&format!("error: {message}\n")), "{ran:?}");
        assert!(hint.is_empty() || ran.stderr.contains(&format!("\nhint: {hint}")), "{ran:?}");
    }
}

#[test]
fn signals_end_the_command() {
    let lo = ports(6);
    let range = format!("a:{lo}-{lo}");
    let script = "trap 'echo ended; exit 5' TERM; echo begun; while :; do sleep 0.1; done";
    for (signal, script, status) in [
        (Signal::TERM, script, Some(5)),
        (Signal::INT, script, Some(5)),
        (Signal::TERM, "echo begun; exec sleep 600", Some(143)),
        // Who does not listen is killed after two seconds.
        (Signal::TERM, "trap '' TERM; echo begun; while :; do sleep 0.1; done", Some(137)),
    ] {
        let mut leased = Leased::start(&[&range, "--", "sh", "-c", script]);
        assert_eq!(leased.line, "begun\n");
        leased.signal(signal);
        eventually("the command has ended", 10, || leased.child.try_wait().unwrap().is_some());
        assert_eq!(leased.child.wait().unwrap().code(), status, "{script}");
        assert_free(lo);
    }
}

#[test]
fn a_killed_host_leaves_neither_processes_nor_ports() {
    let lo = ports(7);
    let leased = Leased::start(&[&format!("a:{lo}-{lo}"), "--", "sh", "-c", FAMILY]);
    let family: Vec<Process> = leased.numbers().into_iter().map(Process).collect();
    let keeper = leased.keeper();
    assert!(family.iter().all(|process| process.exists()));
    leased.signal(Signal::KILL);
    eventually("all are gone", 10, || !family.iter().chain([&keeper]).any(|process| process.exists()));
    assert_free(lo);
}

#[test]
fn a_command_that_ends_takes_what_it_started_with_it() {
    let lo = ports(8);
    let script = "setsid sh -c 'trap \"\" TERM; sleep 600 & echo $$ $!; exec >&-; wait' & sleep 0.3; exit 3";
    let mut leased = Leased::start(&[&format!("a:{lo}-{lo}"), "--", "sh", "-c", script]);
    let family: Vec<Process> = leased.numbers().into_iter().map(Process).collect();
    assert_eq!(leased.child.wait().unwrap().code(), Some(3));
    assert!(!family.iter().any(|process| process.exists()));
    assert_free(lo);
}

/// The kernel takes the ports back, the command dies with its keeper, and the host says what happened.
#[test]
fn a_killed_keeper_lets_its_ports_go() {
    let lo = ports(9);
    let mut command = Rollcage::command();
    command.args(["lease", &format!("a:{lo}-{lo}"), "--", "sh", "-c", "echo $$; exec sleep 600"]);
    let mut leased = Leased::of(command.stderr(Stdio::piped()));
    let [sleeper] = leased.numbers()[..] else { panic!("{}", leased.line) };
    kill(leased.keeper());
    eventually("the host has ended", 10, || leased.child.try_wait().unwrap().is_some());
    assert_eq!(leased.child.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    BufReader::new(leased.child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    // The command may have printed before the host knew that it runs.
    assert!(said.starts_with("error: ") && said.contains("the keeper was killed by signal 9 (SIGKILL)"), "{said}");
    eventually("the command is gone", 10, || !Process(sleeper).exists());
    assert_free(lo);
}

/// A shell that dies of SIGTERM leaves an orphan before the orphan was reached: it must not wait for SIGKILL.
#[test]
fn orphans_of_the_end_are_told_to_end_too() {
    let lo = ports(11);
    for _ in 0..10 {
        let mut leased =
            Leased::start(&[&format!("a:{lo}-{lo}"), "--", "sh", "-c", "sleep 600 & sleep 600 & echo; wait"]);
        let began = std::time::Instant::now();
        leased.signal(Signal::TERM);
        assert_eq!(leased.child.wait().unwrap().code(), Some(143));
        assert!(began.elapsed().as_millis() < 1900, "{:?}", began.elapsed());
    }
}
