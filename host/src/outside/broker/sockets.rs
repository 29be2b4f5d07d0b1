//! The sockets themselves: how they are made, connected and bound, and the names of their errors.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::wire::broker::{SocketOptions, SocketRefusal};

pub(super) fn new_socket(of: SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let family = if of.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

pub(super) fn begin_connect(to: SocketAddr, options: SocketOptions) -> rustix::io::Result<OwnedFd> {
    let socket = new_socket(to, SocketType::STREAM)?;
    sockopt::set_socket_keepalive(&socket, options.keep_alive)?;
    let seconds = |value: u32| Duration::from_secs(u64::from(value.clamp(1, 32_767)));
    if let Some(idle) = options.keep_alive_idle_s {
        sockopt::set_tcp_keepidle(&socket, seconds(idle))?;
    }
    if let Some(interval) = options.keep_alive_interval_s {
        sockopt::set_tcp_keepintvl(&socket, seconds(interval))?;
    }
    if let Some(count) = options.keep_alive_count {
        sockopt::set_tcp_keepcnt(&socket, count.clamp(1, 127))?;
    }
    match options.hop_limit {
        Some(hops) if to.is_ipv4() => sockopt::set_ip_ttl(&socket, u32::from(hops.max(1)))?,
        Some(hops) => sockopt::set_ipv6_unicast_hops(&socket, Some(hops.max(1)))?,
        None => {}
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

pub(super) fn local_address(socket: BorrowedFd<'_>) -> SocketAddr {
    let unknown = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
    rustix::net::getsockname(socket).ok().and_then(|address| SocketAddr::try_from(address).ok()).unwrap_or(unknown)
}

pub(super) fn why(error: Errno) -> SocketRefusal {
    match error {
        Errno::CONNREFUSED => SocketRefusal::ConnectionRefused,
        Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE => SocketRefusal::Reset,
        Errno::TIMEDOUT => SocketRefusal::Timeout,
        Errno::ADDRINUSE => SocketRefusal::InUse,
        Errno::ADDRNOTAVAIL => SocketRefusal::NotBindable,
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::HOSTDOWN => SocketRefusal::Unreachable,
        Errno::ACCESS | Errno::PERM => SocketRefusal::Denied,
        Errno::MFILE | Errno::NFILE => SocketRefusal::TooMany,
        _ => SocketRefusal::Unknown,
    }
}
