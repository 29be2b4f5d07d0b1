//! Control groups: the limits of the one that this process is in, and a group for one run, which bounds the memory and the
//! processor time of this process and all that it starts. Such a group needs one that was delegated (systemd-run, Slurm,
//! containers), or root. Knows cgroup v2 and v1 as files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::UsageError;

/// What all processes of a run may use together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunLimits {
    /// Bytes of memory. Where more is used the kernel ends processes, those of envs first.
    pub memory_bytes: Option<u64>,
    /// Cores: 1.5 is the time of one and a half.
    pub cores: Option<f64>,
}

/// A control group that this process has entered. Dropped, it is left and removed, as far as the system allows.
#[derive(Debug)]
pub struct Group {
    /// The groups that were made, each with the group that this process came from.
    made: Vec<(PathBuf, PathBuf)>,
}

/// The time over which the kernel counts processor time, in microseconds: its own default.
const PERIOD_US: u64 = 100_000;

impl Group {
    /// Makes a group with these limits below the present one, and moves this process into it. None: nothing is bounded.
    ///
    /// # Errors
    /// The system has no control groups here, or none that this user may divide: what to do.
    pub fn enter(limits: RunLimits) -> Result<Option<Group>, UsageError> {
        Group::enter_in(ROOT.as_ref(), limits)
    }

    fn enter_in(root: &Path, limits: RunLimits) -> Result<Option<Group>, UsageError> {
        if limits == RunLimits::default() {
            return Ok(None);
        }
        let own = own_groups();
        let wanted: Vec<(&str, Vec<(&str, String)>)> = [
            limits.memory_bytes.map(|bytes| ("memory", memory(bytes))),
            limits.cores.map(|cores| ("cpu", processor(cores))),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut group = Group { made: Vec::new() };
        for (controller, settings) in &wanted {
            let made = group.bound(root, &own, controller, settings);
            made.map_err(|(at, error)| refused(controller, at.as_deref(), &error))?;
        }
        KNOWN_ENDED.store(UNKNOWN, Relaxed);
        Ok(Some(group))
    }

    /// Bounds what one controller counts.
    fn bound(
        &mut self,
        root: &Path,
        own: &str,
        controller: &str,
        settings: &[(&str, String)],
    ) -> Result<(), (Option<PathBuf>, io::Error)> {
        let none = || (None, io::ErrorKind::NotFound.into());
        let found = Found::of(root, own, controller).ok_or_else(none)?;
        let from = found.folder(controller).ok_or_else(none)?;
        let name = format!("rollcage-{}", std::process::id());
        let into = if from.ends_with(&name) { from.clone() } else { from.join(&name) };
        let at = |error| (Some(from.clone()), error);
        if into != from && !self.made.iter().any(|(made, _)| *made == into) {
            fs::create_dir(&into).map_err(at)?;
            self.made.push((into.clone(), from.clone()));
            fs::write(into.join("cgroup.procs"), std::process::id().to_string()).map_err(at)?;
        }
        if found.is_second && !into.join(format!("{controller}.max")).exists() {
            // A group divides what it has only when no process is in it: this one has just left.
            fs::write(into.with_file_name("cgroup.subtree_control"), format!("+{controller}")).map_err(at)?;
        }
        for (file, value) in settings {
            let file = into.join(file);
            if file.exists() {
                fs::write(file, value).map_err(at)?;
            }
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (made, from) in self.made.iter().rev() {
            // What cannot be left stays until the group around it ends.
            let _ = fs::write(from.join("cgroup.procs"), std::process::id().to_string());
            let _ = fs::remove_dir(made);
        }
    }
}

/// The files of both versions that bound memory; those that are not there belong to the other version.
fn memory(bytes: u64) -> Vec<(&'static str, String)> {
    vec![
        ("memory.max", bytes.to_string()),
        ("memory.swap.max", "0".to_owned()),
        ("memory.limit_in_bytes", bytes.to_string()),
        ("memory.memsw.limit_in_bytes", bytes.to_string()),
    ]
}

/// The same for processor time.
fn processor(cores: f64) -> Vec<(&'static str, String)> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be positive and small")]
    let quota = ((cores * PERIOD_US as f64) as u64).max(1000);
    vec![
        ("cpu.max", format!("{quota} {PERIOD_US}")),
        ("cpu.cfs_period_us", PERIOD_US.to_string()),
        ("cpu.cfs_quota_us", quota.to_string()),
    ]
}

/// What a control group allows this process and its descendants together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// Bytes of memory; none: as much as the machine has.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Of these, how many there are.
    pub running: Option<u64>,
}

impl GroupLimits {
    /// The limits of this process's control group and of those around it, of cgroup v2 or v1: the lowest of each kind.
    pub fn read() -> GroupLimits {
        GroupLimits::read_in(ROOT.as_ref(), &own_groups())
    }

