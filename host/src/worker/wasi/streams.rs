//! Streams: a guest's writes to its log, and its reads and writes of opened files and sockets.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sync;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::bindings::wasi::io as asynchronous;
use wasmtime_wasi_io::poll::{DynPollable, Pollable};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, OutputStream, StreamError, StreamResult};

use super::clock::{Clock, drive};
use super::guest::Guest;
use crate::cage::wasm::WRITE_BYTES_MAX;
use crate::wire::slab::pack::RowLog;

/// The destination of a guest's stdout and stderr, as they come.
pub(crate) trait Log: Send {
    /// Takes all bytes, or loses those that it cannot take: a guest must not see the difference.
    fn write(&mut self, bytes: &[u8]);
}

/// The log pipe, descriptor 2: raw writes, which wait while the pipe is full.
pub(crate) struct LogPipe;

impl Log for LogPipe {
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match rustix::io::write(std::io::stderr(), bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                // The host is gone or has closed the log; the worker will notice that elsewhere.
                Err(_) => return,
            }
        }
    }
}

/// The log of an env that shares its worker: in the slab, and in the pipe too if that goes straight to the terminal.
pub(crate) struct OwnLog {
    pub(crate) own: RowLog,
    pub(crate) through: bool,
}

impl Log for OwnLog {
    fn write(&mut self, bytes: &[u8]) {
        self.own.append(bytes);
        if self.through {
            LogPipe.write(bytes);
        }
    }
}

pub(super) type SharedLog = Arc<Mutex<Box<dyn Log>>>;

/// A stream into the log. It does not buffer, so there is nothing to flush.
pub(super) struct LogStream(SharedLog);

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("the guest wrote more to a stream than it allowed"));
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl sync::io::streams::Host for Guest {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<sync::io::streams::StreamError> {
        Ok(asynchronous::streams::Host::convert_stream_error(&mut self.table, error)?.into())
    }
}

/// Drives a stream's function. A wait that nothing can end is a trap, as in `poll`.
pub(super) fn drive_stream<T>(clock: &Clock, future: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    drive(clock, future).map_err(StreamError::Trap)?
}

impl sync::io::streams::HostInputStream for Guest {
    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        let Guest { table, clock, .. } = self;
        drive(clock, asynchronous::streams::HostInputStream::drop(table, stream))?
    }

    fn read(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<Vec<u8>> {
        asynchronous::streams::HostInputStream::read(&mut self.table, stream, length)
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<Vec<u8>> {
        let Guest { table, clock, .. } = self;
        drive_stream(clock, asynchronous::streams::HostInputStream::blocking_read(table, stream, length))
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<u64> {
        asynchronous::streams::HostInputStream::skip(&mut self.table, stream, length)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<u64> {
        let Guest { table, clock, .. } = self;
        drive_stream(clock, asynchronous::streams::HostInputStream::blocking_skip(table, stream, length))
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        asynchronous::streams::HostInputStream::subscribe(&mut self.table, stream)
    }
}

impl sync::io::streams::HostOutputStream for Guest {
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        let Guest { table, clock, .. } = self;
        drive(clock, asynchronous::streams::HostOutputStream::drop(table, stream))?
    }

    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        asynchronous::streams::HostOutputStream::check_write(&mut self.table, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        asynchronous::streams::HostOutputStream::write(&mut self.table, stream, bytes)
    }

    fn blocking_write_and_flush(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        let Guest { table, clock, .. } = self;
        drive_stream(clock, asynchronous::streams::HostOutputStream::blocking_write_and_flush(table, stream, bytes))
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Resource<DynOutputStream>, length: u64) -> StreamResult<()> {
        let Guest { table, clock, .. } = self;
        let zeroes = asynchronous::streams::HostOutputStream::blocking_write_zeroes_and_flush(table, stream, length);
        drive_stream(clock, zeroes)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, length: u64) -> StreamResult<()> {
        asynchronous::streams::HostOutputStream::write_zeroes(&mut self.table, stream, length)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        asynchronous::streams::HostOutputStream::flush(&mut self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        let Guest { table, clock, .. } = self;
        drive_stream(clock, asynchronous::streams::HostOutputStream::blocking_flush(table, stream))
    }

    fn splice(
        &mut self,
        target: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<u64> {
        asynchronous::streams::HostOutputStream::splice(&mut self.table, target, source, length)
    }

    fn blocking_splice(
        &mut self,
        target: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<u64> {
        let Guest { table, clock, .. } = self;
        drive_stream(clock, asynchronous::streams::HostOutputStream::blocking_splice(table, target, source, length))
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        asynchronous::streams::HostOutputStream::subscribe(&mut self.table, stream)
    }
}

impl Guest {
    pub(super) fn log_stream(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(LogStream(Arc::clone(&self.log)));
        Ok(self.table.push(stream)?)
    }
}
