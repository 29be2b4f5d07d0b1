//! WALL 2: the process. A straight list, in the order of `docs/worker.md`; each step says what it takes away.
//! Knows the kernel; knows nothing of wasm or of what the worker is for.
//!
//! What still belongs here and is not yet: namespaces, capabilities, Landlock and the two filters.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::net::RecvFlags;
use rustix::process::{Resource, Rlimit, Signal};

/// The control socket's number in every worker.
pub(crate) const CONTROL: RawFd = 3;

/// Bytes beyond the guest's memory limit that a worker may make writable: the engine's tables and handles, the lists of
/// one call (a frame of 32 MiB is held three times at most), heap and stacks.
const DATA_MARGIN_BYTES: u64 = 160 << 20;

/// Descriptors of a worker: null twice, log, control, code, and what a message brings until it is closed.
const DESCRIPTORS_MAX: u64 = 16;

/// Steps 1 and 2: nothing is inherited. Returns the control socket.
pub(crate) fn begin() -> io::Result<OwnedFd> {
    // 1. The worker dies with the host's watcher thread, even if that is killed by SIGKILL.
    die_with_the_host()?;
    // The control socket came as stdin, which is where std's `Command` can put it.
    // SAFETY: dup3 on descriptors that nobody in this process owns yet: `main` has opened nothing. rustix's `dup2` wants
    // an owner for the new number, and there is none.
    if unsafe { libc::dup3(0, CONTROL, libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above; the number is open now, and this is its first and only owner.
    let control = unsafe { OwnedFd::from_raw_fd(CONTROL) };
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
    // SAFETY: as above, for descriptor 0.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    drop(null);
    // 2. Whatever else the host left open over the exec.
    // SAFETY: no descriptor from 4 up has an owner in this process. rustix has no `close_range`.
    if unsafe { libc::syscall(libc::SYS_close_range, 4, libc::c_uint::MAX, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // Ignored signals are inherited over an exec.
    for signal in 1..=64 {
        // SAFETY: setting a default disposition runs no code of ours; SIGKILL and SIGSTOP refuse, which is right.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // Inherited too: where the host stands, and the permissions it withholds.
    let _ = rustix::process::chdir("/");
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    host_is_there(control.as_fd())?;
    Ok(control)
}

fn die_with_the_host() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// The host may have died before the death signal was set: then its end of the socket is closed.
fn host_is_there(control: BorrowedFd<'_>) -> io::Result<()> {
    let mut byte = [0u8; 1];
    match rustix::net::recv(control, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((0, _)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the host is gone")),
        _ => Ok(()),
    }
}

/// What a worker may use of the machine.
pub(crate) struct Allowance {
    /// Bytes it may make writable.
    pub(crate) data_bytes: u64,
    /// Bytes of one file it may write: 0, but for a compiler's output.
    pub(crate) file_bytes: u64,
    /// Seconds of processor time, if bounded.
    pub(crate) cpu_seconds: Option<u64>,
}

impl Allowance {
    /// An env's: its memory, and what surrounds it.
    pub(crate) fn of_env(memory_bytes: u64) -> Allowance {
        Allowance { data_bytes: memory_bytes.saturating_add(DATA_MARGIN_BYTES), file_bytes: 0, cpu_seconds: None }
    }
}

/// Steps 4 to 9, as far as they stand: what the process gives up before it reads a byte that a stranger could have shaped.
pub(crate) fn lock(allowance: &Allowance) -> io::Result<()> {
    // 6. No program that it may start gains rights by it; and no other process of the user reads its memory.
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    // Both may have cleared the death signal.
    die_with_the_host()?;
    // 7. Limits. DATA and not AS: the latter counts the 4 GiB reservations.
    let limit = |resource, value: u64| {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        rustix::process::setrlimit(resource, limit)
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, allowance.file_bytes)?;
    limit(Resource::Nofile, DESCRIPTORS_MAX)?;
    limit(Resource::Data, allowance.data_bytes)?;
    if let Some(seconds) = allowance.cpu_seconds {
        limit(Resource::Cpu, seconds)?;
    }
    Ok(())
}

/// Ends the process without running anything of std's, which would call what a filter refuses.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions; std's `process::exit` takes its signal stack down first.
    unsafe { libc::_exit(status) }
}
