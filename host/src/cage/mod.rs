//! The cage: what stops a plugin. Three walls, each assumed broken by the next, a file each.
//!
//! `wasm` is the first, `process` the second. The broker, the third, has nothing to open yet: a guest is granted nothing.

#[cfg(feature = "worker")]
pub(crate) mod process;
#[cfg(feature = "worker")]
pub(crate) mod wasm;

/// The walls that stand around every env, by name: what `--json` and a rollout report.
pub fn walls() -> Vec<&'static str> {
    vec!["wasm", "process", "no-new-privs", "rlimits"]
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
