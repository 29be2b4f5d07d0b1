//! How much of the sandbox must be active: the levels of `--require-sandbox`, and the parts of Landlock, which came to Linux
//! one by one. This file knows names and numbers, and asks the system nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Standing, Wall, Walls};
use crate::error::UsageError;

/// A level of the sandbox. A higher level demands more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The filter of system calls. It alone stops every attempt of SECURITY.md's table.
    Seccomp,
    /// Every attempt of the table is stopped, by whichever layer: all layers but Landlock and the namespaces, and as much of
    /// Landlock as granted directories need.
    Full,
    /// Every layer but the namespaces, so that the attempts that Landlock knows are stopped by two.
    Strict,
}

/// The oldest Landlock that confines a worker with a directory: from here on it knows truncation, which a worker that may
/// open paths could do to a file that it may only read.
const CONFINES_DIRECTORIES: u32 = 3;

impl Level {
    /// Every level, from the lowest.
    pub const ALL: [Level; 3] = [Level::Seccomp, Level::Full, Level::Strict];

    /// The layers that it demands.
    pub const fn walls(self) -> Walls {
        match self {
            Level::Seccomp => Walls::NONE.with(Wall::NoNewPrivs).with(Wall::Seccomp),
            Level::Full => Walls::SANDBOX.without(Wall::Landlock),
            Level::Strict => Walls::SANDBOX,
        }
    }

    /// What it demands of a worker that has directories, or has none.
    pub(crate) const fn of(self, has_directories: bool) -> Required {
        let landlock = match self {
            Level::Full if has_directories => CONFINES_DIRECTORIES,
            Level::Seccomp | Level::Full | Level::Strict => 0,
        };
        Required { walls: self.walls(), landlock }
    }

    /// The highest level that a worker has, with directories or without, if it has one.
    pub fn reached(standing: &Standing, has_directories: bool) -> Option<Level> {
        Level::ALL.into_iter().rev().find(|level| standing.lacks(level.of(has_directories)).is_none())
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Seccomp => "seccomp",
            Level::Full => "full",
            Level::Strict => "strict",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = UsageError;

    fn from_str(name: &str) -> Result<Level, UsageError> {
        Level::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| {
            let shown = crate::text::escape_line(name);
            UsageError::new(format!("sandbox level `{shown}`: `seccomp`, `full` and `strict` are possible"))
        })
    }
}

/// What a worker must not go on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Required {
    /// The layers.
    pub walls: Walls,
    /// The oldest Landlock that is enough; 0 if none is needed beyond the layers.
    pub landlock: u32,
}

impl Required {
    /// Nothing.
    pub const NOTHING: Required = Required { walls: Walls::NONE, landlock: 0 };

    /// These layers.
    pub const fn walls(walls: Walls) -> Required {
        Required { walls, landlock: 0 }
    }
}

/// A part of Landlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it keeps a worker from.
    pub name: &'static str,
    /// The version of Landlock that it came with.
    pub since: u32,
    /// The Linux that it came with.
    pub linux: &'static str,
    /// What covers it in an older Landlock, for a worker without directories.
    pub covered: &'static str,
}

/// The parts of Landlock that the layer consists of, oldest first.
pub const PARTS: [Part; 6] = [
    Part { name: "files", since: 1, linux: "5.13", covered: "seccomp: no call opens a path" },
    Part {
        name: "rename across folders",
        since: 2,
        linux: "5.19",
        covered: "an older Landlock forbids every such rename; seccomp: no call renames",
    },
    Part { name: "truncate", since: 3, linux: "6.2", covered: "seccomp: no call truncates" },
    Part { name: "TCP", since: 4, linux: "6.7", covered: "seccomp: no call makes, binds or connects a socket" },
    Part { name: "ioctl", since: 5, linux: "6.10", covered: "seccomp: there is no `ioctl`" },
    Part {
        name: "signals and abstract sockets",
        since: 6,
        linux: "6.12",
        covered: "seccomp: no call sends a signal to another process, or connects a socket",
    },
];

/// The names of the parts that a Landlock of this version has, or lacks.
pub fn parts(abi: u32, has: bool) -> String {
    let names: Vec<&str> = PARTS.iter().filter(|part| (part.since <= abi) == has).map(|part| part.name).collect();
    names.join(", ")
}

