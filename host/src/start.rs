//! How every worker begins, whatever it is for: spawn it, tell it its job, hear who it is.
//! Knows the first messages; knows nothing of what an env does with its turns.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::child::{Child, Exit, Heard};
use crate::control::{BUILD, FromWorker, Job};
use crate::error::{Error, UsageError};
use crate::slab::HostSlab;
use crate::watcher::{self, Spawn};

/// Whether this program's `main` has called [`worker_main`](crate::worker_main), so that it may be started as a worker.
pub(crate) static THIS_PROGRAM_IS_A_WORKER: AtomicBool = AtomicBool::new(false);

/// The worker program: the one the caller named, else this program, if it said that it is one.
pub(crate) fn program(named: Option<&Path>) -> Result<PathBuf, UsageError> {
    match named {
        // A name without a slash would be looked up in PATH by whoever starts it: it is meant as a file here.
        Some(path) => std::path::absolute(path)
            .ok()
            .filter(|path| path.is_file())
            .ok_or_else(|| UsageError::new(format!("worker program `{}`: no such file", path.display()))),
        // By this name even if the file has been replaced since: host and worker must be of one build.
        None if THIS_PROGRAM_IS_A_WORKER.load(Relaxed) => Ok(PathBuf::from("/proc/self/exe")),
        None => Err(UsageError::new("no worker program: an env runs in a process of the `rollcage` program")
            .hint("name it with `Builder::worker`, or call `rollcage::worker_main()` first thing in your `main`")),
    }
}

/// Starts a worker and tells it its job.
pub(crate) fn worker(
    program: &Path,
    title: &str,
    slab: Option<HostSlab>,
    job: &Job,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Child, Error> {
    let spawn = Spawn { program: program.to_owned(), title: title.to_owned(), slab };
    let child = watcher::spawn(spawn).map_err(Error::system("starting a worker process"))?;
    // A worker that is gone already says why in another way.
    let _ = child.send(job, descriptors);
    Ok(child)
}

/// Why a worker did not answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    Timeout,
    Lie(String),
    Dead(Exit),
}

/// Checks the first message of a worker: it must be of this build.
pub(crate) fn check_hello(message: &FromWorker, program: &Path) -> Result<(), UsageError> {
    match message {
        FromWorker::Hello { build } if build == BUILD => Ok(()),
        _ => Err(UsageError::new(format!("worker program `{}` is of another rollcage build", program.display()))
            .hint("build host and worker from one source tree")),
    }
}

/// Waits for a worker's one answer after its `Hello`.
pub(crate) fn answer(child: &Child, deadline: Instant, program: &Path) -> Result<Result<FromWorker, NoAnswer>, Error> {
    let mut greeted = false;
    loop {
        match child.listen(deadline.saturating_duration_since(Instant::now())) {
            Heard::Message(message) if greeted => return Ok(Ok(message)),
            Heard::Message(hello) => {
                check_hello(&hello, program)?;
                greeted = true;
            }
            Heard::Lie(lie) => return Ok(Err(NoAnswer::Lie(lie))),
            Heard::Dead(_) if !greeted => return Err(not_a_worker(program).into()),
            Heard::Dead(exit) => return Ok(Err(NoAnswer::Dead(exit))),
            Heard::Nothing if Instant::now() >= deadline => return Ok(Err(NoAnswer::Timeout)),
            Heard::Nothing => {}
        }
    }
}

/// What a process that ended before it said hello is.
pub(crate) fn not_a_worker(program: &Path) -> UsageError {
    UsageError::new(format!("worker program `{}` ended before it said hello", program.display()))
        .hint("it must be the `rollcage` program, or call `rollcage::worker_main()` first thing in its `main`")
}

/// How a process ended, as the rest of a sentence: `was killed by signal 9 (SIGKILL)`.
pub(crate) fn describe_exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with status {code}"),
        Exit::Signal(libc::SIGSYS) => "was killed by signal 31 (SIGSYS): it tried a forbidden system call".to_owned(),
        Exit::Signal(signal) => match signal_name(signal) {
            Some(name) => format!("was killed by signal {signal} ({name})"),
            None => format!("was killed by signal {signal}"),
        },
        Exit::Unknown => "ended (somebody else in this program reaped it)".to_owned(),
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return None,
    })
}
