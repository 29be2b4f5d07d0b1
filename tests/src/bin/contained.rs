//! A program under conditions that containers make.
//!
//!     contained [CONDITION…] PROGRAM ARGUMENTS…
//!
//! | condition | what it makes |
//! |---|---|
//! | `group=FOLDER` | the program belongs to the cgroup of this folder; may be given several times |
//! | `processes=N`, `data=N` | the limits `RLIMIT_NPROC` and `RLIMIT_DATA`, soft and hard |
//! | `user=N` | the program runs as this user and group, without others |
//! | `filter=FILE` | a seccomp filter: the instructions of a BPF program, as the kernel takes them |
//!
//! The conditions are made in the order of this table. `PROGRAM` has a `/` in it.
#![expect(clippy::unwrap_used, reason = "a condition that cannot be made fails the run")]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_condition = |word: &&String| word.contains('=') && !word.split('=').next().unwrap().contains('/');
    let conditions = arguments.iter().take_while(is_condition).count();
    let (conditions, program) = arguments.split_at(conditions);
    let given = |name: &str| {
        let values = conditions.iter().filter_map(|word| word.split_once('=')).filter(move |(key, _)| *key == name);
        values.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    let number = |name: &str| given(name).last().map(|value| value.parse::<u32>().unwrap());
    for folder in given("group") {
        std::fs::write(Path::new(&folder).join("cgroup.procs"), std::process::id().to_string()).unwrap();
    }
    for (name, resource) in [("processes", libc::RLIMIT_NPROC), ("data", libc::RLIMIT_DATA)] {
        if let Some(limit) = number(name) {
            let limit = libc::rlimit { rlim_cur: limit.into(), rlim_max: limit.into() };
            // SAFETY: the limit is a local, and the kernel only reads it.
            check(unsafe { libc::setrlimit(resource, &raw const limit) }, name);
        }
    }
    if let Some(user) = number("user") {
        // SAFETY: an empty list of groups is read from nowhere; the others take numbers.
        check(unsafe { libc::setgroups(0, std::ptr::null()) }, "setgroups");
        // SAFETY: see above.
        check(unsafe { libc::setgid(user) }, "setgid");
        // SAFETY: see above.
        check(unsafe { libc::setuid(user) }, "setuid");
    }
    if let Some(file) = given("filter").last() {
        filter(&std::fs::read(file).unwrap());
    }
    panic!("{}: {}", program[0], Command::new(&program[0]).args(&program[1..]).exec());
}

/// Loads a filter as a container's runtime does: without `no_new_privs`, where that is allowed.
fn filter(bytes: &[u8]) {
    let (steps, rest) = bytes.as_chunks::<8>();
    assert!(rest.is_empty(), "the filter ends within an instruction");
    let mut steps: Vec<libc::sock_filter> = steps
        .iter()
        .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| libc::sock_filter {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect();
    let program = libc::sock_fprog { len: steps.len().try_into().unwrap(), filter: steps.as_mut_ptr() };
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: the program and its steps are locals, and the kernel copies them.
    let load = || unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    if load() == 0 {
        return;
    }
    // SAFETY: the call takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, "no_new_privs");
    check(load(), "the filter");
}

fn check(result: libc::c_int, what: &str) {
    assert!(result == 0, "{what}: {}", std::io::Error::last_os_error());
}
