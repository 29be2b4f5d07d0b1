//! Random CartPole compiled for this machine, for `cargo xtask bench rollouts`: the env's own code in a plain loop, without
//! wasm, host or sandbox. Prints steps a second. `native SECONDS`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::time::{Duration, Instant};

use cartpole::CartPole;
use rollcage_sdk::{Environment, NumpyRng};

fn main() {
    let seconds: f64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let config = rollcage_sdk::serde_json::from_str("{}").unwrap();
    let mut env = CartPole::create(config).unwrap();
    let (mut rng, mut actions) = (NumpyRng::new(7), NumpyRng::new(8));
    env.reset(&mut rng, Default::default()).unwrap();
    let time = Duration::from_secs_f64(seconds);
    let (begun, mut steps, mut length) = (Instant::now(), 0_u64, 0);
    let mut sum = 0.0;
    while begun.elapsed() < time {
        for _ in 0..1000 {
            let step = env.step(&mut rng, actions.integers(0, 2)).unwrap();
            steps += 1;
            length += 1;
            sum += f64::from(step.observation[0]);
            if step.terminated || length == 500 {
                length = 0;
                env.reset(&mut rng, Default::default()).unwrap();
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    let speed = steps as f64 / begun.elapsed().as_secs_f64();
    println!("{speed} {sum}");
}
