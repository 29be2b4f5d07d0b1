//! Whether a process listens on a port, as the kernel's tables say. This never connects: a server that takes one client
//! would take the connection for its client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The state LISTEN in the table.
const LISTEN: &str = "0A";

/// Whether a process listens on the port, at this address or at all addresses.
pub(super) fn listens(ip: IpAddr, port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().any(|path| {
        let table = std::fs::read_to_string(path).unwrap_or_default();
        table.lines().filter_map(listener).any(|(at, on)| on == port && (at == ip || at.is_unspecified()))
    })
}

/// The address in a line of the table, if the line is a listener's.
fn listener(line: &str) -> Option<(IpAddr, u16)> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    // The table prints 32 bits at a time, each as a number in this machine's byte order.
    let word = |index: usize| u32::from_str_radix(address.get(8 * index..8 * index + 8)?, 16).ok();
    let ip = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes()))
    } else {
        let mut bytes = [0; 16];
        for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
            chunk.copy_from_slice(&word(index)?.to_ne_bytes());
        }
        IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
    };
    Some((ip, port))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_of_the_table_is_an_address() {
        for (line, address) in [
            ("   0: 0100007F:0C1C 00000000:0000 0A 00000000:00000000", Some(("127.0.0.1", 3100))),
            ("   0: 00000000:0016 00000000:0000 0A 00000000:00000000", Some(("0.0.0.0", 22))),
            ("   0: 0100007F:0C1C 0100007F:0016 01 00000000:00000000", None),
            (
                "   0: 00000000000000000000000001000000:0C1C 00000000000000000000000000000000:0000 0A 0:0",
                Some(("::1", 3100)),
            ),
            ("  sl  local_address rem_address   st tx_queue rx_queue", None),
            ("", None),
        ] {
            assert_eq!(listener(line), address.map(|(ip, port)| (ip.parse().unwrap(), port)), "{line}");
        }
    }

    #[test]
    fn a_listener_is_seen_and_not_disturbed() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(listens("127.0.0.1".parse().unwrap(), port));
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            drop(listener);
            assert!(!listens("127.0.0.1".parse().unwrap(), port));
        }
    }
}
