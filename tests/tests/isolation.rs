//! A process for each env, with nothing of its host's: looked at through `/proc`, from inside by the fixture `probe`, and at
//! the end, however the host comes to it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::{Child, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rollcage::{RenderMode, VecEnv};
use rollcage_tests::{
    Process, Rollcage, alone, builder, discrete, eventually, fixture, fixture_path, is_root, shipped,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn workers(envs: &VecEnv) -> Vec<Process> {
    (0..envs.len()).map(|env| Process(envs.pid(env).unwrap())).collect()
}

fn stat(process: Process, field: usize) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.0)).unwrap();
    // Fields are counted from 1 and the second is a name in brackets.
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(field - 3).unwrap().parse().unwrap()
}

/// Gone, or dead and left to somebody else to reap.
fn is_over(process: Process) -> bool {
    matches!(process.state(), None | Some('Z'))
}

// ── Through /proc ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn envs_are_processes_of_their_own() {
    alone("isolation::envs_are_processes_of_their_own", || {
        let mut envs = shipped("cartpole").envs(8).build().unwrap();
        envs.reset(None).unwrap();
        let workers = workers(&envs);
        let distinct: BTreeSet<Process> = workers.iter().copied().collect();
        assert_eq!(distinct.len(), 8);
        let mut sorted = workers.clone();
        sorted.sort();
        // These, what they are copies of, and no other: what compiled and described is gone.
        sorted.extend(envs.template_pid().map(Process));
        sorted.sort();
        assert_eq!(Process(std::process::id()).children(), sorted);
        for (env, worker) in workers.iter().enumerate() {
            let line = std::fs::read(format!("/proc/{}/cmdline", worker.0)).unwrap();
            let line = String::from_utf8(line).unwrap();
            assert_eq!(line.trim_end_matches('\0'), format!("rollcage\0__rollcage-worker\0env {env}"));
            assert_eq!(stat(*worker, 5), i64::from(worker.0), "its process group");
            assert_eq!(worker.parent(), Some(std::process::id()));
        }
    });
}

#[test]
fn a_worker_has_one_thread_whatever_it_does() {
    let mut envs = builder(fixture("probe")).envs(2).build().unwrap();
    let workers = workers(&envs);
    let check = |when: &str| {
        for worker in &workers {
            assert_eq!(worker.status("Threads"), "1", "{when}");
            assert_eq!(worker.status("NoNewPrivs"), "1", "{when}");
        }
    };
    check("ready");
    envs.reset(None).unwrap();
    check("reset");
    for (method, arguments) in [
        ("sleep", json!({ "ms": 3_600_000 })),
        ("print", json!({ "out": "a line\n", "err": "another\n" })),
        ("random", json!({ "n": 4096 })),
        ("read", json!({ "path": "/etc/passwd" })),
        ("connect", json!({ "addr": "127.0.0.1:1" })),
        ("resolve", json!({ "name": "localhost" })),
        ("thread", json!({})),
        ("stdin", json!({})),
    ] {
        for env in 0..2 {
            envs.call(env, method, &arguments).unwrap();
        }
        check(method);
    }
    // While it steps, as well as in between.
    let playing = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = 0;
            while playing.load(Relaxed) {
                check("stepping");
                looks += 1;
            }
            looks
        });
        for _ in 0..3_000 {
            envs.step(&discrete(&[0, 0])).unwrap();
        }
        playing.store(false, Relaxed);
        assert!(looks.join().unwrap() > 10);
    });
    assert_eq!(envs.faults().total(), 0);
}

#[test]
fn nothing_is_inherited() {
    alone("isolation::nothing_is_inherited", || {
        // What a careless host leaves open over an exec, and how it set itself up.
        let file = std::fs::File::open("/etc/passwd").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for fd in [file.as_raw_fd(), listener.as_raw_fd()] {
            // SAFETY: the descriptors are open, and stay so until the end of the test.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
        }
        let umask = rustix::process::umask(rustix::fs::Mode::empty());
        let mut envs = builder(fixture("echo")).envs(3).build().unwrap();
        envs.reset(None).unwrap();
        rustix::process::umask(umask);
        for worker in workers(&envs) {
            // Rust programs ignore SIGPIPE, and that would be inherited. (glibc keeps 32 and 33 to itself, and lets nobody set
            // them: whoever started these tests may have ignored them.)
            for field in ["SigBlk", "SigIgn"] {
                let signals = u64::from_str_radix(&worker.status(field), 16).unwrap();
                assert_eq!(signals & !(0b11 << 31), 0, "{field}");
            }
            assert_eq!(worker.status("Umask"), "0077");
            if !is_root() {
                assert!(std::fs::read(format!("/proc/{}/environ", worker.0)).is_err());
                continue;
            }
            assert_eq!(worker.environ(), b"");
            let cwd = std::fs::read_link(format!("/proc/{}/cwd", worker.0)).unwrap();
            assert_eq!(cwd.to_str(), Some("/"));
            let all = worker.descriptors();
            let of = |number: i32| all.iter().find(|(found, _)| *found == number).map(|(_, target)| target.as_str());
            assert_eq!((of(0), of(1)), (Some("/dev/null"), Some("/dev/null")), "{all:?}");
            assert!(of(2).unwrap().starts_with("pipe:"), "{all:?}");
            assert!(of(3).unwrap().starts_with("socket:"), "{all:?}");
            let rest: Vec<_> = all.iter().filter(|(number, _)| *number > 3).collect();
            assert!(rest.iter().all(|(_, target)| target.contains("memfd:rollcage-code")), "{all:?}");
            assert!(rest.len() <= 1, "{all:?}");
        }
    });
}

