//! `wasi:sockets/tcp`: a socket from its making to its end, and the two streams of a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::Shutdown;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sync::sockets::tcp::{Host, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::{Network, SocketResult, TcpSocket};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::streams::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, StreamError, StreamResult,
};

use super::guest::Guest;
use super::line::{Answered, Line, Socket, StreamFailure, is_peer, until};
use super::sockets::{ours, ours_owned, theirs};
use crate::cage::wasm::WRITE_BYTES_MAX;
use crate::wire::broker::{SocketOptions, ToBroker};

/// The backlog of connections to be accepted, if the guest sets none.
const BACKLOG: u32 = 128;

/// Bytes of the system's buffers, as a guest is told. A guest can set them, but the setting has no effect.
const BUFFER_BYTES: u64 = 64 * 1024;

/// The system's hop limit.
const HOPS: u8 = 64;

/// The time that a dropped stream waits for its last bytes to be taken.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(1);

/// A TCP socket of a guest.
struct Tcp {
    line: Arc<Line>,
    family: IpAddressFamily,
    options: SocketOptions,
    backlog: u32,
    buffers: (u64, u64),
    state: State,
}

enum State {
    Unbound,
    /// The broker was asked to listen.
    Binding {
        id: u32,
    },
    /// Bound: with the listening socket, or with none where any port would do.
    Bound {
        local: SocketAddr,
        listener: Option<Arc<Socket>>,
    },
    /// Between `start-listen` and `finish-listen`.
    Arming {
        local: SocketAddr,
        listener: Arc<Socket>,
    },
    Listening {
        local: SocketAddr,
        listener: Arc<Socket>,
    },
    Connecting {
        id: u32,
        to: SocketAddr,
    },
    Connected {
        local: SocketAddr,
        remote: SocketAddr,
        socket: Arc<Socket>,
    },
    Closed,
}

impl Tcp {
    fn new(line: Arc<Line>, family: IpAddressFamily) -> Tcp {
        let (options, buffers) = (SocketOptions::default(), (BUFFER_BYTES, BUFFER_BYTES));
        Tcp { line, family, options, backlog: BACKLOG, buffers, state: State::Unbound }
    }

    fn is_of(&self, address: SocketAddr) -> bool {
        address.is_ipv4() == (self.family == IpAddressFamily::Ipv4)
    }

    /// The options of an unconnected socket. The broker sets them when it makes the connection, because the worker has no
    /// call for it.
    fn options(&mut self) -> SocketResult<&mut SocketOptions> {
        match self.state {
            State::Connected { .. } | State::Connecting { .. } | State::Closed => Err(ErrorCode::NotSupported.into()),
            _ => Ok(&mut self.options),
        }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        if let State::Binding { id } | State::Connecting { id, .. } = self.state {
            self.line.abandon(id);
        }
    }
}

#[async_trait]
impl Pollable for Tcp {
    async fn ready(&mut self) {
        let Tcp { line, state, .. } = self;
        match state {
            State::Binding { id } | State::Connecting { id, .. } => until(|| line.is_answered(*id)).await,
            State::Listening { listener, .. } => until(|| listener.is_ready(PollFlags::IN)).await,
            _ => {}
        }
    }
}

impl sockets::tcp_create_socket::Host for Guest {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let line = self.sockets.make()?;
        Ok(theirs(self.table.push(Tcp::new(line, family))?))
    }
}

impl Guest {
    fn tcp(&mut self, socket: &Resource<TcpSocket>) -> SocketResult<&mut Tcp> {
        Ok(self.table.get_mut(&ours::<Tcp, _>(socket))?)
    }

    /// The streams of a connection. They hold the socket themselves, because a guest may drop its resources in any order.
    fn streams(&mut self, socket: &Arc<Socket>) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let input: DynInputStream = Box::new(Reader { socket: Arc::clone(socket), ended: false });
        let output: DynOutputStream = Box::new(Writer { socket: Arc::clone(socket), rest: Bytes::new(), failed: None });
        Ok((self.table.push(input)?, self.table.push(output)?))
    }
}

impl Host for Guest {}

