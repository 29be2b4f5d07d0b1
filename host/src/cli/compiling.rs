//! The lines on stderr while a plugin compiles: none for half a second, then the plugin's name and the place of the result.
//! This file knows the library's reports of a compilation, and nothing of the compiled code.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rollcage::text::one_line;
use rollcage::{Cache, CompileObserver, Compiling};

use super::progress::{BARS, REDRAW};
use super::source::shown_folder;

/// A shorter compilation is not reported, because users hardly notice it.
const UNTOLD: Duration = Duration::from_millis(500);

/// An observer that reports compilations whose results are kept in this cache.
pub(super) fn told(cache: Option<&Cache>) -> CompileObserver {
    let kept = cache.map(|cache| format!(" (once, kept in {})", shown_folder(cache.folder()))).unwrap_or_default();
    let telling: Mutex<Option<Telling>> = Mutex::new(None);
    Arc::new(move |plugin, compiling| {
        let begun = match compiling {
            Compiling::Begun => Telling::begin(format!("compiling {}{kept} …", one_line(plugin.name()))),
            Compiling::Ended => None,
        };
        // The earlier report is dropped, and removes its line.
        *telling.lock().unwrap_or_else(PoisonError::into_inner) = begun;
    })
}

/// A thread that waits and then reports, until this value is dropped.
struct Telling {
    goes_on: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Telling {
    /// Begins a report. None: this machine has no thread for it, and the compilation is not reported.
    fn begin(line: String) -> Option<Telling> {
        let (goes_on, waits) = mpsc::channel::<()>();
        let goes_on_after = move |time| waits.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        let tell = move || {
            if !goes_on_after(UNTOLD) {
                return;
            }
            if !io::stderr().is_terminal() {
                let _ = writeln!(io::stderr(), "{line}");
                return;
            }
            let style = ProgressStyle::with_template("{spinner:.cyan} {wide_msg}");
            let spinner = ProgressBar::new_spinner().with_message(line);
            let spinner = BARS.add(spinner.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner())));
            while {
                spinner.tick();
                goes_on_after(REDRAW)
            } {}
            spinner.finish_and_clear();
            BARS.remove(&spinner);
        };
        let thread = thread::Builder::new().name("compiling".to_owned()).spawn(tell).ok()?;
        Some(Telling { goes_on: Some(goes_on), thread: Some(thread) })
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        drop(self.goes_on.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
