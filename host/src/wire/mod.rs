//! Messages between processes, and the memory that host and worker share.
//!
//! This floor knows bytes, messages and descriptors. It must never know an env, a plugin, or who waits for what.

pub mod acting;
pub mod broker;
pub(crate) mod handshake;
pub mod job;
pub mod keeper;
pub mod lease;
pub mod packet;
#[cfg(feature = "worker")]
pub(crate) mod sealed;
pub mod slab;
pub mod talk;
pub mod wait;
