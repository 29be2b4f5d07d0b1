//! The output on stderr during a run: a bar on a terminal, else a line now and then; and the first faults as they happen.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use rollcage::text::escape_line;
use rollcage::{Fault, FaultKind, FaultLog};

use super::play::{Goal, Tally};
use super::{one_line, telling};

/// Different faults that are printed as they happen. An env that fails in ever new ways would fill the screen; the rest is
/// counted.
const FAULTS_TOLD_MAX: usize = 5;

/// Frames of a backtrace that are printed with a fault: the innermost frames name the culprit.
const FRAMES_TOLD_MAX: usize = 4;

/// The last lines of an env's log that are printed with a fault.
const LOG_LINES_TOLD_MAX: usize = 10;

/// The time between two updates of the bar: as fast as people read.
pub(super) const REDRAW: Duration = Duration::from_millis(100);

/// A longer remaining time is a useless guess.
const LEFT_TOLD_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// All bars of this program: several bars at once are drawn one below the other.
pub(super) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// The bar, if there is one, and the faults that were printed already.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    goal: Goal,
    /// The time from one look at the run to the next: for the bar, or for the lines in its place.
    pause: Duration,
    /// Whether the whole goal is certain to be played: a file of actions may end earlier.
    is_certain: bool,
    drawn: Instant,
    playing_since: Option<Instant>,
    seen: u64,
    /// The faults that were printed, and the faults like them.
    told: Vec<(Fault, Alike)>,
    silent: bool,
}

/// Faults that are equal to a printed fault: how many, and of which envs.
#[derive(Default)]
struct Alike {
    count: u64,
    envs: BTreeSet<u32>,
}

impl Progress {
    /// A bar for this goal, if stderr is a terminal; else a printer of a line after every `pause`.
    pub(super) fn new(goal: Goal, pause: Duration, is_certain: bool) -> Progress {
        let bar = (io::stderr().is_terminal() && !telling::is_quiet()).then(|| {
            let unit = match goal {
                Goal::Episodes(_) => "episodes",
                Goal::Steps(_) => "steps",
            };
            let template = format!("{{wide_bar:.cyan/dim}} {{human_pos}}/{{human_len}} {unit}  {{msg}}");
            let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            BARS.add(ProgressBar::new(goal.total()).with_style(style.progress_chars("━╸─")))
        });
        Progress {
            pause: if bar.is_some() { REDRAW } else { pause },
            bar,
            goal,
            is_certain,
            drawn: Instant::now(),
            playing_since: None,
            seen: 0,
            told: Vec::new(),
            silent: false,
        }
    }

