//! Machines that limit or lack something: the limit or what is missing is named, once, with what to do; and no env is blamed.

use std::path::Path;
use std::process::{Command, Stdio};

use rollcage::Start;
use rollcage_tests::{Ran, Rollcage, Scratch, alone, cache_folder, eventually, is_root, program, shipped, within};
use serde_json::{Value, json};

/// `rollcage` behind limits of a shell's.
fn limited(limits: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits} && exec \"$0\" \"$@\"")]).arg(program()).args(arguments);
    within(120, command.env("ROLLCAGE_CACHE", cache_folder()).stdin(Stdio::null()))
}

const PLAY: [&str; 5] = ["run", "cartpole", "--steps=200", "--seed=1", "--json"];

fn warnings(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter(|line| line.starts_with("warning: ")).collect()
}

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// What bounds a worker further than its own limits do is used, and said once.
#[test]
fn a_hard_limit_below_a_workers_own_is_used_and_named_once() {
    let free = report(&limited("true", &PLAY));
    for (limit, named) in [
        ("ulimit -t 60", "a process may have 60 s of processor time here"),
        ("ulimit -d 200000", "a process may have 204800000 bytes of data here"),
        // In blocks of 512 bytes.
        ("ulimit -f 200000", "a file may have 102400000 bytes here"),
        ("ulimit -n 200", ""),
    ] {
        // Compiled anew, so that every kind of worker is behind it.
        let play: Vec<&str> = PLAY.into_iter().chain(["--no-cache", "--envs=3"]).collect();
        let ran = limited(limit, &play);
        let object = report(&ran);
        assert_eq!((ran.status, &object["faults_total"]), (Some(0), &json!(0)), "{limit}: {ran:?}");
        let warned = warnings(&ran);
        assert_eq!(warned.len(), usize::from(!named.is_empty()), "{limit}: {ran:?}");
        if let [warned] = warned[..] {
            assert!(warned.contains(named) && warned.contains("raise the limit: `ulimit -"), "{limit}: {warned}");
        }
        // The same env as ever.
        let one = limited(limit, &PLAY);
        assert_eq!(report(&one)["digest"], free["digest"], "{limit}: {one:?}");
    }
}

#[test]
fn a_hard_limit_below_what_an_env_needs_is_an_error_that_says_so() {
    for (limit, message, hint) in [
        ("ulimit -f 2000", "files of this process may have 1024000 bytes", "`ulimit -f unlimited`"),
        ("ulimit -v 2000000", "a process may have 2048000000 bytes of address space here", "`ulimit -v unlimited`"),
        ("ulimit -n 60", "3 envs need 6 descriptors, 2 each; this process may have 60", "`ulimit -Hn`"),
    ] {
        let play: Vec<&str> = PLAY.into_iter().chain(["--envs=3"]).collect();
        let ran = limited(limit, &play);
        assert_eq!(ran.status, Some(2), "{limit}: {ran:?}");
        let errors: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(matches!(errors[..], [error] if error.contains(message)), "{limit}: {ran:?}");
        assert!(ran.stderr.contains(hint), "{limit}: {ran:?}");
    }
}

#[test]
fn a_soft_limit_on_descriptors_is_raised_where_envs_need_more() {
    let play: Vec<&str> = PLAY.into_iter().chain(["--envs=32"]).collect();
    let ran = limited("ulimit -Sn 64", &play);
    assert_eq!((ran.status, &report(&ran)["faults_total"]), (Some(0), &json!(0)), "{ran:?}");
}

/// The program behind a filter that denies a system call, as those of older containers do.
fn denied(number: libc::c_long, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_intruder"));
    command.arg("denied").arg(number.to_string()).arg(program()).args(arguments);
    within(120, command.env("ROLLCAGE_CACHE", cache_folder()).stdin(Stdio::null()))
}

#[test]
fn a_denied_system_call_is_no_envs_fault_and_no_other_program() {
    let play: Vec<&str> = PLAY.into_iter().chain(["--envs=3", "--no-cache"]).collect();
    let free = report(&limited("true", &play));
    // There is another way.
    for number in [libc::SYS_close_range, libc::SYS_waitid] {
        let ran = denied(number, &play);
        let object = report(&ran);
        assert_eq!((ran.status, &object["faults_total"]), (Some(0), &json!(0)), "{number}: {ran:?}");
        assert_eq!(object["digest"], free["digest"], "{number}");
    }
    // There is none.
    for (number, named) in
        [(libc::SYS_prctl, "a process of rollcage cannot begin here: prctl: "), (libc::SYS_clone3, "`clone3`")]
    {
        let ran = denied(number, &play);
        assert!(ran.status.is_some_and(|status| status == 1 || status == 2), "{number}: {ran:?}");
        assert!(ran.stderr.contains(named) && ran.stderr.contains("a filter around this process"), "{number}: {ran:?}");
        assert!(!ran.stderr.contains("it must be the `rollcage` program"), "{number}: {ran:?}");
        if !ran.stdout.is_empty() {
            assert_eq!(report(&ran)["walls"], json!(null), "no worker started: {ran:?}");
        }
    }
}

