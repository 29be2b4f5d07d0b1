//! A part of WALL 2: no path. A Landlock domain in which everything that the kernel's Landlock knows is forbidden, but
//! what was granted: directories. A domain only shrinks, so directories are known when a worker starts.
//!
//! What it does not stop, measured on Linux 6.18 (ABI 7) and left to `seccomp`: a datagram to a stranger's UNIX socket
//! file, another destination of a UDP socket, TCP by `MSG_FASTOPEN`.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

/// The oldest Landlock that is the whole wall: files, TCP ports, and the scopes of abstract sockets and signals (Linux
/// 6.12). An older one is put up as far as it goes, and reported as missing.
const WHOLE: ABI = ABI::V6;

/// The newest rights that are asked for where the kernel has them: UNIX sockets by path, UDP.
const NEWEST: ABI = ABI::V10;

/// What a read-only directory gives. Not `Execute`: nothing in it is ever a program of the worker's.
fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// What a writable directory gives beside that. Not the making of devices, sockets and pipes; and not of symbolic links,
/// which are nothing to the guest that made them, and a trap for whoever follows them outside.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// Enters the domain. The directories are those of the grants, each with whether it may be written to.
///
/// # Errors
/// What of the wall this kernel lacks. What it has stands all the same.
pub(super) fn confine(directories: &[(BorrowedFd<'_>, bool)]) -> Result<(), String> {
    // Required at least; asked for at most.
    let enter = |level, abi| {
        let mut rules = Ruleset::default()
            .set_compatibility(level)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .create()?;
        for (directory, writable) in directories {
            let access = if *writable { reading() | writing() } else { reading() };
            rules = rules.add_rule(PathBeneath::new(directory, access))?;
        }
        rules.restrict_self()
    };
    match enter(CompatLevel::HardRequirement, WHOLE) {
        Ok(_) => Ok(()),
        Err(whole) => match enter(CompatLevel::BestEffort, WHOLE) {
            Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
                Err("this kernel has no Landlock, or it is switched off".to_owned())
            }
            Ok(_) => Err(format!("only a part of it, this kernel's is older than Linux 6.12: {whole}")),
            Err(error) => Err(error.to_string()),
        },
    }
}
