//! One measurement for `cargo xtask bench gears`: steps of CartPole from Rust, actions drawn before the clock runs. Prints
//! JSON: `gears ENVS ENVS_PER_WORKER SECONDS`, and a plugin's file and config for another env.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on fails"
)]

use std::time::{Duration, Instant};

use rollcage::{Cache, Limits};
use rollcage_tests::measured;

fn main() {
    rollcage::worker_main();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [envs, each, seconds, of @ ..] = arguments.as_slice() else {
        eprintln!("usage: gears ENVS ENVS_PER_WORKER SECONDS [PLUGIN CONFIG]");
        std::process::exit(2);
    };
    let (envs, time): (usize, f64) = (envs.parse().unwrap(), seconds.parse().unwrap());
    let each: rollcage::EnvsPerWorker = each.parse().unwrap();
    let mut builder = measured(of).envs(envs).seed(7).envs_per_worker(each);
    builder = builder.limits(Limits { memory_bytes: 16 << 20, ..Limits::default() });
    if let Some(folder) = std::env::var_os("ROLLCAGE_CACHE") {
        builder = builder.cache(Cache::open(folder.as_ref()).unwrap());
    }
    let begun = Instant::now();
    let mut run = builder.build().unwrap();
    run.reset(None).unwrap();
    let started = begun.elapsed();
    // Actions in a fixed order of no period that an episode could follow.
    let rows: Vec<Vec<u8>> = (0..64u64)
        .map(|row| {
            (0..envs as u64)
                .flat_map(|env| {
                    let mixed = (row * 4099 + env + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    ((mixed >> 61) as i64 & 1).to_le_bytes()
                })
                .collect()
        })
        .collect();
    let mut rounds = 0_usize;
    let mut play = |time: Duration| {
        let (begun, before) = (Instant::now(), rounds);
        while begun.elapsed() < time {
            run.step(&rows[rounds % rows.len()]).unwrap();
            rounds += 1;
        }
        ((rounds - before) * envs) as f64 / begun.elapsed().as_secs_f64()
    };
    play(Duration::from_secs_f64(time / 4.0));
    let steps = play(Duration::from_secs_f64(time));
    println!(
        "{}",
        serde_json::json!({
            "envs": envs, "envs_per_worker": arguments[1], "steps_per_s": steps, "start_ms": started.as_secs_f64() * 1e3,
            "digest": run.digest().to_string(),
        })
    );
}
