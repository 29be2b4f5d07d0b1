//! Eight CartPoles in lockstep, under the simplest policy: push towards the side to which the pole leans.
//!
//!     cargo run --release --example lockstep
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use rollcage::{Plugin, UsageError, VecEnv};

fn main() -> Result<(), rollcage::Error> {
    // This program is its own worker program.
    rollcage::worker_main();

    let plugin = Plugin::shipped("cartpole").ok_or_else(|| UsageError::new("cartpole does not ship"))?;
    let mut envs = VecEnv::builder(plugin).envs(8).seed(7).build()?;
    envs.reset(None)?;
    let (mut episodes, mut sum) = (0, 0.0);
    while episodes < 100 {
        let actions: Vec<u8> =
            (0..envs.len()).flat_map(|env| lean(envs.last().observation(env)).to_le_bytes()).collect();
        for end in envs.step(&actions)?.episodes.iter().flatten() {
            episodes += 1;
            sum += end.episode_return;
        }
    }
    println!("{episodes} episodes, mean return {:.1}, digest {}", sum / f64::from(episodes), envs.digest());
    Ok(())
}

/// CartPole observes four float32: cart position and velocity, pole angle and angular velocity.
fn lean(observation: &[u8]) -> i64 {
    let angle: [u8; 4] = std::array::from_fn(|byte| observation[8 + byte]);
    i64::from(f32::from_le_bytes(angle) > 0.0)
}
