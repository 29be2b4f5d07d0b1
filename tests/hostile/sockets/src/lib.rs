//! Goal: reach the network through any function of `wasi:sockets`, asked for nicely or not.
//! Method: whatever makes a socket or a stream is called, and the env fails unless each says that access is denied. Whatever
//! takes one is called with a handle that was never given, one function a time.

use std::mem::ManuallyDrop;

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::Deserialize;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::{ResolveAddressStream, resolve_addresses};
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Network};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::{IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket};
use wasip2::sockets::udp_create_socket::create_udp_socket;

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// Which of the functions that take a handle is called with a forged one, from 0; -1: what needs none is called.
    #[schemars(range(min = -1))]
    forged: i64,
}

impl Default for Details {
    fn default() -> Self {
        Self { forged: -1 }
    }
}

struct Sockets;

impl Mischief for Sockets {
    type Details = Details;

    const NAME: &'static str = "sockets";
    const SUMMARY: &'static str = "Calls every function of wasi:sockets";

    fn strike(details: &Details) -> Result<(), EnvError> {
        let Ok(number) = usize::try_from(details.forged) else { return ask() };
        let Some((name, call)) = FORGED.get(number) else {
            return Err(EnvError::failed("there is no such function"));
        };
        call();
        Err(EnvError::failed(format!("{name} answered")))
    }
}

/// Calls what needs no socket.
fn ask() -> Result<(), EnvError> {
    fn denied<T>(what: &str, result: Result<T, ErrorCode>) -> Result<(), EnvError> {
        match result {
            Err(ErrorCode::AccessDenied) => Ok(()),
            Err(other) => Err(EnvError::failed(format!("{what}: {}", other.name()))),
            Ok(_) => Err(EnvError::failed(format!("{what} is there"))),
        }
    }
    // A network is a name for what is denied.
    let network = instance_network();
    for family in [IpAddressFamily::Ipv4, IpAddressFamily::Ipv6] {
        denied("a TCP socket", create_tcp_socket(family))?;
        denied("a UDP socket", create_udp_socket(family))?;
    }
    let long = "a".repeat(100_000);
    for name in ["localhost", "127.0.0.1", "::1", "example.com", "", ".", "\0", "a b", "xn--", "\u{202e}", &long] {
        denied("an address", resolve_addresses(&network, name))?;
    }
    Ok(())
}

