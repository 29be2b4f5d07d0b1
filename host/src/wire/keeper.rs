//! What a host and a keeper say to each other: which ports to hold, which services to run, and what became of them.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::lease::LeaseSpec;

/// A command that runs beside envs, as a keeper is told of it: every placeholder replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What messages and the log call it.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its environment: these variables, and nothing else.
    pub env: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub workdir: Workdir,
    /// When it is ready.
    pub ready: Ready,
    /// How long it may take to be.
    pub ready_timeout: Duration,
    /// How long it may take to end after SIGTERM, before SIGKILL.
    pub stop_timeout: Duration,
    /// Where it reads and writes.
    pub stdio: ServiceStdio,
}

/// The working directory of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workdir {
    /// An empty folder, made for this user alone and removed afterwards.
    Private {
        /// Where it is made.
        folder: PathBuf,
    },
    /// This folder.
    Path(PathBuf),
    /// Where the host stood when it started the keeper.
    Inherit,
}

/// When a service is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ready {
    /// As soon as it runs.
    None,
    /// Somebody listens there. Looked up in the kernel's table, never by connecting: a server may take one client, and a
    /// look would be it.
    Tcp {
        /// The address, or any address.
        ip: IpAddr,
        /// The port.
        port: u16,
    },
    /// It has printed a line that matches this regular expression.
    Line(String),
    /// This time has passed.
    Delay(Duration),
}

/// Where a service reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceStdio {
    /// Nothing to read; what it prints goes to the keeper's log, with its name before each line.
    Log,
    /// Three descriptors that come with the message. The service is in the host's process group, so that a terminal is
    /// its own to read and Ctrl-C reaches it.
    Passed,
}

/// What the host says to a keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToKeeper {
    /// The first message: whose keeper it is.
    Begin { host: u32 },
    /// To take a block for each lease, all or none, and to try again until the time is over.
    /// Answered by [`FromKeeper::Held`] or [`FromKeeper::Exhausted`].
    Hold { leases: Vec<LeaseSpec>, timeout: Duration },
    /// To end what runs, then start these in order, each when the one before is ready. Descriptors: three for each that
    /// is [`ServiceStdio::Passed`]. Answered by [`FromKeeper::Serving`] or [`FromKeeper::ServiceFailed`].
    Serve { services: Vec<Service> },
    /// To end everything, let the ports go, and end.
    End,
}

/// What a keeper says to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper {
    /// The first port of each lease's block, in order.
    Held {
        /// Ports.
        ports: Vec<u16>,
    },
    /// Nothing was taken: who holds what was asked for.
    Exhausted(String),
    /// Every service is ready.
    Serving,
    /// A service did not come up, and none runs any more.
    ServiceFailed {
        /// Its name.
        name: String,
        /// What happened.
        why: String,
    },
    /// A service has ended: unasked, or after the order to end everything. Said once for each.
    ServiceEnded {
        /// Its name.
        name: String,
        /// How.
        exit: ServiceExit,
    },
}

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceExit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
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
