//! SANDBOX, part 2: no path. This is a Landlock domain that forbids everything that the kernel's Landlock knows, except
//! granted directories. A domain can only shrink, so the directories must be known when a worker starts.
//!
//! Landlock does not stop the following, measured on Linux 6.18 (ABI 7), so `seccomp` does: a datagram to another
//! process's UNIX socket file, another destination of a UDP socket, TCP by `MSG_FASTOPEN`.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};

/// The oldest Landlock that is the whole layer: files, TCP ports, and the scopes of abstract sockets and signals (Linux
/// 6.12). An older Landlock is used as far as it goes, and reported as missing. Newer rights (UNIX sockets by path, UDP) are
/// asked for where the kernel has them.
pub(super) const WHOLE: u32 = 6;

/// The rights in a read-only directory. `Execute` is not among them: a worker never runs a program from there.
fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// The additional rights in a writable directory. They do not include making devices, sockets and pipes. They do not
/// include making symbolic links either: a link is useless to the guest that made it, and a trap for a program outside
/// that follows it.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// Enters the domain, and returns the version of Landlock that is then in use. The directories are those of the grants, each
/// with whether it may be written to. `pretended` is a version that is not to be exceeded: for tests of older kernels.
///
/// # Errors
/// There is no Landlock here, or the system's error.
pub(super) fn confine(directories: &[(BorrowedFd<'_>, bool)], pretended: Option<u32>) -> Result<u32, String> {
    let version = super::landlock_abi().unwrap_or(0).min(pretended.unwrap_or(u32::MAX));
    let Some(known) = abi(version) else { return Err(super::level::lacking(0)) };
    let enter = || {
        let mut rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        rules = rules.handle_access(AccessFs::from_all(known))?;
        // An older version has none of these, and an empty set is an error.
        let (net, scope) = (AccessNet::from_all(known), Scope::from_all(known));
        if !net.is_empty() {
            rules = rules.handle_access(net)?;
        }
        if !scope.is_empty() {
            rules = rules.scope(scope)?;
        }
        let mut rules = rules.create()?;
        for (directory, writable) in directories {
            let access = if *writable { reading() | writing() } else { reading() };
            rules = rules.add_rule(PathBeneath::new(directory, access & AccessFs::from_all(known)))?;
        }
        rules.restrict_self()
    };
    enter().map(|_| version).map_err(|error: RulesetError| error.to_string())
}

/// The newest version of Landlock of which nothing is asked that this version does not have. None: there is no Landlock.
fn abi(version: u32) -> Option<ABI> {
    Some(match version {
        0 => return None,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        7 => ABI::V7,
        8 => ABI::V8,
        9 => ABI::V9,
        _ => ABI::V10,
    })
}
