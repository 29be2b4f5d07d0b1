//! A control group for one run: bounds on the memory and the processor time of this process and all that it starts. It needs
//! a group that was delegated (systemd-run, Slurm, containers), or root. Knows cgroup v2 and v1 as files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
        Group::enter_in("/sys/fs/cgroup".as_ref(), limits)
    }

    fn enter_in(root: &Path, limits: RunLimits) -> Result<Option<Group>, UsageError> {
        if limits == RunLimits::default() {
            return Ok(None);
        }
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
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
        let (from, is_second) = group_of(root, own, controller).ok_or((None, io::ErrorKind::NotFound.into()))?;
        let name = format!("rollcage-{}", std::process::id());
        let into = if from.ends_with(&name) { from.clone() } else { from.join(&name) };
        let at = |error| (Some(from.clone()), error);
        if into != from && !self.made.iter().any(|(made, _)| *made == into) {
            fs::create_dir(&into).map_err(at)?;
            self.made.push((into.clone(), from.clone()));
            fs::write(into.join("cgroup.procs"), std::process::id().to_string()).map_err(at)?;
        }
        if is_second && !into.join(format!("{controller}.max")).exists() {
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

/// The folder of this process's group for a controller, and whether it is of version 2.
fn group_of(root: &Path, own: &str, controller: &str) -> Option<(PathBuf, bool)> {
    let lines = || own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let folder = |tree: PathBuf, path: &str| {
        let path = path.trim_start_matches('/');
        // In a container the path may be the machine's, and its own group the root of what is mounted.
        Some(tree.join(path)).filter(|folder| folder.join("cgroup.procs").exists()).or(Some(tree))
    };
    let first = lines().find(|(names, _)| names.split(',').any(|name| name == controller));
    if let Some((names, path)) = first {
        let tree = [root.join(names), root.join(controller)].into_iter().find(|tree| tree.is_dir())?;
        return folder(tree, path).map(|folder| (folder, false));
    }
    let (_, path) = lines().find(|(names, _)| names.is_empty())?;
    let has = |folder: &PathBuf| {
        let there = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        there.split_whitespace().any(|name| name == controller)
    };
    folder(root.to_owned(), path).filter(has).map(|folder| (folder, true))
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
