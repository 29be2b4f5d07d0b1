//! Messages between a worker and the broker, over a socket pair of their own.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A worker's requests to the broker, over a socket pair of their own. The worker chooses `id`, and the broker only
/// echoes it: the socket says which worker asks, and the broker's own table says what the worker may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToBroker {
    /// Asks for the addresses of a name.
    Resolve {
        /// Echoed.
        id: u32,
        /// The name as the guest wrote it.
        name: String,
    },
    /// Asks for a TCP connection.
    Connect {
        /// Echoed.
        id: u32,
        /// The peer.
        to: SocketAddr,
        /// The options that the guest set before.
        options: SocketOptions,
    },
    /// Asks for a listening TCP socket.
    Listen {
        /// Echoed.
        id: u32,
        /// The address to listen on.
        at: SocketAddr,
        /// Connections that wait to be accepted.
        backlog: u32,
    },
    /// Asks for UDP: a connected socket for each granted peer of the address's family, all with one local port.
    Udp {
        /// Echoed.
        id: u32,
        /// The local address that the guest wants, with port 0.
        at: SocketAddr,
    },
    /// Reports something that the worker refused by itself, for the operator to read. There is no answer.
    Refused {
        /// The refusal.
        what: OwnRefusal,
    },
    /// Reports that a socket from the broker is closed. There is no answer.
    Closed {
        /// The broker's number for the socket.
        handle: u32,
    },
}

/// A refusal that a worker decides without asking the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnRefusal {
    /// A datagram to an address that is not a granted peer.
    Udp(SocketAddr),
    /// More open sockets than the limit.
    TooMany,
    /// More bytes than the limit, which is given here.
    Bytes(u64),
}

/// Options that a guest can set on a TCP socket before it is connected. Without a value, the system's default holds.
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

/// The broker's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromBroker {
    /// The addresses of a name, the earlier ones too: they do not change while a run goes on.
    Addresses {
        /// The `id` of the request.
        id: u32,
        /// The addresses in the resolver's order.
        addresses: Vec<IpAddr>,
    },
    /// Sockets, connected or listening. Each entry's socket came with this message.
    Given {
        /// The `id` of the request.
        id: u32,
        /// The local address of all of them.
        local: SocketAddr,
        /// The broker's number and the peer of each; a listening socket has its own address as peer.
        sockets: Vec<(u32, SocketAddr)>,
    },
    /// A refusal: no socket and no address.
    Refused {
        /// The `id` of the request.
        id: u32,
        /// The reason.
        why: SocketRefusal,
    },
}

/// The reason of a refusal, in the terms of `wasi:sockets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketRefusal {
    /// Not granted.
    Denied,
    /// The address cannot be connected to.
    Invalid,
    /// The peer did not answer in time.
    Timeout,
    /// Too many sockets are open.
    TooMany,
    /// The port is taken.
    InUse,
    /// The address does not belong to this machine.
    NotBindable,
    /// No route leads there.
    Unreachable,
    /// No process listens there.
    ConnectionRefused,
    /// The connection was made, then cut.
    Reset,
    /// The name has no address.
    NameUnresolvable,
    /// The resolver is busy.
    ResolverBusy,
    /// Any other error of the system.
    Unknown,
}
