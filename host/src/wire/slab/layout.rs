//! The byte layout of a slab's content: of one answer, and of many answers in columns.

use super::{ACTIONS_BYTES_MAX, BULK_AT, BULK_BYTES_MAX, VIEW_AT, VIEWS_BYTES_MAX};
use crate::space::InfoLayout;
use crate::spec::Spec;

/// Strides of a batch's columns.
#[derive(Clone, Debug)]
pub(crate) struct Strides {
    pub(crate) view: ViewLayout,
    pub(crate) info: InfoLayout,
}

impl Strides {
    pub(crate) fn of(spec: &Spec) -> Result<Strides, String> {
        Ok(Strides { view: ViewLayout::of(spec)?, info: crate::space::info_layout(&spec.info_fields)? })
    }
}

/// The offsets and lengths of the parts of one view: a pure function of the spec, computed by both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewLayout {
    /// Bytes of one observation.
    pub observation: usize,
    /// Bytes of one action mask (0: no mask).
    pub mask: usize,
    /// Bytes of one declared info (0: no declared fields).
    pub info: usize,
    /// Bytes of one action.
    pub action: usize,
}

pub(super) const fn align(n: usize) -> usize {
    n.div_ceil(64) * 64
}

impl ViewLayout {
    /// The layout of a spec, or the limit that the spec breaks.
    pub fn of(spec: &Spec) -> Result<ViewLayout, String> {
        let layout = ViewLayout {
            observation: spec.observation_space.stride(),
            mask: if spec.action_masked { spec.action_space.mask_len()? } else { 0 },
            info: crate::space::info_layout(&spec.info_fields)?.stride,
            action: spec.action_space.stride(),
        };
        if layout.action > ACTIONS_BYTES_MAX {
            return Err(format!("an action takes {} bytes, the limit is {ACTIONS_BYTES_MAX}", layout.action));
        }
        if 2 * layout.view_bytes() > VIEWS_BYTES_MAX {
            let limit = VIEWS_BYTES_MAX / 2;
            return Err(format!("a view takes {} bytes, the limit is {limit}", layout.view_bytes()));
        }
        Ok(layout)
    }

    pub(super) const fn mask_at(&self) -> usize {
        align(self.observation)
    }

    pub(super) const fn info_at(&self) -> usize {
        self.mask_at() + align(self.mask)
    }

    /// Bytes of a whole view, each part on cache lines of its own.
    const fn view_bytes(&self) -> usize {
        self.info_at() + align(self.info)
    }

    pub(super) const fn view_at(&self, which: Which) -> usize {
        match which {
            Which::View => VIEW_AT,
            Which::Final => VIEW_AT + self.view_bytes(),
        }
    }

    /// Bytes of one step in the columns of a batch: observation, mask, info, reward, length of its info-extra.
    const fn column_bytes(&self) -> usize {
        self.observation + self.mask + self.info + 8 + 8
    }

    /// Steps that fit into one request of command 4, given the room for actions and for answers.
    pub fn steps_max(&self) -> usize {
        let by_actions = ACTIONS_BYTES_MAX / self.action.max(1);
        // Half of the bulk area is left for the texts of info-extra.
        let by_columns = BULK_BYTES_MAX / 2 / self.column_bytes();
        by_actions.min(by_columns).clamp(1, 1 << 20)
    }
}

/// One of the two views of a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The view after the turn.
    View,
    /// Same-step autoreset only: the view of the step that ended the episode.
    Final,
}

/// The columns of a batch in the bulk area, for `count` steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) observations: usize,
    pub(super) masks: usize,
    pub(super) infos: usize,
    pub(super) rewards: usize,
    pub(super) extra_lens: usize,
    pub(super) extras: usize,
}

impl Columns {
    pub(super) const fn of(layout: &ViewLayout, count: usize) -> Columns {
        let observations = BULK_AT;
        let masks = observations + count * layout.observation;
        let infos = masks + (count * layout.mask).next_multiple_of(8);
        let rewards = infos + count * layout.info;
        let extra_lens = rewards + count * 8;
        let extras = extra_lens + count * 8;
        Columns { observations, masks, infos, rewards, extra_lens, extras }
    }
}
