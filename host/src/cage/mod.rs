//! The cage: the sandbox around a plugin. It has three parts, and each assumes that the part before it is broken.
//!
//! `wasm` is the first part. `process` is the second: the order in which a worker gives up what it has, with a file for
//! each step that is more than a call (`namespaces`, `capabilities`, `rlimits`, `landlock`, `seccomp`). The third part,
//! grants, belongs to the host ([`crate::outside::grant`] in the library): a worker has only what it was handed at its
//! start, and sockets that the `broker` hands it later.
//!
//! This file names the layers of all parts (each is a [`Wall`]) and tells which are active: `rollcage doctor`,
//! `--require-sandbox` and a run report them.

#[cfg(feature = "worker")]
mod capabilities;
#[cfg(feature = "worker")]
#[doc(hidden)]
pub mod copy;
pub mod engine;
#[cfg(feature = "worker")]
mod landlock;
pub mod level;
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

pub use level::{Level, Required};

/// A layer of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wall {
    /// An instance and a store of its own, with caps on everything that a guest can make the engine keep. Always
    /// active.
    Wasm,
    /// A process of its own that inherits nothing: no environment variable, descriptor or folder. Always active.
    Process,
    /// User, network and IPC namespaces of its own: a network without interfaces, and no rights in other namespaces.
    Namespaces,
    /// No capability, and no way to get one.
    Capabilities,
    /// No program that the worker starts can gain rights.
    NoNewPrivs,
    /// No process of the same user can read the worker's memory, and the worker leaves no core dump.
    NotDumpable,
    /// Bounds on memory, files, descriptors and core dumps.
    Rlimits,
    /// No path except the granted directories; no TCP port, abstract socket, or signal to other processes.
    Landlock,
    /// No system call except those of a short table.
    Seccomp,
}

impl Wall {
    /// Every layer, in the order in which they are set up.
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

    /// The layer's name in reports, which is stable.
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

/// A set of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls(u16);

impl Walls {
    /// Every layer: the default.
    pub const ALL: Walls = Walls((1 << Wall::ALL.len()) - 1);

    /// No layer at all. No worker has this set.
    pub const EMPTY: Walls = Walls(0);

    /// The layers that cannot be left out. Alone they are for debugging a plugin or the worker itself, with trusted
    /// code only.
    pub const NONE: Walls = Walls(0).with(Wall::Wasm).with(Wall::Process);

    /// The layers of `--require-sandbox`: all except the namespaces. Many systems forbid namespaces to ordinary users,
    /// and another layer also takes away whatever the namespaces take away.
    pub const SANDBOX: Walls = Walls::ALL.without(Wall::Namespaces);

    /// This set with another layer.
    #[must_use]
    pub const fn with(self, wall: Wall) -> Walls {
        Walls(self.0 | 1 << wall as u16)
    }

    /// This set without a layer.
    #[must_use]
    pub const fn without(self, wall: Wall) -> Walls {
        Walls(self.0 & !(1 << wall as u16))
    }

    /// The layers that are in both sets.
    #[must_use]
    pub const fn and(self, other: Walls) -> Walls {
        Walls(self.0 & other.0)
    }

    /// Whether the set has the layer.
    pub const fn has(self, wall: Wall) -> bool {
        self.0 & 1 << wall as u16 != 0
    }

    /// The layers of the set, in the order in which they are set up.
    pub fn iter(self) -> impl Iterator<Item = Wall> {
        Wall::ALL.into_iter().filter(move |wall| self.has(*wall))
    }

    /// The names of the layers, in that order.
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Wall::name).collect()
    }
}

impl fmt::Display for Walls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

/// The active layers of a worker, and why others are not active. The worker reports this before it has read any
/// untrusted byte, and the host compares what it can with `/proc/PID/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The active layers.
    pub walls: Walls,
    /// The version of Landlock that is in use; 0 if none is.
    pub landlock: u32,
    /// The requested layers that are not active, each with the system's error.
    pub missing: Vec<(Wall, String)>,
}

/// The version of Landlock that this kernel offers; none if it has no Landlock, or Landlock is switched off.
pub fn landlock_abi() -> Option<u32> {
    /// `LANDLOCK_CREATE_RULESET_VERSION`: only asks for the version.
    const VERSION: libc::c_uint = 1;
    // SAFETY: with a null attribute of size 0 and this flag, the call only returns a number. The `landlock` crate has
    // no public way to ask for the version.
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
            landlock: 0,
            missing: vec![(Wall::Landlock, "this kernel has none".to_owned())],
        };
        let strict = Required::walls(Walls::SANDBOX);
        assert_eq!(standing.lacks(strict), Some((Wall::Landlock, "this kernel has none".to_owned())));
        let standing = Standing { walls: Walls::NONE, landlock: 0, missing: Vec::new() };
        assert_eq!(standing.lacks(strict), Some((Wall::Capabilities, "it was switched off".to_owned())));
        assert_eq!(standing.lacks(Required::NOTHING), None);
    }
}
