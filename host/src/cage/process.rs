//! WALL 2: the process. What a worker gives up, in the order of `docs/worker.md`; a file beside this one for each part
//! that is more than a call. Knows the kernel; knows nothing of wasm or of what the worker is for.
//!
//! `begin` inherits nothing; `lock` stands before the first byte that a stranger could have shaped is read; `seal` before
//! the first instruction of a guest runs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::net::RecvFlags;
use rustix::process::Signal;

use super::Standing;
use super::Wall;
use super::Walls;
use super::capabilities;
use super::landlock;
use super::namespaces;
use super::numbers::CONTROL;
use super::rlimits;
pub use super::rlimits::Allowance;
pub use super::seccomp::LastFilter;
use super::seccomp::{self, Allow, Of, Purpose};
use crate::slice;

/// The walls around one worker: what is asked for, and what is left open in each.
pub struct Plan<'a> {
    /// Those to put up.
    pub walls: Walls,
    /// What it may use of the machine.
    pub allowance: Allowance,
    /// The directories it was granted, and whether it may write to each.
    pub directories: Vec<(BorrowedFd<'a>, bool)>,
    /// The system calls there are.
    pub table: &'static [Allow],
    /// Which of them it has.
    pub purpose: Purpose,
}

/// Steps 1 and 2: nothing is inherited. Returns the control socket, which stays open until the process ends: the filter
/// knows it by its number, and lets nobody close it.
///
/// # Errors
/// The system's, or the host is gone.
pub fn begin() -> io::Result<BorrowedFd<'static>> {
    // 1. The worker dies with the host's watcher thread, even if that is killed by SIGKILL.
    die_with_the_host()?;
    // 2. Whatever else the host left open or ignored over the exec.
    let control = inherit_nothing()?;
    // Inherited too: where the host stands, and the permissions it withholds.
    let _ = rustix::process::chdir("/");
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    go_first_when_memory_is_short();
    host_is_there(control)?;
    // A C library that has random bytes of the vDSO (glibc from 2.41) maps a page for them when it is first asked: memory of a
    // kind that the filter does not know, `MAP_DROPPABLE`. So it is asked before the filter stands.
    drop(std::hash::RandomState::new());
    Ok(control)
}

/// Leaves this process with its control socket, a stdin that is empty, stdout and stderr, and default signals. To be
/// called first thing: nobody may own a descriptor yet. Returns the control socket, which nobody owns: it is open until the
/// process ends.
pub(crate) fn inherit_nothing() -> io::Result<BorrowedFd<'static>> {
    // The control socket came as stdin, which is where std's `Command` can put it.
    // SAFETY: dup3 on descriptors that nobody in this process owns yet: `main` has opened nothing. rustix's `dup2` wants
    // an owner for the new number, and there is none.
    if unsafe { libc::dup3(0, CONTROL, libc::O_CLOEXEC) } < 0 {
        return Err(at("dup3", io::Error::last_os_error()));
    }
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty());
    let null = null.map_err(|error| at("/dev/null", error.into()))?;
    // SAFETY: as above, for descriptor 0.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
        return Err(at("dup2", io::Error::last_os_error()));
    }
    drop(null);
    close_the_rest()?;
    default_signals();
    Ok(control())
}

