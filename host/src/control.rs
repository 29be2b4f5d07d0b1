//! The cold path: what host and worker say to each other over their `SOCK_SEQPACKET` pair.
//! Knows messages and descriptors; knows nothing of what they lead to.
//!
//! One `postcard` message of at most [`MESSAGE_BYTES_MAX`] a packet. Descriptors travel from host to worker only. After
//! a worker's `Ready` every message of the host is followed by a turn of the slab, which is the one thing that a
//! worker waits on.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer};
use rustix::net::{SendAncillaryMessage, SendFlags};
use rustix::process::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cage::{Standing, Walls};
use crate::engine::EngineSettings;
use crate::fault::FaultKind;
use crate::service::FromKeeper;
use crate::spec::RenderMode;

/// Bytes of one control message. Longer texts and frames use the slab's bulk area.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a config, of reset options and of a call's arguments: a message less its envelope.
pub const TEXT_BYTES_MAX: usize = 60 * 1024;

/// Messages of one worker that the host has received and not yet looked at. A worker that sends more is lying: it has
/// at most one answer and one explanation under way.
pub const UNREAD_MESSAGES_MAX: usize = 16;

/// Directories that one env can be granted. Each is a descriptor of the job's message and a rule of the worker's
/// Landlock domain; a plugin that reads data and writes results has two.
pub const DIRECTORIES_MAX: usize = 16;

/// Descriptors that come with one message: slab or output, code or plugin, the broker's socket, the capture, and the
/// granted directories.
pub const DESCRIPTORS_MAX: usize = 4 + DIRECTORIES_MAX;

/// The build that a program was made by: host and worker must be of the same.
pub const BUILD: &str = env!("ROLLCAGE_BUILD");

/// What the host tells a new worker first, with the descriptors it needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Job {
    /// No descriptors. To put up the walls, say which stand, and end.
    Check(Cage),
    /// Descriptors: plugin (sealed), output (a memfd to fill).
    Compile(CompileJob),
    /// Descriptors: slab, code (sealed). Answers [`FromWorker::Ready`], the description in the bulk area.
    Describe(EnvJob),
    /// Descriptors: slab, code (sealed), the broker's socket with [`Granted::talks`], the file of [`Granted::capture`] (what
    /// is not there is kept its number by another one), then a directory for each of [`Granted::directories`]. Answers
    /// [`FromWorker::Ready`], the spec in the bulk area; then serves turns. To the copy of a pristine worker, which has code, slab
    /// and directories: one to be closed, then broker and capture as above.
    Env(EnvJob),
    /// Descriptors: as for [`Job::Env`], without broker and capture. Loads the code, answers [`FromWorker::Ready`] with nothing in
    /// the bulk area, then makes a copy of itself for each [`ToPristine`]. The copy says hello over its own socket, and is
    /// told [`Job::Env`] there.
    Pristine(EnvJob),
}

/// What the host says to a pristine worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToPristine {
    /// Descriptors: the copy's control socket, its log, its slab.
    Copy,
}

/// The walls of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cage {
    /// Those it is to put up.
    pub walls: Walls,
    /// Those without which it must not go on.
    pub required: Walls,
}

impl Default for Cage {
    /// All that the system has.
    fn default() -> Cage {
        Cage { walls: Walls::ALL, required: Walls::NONE }
    }
}

/// What a compile process needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompileJob {
    /// Its walls.
    pub cage: Cage,
    /// Bytes of the plugin.
    pub plugin_bytes: u64,
    /// How to compile.
    pub engine: EngineSettings,
    /// Bytes of memory it may have.
    pub memory_bytes_max: u64,
    /// Bytes of code it may write.
    pub output_bytes_max: u64,
    /// Seconds of processor time it may use.
    pub cpu_seconds_max: u64,
}