    fn read_in(root: &Path, own: &str) -> GroupLimits {
        let mut limits = GroupLimits::default();
        if let Some(found) = Found::of(root, own, "memory") {
            let file = if found.is_second { "memory.max" } else { "memory.limit_in_bytes" };
            // Without a limit v1 has a number that no machine reaches.
            let lowest = found.around().filter_map(|group| number(&group.join(file))).filter(|bytes| *bytes < 1 << 60);
            limits.memory_bytes = lowest.min();
        }
        if let Some(found) = Found::of(root, own, "pids") {
            let bounded = found.around().filter_map(|group| Some((number(&group.join("pids.max"))?, group)));
            if let Some((most, group)) = bounded.min_by_key(|(most, _)| *most) {
                limits.processes = Some(most);
                limits.running = number(&group.join("pids.current"));
            }
        }
        limits
    }
}

/// Of the processes that the kernel ended for want of memory, those that are accounted for, or [`UNKNOWN`].
static KNOWN_ENDED: AtomicU64 = AtomicU64::new(UNKNOWN);
const UNKNOWN: u64 = u64::MAX;

/// Takes the number of processes of this control group that the kernel has ended for want of memory, so that later ones are
/// told from these. Only the first call counts.
pub(crate) fn begin_to_count_ended() {
    if let Some(ended) = ended_for_memory(ROOT.as_ref(), &own_groups()) {
        let _ = KNOWN_ENDED.compare_exchange(UNKNOWN, ended, Relaxed, Relaxed);
    }
}

/// Whether the kernel has ended one more process of this control group for want of memory, beside those that an earlier
/// call was told of.
pub(crate) fn one_more_has_ended() -> bool {
    let now = ended_for_memory(ROOT.as_ref(), &own_groups());
    let more = |known: u64| now.filter(|now| known < *now && known != UNKNOWN).map(|_| known + 1);
    KNOWN_ENDED.fetch_update(Relaxed, Relaxed, more).is_ok()
}

fn ended_for_memory(root: &Path, own: &str) -> Option<u64> {
    let found = Found::of(root, own, "memory")?;
    let file = if found.is_second { "memory.events" } else { "memory.oom_control" };
    let lines = fs::read_to_string(found.folder("memory")?.join(file)).ok()?;
    lines.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The groups of this process, as the kernel lists them.
fn own_groups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// A process's group of one controller.
struct Found<'a> {
    /// The folder of the controller's outermost group, and the group's path below it.
    tree: PathBuf,
    path: &'a str,
    /// Whether it is of version 2.
    is_second: bool,
}

impl<'a> Found<'a> {
    /// Finds it in the kernel's list: a line is `0::/path` in version 2, and `4:memory:/path` in version 1.
    fn of(root: &Path, own: &'a str, controller: &str) -> Option<Found<'a>> {
        let lines = || own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let first = lines().find(|(names, _)| names.split(',').any(|name| name == controller));
        let (tree, path, is_second) = match first {
            Some((names, path)) => {
                let trees = [root.join(names), root.join(controller)];
                (trees.into_iter().find(|tree| tree.is_dir())?, path, false)
            }
            None => (root.to_owned(), lines().find(|(names, _)| names.is_empty())?.1, true),
        };
        Some(Found { tree, path: path.trim_start_matches('/'), is_second })
    }

    /// The group and all around it. Where a container's path is the machine's, some of them do not exist.
    fn around(&self) -> impl Iterator<Item = PathBuf> {
        Path::new(self.path).ancestors().map(|path| self.tree.join(path))
    }

    /// The group's folder, or that of the outermost group where a container has mounted its own there. None: the controller
    /// counts nothing there.
    fn folder(&self, controller: &str) -> Option<PathBuf> {
        let own = Some(self.tree.join(self.path)).filter(|folder| folder.join("cgroup.procs").exists());
        let folder = own.unwrap_or_else(|| self.tree.clone());
        let controllers = || fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        let counts = !self.is_second || controllers().split_whitespace().any(|name| name == controller);
        counts.then_some(folder)
    }
}

fn refused(controller: &str, at: Option<&Path>, error: &io::Error) -> UsageError {
    let what = if controller == "memory" { "`--max-memory`" } else { "`--max-cpu`" };
    let why = match at {
        None => format!("there is no control group with the controller `{controller}` here"),
        Some(at) => format!("the control group `{}` is not this user's to divide: {error}", at.display()),
    };
    UsageError::new(format!("{what}: {why}")).hint(
        "start the run in a group of its own: `systemd-run --user --scope -p Delegate=yes rollcage run …`; or bound it from \
         outside, as docs/platforms.md shows",
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// A tree of control groups, as text files.
    fn tree(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("rollcage-groups-{}-{name}", std::process::id()));
        for (path, text) in files {
            let file = root.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, format!("{text}\n")).unwrap();
        }
        root
    }

    #[test]
    fn the_lowest_limit_of_all_groups_around_counts() {
        let second = tree(
            "v2",
            &[
                ("memory.max", "max"),
                ("slurm/memory.max", "4294967296"),
                ("slurm/job/memory.max", "8589934592"),
                ("slurm/job/cgroup.procs", "1"),
                ("slurm/job/cgroup.controllers", "memory pids"),
                ("slurm/job/memory.events", "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0"),
                ("slurm/job/pids.max", "500"),
                ("slurm/job/pids.current", "17"),
            ],
        );
        let expected = GroupLimits { memory_bytes: Some(4 << 30), processes: Some(500), running: Some(17) };
        assert_eq!(GroupLimits::read_in(&second, "0::/slurm/job\n"), expected);
        assert_eq!(GroupLimits::read_in(&second, "0::/nowhere\n"), GroupLimits::default());
        assert_eq!(ended_for_memory(&second, "0::/slurm/job\n"), Some(3));
        let first = tree(
            "v1",
            &[
                ("memory/memory.limit_in_bytes", "9223372036854771712"),
                ("memory/docker/abc/memory.limit_in_bytes", "2147483648"),
                ("memory/docker/abc/cgroup.procs", "1"),
                ("memory/docker/abc/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5"),
                ("pids/docker/abc/pids.max", "100"),
                ("pids/docker/abc/pids.current", "3"),
            ],
        );
        let own = "5:cpu,cpuacct:/\n4:memory:/docker/abc\n3:pids:/docker/abc\n";
        let expected = GroupLimits { memory_bytes: Some(2 << 30), processes: Some(100), running: Some(3) };
        assert_eq!(GroupLimits::read_in(&first, own), expected);
        assert_eq!(ended_for_memory(&first, own), Some(5));
        for root in [second, first] {
            std::fs::remove_dir_all(root).unwrap();
        }
    }
}
