//! The byte layout of a slab's content: of one answer, and of many answers in columns.

use super::{
    ACTIONS_AT, ACTIONS_BYTES_MAX, ANSWER_AT, BULK_AT, BULK_BYTES_MAX, LOG_BYTES, REQUEST_AT, VIEW_AT, VIEWS_BYTES_MAX,
};
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

    /// Bytes of one env's action and views, where envs lie side by side.
    const fn near_bytes(&self) -> usize {
        align(self.action) + 2 * self.view_bytes()
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
    pub(super) const fn of(layout: &ViewLayout, count: usize, bulk_at: usize) -> Columns {
        let observations = bulk_at;
        let masks = observations + count * layout.observation;
        let infos = masks + (count * layout.mask).next_multiple_of(8);
        let rewards = infos + count * layout.info;
        let extra_lens = rewards + count * 8;
        let extras = extra_lens + count * 8;
        Columns { observations, masks, infos, rewards, extra_lens, extras }
    }
}

/// Bytes that one env's action and its two views can have.
const NEAR_BYTES_MAX: usize = (ACTIONS_BYTES_MAX + VIEWS_BYTES_MAX).next_multiple_of(4096);

/// Bytes of one env's rarely used parts: bulk area, actions of a batch or a message, log.
const FAR_BYTES: usize = (BULK_BYTES_MAX + ACTIONS_BYTES_MAX + 64 + LOG_BYTES).next_multiple_of(4096);

/// The words of several envs lie behind those of their worker.
const ROWS_AT: usize = 4 << 10;

/// Bytes of one env's words.
const ROW_BYTES: usize = 128;

/// The actions and views of several envs lie side by side from here, close together, so that a step touches few pages.
const NEAR_AT: usize = 1 << 20;

/// Rows that a slab has room for.
pub(crate) const ROWS_MAX: usize = (NEAR_AT - ROWS_AT) / ROW_BYTES;

/// Rows in the slab that so many envs share: one more, in which a restored env is made before it takes another's place.
pub(crate) const fn pack_rows(envs: usize) -> usize {
    envs + 1
}

/// Bytes of a slab with so many rows. Memory is used only when touched.
pub(crate) const fn pack_bytes(rows: usize) -> usize {
    NEAR_AT + rows * (NEAR_BYTES_MAX + FAR_BYTES)
}

/// Where the parts of one env lie in a slab.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) request_at: usize,
    pub(super) answer_at: usize,
    pub(super) bulk_at: usize,
    /// The actions of a batch, or a message.
    pub(super) batch_at: usize,
    log_at: Option<usize>,
    /// The env's number among those of its worker.
    row: Option<usize>,
}

impl Place {
    /// The parts of the only env of a worker.
    pub(super) const ALONE: Place = Place {
        request_at: REQUEST_AT,
        answer_at: ANSWER_AT,
        bulk_at: BULK_AT,
        batch_at: ACTIONS_AT,
        log_at: None,
        row: None,
    };

    /// The parts of one of several envs of a worker.
    pub(super) const fn of_row(row: usize, rows: usize) -> Place {
        assert!(row < rows && rows <= ROWS_MAX, "a row that its slab has");
        let request_at = ROWS_AT + row * ROW_BYTES;
        let bulk_at = NEAR_AT + rows * NEAR_BYTES_MAX + row * FAR_BYTES;
        let batch_at = bulk_at + BULK_BYTES_MAX;
        Place {
            request_at,
            answer_at: request_at + ROW_BYTES / 2,
            bulk_at,
            batch_at,
            log_at: Some(batch_at + ACTIONS_BYTES_MAX),
            row: Some(row),
        }
    }

    /// Whether this is one of several envs of a worker.
    pub(super) const fn is_row(&self) -> bool {
        self.row.is_some()
    }

    /// Where the actions of a request of so many steps begin.
    pub(super) const fn actions_at(&self, layout: &ViewLayout, count: usize) -> usize {
        match self.row {
            Some(row) if count == 1 => NEAR_AT + row * layout.near_bytes(),
            _ => self.batch_at,
        }
    }

    /// Where a view begins.
    pub(super) const fn view_at(&self, layout: &ViewLayout, which: Which) -> usize {
        let first = match self.row {
            Some(row) => NEAR_AT + row * layout.near_bytes() + align(layout.action),
            None => VIEW_AT,
        };
        match which {
            Which::View => first,
            Which::Final => first + layout.view_bytes(),
        }
    }

    /// Where the env's log lies, if it has one of its own.
    pub(super) const fn log_at(&self) -> Option<usize> {
        self.log_at
    }
}
