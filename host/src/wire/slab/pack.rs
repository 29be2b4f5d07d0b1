//! A worker with several envs: the words on which both sides wait, messages to and from one env, and its log.
//!
//! Each env has a turn of its own (`host.rs`, `worker.rs`). The host publishes the turns of many envs, then tells the
//! worker once; the worker answers each env, then tells the host once. Nothing of an env goes over the control socket.

use std::io;
#[cfg(feature = "worker")]
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU32};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::host::{HostSlab, new_mapping};
use super::layout::{Place, pack_bytes};
use super::mapping::{Mapping, PackWords};
#[cfg(feature = "worker")]
use super::worker::WorkerSlab;
use super::{LOG_BYTES, Lie};
#[cfg(feature = "worker")]
use crate::cage::numbers::WORKER_ADDRESS;
use crate::message::decode;
use crate::wire::handshake;
use crate::wire::packet::MESSAGE_BYTES_MAX;
use crate::wire::wait::{Watched, wake};

/// Bytes before a message: its length.
const HEAD: usize = 8;

/// The beginning of a log's bytes, behind the count of all bytes that were ever written.
const LOG_HEAD: usize = 64;

/// The host's side.
pub struct HostPack {
    map: Arc<Mapping>,
    rows: usize,
    /// The last turn told.
    turn: AtomicU32,
    /// Whether an env has a turn of which the worker was not told.
    untold: AtomicBool,
}

impl HostPack {
    /// Makes the slab of a worker with so many envs: the host's side, and the descriptor to hand to the worker.
    pub fn create(rows: usize) -> io::Result<(HostPack, OwnedFd)> {
        let (map, fd) = new_mapping(pack_bytes(rows))?;
        Ok((HostPack { map: Arc::new(map), rows, turn: AtomicU32::new(0), untold: AtomicBool::new(false) }, fd))
    }

    /// One env's part, of which nothing was asked yet.
    pub fn row(&self, row: usize) -> HostSlab {
        HostSlab::at(Arc::clone(&self.map), Place::of_row(row, self.rows))
    }

    /// Notes that an env has a new turn, of which the worker is to be told.
    pub fn note(&self) {
        self.untold.store(true, Relaxed);
    }

    /// Whether the worker was told of every turn that was noted.
    pub fn is_told(&self) -> bool {
        !self.untold.load(Relaxed)
    }

    /// Tells the worker of all turns that were noted, and wakes it if it sleeps.
    pub fn tell(&self, spin_us: u32) {
        self.untold.store(false, Relaxed);
        let words = self.map.pack();
        words.spin_us.store(spin_us, Relaxed);
        let turn = self.turn.load(Relaxed).wrapping_add(1);
        self.turn.store(turn, Relaxed);
        if handshake::publish(&words.turn, turn, &words.worker_sleeps) {
            wake(&words.turn);
        }
    }

    /// What to wait for: that the worker has answered every turn that it was told of. None: it has. Ask this before the envs
    /// are looked at, so that no answer is missed.
    pub fn watched(&self) -> Option<Watched<'_>> {
        let words = self.map.pack();
        let last = words.done.load(Acquire);
        (last != self.turn.load(Relaxed)).then_some(Watched { word: &words.done, last, sleeps: &words.host_sleeps })
    }

    /// The word that the host waits on.
    pub fn done_word(&self) -> &AtomicU32 {
        &self.map.pack().done
    }

    /// Whether the worker has answered everything that it was told of.
    pub fn is_idle(&self) -> bool {
        self.watched().is_none()
    }

    /// Whether an env was asked something that it has not answered.
    pub fn is_asked(&self, row: usize) -> bool {
        let place = Place::of_row(row, self.rows);
        self.map.request(&place).turn.load(Relaxed) != self.map.answer(&place).done.load(Acquire)
    }

    /// Which env the worker says that it asks now, and a number that changes with each request.
    pub fn pulse(&self) -> (Option<usize>, u32) {
        let words = self.map.pack();
        let beat = words.beat.load(Acquire);
        let at = words.at.load(Relaxed) as usize;
        (at.checked_sub(1).filter(|row| *row < self.rows), beat)
    }
}

impl HostSlab {
    /// Writes a message to the env, which it reads with its next turn.
    ///
    /// # Errors
    /// It is too long.
    pub fn write_message<T: Serialize>(&self, message: &T) -> io::Result<()> {
        write_message(&self.map, &self.place, message)
    }

    /// Reads the env's message that came with its answer.
    ///
    /// # Errors
    /// There is none, or bytes that are no message.
    pub fn read_message<T: DeserializeOwned>(&self) -> Result<T, Lie> {
        read_message(&self.map, &self.place).map_err(Lie)
    }

    /// The env's output after its first `from` bytes, as far as it is kept, and the number of all bytes ever written.
    pub fn read_log(&self, from: u64) -> (Vec<u8>, u64) {
        let Some(at) = self.place.log_at() else { return (Vec::new(), from) };
        let end = self.map.words(at, 1)[0].load(Acquire);
        let new = end.wrapping_sub(from).min(LOG_BYTES as u64);
        let ring = self.map.bytes(at + LOG_HEAD, LOG_BYTES);
        let bytes = (end.wrapping_sub(new)..end).map(|index| ring[in_ring(index)].load(Relaxed)).collect();
        (bytes, end)
    }
}

