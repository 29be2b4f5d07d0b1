//! On the path of a step: vec_env → **slab** → wait → worker/serve → worker/instance → slab.
//! Knows the bytes; knows nothing of processes, wasm or time.
//!
//! One sealed memfd of [`SLAB_BYTES`] per instance number of an env, mapped by the host and by the one worker.
//! The host writes `request` and `actions`, the worker everything else, and what a worker writes is a claim:
//! it is copied once into host memory and checked there. No `&[u8]` into the slab exists anywhere, on either side.
//!
//! ```text
//! 0        request   turn, command, count, flags, seed, spin_us, host_sleeps          host
//! 128      answer    done, half, status, taken, flags, reward, lengths, worker_sleeps worker
//! 4 KiB    actions   `count` values of the action space                               host
//! 1 MiB    view      observation, mask, info; then the final view, the same again     worker
//! 32 MiB   bulk      frames, texts, info-extra, columns of a batch; the spec at first worker
//! ```

pub mod host;
pub mod layout;
pub(crate) mod mapping;
#[cfg(feature = "worker")]
pub mod worker;

pub use crate::cage::numbers::{BULK_BYTES_MAX, SLAB_BYTES};

const REQUEST_AT: usize = 0;
const ANSWER_AT: usize = 128;
const ACTIONS_AT: usize = 4 << 10;
const VIEW_AT: usize = 1 << 20;
const BULK_AT: usize = SLAB_BYTES - BULK_BYTES_MAX;

/// Bytes for the actions of one request. One value of an action space must fit, or `create` has failed.
pub const ACTIONS_BYTES_MAX: usize = VIEW_AT - ACTIONS_AT;
/// Bytes for the view and the final view together.
pub const VIEWS_BYTES_MAX: usize = BULK_AT - VIEW_AT;
/// Bytes of one `info-extra`: JSON for what is rare. A view's and its final view's stand side by side in the bulk area.
pub const INFO_EXTRA_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the JSON of a call's result or an attribute. A frame may fill the bulk area, but JSON becomes values of many
/// times its size in whoever reads it.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// Where in the bulk area the final view's `info-extra` stands: after the longest that the view's own can be, so that
/// writing one never moves the other.
const FINAL_EXTRA_AT: usize = INFO_EXTRA_BYTES_MAX;

/// What the host asks of a worker in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begin an episode.
    Reset,
    /// One step.
    Step,
    /// One step, and a reset in the same turn if it ends the episode.
    StepThenReset,
    /// `count` steps, ending with the episode.
    StepMany,
    /// Answer the control message that was sent before this turn.
    Message,
}

impl Command {
    const fn number(self) -> u32 {
        match self {
            Command::Reset => 1,
            Command::Step => 2,
            Command::StepThenReset => 3,
            Command::StepMany => 4,
            Command::Message => 5,
        }
    }

    #[cfg(feature = "worker")]
    const fn from_number(number: u32) -> Option<Command> {
        match number {
            1 => Some(Command::Reset),
            2 => Some(Command::Step),
            3 => Some(Command::StepThenReset),
            4 => Some(Command::StepMany),
            5 => Some(Command::Message),
            _ => None,
        }
    }
}

/// Flags of a request.
pub mod request_flags {
    /// The `seed` field counts.
    pub const SEED: u32 = 1;
    /// This step (of a batch: the last one) reaches the host's time limit.
    pub const LAST_STEP: u32 = 2;
    /// A control message was sent before this turn: read it first.
    pub const MESSAGE: u32 = 4;
}

/// Flags of an answer.
pub mod answer_flags {
    /// The task's own end.
    pub const TERMINATED: u32 = 1;
    /// The env's own truncation, not the host's time limit.
    pub const TRUNCATED: u32 = 2;
    /// A reset followed in the same turn: the step's own view is the final view.
    pub const RESET: u32 = 4;
    /// Every flag there is.
    pub const ALL: u32 = TERMINATED | TRUNCATED | RESET;
}

/// How a turn was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As asked.
    Ok,
    /// The guest refused (an [`EnvError`](super::talk::EnvError)); the env runs on. The reason is a control message.
    Refused,
    /// The instance has ended. Kind and reason are a control message.
    Fault,
}

impl Status {
    #[cfg(feature = "worker")]
    const fn number(self) -> u32 {
        match self {
            Status::Ok => 0,
            Status::Refused => 1,
            Status::Fault => 2,
        }
    }

    const fn from_number(number: u32) -> Option<Status> {
        match number {
            0 => Some(Status::Ok),
            1 => Some(Status::Refused),
            2 => Some(Status::Fault),
            _ => None,
        }
    }
}

/// A broken promise of the worker, with the evidence. It becomes a `protocol` fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lie(pub String);

/// What the host asks in one turn, but for the actions.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// Steps of a batch; else 1.
    pub count: u32,
    /// See [`request_flags`].
    pub flags: u32,
    /// With [`request_flags::SEED`].
    pub seed: u64,
    /// Microseconds for which the worker spins after its answer before it sleeps.
    pub spin_us: u32,
}

/// An answer whose words are possible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// How the turn was answered.
    pub status: Status,
    /// Steps taken.
    pub taken: u32,
    /// The task's own end.
    pub terminated: bool,
    /// The env's own truncation.
    pub truncated: bool,
    /// A reset followed in the same turn.
    pub reset: bool,
    /// The last step's reward.
    pub reward: f64,
    /// Bytes of the view's `info-extra`; for command 5, of the answer in the bulk area.
    pub extra_len: usize,
    /// Bytes of the final view's `info-extra`.
    pub final_extra_len: usize,
}
