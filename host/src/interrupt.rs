//! What makes a waiting call return: a flag that anybody may raise, and a question behind which the caller's own signals are.
//! Every wait of the library for a process looks at one. Knows nothing of who waits, or for what.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;

/// A question that is asked every 20 ms while a call waits.
type Ask = Box<dyn FnMut() -> bool + Send>;

/// An interrupt; a clone is the same one.
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

    /// Asks this too, from now on.
    pub(crate) fn ask_by(&self, ask: impl FnMut() -> bool + Send + 'static) {
        *self.ask.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(ask));
    }

    /// This one, and the flag of another.
    pub(crate) fn or_flag_of(&self, other: &Interrupt) -> Interrupt {
        let (own, flag) = (self.clone(), other.flag());
        let both = Interrupt::default();
        both.ask_by(move || own.is_raised() || flag.load(Relaxed));
        both
    }

    /// Whether the call that waits is to return. Whoever hears it returns [`Error::Interrupted`]: a signal is told once.
    pub(crate) fn is_raised(&self) -> bool {
        // Locked: this is a handler of signals that the question itself runs, or a fork's copy of it.
        self.flag.load(Relaxed) || self.ask.try_lock().is_ok_and(|mut ask| ask.as_mut().is_some_and(|ask| ask()))
    }

    /// The error of a call that is to return.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
    }
}
