//! The `rollcage` program: a worker, if it was started as one, else the command line. Nothing else.

mod cli;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    rollcage::worker_main();
    cli::main(started)
}
