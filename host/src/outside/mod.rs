//! What envs are given of the outside world: grants, sockets from the broker, ports and services from a keeper.
//!
//! This floor knows what the operator wrote, and the system calls behind it. It must never know an env, a step or an answer.

pub(crate) mod broker;
pub mod grant;
#[cfg(feature = "worker")]
pub(crate) mod keeper;
pub mod service;
pub mod trust;
