//! SANDBOX, part 2: the process. What a worker gives up, in the order of `docs/worker.md`, with a file beside this one
//! for each step that is more than a call. Knows the kernel; knows nothing of wasm or of the worker's purpose.
//!
//! After `begin` nothing is inherited. `lock` is complete before the first untrusted byte is read, and `seal` before
//! the first instruction of a guest runs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::net::RecvFlags;
use rustix::process::Signal;

use super::numbers::CONTROL;
pub use super::rlimits::Allowance;
pub use super::seccomp::LastFilter;
use super::seccomp::{self, Allow, Of, Purpose};
use super::{Standing, Wall, Walls, capabilities, landlock, level, namespaces, rlimits};
use crate::slice;

/// The plan of one worker's sandbox: which layers to set up, and what stays allowed in each.
pub struct Plan<'a> {
    /// The layers to set up.
    pub walls: Walls,
    /// What the worker may use of the machine.
    pub allowance: Allowance,
    /// The granted directories, each with whether the worker may write to it.
    pub directories: Vec<(BorrowedFd<'a>, bool)>,
    /// The table of allowed system calls.
    pub table: &'static [Allow],
    /// The worker's purpose, which selects rows of the table.
    pub purpose: Purpose,
    /// A version of Landlock that is not to be exceeded: for tests of older kernels.
    pub landlock: Option<u32>,
}

/// Steps 1 and 2: nothing is inherited. Returns the control socket, which stays open until the process ends: the filter
/// knows it by its number, and forbids closing it.
///
/// # Errors
/// The system's error, or the host is gone.
pub fn begin() -> io::Result<BorrowedFd<'static>> {
    // 1. The worker dies with the host's watcher thread, even after SIGKILL.
    die_with_the_host()?;
    // 2. Descriptors that the host left open over the exec, and signals that it ignored.
    let control = inherit_nothing()?;
    // The working directory and the umask are inherited too.
    let _ = rustix::process::chdir("/");
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    go_first_when_memory_is_short();
    host_is_there(control)?;
    // A C library that takes random bytes from the vDSO (glibc from 2.41) maps a page for them on first use, of a kind
    // that the filter forbids (`MAP_DROPPABLE`). So random bytes are asked for before the filter is set up.
    drop(std::hash::RandomState::new());
    Ok(control)
}

