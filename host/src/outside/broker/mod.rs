//! SANDBOX, part 3: the broker. Only the broker resolves, connects and listens for guests; it hands over the sockets
//! that it opened. A worker can do none of these.
//!
//! The broker has one thread for all envs of the host, and a few more that wait for the system's resolver. Each worker
//! has its own socket pair to the broker. The socket says which worker asks; the table that the host filled
//! ([`Rights`]) says what the worker may have. What a worker writes is only a claim: a malformed message, or too many
//! messages, ends the conversation, and that env gets no more sockets. Knows addresses and descriptors; knows nothing
//! of wasm.

mod reach;
mod rights;
mod sockets;
mod thread;

pub(crate) use rights::{Handed, Names, Peer, Refusals, Rights};
pub use rights::{Host, Refused};

use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::event::EventfdFlags;

use self::reach::Reach;
use self::rights::Meaning;
use self::thread::{ADDRESSES_MAX, BrokerThread, NAMES_WAITING_MAX, RESOLVERS};
use crate::process::child::LockByFork;
use crate::wire::packet;

/// A worker's registration with the broker. When it is dropped, the broker forgets the worker; sockets already handed
/// over stay the worker's.
pub(crate) struct Registration {
    number: u64,
    broker: Arc<Broker>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.broker.order(Order::Leave(self.number));
    }
}

/// Registers a worker with these rights. Returns the registration and the worker's end of the socket pair.
///
/// # Errors
/// The system's errors: no descriptors left, no thread.
pub(crate) fn register(rights: Rights, refusals: Refusals) -> io::Result<(Registration, OwnedFd)> {
    static BROKER: LockByFork<Arc<Broker>> = LockByFork::new();
    let broker = {
        let mut slot = BROKER.lock();
        match &*slot {
            Some(broker) if broker.host == std::process::id() => Arc::clone(broker),
            // No broker runs yet, or this process is a fork and the threads belong to its parent.
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
    Ok((Registration { number, broker }, theirs))
}

/// A handle of the broker's thread.
struct Broker {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
    next: Mutex<u64>,
    /// The process that the thread belongs to.
    host: u32,
}

enum Order {
    Enter(u64, OwnedFd, Box<Rights>, Refusals),
    Leave(u64),
    /// The answer of a resolver thread.
    Resolved(String, Result<Vec<Meaning>, ()>),
}

impl Broker {
    fn start() -> io::Result<Broker> {
        // The channel needs no bound: each order starts a worker, ends a worker, or answers one of the bounded lookups.
        let (orders, taken) = unbounded();
        let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (lookups, asked) = bounded::<String>(NAMES_WAITING_MAX);
        for number in 0..RESOLVERS {
            let (asked, orders, wake) = (asked.clone(), orders.clone(), Arc::clone(&wake));
            let thread = std::thread::Builder::new().name(format!("rollcage-name-{number}"));
            thread.spawn(move || resolve_names(&asked, &orders, &wake))?;
        }
        let broker_thread = BrokerThread::new(Arc::clone(&wake), taken, lookups)?;
        std::thread::Builder::new().name("rollcage-broker".to_owned()).spawn(move || broker_thread.run())?;
        Ok(Broker { orders, wake, next: Mutex::new(0), host: std::process::id() })
    }

    fn order(&self, order: Order) {
        // A broker that is gone answers nobody, so its guests are refused.
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// The loop of a resolver thread: it calls the system's own lookup, which every program uses.
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
