//! Who may talk to whom: rights by peer, what names mean, and what was refused and handed over.
//! Decides on addresses; opens nothing.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::outside::broker::reach::{Reach, is_localhost, is_own_name};
use crate::wire::broker::SocketOptions;

/// Different refusals that are remembered of one env; of more, the number.
pub(super) const REFUSALS_MAX: usize = 32;

/// Refusals of granted names that an error tells.
pub(super) const NAMES_TOLD_MAX: usize = 4;

/// Characters of a name that a refusal shows.
pub(super) const NAME_SHOWN_MAX: usize = 100;

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
    pub(super) fn is_named(&self, name: &str) -> bool {
        matches!(&self.host, Host::Name(granted) if granted == name)
    }

    /// Why the name may not mean an address; none: it may. What answers to a name is somebody else's to change, so a name
    /// alone means a machine of the Internet, or by its definition this one.
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

/// An address that a name was found to mean, and whose it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) address: IpAddr,
    pub(super) reach: Reach,
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
    pub(super) fn get(&self, name: &str) -> Option<Vec<Meaning>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn pin(&self, name: &str, meanings: &[Meaning]) {
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

    pub(super) fn take(&self, to: SocketAddr) -> Option<OwnedFd> {
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
pub(super) struct RefusalsOfEnv {
    each: Vec<Refused>,
    /// Of granted names, each once: what the operator can mend, not told yet.
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

    /// Adds what a granted name may not mean.
    pub(super) fn add_of_name(&self, what: String) {
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
    /// Whether any socket was granted.
    pub(crate) fn is_something(&self) -> bool {
        !(self.connect.is_empty() && self.listen.is_empty() && self.udp.is_empty())
    }

    /// Granted names that must be known before a request can be judged.
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

    /// Whether an address is one that was granted, or one that a granted name was found to mean and may mean.
    pub(super) fn may_connect(&self, to: SocketAddr) -> bool {
        !to.ip().is_unspecified()
            && self.connect.iter().filter(|peer| peer.port == to.port()).any(|peer| match &peer.host {
                Host::Address(address) => *address == to.ip(),
                Host::Name(_) => self.meaning(peer, to.ip()).is_some_and(|found| peer.objection(found).is_none()),
            })
    }

    /// Why a granted name that means this address may not mean it.
    pub(super) fn objection_to(&self, to: SocketAddr) -> Option<String> {
        let peers = self.connect.iter().filter(|peer| peer.port == to.port());
        peers.filter_map(|peer| peer.objection(self.meaning(peer, to.ip())?)).next()
    }

    /// What an address is to a peer's name, if the name was found to mean it.
    fn meaning(&self, peer: &Peer, address: IpAddr) -> Option<Meaning> {
        let Host::Name(name) = &peer.host else { return None };
        self.names.get(name)?.into_iter().find(|meaning| meaning.address == address)
    }
}
