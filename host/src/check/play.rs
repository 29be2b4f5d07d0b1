//! Episodes that the examiner plays, and the first difference of two.
//!
//! Actions are drawn from the seed and the step alone, so that two plays of one env have the same actions for as long as their
//! masks are the same.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::rule::Finding;
use crate::env::batch::{Batch, Steps};
use crate::env::builder::Builder;
use crate::env::policy::{Policy, Random};
use crate::env::vec_env::VecEnv;
use crate::episode::Autoreset;
use crate::error::{Error, UsageError};
use crate::fault::{Fault, OnFault};
use crate::outside::grant::{Grant, Grants, Protected};
use crate::outside::trust::Trust;
use crate::plugin::cache::Cache;
use crate::plugin::{CompileObserver, Plugin, Prepared};
use crate::space::Layout;
use crate::spec::Spec;

/// Bytes of observations that a play keeps. Of more, it keeps hashes: a difference is then found, and its values are not told.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// What is examined, and how.
pub struct Options {
    /// The plugin.
    pub plugin: Plugin,
    /// Its config; keys that are not given have their defaults.
    pub config: Value,
    /// What it is granted.
    pub grants: Grants,
    /// What the operator allows.
    pub trust: Trust,
    /// Paths that no grant may reach.
    pub protected: Vec<Protected>,
    /// The limits of its envs.
    pub limits: crate::limits::Limits,
    /// The cache of compiled plugins.
    pub cache: Option<Cache>,
    /// Told of compilations.
    pub observer: Option<CompileObserver>,
    /// The first seed.
    pub seed: u64,
    /// Leave out what takes long, and look at fewer steps.
    pub quick: bool,
    /// The same plugin on a base with another hash secret.
    pub other_secret: Option<Plugin>,
}

/// How envs are made for a rule.
pub(super) struct Stage<'o> {
    pub(super) options: &'o Options,
    /// The plugin, compiled once for all rules.
    pub(super) prepared: Prepared,
    /// The time of a step, once the first play has shown it.
    pub(super) pace: Cell<Duration>,
}

/// The time that one of many short plays may take.
const PLAY_TIME: Duration = Duration::from_millis(600);
const PLAY_TIME_QUICK: Duration = Duration::from_millis(100);

/// Steps that are taken however long they take: fewer show nothing.
const LEAST_STEPS: usize = 4;

impl<'o> Stage<'o> {
    /// Compiles and describes the plugin.
    pub(super) fn new(options: &'o Options) -> Result<Stage<'o>, Error> {
        let prepared = builder(options, &options.plugin)?.prepare()?;
        Ok(Stage { options, prepared, pace: Cell::new(Duration::ZERO) })
    }

    /// A builder of envs without autoreset, whose faults are errors.
    pub(super) fn builder(&self) -> Result<Builder, UsageError> {
        Ok(builder(self.options, &self.options.plugin)?.prepared(self.prepared.clone()))
    }

    /// So many steps, or fewer where they are slow.
    pub(super) fn steps(&self, wanted: usize) -> usize {
        self.steps_within(wanted, if self.options.quick { PLAY_TIME_QUICK } else { PLAY_TIME })
    }

    /// So many steps, or fewer if they take longer than that.
    pub(super) fn steps_within(&self, wanted: usize, time: Duration) -> usize {
        let pace = self.pace.get().as_secs_f64();
        if pace <= 0.0 {
            return wanted;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative; of more the first are enough"
        )]
        let affordable = (time.as_secs_f64() / pace) as usize;
        wanted.min(affordable.max(LEAST_STEPS))
    }

    /// One env.
    pub(super) fn env(&self) -> Result<VecEnv, Error> {
        self.builder()?.build()
    }

    /// One env with another config.
    pub(super) fn env_of(&self, config: &Value) -> Result<VecEnv, Error> {
        self.builder()?.config(config)?.build()
    }