#[test]
fn without_proc_it_is_proc_that_is_missing() {
    let mut unshare = Command::new("unshare");
    unshare.args(if is_root() { &["-m"][..] } else { &["-r", "-m"] });
    unshare.args(["sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" \"$@\""]);
    let scratch = Scratch::new("machines-proc");
    let run = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(unshare.get_args()).arg(program()).args(arguments).current_dir(scratch.folder());
        within(120, command.env("ROLLCAGE_CACHE", cache_folder()).stdin(Stdio::null()))
    };
    let ran = run(&["doctor"]);
    if ran.stdout.is_empty() {
        // No namespaces for ordinary users here.
        return;
    }
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("--  /proc            not mounted: `mount -t proc proc /proc`"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("CONFIG_"), "{}", ran.stdout);
    let ran = run(&PLAY);
    assert!(ran.stderr.contains("/proc is not mounted"), "{ran:?}");
    assert!(ran.stdout.is_empty() || report(&ran)["walls"] == json!(null), "{ran:?}");
    assert!(Rollcage::run(["doctor"]).stdout.contains("ok  /proc "));
}

/// The control groups of this process, where it may make one.
fn may_make_groups() -> bool {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let memory = own
        .lines()
        .find_map(|line| line.split_once(":memory:"))
        .map(|(_, path)| Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/')));
    let unified =
        || own.lines().find_map(|line| line.strip_prefix("0::/")).map(|path| Path::new("/sys/fs/cgroup").join(path));
    let Some(folder) = memory.filter(|folder| folder.is_dir()).or_else(unified) else { return false };
    let made = folder.join(format!("rollcage-test-{}", std::process::id()));
    std::fs::create_dir(&made).and_then(|()| std::fs::remove_dir(&made)).is_ok()
}

#[test]
fn a_run_is_bounded_by_a_control_group_where_one_may_be_made() {
    let play = ["run", "cartpole", "--envs=2", "--steps=200", "--seed=1", "--json"];
    let bounded = [&play[..], &["--max-memory=1GiB", "--max-cpu=1.5"]].concat();
    let ran = Rollcage::run(&bounded);
    if !may_make_groups() {
        assert_eq!(ran.status, Some(2), "{ran:?}");
        assert!(ran.stderr.contains("`--max-memory`: ") && ran.stderr.contains("systemd-run"), "{ran:?}");
        return;
    }
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let free = Rollcage::run(play);
    assert_eq!(report(&ran)["digest"], report(&free)["digest"]);
    // An env that takes what its own limit allows, and the run's does not: the kernel ends its worker, and not the host.
    let guest = rollcage_tests::fixture_path("memory").to_str().unwrap().to_owned();
    let greedy =
        ["run", &guest, "--steps=6", "--seed=1", "--json", "--on-fault=raise", "--memory=3GiB", "--max-memory=200MiB"];
    let ran = Rollcage::run(greedy);
    assert!(matches!(ran.status, Some(0 | 1)), "{ran:?}");
    let said =
        "was killed by signal 9 (SIGKILL): the kernel ended it, since the memory of its control group is used up";
    assert!(ran.stderr.contains(said), "{ran:?}");
    for wrong in [["--max-cpu=0"], ["--max-cpu=lots"], ["--max-memory=lots"]] {
        assert_eq!(Rollcage::run([&play[..], &wrong].concat()).status, Some(2));
    }
}

/// systemd's `MemoryDenyWriteExecute=`: native code cannot run, and the error says what does.
#[test]
fn where_no_memory_may_become_executable_the_interpreter_is_named() {
    let run = |backend: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_intruder"));
        command.arg("unexecutable").arg(program());
        command.args(["run", "cartpole", "--envs", "1", "--episodes", "1", "--seed", "7", "--json"]);
        command.args(["--backend", backend, "--no-cache"]).stdin(Stdio::null());
        within(120, &mut command)
    };
    let native = run("native");
    if native.status == Some(77) {
        return;
    }
    assert_eq!(native.status, Some(2), "{}", native.stderr);
    assert!(native.stderr.contains("`--backend pulley`"), "{}", native.stderr);
    let interpreted = run("pulley");
    assert_eq!(interpreted.status, Some(0), "{}", interpreted.stderr);
}

/// Descriptors that stay open in this process: the fewest of several looks, since the watcher opens a file five times a second.
fn descriptors() -> usize {
    let look = |_| {
        std::thread::sleep(std::time::Duration::from_millis(2));
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    };
    (0..10).map(look).min().unwrap()
}

#[test]
fn an_env_takes_two_descriptors_of_its_host_and_gives_them_back() {
    alone("machines::an_env_takes_two_descriptors_of_its_host_and_gives_them_back", || {
        for start in [Start::Fork, Start::Spawn] {
            let made = |envs: usize| {
                let mut envs = shipped("cartpole").start(start).envs_per_worker(1usize).envs(envs).build().unwrap();
                envs.reset(Some(1)).unwrap();
                envs
            };
            let one = made(1);
            let with_one = descriptors();
            let more = made(1);
            let each_run = descriptors() - with_one;
            drop(more);
            let more = made(17);
            assert_eq!(descriptors() - with_one, each_run + 16 * 2, "{start:?}");
            drop(more);
            eventually("the descriptors are given back", 10, || descriptors() == with_one);
            drop(one);
        }
    });
}
