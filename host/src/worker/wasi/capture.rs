//! Capture: input from outside is written down as it comes, or served again from an earlier capture.
//!
//! Everything that a guest can see of a socket, a real clock or real randomness passes through [`Capture::pass`]: a few
//! calls. The code below these calls is the same with and without capture. A record (u32 length, `postcard`) has the call,
//! the hash of the data that the guest sent with it, and the result. When served, the results come in the same order. A guest
//! that asks for something else differs from the recording, and its call ends by a trap.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::record::capture::{RECORD_BYTES_MAX, Record};

/// The kinds of captured input.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    /// The machine's monotonic clock.
    Clock,
    /// The machine's wall clock.
    WallClock,
    /// The result of a wait for descriptors.
    Wait,
    /// The kernel's randomness.
    Random,
    /// A question to the broker.
    Ask,
    /// Whether the question is answered.
    IsAnswered,
    /// The broker's answer.
    Answer,
    /// Whether a socket is ready.
    IsReady,
    /// Bytes that a socket received.
    Receive,
    /// The number of bytes that a socket accepted for sending.
    Send,
    /// An accepted connection.
    Accept,
    /// The end of one direction.
    Shutdown,
}

/// The capture of one env; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture(Option<Arc<Mutex<Tape>>>);

#[derive(Debug)]
struct Tape {
    file: OwnedFd,
    served: bool,
    /// The position of the next record to serve. Each worker has its own, since its copies share the file's position.
    at: u64,
    /// Whether writing has stopped, because this worker is a copy of the recorded env.
    muted: bool,
    failed: Option<String>,
    /// Records of the call under way. They are dropped if the env refuses the call, because a replay does not repeat it.
    pending: Vec<u8>,
    /// Whether the call under way is not an event of the rollout, so that its input is not captured.
    aside: bool,
}

/// Bytes of records that wait for the end of their call. If a call has more, they are written before its end.
const PENDING_BYTES_MAX: usize = 1 << 20;

impl Capture {
    /// A capture that writes to the end of this file.
    pub(crate) fn writing(file: OwnedFd) -> Capture {
        Capture::with(file, false, 0)
    }

    /// A capture that serves from this file, starting at this byte.
    pub(crate) fn serving(file: OwnedFd, at: u64) -> Capture {
        Capture::with(file, true, at)
    }

    fn with(file: OwnedFd, served: bool, at: u64) -> Capture {
        Capture(Some(Arc::new(Mutex::new(Tape {
            file,
            served,
            at,
            muted: false,
            failed: None,
            pending: Vec::new(),
            aside: false,
        }))))
    }

    fn tape(&self) -> Option<MutexGuard<'_, Tape>> {
        self.0.as_ref().map(|tape| tape.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the outside is absent and its results are served.
    pub(super) fn is_served(&self) -> bool {
        self.tape().is_some_and(|tape| tape.served)
    }

    /// Stops writing, because this worker is a copy of a recorded worker.
    pub(super) fn mute(&self) {
        if let Some(mut tape) = self.tape() {
            tape.muted = true;
        }
    }

    /// The reason why no further result can be trusted, if there is one. The guest's call then ends with it.
    pub(super) fn failure(&self) -> Option<String> {
        self.tape().and_then(|tape| tape.failed.clone())
    }

    /// Ends a call into the guest: its records are kept if the call happened, else dropped.
    pub(super) fn end_call(&self, happened: bool) {
        let Some(mut tape) = self.tape() else { return };
        if happened {
            tape.flush();
        } else {
            tape.pending.clear();
        }
    }

    /// Sets whether the next calls are no events of the rollout, like a render.
    pub(super) fn set_aside(&self, aside: bool) {
        if let Some(mut tape) = self.tape() {
            tape.aside = aside;
        }
    }

    /// The result of a call to the outside: the result of `real`, written down if the run is recorded; or the recorded
    /// result.
    pub(super) fn pass<T: Serialize + DeserializeOwned>(
        &self,
        what: Input,
        sent: &[u8],
        real: impl FnOnce() -> T,
        nothing: impl FnOnce() -> T,
    ) -> T {
        let Some(mut tape) = self.tape() else { return real() };
        if tape.failed.is_some() || tape.aside && tape.served {
            return nothing();
        }
        if tape.aside || tape.muted && !tape.served {
            drop(tape);
            return real();
        }
        let sent: [u8; 32] = blake3::hash(sent).into();
        if tape.served {
            match tape.next(what, &sent) {
                Ok(result) => result,
                Err(why) => {
                    tape.failed = Some(why);
                    nothing()
                }
            }
        } else {
            // Unlock first: the real call may take long, and may pass through here itself.
            drop(tape);
            let result = real();
            if let Some(mut tape) = self.tape() {
                tape.note(what, &sent, &result);
            }
            result
        }
    }
}

impl Tape {
    fn write<T: Serialize>(&mut self, what: Input, sent: &[u8; 32], result: &T) -> io::Result<()> {
        let record = Record {
            call: name(what).to_owned(),
            sent: *sent,
            result: postcard::to_stdvec(result).map_err(io::Error::other)?,
        };
        let mut bytes = vec![0; 4];
        bytes = postcard::to_extend(&record, bytes).map_err(io::Error::other)?;
        let len = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        self.pending.extend_from_slice(&bytes);
        Ok(())
    }

    fn note<T: Serialize>(&mut self, what: Input, sent: &[u8; 32], result: &T) {
        if let Err(error) = self.write(what, sent, result) {
            self.failed = Some(format!("what came in could not be recorded: {error}"));
        }
        if self.pending.len() > PENDING_BYTES_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let mut rest = self.pending.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    self.failed = Some(format!("what came in could not be recorded: {error}"));
                    break;
                }
            }
        }
        self.pending.clear();
    }

    /// Reads the next bytes of a served capture.
    fn read(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pread(&self.file, &mut *bytes, self.at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.at += count as u64;
                    bytes = bytes.get_mut(count..).unwrap_or_default();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn next<T: DeserializeOwned>(&mut self, what: Input, sent: &[u8; 32]) -> Result<T, String> {
        let end = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("the recording ends where the guest calls `{}`", name(what)),
            _ => format!("the recording cannot be read: {error}"),
        };
        let mut len = [0; 4];
        self.read(&mut len).map_err(end)?;
        let len = u32::from_le_bytes(len);
        if len > RECORD_BYTES_MAX {
            return Err(format!("the recording has a record of {len} bytes"));
        }
        let mut bytes = vec![0; len as usize];
        self.read(&mut bytes).map_err(end)?;
        let record: Record = postcard::from_bytes(&bytes)
            .map_err(|error| format!("the recording has a record that is none: {error}"))?;
        if record.call != name(what) {
            return Err(format!("the guest calls `{}` where the recording has `{}`", name(what), record.call));
        }
        if record.sent != *sent {
            return Err(format!("the guest sends something else by `{}` than was recorded", name(what)));
        }
        postcard::from_bytes(&record.result).map_err(|error| format!("a recorded result is none: {error}"))
    }
}

fn name(what: Input) -> &'static str {
    match what {
        Input::Clock => "clock",
        Input::WallClock => "wall-clock",
        Input::Wait => "wait",
        Input::Random => "random",
        Input::Ask => "ask",
        Input::IsAnswered => "is-answered",
        Input::Answer => "answer",
        Input::IsReady => "is-ready",
        Input::Receive => "receive",
        Input::Send => "send",
        Input::Accept => "accept",
        Input::Shutdown => "shutdown",
    }
}
