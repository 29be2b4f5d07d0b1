//! The examiner: plays a plugin in many ways, and names what its author should mend (`docs/check.md`).
//!
//! This floor knows envs, recordings and snapshots as any caller does. It must never know a terminal.
//!
//! `rule.rs` lists the rules → `play.rs` makes envs and plays them → a file for each kind of rule looks at what was played.

mod agree;
mod answers;
mod config;
mod costs;
mod episodes;
mod native;
mod outside;
mod pictures;
mod play;
mod rule;
mod state;

use std::collections::BTreeMap;
use std::time::Duration;

pub use native::{Difference, NativePlay};
pub use play::Options;
pub use rule::{Finding, Outcome, Rule};

use self::play::{Player, Stage};
use crate::error::{Error, UsageError};

/// The time of a step from which on only the first play is looked at.
const PACE_MAX: Duration = Duration::from_millis(500);

/// Findings of one rule that are kept: the first ones say enough.
const FINDINGS_MAX: usize = 5;

/// What came of an examination.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each rule and what came of it, in order.
    pub rules: Vec<(Rule, Outcome)>,
    /// What was measured on the way.
    pub measures: Measures,
}

/// What was measured on the way. Times are of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// Steps of the longest play.
    pub steps: u64,
    /// Episodes that ended in it.
    pub episodes: u64,
    /// The median time of a step, from the host's call to its return.
    pub step_p50: Duration,
    /// The time that 99 of 100 steps are within.
    pub step_p99: Duration,
    /// Memory that the worker had gained between the 2,000th step and the last; none where fewer steps were taken.
    pub memory_gained: Option<i64>,
    /// Bytes of the plugin's file.
    pub file_bytes: u64,
}

impl Report {
    /// The number of findings.
    pub fn findings(&self) -> usize {
        self.rules
            .iter()
            .map(|(_, outcome)| match outcome {
                Outcome::Found(findings) => findings.len(),
                Outcome::Passed | Outcome::Skipped(_) => 0,
            })
            .sum()
    }
}

/// Collects what comes of the rules.
#[derive(Default)]
struct Notes {
    outcomes: BTreeMap<Rule, Outcome>,
    measures: Measures,
}

impl Notes {
    /// The rule was looked at.
    fn pass(&mut self, rule: Rule) {
        self.outcomes.entry(rule).or_insert(Outcome::Passed);
    }

    fn skip(&mut self, rule: Rule, why: &str) {
        self.outcomes.entry(rule).or_insert_with(|| Outcome::Skipped(why.to_owned()));
    }

    /// The rule found something.
    fn find(&mut self, rule: Rule, finding: Finding) {
        match self.outcomes.entry(rule).or_insert(Outcome::Passed) {
            Outcome::Found(findings) if findings.len() >= FINDINGS_MAX => {}
            Outcome::Found(findings) => findings.push(finding),
            outcome => *outcome = Outcome::Found(vec![finding]),
        }
    }

    /// The rule found something, or nothing.
    fn judge(&mut self, rule: Rule, finding: Option<Finding>) {
        match finding {
            Some(finding) => self.find(rule, finding),
            None => self.pass(rule),
        }
    }

    fn has_found(&self, rule: Rule) -> bool {
        matches!(self.outcomes.get(&rule), Some(Outcome::Found(_)))
    }
}

/// Examines a plugin. `tell` is called with each rule before it is looked at.
///
/// # Errors
/// [`Error::Usage`]: the plugin cannot be compiled or described, or needs what is not granted. [`Error::Interrupted`], and
/// errors of the system. A fault of the env is a finding.
pub fn examine(options: &Options, tell: &mut dyn FnMut(Rule)) -> Result<Report, Error> {
    let stage = Stage::new(options)?;
    let mut notes = Notes::default();
    tell(Rule::Creates);
    match created(&stage)? {
        Created::Env(player) => {
            notes.pass(Rule::Creates);
            match look_at_all(&stage, player, &mut notes, tell) {
                Err(Error::Fault(fault)) => answers::found_fault(&stage, &fault, &mut notes),
                looked => looked?,
            }
        }
        Created::Not(finding) => notes.find(Rule::Creates, finding),
    }
    costs::file(&stage, &mut notes);
    let why = if notes.has_found(Rule::Creates) { "no env could be made" } else { "a fault came first" };
    notes.skip(Rule::NativeAgrees, "it is looked at with --native");
    Rule::ALL.into_iter().for_each(|rule| notes.skip(rule, why));
    let rules = notes.outcomes.into_iter().collect();
    Ok(Report { rules, measures: notes.measures })
}

enum Created {
    Env(Box<Player>),
    Not(Finding),
}

/// Makes the first env.
fn created(stage: &Stage<'_>) -> Result<Created, Error> {
    // What is not granted is the caller's to give, and not a mistake of the author's.
    stage.options.grants.check_wants(stage.prepared.plugin().name(), &stage.prepared.description().wants)?;
    match stage.env() {
        Ok(envs) => Ok(Created::Env(Box::new(Player::new(envs, stage.options.seed)?))),
        Err(Error::Fault(fault)) => {
            // Not cut: the message ends with the directory that is lacking.
            let message = crate::text::escape_line(&fault.message);
            Ok(Created::Not(Finding::new(format!("{}: {message}", fault.kind))))
        }
        // A config that the caller gave is the caller's to mend; the defaults are the author's.
        Err(Error::Usage(UsageError { message, .. })) if is_default(stage) => Ok(Created::Not(Finding::new(message))),
        Err(error) => Err(error),
    }
}

fn is_default(stage: &Stage<'_>) -> bool {
    stage.options.config.as_object().is_none_or(serde_json::Map::is_empty)
}

fn look_at_all(
    stage: &Stage<'_>,
    player: Box<Player>,
    notes: &mut Notes,
    tell: &mut dyn FnMut(Rule),
) -> Result<(), Error> {
    tell(Rule::Faults);
    let first = answers::look(stage, player, notes)?;
    if stage.pace.get() > PACE_MAX {
        let why = format!("a step takes {:.1?}: it would take long", stage.pace.get());
        Rule::ALL.into_iter().filter(|rule| *rule != Rule::FileSize).for_each(|rule| notes.skip(rule, &why));
        return Ok(());
    }
    tell(Rule::Reproducible);
    let is_fixed = episodes::look(stage, &first, notes)?;
    tell(Rule::ConfigMatters);
    config::look(stage, &first, is_fixed, notes)?;
    tell(Rule::WantsDeclared);
    outside::look(stage, notes)?;
    tell(Rule::Pictures);
    pictures::look(stage, &first, notes)?;
    tell(Rule::BackendsAgree);
    agree::look(stage, &first, notes)?;
    tell(Rule::StepAfterEnd);
    state::look(stage, &first, notes)?;
    Ok(())
}
