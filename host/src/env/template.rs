//! The template process of a `VecEnv`, as its host keeps it: locked, its code loaded, nothing instantiated. Every env begins as
//! a copy of it. Knows who is asked for a copy; knows nothing of what becomes of one.
//!
//! Whatever goes wrong with it is no env's fault: envs are spawned then, each with an exec of its own, and it is tried again
//! for the next one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::terms::{Start, Terms};
use crate::cage::Walls;
use crate::error::Error;
use crate::limits::deadline;
use crate::process::child::{Child, Heard};
use crate::process::start;
use crate::process::watcher::{self, Expected};
use crate::wire::job::Job;
use crate::wire::slab::host::HostSlab;
use crate::wire::talk::{FromWorker, ToTemplate};

/// TemplateProcess workers that one `VecEnv` starts, after as many deaths: something kills them, and spawning works too.
const STARTS_MAX: u32 = 16;

/// How long the first word of a copy may be on its way: a system call and a message, on a busy machine. Who copied nothing by then
/// has stopped.
pub(crate) const COPY_TIMEOUT: Duration = Duration::from_secs(5);

/// What `ps` shows of one; a copy writes `env 3` in its place, which is at most as long.
const TITLE: &str = "envs      ";

/// The one that is copied, if there is one.
pub(crate) struct TemplateProcess(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    child: Option<Child>,
    /// One that is to become that.
    starting: Option<Starting>,
    starts: u32,
    /// The walls do not stand and the caller did not insist, or it did not come up in time.
    given_up: bool,
}

/// One that is not ready yet.
struct Starting {
    child: Child,
    deadline: Instant,
    introduction: start::Introduction,
}

/// What came of asking for a copy.
pub(crate) enum Asked {
    /// It is on its way, from the template process of this number.
    Coming(Child, u32),
    /// The one to ask is not ready: to be asked again.
    NotYet,
    /// There is nobody to ask, so that the env is to be spawned.
    Nobody,
}

impl TemplateProcess {
    pub(crate) fn new() -> TemplateProcess {
        TemplateProcess(Mutex::default())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a copy, with one wait of at most a slice if there is something to wait for.
    pub(crate) fn copy(&self, terms: &Terms, patience: Duration) -> Asked {
        let mut kept = self.kept();
        if !kept.has_settled(terms, patience) {
            return Asked::NotYet;
        }
        let (Some(template), Ok((child, descriptors))) = (&kept.child, announce(terms)) else { return Asked::Nobody };
        // One that does not take it is about to be found dead: the copy that does not come is then spawned.
        let _ = template.send(&ToTemplate::Copy, &descriptors.each_ref().map(AsFd::as_fd));
        Asked::Coming(child, kept.starts)
    }

    /// The one of this number does not copy: it is ended, and the next start makes another. Copies that it was asked for and did
    /// not make are found out by that.
    pub(crate) fn end_one(&self, number: u32) {
        let mut kept = self.kept();
        if kept.starts == number {
            kept.child = None;
        }
    }

    /// The process id, if it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.kept().child.as_ref().filter(|child| !child.is_dead()).and_then(Child::pid)
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        let mut kept = self.kept();
        kept.given_up = true;
        (kept.child, kept.starting) = (None, None);
    }

    /// A fork's copy of this value: the process is the parent's. So is the lock, if a thread had it that is not in this process.
    pub(crate) fn forget(&self) {
        if let Ok(mut kept) = self.0.try_lock() {
            std::mem::forget((kept.child.take(), kept.starting.take()));
        }
    }
}

impl Kept {
    /// Whether it is known who is to be asked, or that there is nobody. Starts one where there is none.
    fn has_settled(&mut self, terms: &Terms, patience: Duration) -> bool {
        if self.child.as_ref().is_some_and(Child::is_dead) {
            self.child = None;
        }
        let wanted = terms.start == Start::Fork || Walls::SANDBOX.iter().all(|wall| terms.cage.walls.has(wall));
        if self.child.is_some() || !wanted || self.given_up || !watcher::can_adopt() {
            return true;
        }
        let mut starting = match self.starting.take() {
            Some(starting) => starting,
            None if self.starts >= STARTS_MAX => return true,
            None => {
                self.starts += 1;
                match start(terms) {
                    Ok(starting) => starting,
                    // The spawn that follows meets the same, and says so.
                    Err(_) => return true,
                }
            }
        };
        match starting.hear(terms, patience) {
            Came::NotYet => {
                self.starting = Some(starting);
                return false;
            }
            Came::Ready => self.child = Some(starting.child),
            Came::Useless => self.given_up = true,
            Came::Nothing => {}
        }
        true
    }
}

/// What became of one that was started.
enum Came {
    NotYet,
    Ready,
    /// Nor would another be: a wall is missing and nobody insists on starting by fork, or it takes too long.
    Useless,
    /// The spawn that follows meets the same, and says so.
    Nothing,
}

impl Starting {
    fn hear(&mut self, terms: &Terms, patience: Duration) -> Came {
        let stands = |walls: Walls| Walls::SANDBOX.iter().all(|wall| walls.has(wall));
        loop {
            match self.child.listen(patience) {
                Heard::Message(message) => match self.introduction.hear(message, &terms.program, &terms.cage) {
                    Ok(None) => {}
                    Ok(Some(FromWorker::Ready { .. })) => {
                        let Some(standing) = self.introduction.standing() else { return Came::Nothing };
                        // Seen from outside: the worker itself might say anything.
                        if self.child.check_status(standing.walls).is_err() {
                            return Came::Nothing;
                        }
                        let copies = terms.start == Start::Fork || stands(standing.walls);
                        return if copies { Came::Ready } else { Came::Useless };
                    }
                    Ok(Some(_)) | Err(_) => return Came::Nothing,
                },
                Heard::Lie(_) | Heard::Dead(_) => return Came::Nothing,
                Heard::Nothing if Instant::now() >= self.deadline => return Came::Useless,
                Heard::Nothing => return Came::NotYet,
            }
        }
    }
}

/// Gets ready for a copy: the worker to come, and what it is to be given: control socket, log and slab.
pub(crate) fn announce(terms: &Terms) -> std::io::Result<(Child, [OwnedFd; 3])> {
    let (slab, slab_fd) = HostSlab::create()?;
    let (child, [control, log]) = watcher::expect(Expected { slab, log: terms.log() })?;
    Ok((child, [control, log, slab_fd]))
}

/// Starts one, without waiting for it.
fn start(terms: &Terms) -> Result<Starting, Error> {
    let (slab, slab_fd) = HostSlab::create().map_err(Error::system("making a slab"))?;
    let job = Job::Template(terms.job(TITLE, String::new(), 0));
    let code = terms.prepared.code.as_fd();
    let descriptors: Vec<BorrowedFd<'_>> =
        [slab_fd.as_fd(), code, code, code].into_iter().chain(terms.directories.iter().map(AsFd::as_fd)).collect();
    let child = start::worker(&terms.program, TITLE, Some(slab), terms.log(), &job, &descriptors)?;
    let introduction = start::Introduction::default();
    Ok(Starting { child, deadline: deadline(terms.limits.start_timeout), introduction })
}
