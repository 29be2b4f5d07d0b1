//! Whether a process listens on a port, as the kernel's tables say. This never connects: a server that takes one client
//! would take the connection for its client.

use std::net::IpAddr;

use procfs::net::{TcpNetEntry, TcpState};

/// Whether a process listens on the port, at this address or at all addresses.
pub(super) fn listens(ip: IpAddr, port: u16) -> bool {
    let is_it = |entry: TcpNetEntry| {
        let at = entry.local_address.ip().to_canonical();
        entry.state == TcpState::Listen && entry.local_address.port() == port && (at == ip || at.is_unspecified())
    };
    [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten().any(is_it)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_seen_and_not_disturbed() {
        for (address, seen_at) in
            [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "::1")]
        {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            assert!(listens(seen_at.parse().unwrap(), port), "{address}");
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            drop(listener);
            assert!(!listens(seen_at.parse().unwrap(), port), "{address}");
        }
    }
}
