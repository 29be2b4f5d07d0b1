//! Numbers that the walls and what runs behind them agree on: which descriptor is what in a worker, how it is copied, and where
//! its slab lies.

use std::os::fd::RawFd;

/// The control socket's number in every worker.
pub const CONTROL: RawFd = 3;

/// The descriptor of the plugin in a compile process.
pub const PLUGIN: u64 = 4;

/// The descriptor of the code that a compile process writes.
pub const OUTPUT: u64 = 5;

/// The descriptor of the broker's socket in an env's worker: the third that comes over the control socket.
pub const BROKER: u64 = 6;

/// The descriptor of what came in from outside, in an env's worker: the fourth.
pub const CAPTURE: u64 = 7;

/// The kernel's flags of a copy: a child of the *host's* watcher, not of the worker, so that the host reaps it and its
/// death signal is the host's.
pub const COPY_FLAGS: u64 = (libc::CLONE_PARENT | libc::SIGCHLD) as u64;

/// Bytes of a slab: address space, one fixed size for every env. Memory is paid when touched, so this bounds what
/// a hostile worker can make the machine spend on its slab; it does not bound the worker's own memory.
pub const SLAB_BYTES: usize = 64 << 20;

/// Bytes of the bulk area: an encoded spec, a frame, the columns of a batch.
pub const BULK_BYTES_MAX: usize = SLAB_BYTES / 2;

/// Where a worker maps its slab: far from everything the loader or the allocator places, so that a branch can map
/// its own slab over it and a filter can match the address.
pub const WORKER_ADDRESS: usize = 0x1000_0000_0000;
