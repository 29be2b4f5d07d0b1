//! What a process of rollcage's takes over from its host, and what one that forks keeps of it: signals, the memory killer's
//! order, descriptors.

use std::path::Path;
use std::time::Duration;

use rollcage::{FaultKind, Grants, Start, VecEnv};
use rollcage_tests::{Process, Rollcage, Scratch, alone, builder, discrete, eventually, fixture, shipped, within};
use rustix::process::{Pid, Signal, kill_process};

/// Envs of `mirror` by the library, with a grants file's text.
fn mirrors(envs: usize, grants: &str, start: Start) -> VecEnv {
    let grants = Grants::from_toml(grants, "grants.toml".as_ref()).unwrap();
    let mut envs = shipped("mirror").envs(envs).seed(5).start(start).grants(grants).build().unwrap();
    envs.reset(None).unwrap();
    envs
}

/// A service that says that it is up, and when it hears SIGTERM writes a file.
fn listener(heard: &Path) -> String {
    let script = format!("trap \"echo heard > {}; exit\" TERM; echo up; while :; do sleep 0.05; done", heard.display());
    format!(
        "[[service]]\nname = 'listener'\ncommand = ['/bin/sh', '-c', '{script}']\nenv = {{ PATH = '/bin:/usr/bin' }}\n\
         ready = {{ line = '^up$' }}\nstop-timeout = '20s'\n"
    )
}

/// Blocks every signal that can be blocked in this thread, and what it starts; ignores some.
fn as_a_careless_host_does() {
    // SAFETY: the set is filled before it is read; ignoring a signal runs no code.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// That a process blocks and ignores nothing. (glibc keeps 32 and 33 to itself, and lets nobody set them.)
fn assert_hears_signals(who: &str, status: impl Fn(&str) -> String) {
    for field in ["SigBlk", "SigIgn"] {
        let signals = u64::from_str_radix(&status(field), 16).unwrap();
        // A keeper that writes to a pipe nobody reads has to clean up all the same.
        let but_for = if who == "a keeper" { 1 << (libc::SIGPIPE - 1) } else { 0 };
        assert_eq!(signals & !(0b11 << 31) & !but_for, 0, "{who}: {field}");
    }
}

#[test]
fn a_host_that_blocks_signals_has_envs_that_trap_and_services_that_hear_sigterm() {
    // The thread that watches processes, and starts them, takes over what the first to ask it blocks.
    alone("processes::a_host_that_blocks_signals_has_envs_that_trap_and_services_that_hear_sigterm", || {
        as_a_careless_host_does();
        let scratch = Scratch::new("processes-signals");
        for start in [Start::Fork, Start::Spawn] {
            let heard = scratch.folder().join(start.to_string());
            let envs = mirrors(1, &listener(&heard), start);
            let keeper = Process(envs.keeper_pid(0).unwrap());
            for child in Process::own().children() {
                let who = if child == keeper { "a keeper" } else { "a worker" };
                assert_hears_signals(who, |field| child.status(field));
            }
            let services = keeper.children();
            assert_eq!(services.len(), 1);
            assert_hears_signals("a service", |field| services[0].status(field));
            let mut panics = builder(fixture("panic")).start(start).build().unwrap();
            panics.reset(None).unwrap();
            let fault = (0..10).find_map(|_| panics.step(&discrete(&[0])).unwrap().faults[0].clone()).unwrap();
            assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
            assert!(fault.backtrace.iter().any(|frame| frame.contains("the_guilty_function")), "{fault:?}");
            drop(envs);
            assert_eq!(std::fs::read_to_string(&heard).unwrap(), "heard\n");
        }
        let mut lease = Rollcage::command();
        lease.args(["lease", "a:16950-16959", "--", "grep", "^Sig", "/proc/self/status"]);
        let ran = within(60, &mut lease);
        assert_hears_signals("a leased command", |field| {
            let line = ran.stdout.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("{ran:?}")).trim().to_owned()
        });
    });
}

/// Memory that runs out must cost an env, and not the trainer.
#[test]
fn where_memory_is_short_envs_and_services_go_before_their_host() {
    let score = |process: Process| -> i32 {
        let text = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", process.0)).unwrap();
        text.trim().parse().unwrap()
    };
    let own = score(Process::own());
    let scratch = Scratch::new("processes-memory");
    for start in [Start::Fork, Start::Spawn] {
        let envs = mirrors(2, &listener(&scratch.folder().join("heard")), start);
        for env in 0..2 {
            assert_eq!(score(Process(envs.pid(env).unwrap())), 1000, "a worker started by {start}");
            let keeper = Process(envs.keeper_pid(env).unwrap());
            assert_eq!(score(keeper), own, "a keeper, which cleans up");
            let services = keeper.children();
            assert_eq!(services.into_iter().map(score).collect::<Vec<_>>(), [1000]);
        }
    }
    // A command under a lease may be the trainer itself.
    let ran = within(60, Rollcage::command().args(["lease", "a:16960-16969", "--", "cat", "/proc/self/oom_score_adj"]));
    assert_eq!(ran.stdout, format!("{own}\n"), "{ran:?}");
}

/// A process that this one forked, with copies of all its descriptors. It is ended with this value.
struct Forked(Pid);

impl Forked {
    fn new() -> Forked {
        // SAFETY: the child calls nothing but `sleep` and `_exit`, which are async-signal-safe: all that a fork of a program
        // with threads may call.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::sleep(600);
                libc::_exit(0);
            }
            child
        };
        Forked(Pid::from_raw(child).unwrap())
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.0), rustix::process::WaitOptions::empty());
    }
}

/// Clock ticks that this process's threads of rollcage's have used, by their names.
fn ticks() -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let used = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
        name.starts_with("rollcage-").then(|| (name.to_owned(), used))
    };
    let mut all: Vec<_> = tasks.filter_map(of).collect();
    all.sort();
    all
}

#[test]
fn a_forked_child_that_lives_on_costs_a_host_nothing() {
    alone("processes::a_forked_child_that_lives_on_costs_a_host_nothing", || {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let grants = format!("[grant]\ntcp-connect = ['{}']\n", server.local_addr().unwrap());
        let idle = |what: &str| {
            let before = ticks();
            assert!(before.iter().any(|(name, _)| name == "rollcage-broke" || name == "rollcage-broker"), "{before:?}");
            std::thread::sleep(Duration::from_secs(2));
            for ((name, before), (_, after)) in before.into_iter().zip(ticks()) {
                // Who burns has 200, or what a loaded machine leaves of them.
                assert!(after - before < 20, "{name} used {} of 200 ticks after {what}", after - before);
            }
        };
        for start in [Start::Fork, Start::Spawn] {
            let mut envs = mirrors(2, &grants, start);
            let forked = Forked::new();
            let pid = envs.pid(1).unwrap();
            kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
            while envs.instance(1) == Some(0) {
                envs.step(&discrete(&[0, 0])).unwrap();
            }
            envs.step(&discrete(&[0, 0])).unwrap();
            idle("a restart");
            envs.close();
            eventually("the workers are gone", 10, || Process::own().envs().is_empty());
            idle("close()");
            drop(forked);
        }
    });
}
