//! On the path of a step: vec_env → **slab** → wait → worker/serve → worker/instance → slab.
//! Knows the bytes; knows nothing of processes, wasm or time.
//!
//! One sealed memfd of [`SLAB_BYTES`] per instance number of an env, mapped by the host and by the one worker.
//! The host writes `request` and `actions`, the worker writes everything else. What a worker writes is only a claim:
//! the host copies it once into its own memory and checks the copy. No `&[u8]` into the slab exists, on either side.
//!
//! ```text
//! 0        request   turn, command, count, flags, seed, spin_us, host_sleeps          host
//! 128      answer    done, half, status, taken, flags, reward, lengths, worker_sleeps worker
//! 4 KiB    actions   `count` values of the action space                               host
//! 1 MiB    view      observation, mask, info; then the final view, the same again     worker
//! 32 MiB   bulk      frames, texts, info-extra, columns of a batch; the spec at first worker
//! ```
//!
//! The slab of a worker with several envs has the same parts once for each env, and one pair of words for all of them on
//! which the two sides wait (`pack.rs`). What a step touches lies close together:
//!
//! ```text
//! 0        pack      turn, spin_us, host_sleeps; done, worker_sleeps, at, beat
//! 4 KiB    words     of each env: request, answer
//! 1 MiB    near      of each env: one action, view, final view
//! then     far       of each env: bulk; actions of a batch, or a message; log
//! ```

pub mod host;
pub mod layout;
pub(crate) mod mapping;
pub mod pack;
pub mod rollout;
#[cfg(feature = "worker")]
pub mod worker;

pub use crate::cage::numbers::{BULK_BYTES_MAX, SLAB_BYTES};

const REQUEST_AT: usize = 0;
const ANSWER_AT: usize = 128;
const ACTIONS_AT: usize = 4 << 10;
const VIEW_AT: usize = 1 << 20;
const BULK_AT: usize = SLAB_BYTES - BULK_BYTES_MAX;

/// Bytes for the actions of one request. `create` fails if one value of an action space does not fit.
pub const ACTIONS_BYTES_MAX: usize = VIEW_AT - ACTIONS_AT;
/// Bytes for the view and the final view together.
pub const VIEWS_BYTES_MAX: usize = BULK_AT - VIEW_AT;
/// Bytes of one `info-extra`: JSON for rare information. The texts of a view and its final view lie side by side in the
/// bulk area.
pub const INFO_EXTRA_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the JSON of a call's result or an attribute. A frame may fill the bulk area, but JSON becomes values of
/// many times its size in its reader's memory.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// Bytes of the newest output that a slab keeps of an env that shares its worker with others. A power of two.
pub(crate) const LOG_BYTES: usize = 64 << 10;

/// The offset of the final view's `info-extra` in the bulk area: after the longest that the view's own can be, so that
/// writing one text never moves the other.
const FINAL_EXTRA_AT: usize = INFO_EXTRA_BYTES_MAX;

/// A command: what the host asks of a worker in one turn.
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
    /// Make the env anew: in a worker with several envs. The message has its config.
    Create,
    /// Play by itself as the message says: steps, and the resets between them, each as a row in the bulk area.
    Rollout,
}

impl Command {
    pub(crate) const fn number(self) -> u32 {
        match self {
            Command::Reset => 1,
            Command::Step => 2,
            Command::StepThenReset => 3,
            Command::StepMany => 4,
            Command::Message => 5,
            Command::Create => 6,
            Command::Rollout => 7,
        }
    }

    pub(crate) const fn from_number(number: u32) -> Option<Command> {
        match number {
            1 => Some(Command::Reset),
            2 => Some(Command::Step),
            3 => Some(Command::StepThenReset),
            4 => Some(Command::StepMany),
            5 => Some(Command::Message),
            6 => Some(Command::Create),
            7 => Some(Command::Rollout),
            _ => None,
        }
    }
}

/// Flags of a request.
pub mod request_flags {
    /// The `seed` field is valid.
    pub const SEED: u32 = 1;
    /// This step (in a batch: the last one) reaches the host's time limit.
    pub const LAST_STEP: u32 = 2;
    /// A control message was sent before this turn: read it first.
    pub const MESSAGE: u32 = 4;
}

/// Flags of an answer.
pub mod answer_flags {
    /// The task itself ended the episode.
    pub const TERMINATED: u32 = 1;
    /// The env truncated the episode itself; the host's time limit did not.
    pub const TRUNCATED: u32 = 2;
    /// A reset followed in the same turn: the step's own view is the final view.
    pub const RESET: u32 = 4;
    /// Every flag there is.
    pub const ALL: u32 = TERMINATED | TRUNCATED | RESET;
}

/// The status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The request was carried out.
    Ok,
    /// The guest refused (an [`EnvError`](super::talk::EnvError)) and the env runs on. A control message has the
    /// reason.
    Refused,
    /// The instance has ended. A control message has the kind and the reason.
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

/// A lie: a worker that broke the protocol, with the evidence. It becomes a `protocol` fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lie(pub String);

/// A request: what the host asks in one turn, without the actions.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// The number of steps of a batch, otherwise 1.
    pub count: u32,
    /// See [`request_flags`].
    pub flags: u32,
    /// The seed, with [`request_flags::SEED`].
    pub seed: u64,
    /// Microseconds for which the worker spins after its answer, before it sleeps.
    pub spin_us: u32,
}

impl Request {
    /// A request that is said by its message: no step, no seed.
    pub const fn with_message(command: Command) -> Request {
        Request { command, count: 0, flags: request_flags::MESSAGE, seed: 0, spin_us: 0 }
    }
}

/// An answer whose words passed the checks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// How the turn was answered.
    pub status: Status,
    /// Steps taken.
    pub taken: u32,
    /// Whether the task itself ended the episode.
    pub terminated: bool,
    /// Whether the env truncated the episode itself.
    pub truncated: bool,
    /// Whether a reset followed in the same turn.
    pub reset: bool,
    /// The last step's reward.
    pub reward: f64,
    /// Bytes of the view's `info-extra`; for command 5, bytes of the answer in the bulk area.
    pub extra_len: usize,
    /// Bytes of the final view's `info-extra`.
    pub final_extra_len: usize,
}

impl Answer {
    /// The answer of an env that did as asked, and took no step.
    pub const NOTHING: Answer = Answer {
        status: Status::Ok,
        taken: 0,
        terminated: false,
        truncated: false,
        reset: false,
        reward: 0.0,
        extra_len: 0,
        final_extra_len: 0,
    };
}
