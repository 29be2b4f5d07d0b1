//! What a worker and the broker say to each other, over a socket pair of their own.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

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
