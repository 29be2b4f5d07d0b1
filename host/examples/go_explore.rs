//! Go-Explore's first phase on MountainCar: an archive of snapshots, one for each region of the state space. It returns to
//! the region that was tried least, explores from there, and keeps new regions. A random policy does not reach the flag in
//! 200 steps; this search does. (Ecoffet et al., "First return, then explore", Nature 2021.)
//!
//!     cargo run --release --example go_explore
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;

use rollcage::{Error, Plugin, Snapshot, UsageError, VecEnv};

/// Steps of one exploration.
const EXPLORE: usize = 25;
/// The part of these steps that simply repeats the last action, in percent: a car needs momentum.
const STICKY: u64 = 90;

/// A region of the state space that was reached: how, in how many steps, and how often the search returned to it.
struct Region {
    snapshot: Snapshot,
    steps: u32,
    tries: u32,
}

fn main() -> Result<(), Error> {
    rollcage::worker_main(); // this program is its own worker
    let plugin = Plugin::shipped("mountaincar").ok_or_else(|| UsageError::new("mountaincar does not ship"))?;
    let mut envs = VecEnv::builder(plugin).seed(3).build()?;
    let first = envs.reset(None)?.observation(0).to_vec();
    let snapshot = envs.snapshot(0)?;
    let mut archive = BTreeMap::from([(region(&first), Region { snapshot, steps: 0, tries: 0 })]);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = move |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };

    for round in 1.. {
        // Return: a worker repeats the requests that led there, in batches, and the digest proves that it is there.
        let Some(least) = archive.values_mut().min_by_key(|region| (region.tries, region.steps)) else { break };
        least.tries += 1;
        let mut steps = least.steps;
        let from = least.snapshot.clone();
        envs.restore(0, &from)?;
        // Explore.
        let mut action = draw(3);
        for _ in 0..EXPLORE {
            if draw(100) >= STICKY {
                action = draw(3);
            }
            let batch = envs.step(&action.to_le_bytes())?;
            steps += 1;
            if batch.terminated[0] {
                println!("the flag, after {round} returns, by {steps} steps; {} regions were seen", archive.len());
                return Ok(());
            }
            if batch.truncated[0] {
                break;
            }
            let here = region(batch.observation(0));
            // A shorter way to a known region is kept too.
            if archive.get(&here).is_none_or(|known| steps < known.steps) {
                archive.insert(here, Region { snapshot: envs.snapshot(0)?, steps, tries: 0 });
            }
        }
    }
    Ok(())
}

/// The region of an observation: position and velocity, each in 24 parts of its range.
#[expect(clippy::cast_possible_truncation, reason = "0 to 24")]
fn region(observation: &[u8]) -> (u8, u8) {
    let number = |at: usize| {
        let bytes = observation.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        f32::from_le_bytes(bytes)
    };
    (((number(0) + 1.2) / 1.8 * 24.0) as u8, ((number(4) + 0.07) / 0.14 * 24.0) as u8)
}
