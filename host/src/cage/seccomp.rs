//! SANDBOX, part 2: the kernel. Every system call that a locked worker has, with its reason; any other call ends the
//! process by SIGSYS. This also shuts off the network, since Landlock does not (`landlock`).
//!
//! Only registers are compared, never memory that a call points to, which could change during the comparison. Two
//! filters are stacked: the first is active before untrusted code is loaded and allows loading it; the second forbids
//! that before the code runs. Tests walk this table: a row that nothing needs fails a test, and so does a changed
//! argument that passes.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::numbers::{ASSETS, BROKER, CAPTURE, COPY_FLAGS, OUTPUT, PLUGIN};

/// One way in which a system call is allowed. A call with several rows is allowed by any of them.
#[derive(Clone, Copy, Debug)]
pub struct Allow {
    /// The call's name.
    pub call: &'static str,
    /// The call's number on this architecture.
    pub number: libc::c_long,
    /// Which workers have the row.
    pub of: Of,
    /// What the call's registers must hold. Registers that are not named may hold anything.
    pub arguments: &'static [Argument],
    /// What the kernel does with the call.
    pub answer: Answer,
    /// What fails without the row.
    pub why: &'static str,
}

/// The kernel's answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call is made.
    Done,
    /// The call is not made and fails with `EPERM`: well-behaved code asks, and goes on after a refusal.
    Denied,
}

/// A condition on one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Argument number, value; an `int` or a descriptor: the kernel looks at 32 bits.
    Is(u8, u64),
    /// Argument number, bits: no other bit of the 64 is set.
    Only(u8, u64),
    /// Argument number, value: all 64 bits.
    Exactly(u8, u64),
    /// Argument number, value: a descriptor with a higher number.
    Above(u8, u64),
}

/// The workers that have a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Every worker.
    Every,
    /// A compile process.
    Compiler,
    /// An env's worker, and a worker that describes.
    Env,
    /// An env's worker, and a worker that describes, until its code is loaded: filter one only.
    Loading,
    /// An env's worker with a granted directory.
    Reader,
    /// An env's worker with a granted directory that it may write to.
    Writer,
    /// An env's worker with `clock=real`.
    Sleeper,
    /// An env's worker that may be given sockets.
    Talker,
    /// An env's worker that may be given a listening socket.
    Listener,
    /// An env's worker that records input from outside.
    Recorder,
    /// An env's worker that is served recorded input.
    Replayer,
    /// A worker that runs the code of a plugin with assets.
    Carrier,
    /// An env's worker that may be copied, and a template process.
    Copied,
    /// A template process whose copies may not be copied.
    Pristine,
}

/// A worker's purpose, as far as its filters are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To compile a plugin.
    Compile,
    /// To be an env, or to describe one.
    Env {
        /// Whether it has a granted directory.
        reads: bool,
        /// Whether it has a granted directory that it may write to.
        writes: bool,
        /// Whether it has `clock=real`.
        sleeps: bool,
        /// Whether it may be given sockets.
        talks: bool,
        /// Whether it may be given a listening socket.
        listens: bool,
        /// Whether it records input from outside.
        records: bool,
        /// Whether it is served recorded input.
        replays: bool,
        /// Whether its plugin has assets.
        carries: bool,
        /// Which copies the host may order.
        copies: Copies,
    },
}

/// The copies that a worker may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// None.
    None,
    /// Copies, which may be copied too.
    All,
    /// Copies, which set up a filter of their own and cannot be copied.
    First,
}

impl Purpose {
    /// The purpose of an env without grants.
    pub const PURE: Purpose = Purpose::env(false, false);

    /// The purpose of an env that has a directory, or may write to it, and nothing else.
    const fn env(reads: bool, writes: bool) -> Purpose {
        Purpose::Env {
            reads,
            writes,
            sleeps: false,
            talks: false,
            listens: false,
            records: false,
            replays: false,
            carries: false,
            copies: Copies::None,
        }
    }

    /// The purpose of an env whose only grant is a directory, for tests.
    pub const fn of_directories(writes: bool) -> Purpose {
        Purpose::env(true, writes)
    }

    /// The purpose of an env that has a row of every kind, for tests.
    pub const GRANTED: Purpose = Purpose::Env {
        reads: true,
        writes: true,
        sleeps: true,
        talks: true,
        listens: true,
        records: true,
        replays: true,
        carries: true,
        copies: Copies::First,
    };

    /// The purpose of an env that is served recorded input, has assets and no other grant, for tests.
    pub const REPLAYER: Purpose = Purpose::Env {
        reads: false,
        writes: false,
        sleeps: false,
        talks: false,
        listens: false,
        records: false,
        replays: true,
        carries: true,
        copies: Copies::None,
    };

