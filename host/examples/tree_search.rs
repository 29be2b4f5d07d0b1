//! Monte Carlo tree search over live environments: every node *is* an env, copied from another env and one action later. The
//! search crosses FrozenLake's 8x8 lake, which a random policy practically never does.
//!
//!     cargo run --release --example tree_search
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;

use rollcage::{Error, Plugin, UsageError, VecEnv};
use serde_json::json;

/// Simulations before each step of the env.
const SIMULATIONS: usize = 1000;
/// Steps of a simulation: at most this many inside the known tree, and at most this many random actions beyond it.
const HORIZON: usize = 50;
/// The value of a reward one step later.
const DISCOUNT: f64 = 0.97;
/// The preference for little-tried actions: UCB1's constant.
const CURIOSITY: f64 = 0.3;
const ACTIONS: usize = 4;

/// A state of the env, alive in a process of its own, and the statistics of its actions.
struct Node {
    env: VecEnv,
    actions: [Edge; ACTIONS],
}

#[derive(Clone, Copy, Default)]
struct Edge {
    visits: f64,
    value: f64,
    /// The result of the action: the state, its reward, whether the episode is over.
    leads: Option<(i64, f64, bool)>,
}

impl Node {
    fn of(env: VecEnv) -> Node {
        Node { env, actions: [Edge::default(); ACTIONS] }
    }

    fn promising(&self) -> usize {
        let all: f64 = self.actions.iter().map(|edge| edge.visits).sum();
        best(self.actions.iter().map(|edge| match edge.visits {
            0.0 => f64::INFINITY,
            visits => edge.value / visits + CURIOSITY * (all.ln() / visits).sqrt(),
        }))
    }
}

fn best(values: impl Iterator<Item = f64>) -> usize {
    values.enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other)).map_or(0, |(index, _)| index)
}

/// The states that were met. Paths that lead to the same state share its statistics.
type Tree = HashMap<i64, Node>;

/// One simulation: along the known tree, one new action, a random future. Then every action on the path is updated.
fn simulate(tree: &mut Tree, from: i64, random: &mut Random) -> Result<(), Error> {
    let (mut state, mut way, mut worth) = (from, Vec::new(), 0.0);
    while way.len() < HORIZON
        && let Some(node) = tree.get_mut(&state)
    {
        let action = node.promising();
        let known = node.actions[action].leads;
        let (next, reward, ended) = match known {
            Some(leads) => leads,
            None => {
                // The action is taken in a copy: this node's env stays where it is.
                let mut copy = node.env.branch(0, 1)?;
                let steps = copy.step_many(0, &(action as i64).to_le_bytes())?;
                let (next, ended) = (state_of(&copy), steps.terminated || steps.truncated);
                let leads = *node.actions[action].leads.insert((next, steps.rewards[0], ended));
                if !ended && !tree.contains_key(&next) {
                    worth = look_ahead(&mut copy, random)?;
                    tree.insert(next, Node::of(copy));
                }
                leads
            }
        };
        way.push((state, action, reward));
        if ended || known.is_none() {
            break;
        }
        state = next;
    }
    for (state, action, reward) in way.into_iter().rev() {
        worth = reward + DISCOUNT * worth;
        if let Some(node) = tree.get_mut(&state) {
            node.actions[action].visits += 1.0;
            node.actions[action].value += worth;
        }
    }
    Ok(())
}

fn state_of(env: &VecEnv) -> i64 {
    env.last().observation(0).try_into().map_or(0, i64::from_le_bytes)
}

/// The return of a random policy from here: in a copy, in one turn of its worker.
fn look_ahead(env: &mut VecEnv, random: &mut Random) -> Result<f64, Error> {
    let rewards = env.branch(0, 1)?.step_many(0, &random.actions(HORIZON))?.rewards;
    Ok(rewards.iter().rev().fold(0.0, |worth, reward| reward + DISCOUNT * worth))
}

/// xorshift64, so that every run of this example is the same.
struct Random(u64);

impl Random {
    fn actions(&mut self, count: usize) -> Vec<u8> {
        let mut draw = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 20) % ACTIONS as u64
        };
        (0..count).flat_map(|_| draw().to_le_bytes()).collect()
    }
}

fn main() -> Result<(), Error> {
    rollcage::worker_main(); // this program is its own worker
    let plugin = Plugin::shipped("frozenlake").ok_or_else(|| UsageError::new("frozenlake does not ship"))?;
    let config = json!({ "map_name": "8x8", "is_slippery": false });
    let mut env = VecEnv::builder(plugin).config(&config)?.seed(7).build()?;
    let mut random = Random(7);
    let mut luck = 0.0;
    for _ in 0..200 {
        env.reset(None)?;
        luck += env.step_many(0, &random.actions(200))?.rewards.iter().sum::<f64>();
    }

    env.reset(None)?;
    let mut state = state_of(&env);
    let mut tree = Tree::from([(state, Node::of(env.branch(0, 1)?))]);
    let (mut steps, mut reward, mut ended) = (0, 0.0, false);
    while !ended {
        for _ in 0..SIMULATIONS {
            simulate(&mut tree, state, &mut random)?;
        }
        let action = tree.get(&state).map_or(0, |node| best(node.actions.iter().map(|edge| edge.visits)));
        let batch = env.step(&(action as i64).to_le_bytes())?;
        (steps, reward, ended) = (steps + 1, batch.rewards[0], batch.terminated[0] || batch.truncated[0]);
        state = state_of(&env);
    }
    let nodes = tree.len();
    println!("random: {luck} of 200 crossings; tree search: {reward} of 1, in {steps} steps, over {nodes} live envs");
    Ok(())
}
