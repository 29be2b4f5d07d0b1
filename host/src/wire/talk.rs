//! The cold path: messages between host and worker over their `SOCK_SEQPACKET` pair. Knows messages and descriptors;
//! knows nothing of what they lead to.
//!
//! Each packet is one `postcard` message of at most [`MESSAGE_BYTES_MAX`](super::packet::MESSAGE_BYTES_MAX). Descriptors travel from host to worker only.
//! After a worker's `Ready`, a turn of the slab follows every message of the host: the worker waits on the turn alone.

use serde::{Deserialize, Serialize};

use super::keeper::FromKeeper;
use crate::cage::Standing;
use crate::fault::FaultKind;
use crate::spec::RenderMode;

/// Bytes of a config, of reset options and of a call's arguments: a message without its envelope.
pub const TEXT_BYTES_MAX: usize = 60 * 1024;

/// Messages of one worker that the host has received and not yet looked at. A worker that sends more violates the
/// protocol: at most one answer and one explanation are under way.
pub const UNREAD_MESSAGES_MAX: usize = 16;

/// The build of this program. Host and worker must be of the same build.
pub const BUILD: &str = env!("ROLLCAGE_BUILD");

/// The host's messages to a template process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToTemplate {
    /// Make a copy of yourself. Descriptors: the copy's control socket, its log, its slab.
    Copy,
}

/// The host's messages to a ready worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Options of the reset that this turn asks for: a JSON object.
    ResetOptions(String),
    /// Make the policy beside the env.
    MakePolicy {
        /// The key of its random stream.
        key: [u8; 32],
        /// Its config: canonical JSON, valid, defaults filled in.
        config: String,
    },
    /// Play by itself in this turn. Given actions lie in the slab.
    Rollout(Order),
    /// Make the env that this turn asks for, with this config: canonical JSON, valid, defaults filled in.
    Create(String),
    /// Draw the present state into the bulk area.
    Render(RenderMode),
    /// Call the author's own method.
    Call {
        /// The method's name.
        method: String,
        /// The arguments, JSON.
        arguments: String,
    },
    /// Read an attribute.
    GetAttribute(String),
    /// Write an attribute.
    SetAttribute {
        /// The attribute's name.
        name: String,
        /// The value, JSON.
        value: String,
    },
    /// Take new random streams for everything that follows.
    Reseed(u64),
    /// Make a copy of yourself. Descriptors: the copy's control socket, its log, its slab.
    Copy,
    /// Say goodbye; the worker ends afterwards.
    Close,
}

/// What a worker is to play in one turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who chooses the actions.
    pub acting: ActingAs,
    /// Steps to take at most.
    pub steps: u32,
    /// Episodes to end at most.
    pub episodes: u32,
    /// Steps of the present episode, which the time limit counts.
    pub elapsed: u32,
    /// The time limit.
    pub limit: Option<u32>,
    /// Options of the first reset in this turn.
    pub options: Option<String>,
}

/// Who chooses the actions of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActingAs {
    /// The caller: the actions lie in the slab, as many as the order has steps.
    Given {
        /// Whether the guest's own loop may take many of them in one call.
        batched: bool,
    },
    /// The worker's policy.
    Policy {
        /// Whether it has not seen the present episode from its beginning up to here.
        takes_over: bool,
    },
}

/// A worker's messages to the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first message of every worker: its build.
    Hello {
        /// [`BUILD`].
        build: String,
    },
    /// The second message of every worker: it is locked. Until then it has read no untrusted byte.
    Locked(Standing),
    /// The spec or description is in the bulk area; turns can begin.
    Ready {
        /// The bytes of the spec or description.
        bulk_len: u32,
        /// Microseconds that the guest took for its imports in this process; 0 if it made none of its own.
        imports_us: u32,
    },
    /// The code is in the output memfd.
    Compiled {
        /// The bytes of the code.
        code_len: u64,
        /// The interface version the plugin exports.
        interface: String,
    },
    /// The file is not a plugin that this rollcage can run.
    NotCompiled(String),
    /// `create` found the config wrong: paths and messages.
    ConfigRefused(Vec<(String, String)>),
    /// The reason why the turn that follows is answered as refused.
    Refused(EnvError),
    /// The reason why the instance has ended.
    Fault(GuestFault),
    /// The shape of the answer in the bulk area: a frame, or a call's result.
    Answered(Reply),
    /// The policy was made: the names of the numbers that it adds to each action.
    PolicyMade(Vec<String>),
    /// The guest's own loop over steps did not go as single steps may: the instance has ended, and is to be told again what it
    /// was told, and to go on by single steps. The reason is for people.
    PlaySteps(String),
    /// The policy cannot go on, in the words of a fault; the env can.
    PolicyFailed(GuestFault),
    /// A keeper's message after its [`FromWorker::Hello`]. No worker sends it.
    Keeper(FromKeeper),
}

/// The shape of an answer in the bulk area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// `height * width * 3` bytes: rows from the top, R G B.
    Rgb {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// UTF-8: a text frame, or the JSON of a call or attribute; empty if there is no result.
    Text,
}

/// A request that a guest refuses while it runs on. The caller is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum EnvError {
    /// The action is not in the space, or is masked.
    #[error("the env refuses the action: {0}")]
    InvalidAction(String),
    /// The reset options are not understood.
    #[error("the env refuses the reset options: {0}")]
    InvalidOptions(String),
    /// A step was asked before the first reset, or after the end of an episode.
    #[error("the env must be reset first")]
    NeedsReset,
    /// The method, attribute or mode does not exist.
    #[error("the env does not support this: {0}")]
    Unsupported(String),
}

/// A fault as the worker knows it: the host adds the env and the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFault {
    /// The kind of fault.
    pub kind: FaultKind,
    /// What happened, at most [`crate::fault::MESSAGE_BYTES_MAX`].
    pub message: String,
    /// Wasm frames, innermost first, at most [`crate::fault::BACKTRACE_FRAMES_MAX`].
    pub backtrace: Vec<String>,
}