    /// The purpose with these copies.
    #[must_use]
    pub fn with_copies(self, copies: Copies) -> Purpose {
        match self {
            Purpose::Env { reads, writes, sleeps, talks, listens, records, replays, carries, .. } => {
                Purpose::Env { reads, writes, sleeps, talks, listens, records, replays, carries, copies }
            }
            Purpose::Compile => self,
        }
    }

    /// Whether a worker with this purpose has a row, before its code is loaded (filter one) or after (filter two).
    pub fn has(self, of: Of, loading: bool) -> bool {
        match (self, of) {
            (_, Of::Every) | (Purpose::Compile, Of::Compiler) | (Purpose::Env { .. }, Of::Env) => true,
            (Purpose::Env { .. }, Of::Loading) => loading,
            (Purpose::Env { reads, .. }, Of::Reader) => reads,
            (Purpose::Env { writes, .. }, Of::Writer) => writes,
            (Purpose::Env { sleeps, .. }, Of::Sleeper) => sleeps,
            (Purpose::Env { talks, .. }, Of::Talker) => talks,
            (Purpose::Env { listens, .. }, Of::Listener) => listens,
            (Purpose::Env { records, .. }, Of::Recorder) => records,
            (Purpose::Env { replays, .. }, Of::Replayer) => replays,
            (Purpose::Env { carries, .. }, Of::Carrier) => carries,
            (Purpose::Env { copies, .. }, Of::Copied) => copies != Copies::None,
            (Purpose::Env { copies, .. }, Of::Pristine) => copies == Copies::First,
            _ => false,
        }
    }
}

/// The descriptors that rows name: standard error, the control socket, and a compiler's plugin and output, which are
/// the first two that come over the control socket.
const LOG: u64 = 2;
const CONTROL: u64 = super::numbers::CONTROL as u64;
const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
/// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE` and its registration: on this processor new code must be announced to every
/// core, and the engine does so.
#[cfg(target_arch = "aarch64")]
const SYNC_CORE: u64 = 32;
#[cfg(target_arch = "aarch64")]
const WANT_SYNC_CORE: u64 = 64;

const CODE: u64 = (libc::PROT_READ | libc::PROT_EXEC) as u64;
/// `MAP_SHARED` is not among these: nothing can be mapped that another process could write, such as another env's slab.
const PRIVATE: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE) as u64;
const WAIT: u64 = libc::FUTEX_WAIT as u64;
const WAKE: u64 = libc::FUTEX_WAKE as u64;
const WAKE_PRIVATE: u64 = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as u64;
const READ_ONLY: u64 = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
const NO_NEW_PRIVS: u64 = libc::PR_SET_NO_NEW_PRIVS as u64;
/// Bytes of `struct open_how`.
const OPEN_HOW: u64 = 24;
const EMPTY_PATH: u64 = libc::AT_EMPTY_PATH as u64;
const NO_FOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;
const REMOVE_DIR: u64 = libc::AT_REMOVEDIR as u64;
const GET_FLAGS: u64 = libc::F_GETFL as u64;
const APPEND: u64 = libc::RWF_APPEND as u64;
const MONOTONIC: u64 = libc::CLOCK_MONOTONIC as u64;
const DEATH_SIGNAL: u64 = libc::PR_SET_PDEATHSIG as u64;
const KILL: u64 = libc::SIGKILL as u64;
const CLOSE_ON_EXEC: u64 = libc::O_CLOEXEC as u64;
const SLAB_AT: u64 = super::numbers::WORKER_ADDRESS as u64;
const SLAB_LEN: u64 = super::numbers::SLAB_BYTES as u64;
const SHARED_OVER: u64 = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
const NOW: u64 = libc::MSG_DONTWAIT as u64;
const NOW_QUIETLY: u64 = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;

