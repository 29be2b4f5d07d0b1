//! Many envs: the parts of a [`VecEnv`](vec_env::VecEnv), each env as a state machine, and the results of their steps.
//!
//! This floor knows spaces, slabs, processes and grants. It must never know a terminal, or a recording that is read.

mod again;
mod apart;
pub mod autoreset;
pub mod batch;
mod branch;
pub mod builder;
pub mod oddity;
pub mod pack;
pub mod policy;
pub(crate) mod policy_plugin;
pub(crate) mod recorded;
pub mod rollout;
pub(crate) mod slot;
pub(crate) mod stock;
pub(crate) mod template;
pub(crate) mod terms;
pub mod vec_env;