/// Where the byte of this number lies in a log.
fn in_ring(number: u64) -> usize {
    usize::try_from(number % LOG_BYTES as u64).unwrap_or(0)
}

fn write_message<T: Serialize>(map: &Mapping, place: &Place, message: &T) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("a message of {} bytes; the limit is {MESSAGE_BYTES_MAX}", bytes.len())));
    }
    map.words(place.batch_at, 1)[0].store(bytes.len() as u64, Relaxed);
    map.copy_in(place.batch_at + HEAD, &bytes);
    Ok(())
}

fn read_message<T: DeserializeOwned>(map: &Mapping, place: &Place) -> Result<T, String> {
    let claimed = map.words(place.batch_at, 1)[0].load(Relaxed);
    let length = usize::try_from(claimed).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
    let length = length.ok_or_else(|| format!("a message of {claimed} bytes; the limit is {MESSAGE_BYTES_MAX}"))?;
    let mut bytes = vec![0; length];
    map.copy_out(place.batch_at + HEAD, &mut bytes);
    decode(&bytes)
}

impl PackWords {
    /// Counts a request or a step of a batch that begins. Only the worker writes the word.
    #[cfg(feature = "worker")]
    pub(super) fn count_beat(&self) {
        self.beat.store(self.beat.load(Relaxed).wrapping_add(1), std::sync::atomic::Ordering::Release);
    }
}

/// The worker's side.
#[cfg(feature = "worker")]
pub struct WorkerPack {
    map: Arc<Mapping>,
    rows: usize,
    /// The last turn that was finished.
    turn: u32,
}

#[cfg(feature = "worker")]
impl WorkerPack {
    /// Maps the slab of a worker with so many envs at the worker's fixed address, and closes the descriptor.
    pub fn map(fd: OwnedFd, rows: usize) -> io::Result<WorkerPack> {
        let map = Mapping::new(fd.as_fd(), pack_bytes(rows), Some(WORKER_ADDRESS))?;
        Ok(WorkerPack { map: Arc::new(map), rows, turn: 0 })
    }

    /// One env's part, which has answered nothing yet.
    pub fn row(&self, row: usize) -> WorkerSlab {
        WorkerSlab::at(Arc::clone(&self.map), Place::of_row(row, self.rows))
    }

    /// The turn that the host has told, if it was not finished yet.
    pub fn told(&self) -> Option<u32> {
        let turn = self.map.pack().turn.load(Acquire);
        (turn != self.turn).then_some(turn)
    }

    /// What to wait for: that the host tells of another turn; and how many microseconds to spin before sleeping.
    pub fn watched(&self) -> (Watched<'_>, u32) {
        let words = self.map.pack();
        let watched = Watched { word: &words.turn, last: self.turn, sleeps: &words.worker_sleeps };
        (watched, words.spin_us.load(Relaxed))
    }

    /// Says that an env is asked now.
    pub fn begin(&self, row: usize) {
        let words = self.map.pack();
        words.at.store(u32::try_from(row + 1).unwrap_or(0), Relaxed);
        words.count_beat();
    }

    /// Says that every env has answered what it was asked up to this turn, and wakes the host if it sleeps.
    pub fn finish(&mut self, turn: u32) {
        self.turn = turn;
        let words = self.map.pack();
        words.at.store(0, Relaxed);
        if handshake::publish(&words.done, turn, &words.host_sleeps) {
            wake(&words.done);
        }
    }
}

#[cfg(feature = "worker")]
impl WorkerSlab {
    /// Writes a message to the host, which reads it with the answer.
    ///
    /// # Errors
    /// It is too long.
    pub fn write_message<T: Serialize>(&self, message: &T) -> io::Result<()> {
        write_message(&self.map, &self.place, message)
    }

    /// Reads the host's message that came with the turn.
    ///
    /// # Errors
    /// There is none: a bug of the host.
    pub fn read_message<T: DeserializeOwned>(&self) -> io::Result<T> {
        read_message(&self.map, &self.place).map_err(io::Error::other)
    }

    /// The env's log; none where the worker has one pipe for its only env.
    pub fn log(&self) -> Option<RowLog> {
        self.place.log_at().map(|at| RowLog { map: Arc::clone(&self.map), at })
    }
}

/// Where an env that shares its worker writes its output: its newest bytes, in the slab.
#[cfg(feature = "worker")]
pub struct RowLog {
    map: Arc<Mapping>,
    at: usize,
}

#[cfg(feature = "worker")]
impl RowLog {
    /// Appends, over the oldest bytes.
    pub fn append(&self, bytes: &[u8]) {
        let count = &self.map.words(self.at, 1)[0];
        let ring = self.map.bytes(self.at + LOG_HEAD, LOG_BYTES);
        let from = count.load(Relaxed);
        for (index, byte) in (from..).zip(bytes) {
            ring[in_ring(index)].store(*byte, Relaxed);
        }
        count.store(from.wrapping_add(bytes.len() as u64), std::sync::atomic::Ordering::Release);
    }
}
