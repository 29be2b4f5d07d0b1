//! `wasi:sockets/udp`. A guest's socket is one connected socket for each granted peer, all of one port. A datagram is sent
//! over the socket of its destination, and received from whichever socket has one.

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::event::PollFlags;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sync::sockets::udp::{
    Host, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::bindings::sync::sockets::udp_create_socket;
use wasmtime_wasi::p2::{Network, SocketResult, UdpSocket};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::guest::Guest;
use super::line::{Answered, Line, READ_BYTES_MAX, Socket, is_peer, until};
use super::sockets::{ours, ours_owned, theirs};
use super::tcp::buffer;
use crate::wire::broker::{OwnRefusal, ToBroker};

/// Datagrams of one call.
const DATAGRAMS_MAX: usize = 16;

/// A connected socket and its peer.
type Connected = (Arc<Socket>, SocketAddr);

/// A UDP socket of a guest.
struct Udp {
    line: Arc<Line>,
    family: IpAddressFamily,
    hops: u8,
    buffers: (u64, u64),
    state: State,
    remote: Option<SocketAddr>,
}

enum State {
    Unbound,
    Binding { id: u32 },
    Bound { local: SocketAddr, sockets: Vec<Connected> },
}

impl Drop for Udp {
    fn drop(&mut self) {
        if let State::Binding { id } = self.state {
            self.line.abandon(id);
        }
    }
}

#[async_trait]
impl Pollable for Udp {
    async fn ready(&mut self) {
        if let State::Binding { id } = self.state {
            until(|| self.line.is_answered(id)).await;
        }
    }
}

/// The incoming stream: from the remote address, or from every peer.
struct Incoming {
    sockets: Vec<Connected>,
    remote: Option<SocketAddr>,
}

#[async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        // Every socket is looked at, so that every socket is waited for.
        until(|| self.sockets.iter().fold(false, |ready, (socket, _)| socket.is_ready(PollFlags::IN) || ready)).await;
    }
}

/// The outgoing stream: to the remote address, or to any peer.
struct Outgoing {
    line: Arc<Line>,
    sockets: Vec<Connected>,
    remote: Option<SocketAddr>,
}

#[async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {
        until(|| self.sockets.iter().fold(false, |ready, (socket, _)| socket.is_ready(PollFlags::OUT) || ready)).await;
    }
}

impl udp_create_socket::Host for Guest {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        let line = self.sockets.make()?;
        let buffers = (READ_BYTES_MAX as u64, READ_BYTES_MAX as u64);
        let socket = Udp { line, family, hops: 64, buffers, state: State::Unbound, remote: None };
        Ok(theirs(self.table.push(socket)?))
    }
}

impl Guest {
    fn udp(&mut self, socket: &Resource<UdpSocket>) -> SocketResult<&mut Udp> {
        Ok(self.table.get_mut(&ours::<Udp, _>(socket))?)
    }
}

impl Host for Guest {}

impl HostUdpSocket for Guest {
    fn start_bind(
        &mut self,
        socket: Resource<UdpSocket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let udp = self.udp(&socket)?;
        let at = SocketAddr::from(local);
        match udp.state {
            State::Unbound => {}
            State::Binding { .. } => return Err(ErrorCode::ConcurrencyConflict.into()),
            State::Bound { .. } => return Err(ErrorCode::InvalidState.into()),
        }
        if at.is_ipv4() != (udp.family == IpAddressFamily::Ipv4) || at.ip().to_canonical() != at.ip() {
            return Err(ErrorCode::InvalidArgument.into());
        }
        udp.state = State::Binding { id: udp.line.ask(|id| ToBroker::Udp { id, at }) };
        Ok(())
    }

    fn finish_bind(&mut self, socket: Resource<UdpSocket>) -> SocketResult<()> {
        let udp = self.udp(&socket)?;
        let State::Binding { id } = udp.state else { return Err(ErrorCode::NotInProgress.into()) };
        let (state, answer) = match udp.line.take(id) {
            None => return Err(ErrorCode::WouldBlock.into()),
            Some(Answered::Given { local, sockets }) => (State::Bound { local, sockets }, Ok(())),
            Some(Answered::Refused(code)) => (State::Unbound, Err(code.into())),
            Some(Answered::Addresses(_)) => (State::Unbound, Err(ErrorCode::Unknown.into())),
        };
        udp.state = state;
        answer
    }

    fn stream(
        &mut self,
        socket: Resource<UdpSocket>,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<IncomingDatagramStream>, Resource<OutgoingDatagramStream>)> {
        let udp = self.udp(&socket)?;
        let State::Bound { sockets, .. } = &udp.state else { return Err(ErrorCode::InvalidState.into()) };
        let remote = remote.map(SocketAddr::from);
        let (line, mut sockets) = (Arc::clone(&udp.line), sockets.clone());
        if let Some(remote) = remote {
            if remote.is_ipv4() != (udp.family == IpAddressFamily::Ipv4) || !is_peer(remote) {
                return Err(ErrorCode::InvalidArgument.into());
            }
            sockets.retain(|(_, peer)| *peer == remote);
            if sockets.is_empty() {
                line.tell(&ToBroker::Refused { what: OwnRefusal::Udp(remote) });
                return Err(ErrorCode::AccessDenied.into());
            }
        }
        udp.remote = remote;
        let incoming = self.table.push(Incoming { sockets: sockets.clone(), remote })?;
        let outgoing = self.table.push(Outgoing { line, sockets, remote })?;
        Ok((theirs(incoming), theirs(outgoing)))
    }

