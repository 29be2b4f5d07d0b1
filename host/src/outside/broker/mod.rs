//! WALL 3: the broker. It alone resolves, connects and listens for guests, and hands over what it opened. A worker can do
//! none of these.
//!
//! One thread for all envs of the host, a few more that wait for the system's resolver. Each worker has a socket pair of
//! its own to it: who asks is known by the socket, what may be had by the table that the host filled ([`Rights`]). What a
//! worker writes is a claim: a message that is none, or too many of them, ends the conversation, and with it that env's
//! sockets to come. Knows addresses and descriptors; knows nothing of wasm.

mod reach;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use rustix::event::epoll::EventFlags;
use rustix::event::{EventfdFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use serde::Serialize;

use crate::outside::broker::reach::{Reach, is_localhost, is_own_name};
use crate::process::child::LockByFork;
use crate::process::epoll::{Epoll, LookedAt};
use crate::wire::broker::{FromBroker, OwnRefusal, SocketOptions, SocketRefusal, ToBroker};
use crate::wire::packet::{self, Received};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the system's resolver may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Threads that wait for the system's resolver, which cannot be told to give up.
const RESOLVERS: usize = 4;

/// Names that wait for one of them, of all envs together.
const NAMES_WAITING_MAX: usize = 64;

/// Addresses that are kept of one name: a browser tries fewer.
const ADDRESSES_MAX: usize = 16;

/// Requests of one env that are under way. A guest has at most one for each of its sockets, and lookups beside.
const REQUESTS_MAX: usize = 64;

/// Messages of one env that are taken before another env has its turn. A guest that is refused over and over, or a worker
/// that was taken over, sends them as quickly as it can; it may keep the broker busy, and nobody waiting.
const MESSAGES_PER_LOOK: usize = 16;

/// Connections that wait to be accepted on one socket.
const BACKLOG_MAX: u32 = 128;

/// Different refusals that are remembered of one env; of more, the number.
const REFUSALS_MAX: usize = 32;

/// Refusals of granted names that an error tells.
const NAMES_TOLD_MAX: usize = 4;

/// Characters of a name that a refusal shows.
const NAME_SHOWN_MAX: usize = 100;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Whom a guest may connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, looked up once in a run.
    Name(String),
}

/// A peer that a guest may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Who it is.
    pub(crate) host: Host,
    /// Its port.
    pub(crate) port: u16,
    /// Whether a name may mean this machine, or one of a private network.
    pub(crate) private: bool,
    /// The text of the grant that would let a name mean such an address, to be shown.
    pub(crate) with_private: String,
}

impl Peer {
    /// Whether it is granted by this name, in lower case.
    fn is_named(&self, name: &str) -> bool {
        matches!(&self.host, Host::Name(granted) if granted == name)
    }

    /// Why the name may not mean an address; none: it may. What answers to a name is somebody else's to change, so a name
    /// alone means a machine of the Internet, or by its definition this one.
    fn objection(&self, meaning: Meaning) -> Option<String> {
        let Host::Name(name) = &self.host else { return None };
        let Meaning { address, reach } = meaning;
        let what = match reach {
            Reach::Public if is_localhost(name) => {
                return Some(format!("the name `{name}`: {address} is not an address of this machine"));
            }
            Reach::Public => return None,
            Reach::Machine if self.private || is_own_name(name) => return None,
            Reach::Private if self.private => return None,
            Reach::Machine => "an address of this machine",
            Reach::Private => "a private address",
            Reach::Never(what) => {
                return Some(format!("the name `{name}`: {address} is {what}, which no name is let mean"));
            }
        };
        Some(format!("the name `{name}`: {address} is {what}; the grant `{}` allows it", self.with_private))
    }
}

/// An address that a name was found to mean, and whose it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    address: IpAddr,
    reach: Reach,
}

