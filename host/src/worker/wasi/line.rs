//! The conversation with the broker ([`Line`]), and a descriptor that came from it ([`Socket`]). This file knows messages and
//! descriptors, and nothing of the engine's handles.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};
use serde::{Deserialize, Serialize};
use wasmtime_wasi::p2::SocketResult;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;

use super::capture::{Capture, Input};
use super::clock::Clock;
use crate::cage::process::Allowance;
use crate::wire::broker::{FromBroker, OwnRefusal, SocketRefusal, ToBroker};
use crate::wire::job::{Granted, GrantedSockets};
use crate::wire::packet::{self, Received};

/// The most bytes that one read or datagram brings.
pub(super) const READ_BYTES_MAX: usize = 64 * 1024;

/// Descriptors that are open for a moment beside those that a guest holds: those in an answer of the broker that is not yet
/// looked at.
pub(super) const UNDER_WAY: u64 = 4;

/// The descriptors that a worker with sockets may have open, beside the rest.
pub(crate) fn allow(granted: &Granted, mut allowance: Allowance) -> Allowance {
    if let Some(sockets) = granted.sockets.filter(|_| granted.talks()) {
        allowance.descriptors += 1 + u64::from(sockets.count_max) + UNDER_WAY;
    }
    allowance
}

/// The sockets of a guest.
pub(crate) struct Sockets {
    line: Option<Arc<Line>>,
    /// The number of sockets that the guest made or accepted and has not dropped.
    made: u32,
}

impl Sockets {
    /// Starts with the broker's socket, if there is a grant.
    pub(super) fn new(
        granted: Option<(Option<OwnedFd>, GrantedSockets)>,
        clock: &Arc<Clock>,
        capture: &Capture,
    ) -> Sockets {
        let line = granted.map(|(broker, granted)| {
            let state = Mutex::new(LineState { bytes_left: granted.bytes_max, ..LineState::default() });
            let (broker, clock, capture) = (broker.map(Arc::new), Arc::clone(clock), capture.clone());
            Arc::new(Line { broker, granted, clock, capture, state })
        });
        Sockets { line, made: 0 }
    }

    pub(super) fn line(&self) -> SocketResult<Arc<Line>> {
        self.line.clone().ok_or_else(|| ErrorCode::AccessDenied.into())
    }

    /// Counts one more socket, if the bound allows it.
    pub(super) fn make(&mut self) -> SocketResult<Arc<Line>> {
        let line = self.line()?;
        if self.made >= line.granted.count_max {
            line.tell(&ToBroker::Refused { what: OwnRefusal::TooMany });
            return Err(ErrorCode::NewSocketLimit.into());
        }
        self.made += 1;
        Ok(line)
    }

    pub(super) fn unmake(&mut self) {
        self.made = self.made.saturating_sub(1);
    }
}

/// The conversation with the broker: one answer to each request, matched by a number of ours.
///
/// All of it that a guest can see passes through the capture, here and in [`Socket`]. Where the input is served there is no
/// broker, and sockets have no descriptor.
pub(super) struct Line {
    broker: Option<Arc<OwnedFd>>,
    granted: GrantedSockets,
    clock: Arc<Clock>,
    capture: Capture,
    state: Mutex<LineState>,
}

#[derive(Default)]
pub(super) struct LineState {
    next: u32,
    answers: HashMap<u32, Answered>,
    /// Requests whose answer is no longer waited for.
    abandoned: HashSet<u32>,
    bytes_left: u64,
    /// Whether the broker is gone, or no longer listens to this worker.
    closed: bool,
}

/// An answer, with the sockets in it.
pub(super) enum Answered {
    Addresses(Vec<IpAddr>),
    Given { local: SocketAddr, sockets: Vec<(Arc<Socket>, SocketAddr)> },
    Refused(ErrorCode),
}

impl Line {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and returns its number, by which the answer is found.
    pub(super) fn ask(&self, request: impl FnOnce(u32) -> ToBroker) -> u32 {
        let id = {
            let mut state = self.state();
            state.next = state.next.wrapping_add(1);
            state.next
        };
        let request = request(id);
        let asked = postcard::to_stdvec(&request).unwrap_or_default();
        self.capture.pass(Input::Ask, &asked, || self.tell(&request), || ());
        id
    }

    /// Sends a message that gets no answer. The loss of the broker is noticed when a later answer does not come.
    pub(super) fn tell(&self, message: &ToBroker) {
        let Some(broker) = &self.broker else { return };
        if packet::send(broker.as_fd(), message, &[], SendFlags::empty()).is_err() {
            self.state().closed = true;
        }
    }

