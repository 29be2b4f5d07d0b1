//! The broker's thread: it takes requests of workers, looks names up, and answers one request after another. Knows
//! requests and descriptors; it is given the rights as a table.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use rustix::event::Timespec;
use rustix::event::epoll::EventFlags;
use rustix::net::{RecvFlags, SendFlags, SocketType, sockopt};

use super::Order;
use super::rights::{Meaning, NAME_SHOWN_MAX, Peer, Refusals, Request, Rights};
use super::sockets::{begin_connect, local_address, new_socket, why};
use crate::process::epoll::{Epoll, LookedAt};
use crate::wire::broker::{FromBroker, OwnRefusal, SocketOptions, SocketRefusal, ToBroker};
use crate::wire::packet::{self, Received};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the system's resolver may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Threads that wait for the system's resolver. A lookup there cannot be cancelled.
pub(super) const RESOLVERS: usize = 4;

/// Names that wait for a resolver thread, of all envs together.
pub(super) const NAMES_WAITING_MAX: usize = 64;

/// Addresses that are kept of one name: a browser tries fewer.
pub(super) const ADDRESSES_MAX: usize = 16;

/// Unanswered requests of one env. A guest has at most one for each of its sockets, and its lookups.
const REQUESTS_MAX: usize = 64;

/// Messages of one env that are taken before another env has its turn. A guest that is refused over and over, or a
/// worker that was taken over, sends messages as quickly as it can. That may keep the broker busy, but must not keep
/// other envs waiting.
const MESSAGES_PER_LOOK: usize = 16;

/// Connections that wait to be accepted on one socket.
const BACKLOG_MAX: u32 = 128;

/// How often deadlines are checked.
const TICK: Duration = Duration::from_millis(50);

/// One env as the broker keeps it.
struct Guest {
    socket: LookedAt,
    rights: Rights,
    refusals: Refusals,
    /// The numbers of its open sockets.
    open: Vec<u32>,
    /// Its unanswered requests.
    asking: usize,
}

/// A connection that is being made.
struct Connecting {
    guest: u64,
    id: u32,
    to: SocketAddr,
    socket: LookedAt,
    deadline: Instant,
}

/// A request that waits for a name.
struct Waiting {
    guest: u64,
    request: Request,
    names: Vec<String>,
    deadline: Instant,
}

/// The source of an event: two bits below the number.
const GUEST: u64 = 0;
const CONNECTION: u64 = 1;
const WAKE: u64 = u64::MAX;

/// The thread's own state.
pub(super) struct BrokerThread {
    epoll: Epoll,
    wake: LookedAt,
    orders: Receiver<Order>,
    lookups: Sender<String>,
    guests: HashMap<u64, Guest>,
    connecting: HashMap<u64, Connecting>,
    /// Names that a resolver thread looks up, and since when.
    looking: HashMap<String, Instant>,
    waiting: Vec<Waiting>,
    /// The last number given to a connection or a handle.
    next: u64,
}

impl BrokerThread {
    pub(super) fn new(
        wake: Arc<OwnedFd>,
        orders: Receiver<Order>,
        lookups: Sender<String>,
    ) -> io::Result<BrokerThread> {
        let epoll = Epoll::new()?;
        Ok(BrokerThread {
            wake: epoll.at(wake, WAKE, EventFlags::IN)?,
            epoll,
            orders,
            lookups,
            guests: HashMap::new(),
            connecting: HashMap::new(),
            looking: HashMap::new(),
            waiting: Vec::new(),
            next: 0,
        })
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        loop {
            let idle = self.connecting.is_empty() && self.waiting.is_empty();
            // The epoll is this thread's own: it cannot fail.
            if self.epoll.wait(&mut events, (!idle).then_some(&tick)).is_err() {
                return;
            }
            for event in &events {
                let data = event.data.u64();
                match (data, data & 3) {
                    (WAKE, _) => {
                        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
                        self.take_orders();
                    }
                    (_, GUEST) => self.listen(data >> 2),
                    _ => self.connected(data >> 2),
                }
            }
            self.expire();
        }
    }

