//! Who may talk to whom: rights by peer, the addresses of names, refusals, and connections handed over. Decides on
//! addresses; opens nothing.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::outside::broker::reach::{Reach, is_localhost, is_own_name};
use crate::wire::broker::SocketOptions;

/// Different refusals that are remembered of one env. Further ones are only counted.
pub(super) const REFUSALS_MAX: usize = 32;

/// Refusals of granted names that an error shows.
pub(super) const NAMES_TOLD_MAX: usize = 4;

/// Characters of a name that a refusal shows.
pub(super) const NAME_SHOWN_MAX: usize = 100;

/// The host that a guest may connect to.
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
    /// The peer's host.
    pub(crate) host: Host,
    /// The peer's port.
    pub(crate) port: u16,
    /// Whether a name may mean this machine, or an address of a private network.
    pub(crate) private: bool,
    /// The text of the grant that would let the name mean such an address, to be shown.
    pub(crate) with_private: String,
}

impl Peer {
    /// Whether the grant of this peer has this name, in lower case.
    pub(super) fn is_named(&self, name: &str) -> bool {
        matches!(&self.host, Host::Name(granted) if granted == name)
    }

    /// The reason why the name may not mean an address, or none if it may. Other people can change the addresses of a
    /// name. So a name without `private` may mean an Internet host only, or this machine if the name means it by
    /// definition.
    pub(super) fn objection(&self, meaning: Meaning) -> Option<String> {
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

/// An address that a name resolved to, and the network that the address belonged to then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) address: IpAddr,
    pub(super) reach: Reach,
}

/// What one env may use of the network. The table is the broker's own: nothing in it comes from a worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights {
    /// Peers that the env may connect to by TCP.
    pub(crate) connect: Vec<Peer>,
    /// Addresses where the env may listen by TCP.
    pub(crate) listen: Vec<SocketAddr>,
    /// Peers of UDP, to and from.
    pub(crate) udp: Vec<SocketAddr>,
    /// Sockets that may be open at once.
    pub(crate) count_max: usize,
    /// The addresses of names, for all envs of a run.
    pub(crate) names: Names,
    /// Open connections of the host, for the env's next connect to their peer.
    pub(crate) handed: Handed,
}

/// Addresses of granted names. Each name is looked up once; every env of a run and all its instances use that answer.
/// So a name cannot mean one address at its lookup and another at the connect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Mutex<HashMap<String, Vec<Meaning>>>>);

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<Vec<Meaning>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn pin(&self, name: &str, meanings: &[Meaning]) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.entry(name.to_owned()).or_insert_with(|| meanings.to_vec());
    }
}

/// Open connections that a host gives to one env, with their peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handed(Arc<Mutex<VecDeque<(SocketAddr, OwnedFd)>>>);

impl Handed {
    /// Adds a connection.
    pub(crate) fn add(&self, peer: SocketAddr, connection: OwnedFd) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((peer, connection));
    }

    pub(super) fn take(&self, to: SocketAddr) -> Option<OwnedFd> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = all.iter().position(|(peer, _)| *peer == to)?;
        all.remove(index).map(|(_, connection)| connection)
    }
}

/// Something that an env asked for and was refused, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// What was refused: `tcp-connect 10.0.0.1:80`.
    pub what: String,
    /// How often it was refused.
    pub times: u64,
}

/// What one env was refused: the first [`REFUSALS_MAX`] different refusals, and the number of others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(Arc<Mutex<RefusalsOfEnv>>);

#[derive(Debug, Default)]
pub(super) struct RefusalsOfEnv {
    each: Vec<Refused>,
    /// Refusals of granted names that no error has shown yet, each once: the operator can fix these.
    of_names: Vec<String>,
}

impl Refusals {
    pub(super) fn add(&self, what: String) {
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

    /// Adds a refusal of a granted name.
    pub(super) fn add_of_name(&self, what: String) {
        self.add(what.clone());
        let of_names = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).of_names;
        if of_names.len() < NAMES_TOLD_MAX && !of_names.contains(&what) {
            of_names.push(what);
        }
    }

    /// All refusals, oldest first.
    pub(crate) fn list(&self) -> Vec<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).each.clone()
    }

    /// Refusals of granted names since the last call, for the error that follows from them.
    pub(crate) fn take_of_names(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).of_names)
    }
}

pub(super) enum Request {
    Resolve { id: u32, name: String },
    Connect { id: u32, to: SocketAddr, options: SocketOptions },
}

impl Request {
    pub(super) fn id(&self) -> u32 {
        match self {
            Request::Resolve { id, .. } | Request::Connect { id, .. } => *id,
        }
    }
}

impl Rights {
    /// Whether any socket is granted.
    pub(crate) fn is_something(&self) -> bool {
        !(self.connect.is_empty() && self.listen.is_empty() && self.udp.is_empty())
    }

    /// Granted names that must be resolved before a request can be judged.
    pub(super) fn names_missing(&self, request: &Request) -> Vec<String> {
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

    /// Whether an address is granted itself, or a granted name resolved to the address and may mean it.
    pub(super) fn may_connect(&self, to: SocketAddr) -> bool {
        !to.ip().is_unspecified()
            && self.connect.iter().filter(|peer| peer.port == to.port()).any(|peer| match &peer.host {
                Host::Address(address) => *address == to.ip(),
                Host::Name(_) => self.meaning(peer, to.ip()).is_some_and(|found| peer.objection(found).is_none()),
            })
    }

    /// The reason why a granted name that resolved to this address may not mean it.
    pub(super) fn objection_to(&self, to: SocketAddr) -> Option<String> {
        let peers = self.connect.iter().filter(|peer| peer.port == to.port());
        peers.filter_map(|peer| peer.objection(self.meaning(peer, to.ip())?)).next()
    }

    /// The meaning of an address for a peer's name, if the name resolved to that address.
    fn meaning(&self, peer: &Peer, address: IpAddr) -> Option<Meaning> {
        let Host::Name(name) = &peer.host else { return None };
        self.names.get(name)?.into_iter().find(|meaning| meaning.address == address)
    }
}