/// Leaves this process with only its control socket, an empty stdin, stdout and stderr, and with default signals. Must
/// be called first: no value may own a descriptor yet. Returns the control socket, which has no owner: it is open until
/// the process ends.
pub(crate) fn inherit_nothing() -> io::Result<BorrowedFd<'static>> {
    // The control socket came as stdin, which is where std's `Command` can put it.
    // SAFETY: dup3 on descriptors that nothing in this process owns yet: `main` has opened nothing. rustix's `dup2`
    // wants an owner for the new number, and there is none.
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
    // The kernel or a container's filter is older than the call.
    let refused = io::Error::last_os_error();
    let listed = std::fs::read_dir("/proc/self/fd").map_err(|_| at("close_range", refused))?;
    let numbers: Vec<RawFd> = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > CONTROL) {
        // SAFETY: as above. The descriptor that listed the others is closed already, and closing it again is refused.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Resets signals to the default of a freshly started program: none is ignored, none is blocked. Both states are
/// inherited over an exec. A blocked SIGSEGV would end a worker where its handler turns it into a trap, and a service
/// would never receive a blocked SIGTERM. Handlers are not inherited: the existing ones are std's own, and report a
/// stack overflow.
fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: an all-zero `sigaction` is a valid one to be filled in; asking changes nothing.
        let mut set: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: as above; a number that is not a signal is refused, and `set` stays as it is.
        unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut set) };
        if set.sa_sigaction == libc::SIG_IGN {
            // SAFETY: setting a default disposition runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    // SAFETY: an all-zero `sigset_t` is valid, and the next call makes it the empty set.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both calls take a set that outlives them; this is the only thread. A signal that was blocked and is
    // pending ends the process, as it should. rustix has neither call.
    unsafe {
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Makes the kernel kill this process, and what it starts, before any other process when memory is short: an env can be
/// restarted, and a trainer cannot. Raising the score takes no rights. Without `/proc` the score stays the host's.
///
/// Allocates nothing: it may run between fork and exec.
fn go_first_when_memory_is_short() {
    let score = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let _ = score.map(|score| rustix::io::write(score, b"1000"));
}

/// Adds to an error what it is about.
fn at(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Makes a write to a pipe without readers an error. By default it would end the keeper, which has to clean up.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: ignoring a signal runs no code of ours. rustix has no safe `signal`.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Makes a write beyond the limit of a file (`ulimit -f`) an error. By default it would end this process. Processes
/// that it starts begin with default signals.
pub fn ignore_full_files() {
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Makes the command's process die with the thread that starts it, even if that thread is killed by SIGKILL.
pub(crate) fn die_with_this_process(command: &mut Command) {
    let parent = rustix::process::getpid();
    let before_exec = move || {
        die_with_the_host()?;
        // The parent may have died before the death signal was set.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe code may run: these are two system calls that allocate
    // nothing and take no lock. std itself sets no death signal.
    unsafe { command.pre_exec(before_exec) };
}

/// Makes the kernel kill the command's process before this process and its host when memory is short.
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

/// Checks the host's end of the socket, which is closed if the host died before the death signal was set.
fn host_is_there(control: BorrowedFd<'_>) -> io::Result<()> {
    let mut byte = [0u8; 1];
    match rustix::net::recv(control, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((0, _)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the host is gone")),
        _ => Ok(()),
    }
}

/// Steps 4 to 9: what the process gives up before it reads an untrusted byte. Returns the active layers. Layers that
/// the system does not have are reported as missing; the caller decides whether to go on without them.
///
/// # Errors
/// A layer that every Linux has cannot be set up.
pub fn lock(plan: &Plan<'_>) -> io::Result<Standing> {
    let mut standing = Standing { walls: Walls::NONE, landlock: 0, missing: Vec::new() };
    let asked = |wall| plan.walls.has(wall);
    // 4. Gives up the network, queues, and every right of the user here.
    if asked(Wall::Namespaces) {
        standing.note(Wall::Namespaces, namespaces::leave());
    }
    // Gives up root's rights, and the rights from a new user namespace.
    if asked(Wall::Capabilities) {
        capabilities::drop_all()?;
        standing.note(Wall::Capabilities, Ok(()));
    }
    // 5. Not a layer: the sandbox is as strong without it.
    slice::shorten();
    // 6. Gives up set-user-ID programs, and shuts out the user's other processes.
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
    // 7. Gives up memory, disk and descriptors beyond the limits.
    if asked(Wall::Rlimits) {
        rlimits::set(&plan.allowance)?;
        // Only in the worker's own namespace: in the machine's, all processes of its user would count.
        if standing.walls.has(Wall::Namespaces) && plan.purpose.has(Of::Copied, true) {
            rlimits::bound_copies()?;
        }
        standing.note(Wall::Rlimits, Ok(()));
    }
    // 8. Gives up every path, port and abstract socket, and other processes.
    if asked(Wall::Landlock) {
        let confined = landlock::confine(&plan.directories, plan.landlock);
        standing.landlock = confined.as_ref().map_or(0, |version| *version);
        let whole = confined.and_then(|version| match version {
            landlock::WHOLE.. => Ok(()),
            version => Err(level::lacking(version)),
        });
        standing.note(Wall::Landlock, whole);
    }
    // 9. Gives up the kernel's system calls, except those that loading code needs.
    if asked(Wall::Seccomp) {
        standing.note(Wall::Seccomp, seccomp::filter_one(plan.table, plan.purpose).map_err(|error| error.to_string()));
    }
    Ok(standing)
}

/// Step 11: filter two, on top of the first. From here on no code can be mapped, and no path opened outside the granted
/// directories.
///
/// # Errors
/// The system's error: the worker must not go on.
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

/// The final filter for copies of this worker that may not be copied themselves. It is built once, before there is a
/// copy. None if the copies keep this worker's filter.
///
/// # Errors
/// The system's error.
pub fn last_filter(plan: &Plan<'_>, standing: &Standing, purpose: Purpose) -> io::Result<Option<LastFilter>> {
    if !standing.walls.has(Wall::Seccomp) || purpose == plan.purpose {
        return Ok(None);
    }
    seccomp::LastFilter::new(plan.table, purpose).map(Some).map_err(io::Error::other)
}

/// Borrows the control socket.
pub(super) fn control() -> BorrowedFd<'static> {
    // SAFETY: `begin` put the control socket there, and no value owns it: it is open until the process ends.
    unsafe { BorrowedFd::borrow_raw(CONTROL) }
}

/// Shows another title in `ps`. It overwrites this process's third argument, and is cut to that argument's length.
pub(crate) fn set_title(title: &str) {
    unsafe extern "C" {
        /// The C library's pointer to the first argument.
        static program_invocation_name: *mut libc::c_char;
    }
    let mut arguments = std::env::args_os().map(|argument| argument.len() + 1);
    let before = arguments.by_ref().take(2).sum::<usize>();
    let Some(room) = arguments.next() else { return };
    let title = title.as_bytes().get(..title.len().min(room - 1)).unwrap_or_default();
    // SAFETY: the kernel put the arguments one behind the other, each with its NUL, into writable memory of this
    // process. Nothing has moved that pointer, and the lengths are those of the arguments. There is one thread, and std
    // copies arguments when it is asked for them. No safe crate writes there, and the call that sets a name would need
    // a row in the table.
    unsafe {
        let at = program_invocation_name.cast::<u8>().add(before);
        at.write_bytes(0, room);
        at.copy_from_nonoverlapping(title.as_ptr(), title.len());
    }
}

/// Ends the process without running std's exit code, which makes calls that a filter refuses.
pub fn exit(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions; std's `process::exit` takes its signal stack down first.
    unsafe { libc::_exit(status) }
}