    fn take_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Enter(number, socket, rights, refusals) => {
                    if let Ok(socket) = self.epoll.at(Arc::new(socket), number << 2 | GUEST, EventFlags::IN) {
                        let guest = Guest { socket, rights: *rights, refusals, open: Vec::new(), asking: 0 };
                        self.guests.insert(number, guest);
                    }
                }
                Order::Leave(number) => self.forget(number),
                Order::Resolved(name, found) => self.resolved(&name, found),
            }
        }
    }

    /// Closes a guest's socket: its later requests fail.
    fn forget(&mut self, number: u64) {
        self.guests.remove(&number);
        self.connecting.retain(|_, connecting| connecting.guest != number);
        self.waiting.retain(|waiting| waiting.guest != number);
    }

    /// Takes at most [`MESSAGES_PER_LOOK`] requests of a worker. Then the other workers have their turn; the rest is
    /// found at the next look.
    fn listen(&mut self, number: u64) {
        for _ in 0..MESSAGES_PER_LOOK {
            let Some(guest) = self.guests.get_mut(&number) else { return };
            match packet::receive::<ToBroker>(guest.socket.as_fd(), RecvFlags::DONTWAIT) {
                Ok(Received::Nothing) => return,
                Ok(Received::Message(message, descriptors)) if descriptors.is_empty() => {
                    match message {
                        ToBroker::Closed { handle } => {
                            guest.open.retain(|open| *open != handle);
                            continue;
                        }
                        ToBroker::Refused { what } => {
                            let most = guest.rights.count_max;
                            guest.refusals.add(match what {
                                OwnRefusal::Udp(to) => format!("udp {to}"),
                                OwnRefusal::TooMany => format!("more than {most} sockets at once"),
                                OwnRefusal::Bytes(bytes) => format!("more than {bytes} bytes over its sockets"),
                            });
                            continue;
                        }
                        _ => {}
                    }
                    guest.asking += 1;
                    if guest.asking > REQUESTS_MAX {
                        guest.refusals.add("more at once than a guest can ask: its sockets end here".to_owned());
                        return self.forget(number);
                    }
                    self.answer(number, message);
                }
                Ok(Received::Garbage(_) | Received::Message(..)) => {
                    guest.refusals.add("a request that is none: its sockets end here".to_owned());
                    return self.forget(number);
                }
                Ok(Received::Closed) | Err(_) => return self.forget(number),
            }
        }
    }

    fn answer(&mut self, number: u64, message: ToBroker) {
        match message {
            ToBroker::Resolve { id, name } => self.try_request(number, Request::Resolve { id, name }),
            ToBroker::Connect { id, to, options } => self.try_request(number, Request::Connect { id, to, options }),
            ToBroker::Listen { id, at, backlog } => self.listen_for(number, id, at, backlog),
            ToBroker::Udp { id, at } => self.open_udp(number, id, at),
            // Handled above.
            ToBroker::Closed { .. } | ToBroker::Refused { .. } => {}
        }
    }

    /// Carries out a request, or first has its names looked up.
    fn try_request(&mut self, number: u64, request: Request) {
        let Some(guest) = self.guests.get(&number) else { return };
        let missing = guest.rights.names_missing(&request);
        if missing.is_empty() {
            return match request {
                Request::Resolve { id, name } => self.tell_addresses(number, id, &name),
                Request::Connect { id, to, options } => self.connect(number, id, to, options),
            };
        }
        for name in &missing {
            if self.looking.contains_key(name) {
                continue;
            }
            match self.lookups.try_send(name.clone()) {
                Ok(()) => {
                    self.looking.insert(name.clone(), Instant::now());
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    return self.refuse(number, request.id(), SocketRefusal::ResolverBusy, None);
                }
            }
        }
        let deadline = Instant::now() + RESOLVE_TIMEOUT;
        self.waiting.push(Waiting { guest: number, request, names: missing, deadline });
    }

    /// Takes a resolver's answer: the requests that waited for it go on.
    fn resolved(&mut self, name: &str, found: Result<Vec<Meaning>, ()>) {
        self.looking.remove(name);
        let (now, still): (Vec<Waiting>, Vec<Waiting>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.names.iter().any(|of| of == name));
        self.waiting = still;
        for mut waiting in now {
            let Some(guest) = self.guests.get(&waiting.guest) else { continue };
            match &found {
                Ok(meanings) if !meanings.is_empty() => guest.rights.names.pin(name, meanings),
                // A failure is not remembered: the name may exist the next time.
                _ => {
                    if let Request::Resolve { id, .. } = waiting.request {
                        self.refuse(waiting.guest, id, SocketRefusal::NameUnresolvable, None);
                        continue;
                    }
                }
            }
            waiting.names.retain(|of| of != name);
            match (waiting.names.is_empty(), waiting.request) {
                (false, request) => self.waiting.push(Waiting { request, ..waiting }),
                (true, Request::Resolve { id, name }) => self.tell_addresses(waiting.guest, id, &name),
                // With the names that resolved: a name without an address grants nothing.
                (true, Request::Connect { id, to, options }) => self.connect(waiting.guest, id, to, options),
            }
        }
    }

    /// Tells a granted name's addresses, but only those that the grants let it mean.
    fn tell_addresses(&mut self, number: u64, id: u32, name: &str) {
        let Some(guest) = self.guests.get(&number) else { return };
        let lower = name.to_ascii_lowercase();
        let granted: Vec<&Peer> = guest.rights.connect.iter().filter(|peer| peer.is_named(&lower)).collect();
        let known = guest.rights.names.get(&lower).filter(|_| !granted.is_empty());
        let Some(known) = known else {
            let shown = crate::text::plain(name, NAME_SHOWN_MAX);
            return self.refuse(number, id, SocketRefusal::Denied, Some(format!("the addresses of `{shown}`")));
        };
        let mut addresses = Vec::new();
        for meaning in known {
            let objections: Vec<String> = granted.iter().filter_map(|peer| peer.objection(meaning)).collect();
            if objections.len() < granted.len() {
                addresses.push(meaning.address);
            } else {
                objections.into_iter().for_each(|objection| guest.refusals.add_of_name(objection));
            }
        }
        match addresses.is_empty() {
            true => self.refuse(number, id, SocketRefusal::Denied, None),
            false => self.say(number, &FromBroker::Addresses { id, addresses }, &[]),
        }
    }

    /// Connects, if the grants allow it.
    fn connect(&mut self, number: u64, id: u32, to: SocketAddr, options: SocketOptions) {
        let Some(guest) = self.guests.get(&number) else { return };
        // Address and port only: the scope and flow that the guest sent are dropped. An IPv4 address mapped into IPv6
        // is refused, since the kernel would connect to it as IPv4.
        let to = SocketAddr::new(to.ip(), to.port());
        let disguised = to.ip().to_canonical() != to.ip();
        if !disguised && let Some(connection) = guest.rights.handed.take(to) {
            return self.hand_over(number, id, to, connection);
        }
        if disguised || !guest.rights.may_connect(to) {
            let objection = guest.rights.objection_to(to);
            let what = if objection.is_none() { Some(format!("tcp-connect {to}")) } else { None };
            objection.into_iter().for_each(|objection| guest.refusals.add_of_name(objection));
            return self.refuse(number, id, SocketRefusal::Denied, what);
        }
        if !self.has_room(number) {
            return self.too_many(number, id);
        }
        let socket = match begin_connect(to, options) {
            Ok(socket) => socket,
            Err(error) => return self.refuse(number, id, why(error), None),
        };
        self.next += 1;
        let events = EventFlags::OUT | EventFlags::ONESHOT;
        let socket = match self.epoll.at(Arc::new(socket), self.next << 2 | CONNECTION, events) {
            Ok(socket) => socket,
            Err(error) => return self.refuse(number, id, why(error), None),
        };
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        self.connecting.insert(self.next, Connecting { guest: number, id, to, socket, deadline });
    }

    /// Handles a connection that was made or has failed.
    fn connected(&mut self, number: u64) {
        let Some(Connecting { guest, id, to, socket, .. }) = self.connecting.remove(&number) else { return };
        let socket = socket.release();
        match sockopt::socket_error(&socket) {
            Ok(Ok(())) => self.hand_over(guest, id, to, socket),
            Ok(Err(error)) | Err(error) => self.refuse(guest, id, why(error), None),
        }
    }

    /// Gives a connected socket to a guest.
    fn hand_over(&mut self, number: u64, id: u32, to: SocketAddr, socket: impl AsFd) {
        // A simulator's messages are small, and the env waits for each.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        let local = local_address(socket.as_fd());
        self.give(number, id, local, vec![(to, socket)]);
    }

    fn listen_for(&mut self, number: u64, id: u32, at: SocketAddr, backlog: u32) {
        let Some(guest) = self.guests.get(&number) else { return };
        let at = SocketAddr::new(at.ip(), at.port());
        if !guest.rights.listen.contains(&at) {
            return self.refuse(number, id, SocketRefusal::Denied, Some(format!("tcp-listen {at}")));
        }
        if !self.has_room(number) {
            return self.too_many(number, id);
        }
        let made = || -> rustix::io::Result<OwnedFd> {
            let socket = new_socket(at, SocketType::STREAM)?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            if at.is_ipv6() {
                sockopt::set_ipv6_v6only(&socket, true)?;
            }
            rustix::net::bind(&socket, &at)?;
            rustix::net::listen(&socket, i32::try_from(backlog.clamp(1, BACKLOG_MAX)).unwrap_or(1))?;
            Ok(socket)
        };
        match made() {
            Ok(socket) => self.give(number, id, local_address(socket.as_fd()), vec![(at, socket)]),
            Err(error) => self.refuse(number, id, why(error), None),
        }
    }

    /// Opens a connected socket for each granted peer of a family, all with one local port. The kernel gives a datagram
    /// to the socket that is connected to its sender, and drops datagrams from other senders.
    fn open_udp(&mut self, number: u64, id: u32, at: SocketAddr) {
        let Some(guest) = self.guests.get(&number) else { return };
        let peers: Vec<SocketAddr> =
            guest.rights.udp.iter().copied().filter(|peer| peer.is_ipv4() == at.is_ipv4()).collect();
        let local = SocketAddr::new(at.ip(), at.port());
        if peers.is_empty() || local.port() != 0 || !(local.ip().is_unspecified() || local.ip().is_loopback()) {
            return self.refuse(number, id, SocketRefusal::Denied, Some(format!("udp, bound to {local}")));
        }
        if guest.open.len() + peers.len() > guest.rights.count_max {
            return self.too_many(number, id);
        }
        let mut sockets: Vec<(SocketAddr, OwnedFd)> = Vec::new();
        let mut bound: Option<SocketAddr> = None;
        for peer in peers {
            let made = || -> rustix::io::Result<OwnedFd> {
                let socket = new_socket(peer, SocketType::DGRAM)?;
                sockopt::set_socket_reuseport(&socket, true)?;
                rustix::net::bind(&socket, &bound.unwrap_or(local))?;
                rustix::net::connect(&socket, &peer)?;
                // Drops datagrams that any sender sent between the bind and the connect.
                while rustix::net::recv(&socket, &mut [0u8; 1], RecvFlags::DONTWAIT).is_ok() {}
                Ok(socket)
            };
            match made() {
                Ok(socket) => {
                    // The kernel chooses the port the first time. The address stays the one that was asked for, since
                    // each peer may be reached from another local address.
                    bound = bound.or_else(|| Some(SocketAddr::new(local.ip(), local_address(socket.as_fd()).port())));
                    sockets.push((peer, socket));
                }
                Err(error) => return self.refuse(number, id, why(error), None),
            }
        }
        self.give(number, id, bound.unwrap_or(local), sockets);
    }

    fn has_room(&self, number: u64) -> bool {
        let under_way = self.connecting.values().filter(|connecting| connecting.guest == number).count();
        self.guests.get(&number).is_some_and(|guest| guest.open.len() + under_way < guest.rights.count_max)
    }

    fn too_many(&mut self, number: u64, id: u32) {
        let most = self.guests.get(&number).map_or(0, |guest| guest.rights.count_max);
        self.refuse(number, id, SocketRefusal::TooMany, Some(format!("more than {most} sockets at once")));
    }

    fn give(&mut self, number: u64, id: u32, local: SocketAddr, sockets: Vec<(SocketAddr, impl AsFd)>) {
        let Some(guest) = self.guests.get_mut(&number) else { return };
        let mut told = Vec::with_capacity(sockets.len());
        for (peer, _) in &sockets {
            self.next += 1;
            let handle = u32::try_from(self.next & u64::from(u32::MAX)).unwrap_or(1).max(1);
            guest.open.push(handle);
            told.push((handle, *peer));
        }
        let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
        self.say(number, &FromBroker::Given { id, local, sockets: told }, &descriptors);
    }

    /// Refuses a request; with `what`, the operator is told.
    fn refuse(&mut self, number: u64, id: u32, why: SocketRefusal, what: Option<String>) {
        if let (Some(guest), Some(what)) = (self.guests.get(&number), what) {
            guest.refusals.add(what);
        }
        self.say(number, &FromBroker::Refused { id, why }, &[]);
    }

    /// Sends an answer. A worker that does not read its answers gets no more of them.
    fn say(&mut self, number: u64, answer: &FromBroker, descriptors: &[BorrowedFd<'_>]) {
        let Some(guest) = self.guests.get_mut(&number) else { return };
        guest.asking = guest.asking.saturating_sub(1);
        if packet::send(guest.socket.as_fd(), answer, descriptors, SendFlags::DONTWAIT).is_err() {
            self.forget(number);
        }
    }

    /// Ends requests that have taken too long.
    fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> =
            self.connecting.iter().filter(|(_, connecting)| connecting.deadline <= now).map(|(key, _)| *key).collect();
        for key in late {
            if let Some(connecting) = self.connecting.remove(&key) {
                self.refuse(connecting.guest, connecting.id, SocketRefusal::Timeout, None);
            }
        }
        while let Some(index) = self.waiting.iter().position(|waiting| waiting.deadline <= now) {
            let waiting = self.waiting.swap_remove(index);
            self.refuse(waiting.guest, waiting.request.id(), SocketRefusal::ResolverBusy, None);
        }
        // A name whose lookup never returns may be looked up again.
        self.looking.retain(|_, since| now.duration_since(*since) < 2 * RESOLVE_TIMEOUT);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use std::net::{IpAddr, TcpListener};

    use crossbeam_channel::{bounded, unbounded};
    use rustix::event::EventfdFlags;

    use super::super::Refused;
    use super::*;
    use crate::outside::broker::reach::Reach;
    use crate::outside::broker::rights::{Host, Names};
    use crate::outside::broker::{Registration, register};

    /// A worker's side of the conversation.
    struct Asker {
        _registration: Registration,
        socket: OwnedFd,
        refusals: Refusals,
    }

    impl Asker {
        fn with(rights: Rights) -> Asker {
            let refusals = Refusals::default();
            let (registration, socket) = register(rights, refusals.clone()).unwrap();
            Asker { _registration: registration, socket, refusals }
        }

        fn say(&self, message: &ToBroker) {
            packet::send(self.socket.as_fd(), message, &[], SendFlags::empty()).unwrap();
        }

        /// The next answer, or none if the broker has hung up.
        fn hear(&self) -> Option<(FromBroker, Vec<OwnedFd>)> {
            match packet::receive(self.socket.as_fd(), RecvFlags::empty()).unwrap() {
                Received::Message(message, descriptors) => Some((message, descriptors)),
                Received::Closed => None,
                other => panic!("{other:?}"),
            }
        }

        fn connect(&self, to: SocketAddr) -> Option<(FromBroker, Vec<OwnedFd>)> {
            self.say(&ToBroker::Connect { id: 7, to, options: SocketOptions::default() });
            self.hear()
        }
    }

    fn refused(answer: Option<(FromBroker, Vec<OwnedFd>)>) -> SocketRefusal {
        match answer {
            Some((FromBroker::Refused { id: 7, why }, descriptors)) if descriptors.is_empty() => why,
            other => panic!("{other:?}"),
        }
    }

    fn rights(connect: Vec<(Host, u16)>) -> Rights {
        let peer = |(host, port)| Peer { host, port, private: false, with_private: String::new() };
        Rights { connect: connect.into_iter().map(peer).collect(), count_max: 2, ..Rights::default() }
    }

    fn meaning(address: &str) -> Meaning {
        let address = address.parse().unwrap();
        Meaning { address, reach: Reach::of(address) }
    }

    #[test]
    fn rights_are_the_tables_and_numbers_the_brokers() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let asker = Asker::with(rights(vec![(Host::Address(at.ip()), at.port())]));
        for other in ["127.0.0.2", "0.0.0.0", "::1", "::ffff:127.0.0.1", "169.254.169.254"] {
            let to = SocketAddr::new(other.parse().unwrap(), at.port());
            assert_eq!(refused(asker.connect(to)), SocketRefusal::Denied, "{to}");
        }
        let mut handles = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..2 {
            let Some((FromBroker::Given { id: 7, sockets: told, .. }, descriptors)) = asker.connect(at) else {
                panic!()
            };
            assert_eq!((told.len(), descriptors.len(), told[0].1), (1, 1, at));
            handles.push(told[0].0);
            sockets.extend(descriptors);
        }
        assert_eq!(refused(asker.connect(at)), SocketRefusal::TooMany);
        // Numbers without a socket free nothing.
        let wild = handles[0].wrapping_add(1000);
        asker.say(&ToBroker::Closed { handle: wild });
        assert_eq!(refused(asker.connect(at)), SocketRefusal::TooMany);
        asker.say(&ToBroker::Closed { handle: handles[0] });
        assert!(matches!(asker.connect(at), Some((FromBroker::Given { .. }, _))));
        assert!(
            asker
                .refusals
                .list()
                .iter()
                .any(|refused| refused.what == "tcp-connect 169.254.169.254:".to_owned() + &at.port().to_string())
        );
    }

    #[test]
    fn who_lies_is_not_listened_to() {
        // Two connections fill the socket's queue. Nobody accepts them, so the next connections stay pending.
        let full = new_socket("127.0.0.1:0".parse().unwrap(), SocketType::STREAM).unwrap();
        rustix::net::bind(&full, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let to = local_address(full.as_fd());
        let waiting: Vec<OwnedFd> = (0..2).map(|_| begin_connect(to, SocketOptions::default()).unwrap()).collect();
        let garbage =
            |asker: &Asker| assert!(rustix::net::send(&asker.socket, &[0xff; 100], SendFlags::empty()).is_ok());
        let descriptor = |asker: &Asker| {
            let message = ToBroker::Closed { handle: 1 };
            packet::send(asker.socket.as_fd(), &message, &[asker.socket.as_fd()], SendFlags::empty()).unwrap();
        };
        let more_than_can_be_under_way = |asker: &Asker| {
            for id in 0..=u32::try_from(REQUESTS_MAX).unwrap() {
                let request = ToBroker::Connect { id, to, options: SocketOptions::default() };
                if packet::send(asker.socket.as_fd(), &request, &[], SendFlags::empty()).is_err() {
                    return;
                }
            }
        };
        let lies: [&dyn Fn(&Asker); 3] = [&garbage, &descriptor, &more_than_can_be_under_way];
        for (number, lie) in lies.into_iter().enumerate() {
            let asker = Asker::with(Rights { count_max: 1000, ..rights(vec![(Host::Address(to.ip()), to.port())]) });
            lie(&asker);
            // Whatever answers came before, the end follows.
            while asker.hear().is_some() {}
            assert!(
                asker.refusals.list().iter().any(|refused| refused.what.ends_with("its sockets end here")),
                "{number}"
            );
        }
        drop(waiting);
        // Other workers are answered as before.
        let asker = Asker::with(rights(Vec::new()));
        assert_eq!(refused(asker.connect("127.0.0.1:1".parse().unwrap())), SocketRefusal::Denied);
    }

    #[test]
    fn a_guest_that_is_refused_over_and_over_keeps_nobody_waiting() {
        let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap());
        let (orders, taken) = unbounded();
        let (lookups, _asked) = bounded(1);
        let mut desk = BrokerThread::new(wake, taken, lookups).unwrap();
        let refusals = Refusals::default();
        let (ours, worker) = packet::pair().unwrap();
        orders.send(Order::Enter(1, ours, Box::new(rights(Vec::new())), refusals.clone())).unwrap();
        desk.take_orders();
        // A request that is answered with a refusal, and a worker's report of its own refusal, which has no answer.
        let to = "127.0.0.1:1".parse().unwrap();
        let asked = ToBroker::Connect { id: 7, to, options: SocketOptions::default() };
        let told = ToBroker::Refused { what: OwnRefusal::TooMany };
        let mut sent = 0;
        while sent < 5 * MESSAGES_PER_LOOK {
            let message = if sent % 2 == 0 { &asked } else { &told };
            packet::send(worker.as_fd(), message, &[], SendFlags::DONTWAIT).unwrap();
            sent += 1;
        }
        let counted = || -> u64 { refusals.list().iter().map(|refused| refused.times).sum() };
        for looks in 1..=5 {
            desk.listen(1);
            assert_eq!(counted(), (looks * MESSAGES_PER_LOOK) as u64, "{looks}");
        }
        desk.listen(1);
        assert_eq!(counted(), sent as u64, "nothing is lost, and nothing is there twice");
        let answers = std::iter::from_fn(|| match packet::receive::<FromBroker>(worker.as_fd(), RecvFlags::DONTWAIT) {
            Ok(Received::Message(FromBroker::Refused { id: 7, why: SocketRefusal::Denied }, _)) => Some(()),
            _ => None,
        });
        assert_eq!(answers.count(), sent / 2);
        assert!(desk.guests.contains_key(&1), "it may go on asking");
    }

    #[test]
    fn a_name_means_for_a_whole_run_what_it_meant_at_first() {
        let names = Names::default();
        let granted = vec![(Host::Name("sim.example".to_owned()), 80)];
        let rights = Rights { names: names.clone(), ..rights(granted) };
        let request = Request::Resolve { id: 1, name: "Sim.Example".to_owned() };
        assert_eq!(rights.names_missing(&request), ["sim.example"]);
        let (first, second): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        names.pin("sim.example", &[meaning("192.0.2.1")]);
        // A second lookup would give another address.
        names.pin("sim.example", &[meaning("192.0.2.2")]);
        assert!(rights.names_missing(&request).is_empty());
        assert!(rights.may_connect(SocketAddr::new(first, 80)));
        assert!(!rights.may_connect(SocketAddr::new(second, 80)) && !rights.may_connect(SocketAddr::new(first, 81)));
    }

    fn named(name: &str, private: bool, port: u16) -> Peer {
        let with_private = format!("tcp-connect={name}:{port},private");
        Peer { host: Host::Name(name.to_owned()), port, private, with_private }
    }

    #[test]
    fn a_granted_name_that_comes_to_mean_a_private_address_is_refused() {
        for (address, name, plainly, with_private) in [
            ("192.0.2.1", "sim.example", true, true),
            ("127.0.0.1", "sim.example", false, true),
            ("::1", "sim.example", false, true),
            ("10.0.0.1", "sim.example", false, true),
            ("100.64.0.1", "sim.example", false, true),
            ("fd12::1", "sim.example", false, true),
            // An operator who wants one of these grants its address.
            ("169.254.169.254", "sim.example", false, false),
            ("100.100.100.200", "sim.example", false, false),
            ("168.63.129.16", "sim.example", false, false),
            ("fd00:ec2::254", "sim.example", false, false),
            ("0.0.0.0", "sim.example", false, false),
            ("ff02::1", "sim.example", false, false),
            // Names of this machine must mean this machine.
            ("127.0.0.1", "localhost", true, true),
            ("::1", "sim.localhost", true, true),
            ("10.0.0.1", "localhost", false, true),
            ("192.0.2.1", "localhost", false, false),
            ("127.0.0.1", "localhost.example", false, true),
        ] {
            for (private, may) in [(false, plainly), (true, with_private)] {
                let names = Names::default();
                names.pin(name, &[meaning(address)]);
                let rights = Rights { connect: vec![named(name, private, 80)], names, ..rights(Vec::new()) };
                let to = SocketAddr::new(address.parse().unwrap(), 80);
                assert_eq!(rights.may_connect(to), may, "{name} {address} {private}");
                // The name cannot be looked up either, and the operator is told which grant would allow it.
                let asker = Asker::with(rights);
                asker.say(&ToBroker::Resolve { id: 7, name: name.to_uppercase() });
                match asker.hear() {
                    Some((FromBroker::Addresses { id: 7, addresses }, _)) => {
                        assert!(may && addresses == [to.ip()], "{name} {address} {private}: {addresses:?}");
                    }
                    answer => {
                        assert!(!may, "{name} {address} {private}: {answer:?}");
                        assert_eq!(refused(answer), SocketRefusal::Denied);
                        assert_eq!(refused(asker.connect(to)), SocketRefusal::Denied);
                        let told = asker.refusals.take_of_names();
                        let grant = format!("the grant `tcp-connect={name}:80,private` allows it");
                        assert_eq!(told.len(), 1, "{told:?}");
                        assert!(told[0].starts_with(&format!("the name `{name}`: {address} is ")), "{told:?}");
                        assert_eq!(told[0].ends_with(&grant), with_private, "{told:?}");
                        assert_eq!(asker.refusals.list(), [Refused { what: told[0].clone(), times: 2 }]);
                    }
                }
            }
        }
    }

    #[test]
    fn of_what_a_name_means_the_guest_is_told_what_it_may() {
        let names = Names::default();
        names.pin("sim.example", &[meaning("10.0.0.1"), meaning("192.0.2.1"), meaning("169.254.169.254")]);
        let connect = vec![named("sim.example", false, 80), named("sim.example", true, 81)];
        let (ten, public): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let both = Rights { connect: connect.clone(), names: names.clone(), ..rights(Vec::new()) };
        // `private` holds for the port that was granted with it, and for no other.
        let may = |address, port| both.may_connect(SocketAddr::new(address, port));
        assert!(may(public, 80) && may(public, 81) && may(ten, 81) && !may(ten, 80));
        for (connect, expected) in [(connect[..1].to_vec(), vec![public]), (connect, vec![ten, public])] {
            let asker = Asker::with(Rights { connect, names: names.clone(), ..rights(Vec::new()) });
            asker.say(&ToBroker::Resolve { id: 7, name: "sim.example".to_owned() });
            let Some((FromBroker::Addresses { addresses, .. }, _)) = asker.hear() else { panic!() };
            assert_eq!(addresses, expected);
        }
    }
}
