//! The live part of what envs have in common: the workers that envs are copied from, and how many envs there are.

use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use super::slot::Slot;
use super::template::TemplateProcess;

/// The processes that envs of a `VecEnv` are started from.
pub(crate) struct Stock {
    /// The template process, which has instantiated nothing.
    pub(crate) template: TemplateProcess,
    /// The env that was created and is copied, where envs are started after `create`.
    pub(crate) created: Mutex<Option<Box<Slot>>>,
    /// The number of envs that are started from this stock, copies included.
    pub(crate) envs: AtomicUsize,
}

impl Stock {
    /// An empty stock for this many envs.
    pub(crate) fn new(envs: usize) -> Stock {
        Stock { template: TemplateProcess::new(), created: Mutex::default(), envs: AtomicUsize::new(envs) }
    }

    /// Ends the workers that belong to no env. `forked`: the workers belong to the parent process.
    pub(crate) fn end(&self, forked: bool) {
        if forked {
            // If the lock is held, its holder is a thread that does not exist in this process.
            std::mem::forget(self.created.try_lock().ok().and_then(|mut created| created.take()));
            self.template.forget();
        } else {
            drop(self.created.lock().unwrap_or_else(PoisonError::into_inner).take());
            self.template.end();
        }
    }
}
