//! Messages between a host and a keeper: which ports to hold, which services to run, and the outcomes.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::lease::LeaseSpec;

/// A service: a command that runs beside envs, as a keeper is told of it, with every placeholder replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The name in messages and in the log.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its environment: these variables, and nothing else.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory.
    pub workdir: Workdir,
    /// When the service is ready.
    pub ready: Ready,
    /// How long the service may take to be ready.
    pub ready_timeout: Duration,
    /// How long the service may take to end after SIGTERM, before SIGKILL.
    pub stop_timeout: Duration,
    /// Where the service reads and writes.
    pub stdio: ServiceStdio,
}

/// The working directory of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workdir {
    /// An empty folder, made for this user alone and removed afterwards.
    Private {
        /// The folder in which it is made.
        folder: PathBuf,
    },
    /// An existing folder.
    Path(PathBuf),
    /// The host's working directory when it started the keeper.
    Inherit,
}

/// When a service is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ready {
    /// As soon as it runs.
    None,
    /// A process listens there. This is looked up in the kernel's table, never by connecting: a server may take only
    /// one client, which the connection would be.
    Tcp {
        /// The address, or any address.
        ip: IpAddr,
        /// The port.
        port: u16,
    },
    /// The service has printed a line that matches this regular expression.
    Line(String),
    /// This time has passed.
    Delay(Duration),
}

/// Where a service reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceStdio {
    /// Nothing to read. The output goes to the keeper's log, with the service's name before each line.
    Log,
    /// Three descriptors that come with the message. The service is in the host's process group, so that it can read
    /// from the terminal and Ctrl-C reaches it.
    Passed,
}

/// What a run has, as it counts towards what all runs of one user may have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Envs.
    pub envs: u64,
    /// Bytes of memory that the envs may use.
    pub memory_bytes: u64,
    /// Processes: workers, what they are copied from, keepers and services.
    pub processes: u64,
}

/// The most that all runs of one user may have together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Of what.
    pub of: Counted,
    /// The most of it.
    pub most: u64,
    /// The file and line that says so.
    pub place: String,
}

/// What is counted over all runs of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counted {
    /// Envs.
    Envs,
    /// Bytes of memory.
    Memory,
    /// Processes.
    Processes,
}

impl Share {
    /// How much of it a run has.
    pub fn of(&self, what: Counted) -> u64 {
        match what {
            Counted::Envs => self.envs,
            Counted::Memory => self.memory_bytes,
            Counted::Processes => self.processes,
        }
    }
}

/// The host's messages to a keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToKeeper {
    /// The first message: the host that owns the keeper.
    Begin { host: u32 },
    /// Take a block for each lease, all or none, and try again until the time is over. The answer is
    /// [`FromKeeper::Held`] or [`FromKeeper::Exhausted`].
    Hold { leases: Vec<LeaseSpec>, timeout: Duration },
    /// End the running services, then start these in order, each once the one before is ready. Descriptors: three for
    /// each service that is [`ServiceStdio::Passed`]. The answer is [`FromKeeper::Serving`] or
    /// [`FromKeeper::ServiceFailed`].
    Serve { services: Vec<Service> },
    /// Count this run among the user's, unless a ceiling is passed. The answer is [`FromKeeper::Counted`] or
    /// [`FromKeeper::Full`].
    Count { share: Share, ceilings: Vec<Ceiling> },
    /// End everything, release the ports, and end.
    End,
}

/// A keeper's messages to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper {
    /// The first port of each lease's block, in order.
    Held {
        /// The ports.
        ports: Vec<u16>,
    },
    /// Nothing was taken; the text says who holds the ports.
    Exhausted(String),
    /// Every service is ready.
    Serving,
    /// A service did not come up, and no service runs any more.
    ServiceFailed {
        /// The service's name.
        name: String,
        /// What happened.
        why: String,
    },
    /// The run is counted until the keeper ends.
    Counted,
    /// The run is not counted; the text says why.
    Full(String),
    /// A service has ended: by itself, or after the order to end everything. Sent once for each service.
    ServiceEnded {
        /// The service's name.
        name: String,
        /// How the service ended.
        exit: ServiceExit,
    },
}

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceExit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl std::fmt::Display for ServiceExit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServiceExit::Code(code) => write!(out, "ended with status {code}"),
            ServiceExit::Signal(signal) => write!(out, "was killed by signal {signal}"),
        }
    }
}
