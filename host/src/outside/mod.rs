//! What of the outside envs are given: grants, sockets by the broker, ports and services by a keeper.
//!
//! This floor knows what the operator wrote, and the system calls behind it. It must never know an env, a step or an answer.

pub(crate) mod broker;
pub mod grant;
#[cfg(feature = "worker")]
pub(crate) mod keeper;
pub mod service;