#[test]
fn no_variable_of_the_hosts_reaches_a_worker() {
    let mut host = Cli::slow();
    host.command.env("ROLLCAGE_CANARY", "sings").env("LD_PRELOAD_CANARY", "sings too");
    let mut host = host.run();
    let workers = host.workers(4);
    assert!(String::from_utf8_lossy(&Process(host.child.id()).environ()).contains("ROLLCAGE_CANARY=sings"));
    for worker in workers {
        if is_root() {
            assert_eq!(worker.environ(), b"");
        } else {
            assert!(std::fs::read(format!("/proc/{}/environ", worker.0)).is_err());
        }
    }
    host.child.kill().unwrap();
    host.child.wait().unwrap();
}

#[test]
fn the_thread_that_made_them_may_end() {
    let made = std::thread::spawn(|| {
        let mut envs = builder(fixture("echo")).envs(3).build().unwrap();
        envs.reset(None).unwrap();
        envs
    });
    let mut envs = made.join().unwrap();
    let workers = workers(&envs);
    // A death signal that belonged to that thread would have come within 50 ms.
    std::thread::sleep(Duration::from_millis(500));
    let mut envs = std::thread::spawn(move || {
        for _ in 0..10 {
            let batch = envs.step(&discrete(&[1, 2, 3])).unwrap();
            assert_eq!(batch.rewards, [1.0, 2.0, 3.0]);
        }
        envs
    })
    .join()
    .unwrap();
    envs.step(&discrete(&[4, 5, 6])).unwrap();
    assert_eq!(envs.faults().total(), 0);
    assert_eq!(self::workers(&envs), workers);
}

// ── From inside ─────────────────────────────────────────────────────────────────────────────────────────────────────

fn probe() -> VecEnv {
    let mut envs = builder(fixture("probe")).seed(7).build().unwrap();
    envs.reset(None).unwrap();
    envs
}

fn ask(envs: &mut VecEnv, method: &str, arguments: Value) -> Value {
    envs.call(0, method, &arguments).unwrap()
}

#[test]
fn a_guest_finds_nothing_of_the_host() {
    let mut envs = probe();
    let environ = ask(&mut envs, "environ", json!({}));
    assert_eq!(environ, json!({ "variables": [], "arguments": [], "initial_cwd": null }));
    assert_eq!(ask(&mut envs, "preopens", json!({})), json!([]));
    assert_eq!(ask(&mut envs, "stdin", json!({})), json!({ "ok": 0 }));
    let terminal = json!({ "stdin": false, "stdout": false, "stderr": false });
    assert_eq!(ask(&mut envs, "terminal", json!({})), terminal);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let written = std::env::temp_dir().join(format!("rollcage-probe-{}", std::process::id()));
    for (method, arguments) in [
        ("read", json!({ "path": "/etc/passwd" })),
        ("read", json!({ "path": "passwd" })),
        ("read", json!({ "path": "/proc/self/environ" })),
        ("write", json!({ "path": written.to_str().unwrap() })),
        ("list", json!({ "path": "/" })),
        ("list", json!({ "path": "." })),
        ("connect", json!({ "addr": address })),
        ("listen", json!({ "addr": "127.0.0.1:0" })),
        ("udp", json!({ "addr": address })),
        ("resolve", json!({ "name": "localhost" })),
        ("thread", json!({})),
        ("process", json!({})),
    ] {
        let outcome = ask(&mut envs, method, arguments.clone());
        assert!(outcome["error"].is_string(), "{method} {arguments}: {outcome}");
    }
    assert!(!written.exists());
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(envs.faults().total(), 0);
}

/// What a probe's observation holds: the monotonic clock, the wall clock, a random number.
fn sight(envs: &VecEnv, env: usize) -> [u64; 3] {
    let bytes = envs.last().observation(env);
    [0, 8, 16].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()))
}

