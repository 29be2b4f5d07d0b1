//! The `rollcage` program: a worker if it was started as a worker, else the command line.

mod cli;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    rollcage::worker_main();
    cli::main(started)
}