impl HostTcpSocket for Guest {
    fn start_bind(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let tcp = self.tcp(&socket)?;
        let at = SocketAddr::from(local);
        match tcp.state {
            State::Unbound => {}
            State::Binding { .. } => return Err(ErrorCode::ConcurrencyConflict.into()),
            _ => return Err(ErrorCode::InvalidState.into()),
        }
        if !tcp.is_of(at) || at.ip().is_multicast() || at.ip().to_canonical() != at.ip() {
            return Err(ErrorCode::InvalidArgument.into());
        }
        // Any port: a connection has one anyway. A guest that then wants to listen there is denied.
        tcp.state = if at.port() == 0 && (at.ip().is_unspecified() || at.ip().is_loopback()) {
            State::Bound { local: at, listener: None }
        } else {
            let backlog = tcp.backlog;
            State::Binding { id: tcp.line.ask(|id| ToBroker::Listen { id, at, backlog }) }
        };
        Ok(())
    }

    fn finish_bind(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        let tcp = self.tcp(&socket)?;
        match &tcp.state {
            State::Bound { listener: None, .. } => Ok(()),
            State::Binding { id } => match tcp.line.take(*id) {
                None => Err(ErrorCode::WouldBlock.into()),
                Some(Answered::Given { local, sockets }) => {
                    let listener = sockets.into_iter().next().map(|(socket, _)| socket);
                    tcp.state = State::Bound { local, listener };
                    Ok(())
                }
                Some(Answered::Refused(code)) => {
                    tcp.state = State::Unbound;
                    Err(code.into())
                }
                Some(Answered::Addresses(_)) => Err(ErrorCode::Unknown.into()),
            },
            _ => Err(ErrorCode::NotInProgress.into()),
        }
    }

    fn start_connect(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        remote: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let tcp = self.tcp(&socket)?;
        let to = SocketAddr::from(remote);
        match tcp.state {
            State::Unbound | State::Bound { listener: None, .. } => {}
            State::Binding { .. } | State::Connecting { .. } => return Err(ErrorCode::ConcurrencyConflict.into()),
            _ => return Err(ErrorCode::InvalidState.into()),
        }
        if !tcp.is_of(to) || !is_peer(to) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let options = tcp.options;
        tcp.state = State::Connecting { id: tcp.line.ask(|id| ToBroker::Connect { id, to, options }), to };
        Ok(())
    }

    fn finish_connect(
        &mut self,
        socket: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let tcp = self.tcp(&socket)?;
        let State::Connecting { id, to } = tcp.state else { return Err(ErrorCode::NotInProgress.into()) };
        match tcp.line.take(id) {
            None => Err(ErrorCode::WouldBlock.into()),
            Some(Answered::Given { local, sockets }) => {
                let Some((connected, _)) = sockets.into_iter().next() else { return Err(ErrorCode::Unknown.into()) };
                tcp.state = State::Connected { local, remote: to, socket: Arc::clone(&connected) };
                self.streams(&connected)
            }
            Some(Answered::Refused(code)) => {
                tcp.state = State::Closed;
                Err(code.into())
            }
            Some(Answered::Addresses(_)) => Err(ErrorCode::Unknown.into()),
        }
    }

    fn start_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        let tcp = self.tcp(&socket)?;
        match &tcp.state {
            State::Bound { local, listener: Some(listener) } => {
                tcp.state = State::Arming { local: *local, listener: Arc::clone(listener) };
                Ok(())
            }
            // Bound to any port: no grant allows listening there.
            State::Bound { listener: None, .. } => Err(ErrorCode::AccessDenied.into()),
            State::Binding { .. } | State::Connecting { .. } | State::Arming { .. } => {
                Err(ErrorCode::ConcurrencyConflict.into())
            }
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn finish_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        let tcp = self.tcp(&socket)?;
        let State::Arming { local, listener } = &tcp.state else { return Err(ErrorCode::NotInProgress.into()) };
        tcp.state = State::Listening { local: *local, listener: Arc::clone(listener) };
        Ok(())
    }

