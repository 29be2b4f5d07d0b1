//! Which network an IP address belongs to. An operator who grants a *name* means a certain kind of peer. Other people
//! control the DNS, and can make the name mean any address: this machine, a machine of the operator's network, a
//! cloud's metadata service.
//!
//! Knows addresses, and asks the kernel which of them belong to this machine. Decides nothing: the broker decides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The network that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A host on the Internet.
    Public,
    /// This machine: loopback, or an address of one of its interfaces.
    Machine,
    /// A host in a network that is not the Internet: a LAN, a container network, a VPN, a provider's network.
    Private,
    /// An address that no name should mean; the text says what the address is.
    Never(&'static str),
}

const NOBODY: Reach = Reach::Never("nobody's address");
const MANY: Reach = Reach::Never("an address of many machines");
const LINK_LOCAL: Reach = Reach::Never("a link-local address, as those of most metadata services are");
const METADATA: Reach = Reach::Never("the address of a cloud's metadata service");

/// IPv4 metadata services that are not link-local: those of Alibaba Cloud, Azure, Oracle Cloud Classic.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// IPv6 metadata services: those of Google Cloud, Oracle Cloud, Scaleway. Those of AWS are a network, see [`of_v6`].
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

impl Reach {
    /// The network that this address belongs to. The kernel is asked, so two calls may differ: keep the answer.
    pub(crate) fn of(address: IpAddr) -> Reach {
        match Reach::by_number(address) {
            Reach::Public | Reach::Private if is_own(address) => Reach::Machine,
            reach => reach,
        }
    }

    /// The network as the address alone says, the same on every machine.
    fn by_number(address: IpAddr) -> Reach {
        match address.to_canonical() {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }
}

fn of_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        _ if METADATA_V4.contains(&address) => METADATA,
        // Some systems take all of these for this machine.
        [0, ..] => NOBODY,
        [169, 254, ..] => LINK_LOCAL,
        [127, ..] => Reach::Machine,
        [224..=239, ..] | [255, 255, 255, 255] => MANY,
        // A LAN's; a provider's, which VPNs use too; assigned to a protocol; for benchmarks, which proxies use for
        // their own names; reserved, which some networks use like a LAN's.
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0, _]
        | [198, 18..=19, ..]
        | [240..=255, ..] => Reach::Private,
        _ => Reach::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Reach {
    // A translator or a tunnel sends the packet to the IPv4 address inside. Over there this machine's loopback address
    // means another machine.
    let inside = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        match of_v4(Ipv4Addr::new(a, b, c, d)) {
            Reach::Machine => Reach::Private,
            reach => reach,
        }
    };
    match address.segments() {
        _ if METADATA_V6.contains(&address) => METADATA,
        // AWS: the metadata service, and other services of an instance.
        [0xfd00, 0xec2, ..] => METADATA,
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Machine,
        // Unspecified, and an old notation for IPv4 addresses.
        [0, 0, 0, 0, 0, 0, ..] => NOBODY,
        [0xff00..=0xffff, ..] => MANY,
        [0xfe80..=0xfebf, ..] => LINK_LOCAL,
        // Unique local; site-local, its predecessor.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Reach::Private,
        // NAT64, SIIT, 6to4, Teredo.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => inside(high, low),
        [0x2002, high, low, ..] => inside(high, low),
        [0x2001, 0, .., high, low] => inside(!high, !low),
        // A network's own NAT64.
        [0x64, 0xff9b, 1, .., high, low] => match inside(high, low) {
            Reach::Public => Reach::Private,
            reach => reach,
        },
        _ => Reach::Public,
    }
}

/// Whether an address belongs to one of this machine's interfaces. If so, a packet to the address would also have it as
/// its source. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = || {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(SocketAddr::new(address, 9))?;
        socket.local_addr()
    };
    source().is_ok_and(|source: SocketAddr| source.ip() == address)
}

/// Whether a name means this machine by definition: `localhost`, a name under it, or this machine's own name.
pub(crate) fn is_own_name(name: &str) -> bool {
    is_localhost(name) || name.eq_ignore_ascii_case(&rustix::system::uname().nodename().to_string_lossy())
}

/// Whether a name is `localhost` or under it: such a name always means this machine (RFC 6761).
pub(crate) fn is_localhost(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_that_are_not_link_local_are_no_names() {
        for address in [
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fe80::a9fe:a9fe",
            // The same addresses, written another way.
            "::ffff:169.254.169.254",
            "::ffff:168.63.129.16",
            "64:ff9b::169.254.169.254",
            "64:ff9b::100.100.100.200",
            "64:ff9b:1::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "2002:a9fe:a9fe::1",
            "2001:0:1:2:3:4:5601:5601",
        ] {
            assert!(matches!(Reach::of(address.parse().unwrap()), Reach::Never(_)), "{address}");
        }
    }

    #[test]
    fn addresses_of_no_one_machine_are_no_names() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "::7f00:1",
            "::10.0.0.1",
            "::ffff:0.0.0.0",
            "ff02::1",
            "fe80::1",
            "64:ff9b::0.0.0.0",
            "64:ff9b::224.0.0.1",
        ] {
            assert!(matches!(Reach::of(address.parse().unwrap()), Reach::Never(_)), "{address}");
        }
    }

    #[test]
    fn addresses_beside_the_internet_are_private() {
        for address in [
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "198.19.255.255",
            "240.0.0.1",
            "255.255.255.254",
            "fc00::1",
            "fdff::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::192.0.2.1",
            "2002:c0a8:1::1",
            "2002:7f00:1::1",
            "2001:0:1:2:3:4:f5ff:fffe",
        ] {
            assert_eq!(Reach::by_number(address.parse().unwrap()), Reach::Private, "{address}");
        }
        for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(Reach::of(address.parse().unwrap()), Reach::Machine, "{address}");
        }
    }

    #[test]
    fn the_rest_is_the_internet() {
        for address in [
            "1.1.1.1",
            "172.15.255.255",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "192.169.0.1",
            "2001:4860::8888",
            "2a00::1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert_eq!(Reach::by_number(address.parse().unwrap()), Reach::Public, "{address}");
        }
    }

    /// Services that listen on all interfaces behind a firewall are meant for this machine only.
    #[test]
    fn an_address_of_an_interface_is_the_machines_own() {
        // The source address of a packet from this machine to the Internet, if it has a route there.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_err() {
            return;
        }
        let own = socket.local_addr().unwrap().ip();
        assert!(own.is_unspecified() || Reach::of(own) == Reach::Machine, "{own}");
        assert_eq!(Reach::of("192.0.2.1".parse().unwrap()), Reach::Public);
    }

    #[test]
    fn names_of_this_machine() {
        let node = rustix::system::uname().nodename().to_string_lossy().to_uppercase();
        for name in ["localhost", "LocalHost", "sim.localhost", &node] {
            assert!(is_own_name(name), "{name}");
        }
        for name in ["localhost.example", "notlocalhost", "example.com"] {
            assert!(!is_own_name(name), "{name}");
        }
    }
}