    fn local_address(&mut self, socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.udp(&socket)?.state {
            State::Bound { local, .. } => Ok((*local).into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        self.udp(&socket)?.remote.map(IpSocketAddress::from).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    fn address_family(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&ours::<Udp, _>(&socket))?.family)
    }

    fn unicast_hop_limit(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u8> {
        Ok(self.udp(&socket)?.hops)
    }

    fn set_unicast_hop_limit(&mut self, socket: Resource<UdpSocket>, value: u8) -> SocketResult<()> {
        let udp = self.udp(&socket)?;
        match value {
            0 => Err(ErrorCode::InvalidArgument.into()),
            // The broker makes the sockets, with the system's own limit.
            value if value == udp.hops => Ok(()),
            _ => Err(ErrorCode::NotSupported.into()),
        }
    }

    fn receive_buffer_size(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.udp(&socket)?.buffers.0)
    }

    fn set_receive_buffer_size(&mut self, socket: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        self.udp(&socket)?.buffers.0 = buffer(value)?;
        Ok(())
    }

    fn send_buffer_size(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.udp(&socket)?.buffers.1)
    }

    fn set_send_buffer_size(&mut self, socket: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        self.udp(&socket)?.buffers.1 = buffer(value)?;
        Ok(())
    }

    fn subscribe(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, ours::<Udp, _>(&socket))
    }

    fn drop(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(ours_owned::<Udp, _>(&socket))?;
        self.sockets.unmake();
        Ok(())
    }
}

impl HostIncomingDatagramStream for Guest {
    fn receive(&mut self, stream: Resource<IncomingDatagramStream>, max: u64) -> SocketResult<Vec<IncomingDatagram>> {
        let incoming = self.table.get(&ours::<Incoming, _>(&stream))?;
        let most = usize::try_from(max).unwrap_or(usize::MAX).min(DATAGRAMS_MAX);
        let mut all = Vec::new();
        for (socket, peer) in &incoming.sockets {
            while all.len() < most {
                match socket.receive(READ_BYTES_MAX) {
                    Ok(Some(data)) => all.push(IncomingDatagram { data, remote_address: (*peer).into() }),
                    Ok(None) => break,
                    // An earlier datagram reached no receiver. For one peer of several that is not a failure of the socket.
                    Err(ErrorCode::ConnectionRefused) if incoming.remote.is_none() => {}
                    Err(code) if all.is_empty() => return Err(code.into()),
                    Err(_) => break,
                }
            }
        }
        Ok(all)
    }

    fn subscribe(&mut self, stream: Resource<IncomingDatagramStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, ours::<Incoming, _>(&stream))
    }

    fn drop(&mut self, stream: Resource<IncomingDatagramStream>) -> wasmtime::Result<()> {
        self.table.delete(ours_owned::<Incoming, _>(&stream))?;
        Ok(())
    }
}

impl HostOutgoingDatagramStream for Guest {
    fn check_send(&mut self, stream: Resource<OutgoingDatagramStream>) -> SocketResult<u64> {
        let outgoing = self.table.get(&ours::<Outgoing, _>(&stream))?;
        let room = outgoing.sockets.iter().any(|(socket, _)| socket.looks_ready(PollFlags::OUT));
        Ok(if room { DATAGRAMS_MAX as u64 } else { 0 })
    }

    fn send(
        &mut self,
        stream: Resource<OutgoingDatagramStream>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let outgoing = self.table.get(&ours::<Outgoing, _>(&stream))?;
        let mut sent = 0;
        for datagram in datagrams.iter().take(DATAGRAMS_MAX) {
            match outgoing.send(datagram) {
                Ok(true) => sent += 1,
                Ok(false) => break,
                Err(code) if sent == 0 => return Err(code.into()),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    fn subscribe(&mut self, stream: Resource<OutgoingDatagramStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, ours::<Outgoing, _>(&stream))
    }

    fn drop(&mut self, stream: Resource<OutgoingDatagramStream>) -> wasmtime::Result<()> {
        self.table.delete(ours_owned::<Outgoing, _>(&stream))?;
        Ok(())
    }
}

impl Outgoing {
    /// Sends one datagram; false: there is no room yet.
    fn send(&self, datagram: &OutgoingDatagram) -> Result<bool, ErrorCode> {
        let given = datagram.remote_address.map(SocketAddr::from);
        let to = match (given, self.remote) {
            (Some(given), Some(remote)) if given != remote => return Err(ErrorCode::InvalidArgument),
            (Some(to), _) | (None, Some(to)) => to,
            (None, None) => return Err(ErrorCode::InvalidArgument),
        };
        if !is_peer(to) {
            return Err(ErrorCode::InvalidArgument);
        }
        if datagram.data.len() > READ_BYTES_MAX {
            return Err(ErrorCode::DatagramTooLarge);
        }
        let Some((socket, _)) = self.sockets.iter().find(|(_, peer)| *peer == to) else {
            self.line.tell(&ToBroker::Refused { what: OwnRefusal::Udp(to) });
            return Err(ErrorCode::AccessDenied);
        };
        if !socket.looks_ready(PollFlags::OUT) {
            return Ok(false);
        }
        // An empty datagram counts too.
        match socket.send(&datagram.data) {
            Ok(count) => Ok(count > 0 || datagram.data.is_empty()),
            Err(code) => Err(code),
        }
    }
}