    /// Takes the answer to a request, if it has come.
    pub(super) fn take(self: &Arc<Line>, id: u32) -> Option<Answered> {
        let mut answer = None;
        let ask = || {
            answer = self.take_answer(id);
            answer.as_ref().map(Captured::of)
        };
        let captured = self.capture.pass(Input::Answer, &id.to_le_bytes(), ask, || Some(Captured::REFUSED));
        match answer {
            None => captured.map(|captured| captured.again(self)),
            answer => answer,
        }
    }

    fn take_answer(self: &Arc<Line>, id: u32) -> Option<Answered> {
        self.receive();
        let mut state = self.state();
        match state.answers.remove(&id) {
            None if state.closed => Some(Answered::Refused(ErrorCode::AccessDenied)),
            answer => answer,
        }
    }

    /// Whether a request is answered. If not, the wait in progress waits for the broker too.
    pub(super) fn is_answered(self: &Arc<Line>, id: u32) -> bool {
        let look = || {
            self.receive();
            let state = self.state();
            state.closed || state.answers.contains_key(&id)
        };
        let there = self.capture.pass(Input::IsAnswered, &id.to_le_bytes(), look, || true);
        if !there {
            self.clock.wait_for(self.broker.as_ref(), PollFlags::IN);
        }
        there
    }

    /// Gives up on an answer: sockets in it are closed.
    pub(super) fn abandon(&self, id: u32) {
        let mut state = self.state();
        if state.answers.remove(&id).is_none() {
            state.abandoned.insert(id);
        }
    }

    /// Receives all messages that have come.
    fn receive(self: &Arc<Line>) {
        let Some(broker) = &self.broker else { return };
        loop {
            let (id, answered) = match packet::receive::<FromBroker>(broker.as_fd(), RecvFlags::DONTWAIT) {
                Ok(Received::Nothing) => return,
                Ok(Received::Message(FromBroker::Addresses { id, addresses }, _)) => {
                    (id, Answered::Addresses(addresses))
                }
                Ok(Received::Message(FromBroker::Given { id, local, sockets }, descriptors)) => {
                    // False if fewer descriptors came than were sent: this process may not have more.
                    let whole = sockets.len() == descriptors.len();
                    let sockets = sockets.into_iter().zip(descriptors).map(|((handle, peer), descriptor)| {
                        let descriptor = Some(Arc::new(descriptor));
                        (Arc::new(Socket { descriptor, handle, line: Arc::clone(self) }), peer)
                    });
                    let sockets = sockets.collect();
                    let given = Answered::Given { local, sockets };
                    (id, if whole { given } else { Answered::Refused(ErrorCode::NewSocketLimit) })
                }
                Ok(Received::Message(FromBroker::Refused { id, why }, _)) => (id, Answered::Refused(code(why))),
                Ok(Received::Garbage(_) | Received::Closed) | Err(_) => {
                    self.state().closed = true;
                    return;
                }
            };
            // Not under the lock: a dropped answer tells the broker of its sockets.
            let unwanted = {
                let mut state = self.state();
                if state.abandoned.remove(&id) { Some(answered) } else { state.answers.insert(id, answered) }
            };
            drop(unwanted);
        }
    }

    /// Counts bytes that were sent or received.
    fn spend(&self, bytes: usize) {
        let mut state = self.state();
        state.bytes_left = state.bytes_left.saturating_sub(bytes as u64);
    }

    /// The number of bytes, out of `bytes`, that may still be sent or received.
    fn affords(&self, bytes: usize) -> Result<usize, ErrorCode> {
        let left = self.state().bytes_left;
        if left == 0 {
            self.tell(&ToBroker::Refused { what: OwnRefusal::Bytes(self.granted.bytes_max) });
            return Err(ErrorCode::ConnectionAborted);
        }
        Ok(bytes.min(usize::try_from(left).unwrap_or(usize::MAX)))
    }
}

/// A descriptor that came from the broker, or was accepted on such a descriptor.
pub(super) struct Socket {
    /// The descriptor; none where its input is served.
    pub(super) descriptor: Option<Arc<OwnedFd>>,
    /// The broker's number for the socket; 0: it was accepted here.
    pub(super) handle: u32,
    pub(super) line: Arc<Line>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.handle != 0 {
            self.line.tell(&ToBroker::Closed { handle: self.handle });
        }
    }
}

impl Socket {
    /// Whether the socket is ready for these events. If not, the wait in progress waits for them too.
    pub(super) fn is_ready(&self, events: PollFlags) -> bool {
        let there = self.looks_ready(events);
        if !there {
            self.line.clock.wait_for(self.descriptor.as_ref(), events);
        }
        there
    }