/// What one env may have of the network. The broker's own table: nothing in it comes from a worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights {
    /// TCP, to these.
    pub(crate) connect: Vec<Peer>,
    /// TCP, listening here.
    pub(crate) listen: Vec<SocketAddr>,
    /// UDP, to and from these.
    pub(crate) udp: Vec<SocketAddr>,
    /// Sockets open at once.
    pub(crate) count_max: usize,
    /// What names are, for all envs of a run.
    pub(crate) names: Names,
    /// Open connections of the host's own, for the env's next connect to their peer.
    pub(crate) handed: Handed,
}

/// Addresses of granted names: looked up once, and the same ever after, for every env of a run and all its instances. So a
/// name cannot mean one thing when it is looked up and another when it is connected to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Mutex<HashMap<String, Vec<Meaning>>>>);

impl Names {
    fn get(&self, name: &str) -> Option<Vec<Meaning>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn pin(&self, name: &str, meanings: &[Meaning]) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.entry(name.to_owned()).or_insert_with(|| meanings.to_vec());
    }
}

/// Open connections that a host gives to one env, by the peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handed(Arc<Mutex<VecDeque<(SocketAddr, OwnedFd)>>>);

impl Handed {
    /// Adds one.
    pub(crate) fn add(&self, peer: SocketAddr, connection: OwnedFd) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((peer, connection));
    }

    fn take(&self, to: SocketAddr) -> Option<OwnedFd> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = all.iter().position(|(peer, _)| *peer == to)?;
        all.remove(index).map(|(_, connection)| connection)
    }
}

/// Something that an env asked for and did not get, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// `tcp-connect 10.0.0.1:80`.
    pub what: String,
    /// How often.
    pub times: u64,
}

/// What one env was refused: the first [`REFUSALS_MAX`] different ones, and how many others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(Arc<Mutex<RefusalsOfEnv>>);

#[derive(Debug, Default)]
struct RefusalsOfEnv {
    each: Vec<Refused>,
    /// Of granted names, each once: what the operator can mend, not told yet.
    of_names: Vec<String>,
}

impl Refusals {
    fn add(&self, what: String) {
        let each = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).each;
        if let Some(refused) = each.iter_mut().find(|refused| refused.what == what) {
            refused.times += 1;
            return;
        }
        match each.len() {
            0..REFUSALS_MAX => each.push(Refused { what, times: 1 }),
            REFUSALS_MAX => each.push(Refused { what: "others".to_owned(), times: 1 }),
            _ => each[REFUSALS_MAX].times += 1,
        }
    }

    /// Adds what a granted name may not mean.
    fn add_of_name(&self, what: String) {
        self.add(what.clone());
        let of_names = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).of_names;
        if of_names.len() < NAMES_TOLD_MAX && !of_names.contains(&what) {
            of_names.push(what);
        }
    }

    /// All of them, the first first.
    pub(crate) fn list(&self) -> Vec<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).each.clone()
    }

    /// What granted names may not mean, since the last call: for the error that follows from it.
    pub(crate) fn take_of_names(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).of_names)
    }
}

/// A worker's place at the broker's. Dropped, the broker forgets it; what had been handed over is the worker's.
pub(crate) struct Seat {
    number: u64,
    broker: Arc<Broker>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.broker.order(Order::Leave(self.number));
    }
}

/// Begins to answer a worker with these rights: the seat, and the worker's end of the pair.
///
/// # Errors
/// The system's: no descriptors, no thread.
pub(crate) fn seat(rights: Rights, refusals: Refusals) -> io::Result<(Seat, OwnedFd)> {
    static BROKER: LockByFork<Arc<Broker>> = LockByFork::new();
    let broker = {
        let mut slot = BROKER.lock();
        match &*slot {
            Some(broker) if broker.host == std::process::id() => Arc::clone(broker),
            // The first one; or this process is a fork of the one whose threads those are.
            _ => Arc::clone(slot.insert(Arc::new(Broker::start()?))),
        }
    };
    let (ours, theirs) = packet::pair()?;
    let number = {
        let mut next = broker.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        *next
    };
    broker.order(Order::Enter(number, ours, Box::new(rights), refusals));
    Ok((Seat { number, broker }, theirs))
}

