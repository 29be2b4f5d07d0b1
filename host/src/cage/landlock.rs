//! SANDBOX, part 2: no path. This is a Landlock domain that forbids everything that the kernel's Landlock knows, except
//! granted directories. A domain can only shrink, so the directories must be known when a worker starts.
//!
//! Landlock does not stop the following, measured on Linux 6.18 (ABI 7), so `seccomp` does: a datagram to another
//! process's UNIX socket file, another destination of a UDP socket, TCP by `MSG_FASTOPEN`.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

/// The oldest Landlock that is the whole layer: files, TCP ports, and the scopes of abstract sockets and signals (Linux
/// 6.12). An older Landlock is used as far as it goes, and reported as missing.
const WHOLE: ABI = ABI::V6;

/// The newest rights that are asked for where the kernel has them: UNIX sockets by path, UDP.
const NEWEST: ABI = ABI::V10;

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

/// Enters the domain. The directories are those of the grants, each with whether it may be written to.
///
/// # Errors
/// The parts of the layer that this kernel lacks. The parts that it has are active all the same.
pub(super) fn confine(directories: &[(BorrowedFd<'_>, bool)]) -> Result<(), String> {
    // The least level that is required, and the newest that is asked for.
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
