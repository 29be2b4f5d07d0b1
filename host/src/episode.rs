//! How an episode ends and the next one begins, as a caller asks for it: autoreset modes, with Gymnasium's names, and
//! time limits.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Gymnasium's `AutoresetMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Autoreset {
    /// The step after an episode's end ignores its action and resets.
    #[default]
    NextStep,
    /// The step that ends an episode resets too; its own observation and info are the final ones.
    SameStep,
    /// There is no autoreset: the caller resets, by a mask.
    Disabled,
}

/// A time limit of episodes, as a caller asks for it. In JSON: null, a number of steps, or `"none"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum TimeLimit {
    /// The limit of the env's own spec, if it has one.
    #[default]
    Own,
    /// This many steps, whatever the env's own limit is.
    Steps(u32),
    /// No limit, whatever the env's own limit is.
    Off,
}

impl TimeLimit {
    /// The limit in force for an env whose own limit is `own`.
    pub(crate) fn over(self, own: Option<u32>) -> Option<u32> {
        match self {
            TimeLimit::Own => own,
            TimeLimit::Steps(steps) => Some(steps),
            TimeLimit::Off => None,
        }
    }
}

impl std::fmt::Display for TimeLimit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TimeLimit::Own => out.write_str("the env's own"),
            TimeLimit::Steps(steps) => write!(out, "{steps} steps"),
            TimeLimit::Off => out.write_str("none"),
        }
    }
}

impl std::str::FromStr for TimeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<TimeLimit, String> {
        match text.parse() {
            _ if text == "none" => Ok(TimeLimit::Off),
            Ok(steps) if steps > 0 => Ok(TimeLimit::Steps(steps)),
            _ => Err(format!("a number of steps from 1 to {}, or `none`, is expected", u32::MAX)),
        }
    }
}

impl From<TimeLimit> for Value {
    fn from(limit: TimeLimit) -> Value {
        match limit {
            TimeLimit::Own => Value::Null,
            TimeLimit::Steps(steps) => steps.into(),
            TimeLimit::Off => "none".into(),
        }
    }
}

impl TryFrom<Value> for TimeLimit {
    type Error = String;

    fn try_from(value: Value) -> Result<TimeLimit, String> {
        match value {
            Value::Null => Ok(TimeLimit::Own),
            Value::String(text) => text.parse(),
            number => number.to_string().parse(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_can_be_none() {
        let json = |limit| serde_json::to_value::<TimeLimit>(limit).unwrap();
        let table = [
            (TimeLimit::Own, Value::Null, Some(200)),
            (TimeLimit::Steps(1000), 1000.into(), Some(1000)),
            (TimeLimit::Off, "none".into(), None),
        ];
        for (limit, written, in_force) in table {
            assert_eq!((json(limit), limit.over(Some(200))), (written.clone(), in_force));
            assert_eq!(serde_json::from_value::<TimeLimit>(written).unwrap(), limit);
        }
        assert_eq!(TimeLimit::Own.over(None), None);
        for wrong in [Value::from(0), (-1).into(), 2.5.into(), "some".into(), vec![1].into()] {
            let error = serde_json::from_value::<TimeLimit>(wrong.clone()).unwrap_err().to_string();
            assert!(error.contains("or `none`, is expected"), "{wrong}: {error}");
        }
    }
}
