//! A part of WALL 2: no capabilities. A worker that root started has them all, and one in a new user namespace has them
//! all over that; afterwards neither has one, nor a way to one.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// The highest capability that a kernel may know: the sets have 64 bits.
const CAPABILITIES_MAX: u32 = 64;

/// Empties the bounding, ambient, inheritable, permitted and effective sets.
///
/// # Errors
/// None that a kernel gives for sets that only become smaller.
pub(super) fn drop_all() -> io::Result<()> {
    for capability in 0..CAPABILITIES_MAX {
        // By number, to the end: a kernel may know more than a list of ours. An ordinary user may not touch the bounding
        // set, and with no capability and `no_new_privs` there is nothing left that it bounds.
        // SAFETY: prctl with integers; takes nothing but the right. rustix knows capabilities by name only.
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