    /// Whether the socket is ready for these events now. An error or an end makes it ready for all.
    pub(super) fn looks_ready(&self, events: PollFlags) -> bool {
        let look = || {
            let Some(descriptor) = &self.descriptor else { return true };
            let mut fds = [PollFd::new(&**descriptor, events)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
        };
        let asked = [self.handle.to_le_bytes(), u32::from(events.bits()).to_le_bytes()].concat();
        self.line.capture.pass(Input::IsReady, &asked, look, || true)
    }

    /// Receives the present bytes, at most `size`: none if there are none yet.
    pub(super) fn receive(&self, size: usize) -> Result<Option<Vec<u8>>, ErrorCode> {
        let asked = [u64::from(self.handle).to_le_bytes(), (size as u64).to_le_bytes()].concat();
        let receive = || self.receive_now(size).map_err(number_of);
        let received = self.line.capture.pass(Input::Receive, &asked, receive, || Err(0)).map_err(code_of)?;
        // A recording is untrusted.
        if received.as_ref().is_some_and(|bytes| bytes.len() > size) { Err(ErrorCode::Unknown) } else { Ok(received) }
    }

    fn receive_now(&self, size: usize) -> Result<Option<Vec<u8>>, ErrorCode> {
        let Some(descriptor) = &self.descriptor else { return Err(ErrorCode::Unknown) };
        let size = self.line.affords(size.min(READ_BYTES_MAX))?;
        let mut bytes = vec![0; size];
        match rustix::io::retry_on_intr(|| rustix::net::recv(descriptor, &mut bytes[..], RecvFlags::DONTWAIT)) {
            Ok((count, _)) => {
                bytes.truncate(count);
                self.line.spend(count);
                Ok(Some(bytes))
            }
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Accepts a connection: its descriptor and its peer.
    pub(super) fn accept(&self) -> Result<(Option<Arc<OwnedFd>>, SocketAddr), ErrorCode> {
        let mut accepted = None;
        let accept = || {
            let listener = self.descriptor.as_ref().ok_or(0)?;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (descriptor, peer) = rustix::net::acceptfrom_with(listener, flags).map_err(|error| match error {
                rustix::io::Errno::AGAIN => number_of(ErrorCode::WouldBlock),
                rustix::io::Errno::MFILE => number_of(ErrorCode::NewSocketLimit),
                error => number_of(error.into()),
            })?;
            accepted = Some(Arc::new(descriptor));
            let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
            Ok(peer.and_then(|peer| SocketAddr::try_from(peer).ok()).unwrap_or(any))
        };
        let asked = self.handle.to_le_bytes();
        let remote = self.line.capture.pass(Input::Accept, &asked, accept, || Err(0)).map_err(code_of)?;
        Ok((accepted, remote))
    }

    /// Ends one direction, or both.
    pub(super) fn shutdown(&self, how: Shutdown) -> Result<(), ErrorCode> {
        let direction: u8 = match how {
            Shutdown::Read => 0,
            Shutdown::Write => 1,
            Shutdown::Both => 2,
        };
        let shutdown = || {
            let descriptor = self.descriptor.as_ref().ok_or(0)?;
            match rustix::net::shutdown(descriptor, how) {
                // The other side has closed the connection first.
                Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
                Err(error) => Err(number_of(error.into())),
            }
        };
        let asked = [&self.handle.to_le_bytes()[..], &[direction]].concat();
        self.line.capture.pass(Input::Shutdown, &asked, shutdown, || Err(0)).map_err(code_of)
    }

    /// Sends the bytes that fit; 0 if none fit yet.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<usize, ErrorCode> {
        let asked = [&self.handle.to_le_bytes(), bytes].concat();
        let send = || self.send_now(bytes).map(|count| count as u64).map_err(number_of);
        let sent = self.line.capture.pass(Input::Send, &asked, send, || Err(0)).map_err(code_of)?;
        Ok(usize::try_from(sent).unwrap_or(usize::MAX).min(bytes.len()))
    }

    /// As [`Socket::send`], but invisible to the guest.
    pub(super) fn send_now(&self, bytes: &[u8]) -> Result<usize, ErrorCode> {
        let Some(descriptor) = &self.descriptor else { return Ok(bytes.len()) };
        let size = self.line.affords(bytes.len())?;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::io::retry_on_intr(|| rustix::net::send(descriptor, &bytes[..size], flags)) {
            Ok(count) => {
                self.line.spend(count);
                Ok(count)
            }
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// An answer as it is captured: the part that a guest can see.
#[derive(Serialize, Deserialize)]
pub(super) enum Captured {
    Addresses(Vec<IpAddr>),
    Given { local: SocketAddr, sockets: Vec<(u32, SocketAddr)> },
    Refused(u8),
}

impl Captured {
    const REFUSED: Captured = Captured::Refused(0);

    fn of(answered: &Answered) -> Captured {
        match answered {
            Answered::Addresses(addresses) => Captured::Addresses(addresses.clone()),
            Answered::Given { local, sockets } => {
                let sockets = sockets.iter().map(|(socket, peer)| (socket.handle, *peer)).collect();
                Captured::Given { local: *local, sockets }
            }
            Answered::Refused(code) => Captured::Refused(number_of(*code)),
        }
    }

    /// The answer, with sockets whose input is served.
    fn again(self, line: &Arc<Line>) -> Answered {
        match self {
            Captured::Addresses(addresses) => Answered::Addresses(addresses),
            Captured::Given { local, sockets } => {
                let socket =
                    |(handle, peer)| (Arc::new(Socket { descriptor: None, handle, line: Arc::clone(line) }), peer);
                Answered::Given { local, sockets: sockets.into_iter().map(socket).collect() }
            }
            Captured::Refused(number) => Answered::Refused(code_of(number)),
        }
    }
}

/// Every code, by its number in a capture.
pub(super) const CODES: [ErrorCode; 21] = [
    ErrorCode::Unknown,
    ErrorCode::AccessDenied,
    ErrorCode::NotSupported,
    ErrorCode::InvalidArgument,
    ErrorCode::OutOfMemory,
    ErrorCode::Timeout,
    ErrorCode::ConcurrencyConflict,
    ErrorCode::NotInProgress,
    ErrorCode::WouldBlock,
    ErrorCode::InvalidState,
    ErrorCode::NewSocketLimit,
    ErrorCode::AddressNotBindable,
    ErrorCode::AddressInUse,
    ErrorCode::RemoteUnreachable,
    ErrorCode::ConnectionRefused,
    ErrorCode::ConnectionReset,
    ErrorCode::ConnectionAborted,
    ErrorCode::DatagramTooLarge,
    ErrorCode::NameUnresolvable,
    ErrorCode::TemporaryResolverFailure,
    ErrorCode::PermanentResolverFailure,
];

pub(super) fn number_of(code: ErrorCode) -> u8 {
    CODES.iter().position(|known| *known == code).and_then(|number| u8::try_from(number).ok()).unwrap_or(0)
}

pub(super) fn code_of(number: u8) -> ErrorCode {
    CODES.get(usize::from(number)).copied().unwrap_or(ErrorCode::Unknown)
}

pub(super) fn code(why: SocketRefusal) -> ErrorCode {
    match why {
        SocketRefusal::Denied => ErrorCode::AccessDenied,
        SocketRefusal::Invalid => ErrorCode::InvalidArgument,
        SocketRefusal::Timeout => ErrorCode::Timeout,
        SocketRefusal::TooMany => ErrorCode::NewSocketLimit,
        SocketRefusal::InUse => ErrorCode::AddressInUse,
        SocketRefusal::NotBindable => ErrorCode::AddressNotBindable,
        SocketRefusal::Unreachable => ErrorCode::RemoteUnreachable,
        SocketRefusal::ConnectionRefused => ErrorCode::ConnectionRefused,
        SocketRefusal::Reset => ErrorCode::ConnectionReset,
        SocketRefusal::NameUnresolvable => ErrorCode::NameUnresolvable,
        SocketRefusal::ResolverBusy => ErrorCode::TemporaryResolverFailure,
        SocketRefusal::Unknown => ErrorCode::Unknown,
    }
}

/// Waits until `is_there` returns true.
pub(super) async fn until(mut is_there: impl FnMut() -> bool) {
    std::future::poll_fn(|_| if is_there() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// An error of a stream over a socket: `network-error-code` finds the code in it.
#[derive(Debug, thiserror::Error)]
#[error("the socket failed: {}", .0.name())]
pub(super) struct StreamFailure(pub(super) ErrorCode);

/// Whether an address can be connected to at all: it has a port, and is neither the unspecified address nor an IPv4 address
/// in disguise. The broker decides whether the address is allowed.
pub(super) fn is_peer(address: SocketAddr) -> bool {
    let ip = address.ip();
    address.port() != 0 && !ip.is_unspecified() && ip.to_canonical() == ip
}
