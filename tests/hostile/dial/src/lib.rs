//! Goal: reach what was not granted: other hosts, other ports, other names, by another spelling of one that was.
//! Method: connect to each of a list by TCP, send to each of a list by UDP, bind each of a list, look up each of a list of
//! names; fail unless the answer is that access is denied (or, where the interface itself has no such address, that the
//! argument is invalid). Without a grant all of it is denied; `tests/tests/sockets.rs` has runs where something is granted.

use std::net::{IpAddr, SocketAddr};

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::Deserialize;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress};
use wasip2::sockets::network::{Ipv4SocketAddress, Ipv6SocketAddress};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::{OutgoingDatagram, UdpSocket};
use wasip2::sockets::udp_create_socket::create_udp_socket;

/// How often something is asked that says it needs more time.
const TURNS: u32 = 1_000;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// `ADDRESS:PORT`, or `NAME:PORT`, to connect to.
    connect: Vec<String>,
    /// `ADDRESS:PORT` to send a datagram to, with the socket connected and without.
    send: Vec<String>,
    /// `ADDRESS:PORT` to bind, for TCP and for UDP.
    bind: Vec<String>,
    /// Names to look up.
    names: Vec<String>,
}

impl Default for Details {
    fn default() -> Self {
        let all = |of: &[&str]| of.iter().map(|&text| text.to_owned()).collect();
        Self {
            connect: all(&[
                "127.0.0.1:1",
                "127.0.0.1:22",
                "127.0.0.1:65535",
                "127.0.0.2:22",
                "127.255.255.254:80",
                "0.0.0.0:22",
                "255.255.255.255:80",
                "224.0.0.1:80",
                "169.254.169.254:80",
                "10.0.0.1:80",
                "192.0.2.1:80",
                "127.0.0.1:0",
                "[::1]:22",
                "[::]:22",
                "[::ffff:127.0.0.1]:22",
                "[::ffff:169.254.169.254]:80",
                "[::127.0.0.1]:22",
                "[64:ff9b::7f00:1]:22",
                "[fe80::1]:80",
                "[fd00:ec2::254]:80",
                "localhost:22",
                "example.com:80",
            ]),
            send: all(&[
                "127.0.0.1:53",
                "127.0.0.1:65535",
                "0.0.0.0:53",
                "255.255.255.255:67",
                "224.0.0.251:5353",
                "192.0.2.1:53",
                "169.254.169.254:123",
                "[::1]:53",
                "[::ffff:127.0.0.1]:53",
                "[ff02::fb]:5353",
            ]),
            bind: all(&[
                "127.0.0.1:22",
                "127.0.0.1:8080",
                "127.0.0.2:8080",
                "0.0.0.0:8080",
                "[::1]:8080",
                "[::]:8080",
                "[::ffff:127.0.0.1]:8080",
            ]),
            names: all(&[
                "localhost",
                "LOCALHOST",
                "localhost.",
                "example.com",
                "metadata.google.internal",
                "127.0.0.1",
            ]),
        }
    }
}

struct Dial;

impl Mischief for Dial {
    type Details = Details;

    const NAME: &'static str = "dial";
    const SUMMARY: &'static str = "Connects, sends and listens where it may not";

    fn strike(details: &Details) -> Result<(), EnvError> {
        for target in &details.connect {
            match target.parse() {
                Ok(address) => refused("connecting to", target, may_be_invalid(address), connect(address))?,
                Err(_) => by_name(target)?,
            }
        }
        for target in &details.send {
            let address = parse(target)?;
            refused("sending to", target, may_be_invalid(address), send(address, false))?;
            refused("sending, connected, to", target, may_be_invalid(address), send(address, true))?;
        }
        for target in &details.bind {
            let address = parse(target)?;
            // Any address of one's own may be bound, so the unspecified one is no mistake here.
            refused("listening on", target, is_mapped(address), listen(address))?;
            refused("binding, for UDP,", target, is_mapped(address), bind_udp(address).map(drop))?;
        }
        for name in &details.names {
            refused("looking up", name, false, look_up(name).map(drop))?;
        }
        Ok(())
    }
}

fn parse(target: &str) -> Result<SocketAddr, EnvError> {
    target.parse().map_err(|_| EnvError::failed(format!("{target} is no address with a port")))
}

