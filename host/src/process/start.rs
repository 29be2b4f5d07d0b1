//! How every worker begins, whatever it is for: spawn it, tell it its job, hear who it is.
//! Knows the first messages; knows nothing of what an env does with its turns.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::child::{Child, Exit, Heard};
use super::watcher::{self, Log, Spawn};
use crate::cage::{self, Standing, Wall};
use crate::error::{Error, UsageError};
use crate::interrupt::Interrupt;
use crate::wire::job::{Cage, Job};
use crate::wire::slab::host::HostSlab;
use crate::wire::talk::{BUILD, FromWorker};

/// Whether this program's `main` has called [`worker_main`](crate::worker_main), so that it may be started as a worker.
pub(crate) static THIS_PROGRAM_IS_A_WORKER: AtomicBool = AtomicBool::new(false);

/// The worker program: the one the caller named, else this program, if it said that it is one.
pub(crate) fn program(named: Option<&Path>) -> Result<PathBuf, UsageError> {
    cage::stack::check()?;
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

/// Exit status of a worker or keeper when the host or the system was not as it must find them; the message is in its log.
pub(crate) const UNSTARTED: i32 = 71;

/// Starts a worker and tells it its job.
pub(crate) fn worker(
    program: &Path,
    title: &str,
    slab: Option<HostSlab>,
    log: Log,
    job: &Job,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Child, Error> {
    let spawn = Spawn { program: program.to_owned(), mode: crate::WORKER_ARGUMENT, title: title.to_owned(), slab, log };
    let child = watcher::spawn(spawn).map_err(|error| refused("starting a worker process", error))?;
    // A worker that is gone already says why in another way.
    let _ = child.send(job, descriptors);
    Ok(child)
}

/// The system makes no process: its answer, and what it stands for where that is something else than it says.
pub(crate) fn refused(what: &'static str, error: io::Error) -> Error {
    let why = match error.raw_os_error() {
        Some(libc::EAGAIN) => "so many processes are not allowed: `ulimit -u`, or the `pids.max` of a cgroup",
        Some(libc::EPERM) => {
            "a filter around this process denies `clone3` or `execve`: a container's runtime that is older than its kernel does"
        }
        Some(libc::EMFILE) => "so many descriptors are not allowed: `ulimit -n`",
        Some(libc::ENFILE) => "the machine has no descriptors left: the sysctl `fs.file-max`",
        Some(libc::ENOENT) if !Path::new("/proc/self").exists() => {
            "/proc is not mounted, and a program starts itself by /proc/self/exe"
        }
        _ => return Error::system(what)(error),
    };
    Error::system(what)(io::Error::new(error.kind(), format!("{error}: {why}")))
}

/// Why a worker did not answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    Timeout,
    Lie(String),
    Dead(Exit),
}

/// The first two messages of every worker: who it is, and which walls stand around it.
#[derive(Debug, Default)]
pub(crate) struct Introduction {
    greeted: bool,
    standing: Option<Standing>,
}

impl Introduction {
    /// Takes a message; gives it back if it is none of the introduction's.
    ///
    /// # Errors
    /// A program of another build, or a required layer of the sandbox that is not active.
    pub(crate) fn hear(
        &mut self,
        message: FromWorker,
        program: &Path,
        cage: &Cage,
    ) -> Result<Option<FromWorker>, UsageError> {
        match message {
            FromWorker::Hello { build } if !self.greeted && build == BUILD => self.greeted = true,
            _ if !self.greeted => {
                return Err(another_build(program));
            }
            FromWorker::Locked(standing) if self.standing.is_none() => {
                if let Some((wall, why)) = standing.lacks(cage.required) {
                    return Err(wall_missing(wall, &crate::text::escape_line(why)));
                }
                self.standing = Some(standing);
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// Whether it has said hello.
    pub(crate) fn greeted(&self) -> bool {
        self.greeted
    }

    /// Which walls stand, once it has said so.
    pub(crate) fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }
}

/// The error for a required layer of the sandbox that is not active.
fn wall_missing(wall: Wall, why: &str) -> UsageError {
    UsageError::new(format!("the sandbox is incomplete: its layer `{wall}` is not active: {why}"))
        .hint("`rollcage doctor` lists what this machine has; without `--require-sandbox` the other layers are enough")
}

/// Waits for a worker's one answer after its introduction.
pub(crate) fn answer(
    child: &Child,
    deadline: Instant,
    program: &Path,
    cage: &Cage,
    interrupt: &Interrupt,
) -> Result<Result<FromWorker, NoAnswer>, Error> {
    listen(child, deadline, program, cage, interrupt, &mut Introduction::default())
}

/// As [`answer`], for a caller who wants to know what the introduction said, answer or not.
pub(crate) fn listen(
    child: &Child,
    deadline: Instant,
    program: &Path,
    cage: &Cage,
    interrupt: &Interrupt,
    introduction: &mut Introduction,
) -> Result<Result<FromWorker, NoAnswer>, Error> {
    loop {
        match child.listen(deadline.saturating_duration_since(Instant::now())) {
            Heard::Message(message) => match introduction.hear(message, program, cage)? {
                None => {}
                Some(_) if introduction.standing().is_none() => {
                    return Ok(Err(NoAnswer::Lie("it did not say which walls stand".to_owned())));
                }
                Some(message) => return Ok(Ok(message)),
            },
            Heard::Lie(lie) => return Ok(Err(NoAnswer::Lie(lie))),
            Heard::Dead(exit) if !introduction.greeted() => return Err(not_a_worker(program, child, exit).into()),
            Heard::Dead(exit) => return Ok(Err(NoAnswer::Dead(exit))),
            Heard::Nothing if Instant::now() >= deadline => return Ok(Err(NoAnswer::Timeout)),
            Heard::Nothing => interrupt.check()?,
        }
    }
}

/// Starts a worker that puts up its walls and ends, to see which stand on this machine: `rollcage doctor`'s look.
///
/// # Errors
/// No worker program, or it does not do as asked.
pub fn check_walls(program: Option<&Path>) -> Result<Standing, Error> {
    /// Generous: it is an exec and some thirty system calls.
    const PATIENCE: Duration = Duration::from_secs(10);
    let program = self::program(program)?;
    let cage = Cage::default();
    let child = worker(&program, "check", None, Log::Kept, &Job::Check(cage), &[])?;
    let mut introduction = Introduction::default();
    let end = listen(&child, Instant::now() + PATIENCE, &program, &cage, &Interrupt::default(), &mut introduction)?;
    let failed = match (end, introduction.standing) {
        // It has nothing to answer, so an orderly end is all.
        (Err(NoAnswer::Dead(Exit::Code(0))), Some(standing)) => return Ok(standing),
        (Err(NoAnswer::Dead(exit)), _) => std::io::Error::other(format!("the worker {}", describe_exit(exit))),
        (Err(NoAnswer::Lie(lie)), _) => std::io::Error::other(lie),
        (Err(NoAnswer::Timeout), _) => std::io::ErrorKind::TimedOut.into(),
        (Ok(_), _) => std::io::Error::other("the worker answered what nobody asked"),
    };
    Err(Error::system("putting up the walls")(failed))
}

/// What a process is that says hello in other words.
pub(crate) fn another_build(program: &Path) -> UsageError {
    UsageError::new(format!("worker program `{}` is of another rollcage build", program.display()))
        .hint("build host and worker from one source tree")
}

/// What a process that ended before it said hello is. A program of ours says what it could not do, and with which status.
pub(crate) fn not_a_worker(program: &Path, child: &Child, exit: Exit) -> UsageError {
    let log = child.log().text();
    let said = log.lines().find_map(|line| line.strip_prefix("worker: ").or_else(|| line.strip_prefix("keeper: ")));
    if let (Exit::Code(UNSTARTED), Some(said)) = (exit, said) {
        let said = crate::text::escape_line(said);
        return UsageError::new(format!("a process of rollcage cannot begin here: {said}")).hint(
            "a filter around this process, a container's say, denies what it needs; `rollcage doctor` says what works",
        );
    }
    UsageError::new(format!("worker program `{}` ended before it said hello", program.display()))
        .hint("it must be the `rollcage` program, or call `rollcage::worker_main()` first thing in its `main`")
}

/// How a process ended, as the rest of a sentence: `was killed by signal 9 (SIGKILL)`.
pub(crate) fn describe_exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with status {code}"),
        Exit::Signal(libc::SIGXCPU) => {
            "was killed by signal 24 (SIGXCPU): it has used up the processor time of one process (`ulimit -t`)"
                .to_owned()
        }
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
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return None,
    })
}
