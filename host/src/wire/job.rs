//! What a new worker is told first: what it has to do, behind which walls, and what of the outside it was given.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cage::Walls;
use crate::cage::engine::EngineSettings;

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
    /// [`FromWorker::Ready`], the spec in the bulk area; then serves turns. To the copy of a template process, which has code, slab
    /// and directories: one to be closed, then broker and capture as above.
    Env(EnvJob),
    /// Descriptors: as for [`Job::Env`], without broker and capture. Loads the code, answers [`FromWorker::Ready`] with nothing in
    /// the bulk area, then makes a copy of itself for each [`ToTemplate`]. The copy says hello over its own socket, and is
    /// told [`Job::Env`] there.
    Template(EnvJob),
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
