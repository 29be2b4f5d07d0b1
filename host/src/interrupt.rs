//! An interrupt makes a waiting call return. It has a flag that anybody may raise, and a question that checks for
//! signals of the caller's. Every wait of the library for a process looks at an interrupt. Knows nothing of who waits,
//! or for what.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;

/// The question, asked every 20 ms while a call waits.
type Ask = Box<dyn FnMut() -> bool + Send>;

/// An interrupt. Clones share their flag and question.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
    ask: Arc<Mutex<Option<Ask>>>,
}

impl Interrupt {
    /// The flag.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Sets the question that is asked from now on.
    pub(crate) fn ask_by(&self, ask: impl FnMut() -> bool + Send + 'static) {
        *self.ask.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(ask));
    }

    /// An interrupt that is raised if this one is, or if the flag of the other is.
    pub(crate) fn or_flag_of(&self, other: &Interrupt) -> Interrupt {
        let (own, flag) = (self.clone(), other.flag());
        let both = Interrupt::default();
        both.ask_by(move || own.is_raised() || flag.load(Relaxed));
        both
    }

    /// Whether the waiting call must return. A caller that gets true returns [`Error::Interrupted`]: a signal is
    /// reported once.
    pub(crate) fn is_raised(&self) -> bool {
        // If it is locked, this is a signal handler that the question itself runs, or a fork's copy of it.
        self.flag.load(Relaxed) || self.ask.try_lock().is_ok_and(|mut ask| ask.as_mut().is_some_and(|ask| ask()))
    }

    /// The error of a call that must return.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
    }
}
