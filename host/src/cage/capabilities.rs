//! SANDBOX, part 2: no capabilities. A worker started by root has them all, and a worker in a new user namespace has
//! them all over that namespace. Afterwards neither has any, nor a way to get one.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// The highest capability that a kernel may know: the sets have 64 bits.
const CAPABILITIES_MAX: u32 = 64;

/// Empties the bounding, ambient, inheritable, permitted and effective sets.
///
/// # Errors
/// The system's error, which no kernel gives for sets that only become smaller.
pub(super) fn drop_all() -> io::Result<()> {
    for capability in 0..CAPABILITIES_MAX {
        // Dropped by number, to the end: a kernel may know more capabilities than a list of ours. An ordinary user may
        // not change the bounding set; without capabilities and with `no_new_privs` it has no effect.
        // SAFETY: prctl with integers; it only takes the right away. rustix knows capabilities by name only.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        if done != 0 {
            break;
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}
