//! What runs a past once more: [`folder`] verifies and reads a recording, [`rerun`] runs it again and compares, [`export`]
//! writes it for others; [`snapshot`] is an env as data, told again until it stands where it stood.
//!
//! This floor knows recordings and envs. It must never know the command line.

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