/// Closes every descriptor above the control socket.
fn close_the_rest() -> io::Result<()> {
    // SAFETY: no descriptor from 4 up has an owner in this process. rustix has no `close_range`.
    if unsafe { libc::syscall(libc::SYS_close_range, CONTROL + 1, libc::c_uint::MAX, 0) } == 0 {
        return Ok(());
    }
    // A kernel or a container's filter that is older than the call.
    let refused = io::Error::last_os_error();
    let listed = std::fs::read_dir("/proc/self/fd").map_err(|_| at("close_range", refused))?;
    let numbers: Vec<RawFd> = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > CONTROL) {
        // SAFETY: as above; the descriptor that listed them is closed already, and closing it again is refused.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Sets what becomes of signals to what it is in a program that nobody prepared: none is ignored, none blocked. Both are
/// inherited over an exec. A blocked SIGSEGV would end a worker where its handler makes a trap of it, and a blocked SIGTERM
/// is one that a service never hears. Handlers are not inherited: those that are set are std's own, and tell of a stack
/// overflow.
fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: an all-zero `sigaction` is a valid one to be filled in; asking changes nothing.
        let mut set: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: as above; a number that is no signal is refused, and `set` stays as it is.
        unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut set) };
        if set.sa_sigaction == libc::SIG_IGN {
            // SAFETY: setting a default disposition runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    // SAFETY: an all-zero `sigset_t` is a valid one, and the next call makes it the empty one.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both take a set that lives over the call; this is the only thread. What was blocked and is pending ends the
    // process, as it was meant to. rustix has neither.
    unsafe {
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Has the kernel end this process, and what it starts, before it looks at any other when memory is short: an env is
/// started anew, and a trainer is not. Raising the score takes no rights. Without `/proc` it stays the host's.
///
/// Allocates nothing: it may run between fork and exec.
fn go_first_when_memory_is_short() {
    let score = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let _ = score.map(|score| rustix::io::write(score, b"1000"));
}

/// An error, with what it is of.
fn at(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// A write to a pipe that nobody reads is an error, and not the end of a keeper, which has to clean up.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: ignoring a signal runs no code of ours. rustix has no safe `signal`.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// A file that may not grow any more (`ulimit -f`) is an error, and not the end of this process. Those that it starts begin
/// with default signals.
pub fn ignore_full_files() {
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// What the command starts dies with the thread that starts it, even if that is killed by SIGKILL.
pub(crate) fn die_with_this_process(command: &mut Command) {
    let parent = rustix::process::getpid();
    let before_exec = move || {
        die_with_the_host()?;
        // The parent may have died before.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec only what is async-signal-safe may run: these are two system calls that allocate
    // nothing and take no lock. Nothing of std's sets a death signal.
    unsafe { command.pre_exec(before_exec) };
}

/// What the command starts goes before this process and its host where memory is short.
pub(crate) fn go_before_this_process(command: &mut Command) {
    let before_exec = || {
        go_first_when_memory_is_short();
        Ok(())
    };
    // SAFETY: as in `die_with_this_process`: three system calls on a constant path.
    unsafe { command.pre_exec(before_exec) };
}

pub(super) fn die_with_the_host() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| at("prctl", error.into()))
}

/// The host may have died before the death signal was set: then its end of the socket is closed.
fn host_is_there(control: BorrowedFd<'_>) -> io::Result<()> {
    let mut byte = [0u8; 1];
    match rustix::net::recv(control, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((0, _)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the host is gone")),
        _ => Ok(()),
    }
}

/// Steps 4 to 9: what the process gives up before it reads a byte that a stranger could have shaped. Returns which walls
/// stand; those that the system does not have are missing, and it is the caller's to go on without.
///
/// # Errors
/// A wall that every Linux has cannot be put up.
pub fn lock(plan: &Plan<'_>) -> io::Result<Standing> {
    let mut standing = Standing { walls: Walls::NONE, missing: Vec::new() };
    let asked = |wall| plan.walls.has(wall);
    // 4. From the network, from queues, and from every right that is somebody's here.
    if asked(Wall::Namespaces) {
        standing.note(Wall::Namespaces, namespaces::leave().map_err(|error| error.to_string()));
    }
    // From what root may, and what a new user namespace gives.
    if asked(Wall::Capabilities) {
        capabilities::drop_all()?;
        standing.note(Wall::Capabilities, Ok(()));
    }
    // 5. No wall: nothing is lost without it.
    slice::shorten();
    // 6. From set-user-ID programs; and from the other processes of the user, who may not look in.
    if asked(Wall::NoNewPrivs) {
        rustix::thread::set_no_new_privs(true)?;
        standing.note(Wall::NoNewPrivs, Ok(()));
    }
    if asked(Wall::NotDumpable) {
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
        standing.note(Wall::NotDumpable, Ok(()));
    }
    // A change of rights clears the death signal.
    die_with_the_host()?;
    host_is_there(control())?;
    // 7. From the machine's memory, disk and descriptors.
    if asked(Wall::Rlimits) {
        rlimits::set(&plan.allowance)?;
        // In a namespace of its own: in the machine's, all that its user runs would count.
        if standing.walls.has(Wall::Namespaces) && plan.purpose.has(Of::Copied, true) {
            rlimits::bound_copies()?;
        }
        standing.note(Wall::Rlimits, Ok(()));
    }
    // 8. From every path, port and abstract socket, and from other processes.
    if asked(Wall::Landlock) {
        standing.note(Wall::Landlock, landlock::confine(&plan.directories));
    }
    // 9. From the kernel itself, but for what loading code needs.
    if asked(Wall::Seccomp) {
        standing.note(Wall::Seccomp, seccomp::filter_one(plan.table, plan.purpose).map_err(|error| error.to_string()));
    }
    Ok(standing)
}

/// Step 11: filter two, on top of the first. From here on no code is mapped, and no path opened but in a granted
/// directory.
///
/// # Errors
/// The system's: the worker must not go on.
pub fn seal(plan: &Plan<'_>, standing: &Standing) -> io::Result<()> {
    if standing.walls.has(Wall::Seccomp) {
        seccomp::filter_two(plan.table, plan.purpose).map_err(io::Error::other)?;
    }
    Ok(())
}

impl Standing {
    fn note(&mut self, wall: Wall, stands: Result<(), String>) {
        match stands {
            Ok(()) => self.walls = self.walls.with(wall),
            Err(why) => self.missing.push((wall, why)),
        }
    }
}

/// The filter for good of copies of this worker that are not to be copied themselves: built once, before there is one.
/// Nothing: they keep what this one has.
///
/// # Errors
/// The system's.
pub fn last_filter(plan: &Plan<'_>, standing: &Standing, purpose: Purpose) -> io::Result<Option<LastFilter>> {
    if !standing.walls.has(Wall::Seccomp) || purpose == plan.purpose {
        return Ok(None);
    }
    seccomp::LastFilter::new(plan.table, purpose).map(Some).map_err(io::Error::other)
}

/// The control socket, for a look.
pub(super) fn control() -> BorrowedFd<'static> {
    // SAFETY: `begin` put the control socket there, and nobody owns it: it is open until the process ends.
    unsafe { BorrowedFd::borrow_raw(CONTROL) }
}

/// Shows another title in `ps`: over this process's third argument, as far as that was long.
pub(crate) fn set_title(title: &str) {
    unsafe extern "C" {
        /// The C library's: where the first argument is.
        static program_invocation_name: *mut libc::c_char;
    }
    let mut arguments = std::env::args_os().map(|argument| argument.len() + 1);
    let before = arguments.by_ref().take(2).sum::<usize>();
    let Some(room) = arguments.next() else { return };
    let title = title.as_bytes().get(..title.len().min(room - 1)).unwrap_or_default();
    // SAFETY: the kernel put the arguments one behind the other, each with its NUL, into memory of this process that may be
    // written; nobody has moved that pointer, and the lengths are those of the arguments. There is one thread, and std
    // copies arguments when it is asked for them. No safe crate writes there, and the call that sets a name needs a row.
    unsafe {
        let at = program_invocation_name.cast::<u8>().add(before);
        at.write_bytes(0, room);
        at.copy_from_nonoverlapping(title.as_ptr(), title.len());
    }
}

/// Ends the process without running anything of std's, which would call what a filter refuses.
pub fn exit(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions; std's `process::exit` takes its signal stack down first.
    unsafe { libc::_exit(status) }
}
