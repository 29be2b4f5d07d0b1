//! Messages as packets of a `SOCK_SEQPACKET` pair: each packet is one `postcard` message of at most
//! [`MESSAGE_BYTES_MAX`], with descriptors beside it. Knows bytes and descriptors; knows no message.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer};
use rustix::net::{SendAncillaryMessage, SendFlags};
use rustix::process::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::message::decode;

/// Bytes of one control message. Longer texts and frames use the slab's bulk area.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Directories that one env can be granted. Each is a descriptor of the job's message and a rule of the worker's
/// Landlock domain; a plugin that reads data and writes results has two.
pub const DIRECTORIES_MAX: usize = 16;

/// Descriptors that come with one message: slab or output, code or plugin, the broker's socket, the capture, and the
/// granted directories.
pub const DESCRIPTORS_MAX: usize = 4 + DIRECTORIES_MAX;

/// Sends one message with descriptors. Fails when the packet is too long, when the other side is gone or, with
/// `DONTWAIT`, when it does not read. The host always passes `DONTWAIT`: no worker can make it wait.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a control message of {} bytes; the limit is {MESSAGE_BYTES_MAX}", bytes.len()),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let iov = [IoSlice::new(&bytes)];
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &iov, &mut ancillary, flags | SendFlags::NOSIGNAL))?;
    Ok(())
}

/// The result of one look at the socket.
#[derive(Debug)]
pub enum Received<T> {
    /// A message, and the descriptors that came with it.
    Message(T, Vec<OwnedFd>),
    /// Bytes that are not a message, with the error.
    Garbage(String),
    /// The other side is gone.
    Closed,
    /// No packet is there (non-blocking sockets only).
    Nothing,
}

/// Receives one message. Descriptors that came with a malformed message are closed.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<Received<T>> {
    receive_from(socket, flags).map(|(received, _)| received)
}

/// As [`receive`], but also returns the sender as the kernel knows it, if the socket asks for that (`SO_PASSCRED`).
pub(crate) fn receive_from<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> io::Result<(Received<T>, Option<Pid>)> {
    let mut sender = None;
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let message = loop {
        match rustix::net::recvmsg(socket, &mut iov, &mut ancillary, flags) {
            Ok(message) => break message,
            // The other side closed with messages unread. The kernel reports that once, before the last messages of that side.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(Errno::AGAIN) => return Ok((Received::Nothing, None)),
            Err(error) => return Err(error.into()),
        }
    };
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            RecvAncillaryMessage::ScmCredentials(credentials) => {
                sender = Some(credentials.pid);
                None
            }
            _ => None,
        })
        .flatten()
        .collect();
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Ok((Received::Garbage(format!("a packet of more than {MESSAGE_BYTES_MAX} bytes")), sender));
    }
    if message.bytes == 0 {
        return Ok((Received::Closed, sender));
    }
    let bytes = &bytes[..message.bytes];
    let received = match decode(bytes) {
        Ok(message) => Received::Message(message, descriptors),
        Err(what) => Received::Garbage(what),
    };
    Ok((received, sender))
}

/// Makes a pair for one worker: the host's end (close-on-exec; the watcher reads it without blocking, by a flag) and
/// the worker's end.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_last_words_of_a_side_that_did_not_listen_are_heard() {
        let (ours, theirs) = pair().unwrap();
        send(theirs.as_fd(), &"last words", &[], SendFlags::DONTWAIT).unwrap();
        send(ours.as_fd(), &"unread", &[], SendFlags::DONTWAIT).unwrap();
        drop(theirs);
        let heard = || receive::<String>(ours.as_fd(), RecvFlags::DONTWAIT).unwrap();
        assert!(matches!(heard(), Received::Message(words, _) if words == "last words"));
        assert!(matches!(heard(), Received::Closed));
    }
}