/// Functions that take a handle, in the interfaces' order.
const FORGED: [(&str, fn()); 50] = [
    ("resolve-addresses", || ignore(resolve_addresses(&network(), "localhost"))),
    ("resolve-next-address", || ignore(lookup().resolve_next_address())),
    ("lookup.subscribe", || ignore(lookup().subscribe())),
    ("tcp.start-bind", || ignore(tcp().start_bind(&network(), HERE))),
    ("tcp.finish-bind", || ignore(tcp().finish_bind())),
    ("tcp.start-connect", || ignore(tcp().start_connect(&network(), HERE))),
    ("tcp.finish-connect", || ignore(tcp().finish_connect())),
    ("tcp.start-listen", || ignore(tcp().start_listen())),
    ("tcp.finish-listen", || ignore(tcp().finish_listen())),
    ("tcp.accept", || ignore(tcp().accept())),
    ("tcp.local-address", || ignore(tcp().local_address())),
    ("tcp.remote-address", || ignore(tcp().remote_address())),
    ("tcp.is-listening", || ignore(tcp().is_listening())),
    ("tcp.address-family", || ignore(tcp().address_family())),
    ("tcp.set-listen-backlog-size", || ignore(tcp().set_listen_backlog_size(1))),
    ("tcp.keep-alive-enabled", || ignore(tcp().keep_alive_enabled())),
    ("tcp.set-keep-alive-enabled", || ignore(tcp().set_keep_alive_enabled(true))),
    ("tcp.keep-alive-idle-time", || ignore(tcp().keep_alive_idle_time())),
    ("tcp.set-keep-alive-idle-time", || ignore(tcp().set_keep_alive_idle_time(1))),
    ("tcp.keep-alive-interval", || ignore(tcp().keep_alive_interval())),
    ("tcp.set-keep-alive-interval", || ignore(tcp().set_keep_alive_interval(1))),
    ("tcp.keep-alive-count", || ignore(tcp().keep_alive_count())),
    ("tcp.set-keep-alive-count", || ignore(tcp().set_keep_alive_count(1))),
    ("tcp.hop-limit", || ignore(tcp().hop_limit())),
    ("tcp.set-hop-limit", || ignore(tcp().set_hop_limit(1))),
    ("tcp.receive-buffer-size", || ignore(tcp().receive_buffer_size())),
    ("tcp.set-receive-buffer-size", || ignore(tcp().set_receive_buffer_size(1))),
    ("tcp.send-buffer-size", || ignore(tcp().send_buffer_size())),
    ("tcp.set-send-buffer-size", || ignore(tcp().set_send_buffer_size(1))),
    ("tcp.subscribe", || ignore(tcp().subscribe())),
    ("tcp.shutdown", || ignore(tcp().shutdown(ShutdownType::Both))),
    ("udp.start-bind", || ignore(udp().start_bind(&network(), HERE))),
    ("udp.finish-bind", || ignore(udp().finish_bind())),
    ("udp.stream", || ignore(udp().stream(Some(HERE)))),
    ("udp.local-address", || ignore(udp().local_address())),
    ("udp.remote-address", || ignore(udp().remote_address())),
    ("udp.address-family", || ignore(udp().address_family())),
    ("udp.unicast-hop-limit", || ignore(udp().unicast_hop_limit())),
    ("udp.set-unicast-hop-limit", || ignore(udp().set_unicast_hop_limit(1))),
    ("udp.receive-buffer-size", || ignore(udp().receive_buffer_size())),
    ("udp.set-receive-buffer-size", || ignore(udp().set_receive_buffer_size(1))),
    ("udp.send-buffer-size", || ignore(udp().send_buffer_size())),
    ("udp.set-send-buffer-size", || ignore(udp().set_send_buffer_size(1))),
    ("udp.subscribe", || ignore(udp().subscribe())),
    ("incoming.receive", || ignore(incoming().receive(1))),
    ("incoming.subscribe", || ignore(incoming().subscribe())),
    ("outgoing.check-send", || ignore(outgoing().check_send())),
    ("outgoing.send", || {
        let datagram = OutgoingDatagram { data: vec![1], remote_address: Some(HERE) };
        ignore(outgoing().send(&[datagram]));
    }),
    ("tcp, dropped", || ignore(ManuallyDrop::into_inner(tcp()))),
    ("outgoing.subscribe", || ignore(outgoing().subscribe())),
];

/// Whatever it is, and whether or not it is worth dropping.
fn ignore<T>(_answer: T) {}

const HERE: IpSocketAddress = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 80, address: (127, 0, 0, 1) });

/// A handle that nobody gave.
const HANDLE: u32 = 77;

macro_rules! forged {
    ($name:ident, $resource:ty) => {
        fn $name() -> ManuallyDrop<$resource> {
            // SAFETY: the bindings make a call with this number, and the host looks it up in the guest's own table: what
            // happens then is what this guest is for. It is not dropped, which would be another such call.
            #[expect(unsafe_code, reason = "safe bindings give no handle that is not there")]
            ManuallyDrop::new(unsafe { <$resource>::from_handle(HANDLE) })
        }
    };
}

forged!(network, Network);
forged!(lookup, ResolveAddressStream);
forged!(tcp, TcpSocket);
forged!(udp, UdpSocket);
forged!(incoming, IncomingDatagramStream);
forged!(outgoing, OutgoingDatagramStream);

mischief::export!(Sockets);
