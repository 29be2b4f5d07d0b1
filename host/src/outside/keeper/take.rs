//! Taking ports, in the process that holds them: first the port's name, then a check whether the port can be bound at
//! all.

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::wire::lease::LeaseSpec;

/// Ports that a message names; further ones are only counted.
const NAMED_MAX: usize = 8;

/// Leased ports. Dropping the value releases them.
pub(crate) struct Taken {
    names: Vec<UnixListener>,
    /// The first port of each lease's block.
    pub(crate) firsts: Vec<u16>,
}

/// Takes a block for each lease, or nothing at all. The outer error is the system's; the inner one says who holds the
/// ports.
pub(crate) fn take(leases: &[LeaseSpec]) -> io::Result<Result<Taken, String>> {
    let mut taken = Taken { names: Vec::new(), firsts: Vec::new() };
    for lease in leases {
        let mut obstacles = Vec::new();
        let found = lease.blocks().find_map(|first| match take_block(first, lease.count()) {
            Ok(Ok(names)) => Some(Ok((first, names))),
            Ok(Err(obstacle)) => {
                obstacles.push(obstacle);
                None
            }
            Err(error) => Some(Err(error)),
        });
        match found.transpose()? {
            Some((first, names)) => {
                taken.firsts.push(first);
                taken.names.extend(names);
            }
            None => return Ok(Err(exhausted(lease, &obstacles))),
        }
    }
    Ok(Ok(taken))
}

impl Taken {
    /// Closes connections of processes that asked who holds a port. A connection that nobody accepts stays in the
    /// queue, and a full queue would hide the holder.
    pub(crate) fn answer_askers(&self) {
        self.names.iter().for_each(answer);
    }

    /// The sockets on which other processes ask for the holder.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.names.iter().map(AsFd::as_fd)
    }
}

/// Closes the connections of askers of one name.
pub(super) fn answer(name: &UnixListener) {
    while name.accept().is_ok() {}
}

/// A port that cannot be had, and why.
type Obstacle = (u16, String);

/// Takes all ports of a block, or returns the first port that cannot be had. Ports taken before it are released on
/// return.
fn take_block(first: u16, count: u16) -> io::Result<Result<Vec<UnixListener>, Obstacle>> {
    let mut names = Vec::new();
    // The range's end was checked: no port of a block is past 65535.
    for port in (0..count).map(|offset| first + offset) {
        match listen(&name_of(port)) {
            Ok(name) => names.push(name),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(Err((port, holder(port)))),
            Err(error) => return Err(error),
        }
        if let Err(error) = bindable(port) {
            return Ok(Err((port, stranger(error))));
        }
    }
    Ok(Ok(names))
}

/// Takes an abstract name, which is free again when the process is gone, however that came.
pub(super) fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn name_of(port: u16) -> String {
    format!("rollcage/lease/{port}")
}

/// The reason why a port without a lease cannot be bound.
fn stranger(error: Errno) -> String {
    match error {
        Errno::ADDRINUSE => "bound by somebody without a lease".to_owned(),
        error => format!("cannot be bound ({error})"),
    }
}

/// Whether the port can be bound. The socket does not listen, so that a client that connects at this moment is refused.
fn bindable(port: u16) -> rustix::io::Result<()> {
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Servers set this too: connections of an earlier server in TIME_WAIT do not stop them.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(address, port))?;
    }
    Ok(())
}

/// The lease holder of a port: the process that listens on the port's name.
fn holder(port: u16) -> String {
    match holder_of(&name_of(port)).map(|holder| holder.pid) {
        Ok(pid) if pid > 0 => format!("by process {pid}"),
        Ok(_) => "by a process of another PID namespace".to_owned(),
        // The holder has ended since, or too many processes ask at once.
        Err(_) => "by a process that cannot be told".to_owned(),
    }
}

/// The process that listens on an abstract name; its id is 0 if it is one of another PID namespace.
pub(super) fn holder_of(name: &str) -> io::Result<libc::ucred> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the pointers are to values of the lengths that are passed; the kernel writes
    // no more. rustix's `socket_peercred` does not fit: its pid is never 0, but the kernel gives 0 for a process of
    // another PID namespace.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut len,
        )
    };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(credentials)
}

fn exhausted(lease: &LeaseSpec, obstacles: &[Obstacle]) -> String {
    let named: Vec<String> = obstacles.iter().take(NAMED_MAX).map(|(port, who)| format!("{port} {who}")).collect();
    let more = obstacles.len() - named.len();
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    let blocks = if lease.count() == 1 { String::new() } else { format!(" (in blocks of {})", lease.count()) };
    format!(
        "lease `{}`: ports {}-{}{blocks}: all held: {}{more}",
        lease.name(),
        lease.lo(),
        lease.hi(),
        named.join(", ")
    )
}
