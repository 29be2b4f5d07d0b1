//! The template process of a `VecEnv`, as its host keeps it: locked, its code loaded, and nothing instantiated, or one
//! instance that has imported what every env needs. Every env begins as a copy of the template process. This file knows which process to ask for a copy, and nothing of what the copy does
//! later.
//!
//! A failure of the template process is not a fault of an env: envs are then spawned, each with an exec of its own, and the
//! next start tries a template process again.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::terms::{Start, Terms};
use crate::cage::Wall;
use crate::error::Error;
use crate::limits::deadline;
use crate::process::child::{Child, Heard, SharedSlab};
use crate::process::reap;
use crate::process::start;
use crate::process::watcher::{self, Expected};
use crate::wire::job::{EnvJob, Job};
use crate::wire::slab::host::HostSlab;
use crate::wire::talk::{FromWorker, ToTemplate};

/// Template processes that one `VecEnv` starts, one after another's death. Beyond that something keeps killing them, and
/// spawning works too.
const STARTS_MAX: u32 = 16;

/// The time for the first word of a copy: one system call and one message, on a busy machine. A template process that has
/// copied nothing by then has stopped.
pub(crate) const COPY_TIMEOUT: Duration = Duration::from_secs(5);

/// The title of a template process in `ps`. A copy writes `env 3` in its place, so no copy's title may be longer.
const TITLE: &str = "envs      ";

/// The worker that envs are copied from, if there is one.
pub(crate) struct TemplateProcess(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    child: Option<Child>,
    /// A worker that is to become the template process.
    starting: Option<Starting>,
    starts: u32,
    /// Whether forking was given up: sandbox layers are not active and the caller did not insist on forking, or the process
    /// started too slowly.
    given_up: bool,
}

/// A template process that is not ready yet.
struct Starting {
    child: Child,
    deadline: Instant,
    introduction: start::Introduction,
}

/// The result of asking for a copy.
pub(crate) enum Asked {
    /// The copy is on its way, from the template process of this number.
    Coming(Child, u32),
    /// The template process is not ready: ask again later.
    NotYet,
    /// There is no template process, so the env must be spawned.
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
        // A template process that does not take the request is about to be found dead. Its missing copy is then spawned.
        let _ = template.send(&ToTemplate::Copy, &descriptors.each_ref().map(AsFd::as_fd));
        Asked::Coming(child, kept.starts)
    }

    /// Ends the template process of this number, which does not copy. The next start makes another. Its end also reveals the
    /// copies that it was asked for and did not make.
    pub(crate) fn end_one(&self, number: u32) {
        let mut kept = self.kept();
        if kept.starts == number {
            kept.child = None;
        }
    }

    /// The process id of the template process, if it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.kept().child.as_ref().filter(|child| !child.is_dead()).and_then(Child::pid)
    }

    /// Ends the template process.
    pub(crate) fn end(&self) {
        let mut kept = self.kept();
        kept.given_up = true;
        (kept.child, kept.starting) = (None, None);
    }

    /// Handles a fork's copy of this value: the process belongs to the parent. So does the lock, if its holder is a thread
    /// that does not exist in this process.
    pub(crate) fn forget(&self) {
        if let Ok(mut kept) = self.0.try_lock() {
            std::mem::forget((kept.child.take(), kept.starting.take()));
        }
    }
}

impl Kept {
    /// Whether it is settled if there is a process to ask. Starts a template process where there is none.
    fn has_settled(&mut self, terms: &Terms, patience: Duration) -> bool {
        if self.child.as_ref().is_some_and(Child::is_dead) {
            self.child = None;
        }
        let wanted = terms.start != Start::Best || terms.cage.walls.has(Wall::Seccomp);
        if self.child.is_some() || !wanted || self.given_up || !reap::can_adopt() {
            return true;
        }
        let mut starting = match self.starting.take() {
            Some(starting) => starting,
            None if self.starts >= STARTS_MAX => return true,
            None => {
                self.starts += 1;
                match start(terms) {
                    Ok(starting) => starting,
                    // The spawn that follows meets the same error, and reports it.
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

/// The state of a template process that was started.
enum Came {
    NotYet,
    Ready,
    /// Another start would be useless too: the filter is missing and the caller did not insist on starting by fork, or
    /// the start takes too long.
    Useless,
    /// The start failed. The spawn that follows meets the same error, and reports it.
    Nothing,
}

impl Starting {
    fn hear(&mut self, terms: &Terms, patience: Duration) -> Came {
        loop {
            match self.child.listen(patience) {
                Heard::Message(message) => match self.introduction.hear(message, &terms.program, &terms.cage) {
                    Ok(None) => {}
                    Ok(Some(FromWorker::Ready { .. })) => {
                        let Some(standing) = self.introduction.standing() else { return Came::Nothing };
                        // The host checks from outside, since the worker itself might claim anything.
                        if self.child.check_status(standing.walls).is_err() {
                            return Came::Nothing;
                        }
                        let copies = terms.start != Start::Best || standing.walls.has(Wall::Seccomp);
                        return if copies { Came::Ready } else { Came::Useless };
                    }
                    // The guest's imports failed: each env's will, and be its own fault.
                    Ok(Some(FromWorker::Fault(_))) if terms.imports_first() => return Came::Useless,
                    Ok(Some(_)) | Err(_) => return Came::Nothing,
                },
                Heard::Lie(_) | Heard::Dead(_) => return Came::Nothing,
                Heard::Nothing if Instant::now() >= self.deadline => return Came::Useless,
                Heard::Nothing => return Came::NotYet,
            }
        }
    }
}

/// Prepares for a copy: returns the expected worker, and the descriptors to give it: control socket, log and slab.
pub(crate) fn announce(terms: &Terms) -> std::io::Result<(Child, [OwnedFd; 3])> {
    let (slab, slab_fd) = HostSlab::create()?;
    let (child, [control, log]) = watcher::expect(Expected { slab, log: terms.log() })?;
    Ok((child, [control, log, slab_fd]))
}

/// Starts a template process, without waiting for it.
fn start(terms: &Terms) -> Result<Starting, Error> {
    let (slab, slab_fd) = HostSlab::create().map_err(Error::system("making a slab"))?;
    let job = EnvJob { warm_up: terms.imports_first(), ..terms.job(TITLE, String::new(), 0) };
    let job = Job::Template(job);
    let descriptors = terms.handed(slab_fd.as_fd());
    let child = start::worker(&terms.program, TITLE, Some(SharedSlab::Own(slab)), terms.log(), &job, &descriptors)?;
    let introduction = start::Introduction::default();
    Ok(Starting { child, deadline: deadline(terms.limits.start_timeout), introduction })
}
