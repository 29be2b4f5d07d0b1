//! The pristine worker of a `VecEnv`, as its host keeps it: locked, its code loaded, nothing instantiated. Every env begins as
//! a copy of it. Knows who is asked for a copy; knows nothing of what becomes of one.
//!
//! Whatever goes wrong with it is no env's fault: envs are spawned then, each with an exec of its own, and it is tried again
//! for the next one.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::cage::Walls;
use crate::child::Child;
use crate::control::{FromWorker, Job, ToPristine};
use crate::error::{Error, UsageError};
use crate::slab::HostSlab;
use crate::slot::Terms;
use crate::start;
use crate::watcher::{self, Expected};

/// Pristine workers that one `VecEnv` starts, after as many deaths: something kills them, and spawning works too.
const STARTS_MAX: u32 = 16;

/// What `ps` shows of one; a copy writes `env 3` in its place, which is at most as long.
const TITLE: &str = "envs      ";

/// How envs are started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// By fork where every wall of the sandbox stands, else by spawn.
    #[default]
    Best,
    /// Each env is a copy of one worker that is locked and has instantiated nothing.
    Fork,
    /// Each env is a copy of one that was created: what `create` loads is in memory once. The envs have one config.
    ForkAfterCreate,
    /// An exec for each env.
    Spawn,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Start::Best => "best",
            Start::Fork => "fork",
            Start::ForkAfterCreate => "fork-after-create",
            Start::Spawn => "spawn",
        })
    }
}

impl FromStr for Start {
    type Err = UsageError;

    fn from_str(name: &str) -> Result<Start, UsageError> {
        [Start::Best, Start::Fork, Start::ForkAfterCreate, Start::Spawn]
            .into_iter()
            .find(|start| start.to_string() == name)
            .ok_or_else(|| {
                UsageError::new(format!("start `{name}`: `fork`, `fork-after-create` and `spawn` are possible"))
            })
    }
}

/// The one that is copied, if there is one.
pub(crate) struct Pristine(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    child: Option<Child>,
    starts: u32,
    /// The walls do not stand, and the caller did not insist.
    given_up: bool,
}

impl Pristine {
    pub(crate) fn new() -> Pristine {
        Pristine(Mutex::default())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a copy. None: there is nobody to ask, so that the env is to be spawned.
    pub(crate) fn copy(&self, terms: &Terms) -> Option<Child> {
        let mut kept = self.kept();
        if kept.child.as_ref().is_some_and(Child::is_dead) {
            kept.child = None;
        }
        let wanted = terms.start == Start::Fork || Walls::SANDBOX.iter().all(|wall| terms.cage.walls.has(wall));
        if wanted && kept.child.is_none() && !kept.given_up && kept.starts < STARTS_MAX {
            kept.starts += 1;
            match start(terms) {
                Ok(Some(child)) => kept.child = Some(child),
                Ok(None) => kept.given_up = true,
                // The spawn that follows meets the same, and says so.
                Err(_) => {}
            }
        }
        let pristine = kept.child.as_ref()?;
        let (child, descriptors) = announce(terms).ok()?;
        // One that does not take it is about to be found dead: the copy that does not come is then spawned.
        let _ = pristine.send(&ToPristine::Copy, &descriptors.each_ref().map(AsFd::as_fd));
        Some(child)
    }

    /// The process id, if it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.kept().child.as_ref().filter(|child| !child.is_dead()).and_then(Child::pid)
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        let mut kept = self.kept();
        kept.given_up = true;
        kept.child = None;
    }

    /// A fork's copy of this value: the process is the parent's.
    pub(crate) fn forget(&self) {
        std::mem::forget(self.kept().child.take());
    }
}

/// Gets ready for a copy: the worker to come, and what it is to be given: control socket, log and slab.
pub(crate) fn announce(terms: &Terms) -> std::io::Result<(Child, [OwnedFd; 3])> {
    let (slab, slab_fd) = HostSlab::create()?;
    let (child, [control, log]) = watcher::expect(Expected { slab, log: terms.log() })?;
    Ok((child, [control, log, slab_fd]))
}

/// Starts one and waits until it is ready. None: a wall is missing, and nobody insists on starting by fork.
fn start(terms: &Terms) -> Result<Option<Child>, Error> {
    let (slab, slab_fd) = HostSlab::create().map_err(Error::system("making a slab"))?;
    let job = Job::Pristine(terms.job(TITLE, String::new(), 0));
    let code = terms.prepared.code.as_fd();
    let descriptors: Vec<BorrowedFd<'_>> =
        [slab_fd.as_fd(), code, code, code].into_iter().chain(terms.directories.iter().map(AsFd::as_fd)).collect();
    let child = start::worker(&terms.program, TITLE, Some(slab), terms.log(), &job, &descriptors)?;
    let deadline = Instant::now() + terms.limits.start_timeout;
    let mut introduction = start::Introduction::default();
    let failed = |what: &str| Error::system("starting a pristine worker")(std::io::Error::other(what.to_owned()));
    match start::listen(&child, deadline, &terms.program, &terms.cage, &mut introduction)? {
        Ok(FromWorker::Ready { .. }) => {}
        Ok(_) => return Err(failed("it does not load the code")),
        Err(_) => return Err(failed("it did not become ready")),
    }
    let Some(standing) = introduction.standing() else { return Err(failed("it did not say which walls stand")) };
    child.check_status(standing.walls).map_err(|what| failed(&what))?;
    let stands = standing.lacks(Walls::SANDBOX).is_none();
    Ok((stands || terms.start == Start::Fork).then_some(child))
}
