//! Networking as any program does it: the standard library, and nothing that knows of rollcage.

use std::fmt::{Debug, Display};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

/// How long a read waits that nothing answers.
const TIMEOUT: Duration = Duration::from_millis(50);
/// Turns of a loop that asks whether something has come, a millisecond each.
const POLLS: u32 = 5_000;

/// How the calls of a step went, in their order.
#[derive(Default)]
pub(crate) struct Report(pub(crate) Vec<(&'static str, Result<String>)>);

impl Report {
    fn done<T>(&mut self, call: &'static str, result: Result<T>) -> Option<T> {
        self.note(call, result, |_| "done".to_owned())
    }

    /// Of these `wasm32-wasip2` has some and some not, whatever the host does: that it is missing is no error.
    fn optional<T>(&mut self, call: &'static str, result: Result<T>) {
        match result {
            Err(error) if is_missing(&error) => self.0.push((call, Ok("not there".to_owned()))),
            other => drop(self.done(call, other)),
        }
    }

    fn text<T: Display>(&mut self, call: &'static str, result: Result<T>) -> Option<T> {
        self.note(call, result, T::to_string)
    }

    fn debug<T: Debug>(&mut self, call: &'static str, result: Result<T>) -> Option<T> {
        self.note(call, result, |value| format!("{value:?}"))
    }

    fn note<T>(&mut self, call: &'static str, result: Result<T>, show: impl FnOnce(&T) -> String) -> Option<T> {
        match result {
            Ok(value) => {
                self.0.push((call, Ok(show(&value))));
                Some(value)
            }
            Err(error) => {
                self.0.push((call, Err(error)));
                None
            }
        }
    }
}

/// Talks to a server that echoes.
pub(crate) fn tcp(address: &str, bytes: &[u8], report: &mut Report) {
    let addresses = report.debug("to_socket_addrs", address.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    let Some(mut stream) = report.done("connect", TcpStream::connect(address)) else { return };
    report.text("local_addr", stream.local_addr());
    report.text("peer_addr", stream.peer_addr());
    report.done("set_nodelay", stream.set_nodelay(true));
    report.text("nodelay", stream.nodelay());
    report.done("set_ttl", stream.set_ttl(64));
    report.text("ttl", stream.ttl());
    report.debug("take_error", stream.take_error());

    report.done("echo", stream.write_all(bytes).and_then(|()| back(&mut stream, bytes)));
    report.optional(
        "try_clone",
        stream.try_clone().and_then(|mut other| {
            other.write_all(bytes)?;
            back(&mut stream, bytes)
        }),
    );
    report.optional("peek", peek(&mut stream));
    report.done("set_nonblocking", stream.set_nonblocking(true));
    report.done("nonblocking", tcp_polled(&mut stream, bytes));
    report.done("set_blocking", stream.set_nonblocking(false));
    report.done("read_timeout", timed_out(&mut stream));
    report.done("shutdown", end(&mut stream, bytes));

    let Some(first) = addresses.and_then(|all| all.first().copied()) else { return };
    report.done(
        "connect_timeout",
        TcpStream::connect_timeout(&first, Duration::from_secs(5)).and_then(|mut stream| {
            stream.write_all(bytes)?;
            back(&mut stream, bytes)
        }),
    );
}

/// Looks at what has come before it takes it.
fn peek(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"peek")?;
    let mut seen = [0; 1];
    let looked = stream.peek(&mut seen);
    back(stream, b"peek")?;
    same(b"p", &seen[..looked?])
}

/// Asks again and again, without waiting, for what comes back.
fn tcp_polled(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    would_block(stream.read(&mut [0; 1]))?;
    let (mut sent, mut received) = (0, Vec::new());
    for _ in 0..POLLS {
        if sent < bytes.len() {
            sent += or_nothing(stream.write(&bytes[sent..]))?;
        }
        let mut buffer = [0; 4096];
        let count = or_nothing(stream.read(&mut buffer))?;
        received.extend_from_slice(&buffer[..count]);
        if received.len() >= bytes.len() {
            return same(bytes, &received);
        }
        sleep(Duration::from_millis(1));
    }
    Err(wrong(format!("{} bytes of {} came back", received.len(), bytes.len())))
}

fn timed_out(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let read = would_block(stream.read(&mut [0; 1]));
    stream.set_read_timeout(None)?;
    read
}

/// Sends, says that this was all, and reads to the end.
fn end(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    same(bytes, &received)
}

/// Sends datagrams to a server that echoes.
pub(crate) fn udp(address: &str, bytes: &[u8], report: &mut Report) {
    // More than this does not fit a datagram.
    let bytes = &bytes[..bytes.len().min(1024)];
    report.debug("to_socket_addrs", address.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    let Some(socket) = report.done("bind", UdpSocket::bind("0.0.0.0:0")) else { return };
    report.text("local_addr", socket.local_addr());
    if report.done("connect", socket.connect(address)).is_some() {
        report.text("peer_addr", socket.peer_addr());
        report.done("send", socket.send(bytes).and_then(|sent| whole(sent, bytes)));
        report.done("recv", datagram(bytes, |buffer| socket.recv(buffer)));
        report.done("nonblocking", udp_polled(&socket, bytes));
        report.optional(
            "read_timeout",
            socket.set_read_timeout(Some(TIMEOUT)).and_then(|()| {
                let received = would_block(socket.recv(&mut [0; 1]));
                socket.set_read_timeout(None)?;
                received
            }),
        );
    }

    let Some(socket) = report.done("bind_again", UdpSocket::bind("0.0.0.0:0")) else { return };
    report.done("send_to", socket.send_to(bytes, address).and_then(|sent| whole(sent, bytes)));
    let mut from = None;
    report.done(
        "recv_from",
        datagram(bytes, |buffer| {
            let (count, peer) = socket.recv_from(buffer)?;
            from = Some(peer);
            Ok(count)
        }),
    );
    report.debug("recv_from_addr", Ok(from));
}

fn udp_polled(socket: &UdpSocket, bytes: &[u8]) -> Result<()> {
    socket.set_nonblocking(true)?;
    would_block(socket.recv(&mut [0; 1]))?;
    whole(socket.send(bytes)?, bytes)?;
    for _ in 0..POLLS {
        let mut buffer = [0; 2048];
        let count = or_nothing(socket.recv(&mut buffer))?;
        if count > 0 {
            socket.set_nonblocking(false)?;
            return same(bytes, &buffer[..count]);
        }
        sleep(Duration::from_millis(1));
    }
    Err(wrong("nothing came back".to_owned()))
}

fn datagram(bytes: &[u8], receive: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<()> {
    let mut buffer = [0; 2048];
    let count = receive(&mut buffer)?;
    same(bytes, &buffer[..count])
}

/// Takes one client and echoes what it sends. The listener stays for the next one.
pub(crate) fn listen(address: &str, listener: &mut Option<TcpListener>, report: &mut Report) {
    if listener.is_none() {
        *listener = report.done("bind", TcpListener::bind(address));
    }
    let Some(listener) = listener else { return };
    report.text("local_addr", listener.local_addr());
    report.done(
        "nonblocking",
        listener.set_nonblocking(true).and_then(|()| {
            let accepted = listener.accept().map(|_| 0);
            listener.set_nonblocking(false)?;
            // A client may have come already: it is turned away, and may come again.
            if accepted.is_ok() { Ok(()) } else { would_block(accepted) }
        }),
    );
    let Some((mut stream, peer)) = report.debug("accept", listener.accept()) else { return };
    report.text("accepted_from", Ok(peer));
    report.text("peer_addr", stream.peer_addr());
    let mut buffer = [0; 4096];
    let mut total = 0;
    let echoed = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break Ok(total),
            Ok(count) => match stream.write_all(&buffer[..count]) {
                Ok(()) => total += count,
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    report.text("echo", echoed);
    report.done("shutdown", stream.shutdown(Shutdown::Write));
}

/// Reads as much as was sent.
fn back(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let mut received = vec![0; bytes.len()];
    stream.read_exact(&mut received)?;
    same(bytes, &received)
}

fn same(sent: &[u8], received: &[u8]) -> Result<()> {
    if sent == received {
        return Ok(());
    }
    Err(wrong(format!("{} bytes were sent, {} others came back", sent.len(), received.len())))
}

fn whole(sent: usize, bytes: &[u8]) -> Result<()> {
    if sent == bytes.len() { Ok(()) } else { Err(wrong(format!("{sent} of {} bytes were sent", bytes.len()))) }
}

/// Whether it is the error of something that is not there yet.
fn would_block(result: Result<usize>) -> Result<()> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        Err(error) => Err(error),
        Ok(count) => Err(wrong(format!("{count} bytes that nobody sent"))),
    }
}

fn or_nothing(result: Result<usize>) -> Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// Whether the standard library, or the C library below it, says that there is no such thing.
fn is_missing(error: &Error) -> bool {
    // `ENOPROTOOPT` of wasi-libc, for which there is no kind.
    error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(50)
}

fn wrong(message: String) -> Error {
    Error::other(message)
}
