//! The lines on stderr while a plugin compiles: none for half a second, then the plugin's name and the place of the result.
//! This file knows the library's reports of a compilation, and nothing of the compiled code.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rollcage::text::one_line;
use rollcage::{Cache, CompileObserver, Compiling, Plugin};

use super::progress::{BARS, REDRAW};
use super::source::shown_folder;

/// A shorter compilation is not reported, because users hardly notice it.
const UNTOLD: Duration = Duration::from_millis(500);

/// An observer that reports compilations whose results are kept in this cache.
pub(super) fn told(cache: Option<&Cache>) -> CompileObserver {
    let kept = cache.map(|cache| shown_folder(cache.folder()));
    let telling: Mutex<Option<Telling>> = Mutex::new(None);
    Arc::new(move |plugin, compiling| {
        let begun = match compiling {
            Compiling::Begun if super::telling::is_quiet() => None,
            Compiling::Begun => Telling::begin(line(plugin, kept.as_deref()), expected(plugin)),
            Compiling::Ended => None,
        };
        // The earlier report is dropped, and removes its line.
        *telling.lock().unwrap_or_else(PoisonError::into_inner) = begun;
    })
}

/// Bytes of code that compile in a second of one core, roughly: a plugin in Rust has some functions for each of its bytes, an
/// interpreter many.
const BYTES_A_SECOND: usize = 1_600_000;

/// A compilation that takes longer than this has an expected time, and a bar.
const LONG: Duration = Duration::from_secs(5);

/// The expected time of a long compilation.
fn expected(plugin: &Plugin) -> Option<Duration> {
    let seconds = u64::try_from(plugin.code_bytes() / BYTES_A_SECOND).unwrap_or(u64::MAX);
    Some(Duration::from_secs(seconds)).filter(|time| *time >= LONG)
}

/// The report: `compiling Python (once, about 25 s, kept in ~/.cache/rollcage) …`.
fn line(plugin: &Plugin, kept: Option<&str>) -> String {
    // Nobody waits by the second.
    let about = expected(plugin).map(|time| format!("about {} s", time.as_secs().div_ceil(5) * 5));
    let once = kept.map(|_| "once".to_owned());
    let kept = kept.map(|folder| format!("kept in {folder}"));
    let details: Vec<String> = [once, about, kept].into_iter().flatten().collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    format!("compiling {}{details} …", one_line(plugin.code_name()))
}

/// A thread that waits and then reports, until this value is dropped.
struct Telling {
    goes_on: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Telling {
    /// Begins a report. None: this machine has no thread for it, and the compilation is not reported.
    fn begin(line: String, expected: Option<Duration>) -> Option<Telling> {
        let begun = Instant::now();
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
            let template = match expected {
                Some(_) => "{spinner:.cyan} {msg} [{bar:20.cyan/blue}] {elapsed}",
                None => "{spinner:.cyan} {wide_msg}",
            };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
            let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let bar = match expected {
                Some(time) => ProgressBar::new(milliseconds(time)),
                None => ProgressBar::new_spinner(),
            };
            let bar = BARS.add(bar.with_message(line).with_style(style.progress_chars("━╸─")));
            while {
                // An expectation is no promise: the bar waits before its end.
                if let Some(time) = expected {
                    bar.set_position(milliseconds(begun.elapsed()).min(milliseconds(time) * 24 / 25));
                }
                bar.tick();
                goes_on_after(REDRAW)
            } {}
            bar.finish_and_clear();
            BARS.remove(&bar);
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
