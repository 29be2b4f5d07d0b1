//! The first message to a new worker: its job, its sandbox layers, and what it was given of the outside.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cage::engine::EngineSettings;
use crate::cage::{Required, Walls};

/// A worker's job: the host sends it first, with the descriptors that the job needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Job {
    /// Set up the sandbox layers, report the active ones, and end. No descriptors.
    Check(Cage),
    /// Compile a plugin. Descriptors: plugin (sealed), output (a memfd to fill).
    Compile(CompileJob),
    /// Describe a plugin. Descriptors: slab, code (sealed), two others in place of broker and capture, and the plugin's
    /// assets (sealed) with [`EnvJob::assets_bytes`]. Answers [`FromWorker::Ready`](super::talk::FromWorker::Ready), with the description in the
    /// bulk area.
    Describe(EnvJob),
    /// Run an env. Descriptors: slab, code (sealed), the broker's socket with [`Granted::talks`], the file of
    /// [`Granted::capture`], the plugin's assets (sealed) with [`EnvJob::assets_bytes`], then a directory for each of
    /// [`Granted::directories`]. Missing broker, capture or assets are replaced by another descriptor, so that the
    /// numbers stay. Answers [`FromWorker::Ready`](super::talk::FromWorker::Ready), with the spec in the
    /// bulk area; then serves turns. The copy of a template process already has code, slab, assets and directories: it gets one
    /// descriptor to close, then broker and capture as above.
    Env(EnvJob),
    /// Run several envs of one plugin, each in a store of its own. Descriptors: as for [`Job::Env`], with others in place
    /// of broker and capture; the slab is that of so many envs. Says nothing more after its introduction: each env is made
    /// by a turn of its own, and answers in the slab (`wire/slab/pack.rs`).
    Pack(PackJob),
    /// Be a template process. Descriptors: as for [`Job::Env`], without broker and capture. Loads the code, answers
    /// [`FromWorker::Ready`](super::talk::FromWorker::Ready) with an empty bulk area, then makes a copy of itself for each [`ToTemplate`](super::talk::ToTemplate). The copy
    /// says hello over its own socket, and gets [`Job::Env`] there.
    Template(EnvJob),
}

/// The sandbox layers of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cage {
    /// The layers to set up.
    pub walls: Walls,
    /// What the worker must not go on without.
    pub required: Required,
    /// A version of Landlock that is not to be exceeded: for tests of older kernels.
    pub landlock: Option<u32>,
}

impl Default for Cage {
    /// All layers that the system has.
    fn default() -> Cage {
        Cage { walls: Walls::ALL, required: Required::NOTHING, landlock: None }
    }
}

/// What a compile process needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompileJob {
    /// The sandbox layers of the process.
    pub cage: Cage,
    /// Bytes of the plugin.
    pub plugin_bytes: u64,
    /// The settings to compile with.
    pub engine: EngineSettings,
    /// Bytes of memory that the process may have.
    pub memory_bytes_max: u64,
    /// Bytes of code that the process may write.
    pub output_bytes_max: u64,
    /// Seconds of processor time that the process may use.
    pub cpu_seconds_max: u64,
}

/// What an env worker needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvJob {
    /// The sandbox layers of the worker.
    pub cage: Cage,
    /// The settings that the code was compiled with.
    pub engine: EngineSettings,
    /// The interface version the plugin exports.
    pub interface: String,
    /// SHA-256 of the plugin's file.
    pub plugin_sha256: [u8; 32],
    /// Bytes of the plugin's assets; 0 if it has none.
    pub assets_bytes: u64,
    /// Whether the guest's `describe` is called before its `create`: see [`Description::warm_up`](crate::spec::Description::warm_up).
    pub warm_up: bool,
    /// The config: canonical JSON, valid, defaults filled in.
    pub config: String,
    /// Bytes of linear memory the guest may have.
    pub memory_bytes: u64,
    /// Fuel for each step.
    pub fuel_per_step: Option<u64>,
    /// The time between two steps on the guest's clock.
    pub clock_step: Duration,
    /// What the env has of the outside.
    pub granted: Granted,
    /// The title that `ps` shows.
    pub title: String,
    /// The offset in the env's capture of the first record to serve.
    pub capture_at: u64,
    /// Whether the host may ask for copies of the worker.
    pub copied: bool,
    /// The policy that may choose the env's actions in the worker. Its descriptors come with the job, behind the plugin's
    /// assets: its code, and its assets, which another descriptor stands in for.
    pub policy: Option<PolicyJob>,
    /// The env for which this worker's plugin acts: it is a policy, and has this process to itself.
    pub acts_for: Option<ActsFor>,
}

/// The env for which a policy acts in a process of its own. The worker is asked as `wire/acting.rs` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActsFor {
    /// Bytes of the env's encoded spec, which lies in the bulk area of the slab.
    pub spec_len: u32,
    /// The key of the policy's random stream.
    pub key: [u8; 32],
}

/// What a worker needs to know of the policy beside its env.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyJob {
    /// The settings that its code was compiled with.
    pub engine: EngineSettings,
    /// The interface that it exports.
    pub interface: String,
    /// SHA-256 of its file.
    pub sha256: [u8; 32],
    /// Bytes of its assets; 0 if it has none.
    pub assets_bytes: u64,
    /// Bytes of linear memory that it may have.
    pub memory_bytes: u64,
    /// Fuel for each call.
    pub fuel: Option<u64>,
}

/// What the worker of several envs needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackJob {
    /// What each env is; the config comes with the turn that makes it.
    pub each: EnvJob,
    /// How many envs the slab has room for.
    pub rows: u32,
    /// Whether the envs' output goes to the log pipe too.
    pub logs_through: bool,
}

/// What an env has of the outside, as its worker needs to know it. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Granted directories. Their descriptors come with the job, in this order.
    pub directories: Vec<GrantedDirectory>,
    /// True if the guest's clocks are the machine's, and its waits take real time.
    pub real_clock: bool,
    /// True if the guest's randomness is the kernel's.
    pub real_random: bool,
    /// Limits of sockets, if the broker may give any.
    pub sockets: Option<GrantedSockets>,
    /// How input from outside is captured, if it is. The file comes with the job.
    pub capture: Option<CaptureMode>,
}

/// What happens to input from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaptureMode {
    /// The input is written to a file.
    Write,
    /// The input is read from a file, and nothing comes in from outside.
    Serve,
}

/// What a worker needs to know of the sockets it may be given. The broker alone knows which ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedSockets {
    /// Sockets that may be open at once.
    pub count_max: u32,
    /// Bytes that one instance may send and receive over all of its sockets.
    pub bytes_max: u64,
    /// Whether a socket may listen.
    pub listens: bool,
}

impl Granted {
    /// Whether anything comes in from outside that another run would not see again.
    pub fn is_captured(&self) -> bool {
        self.real_clock || self.real_random || self.sockets.is_some()
    }

    /// Whether the worker talks to the broker.
    pub fn talks(&self) -> bool {
        self.sockets.is_some() && self.capture != Some(CaptureMode::Serve)
    }

    /// Whether the worker has a directory to read.
    pub fn reads(&self) -> bool {
        !self.directories.is_empty()
    }

    /// Whether the worker has a directory to write to.
    pub fn writes(&self) -> bool {
        self.directories.iter().any(|directory| directory.writable)
    }
}

/// A directory of the host that a guest sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedDirectory {
    /// The guest's name for it: an absolute path, `/data`.
    pub guest: String,
    /// Whether the guest may change the directory's content.
    pub writable: bool,
}
