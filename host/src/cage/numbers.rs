//! Numbers that the sandbox and the code inside it agree on: the descriptors of a worker, the flags of a copy, and the
//! address of its slab.

use std::os::fd::RawFd;

/// The control socket's number in every worker.
pub const CONTROL: RawFd = 3;

/// The descriptor of the plugin in a compile process.
pub const PLUGIN: u64 = 4;

/// The descriptor of the code that a compile process writes.
pub const OUTPUT: u64 = 5;

/// The descriptor of the broker's socket in an env's worker: the third that comes over the control socket.
pub const BROKER: u64 = 6;

/// The descriptor of captured input in an env's worker: the fourth.
pub const CAPTURE: u64 = 7;

/// The descriptor of the plugin's assets in a worker that runs code: the fifth.
pub const ASSETS: u64 = 8;

/// The kernel's flags of a copy: a child of the *host's* watcher, not of the worker, so that the host reaps it and its
/// death signal is the host's.
pub const COPY_FLAGS: u64 = (libc::CLONE_PARENT | libc::SIGCHLD) as u64;

/// Bytes of a slab: address space, one fixed size for every env. Memory is used only when touched, so this bounds what
/// a hostile worker can make the machine spend on its slab. It does not bound the worker's own memory.
pub const SLAB_BYTES: usize = 64 << 20;

/// Bytes of the bulk area: an encoded spec, a frame, the columns of a batch.
pub const BULK_BYTES_MAX: usize = SLAB_BYTES / 2;

/// The address where a worker maps its slab: far from everything that the loader or the allocator places, so that a
/// branch can map its own slab over it and a filter can match the address. The kernel places programs in the upper third
/// of the addresses, and mappings from their end downwards. 64 GiB is below both even where a process has 39 bits of
/// addresses, as on some kernels for aarch64.
pub const WORKER_ADDRESS: usize = 64 << 30;
