//! What an env costs: the time of its steps, memory that grows, the size of its file.

use std::time::Duration;

use procfs::process::Process;

use super::Notes;
use super::play::{Player, Stage};
use super::rule::{Finding, Rule};

/// A step of which one in a hundred takes longer is too slow to train with.
const STEP_P99_MAX: Duration = Duration::from_millis(100);

/// A single step that everybody in a batch would notice.
const STEP_MAX: Duration = Duration::from_secs(1);

/// Steps after which an env has what it needs: what it gains later, it gains for ever.
const SETTLED_STEPS: usize = 2_000;

/// Bytes that an env may gain between then and the 10,000th step. Allocators take memory in pieces of 64 KiB and more.
const GROWTH_MAX: i64 = 1 << 20;

/// Bytes of a file that people send without thinking. A Python interpreter with numpy is some 40 MB of them.
const FILE_BYTES_MAX: u64 = 64_000_000;

/// Bytes of memory that a player's worker has; none if that cannot be read.
pub(super) fn memory(player: &Player) -> Option<u64> {
    let process = Process::new(i32::try_from(player.envs.pid(0)?).ok()?).ok()?;
    Some(process.statm().ok()?.resident * rustix::param::page_size() as u64)
}

/// Looks at the times of steps.
pub(super) fn steps(times: &mut [Duration], stage: &Stage<'_>, notes: &mut Notes) {
    times.sort_unstable();
    let Some(&longest) = times.last() else {
        notes.skip(Rule::StepTime, "no step was taken");
        return;
    };
    let of = |hundredths: usize| times[(times.len() - 1) * hundredths / 100];
    (notes.measures.step_p50, notes.measures.step_p99) = (of(50), of(99));
    let seen = if of(99) > STEP_P99_MAX {
        Some(format!("one step in a hundred takes {:.0?} or longer; the median is {:.0?}", of(99), of(50)))
    } else if longest > STEP_MAX {
        Some(format!("the slowest of {} steps took {longest:.1?}; the median is {:.0?}", times.len(), of(50)))
    } else {
        None
    };
    notes.judge(Rule::StepTime, seen.map(|seen| Finding { seen, seed: Some(stage.options.seed), step: None }));
}

/// Looks at the memory after so many steps.
pub(super) fn growth(memory: &[(usize, Option<u64>)], notes: &mut Notes) {
    let settled = memory.iter().find(|(steps, _)| *steps >= SETTLED_STEPS);
    let (Some(&(from, Some(before))), Some(&(to, Some(after)))) = (settled, memory.last()) else {
        notes.skip(Rule::MemoryBounded, "too few steps were taken");
        return;
    };
    if to <= 2 * from {
        notes.skip(Rule::MemoryBounded, "too few steps were taken");
        return;
    }
    let gained = i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX);
    notes.measures.memory_gained = Some(gained);
    // What goes on growing has gained in the second half too.
    let middle = memory.iter().find(|(steps, _)| *steps >= from.midpoint(to)).and_then(|(_, bytes)| *bytes);
    let late = middle
        .map_or(gained, |middle| i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(middle).unwrap_or(i64::MAX));
    let grows = gained > GROWTH_MAX && late > gained / 4;
    let seen = format!("{:.1} MB more after {to} steps than after {from}", gained as f64 / 1e6);
    notes.judge(Rule::MemoryBounded, grows.then(|| Finding::new(seen)));
}

/// Looks at the plugin's file.
pub(super) fn file(stage: &Stage<'_>, notes: &mut Notes) {
    let bytes = stage.prepared.plugin().size() as u64;
    notes.measures.file_bytes = bytes;
    let seen = || Finding::new(format!("{:.0} MB", bytes as f64 / 1e6));
    notes.judge(Rule::FileSize, (bytes > FILE_BYTES_MAX).then(seen));
}
