//! The comparison of two rows, and the place where they differ.

use serde_json::Value;

use crate::fault::FaultKind;
use crate::record::rows::{Row, RowShape};
use crate::space::float_json;

/// The first place where a replay differs from its recording.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Difference {
    /// The env.
    pub env: u32,
    /// The episode, from 0.
    pub episode: u64,
    /// The step, from 0.
    pub step: u32,
    /// The column, or `digests`, `rows`.
    pub field: String,
    /// The recorded value, as JSON.
    pub recorded: Value,
    /// The replayed value.
    pub got: Value,
}

/// The first field in which two rows differ, with both values.
pub(super) fn different(recorded: &Row<'_>, got: &Row<'_>, shape: &RowShape) -> Option<(String, Value, Value)> {
    let field = |name: &str, recorded: Value, got: Value| Some((name.to_owned(), recorded, got));
    let fault = |row: &Row<'_>| row.fault.map(FaultKind::name).into();
    let text = |row: &Row<'_>| String::from_utf8_lossy(row.view.extra).into_owned().into();
    let (one, two) = (recorded, got);
    if (one.instance, one.episode, one.step) != (two.instance, two.episode, two.step) {
        let place = |row: &Row<'_>| serde_json::json!([row.instance, row.episode, row.step]);
        return field("instance, episode, step", place(one), place(two));
    }
    if one.seed != two.seed {
        return field("seed", one.seed.into(), two.seed.into());
    }
    if one.options != two.options {
        return field("options", one.options.into(), two.options.into());
    }
    if one.view.observation != two.view.observation {
        let json = |row: &Row<'_>| shape.observation.to_json(row.view.observation);
        return field("observation", json(one), json(two));
    }
    if one.view.mask != two.view.mask {
        return field("action_mask", one.view.mask.into(), two.view.mask.into());
    }
    if one.view.info != two.view.info {
        let json = |row: &Row<'_>| Value::Object(shape.info.to_json(row.view.info));
        return field("info", json(one), json(two));
    }
    if one.view.extra != two.view.extra {
        return field("info_extra", text(one), text(two));
    }
    if one.calls != two.calls {
        return field("calls", one.calls.into(), two.calls.into());
    }
    if one.fault != two.fault {
        return field("fault", fault(one), fault(two));
    }
    if one.action != two.action {
        let json = |row: &Row<'_>| row.action.map(|action| shape.action.to_json(action)).into();
        return field("action", json(one), json(two));
    }
    if let (Some(one), Some(two)) = (&one.outcome, &two.outcome) {
        if one.reward.to_bits() != two.reward.to_bits() {
            return field("reward", float_json(one.reward), float_json(two.reward));
        }
        if one.terminated != two.terminated {
            return field("terminated", one.terminated.into(), two.terminated.into());
        }
        if one.truncated != two.truncated {
            return field("truncated", one.truncated.into(), two.truncated.into());
        }
        if one.digest != two.digest {
            return field("digest", one.digest.to_string().into(), two.digest.to_string().into());
        }
    } else if one.outcome != two.outcome {
        let reward = |row: &Row<'_>| row.outcome.map(|outcome| float_json(outcome.reward)).into();
        return field("reward", reward(one), reward(two));
    }
    None
}