    /// Names the work before the first step.
    pub(super) fn begin(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(escape_line(what));
            bar.tick();
        }
    }

    /// Called after each step; usually it only looks at the clock.
    pub(super) fn step(&mut self, tally: &Tally, faults: &FaultLog) {
        if faults.total() != self.seen {
            self.tell(faults);
        }
        let now = Instant::now();
        let since = *self.playing_since.get_or_insert_with(|| {
            self.drawn = now;
            now
        });
        if now.duration_since(self.drawn) < self.pause {
            return;
        }
        self.drawn = now;
        let elapsed = now.duration_since(since);
        let left = if self.is_certain { left(tally.done(self.goal), self.goal.total(), elapsed) } else { None };
        let Some(bar) = &self.bar else {
            return self.print(&line(tally, self.goal, faults.total(), elapsed, left));
        };
        let mut message = format!("{} steps/s", HumanCount(per_second(tally.steps, elapsed)));
        if let Some((mean, _, _)) = tally.returns.figures() {
            message.push_str(&format!("  return {mean:.1}"));
        }
        if faults.total() > 0 {
            message.push_str(&format!("  faults {}", HumanCount(faults.total())));
        }
        message.push_str(&format!("  {}", brief(elapsed)));
        if let Some(left) = left {
            message.push_str(&format!(", {} left", brief(left)));
        }
        bar.set_position(tally.done(self.goal));
        bar.set_message(message);
    }

    /// Prints new faults. A fault that is like an earlier one is counted. A restart that the env asked for is not printed.
    pub(super) fn tell(&mut self, faults: &FaultLog) {
        let new = usize::try_from(self.seen).unwrap_or(usize::MAX);
        self.seen = faults.total();
        for fault in faults.first().iter().skip(new).filter(|fault| fault.kind != FaultKind::GuestRestart) {
            if let Some((_, alike)) = self.told.iter_mut().find(|(known, _)| is_like(known, fault)) {
                alike.count += 1;
                alike.envs.insert(fault.env);
            } else if self.told.len() < FAULTS_TOLD_MAX {
                self.print(&told(fault));
                self.told.push((fault.clone(), Alike::default()));
            } else if !std::mem::replace(&mut self.silent, true) {
                self.print("fault: further ones are counted, and told at the end\n");
            }
        }
    }

    /// Prints whole lines above the bar.
    pub(super) fn print(&self, lines: &str) {
        if telling::is_quiet() {
            return;
        }
        let print = || {
            let _ = io::stderr().write_all(lines.as_bytes());
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Prints how many faults were like the printed faults, and removes the bar, because the report follows.
    pub(super) fn end(&self) {
        for (fault, alike) in self.told.iter().filter(|(_, alike)| alike.count > 0) {
            self.print(&more(fault, alike));
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The number of steps in a second, for people.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rate for people: finite, not negative, far below 2^53"
)]
fn per_second(steps: u64, time: Duration) -> u64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { (steps as f64 / seconds) as u64 } else { 0 }
}

/// A time for people, in its two largest units.
fn brief(time: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// The remaining time, if the run goes on as before; none if it cannot be estimated.
#[expect(clippy::cast_precision_loss, reason = "a guess for people")]
fn left(done: u64, total: u64, elapsed: Duration) -> Option<Duration> {
    let left = elapsed.as_secs_f64() * total.saturating_sub(done) as f64 / done as f64;
    Duration::try_from_secs_f64(left).ok().filter(|left| *left <= LEFT_TOLD_MAX)
}

/// The progress of a run, on a line of its own.
fn line(tally: &Tally, goal: Goal, faults: u64, elapsed: Duration, left: Option<Duration>) -> String {
    let (steps, episodes) = (HumanCount(tally.steps), HumanCount(tally.episodes));
    let done = match goal {
        Goal::Steps(total) => format!("{steps} of {} steps, {episodes} episodes", HumanCount(total)),
        Goal::Episodes(total) => format!("{steps} steps, {episodes} of {} episodes", HumanCount(total)),
    };
    let speed = HumanCount(per_second(tally.steps, elapsed));
    let mut line = format!("progress: {done}, {speed} steps/s, {} elapsed", brief(elapsed));
    if let Some(left) = left {
        line.push_str(&format!(", {} left", brief(left)));
    }
    if faults > 0 {
        line.push_str(&format!(", {} faults", HumanCount(faults)));
    }
    line.push('\n');
    line
}

/// Whether two faults are the same for a reader: the same kind in the same place.
fn is_like(one: &Fault, other: &Fault) -> bool {
    (one.kind, &one.message, &one.backtrace) == (other.kind, &other.message, &other.backtrace)
}

/// One line for all faults that were like a printed fault.
fn more(fault: &Fault, alike: &Alike) -> String {
    let Fault { kind, message, .. } = fault;
    let envs = match (alike.envs.len(), alike.envs.first()) {
        (1, Some(env)) => format!("env {env}"),
        (envs, _) => format!("{envs} envs"),
    };
    format!("fault: {} more like it, of {envs}: {kind}: {}\n", HumanCount(alike.count), one_line(message))
}

/// A fault in a few lines: its kind, its place in the guest, and the guest's last output.
fn told(fault: &Fault) -> String {
    let Fault { env, instance, episode, step, kind, message, .. } = fault;
    let mut lines = format!(
        "fault: env {env} (instance {instance}), episode {episode}, step {step}: {kind}: {}\n",
        one_line(message)
    );
    // The innermost frames of a panic belong to the language's own way to the trap; the author's frames follow.
    let own = fault.backtrace.iter().position(|frame| !is_of_the_language(frame)).unwrap_or(0);
    for frame in fault.backtrace.iter().skip(own).take(FRAMES_TOLD_MAX) {
        lines.push_str(&format!("  at {}\n", escape_line(frame)));
    }
    // Rust's note about backtraces is for whoever runs a program of their own.
    let says = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE");
    let log: Vec<&str> = fault.log.lines().filter(says).collect();
    for line in &log[log.len().saturating_sub(LOG_LINES_TOLD_MAX)..] {
        lines.push_str(&format!("  log: {}\n", escape_line(line)));
    }
    lines
}

/// Whether a frame belongs to Rust's runtime.
fn is_of_the_language(frame: &str) -> bool {
    // A trait's implementation is shown as `<core::… as …>::…`.
    let path = frame.trim_start_matches('<');
    path == "abort" || ["std::", "core::", "alloc::", "__rustc"].iter().any(|start| path.starts_with(start))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_a_run_is() {
        let tally = Tally { steps: 120_000, episodes: 5_210, ..Tally::default() };
        let elapsed = Duration::from_millis(30_040);
        let goal = Goal::Steps(1_000_000);
        assert_eq!(
            line(&tally, goal, 0, elapsed, left(tally.steps, goal.total(), elapsed)),
            "progress: 120,000 of 1,000,000 steps, 5,210 episodes, 3,994 steps/s, 30s elapsed, 3m 40s left\n"
        );
        assert_eq!(
            line(&tally, Goal::Episodes(6_000), 1_234, elapsed, None),
            "progress: 120,000 steps, 5,210 of 6,000 episodes, 3,994 steps/s, 30s elapsed, 1,234 faults\n"
        );
        // No step is done yet; or the remaining time is too long to be useful.
        assert_eq!((left(0, 6_000, elapsed), left(0, 0, elapsed), left(1, u64::MAX, elapsed)), (None, None, None));
        assert_eq!(left(6_000, 6_000, elapsed), Some(Duration::ZERO));
        assert_eq!([0, 59, 3_600, 72_676].map(|s| brief(Duration::from_secs(s))), ["0s", "59s", "1h", "20h 11m"]);
    }

    #[test]
    fn equal_faults_are_one_block_with_a_count() {
        let fault = |env: u32, instance: u32, message: &str| -> Fault {
            serde_json::from_value(serde_json::json!({
                "env": env, "instance": instance, "episode": 0, "step": 2, "kind": "step_timeout", "message": message,
                "log": "", "log_dropped_bytes": 0, "backtrace": [],
            }))
            .unwrap()
        };
        let one = fault(3, 0, "the step did not answer within 10 s");
        assert!(is_like(&one, &fault(4, 7, "the step did not answer within 10 s")));
        assert!(!is_like(&one, &fault(3, 0, "the step did not answer within 1 s")));
        let mut alike = Alike { count: 1_000, envs: [3].into() };
        let line = "fault: 1,000 more like it, of env 3: step_timeout: the step did not answer within 10 s\n";
        assert_eq!(more(&one, &alike), line);
        alike.envs.insert(4);
        assert!(more(&one, &alike).contains("of 2 envs: "));
    }

    #[test]
    fn a_fault_is_told_without_acting_on_the_terminal() {
        let fault: Fault = serde_json::from_value(serde_json::json!({
            "env": 3, "instance": 1, "episode": 4, "step": 15, "kind": "trap",
            "message": "wasm `unreachable`\nexecuted\u{1b}[2J", "log": "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n\nlast\u{7}\n",
            "log_dropped_bytes": 0, "backtrace": ["abort", "core::x", "a", "b", "c", "d", "e"],
        }))
        .unwrap();
        assert_eq!(
            told(&fault),
            "fault: env 3 (instance 1), episode 4, step 15: trap: wasm `unreachable`; executed\\u{1b}[2J\n  at a\n  at b\n  \
             at c\n  at d\n  log: 1\n  log: 2\n  log: 3\n  log: 4\n  log: 5\n  log: 6\n  log: 7\n  log: 8\n  log: 9\n  \
             log: last\\u{7}\n"
        );
    }
}