/// What an env worker needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvJob {
    /// Its walls.
    pub cage: Cage,
    /// How the code was compiled.
    pub engine: EngineSettings,
    /// The interface version the plugin exports.
    pub interface: String,
    /// SHA-256 of the plugin's file.
    pub plugin_sha256: [u8; 32],
    /// The config: canonical JSON, valid, defaults filled in.
    pub config: String,
    /// Bytes of linear memory the guest may have.
    pub memory_bytes: u64,
    /// Fuel for each step.
    pub fuel_per_step: Option<u64>,
    /// How far apart two steps begin on the guest's clock.
    pub clock_step: Duration,
    /// What of the outside the env has.
    pub granted: Granted,
    /// What `ps` shows of it.
    pub title: String,
    /// Where in its capture the records begin that it is served.
    pub capture_at: u64,
    /// Whether copies of it may be asked for.
    pub copied: bool,
}

/// What of the outside an env has, as its worker needs to know it. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Directories; their descriptors come with the job, in this order.
    pub directories: Vec<GrantedDirectory>,
    /// The guest's clocks are the machine's, and its waits take as long as they say.
    pub real_clock: bool,
    /// The guest's randomness is the kernel's.
    pub real_random: bool,
    /// Sockets may come, by the broker.
    pub sockets: Option<GrantedSockets>,
    /// What comes in is written down, or served from what was; the file comes with the job.
    pub capture: Option<CaptureMode>,
}

/// What is done with what comes in from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaptureMode {
    /// It is written to a file.
    Write,
    /// It is read from a file, and nothing comes in.
    Serve,
}

/// What a worker needs to know of the sockets it may be given. Which they are is the broker's to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedSockets {
    /// Sockets that may be open at once.
    pub count_max: u32,
    /// Bytes that may be sent and received over all of them, by one instance.
    pub bytes_max: u64,
    /// Whether one of them may listen.
    pub listens: bool,
}

impl Granted {
    /// Whether something comes in from outside that another run would not see again.
    pub fn is_captured(&self) -> bool {
        self.real_clock || self.real_random || self.sockets.is_some()
    }

    /// Whether there is a broker to talk to.
    pub fn talks(&self) -> bool {
        self.sockets.is_some() && self.capture != Some(CaptureMode::Serve)
    }

    /// Whether there is a directory to read.
    pub fn reads(&self) -> bool {
        !self.directories.is_empty()
    }

    /// Whether there is a directory to write to.
    pub fn writes(&self) -> bool {
        self.directories.iter().any(|directory| directory.writable)
    }
}

/// A directory of the host's that a guest sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedDirectory {
    /// The guest's name for it: an absolute path, `/data`.
    pub guest: String,
    /// Whether the guest may change what is in it.
    pub writable: bool,
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

/// What a worker asks of the broker, over a socket pair of their own. `id` is the worker's, and only echoed: who asks is
/// known by the socket, and what may be had by the broker's own table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToBroker {
    /// The addresses of a name.
    Resolve {
        /// Echoed.
        id: u32,
        /// As the guest wrote it.
        name: String,
    },
    /// A TCP connection.
    Connect {
        /// Echoed.
        id: u32,
        /// To whom.
        to: SocketAddr,
        /// What the guest set before.
        options: SocketOptions,
    },
    /// A TCP socket that listens.
    Listen {
        /// Echoed.
        id: u32,
        /// Where.
        at: SocketAddr,
        /// Connections that wait to be accepted.
        backlog: u32,
    },
    /// UDP: a connected socket for each granted peer of the address's family, all of one local port.
    Udp {
        /// Echoed.
        id: u32,
        /// The local address that the guest would have: port 0.
        at: SocketAddr,
    },
    /// Something that the worker refused by itself, for the operator to read. Not answered.
    Refused {
        /// What.
        what: OwnRefusal,
    },
    /// A socket that had been handed over is closed. Not answered.
    Closed {
        /// The broker's number for it.
        handle: u32,
    },
}

/// What a worker refuses without asking the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnRefusal {
    /// A datagram to somebody who is no granted peer.
    Udp(SocketAddr),
    /// More sockets at once than there may be.
    TooMany,
    /// More bytes than there may be: this many.
    Bytes(u64),
}

/// What a guest can set of a TCP socket before it is connected. Nothing said: the system's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOptions {
    /// `SO_KEEPALIVE`.
    pub keep_alive: bool,
    /// Seconds, `TCP_KEEPIDLE`.
    pub keep_alive_idle_s: Option<u32>,
    /// Seconds, `TCP_KEEPINTVL`.
    pub keep_alive_interval_s: Option<u32>,
    /// `TCP_KEEPCNT`.
    pub keep_alive_count: Option<u32>,
    /// `IP_TTL`, `IPV6_UNICAST_HOPS`.
    pub hop_limit: Option<u8>,
}