macro_rules! allow {
    ($($(#[$only:meta])* $of:ident $call:ident, $number:ident, [$($argument:expr),*], $answer:ident, $why:literal;)*) => {
        &[$($(#[$only])* Allow {
            call: stringify!($call),
            number: libc::$number,
            of: Of::$of,
            arguments: &[$($argument),*],
            answer: Answer::$answer,
            why: $why,
        }),*]
    };
}

use Argument::{Above, Exactly, Is, Only};

/// Every row there is.
#[rustfmt::skip]
pub const TABLE: &[Allow] = allow! {
    // who   call             number               registers                                 answer  what dies without it
    Env      futex,           SYS_futex,           [Is(1, WAIT)],                            Done,   "waiting for a turn";
    Env      futex,           SYS_futex,           [Is(1, WAKE)],                            Done,   "answering a turn";
    Every    futex,           SYS_futex,           [Is(1, WAKE_PRIVATE)],                    Done,   "std's locks, when a panic is told";
    Env      restart_syscall, SYS_restart_syscall, [],                                       Done,   "waiting on, after a stop and a continue";
    Every    sendmsg,         SYS_sendmsg,         [Is(0, CONTROL)],                         Done,   "telling the host: faults, answers";
    Env      recvmsg,         SYS_recvmsg,         [Is(0, CONTROL)],                         Done,   "being told: calls, reset options";
    Every    write,           SYS_write,           [Is(0, LOG)],                             Done,   "the guest's output, a panic's message";
    Every    mmap,            SYS_mmap,            [Only(2, READ_WRITE), Only(3, PRIVATE)],  Done,   "memory: malloc, instances";
    Every    munmap,          SYS_munmap,          [],                                       Done,   "giving memory back";
    Every    mremap,          SYS_mremap,          [],                                       Done,   "large blocks that grow";
    Every    brk,             SYS_brk,             [],                                       Done,   "small blocks";
    Env      mprotect,        SYS_mprotect,        [Only(2, READ_WRITE)],                    Done,   "a memory that grows";
    Every    getrandom,       SYS_getrandom,       [],                                       Done,   "the keys of hash maps; `random=real`";
    // Not the control socket: another descriptor would get its number, a UDP socket say, and `sendmsg` with it.
    Every    close,           SYS_close,           [Above(0, CONTROL)],                      Done,   "descriptors that are done with";
    Every    exit_group,      SYS_exit_group,      [],                                       Done,   "ending";
    Every    rt_sigaction,    SYS_rt_sigaction,    [],                                       Done,   "trap handlers; taking them back when the worker itself crashes";
    Every    rt_sigreturn,    SYS_rt_sigreturn,    [],                                       Done,   "going on after a trap; ending by a crash";
    Every    rt_sigprocmask,  SYS_rt_sigprocmask,  [],                                       Done,   "abort()";
    Every    getpid,          SYS_getpid,          [],                                       Done,   "abort()";
    Every    gettid,          SYS_gettid,          [],                                       Done,   "a panic's message";
    Every    tgkill,          SYS_tgkill,          [],                                       Denied, "abort(), which ends by a crash when it may not signal itself";
    Every    clock_gettime,   SYS_clock_gettime,   [],                                       Done,   "reading the clock, where the vDSO cannot";
    // Until the code is loaded.
    Loading  openat,          SYS_openat,          [Is(2, READ_ONLY)],                       Done,   "opening the code by /proc/self/fd";
    Loading  statx,           SYS_statx,           [],                                       Done,   "its size";
    Loading  mprotect,        SYS_mprotect,        [Only(2, CODE)],                          Done,   "making it code";
    #[cfg(target_arch = "aarch64")]
    Loading  membarrier,      SYS_membarrier,      [Is(0, SYNC_CORE), Is(1, 0)],             Done,   "making it code on every core";
    #[cfg(target_arch = "aarch64")]
    Loading  membarrier,      SYS_membarrier,      [Is(0, WANT_SYNC_CORE), Is(1, 0)],        Done,   "making it code on every core";
    Loading  sigaltstack,     SYS_sigaltstack,     [],                                       Done,   "the stack for traps";
    Loading  prctl,           SYS_prctl,           [Is(0, NO_NEW_PRIVS), Is(1, 1)],          Done,   "filter two";
    Loading  seccomp,         SYS_seccomp,         [],                                       Done,   "filter two";
    // A compile process.
    Compiler read,            SYS_read,            [Is(0, PLUGIN)],                          Done,   "the plugin";
    Compiler write,           SYS_write,           [Is(0, OUTPUT)],                          Done,   "its code";
    // A granted directory. Which path a call means is in memory that it points to: Landlock's to confine.
    Reader   openat2,         SYS_openat2,         [Is(3, OPEN_HOW)],                        Done,   "opening, beneath the directory";
    Reader   openat,          SYS_openat,          [],                                       Denied, "a file that may not be written: WASI's crate tries this next";
    Reader   statx,           SYS_statx,           [Is(2, EMPTY_PATH)],                      Done,   "what an open file is";
    Reader   statx,           SYS_statx,           [Is(2, NO_FOLLOW)],                       Done,   "what a name is";
    Reader   getdents64,      SYS_getdents64,      [],                                       Done,   "listing";
    Reader   readlinkat,      SYS_readlinkat,      [],                                       Done,   "where a symbolic link leads";
    Reader   pread64,         SYS_pread64,         [],                                       Done,   "reading";
    Reader   fcntl,           SYS_fcntl,           [Is(1, GET_FLAGS)],                       Done,   "what a file was opened for";
    Reader   fadvise64,       SYS_fadvise64,       [],                                       Done,   "advice on what is read next";
    Reader   fsync,           SYS_fsync,           [],                                       Done,   "`sync`";
    Reader   fdatasync,       SYS_fdatasync,       [],                                       Done,   "`sync-data`";
    // A granted directory that may be written to.
    Writer   pwrite64,        SYS_pwrite64,        [],                                       Done,   "writing";
    Writer   pwritev2,        SYS_pwritev2,        [Is(5, APPEND)],                          Done,   "appending";
    Writer   ftruncate,       SYS_ftruncate,       [],                                       Done,   "`set-size`";
    Writer   mkdirat,         SYS_mkdirat,         [],                                       Done,   "making a directory";
    Writer   unlinkat,        SYS_unlinkat,        [Is(2, 0)],                               Done,   "removing a file";
    Writer   unlinkat,        SYS_unlinkat,        [Is(2, REMOVE_DIR)],                      Done,   "removing a directory";
    Writer   renameat,        SYS_renameat,        [],                                       Done,   "renaming";
    Writer   linkat,          SYS_linkat,          [Is(4, 0)],                               Done,   "a hard link";
    Writer   symlinkat,       SYS_symlinkat,       [],                                       Denied, "a symbolic link: a trap for whoever follows it outside";
    // No path: Landlock lets everybody's times be set by one.
    Writer   utimensat,       SYS_utimensat,       [Only(1, 0), Is(3, 0)],                   Done,   "an open file's times";
    // `clock=real`.
    Sleeper  clock_nanosleep, SYS_clock_nanosleep, [Is(0, MONOTONIC), Is(1, 0)],             Done,   "waiting in real time";
    // Granted sockets, which the broker made and connected. No `socket`, `connect`, `bind`, `setsockopt`; and no destination:
    // the pointer to one must be null, all 64 bits of it.
    Talker   sendmsg,         SYS_sendmsg,         [Is(0, BROKER)],                          Done,   "asking the broker";
    Talker   recvmsg,         SYS_recvmsg,         [Is(0, BROKER)],                          Done,   "its answers, and the sockets in them";
    Talker   recvfrom,        SYS_recvfrom,        [Is(3, NOW), Only(4, 0)],                 Done,   "receiving";
    Talker   sendto,          SYS_sendto,          [Is(3, NOW_QUIETLY), Only(4, 0)],         Done,   "sending";
    Talker   ppoll,           SYS_ppoll,           [Is(3, 0)],                               Done,   "waiting for a socket";
    Talker   shutdown,        SYS_shutdown,        [],                                       Done,   "ending one direction";
    Listener accept4,         SYS_accept4,         [],                                       Done,   "accepting";
    // What came in from outside, where a run is recorded, and where it is run again.
    Recorder write,           SYS_write,           [Is(0, CAPTURE)],                         Done,   "writing down what came in";
    Replayer pread64,         SYS_pread64,         [Is(0, CAPTURE)],                         Done,   "being served what came in";
    // The files that came with the plugin.
    Carrier  pread64,         SYS_pread64,         [Is(0, ASSETS)],                          Done,   "reading the plugin's assets";
    // Copies: no other flags, so no thread and no namespace; and what a copy does to become one of its own.
    Copied   clone,           SYS_clone,           [Is(0, COPY_FLAGS), Only(1, 0)],               Done,   "a copy";
    Copied   prctl,           SYS_prctl,           [Is(0, DEATH_SIGNAL), Is(1, KILL)],       Done,   "a copy that dies with the host";
    Copied   dup3,            SYS_dup3,            [Is(1, CONTROL), Is(2, CLOSE_ON_EXEC)],   Done,   "a copy's control socket";
    Copied   dup3,            SYS_dup3,            [Is(1, LOG), Is(2, CLOSE_ON_EXEC)],       Done,   "a copy's log";
    Copied   mmap,            SYS_mmap,            [Exactly(0, SLAB_AT), Exactly(1, SLAB_LEN), Only(2, READ_WRITE), Is(3, SHARED_OVER)], Done, "a copy's slab, over the one before";
    Pristine prctl,           SYS_prctl,           [Is(0, NO_NEW_PRIVS), Is(1, 1)],          Done,   "the filter of a copy";
    Pristine seccomp,         SYS_seccomp,         [],                                       Done,   "the filter of a copy";
};

/// The filter that is active while code is loaded.
///
/// # Errors
/// The system has no seccomp filters, or refuses this one.
pub(super) fn filter_one(table: &[Allow], purpose: Purpose) -> Result<(), seccompiler::Error> {
    // A filter of its own, because one filter knows one answer besides its default. It is installed first, because
    // installing it takes calls that the next filter forbids.
    deny(&denied(table, purpose, true))?;
    seccompiler::apply_filter(&program(table, |of| purpose.has(of, true))?)
}

/// The final filter.
///
/// # Errors
/// The system's error.
pub(super) fn filter_two(table: &[Allow], purpose: Purpose) -> Result<(), seccompiler::Error> {
    let before = denied(table, purpose, true);
    let now: Vec<i64> = denied(table, purpose, false).into_iter().filter(|number| !before.contains(number)).collect();
    deny(&now)?;
    seccompiler::apply_filter(&program(table, |of| purpose.has(of, false))?)
}

/// A filter that was built before it is needed. Calls that earlier filters deny stay denied.
pub struct LastFilter(BpfProgram);

impl LastFilter {
    pub(super) fn new(table: &[Allow], purpose: Purpose) -> Result<LastFilter, seccompiler::Error> {
        program(table, |of| purpose.has(of, false)).map(LastFilter)
    }

    /// Installs the filter on top of the others.
    ///
    /// # Errors
    /// The system's error: the worker must not go on.
    pub fn put_up(&self) -> std::io::Result<()> {
        seccompiler::apply_filter(&self.0).map_err(std::io::Error::other)
    }
}

/// The calls that fail with `EPERM`, without those that another row allows.
fn denied(table: &[Allow], purpose: Purpose, loading: bool) -> Vec<i64> {
    let rows = || table.iter().filter(|row| purpose.has(row.of, loading));
    let done: Vec<i64> = rows().filter(|row| row.answer == Answer::Done).map(|row| row.number).collect();
    let denied = rows().filter(|row| row.answer == Answer::Denied).map(|row| row.number);
    denied.filter(|number| !done.contains(number)).collect()
}

fn deny(numbers: &[i64]) -> Result<(), seccompiler::Error> {
    if numbers.is_empty() {
        return Ok(());
    }
    let rules = numbers.iter().map(|number| (*number, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch()?)?.try_into()?;
    seccompiler::apply_filter(&program)
}

/// Makes a filter program of the rows that `has` picks. A call that an earlier filter denies is passed on to that
/// filter.
fn program(table: &[Allow], has: impl Fn(Of) -> bool) -> Result<BpfProgram, seccompiler::Error> {
    let mut calls: BTreeMap<i64, Vec<&[Argument]>> = BTreeMap::new();
    for row in table.iter().filter(|row| has(row.of)) {
        calls.entry(row.number).or_default().push(row.arguments);
    }
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (number, rows) in calls {
        let mut alternatives = Vec::new();
        // An empty list of alternatives means no conditions, which is the case of a single row without any.
        if rows.iter().all(|arguments| !arguments.is_empty()) {
            for arguments in rows {
                let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
                alternatives.push(SeccompRule::new(conditions)?);
            }
        }
        rules.insert(number, alternatives);
    }
    Ok(SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch()?)?.try_into()?)
}

fn condition(argument: &Argument) -> Result<SeccompCondition, seccompiler::BackendError> {
    match *argument {
        Is(index, value) => SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value),
        Exactly(index, value) => SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value),
        Above(index, value) => SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Gt, value),
        Only(index, bits) => SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(!bits), 0),
    }
}

fn arch() -> Result<TargetArch, seccompiler::BackendError> {
    std::env::consts::ARCH.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Purpose = Purpose::GRANTED;

    #[test]
    fn a_call_is_denied_at_most_where_nothing_allows_it() {
        assert_eq!(denied(TABLE, Purpose::PURE, true), [libc::SYS_tgkill]);
        assert_eq!(denied(TABLE, ALL, true), [libc::SYS_tgkill, libc::SYS_symlinkat]);
        assert!(denied(TABLE, ALL, false).contains(&libc::SYS_openat));
    }

    #[test]
    fn programs_compile_for_every_purpose() {
        for purpose in [Purpose::Compile, Purpose::PURE, ALL] {
            for loading in [true, false] {
                let program = program(TABLE, |of| purpose.has(of, loading)).expect("a program");
                assert!((50..700).contains(&program.len()), "{purpose:?}: {} instructions", program.len());
            }
        }
    }
}