    /// Whether others take part in an episode: then it cannot be played twice.
    pub(super) fn is_outside(&self) -> bool {
        let alone = |grant: &Grant| matches!(grant, Grant::Dir { .. } | Grant::RealClock | Grant::RealRandom);
        !self.options.grants.iter().all(alone)
    }
}

/// A builder for what is examined.
pub(super) fn builder(options: &Options, plugin: &Plugin) -> Result<Builder, UsageError> {
    let mut builder = VecEnv::builder(plugin.clone())
        .config(&options.config)?
        .grants(options.grants.clone())
        .protect(options.protected.iter().cloned())
        .trust(options.trust.clone())
        .limits(options.limits.clone())
        .seed(options.seed)
        .autoreset(Autoreset::Disabled)
        .on_fault(OnFault::Raise);
    if let Some(cache) = &options.cache {
        builder = builder.cache(cache.clone());
    }
    if let Some(observer) = &options.observer {
        builder = builder.when_compiling(observer.clone());
    }
    Ok(builder)
}

/// The answer to a reset or step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    observation: Kept,
    mask: Vec<u8>,
    info: Vec<u8>,
    extra: String,
    pub(super) reward: f64,
    pub(super) terminated: bool,
    pub(super) truncated: bool,
    pub(super) is_reset: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Kept {
    Bytes(Vec<u8>),
    Hash([u8; 32]),
}

impl Row {
    fn of(batch: &Batch, keeps: bool) -> Row {
        let observation = batch.observation(0);
        Row {
            observation: if keeps {
                Kept::Bytes(observation.to_vec())
            } else {
                Kept::Hash(*blake3::hash(observation).as_bytes())
            },
            mask: batch.action_mask(0).to_vec(),
            info: batch.info(0).to_vec(),
            extra: batch.infos_extra[0].clone(),
            reward: batch.rewards[0],
            terminated: batch.terminated[0],
            truncated: batch.truncated[0],
            is_reset: batch.was_reset[0],
        }
    }

    pub(super) fn ends(&self) -> bool {
        self.terminated || self.truncated
    }

    /// What differs in a step of a batch, in words.
    pub(super) fn difference_of_batch(&self, steps: &Steps, index: usize, spec: &Spec) -> Option<String> {
        let of = |column: &[u8], length: usize| column[index * length..][..length].to_vec();
        let observation = of(&steps.observations, spec.observation_space.stride());
        let last = index + 1 == steps.taken as usize;
        let other = Row {
            observation: match self.observation {
                Kept::Bytes(_) => Kept::Bytes(observation),
                Kept::Hash(_) => Kept::Hash(*blake3::hash(&observation).as_bytes()),
            },
            mask: of(&steps.action_masks, self.mask.len()),
            info: of(&steps.infos, self.info.len()),
            extra: steps.infos_extra[index].clone(),
            reward: steps.rewards[index],
            terminated: last && steps.terminated,
            truncated: last && steps.truncated,
            is_reset: false,
        };
        self.difference(&other, spec)
    }

    /// The row as JSON, for a comparison elsewhere; none if the observation was not kept.
    pub(super) fn to_json(&self, spec: &Spec) -> Option<Value> {
        let Kept::Bytes(bytes) = &self.observation else { return None };
        Some(serde_json::json!({
            "observation": spec.observation_space.to_json(bytes),
            "reward": crate::space::float_json(self.reward),
            "terminated": self.terminated,
            "truncated": self.truncated,
            "reset": self.is_reset,
        }))
    }

