//! The cold path: what host and worker say to each other over their `SOCK_SEQPACKET` pair.
//! Knows messages and descriptors; knows nothing of what they lead to.
//!
//! One `postcard` message of at most [`MESSAGE_BYTES_MAX`] a packet. Descriptors travel from host to worker only. After
//! a worker's `Ready` every message of the host is followed by a turn of the slab, which is the one thing that a
//! worker waits on.

use serde::{Deserialize, Serialize};

use super::keeper::FromKeeper;
use crate::cage::Standing;
use crate::fault::FaultKind;
use crate::spec::RenderMode;

/// Bytes of a config, of reset options and of a call's arguments: a message less its envelope.
pub const TEXT_BYTES_MAX: usize = 60 * 1024;

/// Messages of one worker that the host has received and not yet looked at. A worker that sends more is lying: it has
/// at most one answer and one explanation under way.
pub const UNREAD_MESSAGES_MAX: usize = 16;

/// The build that a program was made by: host and worker must be of the same.
pub const BUILD: &str = env!("ROLLCAGE_BUILD");

/// What the host says to a template process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToTemplate {
    /// Descriptors: the copy's control socket, its log, its slab.
    Copy,
}

/// What the host says to a ready worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Options of the reset that this turn asks for: a JSON object.
    ResetOptions(String),
    /// Draw the present state into the bulk area.
    Render(RenderMode),
    /// Call the author's own method.
    Call {
        /// Its name.
        method: String,
        /// JSON.
        arguments: String,
    },
    /// Read an attribute.
    GetAttribute(String),
    /// Write an attribute.
    SetAttribute {
        /// Its name.
        name: String,
        /// JSON.
        value: String,
    },
    /// New random streams for what is still to come.
    Reseed(u64),
    /// Make a copy of yourself. Descriptors: the copy's control socket, its log, its slab.
    Copy,
    /// Say goodbye; the worker ends afterwards.
    Close,
}

/// What a worker says to the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first message of every worker: the build it is of.
    Hello {
        /// [`BUILD`].
        build: String,
    },
    /// The second message of every worker, before it has read a byte that a stranger could have shaped.
    Locked(Standing),
    /// The spec or description stands in the bulk area; turns can begin.
    Ready {
        /// Its bytes there.
        bulk_len: u32,
    },
    /// The code stands in the output memfd.
    Compiled {
        /// Its bytes.
        code_len: u64,
        /// The interface version the plugin exports.
        interface: String,
    },
    /// The file is not a plugin this rollcage can run.
    NotCompiled(String),
    /// `create` found the config wrong: paths and messages.
    ConfigRefused(Vec<(String, String)>),
    /// Why the turn that follows is answered as refused.
    Refused(EnvError),
    /// Why the instance has ended.
    Fault(GuestFault),
    /// A frame, a call's result: the shape of what stands in the bulk area.
    Answered(Reply),
    /// What a keeper says after its [`FromWorker::Hello`]; no worker does.
    Keeper(FromKeeper),
}

/// The shape of an answer that stands in the bulk area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// `height * width * 3` bytes: rows from the top, R G B.
    Rgb {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// UTF-8: a frame of text, a call's or an attribute's JSON; empty where there is no result.
    Text,
}

/// What a guest refuses while it runs on. The caller is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum EnvError {
    /// The action is not in the space, or is masked.
    #[error("the env refuses the action: {0}")]
    InvalidAction(String),
    /// The reset options are not understood.
    #[error("the env refuses the reset options: {0}")]
    InvalidOptions(String),
    /// A step before the first reset, or after the end of an episode.
    #[error("the env must be reset first")]
    NeedsReset,
    /// No such method, attribute or mode.
    #[error("the env does not support this: {0}")]
    Unsupported(String),
}

/// A fault as the worker knows it: who and when is the host's to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFault {
    /// What kind.
    pub kind: FaultKind,
    /// What happened, at most [`crate::fault::MESSAGE_BYTES_MAX`].
    pub message: String,
    /// Wasm frames, innermost first, at most [`crate::fault::BACKTRACE_FRAMES_MAX`].
    pub backtrace: Vec<String>,
}
