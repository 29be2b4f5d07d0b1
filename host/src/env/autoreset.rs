//! What a step means for an env whose episode has ended or not: Gymnasium's three modes, as a pure function of flags. Knows
//! nothing of envs: tested as a table.

use crate::wire::slab::Command;

pub(super) use crate::episode::{Autoreset, TimeLimit};

/// What a `step` of the caller means for one env.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Run the action.
    Step(Command),
    /// Ignore the action and reset.
    Reset,
    /// The episode is over and nobody resets it but the caller.
    Refuse,
}

impl Autoreset {
    /// What a `step` means for an env whose episode is over (`ended`), or not.
    pub(crate) fn turn(self, ended: bool) -> Turn {
        match (self, ended) {
            (Autoreset::NextStep | Autoreset::Disabled, false) => Turn::Step(Command::Step),
            (Autoreset::SameStep, false) => Turn::Step(Command::StepThenReset),
            // Same-step ends episodes and resets at once; one can be left over by a batch of steps.
            (Autoreset::NextStep | Autoreset::SameStep, true) => Turn::Reset,
            (Autoreset::Disabled, true) => Turn::Refuse,
        }
    }

    /// Whether a step that could not be answered goes on, within the same call, with the reset of a new instance.
    pub(crate) fn resets_at_once(self) -> bool {
        self == Autoreset::SameStep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_and_flag() {
        let table = [
            (Autoreset::NextStep, false, Turn::Step(Command::Step)),
            (Autoreset::NextStep, true, Turn::Reset),
            (Autoreset::SameStep, false, Turn::Step(Command::StepThenReset)),
            (Autoreset::SameStep, true, Turn::Reset),
            (Autoreset::Disabled, false, Turn::Step(Command::Step)),
            (Autoreset::Disabled, true, Turn::Refuse),
        ];
        for (mode, ended, turn) in table {
            assert_eq!(mode.turn(ended), turn, "{mode:?}, ended: {ended}");
        }
    }
}