/// What the broker answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromBroker {
    /// Of a name, those of before too: they do not change while a run goes on.
    Addresses {
        /// The request's.
        id: u32,
        /// In the resolver's order.
        addresses: Vec<IpAddr>,
    },
    /// A socket for each entry came with this: connected, or listening.
    Given {
        /// The request's.
        id: u32,
        /// Where they are on this side.
        local: SocketAddr,
        /// The broker's number of each, and whom it is connected to; itself, if it listens.
        sockets: Vec<(u32, SocketAddr)>,
    },
    /// Nothing.
    Refused {
        /// The request's.
        id: u32,
        /// Why.
        why: SocketRefusal,
    },
}

/// Why there is no socket and no address: as `wasi:sockets` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketRefusal {
    /// Not granted.
    Denied,
    /// No address to connect to.
    Invalid,
    /// Nobody answered in time.
    Timeout,
    /// Too many are open.
    TooMany,
    /// The port is taken.
    InUse,
    /// The address is not this machine's.
    NotBindable,
    /// No way there.
    Unreachable,
    /// Nobody listens there.
    ConnectionRefused,
    /// It was connected, and was cut.
    Reset,
    /// The name has no address.
    NameUnresolvable,
    /// The resolver has no time.
    ResolverBusy,
    /// Whatever else the system says.
    Unknown,
}

/// Sends one message with descriptors. Errors when the packet is too long, the other side is gone or, with
/// `DONTWAIT`, does not read. The host always passes `DONTWAIT`: no worker can make it wait.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a control message of {} bytes; the limit is {MESSAGE_BYTES_MAX}", bytes.len()),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let iov = [IoSlice::new(&bytes)];
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &iov, &mut ancillary, flags | SendFlags::NOSIGNAL))?;
    Ok(())
}

/// What one look at the socket brought.
#[derive(Debug)]
pub enum Received<T> {
    /// A message, and the descriptors that came with it.
    Message(T, Vec<OwnedFd>),
    /// Bytes that are no message, with what is wrong with them.
    Garbage(String),
    /// The other side is gone.
    Closed,
    /// Nothing there (non-blocking sockets only).
    Nothing,
}

/// Receives one message. Descriptors that came with something wrong are closed.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<Received<T>> {
    receive_from(socket, flags).map(|(received, _)| received)
}

/// As [`receive`], with the sender as the kernel knows it, where the socket asks for that (`SO_PASSCRED`).
pub(crate) fn receive_from<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> io::Result<(Received<T>, Option<Pid>)> {
    let mut sender = None;
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let message = match rustix::io::retry_on_intr(|| rustix::net::recvmsg(socket, &mut iov, &mut ancillary, flags)) {
        Ok(message) => message,
        Err(rustix::io::Errno::AGAIN) => return Ok((Received::Nothing, None)),
        Err(rustix::io::Errno::CONNRESET) => return Ok((Received::Closed, None)),
        Err(error) => return Err(error.into()),
    };
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            RecvAncillaryMessage::ScmCredentials(credentials) => {
                sender = Some(credentials.pid);
                None
            }
            _ => None,
        })
        .flatten()
        .collect();
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Ok((Received::Garbage(format!("a packet of more than {MESSAGE_BYTES_MAX} bytes")), sender));
    }
    if message.bytes == 0 {
        return Ok((Received::Closed, sender));
    }
    let bytes = &bytes[..message.bytes];
    let received = match decode(bytes) {
        Ok(message) => Received::Message(message, descriptors),
        Err(what) => Received::Garbage(what),
    };
    Ok((received, sender))
}

/// Decodes one message, all of it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(format!("a message with {} bytes too many", rest.len())),
        Err(error) => Err(format!("{} bytes that are no message ({error})", bytes.len())),
    }
}

/// A pair for one worker: the host's end (close-on-exec, non-blocking for the watcher's reads by flag) and the worker's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?)
}
