//! The cage: what stops a plugin. Three walls, each assumed broken by the next.
//!
//! `wasm` is the first. `process` is the second: the order in which a worker gives up what it has, a file for each part of
//! the wall (`namespaces`, `capabilities`, `rlimits`, `landlock`, `seccomp`). The third, grants, is the host's
//! ([`crate::outside::grant`] in the library): what a worker has at all, it was handed; sockets while it runs, by the `broker`.
//!
//! Here is what all of them are called, and which stand: what `rollcage doctor`, `--require-sandbox` and a run report.

#[cfg(feature = "worker")]
mod capabilities;
#[cfg(feature = "worker")]
#[doc(hidden)]
pub mod copy;
pub mod engine;
#[cfg(feature = "worker")]
mod landlock;
#[cfg(feature = "worker")]
mod namespaces;
#[doc(hidden)]
pub mod numbers;
#[cfg(feature = "worker")]
#[doc(hidden)]
pub mod process;
#[cfg(feature = "worker")]
mod rlimits;
#[cfg(feature = "worker")]
#[doc(hidden)]
pub mod seccomp;
pub(crate) mod stack;
#[cfg(feature = "worker")]
pub(crate) mod wasm;

use std::fmt;

use serde::{Deserialize, Serialize};

/// One part of the cage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wall {
    /// An instance and a store of its own, with caps on all that it can make the engine keep. Always there.
    Wasm,
    /// A process of its own that inherits nothing: no environment variable, descriptor or folder. Always there.
    Process,
    /// User, network and IPC namespaces of its own: a network without interfaces, and no rights in anybody else's.
    Namespaces,
    /// No capability, and none to be had.
    Capabilities,
    /// No program it may start gains rights by it.
    NoNewPrivs,
    /// Nobody of the same user looks into its memory, and it leaves none behind.
    NotDumpable,
    /// Bounds on memory, files, descriptors and core dumps.
    Rlimits,
    /// No path but the granted directories; no TCP port, abstract socket or signal to others.
    Landlock,
    /// No system call but those of a short table.
    Seccomp,
}

impl Wall {
    /// Every wall, in the order in which they are put up.
    pub const ALL: [Wall; 9] = [
        Wall::Wasm,
        Wall::Process,
        Wall::Namespaces,
        Wall::Capabilities,
        Wall::NoNewPrivs,
        Wall::NotDumpable,
        Wall::Rlimits,
        Wall::Landlock,
        Wall::Seccomp,
    ];

    /// Its name in reports, stable.
    pub const fn name(self) -> &'static str {
        match self {
            Wall::Wasm => "wasm",
            Wall::Process => "process",
            Wall::Namespaces => "namespaces",
            Wall::Capabilities => "no-capabilities",
            Wall::NoNewPrivs => "no-new-privs",
            Wall::NotDumpable => "not-dumpable",
            Wall::Rlimits => "rlimits",
            Wall::Landlock => "landlock",
            Wall::Seccomp => "seccomp",
        }
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of walls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls(u16);

impl Walls {
    /// Every wall: what is asked for unless somebody says otherwise.
    pub const ALL: Walls = Walls((1 << Wall::ALL.len()) - 1);

    /// No wall: of nobody.
    pub const EMPTY: Walls = Walls(0);

    /// Those that cannot be left out: for debugging a plugin or the worker itself, with trusted code only.
    pub const NONE: Walls = Walls(0).with(Wall::Wasm).with(Wall::Process);

    /// What `--require-sandbox` means: every wall, the namespaces apart. Many systems forbid those to ordinary users, and
    /// what they take away is taken away by another wall as well.
    pub const SANDBOX: Walls = Walls::ALL.without(Wall::Namespaces);

    /// With this wall too.
    #[must_use]
    pub const fn with(self, wall: Wall) -> Walls {
        Walls(self.0 | 1 << wall as u16)
    }

    /// Without this wall.
    #[must_use]
    pub const fn without(self, wall: Wall) -> Walls {
        Walls(self.0 & !(1 << wall as u16))
    }

    /// Those in both sets.
    #[must_use]
    pub const fn and(self, other: Walls) -> Walls {
        Walls(self.0 & other.0)
    }

    /// Whether the wall is in it.
    pub const fn has(self, wall: Wall) -> bool {
        self.0 & 1 << wall as u16 != 0
    }

    /// The walls in it, in the order in which they are put up.
    pub fn iter(self) -> impl Iterator<Item = Wall> {
        Wall::ALL.into_iter().filter(move |wall| self.has(*wall))
    }

    /// Their names, in that order.
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Wall::name).collect()
    }
}

impl fmt::Display for Walls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

/// Which walls stand around a worker, and why others do not. The worker says so before it has read a byte that a
/// stranger could have shaped, and the host compares what it can with `/proc/PID/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Those that stand.
    pub walls: Walls,
    /// Those that were asked for and do not: which, and what the system said.
    pub missing: Vec<(Wall, String)>,
}

impl Standing {
    /// The first wall of `required` that does not stand, and why.
    pub fn lacks(&self, required: Walls) -> Option<(Wall, &str)> {
        let wall = required.iter().find(|wall| !self.walls.has(*wall))?;
        let why = self.missing.iter().find(|(missing, _)| *missing == wall);
        Some((wall, why.map_or("it was switched off", |(_, why)| why)))
    }
}

/// The version of Landlock that this kernel offers; none: it has none, or it is switched off.
pub fn landlock_abi() -> Option<u32> {
    /// `LANDLOCK_CREATE_RULESET_VERSION`: asks for the version, and makes nothing.
    const VERSION: libc::c_uint = 1;
    // SAFETY: with a null attribute of size 0 and this flag the call only answers a number. The `landlock` crate has no
    // public way to ask for it.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION) };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_walls() {
        assert_eq!(Walls::ALL.names().len(), Wall::ALL.len());
        assert_eq!(Walls::NONE.to_string(), "wasm, process");
        assert!(!Walls::SANDBOX.has(Wall::Namespaces) && Walls::SANDBOX.has(Wall::Seccomp));
        assert_eq!(Walls::ALL.and(Walls::NONE), Walls::NONE);
    }

    #[test]
    fn a_missing_wall_is_named_with_its_reason() {
        let standing = Standing {
            walls: Walls::ALL.without(Wall::Landlock),
            missing: vec![(Wall::Landlock, "this kernel has none".to_owned())],
        };
        assert_eq!(standing.lacks(Walls::SANDBOX), Some((Wall::Landlock, "this kernel has none")));
        let standing = Standing { walls: Walls::NONE, missing: Vec::new() };
        assert_eq!(standing.lacks(Walls::SANDBOX), Some((Wall::Capabilities, "it was switched off")));
        assert_eq!(standing.lacks(Walls::NONE), None);
    }
}