/// A handle of the broker's thread.
struct Broker {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
    next: Mutex<u64>,
    /// The process that it is a thread of.
    host: u32,
}

enum Order {
    Enter(u64, OwnedFd, Box<Rights>, Refusals),
    Leave(u64),
    /// From a resolver's thread.
    Resolved(String, Result<Vec<Meaning>, ()>),
}

impl Broker {
    fn start() -> io::Result<Broker> {
        // Not bounded by itself: an order is a start or an end of a worker, or an answer to one of the bounded lookups.
        let (orders, taken) = unbounded();
        let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (lookups, asked) = bounded::<String>(NAMES_WAITING_MAX);
        for number in 0..RESOLVERS {
            let (asked, orders, wake) = (asked.clone(), orders.clone(), Arc::clone(&wake));
            let thread = std::thread::Builder::new().name(format!("rollcage-name-{number}"));
            thread.spawn(move || resolve_names(&asked, &orders, &wake))?;
        }
        let desk = Desk::new(Arc::clone(&wake), taken, lookups)?;
        std::thread::Builder::new().name("rollcage-broker".to_owned()).spawn(move || desk.run())?;
        Ok(Broker { orders, wake, next: Mutex::new(0), host: std::process::id() })
    }

    fn order(&self, order: Order) {
        // A broker that is gone answers nobody: its guests are refused.
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// A resolver's thread: the system's own lookup, as every program's.
fn resolve_names(asked: &Receiver<String>, orders: &Sender<Order>, wake: &OwnedFd) {
    while let Ok(name) = asked.recv() {
        let found = (name.as_str(), 0u16).to_socket_addrs();
        let mut meanings: Vec<Meaning> = Vec::new();
        for address in found.iter().flat_map(|found| found.clone()) {
            let address = address.ip().to_canonical();
            if meanings.iter().all(|known| known.address != address) && meanings.len() < ADDRESSES_MAX {
                meanings.push(Meaning { address, reach: Reach::of(address) });
            }
        }
        let answer = if found.is_ok() { Ok(meanings) } else { Err(()) };
        if orders.send(Order::Resolved(name, answer)).is_err() {
            return;
        }
        let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
    }
}

/// One env as the broker keeps it.
struct Guest {
    socket: LookedAt,
    rights: Rights,
    refusals: Refusals,
    /// The numbers of the sockets that it has.
    open: Vec<u32>,
    /// Requests under way.
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

enum Request {
    Resolve { id: u32, name: String },
    Connect { id: u32, to: SocketAddr, options: SocketOptions },
}

/// What an event is of: two bits below the number.
const GUEST: u64 = 0;
const CONNECTION: u64 = 1;
const WAKE: u64 = u64::MAX;

/// The thread's own state.
struct Desk {
    epoll: Epoll,
    wake: LookedAt,
    orders: Receiver<Order>,
    lookups: Sender<String>,
    guests: HashMap<u64, Guest>,
    connecting: HashMap<u64, Connecting>,
    /// Names that a resolver has, and since when.
    looking: HashMap<String, Instant>,
    waiting: Vec<Waiting>,
    /// The last number given to a connection or a handle.
    next: u64,
}

impl Desk {
    fn new(wake: Arc<OwnedFd>, orders: Receiver<Order>, lookups: Sender<String>) -> io::Result<Desk> {
        let epoll = Epoll::new()?;
        Ok(Desk {
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

    fn run(mut self) {
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

    /// Closes a guest's socket: whatever it asks from now on fails.
    fn forget(&mut self, number: u64) {
        self.guests.remove(&number);
        self.connecting.retain(|_, connecting| connecting.guest != number);
        self.waiting.retain(|waiting| waiting.guest != number);
    }

    /// Takes what a worker asks, at most [`MESSAGES_PER_LOOK`] messages: then it is the others' turn, and what is left is
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
            // Taken before.
            ToBroker::Closed { .. } | ToBroker::Refused { .. } => {}
        }
    }

    /// Does what was asked, or has names looked up first.
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

    /// A resolver's answer: whoever waited for it goes on.
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
                // Not remembered: it may be there the next time.
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
                // With the names there are: one that has no address grants nothing.
                (true, Request::Connect { id, to, options }) => self.connect(waiting.guest, id, to, options),
            }
        }
    }

    /// Tells what a granted name means, of that what the grants let it mean.
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

    /// Connects, if it is granted.
    fn connect(&mut self, number: u64, id: u32, to: SocketAddr, options: SocketOptions) {
        let Some(guest) = self.guests.get(&number) else { return };
        // Not what the guest's bytes say beside: a scope, a flow. And no IPv4 address in disguise, which the kernel would
        // connect to as such.
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

    /// A connection is made, or is not.
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
        // A simulator's messages are small, and each is waited for.
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

    /// A connected socket for each granted peer of a family, all of one local port: the kernel gives a datagram to the
    /// socket that is connected to its sender, and one from anybody else to nobody.
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
                // What came between the two from anybody.
                while rustix::net::recv(&socket, &mut [0u8; 1], RecvFlags::DONTWAIT).is_ok() {}
                Ok(socket)
            };
            match made() {
                Ok(socket) => {
                    // The port is the kernel's choice the first time; the address stays the one asked for, since each
                    // peer may be reached from another.
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

    /// Refuses; with `what`, the operator is told.
    fn refuse(&mut self, number: u64, id: u32, why: SocketRefusal, what: Option<String>) {
        if let (Some(guest), Some(what)) = (self.guests.get(&number), what) {
            guest.refusals.add(what);
        }
        self.say(number, &FromBroker::Refused { id, why }, &[]);
    }

    /// Sends an answer. A worker that does not read its answers gets no more.
    fn say(&mut self, number: u64, answer: &FromBroker, descriptors: &[BorrowedFd<'_>]) {
        let Some(guest) = self.guests.get_mut(&number) else { return };
        guest.asking = guest.asking.saturating_sub(1);
        if packet::send(guest.socket.as_fd(), answer, descriptors, SendFlags::DONTWAIT).is_err() {
            self.forget(number);
        }
    }

    /// Ends what has taken too long.
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
        // One that a resolver never comes back from may be asked for again.
        self.looking.retain(|_, since| now.duration_since(*since) < 2 * RESOLVE_TIMEOUT);
    }
}

impl Request {
    fn id(&self) -> u32 {
        match self {
            Request::Resolve { id, .. } | Request::Connect { id, .. } => *id,
        }
    }
}

impl Rights {
    /// Whether any socket was granted.
    pub(crate) fn is_something(&self) -> bool {
        !(self.connect.is_empty() && self.listen.is_empty() && self.udp.is_empty())
    }

    /// Granted names that must be known before a request can be judged.
    fn names_missing(&self, request: &Request) -> Vec<String> {
        let wanted: Vec<&String> = match request {
            Request::Resolve { name, .. } => {
                let lower = name.to_ascii_lowercase();
                self.connect
                    .iter()
                    .filter_map(|peer| match &peer.host {
                        Host::Name(granted) if *granted == lower => Some(granted),
                        _ => None,
                    })
                    .collect()
            }
            Request::Connect { to, .. } => {
                if self.connect.iter().any(|peer| peer.port == to.port() && peer.host == Host::Address(to.ip())) {
                    return Vec::new();
                }
                self.connect
                    .iter()
                    .filter_map(|peer| match &peer.host {
                        Host::Name(granted) if peer.port == to.port() => Some(granted),
                        _ => None,
                    })
                    .collect()
            }
        };
        let mut missing: Vec<String> =
            wanted.into_iter().filter(|name| self.names.get(name).is_none()).cloned().collect();
        missing.sort();
        missing.dedup();
        missing
    }

    /// Whether an address is one that was granted, or one that a granted name was found to mean and may mean.
    fn may_connect(&self, to: SocketAddr) -> bool {
        !to.ip().is_unspecified()
            && self.connect.iter().filter(|peer| peer.port == to.port()).any(|peer| match &peer.host {
                Host::Address(address) => *address == to.ip(),
                Host::Name(_) => self.meaning(peer, to.ip()).is_some_and(|found| peer.objection(found).is_none()),
            })
    }

    /// Why a granted name that means this address may not mean it.
    fn objection_to(&self, to: SocketAddr) -> Option<String> {
        let peers = self.connect.iter().filter(|peer| peer.port == to.port());
        peers.filter_map(|peer| peer.objection(self.meaning(peer, to.ip())?)).next()
    }

    /// What an address is to a peer's name, if the name was found to mean it.
    fn meaning(&self, peer: &Peer, address: IpAddr) -> Option<Meaning> {
        let Host::Name(name) = &peer.host else { return None };
        self.names.get(name)?.into_iter().find(|meaning| meaning.address == address)
    }
}

fn new_socket(of: SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let family = if of.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

fn begin_connect(to: SocketAddr, options: SocketOptions) -> rustix::io::Result<OwnedFd> {
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

fn local_address(socket: BorrowedFd<'_>) -> SocketAddr {
    let unknown = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
    rustix::net::getsockname(socket).ok().and_then(|address| SocketAddr::try_from(address).ok()).unwrap_or(unknown)
}

fn why(error: Errno) -> SocketRefusal {
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A worker's side of the conversation.
    struct Asker {
        _seat: Seat,
        socket: OwnedFd,
        refusals: Refusals,
    }

    impl Asker {
        fn with(rights: Rights) -> Asker {
            let refusals = Refusals::default();
            let (seat, socket) = seat(rights, refusals.clone()).unwrap();
            Asker { _seat: seat, socket, refusals }
        }

        fn say(&self, message: &ToBroker) {
            packet::send(self.socket.as_fd(), message, &[], SendFlags::empty()).unwrap();
        }

        /// The next answer; none: the broker has hung up.
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
        // Numbers that are nobody's free nothing.
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
        // Two connections fill its queue, which nobody empties: the next ones stay under way.
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
            // Whatever it was told before: the end comes.
            while asker.hear().is_some() {}
            assert!(
                asker.refusals.list().iter().any(|refused| refused.what.ends_with("its sockets end here")),
                "{number}"
            );
        }
        drop(waiting);
        // Others are answered as before.
        let asker = Asker::with(rights(Vec::new()));
        assert_eq!(refused(asker.connect("127.0.0.1:1".parse().unwrap())), SocketRefusal::Denied);
    }

    #[test]
    fn a_guest_that_is_refused_over_and_over_keeps_nobody_waiting() {
        let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap());
        let (orders, taken) = unbounded();
        let (lookups, _asked) = bounded(1);
        let mut desk = Desk::new(wake, taken, lookups).unwrap();
        let refusals = Refusals::default();
        let (ours, worker) = packet::pair().unwrap();
        orders.send(Order::Enter(1, ours, Box::new(rights(Vec::new())), refusals.clone())).unwrap();
        desk.take_orders();
        // A request that is answered with a refusal, and the news of one of the worker's own, which is not answered.
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
        // It resolves to something else the second time.
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
            // Who wants one of these grants the address.
            ("169.254.169.254", "sim.example", false, false),
            ("100.100.100.200", "sim.example", false, false),
            ("168.63.129.16", "sim.example", false, false),
            ("fd00:ec2::254", "sim.example", false, false),
            ("0.0.0.0", "sim.example", false, false),
            ("ff02::1", "sim.example", false, false),
            // Names of this machine stay here.
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
                // It cannot be looked up either, and the operator is told what would allow it.
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
        // Private is the port that was granted so, and no other.
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
