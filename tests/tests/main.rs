//! Whole-system tests: one binary, a module a subject. Real processes, real Gymnasium, real signals.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod autoreset;
mod cache;
mod cli;
mod config;
mod digest;
mod dynamics;
mod faults;
mod isolation;
mod kills;
mod protocol;
mod smoke;
mod stale;
mod workspace;
