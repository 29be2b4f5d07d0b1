//! The descriptors that a thread waits for by epoll, each for as long as its guard lives.
//!
//! An epoll forgets a descriptor only when the last copy of it is closed, and a host that forks leaves copies in its
//! children. A descriptor that was only closed here would cause events forever, and could not be taken out any more. So
//! each descriptor is taken out before it is closed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// An epoll.
pub(crate) struct Epoll(Arc<OwnedFd>);

/// A descriptor in an epoll. When it is dropped, it is taken out.
pub(crate) struct LookedAt {
    descriptor: Arc<OwnedFd>,
    number: u64,
    by: Arc<OwnedFd>,
}

impl Epoll {
    /// An epoll without descriptors.
    ///
    /// # Errors
    /// The system's error: no descriptors left.
    pub(crate) fn new() -> io::Result<Epoll> {
        Ok(Epoll(Arc::new(epoll::create(CreateFlags::CLOEXEC)?)))
    }

    /// Adds a descriptor; its events carry this number.
    ///
    /// # Errors
    /// The system's error: the epoll has too many descriptors.
    pub(crate) fn at(&self, descriptor: Arc<OwnedFd>, number: u64, events: EventFlags) -> Result<LookedAt, Errno> {
        epoll::add(&self.0, &descriptor, EventData::new_u64(number), events)?;
        Ok(LookedAt { descriptor, number, by: Arc::clone(&self.0) })
    }

    /// Waits for events, for at most the time. An interrupted wait brings no events.
    ///
    /// # Errors
    /// The system's error, which an epoll of this program's own does not give.
    pub(crate) fn wait(&self, events: &mut Vec<Event>, time: Option<&Timespec>) -> Result<(), Errno> {
        events.clear();
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(events), time) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl LookedAt {
    /// From now on only the end of the other side causes an event.
    pub(crate) fn only_its_end(&self) {
        // The kernel tells of a hang-up whatever was asked for. Of a descriptor in the epoll the call does not fail.
        let _ = epoll::modify(&self.by, &self.descriptor, EventData::new_u64(self.number), EventFlags::empty());
    }

    /// Takes the descriptor out of the epoll and returns it.
    pub(crate) fn release(self) -> Arc<OwnedFd> {
        Arc::clone(&self.descriptor)
    }
}

impl AsFd for LookedAt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for LookedAt {
    fn drop(&mut self) {
        // In a fork's copy of this value the call would act on the parent's epoll. But the child has none of the parent's
        // threads, so nothing drops the value there.
        let _ = epoll::delete(&self.by, &self.descriptor);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_closed_descriptor_is_not_told_of_while_somebody_has_a_copy() {
        let epoll = Epoll::new().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let copy = reader.try_clone().unwrap();
        let looked_at = epoll.at(Arc::new(reader), 7, EventFlags::IN).unwrap();
        drop(writer);
        let mut events = Vec::with_capacity(4);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll.wait(&mut events, Some(&now)).unwrap();
        assert_eq!(events.iter().map(|event| event.data.u64()).collect::<Vec<_>>(), [7]);
        drop(looked_at);
        epoll.wait(&mut events, Some(&now)).unwrap();
        assert!(events.is_empty(), "the end of what was closed here is still told of");
        drop(copy);
    }
}