    /// What differs from another row, in words.
    fn difference(&self, other: &Row, spec: &Spec) -> Option<String> {
        let shown = |bytes: &Kept| match bytes {
            Kept::Bytes(bytes) => brief(&spec.observation_space.to_json(bytes).to_string()),
            Kept::Hash(_) => "another array".to_owned(),
        };
        let flag = |what: &str, one: bool, two: bool| (one != two).then(|| format!("{what} is {two}, was {one}"));
        if self.observation != other.observation {
            return Some(format!("the observation is {}, was {}", shown(&other.observation), shown(&self.observation)));
        }
        if self.reward.to_bits() != other.reward.to_bits() {
            return Some(format!("the reward is {}, was {}", other.reward, self.reward));
        }
        flag("terminated", self.terminated, other.terminated)
            .or_else(|| flag("truncated", self.truncated, other.truncated))
            .or_else(|| (self.mask != other.mask).then(|| "the action mask differs".to_owned()))
            .or_else(|| (self.info != other.info).then(|| "the info differs".to_owned()))
            .or_else(|| {
                (self.extra != other.extra)
                    .then(|| format!("the info is {}, was {}", brief(&other.extra), brief(&self.extra)))
            })
    }
}

/// Cuts a value for a message.
pub(super) fn brief(text: &str) -> String {
    let mut text = crate::text::escape_line(text);
    if text.len() > 120 {
        crate::text::cut(&mut text, 120);
        text.push('…');
    }
    text
}

/// What was played after one reset with a seed.
#[derive(Clone, Debug)]
pub(super) struct Played {
    pub(super) seed: u64,
    pub(super) spec: Spec,
    pub(super) rows: Vec<Row>,
    /// The actions, one after another.
    pub(super) actions: Vec<u8>,
    /// Why it is shorter than asked for.
    pub(super) fault: Option<Box<Fault>>,
    /// How long each step took.
    pub(super) times: Vec<Duration>,
}

impl Played {
    /// The first difference of another play with the same seed and actions.
    pub(super) fn difference(&self, other: &Played) -> Option<Finding> {
        if let Some(what) = self.spec.first_difference(&other.spec) {
            return Some(Finding::at(what, self.seed, 0));
        }
        let rows = self.rows.iter().zip(&other.rows).enumerate();
        for (step, (one, two)) in rows {
            if let Some(what) = one.difference(two, &self.spec) {
                return Some(Finding::at(what, self.seed, step as u64));
            }
        }
        // One that was asked for less is shorter, and no other.
        let (short, long) = if self.rows.len() < other.rows.len() { (self, other) } else { (other, self) };
        let fault = short.fault.as_deref().filter(|_| short.rows.len() < long.rows.len())?;
        let what = format!("{}: {}, in one of the two", fault.kind, brief(&fault.message));
        Some(Finding::at(what, self.seed, short.rows.len() as u64))
    }
}

/// One env at play.
pub(super) struct Player {
    pub(super) envs: VecEnv,
    spec: Spec,
    /// The layout of the action space.
    actions: Layout,
    policy: Policy,
    action: Vec<u8>,
    /// The most steps that an action is held, and how many more it is held now.
    hold: u32,
    held: u32,
    /// The action mask now; empty if there is none.
    mask: Vec<u8>,
    is_over: bool,
}

impl Player {
    /// A player whose actions begin at the beginning.
    pub(super) fn new(envs: VecEnv, actions_seed: u64) -> Result<Player, Error> {
        let spec = envs.spec().clone();
        let actions = spec.action_space.layout();
        let policy = Policy::Random(Random::new(actions.clone(), 1, 0, actions_seed)?);
        let action = vec![0; actions.stride];
        Ok(Player { envs, spec, actions, policy, action, hold: 1, held: 0, mask: Vec::new(), is_over: true })
    }

    /// Begins the actions anew.
    pub(super) fn again(&mut self, actions_seed: u64) -> Result<(), Error> {
        self.policy = Policy::Random(Random::new(self.actions.clone(), 1, 0, actions_seed)?);
        self.held = 0;
        Ok(())
    }

    /// Holds each action for some steps: what needs a run-up is reached so.
    pub(super) fn holding(mut self, most: u32) -> Player {
        self.hold = most;
        self
    }