/// 2000-01-01 in nanoseconds since 1970.
const MILLENNIUM: u64 = 946_684_800_000_000_000;

#[test]
fn clocks_begin_at_the_beginning_and_go_on_by_readings_and_steps() {
    let mut envs = probe();
    let clocks = |envs: &VecEnv| [sight(envs, 0)[0], sight(envs, 0)[1] - MILLENNIUM];
    assert_eq!(clocks(&envs), [0, 1_000]);
    // A reset moves no clock; the first step neither.
    envs.reset(None).unwrap();
    assert_eq!(clocks(&envs), [2_000, 3_000]);
    let first = 4_000;
    for step in 0..5 {
        envs.step(&discrete(&[0])).unwrap();
        let begins = first + step * 20_000_000;
        assert_eq!(clocks(&envs), [begins, begins + 1_000], "step {step}");
    }
    let now = first + 4 * 20_000_000 + 2_000;
    let read = ask(&mut envs, "clocks", json!({}));
    let expected = json!({
        "monotonic_ns": [now, now + 2_000],
        "wall_ns": [MILLENNIUM + now + 1_000, MILLENNIUM + now + 3_000],
        "resolution_ns": 1_000,
    });
    assert_eq!(read, expected);

    // An hour is slept at once, and has passed.
    let began = Instant::now();
    let slept = ask(&mut envs, "sleep", json!({ "ms": 3_600_000 }));
    assert!(began.elapsed() < Duration::from_secs(10));
    let [before, after] = [0, 1].map(|at| slept["monotonic_ns"][at].as_u64().unwrap());
    let hour = 3_600_000_000_000;
    assert!((hour..hour + 100_000).contains(&(after - before)), "{slept}");
    envs.step(&discrete(&[0])).unwrap();
    assert!(clocks(&envs)[0] > after && clocks(&envs)[0] < after + 1_000_000, "it begins now: {:?}", clocks(&envs));
    envs.step(&discrete(&[0])).unwrap();
    assert!(clocks(&envs)[0] >= after + 20_000_000);
}

#[test]
fn randomness_is_the_seeds() {
    let play = |envs: &mut VecEnv| {
        let mut seen = Vec::new();
        for _ in 0..5 {
            envs.step(&discrete(&[0, 0])).unwrap();
            seen.push([sight(envs, 0)[2], sight(envs, 1)[2]]);
        }
        let drawn = [0, 1].map(|env| {
            let mut drawn = envs.call(env, "random", &json!({ "n": 32 })).unwrap();
            // Rust draws its hash keys once, and counts them up from there: state of the guest's own.
            drawn.as_object_mut().unwrap().remove("hash");
            drawn
        });
        (seen, drawn)
    };
    let mut envs = builder(fixture("probe")).envs(2).seed(7).build().unwrap();
    envs.reset(None).unwrap();
    let (seen, drawn) = play(&mut envs);
    assert!(seen.iter().all(|[one, other]| one != other));
    assert_ne!(drawn[0], drawn[1]);
    // The same again, from the same seeds: the envs' streams are the seeds', not the processes'.
    envs.reset(Some(7)).unwrap();
    assert_eq!(play(&mut envs), (seen.clone(), drawn.clone()));
    // Without a seed the stream goes on.
    envs.reset(None).unwrap();
    assert_ne!(play(&mut envs).0, seen);
    // Env 1 of seed 7 is env 0 of seed 8, wherever it runs.
    let mut other = builder(fixture("probe")).envs(2).seed(8).build().unwrap();
    other.reset(None).unwrap();
    let (later, _) = play(&mut other);
    let column = |seen: &[[u64; 2]], env: usize| seen.iter().map(|row| row[env]).collect::<Vec<_>>();
    assert_eq!(column(&later, 0), column(&seen, 1));
}

#[test]
fn what_a_guest_prints_is_its_own_log() {
    let mut envs = builder(fixture("probe")).envs(2).build().unwrap();
    envs.reset(None).unwrap();
    envs.call(0, "print", &json!({ "out": "to stdout\n", "err": "to stderr\n" })).unwrap();
    envs.call(1, "print", &json!({ "out": "of env 1\n", "err": "" })).unwrap();
    let text = |env: usize| envs.log(env).unwrap().text();
    eventually("the logs have arrived", 10, || text(0).lines().count() == 2 && text(1).lines().count() == 1);
    assert_eq!((text(0).as_str(), text(1).as_str()), ("to stdout\nto stderr\n", "of env 1\n"));
}

