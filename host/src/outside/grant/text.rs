//! Grants as text: which kinds there are, how each is written, and the error for a text that is not a grant.

use std::fmt;
use std::net::IpAddr;

use super::{Access, Grant, NAME_BYTES_MAX, Port, SHOWN_MAX};
use crate::error::UsageError;
use crate::outside::broker::Host;
use crate::spec::WantKind;
use crate::text::{nearest, plain};

/// A kind of grant: its word, its name in a plugin's wants, a description, and its form if it can be written as text.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) want: WantKind,
    pub(super) noun: &'static str,
    pub(super) form: Option<&'static str>,
}

/// Every kind. A kind without a form is described in a file only.
pub(super) const KINDS: [Kind; 8] = [
    Kind { name: "dir", want: WantKind::Directory, noun: "a directory", form: Some("dir=HOST:GUEST[:ro|:rw]") },
    Kind { name: "clock", want: WantKind::RealClock, noun: "the real clock", form: Some("clock=real") },
    Kind { name: "random", want: WantKind::RealRandom, noun: "real randomness", form: Some("random=real") },
    Kind {
        name: "tcp-connect",
        want: WantKind::TcpConnect,
        noun: "a TCP connection",
        form: Some("tcp-connect=HOST:PORT[,private]"),
    },
    Kind {
        name: "tcp-listen",
        want: WantKind::TcpListen,
        noun: "a listening TCP socket",
        form: Some("tcp-listen=ADDR:PORT"),
    },
    Kind { name: "udp", want: WantKind::Udp, noun: "a UDP peer", form: Some("udp=ADDR:PORT") },
    Kind { name: "lease", want: WantKind::Lease, noun: "a leased port", form: Some("lease=NAME:LO-HI") },
    Kind { name: "service", want: WantKind::Service, noun: "a process beside it", form: None },
];

/// ``grant `…`: why``.
pub(super) fn refuse(text: &str, why: impl fmt::Display) -> UsageError {
    UsageError::new(format!("grant `{}`: {why}", plain(text, SHOWN_MAX)))
}

/// The kinds that this version has, as `` `a`, `b` and `c` ``.
pub(super) fn forms() -> String {
    let forms: Vec<String> = KINDS.iter().filter_map(|kind| kind.form).map(|form| format!("`{form}`")).collect();
    match forms.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => forms.concat(),
    }
}

/// The error text for a kind that does not exist, or not in this version.
pub(super) fn no_kind(name: &str) -> String {
    let names = KINDS.map(|kind| kind.name);
    let shown = plain(name, SHOWN_MAX);
    if names.contains(&name) {
        return format!("`{shown}` has a section of its own, `[[{shown}]]`");
    }
    match nearest(name, &names) {
        Some(near) => format!("unknown kind `{shown}`; did you mean `{near}`?"),
        None => format!("unknown kind `{shown}`"),
    }
}

pub(super) fn hint_of_forms() -> String {
    format!("this rollcage grants {}", forms())
}

/// Parses `HOST:GUEST[:ro|:rw]`. GUEST has no colon, so the last colon before the access divides them, and HOST may
/// have colons.
pub(super) fn parse_dir(text: &str, spec: &str) -> Result<Grant, UsageError> {
    let wrong = |why: String| refuse(text, why).hint("for example `dir=/srv/levels:/levels`, or `dir=out:/out:rw`");
    let (paths, access) = match (spec.strip_suffix(":ro"), spec.strip_suffix(":rw")) {
        (Some(paths), _) => (paths, Access::ReadOnly),
        (_, Some(paths)) => (paths, Access::ReadWrite),
        (None, None) => (spec, Access::default()),
    };
    let Some((host, guest)) = paths.rsplit_once(':') else {
        return Err(wrong("expected HOST:GUEST; the path on the guest's side is missing".to_owned()));
    };
    if host.is_empty() {
        return Err(wrong("expected HOST:GUEST; the folder on the host's side is missing".to_owned()));
    }
    if !guest.starts_with('/') {
        let what = if host.contains(":/") { "`ro`, `rw` or " } else { "" };
        let guest = plain(guest, SHOWN_MAX);
        return Err(wrong(format!("expected {what}an absolute path on the guest's side, got `{guest}`")));
    }
    Ok(Grant::Dir { host: host.into(), guest: guest.to_owned(), access })
}

/// Parses `HOST:PORT`: a name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn parse_host(text: &str, spec: &str) -> Result<(Host, Port), UsageError> {
    let wrong =
        |why: String| refuse(text, why).hint("for example `tcp-connect=127.0.0.1:3100`, or `tcp-connect=[::1]:80`");
    let Some((host, port)) = spec.rsplit_once(':') else {
        return Err(wrong("expected HOST:PORT; the port is missing".to_owned()));
    };
    let leased = port.strip_prefix('{').and_then(|port| port.strip_suffix('}'));
    let port = match (leased, port.parse::<u16>()) {
        (Some(leased), _) => {
            let (lease, offset) = leased.split_once('+').unwrap_or((leased, "0"));
            let offset = offset.parse::<u16>();
            let offset = offset
                .map_err(|_| wrong(format!("expected `{{NAME}}` or `{{NAME+1}}`, got `{}`", plain(port, SHOWN_MAX))))?;
            Port::Leased { lease: lease.to_owned(), offset }
        }
        (None, Ok(port)) if port > 0 => Port::Number(port),
        _ => return Err(wrong(format!("expected a port from 1 to 65535, got `{}`", plain(port, SHOWN_MAX)))),
    };
    if let Some(literal) = host.strip_prefix('[') {
        return match literal.strip_suffix(']').map(str::parse::<std::net::Ipv6Addr>) {
            Some(Ok(address)) => Ok((Host::Address(IpAddr::V6(address)), port)),
            _ => Err(wrong(format!("expected an IPv6 address in the brackets, got `{}`", plain(host, SHOWN_MAX)))),
        };
    }
    if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
        return Ok((Host::Address(IpAddr::V4(address)), port));
    }
    let is_name = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // Some resolvers take digits at the end for an address: 127.1, 0x7f000001.
    let by_digits = host.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
    if host.len() > NAME_BYTES_MAX || by_digits || !host.split('.').all(is_name) {
        let host = plain(host, SHOWN_MAX);
        return Err(wrong(format!("expected a name, an IPv4 address or an IPv6 address in brackets, got `{host}`")));
    }
    Ok((Host::Name(host.to_ascii_lowercase()), port))
}

/// Parses `ADDR:PORT`: as [`parse_host`], without names.
pub(super) fn parse_address(text: &str, spec: &str) -> Result<(IpAddr, Port), UsageError> {
    match parse_host(text, spec)? {
        (Host::Address(address), port) => Ok((address, port)),
        (Host::Name(name), _) => Err(refuse(text, format!("expected an address, got the name `{name}`"))),
    }
}

/// Whether an address can be a peer's; the error says why not.
pub(super) fn check_peer(address: IpAddr) -> Result<(), String> {
    if address.to_canonical() != address {
        return Err(format!("`{address}` is an IPv4 address in disguise; write `{}`", address.to_canonical()));
    }
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    match address {
        _ if address.is_unspecified() => Err(format!("`{address}` is nobody's address: name the one that is meant")),
        _ if address.is_multicast() || broadcast => Err(format!("`{address}` is many; one grant is one peer")),
        _ => Ok(()),
    }
}
