//! One measurement for `cargo xtask bench rollouts`: CartPole that plays by itself. Prints JSON: `acting ENVS SECONDS random`, or
//! `acting ENVS SECONDS FILE` with a policy's file; then a plugin's file and config for another env.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on fails"
)]

use std::time::{Duration, Instant};

use rollcage::rollout::{Acting, Amount, Keep, PolicyPlugin};
use rollcage::{Cache, Limits};
use rollcage_tests::measured;

fn main() {
    rollcage::worker_main();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [envs, seconds, who, of @ ..] = arguments.as_slice() else {
        eprintln!("usage: acting ENVS SECONDS random|FILE [PLUGIN CONFIG]");
        std::process::exit(2);
    };
    let (envs, time): (usize, f64) = (envs.parse().unwrap(), seconds.parse().unwrap());
    let mut builder = measured(of).envs(envs).seed(7).recycle_after(RECYCLE_AFTER).limits(Limits::default());
    if let Some(folder) = std::env::var_os("ROLLCAGE_CACHE") {
        builder = builder.cache(Cache::open(folder.as_ref()).unwrap());
    }
    let acting = if who == "random" { Acting::Random } else { Acting::Policy };
    if who != "random" {
        builder = builder.policy(PolicyPlugin::open(who.as_ref()).unwrap());
    }
    let mut run = builder.build().unwrap();
    // A large observation takes long, and the clock is looked at between two rollouts.
    let amount = if run.spec().observation_space.stride() > 1 << 14 { 500 } else { 20_000 };
    let mut play = |time: Duration| {
        let (begun, mut steps) = (Instant::now(), 0);
        while begun.elapsed() < time {
            steps += run.rollout(acting, Amount::Steps(amount), Keep::Returns).unwrap().steps();
        }
        steps as f64 / begun.elapsed().as_secs_f64()
    };
    play(Duration::from_secs_f64(time / 4.0));
    let steps = play(Duration::from_secs_f64(time));
    println!("{}", serde_json::json!({"envs": envs, "steps_per_s": steps, "digest": run.digest().to_string()}));
}

/// Episodes of an instance: its past is kept from its beginning on, and batches of the guest's own loop need it.
const RECYCLE_AFTER: u64 = 4_000;
