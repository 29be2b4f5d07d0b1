//! The results of a reset or step: a row for each env, a column for each thing.

use crate::digest::ViewParts;
use crate::fault::Fault;
use crate::wire::slab::layout::ViewLayout;

/// The return and length of an episode that ended by itself or by its time limit. An episode ended by a fault has neither.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpisodeEnd {
    /// Sum of its rewards.
    pub episode_return: f64,
    /// Its steps.
    pub length: u32,
}

/// Results of one reset or step: row *k* belongs to env `env_ids[k]`, ascending.
///
/// Values are bytes of their spaces (little-endian, C order, one stride apart; see `wit/0.1.0/types.wit`). Use
/// [`Space::to_json`](crate::space::Space::to_json) for single values, or view the column as an array of the stride.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The env of each row.
    pub env_ids: Vec<u32>,
    /// `rows * observation stride` bytes.
    pub observations: Vec<u8>,
    /// Rewards of the steps; 0.0 where a row is a reset or a fault.
    pub rewards: Vec<f64>,
    /// Whether the task itself ended the episode.
    pub terminated: Vec<bool>,
    /// Truncated: by the env, by the time limit, or by a fault.
    pub truncated: Vec<bool>,
    /// `rows * mask length` bytes, 0 or 1 per choice; empty if the env has no masks.
    pub action_masks: Vec<u8>,
    /// `rows * info stride` bytes of declared info fields; empty if there are none.
    pub infos: Vec<u8>,
    /// JSON objects with the info that has no declared field; an empty string where there is none.
    pub infos_extra: Vec<String>,
    /// Same-step autoreset: whether this step ended an episode, so that the `final_` columns hold its end.
    pub has_final: Vec<bool>,
    /// As `observations`; only rows with `has_final` count.
    pub final_observations: Vec<u8>,
    /// As `action_masks`; only rows with `has_final` count.
    pub final_action_masks: Vec<u8>,
    /// As `infos`; only rows with `has_final` count.
    pub final_infos: Vec<u8>,
    /// As `infos_extra`; only rows with `has_final` count.
    pub final_infos_extra: Vec<String>,
    /// Episodes that ended in this step.
    pub episodes: Vec<Option<EpisodeEnd>>,
    /// Whether the row is a reset: an explicit one, or next-step autoreset's.
    pub was_reset: Vec<bool>,
    /// A fault that this row reports.
    pub faults: Vec<Option<Box<Fault>>>,
    /// Whether the env is masked after a fault: not stepped until it is reset.
    pub masked: Vec<bool>,
}

impl Batch {
    /// A batch of zeros for envs 0 to `rows - 1`.
    pub(crate) fn zeros(rows: usize, layout: &ViewLayout) -> Batch {
        Batch {
            env_ids: (0..).take(rows).collect(),
            observations: vec![0; rows * layout.observation],
            rewards: vec![0.0; rows],
            terminated: vec![false; rows],
            truncated: vec![false; rows],
            action_masks: vec![0; rows * layout.mask],
            infos: vec![0; rows * layout.info],
            infos_extra: vec![String::new(); rows],
            has_final: vec![false; rows],
            final_observations: vec![0; rows * layout.observation],
            final_action_masks: vec![0; rows * layout.mask],
            final_infos: vec![0; rows * layout.info],
            final_infos_extra: vec![String::new(); rows],
            episodes: vec![None; rows],
            was_reset: vec![false; rows],
            faults: vec![None; rows],
            masked: vec![false; rows],
        }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.env_ids.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.env_ids.is_empty()
    }

    /// The observation of a row.
    pub fn observation(&self, row: usize) -> &[u8] {
        piece(&self.observations, self.len(), row)
    }

    /// The action mask of a row; empty if the env has no masks.
    pub fn action_mask(&self, row: usize) -> &[u8] {
        piece(&self.action_masks, self.len(), row)
    }

    /// The declared info of a row; empty if no info is declared.
    pub fn info(&self, row: usize) -> &[u8] {
        piece(&self.infos, self.len(), row)
    }

    /// Same-step autoreset: the last observation of the episode that this step ended.
    pub fn final_observation(&self, row: usize) -> Option<&[u8]> {
        self.has_final[row].then(|| piece(&self.final_observations, self.len(), row))
    }

    /// Same-step autoreset: the declared info of the episode's last step.
    pub fn final_info(&self, row: usize) -> Option<&[u8]> {
        self.has_final[row].then(|| piece(&self.final_infos, self.len(), row))
    }