    /// Resets with a seed, and takes steps; after an episode's end it resets without one. A fault ends the play, and is no error.
    pub(super) fn play(&mut self, seed: u64, steps: usize) -> Result<Played, Error> {
        self.play_from(seed, Some(seed), steps)
    }

    /// The same, with a first reset that goes on with the generators.
    pub(super) fn play_on(&mut self, seed: u64, steps: usize) -> Result<Played, Error> {
        self.play_from(seed, None, steps)
    }

    fn play_from(&mut self, seed: u64, given: Option<u64>, steps: usize) -> Result<Played, Error> {
        let mut played = self.begun(seed, steps);
        let keeps = self.keeps(steps);
        let answer = self.envs.reset(given).map(|batch| Row::of(batch, keeps));
        if self.took(answer, &mut played)? {
            self.is_over = false;
            self.go_on(&mut played, steps)?;
        }
        Ok(played)
    }

    /// A play that has no rows yet: of an env in the middle of an episode.
    pub(super) fn begun(&self, seed: u64, steps: usize) -> Played {
        let times = Vec::with_capacity(steps);
        Played { seed, spec: self.spec.clone(), rows: Vec::new(), actions: Vec::new(), fault: None, times }
    }

    fn keeps(&self, steps: usize) -> bool {
        self.spec.observation_space.stride().saturating_mul(steps) <= KEPT_BYTES_MAX
    }

    /// Takes more steps.
    pub(super) fn go_on(&mut self, played: &mut Played, steps: usize) -> Result<(), Error> {
        let keeps = self.keeps(steps);
        self.mask = self.envs.last().action_mask(0).to_vec();
        for _ in 0..steps {
            let answer = if self.is_over {
                self.envs.reset(None).map(|batch| Row::of(batch, keeps))
            } else {
                self.choose()?;
                played.actions.extend_from_slice(&self.action);
                let begun = Instant::now();
                let answer = self.envs.step(&self.action).map(|batch| Row::of(batch, keeps));
                played.times.push(begun.elapsed());
                answer
            };
            if !self.took(answer, played)? {
                break;
            }
        }
        Ok(())
    }

    /// Chooses the next action, or keeps the last one while it is held and open.
    fn choose(&mut self) -> Result<(), UsageError> {
        let is_open = || self.mask.is_empty() || self.actions.check_unmasked(&self.action, &self.mask).is_ok();
        if self.held > 0 && is_open() {
            self.held -= 1;
            return Ok(());
        }
        self.draw()?;
        if self.hold > 1 {
            // As random as the action itself, and the same in every play.
            let mix = |sum: u32, byte: &u8| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)).wrapping_add(7);
            self.held = self.action.iter().fold(self.held, mix) % self.hold;
        }
        Ok(())
    }

    /// Draws an action that is open.
    fn draw(&mut self) -> Result<(), UsageError> {
        let mask = Some(self.mask.as_slice()).filter(|mask| !mask.is_empty());
        self.policy.act(0, mask, &mut self.action)
    }

    /// Takes an answer into the play. False: a fault ended it.
    fn took(&mut self, answer: Result<Row, Error>, played: &mut Played) -> Result<bool, Error> {
        match answer {
            Ok(row) => {
                self.is_over = row.ends();
                self.mask.clone_from(&row.mask);
                played.rows.push(row);
                Ok(true)
            }
            Err(Error::Fault(fault)) => {
                played.fault = Some(fault);
                self.is_over = true;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the next answer is to a reset.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Goes on with an env that is a copy: in the middle of an episode, or at its end.
    pub(super) fn takes_up(&mut self, is_over: bool) {
        self.is_over = is_over;
    }

    /// Asks the guest for a step although the episode is over.
    pub(super) fn step_after_the_end(&mut self) -> Result<(), Error> {
        self.draw()?;
        self.envs.slots[0].forget_the_end();
        self.envs.step(&self.action).map(|_| ())
    }
}
