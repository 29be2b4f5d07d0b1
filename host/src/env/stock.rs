//! The live part of what envs have in common: the workers that envs are copied from, and how many envs there are.

use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use super::pristine::Pristine;
use super::slot::Slot;

/// What the envs of a `VecEnv` are started from.
pub(crate) struct Stock {
    /// The worker that has instantiated nothing.
    pub(crate) pristine: Pristine,
    /// The env that was created and is copied, where envs are started after `create`.
    pub(crate) template: Mutex<Option<Box<Slot>>>,
    /// Envs that are started from it, copies included.
    pub(crate) envs: AtomicUsize,
}

impl Stock {
    /// Nothing yet, for so many envs.
    pub(crate) fn new(envs: usize) -> Stock {
        Stock { pristine: Pristine::new(), template: Mutex::default(), envs: AtomicUsize::new(envs) }
    }

    /// Ends the workers that are nobody's env. `forked`: they are the parent's.
    pub(crate) fn end(&self, forked: bool) {
        if forked {
            // Locked: by a thread that is not in this process.
            std::mem::forget(self.template.try_lock().ok().and_then(|mut template| template.take()));
            self.pristine.forget();
        } else {
            drop(self.template.lock().unwrap_or_else(PoisonError::into_inner).take());
            self.pristine.end();
        }
    }
}