// ── Nothing is left ─────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn closed_or_dropped_no_worker_is_left() {
    let ends: [fn(VecEnv); 4] = [
        VecEnv::close,
        drop,
        |mut envs| envs.say_goodbye(),
        // In the middle of a step.
        |mut envs| {
            envs.send(&discrete(&[0; 4]), &[0, 1, 2, 3]).unwrap();
            drop(envs);
        },
    ];
    for end in ends {
        let mut envs = builder(fixture("echo")).envs(4).config(&json!({ "spins": 1_000 })).unwrap().build().unwrap();
        envs.reset(None).unwrap();
        let workers = workers(&envs);
        // One that is stopped must be ended too.
        kill_process(Pid::from_raw(workers[2].0.try_into().unwrap()).unwrap(), Signal::STOP).unwrap();
        let began = Instant::now();
        end(envs);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        // Dead and reaped: not even a zombie.
        assert!(workers.iter().all(|worker| !worker.exists()));
    }
}

#[test]
fn after_a_goodbye_nothing_is_stepped() {
    let mut envs = builder(fixture("echo")).envs(2).build().unwrap();
    envs.reset(None).unwrap();
    envs.step(&discrete(&[1, 2])).unwrap();
    let digests = envs.digests();
    envs.say_goodbye();
    assert_eq!((envs.pid(0), envs.pid(1)), (None, None));
    // What was is still known.
    assert_eq!(envs.digests(), digests);
    assert_eq!(envs.last().rewards, [1.0, 2.0]);
    assert!(envs.render(0, RenderMode::Ansi).is_err());
}

/// The program, playing for as long as it is let.
struct Cli {
    command: std::process::Command,
}

struct Running {
    child: Child,
}

impl Cli {
    fn slow() -> Cli {
        let mut command = Rollcage::command();
        command.arg("run").arg(fixture_path("echo"));
        command.args(["--envs", "4", "--steps", "1000000000", "--seed", "3", "--config", "spins=20000", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Cli { command }
    }

    fn run(mut self) -> Running {
        // Compiled before, so that its children are those that play.
        builder(fixture("echo")).prepare().unwrap();
        Running { child: self.command.spawn().unwrap() }
    }
}

impl Running {
    /// Its workers, once they all play: they have used more of the processor than a start takes.
    fn workers(&mut self, count: usize) -> Vec<Process> {
        let host = Process(self.child.id());
        let busy = |worker: &Process| stat(*worker, 14) + stat(*worker, 15) >= 10;
        eventually("the workers play", 60, || {
            let envs = host.envs();
            envs.len() == count && envs.iter().all(busy)
        });
        host.envs()
    }
}

#[test]
fn however_the_host_ends_no_worker_is_left() {
    for signal in [Signal::KILL, Signal::TERM, Signal::INT, Signal::ABORT, Signal::HUP] {
        let mut host = Cli::slow().run();
        let workers = host.workers(4);
        let pid = Pid::from_raw(host.child.id().try_into().unwrap()).unwrap();
        let children = Process(host.child.id()).children();
        let began = Instant::now();
        kill_process(pid, signal).unwrap();
        let status = host.child.wait().unwrap();
        eventually(&format!("the workers are gone after {signal:?}"), 10, || children.iter().all(|one| is_over(*one)));
        assert!(children.len() >= workers.len());
        assert!(began.elapsed() < Duration::from_secs(10), "{signal:?}: {:?}", began.elapsed());

        let output = std::io::read_to_string(host.child.stdout.take().unwrap()).unwrap();
        let messages = std::io::read_to_string(host.child.stderr.take().unwrap()).unwrap();
        if signal == Signal::TERM || signal == Signal::INT {
            assert_eq!(status.code(), Some(130), "{signal:?}: {messages}");
            let report: Value = serde_json::from_str(&output).unwrap();
            assert_eq!(report["incomplete"], "interrupted");
            assert!(report["steps"].as_u64().unwrap() > 0);
            assert_eq!(report["faults_total"], 0);
        } else {
            assert_eq!(status.code(), None, "{signal:?}");
            assert_eq!(output, "");
        }
    }
}

#[test]
fn an_interrupt_does_not_wait_for_an_env_that_hangs() {
    // The third step of each env never answers, and has ten minutes for it.
    let mut host = Cli::slow();
    host.command.args(["--config", "hang_at=2", "--config", "spins=0", "--step-timeout", "600s"]);
    let mut host = host.run();
    let workers = host.workers(4);
    let began = Instant::now();
    kill_process(Pid::from_raw(host.child.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
    let status = host.child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    eventually("the workers are gone", 10, || workers.iter().all(|one| is_over(*one)));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let report: Value = serde_json::from_reader(host.child.stdout.take().unwrap()).unwrap();
    assert_eq!((&report["incomplete"], &report["steps"]), (&json!("interrupted"), &json!(8)));
}