    /// Copies some rows into a batch of their own.
    pub(crate) fn gather(&self, rows: &[usize]) -> Batch {
        let bytes = |column: &[u8]| {
            let stride = column.len() / self.len().max(1);
            rows.iter().flat_map(|&row| &column[row * stride..(row + 1) * stride]).copied().collect()
        };
        fn pick<T: Clone>(column: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().map(|&row| column[row].clone()).collect()
        }
        Batch {
            env_ids: pick(&self.env_ids, rows),
            observations: bytes(&self.observations),
            rewards: pick(&self.rewards, rows),
            terminated: pick(&self.terminated, rows),
            truncated: pick(&self.truncated, rows),
            action_masks: bytes(&self.action_masks),
            infos: bytes(&self.infos),
            infos_extra: pick(&self.infos_extra, rows),
            has_final: pick(&self.has_final, rows),
            final_observations: bytes(&self.final_observations),
            final_action_masks: bytes(&self.final_action_masks),
            final_infos: bytes(&self.final_infos),
            final_infos_extra: pick(&self.final_infos_extra, rows),
            episodes: pick(&self.episodes, rows),
            was_reset: pick(&self.was_reset, rows),
            faults: pick(&self.faults, rows),
            masked: pick(&self.masked, rows),
        }
    }

    /// Clears the results of one call. The last observation, mask and info stay.
    pub(crate) fn begin_row(&mut self, row: usize) {
        self.rewards[row] = 0.0;
        self.terminated[row] = false;
        self.truncated[row] = false;
        self.has_final[row] = false;
        self.episodes[row] = None;
        self.was_reset[row] = false;
        self.faults[row] = None;
        self.masked[row] = false;
    }

    /// Copies the row's observation, mask and info into its `final_` columns, as the end of an episode.
    pub(crate) fn keep_final(&mut self, row: usize) {
        let rows = self.len();
        copy_piece(&self.observations, &mut self.final_observations, rows, row);
        copy_piece(&self.action_masks, &mut self.final_action_masks, rows, row);
        copy_piece(&self.infos, &mut self.final_infos, rows, row);
        self.final_infos_extra[row] = self.infos_extra[row].clone();
        self.has_final[row] = true;
    }

    /// Puts a view into the row.
    pub(crate) fn set_view(&mut self, row: usize, view: &View) {
        let rows = self.len();
        piece_mut(&mut self.observations, rows, row).copy_from_slice(&view.observation);
        piece_mut(&mut self.action_masks, rows, row).copy_from_slice(&view.mask);
        piece_mut(&mut self.infos, rows, row).copy_from_slice(&view.info);
        if !(view.extra.is_empty() && self.infos_extra[row].is_empty()) {
            self.infos_extra[row].clone_from(&view.extra);
        }
    }
}

fn piece<T>(column: &[T], rows: usize, row: usize) -> &[T] {
    let stride = column.len() / rows.max(1);
    &column[row * stride..(row + 1) * stride]
}

fn piece_mut<T>(column: &mut [T], rows: usize, row: usize) -> &mut [T] {
    let stride = column.len() / rows.max(1);
    &mut column[row * stride..(row + 1) * stride]
}

fn copy_piece(from: &[u8], to: &mut [u8], rows: usize, row: usize) {
    piece_mut(to, rows, row).copy_from_slice(piece(from, rows, row));
}

/// One view in host memory, copied out of the slab and then checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) observation: Vec<u8>,
    pub(crate) mask: Vec<u8>,
    pub(crate) info: Vec<u8>,
    pub(crate) extra: String,
}

impl View {
    pub(crate) fn parts(&self) -> ViewParts<'_> {
        ViewParts { observation: &self.observation, mask: &self.mask, info: &self.info, extra: self.extra.as_bytes() }
    }

    pub(crate) fn sized(layout: &ViewLayout) -> View {
        View {
            observation: vec![0; layout.observation],
            mask: vec![0; layout.mask],
            info: vec![0; layout.info],
            extra: String::new(),
        }
    }
}

/// The results of a batch of steps of one env: one column each, `taken` rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps {
    /// Steps that answered: fewer than the caller asked for if the episode ended or a fault happened.
    pub taken: u32,
    /// `taken * observation stride` bytes.
    pub observations: Vec<u8>,
    /// `taken` rewards.
    pub rewards: Vec<f64>,
    /// `taken * mask length` bytes.
    pub action_masks: Vec<u8>,
    /// `taken * info stride` bytes.
    pub infos: Vec<u8>,
    /// `taken` JSON objects, or empty strings.
    pub infos_extra: Vec<String>,
    /// Whether the last step taken terminated the episode.
    pub terminated: bool,
    /// Whether the last step taken was truncated: by the env, the time limit, or a fault.
    pub truncated: bool,
    /// The episode, if it ended.
    pub episode: Option<EpisodeEnd>,
    /// A fault in the step after the last one taken.
    pub fault: Option<Box<Fault>>,
}

impl Steps {
    /// Appends the steps that followed.
    pub(crate) fn extend(&mut self, next: Steps) {
        self.taken += next.taken;
        self.observations.extend(next.observations);
        self.rewards.extend(next.rewards);
        self.action_masks.extend(next.action_masks);
        self.infos.extend(next.infos);
        self.infos_extra.extend(next.infos_extra);
        self.terminated = next.terminated;
        self.truncated = next.truncated;
        self.episode = next.episode;
        self.fault = next.fault;
    }
}
