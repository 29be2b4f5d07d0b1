//! What a step means for an env, depending on whether its episode has ended: Gymnasium's three modes, as a pure function of
//! flags. This file knows nothing of envs, and its function is tested as a table.

use crate::wire::slab::Command;

pub(super) use crate::episode::{Autoreset, TimeLimit};

/// What a `step` of the caller means for one env.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Run the action.
    Step(Command),
    /// Ignore the action and reset.
    Reset,
    /// The episode is over and only the caller may reset the env.
    Refuse,
}

impl Autoreset {
    /// What a `step` means for an env whose episode is over (`ended`), or not.
    pub(crate) fn turn(self, ended: bool) -> Turn {
        match (self, ended) {
            (Autoreset::NextStep | Autoreset::Disabled, false) => Turn::Step(Command::Step),
            (Autoreset::SameStep, false) => Turn::Step(Command::StepThenReset),
            // Same-step autoreset ends an episode and resets at once. Only a batch of steps can leave an ended episode
            // behind.
            (Autoreset::NextStep | Autoreset::SameStep, true) => Turn::Reset,
            (Autoreset::Disabled, true) => Turn::Refuse,
        }
    }

    /// Whether an unanswered step goes on, within the same call, with the reset of a new instance.
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