/// Why a Landlock of this version is not the whole layer.
#[cfg(feature = "worker")]
pub(crate) fn lacking(abi: u32) -> String {
    let without = parts(abi, false);
    match abi {
        0 => "this kernel has no Landlock, or it is switched off".to_owned(),
        _ => format!("this kernel has version {abi} of it, without {without} (Linux 6.12 has all)"),
    }
}

impl Standing {
    /// What is demanded and not there, with the reason: a layer, or a newer Landlock.
    pub fn lacks(&self, required: Required) -> Option<(Wall, String)> {
        if let Some(wall) = required.walls.iter().find(|wall| !self.walls.has(*wall)) {
            let why = self.missing.iter().find(|(missing, _)| *missing == wall);
            return Some((wall, why.map_or_else(|| "it was switched off".to_owned(), |(_, why)| why.clone())));
        }
        (self.landlock < required.landlock).then(|| {
            let since = PARTS.iter().find(|part| part.since == required.landlock).map_or("6.12", |part| part.linux);
            let version = if self.landlock == 0 { "none".to_owned() } else { format!("version {}", self.landlock) };
            let needed = required.landlock;
            let why = format!(
                "a granted directory needs version {needed} of it (Linux {since}), and here is {version}: nothing else keeps a \
                 worker that was taken over to the directory"
            );
            (Wall::Landlock, why)
        })
    }

    /// Whether a worker that was granted directories is confined to them if it is taken over.
    pub fn confines_directories(&self) -> bool {
        self.landlock >= CONFINES_DIRECTORIES
    }

    /// What one layer alone holds, because the other that would hold it too is not active. Empty where Landlock is whole.
    pub fn held_by_one(&self) -> Vec<(&'static str, &'static str)> {
        if !self.walls.has(Wall::Seccomp) {
            return Vec::new();
        }
        PARTS.iter().filter(|part| part.since > self.landlock).map(|part| (part.name, part.covered)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(walls: Walls, landlock: u32) -> Standing {
        Standing { walls, landlock, missing: Vec::new() }
    }

    #[test]
    fn levels_are_reached_by_layers() {
        let without = Walls::SANDBOX.without(Wall::Landlock);
        assert_eq!(Level::reached(&standing(Walls::SANDBOX, 6), false), Some(Level::Strict));
        assert_eq!(Level::reached(&standing(without, 0), false), Some(Level::Full));
        assert_eq!(Level::reached(&standing(without.without(Wall::Rlimits), 2), false), Some(Level::Seccomp));
        assert_eq!(Level::reached(&standing(without.without(Wall::Seccomp), 2), false), None);
        for level in Level::ALL {
            assert_eq!(level.name().parse(), Ok(level));
        }
        assert!("Full".parse::<Level>().is_err());
    }

    #[test]
    fn directories_need_a_landlock_that_knows_truncation() {
        let without = Walls::SANDBOX.without(Wall::Landlock);
        assert_eq!(standing(without, 0).lacks(Level::Full.of(false)), None);
        for (landlock, lacks) in [(0, true), (1, true), (2, true), (3, false), (5, false)] {
            let found = standing(without, landlock).lacks(Level::Full.of(true));
            assert_eq!(found.is_some(), lacks, "{landlock}: {found:?}");
        }
        let (wall, why) = standing(without, 2).lacks(Level::Full.of(true)).expect("it is lacking");
        assert!(wall == Wall::Landlock && why.contains("version 3 of it (Linux 6.2), and here is version 2"), "{why}");
    }

    #[test]
    fn what_one_layer_holds_is_named() {
        let without = Walls::SANDBOX.without(Wall::Landlock);
        let named = |landlock| standing(without, landlock).held_by_one().into_iter().map(|(name, _)| name).collect();
        let names: Vec<&str> = named(4);
        assert_eq!(names, ["ioctl", "signals and abstract sockets"]);
        assert_eq!(standing(Walls::SANDBOX, 7).held_by_one(), []);
        assert_eq!(parts(2, true), "files, rename across folders");
    }
}
