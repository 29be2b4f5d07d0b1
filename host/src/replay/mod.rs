//! Replays of the past: [`folder`] verifies and reads a recording, [`rerun`] runs it again and compares, [`export`] writes it
//! for other programs. [`snapshot`] is an env as data: its requests are repeated until the env is in the same state again.
//!
//! This floor knows recordings and envs. It must never know the command line.

pub mod acted;
pub mod compare;
pub mod damage;
mod env_again;
pub mod export;
pub mod folder;
pub mod how;
mod part;
pub mod rerun;
pub mod snapshot;

pub use part::is_reading;
