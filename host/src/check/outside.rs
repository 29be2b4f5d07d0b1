//! What an env reaches for, and what it declares.

use super::Notes;
use super::play::{Player, Stage, brief};
use super::rule::{Finding, Rule};
use crate::error::Error;
use crate::outside::grant::Grant;
use crate::spec::WantKind;

/// A grant for an address of documentation (RFC 5737), where nobody listens: with it the broker runs, and notes what else an env
/// asks for.
const NOBODY: &str = "tcp-connect=192.0.2.1:9";

/// Steps in which an env reaches for what it needs.
const STEPS: usize = 50;

/// Kinds of wants whose use can be seen: by the broker.
const SEEN: [(WantKind, &str); 3] =
    [(WantKind::TcpConnect, "tcp-connect"), (WantKind::TcpListen, "tcp-listen"), (WantKind::Udp, "udp")];

pub(super) fn look(stage: &Stage<'_>, notes: &mut Notes) -> Result<(), Error> {
    if stage.is_outside() {
        notes.skip(Rule::WantsDeclared, "it is looked at where nothing is granted");
        notes.skip(Rule::WantsUsed, "it is looked at where nothing is granted");
        return Ok(());
    }
    let nobody: Grant = NOBODY.parse()?;
    let envs = stage.builder()?.grant(nobody).build()?;
    let mut player = Player::new(envs, stage.options.seed)?;
    let played = player.play(stage.options.seed, stage.steps(STEPS))?;
    let asked: Vec<String> = player.envs.refused(0).into_iter().map(|refused| refused.what).collect();
    let wants = &stage.prepared.description().wants;
    for what in &asked {
        let kind = SEEN.iter().find(|(_, name)| what.starts_with(name));
        // A name is looked up for a connection.
        let is_declared = kind.map_or(!wants.is_empty(), |(kind, _)| wants.iter().any(|want| want.kind == *kind));
        if !is_declared {
            notes.find(Rule::WantsDeclared, Finding::new(format!("it asked for {}", brief(what))));
        }
    }
    notes.pass(Rule::WantsDeclared);
    for want in wants {
        let Some((_, name)) = SEEN.iter().find(|(kind, _)| *kind == want.kind) else { continue };
        if !asked.iter().any(|what| what.starts_with(name)) && played.fault.is_none() {
            let seen = format!("it wants {} and asked for none in {STEPS} steps", want.noun());
            notes.find(Rule::WantsUsed, Finding::new(seen));
        }
    }
    notes.pass(Rule::WantsUsed);
    Ok(())
}
