//! Whole-system tests: one binary, a module a subject. Real processes, real Gymnasium, real signals.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod actions;
mod assets;
mod autoreset;
mod bundles;
mod cache;
mod cli;
mod config;
mod copies;
mod digest;
mod directories;
mod dynamics;
mod environments;
mod excess;
mod faults;
mod first_env;
mod grants;
mod isolation;
mod kills;
mod leases;
mod machines;
mod mutations;
mod options;
mod processes;
mod progress;
mod protocol;
mod rollouts;
mod services;
mod smith;
mod smoke;
mod sockets;
mod stale;
mod v8;
mod walls;
mod workspace;
