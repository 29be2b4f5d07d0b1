//! Processes: the one thread that starts and watches them, a process as its owner sees it, and how each begins.
//!
//! This floor knows descriptors, deaths and the first messages. It must never know an env, a plugin or a recording.

pub mod child;
pub(crate) mod epoll;
pub mod group;
pub mod machine;
pub(crate) mod reap;
pub(crate) mod start;
pub(crate) mod watcher;