/// Fails unless this was denied.
fn refused(what: &str, target: &str, invalid: bool, result: Result<(), ErrorCode>) -> Result<(), EnvError> {
    match result {
        Err(ErrorCode::AccessDenied) => Ok(()),
        Err(ErrorCode::InvalidArgument) if invalid => Ok(()),
        Err(other) => Err(EnvError::failed(format!("{what} {target}: {}", other.name()))),
        Ok(()) => Err(EnvError::failed(format!("{what} {target} is possible"))),
    }
}

/// Whether `wasi:sockets` itself says that nobody can be reached there.
fn may_be_invalid(address: SocketAddr) -> bool {
    address.port() == 0 || address.ip().is_unspecified() || is_mapped(address)
}

/// Whether it is IPv4, written as IPv6.
fn is_mapped(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// A name that leads nowhere is as good as one that may not be asked for; where it leads somewhere, that is denied.
fn by_name(target: &str) -> Result<(), EnvError> {
    let wrong = || EnvError::failed(format!("{target} is no name with a port"));
    let (name, port) = target.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    match look_up(name) {
        Ok(addresses) => addresses.into_iter().try_for_each(|ip| {
            let address = SocketAddr::new(ip, port);
            refused("connecting to", &format!("{target}, {address},"), may_be_invalid(address), connect(address))
        }),
        Err(error) => refused("looking up", target, false, Err(error)),
    }
}

/// Asks again while the answer is that it would block.
fn wait<T>(mut ask: impl FnMut() -> Result<T, ErrorCode>, block: impl Fn()) -> Result<T, ErrorCode> {
    for _ in 0..TURNS {
        match ask() {
            Err(ErrorCode::WouldBlock) => block(),
            answer => return answer,
        }
    }
    Err(ErrorCode::WouldBlock)
}

fn connect(address: SocketAddr) -> Result<(), ErrorCode> {
    let socket = create_tcp_socket(family(address))?;
    socket.start_connect(&instance_network(), wasi(address))?;
    wait(|| socket.finish_connect(), || socket.subscribe().block()).map(drop)
}

fn listen(address: SocketAddr) -> Result<(), ErrorCode> {
    let socket: TcpSocket = create_tcp_socket(family(address))?;
    socket.start_bind(&instance_network(), wasi(address))?;
    wait(|| socket.finish_bind(), || socket.subscribe().block())?;
    Ok(())
}

fn bind_udp(address: SocketAddr) -> Result<UdpSocket, ErrorCode> {
    let socket = create_udp_socket(family(address))?;
    socket.start_bind(&instance_network(), wasi(address))?;
    wait(|| socket.finish_bind(), || socket.subscribe().block())?;
    Ok(socket)
}

/// A datagram from a port that the system chooses.
fn send(address: SocketAddr, connected: bool) -> Result<(), ErrorCode> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    let socket = bind_udp(any)?;
    let remote = wasi(address);
    let (_incoming, outgoing) = socket.stream(connected.then_some(remote))?;
    let allowed = || match outgoing.check_send()? {
        0 => Err(ErrorCode::WouldBlock),
        _ => Ok(()),
    };
    wait(allowed, || outgoing.subscribe().block())?;
    let datagram = OutgoingDatagram { data: b"dial".to_vec(), remote_address: (!connected).then_some(remote) };
    match outgoing.send(&[datagram])? {
        0 => Err(ErrorCode::WouldBlock),
        _ => Ok(()),
    }
}

fn look_up(name: &str) -> Result<Vec<IpAddr>, ErrorCode> {
    let answers = resolve_addresses(&instance_network(), name)?;
    let mut addresses = Vec::new();
    while let Some(address) = wait(|| answers.resolve_next_address(), || answers.subscribe().block())? {
        addresses.push(match address {
            IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
            IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
        });
    }
    Ok(addresses)
}

fn family(address: SocketAddr) -> IpAddressFamily {
    if address.is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 }
}

fn wasi(address: SocketAddr) -> IpSocketAddress {
    let port = address.port();
    match address.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) })
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h] = ip.segments();
            let address = (a, b, c, d, e, f, g, h);
            IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 })
        }
    }
}

mischief::export!(Dial);
