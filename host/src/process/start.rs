//! How every worker begins, whatever its job: spawn it, tell it its job, hear its introduction. Knows the first
//! messages; knows nothing of what an env does with its turns.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::child::{Child, Exit, Heard, SharedSlab};
use super::watcher::{self, Log, Spawn};
use crate::cage::{self, Level, Standing, Wall};
use crate::error::{Error, UsageError};
use crate::interrupt::Interrupt;
use crate::wire::job::{Cage, Job};
use crate::wire::talk::{BUILD, FromWorker};

/// Whether this program's `main` has called [`worker_main`](crate::worker_main), so that it may be started as a worker.
pub(crate) static THIS_PROGRAM_IS_A_WORKER: AtomicBool = AtomicBool::new(false);

/// The worker program: the one that the caller named, otherwise this program, if it called
/// [`worker_main`](crate::worker_main).
pub(crate) fn program(named: Option<&Path>) -> Result<PathBuf, UsageError> {
    cage::stack::check()?;
    match named {
        // A name without a slash would be looked up in PATH at the start: here it means a file.
        Some(path) => std::path::absolute(path)
            .ok()
            .filter(|path| path.is_file())
            .ok_or_else(|| UsageError::new(format!("worker program `{}`: no such file", path.display()))),
        // By this name, the same file starts even if it has been replaced since: host and worker must be of one build.
        None if THIS_PROGRAM_IS_A_WORKER.load(Relaxed) => Ok(PathBuf::from("/proc/self/exe")),
        None => Err(UsageError::new("no worker program: an env runs in a process of the `rollcage` program")
            .hint("name it with `Builder::worker`, or call `rollcage::worker_main()` first thing in your `main`")),
    }
}

/// The exit status of a worker or keeper that found the host or the system in an unusable state; the message is in its
/// log.
pub(crate) const UNSTARTED: i32 = 71;

/// Starts a worker and tells it its job.
pub(crate) fn worker(
    program: &Path,
    title: &str,
    slab: Option<SharedSlab>,
    log: Log,
    job: &Job,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Child, Error> {
    let spawn = Spawn { program: program.to_owned(), mode: crate::WORKER_ARGUMENT, title: title.to_owned(), slab, log };
    let child = watcher::spawn(spawn).map_err(|error| refused("starting a worker process", error))?;
    // A worker that is gone already reports the reason in another way.
    let _ = child.send(job, descriptors);
    Ok(child)
}

/// The error for a process that the system refused to make: the system's error, and its real meaning where that
/// differs.
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

/// The reason why a worker did not answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    Timeout,
    Lie(String),
    Dead(Exit),
}

/// The introduction: the first two messages of every worker, which say its build and its active sandbox layers.
#[derive(Debug, Default)]
pub(crate) struct Introduction {
    greeted: bool,
    standing: Option<Standing>,
}

impl Introduction {
    /// Takes a message of the introduction; gives any other message back.
    ///
    /// # Errors
    /// A program of another build, or a required sandbox layer that is not active.
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
                    let is = if cage.required.walls.has(wall) { "active" } else { "enough" };
                    return Err(wall_missing(
                        wall,
                        is,
                        &crate::text::escape_line(&why),
                        Level::reached(&standing, false),
                    ));
                }
                self.standing = Some(standing);
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// Whether the worker has said hello.
    pub(crate) fn greeted(&self) -> bool {
        self.greeted
    }

    /// The active sandbox layers, once the worker has reported them.
    pub(crate) fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }
}

/// The error for a required sandbox layer that is not active.
fn wall_missing(wall: Wall, is: &str, why: &str, reached: Option<Level>) -> UsageError {
    let reached = match reached {
        Some(level) => format!("`--require-sandbox={level}` is met here without granted directories"),
        None => "without `--require-sandbox` the other layers are enough".to_owned(),
    };
    UsageError::new(format!("the sandbox is incomplete: its layer `{wall}` is not {is}: {why}"))
        .hint(format!("`rollcage doctor` lists what this machine has; {reached}"))
}

/// Waits for the one answer that a worker gives after its introduction.
pub(crate) fn answer(
    child: &Child,
    deadline: Instant,
    program: &Path,
    cage: &Cage,
    interrupt: &Interrupt,
) -> Result<Result<FromWorker, NoAnswer>, Error> {
    listen(child, deadline, program, cage, interrupt, &mut Introduction::default())
}

/// As [`answer`], for a caller who needs the introduction even if there is no answer.
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

/// Starts a worker that sets up its sandbox layers and ends, to see which are active on this machine; `rollcage doctor`
/// uses this. `landlock` is a version of Landlock that is not to be exceeded, for tests of older kernels.
///
/// # Errors
/// No worker program, or one that does not do what it is asked.
pub fn check_walls(program: Option<&Path>, landlock: Option<u32>) -> Result<Standing, Error> {
    /// Generous: the worker makes one exec and some thirty system calls.
    const PATIENCE: Duration = Duration::from_secs(10);
    let program = self::program(program)?;
    let cage = Cage { landlock, ..Cage::default() };
    let child = worker(&program, "check", None, Log::Kept, &Job::Check(cage), &[])?;
    let mut introduction = Introduction::default();
    let end = listen(&child, Instant::now() + PATIENCE, &program, &cage, &Interrupt::default(), &mut introduction)?;
    let failed = match (end, introduction.standing) {
        // The worker has no answer to give, so an orderly end is enough.
        (Err(NoAnswer::Dead(Exit::Code(0))), Some(standing)) => return Ok(standing),
        (Err(NoAnswer::Dead(exit)), _) => std::io::Error::other(format!("the worker {}", describe_exit(exit))),
        (Err(NoAnswer::Lie(lie)), _) => std::io::Error::other(lie),
        (Err(NoAnswer::Timeout), _) => std::io::ErrorKind::TimedOut.into(),
        (Ok(_), _) => std::io::Error::other("the worker answered what nobody asked"),
    };
    Err(Error::system("putting up the walls")(failed))
}

/// The error for a process with another hello: it is of another build.
pub(crate) fn another_build(program: &Path) -> UsageError {
    UsageError::new(format!("worker program `{}` is of another rollcage build", program.display()))
        .hint("build host and worker from one source tree")
}

/// The error for a process that ended before its hello. A program of ours says in its log what failed, and exits with
/// [`UNSTARTED`].
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
        Exit::OutOfMemory => {
            "was killed by signal 9 (SIGKILL): the kernel ended it, since the memory of its control group is used up; start \
             fewer envs, give each less (`--memory`, `memory_bytes`), or give the run more (`--max-memory`, or whoever set \
             the limit)"
                .to_owned()
        }
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