    fn accept(
        &mut self,
        socket: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let tcp = self.tcp(&socket)?;
        let State::Listening { local, listener } = &tcp.state else { return Err(ErrorCode::InvalidState.into()) };
        let (local, listener, family, options) = (*local, Arc::clone(listener), tcp.family, tcp.options);
        if !listener.looks_ready(PollFlags::IN) {
            return Err(ErrorCode::WouldBlock.into());
        }
        let line = self.sockets.make()?;
        let (connected, remote) = match listener.accept() {
            Ok((descriptor, remote)) => (Arc::new(Socket { descriptor, handle: 0, line: Arc::clone(&line) }), remote),
            Err(code) => {
                self.sockets.unmake();
                return Err(code.into());
            }
        };
        let state = State::Connected { local, remote, socket: Arc::clone(&connected) };
        let mut accepted = Tcp::new(line, family);
        (accepted.state, accepted.options) = (state, options);
        let accepted = self.table.push(accepted)?;
        let (input, output) = self.streams(&connected)?;
        Ok((theirs(accepted), input, output))
    }

    fn local_address(&mut self, socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.tcp(&socket)?.state {
            State::Bound { local, .. }
            | State::Arming { local, .. }
            | State::Listening { local, .. }
            | State::Connected { local, .. } => Ok((*local).into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.tcp(&socket)?.state {
            State::Connected { remote, .. } => Ok((*remote).into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn is_listening(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        let tcp = self.table.get(&ours::<Tcp, _>(&socket))?;
        Ok(matches!(tcp.state, State::Listening { .. }))
    }

    fn address_family(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&ours::<Tcp, _>(&socket))?.family)
    }

    fn set_listen_backlog_size(&mut self, socket: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        let tcp = self.tcp(&socket)?;
        match (value, &tcp.state) {
            (0, _) => Err(ErrorCode::InvalidArgument.into()),
            // After `bind` the setting comes too late: the broker's socket listens already, with room for many.
            (_, State::Unbound | State::Binding { .. } | State::Bound { .. } | State::Arming { .. }) => {
                tcp.backlog = u32::try_from(value).unwrap_or(u32::MAX);
                Ok(())
            }
            (_, State::Listening { .. }) => Err(ErrorCode::NotSupported.into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn keep_alive_enabled(&mut self, socket: Resource<TcpSocket>) -> SocketResult<bool> {
        Ok(self.tcp(&socket)?.options.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, socket: Resource<TcpSocket>, value: bool) -> SocketResult<()> {
        self.tcp(&socket)?.options()?.keep_alive = value;
        Ok(())
    }

    fn keep_alive_idle_time(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(nanoseconds(self.tcp(&socket)?.options.keep_alive_idle_s.unwrap_or(7200)))
    }

    fn set_keep_alive_idle_time(&mut self, socket: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.tcp(&socket)?.options()?.keep_alive_idle_s = Some(seconds(value)?);
        Ok(())
    }

    fn keep_alive_interval(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(nanoseconds(self.tcp(&socket)?.options.keep_alive_interval_s.unwrap_or(75)))
    }

    fn set_keep_alive_interval(&mut self, socket: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.tcp(&socket)?.options()?.keep_alive_interval_s = Some(seconds(value)?);
        Ok(())
    }

    fn keep_alive_count(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u32> {
        Ok(self.tcp(&socket)?.options.keep_alive_count.unwrap_or(9))
    }

    fn set_keep_alive_count(&mut self, socket: Resource<TcpSocket>, value: u32) -> SocketResult<()> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.tcp(&socket)?.options()?.keep_alive_count = Some(value.min(127));
        Ok(())
    }

    fn hop_limit(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u8> {
        Ok(self.tcp(&socket)?.options.hop_limit.unwrap_or(HOPS))
    }

    fn set_hop_limit(&mut self, socket: Resource<TcpSocket>, value: u8) -> SocketResult<()> {
        let tcp = self.tcp(&socket)?;
        match value {
            0 => Err(ErrorCode::InvalidArgument.into()),
            // The present value is accepted, because many programs set the default.
            value if value == tcp.options.hop_limit.unwrap_or(HOPS) => Ok(()),
            value => {
                tcp.options()?.hop_limit = Some(value);
                Ok(())
            }
        }
    }

    fn receive_buffer_size(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp(&socket)?.buffers.0)
    }

    fn set_receive_buffer_size(&mut self, socket: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.tcp(&socket)?.buffers.0 = buffer(value)?;
        Ok(())
    }

    fn send_buffer_size(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp(&socket)?.buffers.1)
    }

    fn set_send_buffer_size(&mut self, socket: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.tcp(&socket)?.buffers.1 = buffer(value)?;
        Ok(())
    }

    fn subscribe(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, ours::<Tcp, _>(&socket))
    }

    fn shutdown(&mut self, socket: Resource<TcpSocket>, how: ShutdownType) -> SocketResult<()> {
        let State::Connected { socket, .. } = &self.tcp(&socket)?.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        let how = match how {
            ShutdownType::Receive => Shutdown::Read,
            ShutdownType::Send => Shutdown::Write,
            ShutdownType::Both => Shutdown::Both,
        };
        Ok(socket.shutdown(how)?)
    }

    fn drop(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(ours_owned::<Tcp, _>(&socket))?;
        self.sockets.unmake();
        Ok(())
    }
}

pub(super) fn buffer(value: u64) -> SocketResult<u64> {
    if value == 0 { Err(ErrorCode::InvalidArgument.into()) } else { Ok(value) }
}

fn seconds(nanoseconds: u64) -> SocketResult<u32> {
    match nanoseconds {
        0 => Err(ErrorCode::InvalidArgument.into()),
        nanoseconds => Ok(u32::try_from(nanoseconds.div_ceil(1_000_000_000)).unwrap_or(u32::MAX)),
    }
}

fn nanoseconds(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000_000_000
}

fn failure(code: ErrorCode) -> StreamError {
    StreamError::LastOperationFailed(wasmtime::Error::new(StreamFailure(code)))
}

/// The input stream of a connection.
struct Reader {
    socket: Arc<Socket>,
    ended: bool,
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        if !self.ended {
            until(|| self.socket.is_ready(PollFlags::IN)).await;
        }
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.ended {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.socket.receive(size) {
            Ok(None) => Ok(Bytes::new()),
            Ok(Some(bytes)) if bytes.is_empty() => {
                self.ended = true;
                Err(StreamError::Closed)
            }
            Ok(Some(bytes)) => Ok(bytes.into()),
            Err(code) => {
                self.ended = true;
                Err(failure(code))
            }
        }
    }
}

/// The output stream of a connection. If the system takes a write only in part, the rest is kept, and no further bytes are
/// accepted until it has gone.
struct Writer {
    socket: Arc<Socket>,
    rest: Bytes,
    failed: Option<ErrorCode>,
}

impl Writer {
    /// Sends the kept rest, as far as the system takes it.
    fn go_on(&mut self) {
        while !self.rest.is_empty() && self.failed.is_none() {
            match self.socket.send(&self.rest) {
                Ok(0) => return,
                Ok(count) => drop(self.rest.split_to(count)),
                Err(code) => self.failed = Some(code),
            }
        }
    }

    fn check(&mut self) -> StreamResult<()> {
        match self.failed {
            // The error was reported once; the stream stays closed from then on.
            Some(ErrorCode::InvalidState) => Err(StreamError::Closed),
            Some(code) => {
                self.failed = Some(ErrorCode::InvalidState);
                Err(failure(code))
            }
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        until(|| {
            self.go_on();
            self.failed.is_some() || self.socket.is_ready(PollFlags::OUT) && self.rest.is_empty()
        })
        .await;
    }
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check()?;
        if bytes.len() > WRITE_BYTES_MAX || !self.rest.is_empty() {
            return Err(StreamError::trap("the guest wrote more to a stream than it allowed"));
        }
        self.rest = bytes;
        self.go_on();
        self.check()
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.go_on();
        self.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.go_on();
        self.check()?;
        let room = self.rest.is_empty() && self.socket.looks_ready(PollFlags::OUT);
        Ok(if room { WRITE_BYTES_MAX } else { 0 })
    }
}

impl Drop for Writer {
    /// Sends the accepted bytes, if the other side takes them within [`LAST_BYTES_TIMEOUT`].
    fn drop(&mut self) {
        let until = Instant::now() + LAST_BYTES_TIMEOUT;
        let Some(descriptor) = self.socket.descriptor.clone() else { return };
        // The result is reported to no caller, so it is not captured.
        while !self.rest.is_empty() && self.failed.is_none() && Instant::now() < until {
            match self.socket.send_now(&self.rest) {
                Ok(0) => {
                    let slice = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
                    let mut fds = [PollFd::new(&*descriptor, PollFlags::OUT)];
                    let _ = rustix::event::poll(&mut fds, Some(&slice));
                }
                Ok(count) => drop(self.rest.split_to(count)),
                Err(_) => return,
            }
        }
    }
}
