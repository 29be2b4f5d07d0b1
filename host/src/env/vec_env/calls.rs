//! Calls on one env beside its steps and resets (render, methods, attributes, options, connections), interrupts, and the end.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::Value;

use super::{Frame, VecEnv, bounded, json, options_text};
use crate::env::slot::Slot;
use crate::error::{Error, UsageError};
use crate::interrupt::Interrupt;
use crate::limits::deadline;
use crate::process::child;
use crate::spec::RenderMode;
use crate::wire::talk::{Reply, ToWorker};

impl VecEnv {
    /// A picture of an env's present state.
    ///
    /// # Errors
    /// [`Error::Usage`]: the env does not render this mode. [`Error::Fault`]: the env met a fault, under any policy; its next
    /// step reports the fault too.
    pub fn render(&mut self, env: usize, mode: RenderMode) -> Result<Frame, Error> {
        let (reply, bytes) = self.converse(env, &ToWorker::Render(mode))?;
        Ok(match reply {
            Reply::Rgb { width, height } => Frame::Rgb { width, height, pixels: bytes },
            Reply::Text => Frame::Text(String::from_utf8_lossy(&bytes).into_owned()),
        })
    }

    /// Calls a method of the author's own; arguments and result are JSON.
    ///
    /// # Errors
    /// As [`VecEnv::render`]; arguments of more than 60 KiB are refused.
    pub fn call(&mut self, env: usize, method: &str, arguments: &Value) -> Result<Value, Error> {
        let arguments = bounded(arguments.to_string(), "arguments")?;
        let message = ToWorker::Call { method: bounded(method.to_owned(), "a method")?, arguments };
        let (_, result) = self.converse(env, &message)?;
        json(env, &result)
    }

    /// Reads an attribute; the value is JSON.
    ///
    /// # Errors
    /// As [`VecEnv::call`].
    pub fn get_attribute(&mut self, env: usize, name: &str) -> Result<Value, Error> {
        let (_, value) = self.converse(env, &ToWorker::GetAttribute(bounded(name.to_owned(), "a name")?))?;
        json(env, &value)
    }

    /// Writes an attribute; the value is JSON.
    ///
    /// # Errors
    /// As [`VecEnv::call`].
    pub fn set_attribute(&mut self, env: usize, name: &str, value: &Value) -> Result<(), Error> {
        let value = bounded(value.to_string(), "a value")?;
        let message = ToWorker::SetAttribute { name: bounded(name.to_owned(), "a name")?, value };
        self.converse(env, &message).map(|_| ())
    }

    /// Gives an env new random streams for the future; its state stays.
    ///
    /// # Errors
    /// As [`VecEnv::call`].
    pub fn reseed(&mut self, env: usize, seed: u64) -> Result<(), Error> {
        self.converse(env, &ToWorker::Reseed(seed)).map(|_| ())
    }

    /// Sets options for an env's next reset, also an automatic one: a JSON object, or none. They are used once. Options
    /// passed to an explicit reset take precedence.
    ///
    /// # Errors
    /// [`Error::Usage`]: no such env, options that are not an object, or more than 60 KiB.
    pub fn set_reset_options(&mut self, env: usize, options: Option<&Value>) -> Result<(), Error> {
        self.check_not_over()?;
        let index = self.existing(env)?;
        let options = options.map(options_text).transpose()?;
        self.slots[index].set_reset_options(options);
        Ok(())
    }

    /// Hands an open TCP connection to an env: its next connect to that connection's peer gets this very connection. A clone
    /// that the caller keeps is the same connection. A connection that one instance has not taken goes to the instance after
    /// a fault.
    ///
    /// ```no_run
    /// # fn hand(envs: &mut rollcage::VecEnv) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut connection = std::net::TcpStream::connect("127.0.0.1:3100")?;
    /// std::io::Write::write_all(&mut connection, b"(log in)")?;
    /// envs.hand_over(2, connection)?; // env 2 connects to 127.0.0.1:3100, and goes on with it
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`]: no such env; the env was started without any grant of a socket, so that its worker cannot use a
    /// socket; or the connection has no peer any more.
    pub fn hand_over(&mut self, env: usize, connection: TcpStream) -> Result<(), Error> {
        self.check_not_over()?;
        let index = self.existing(env)?;
        if self.terms.granted.sockets.is_none() {
            return Err(UsageError::new(format!("env {env} cannot use a connection: it was started without sockets"))
                .hint("grant it one, or name its first connection by `Builder::connection`")
                .into());
        }
        let wrong = |error| UsageError::new(format!("the connection for env {env} is not connected: {error}"));
        let peer = connection.peer_addr().map_err(wrong)?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        self.slots[index].hand_over(peer, connection.into());
        Ok(())
    }

    /// The interrupt flag. Raised, it makes a waiting call return [`Error::Interrupted`] within 20 ms (a signal handler may
    /// raise it). The flag stays raised until the caller lowers it.
    pub fn interrupt_flag(&self) -> Arc<AtomicBool> {
        self.interrupt.flag()
    }

    /// Sets a question that is asked every 20 ms while a call waits, and when a signal has come in its thread. At true the
    /// call returns [`Error::Interrupted`], and a [`say_goodbye`](VecEnv::say_goodbye) stops waiting. It is for hosts in
    /// which another party handles signals and must be asked, like Python.
    pub fn interrupt_when(&mut self, ask: impl FnMut() -> bool + Send + 'static) {
        self.interrupt.ask_by(ask);
    }

    /// Whether this is a fork's copy. Its envs belong to the parent process, every call that would change them is a usage
    /// error, and dropping it ends nothing.
    pub fn is_forked(&self) -> bool {
        self.forks != child::forks()
    }

    /// Ends every env: a goodbye to the guests, within [`Limits::close_timeout`](crate::Limits::close_timeout) for all together,
    /// then the workers are killed. Dropping does the same without the goodbye.
    pub fn close(mut self) {
        self.say_goodbye();
    }

    /// As [`VecEnv::close`], keeping logs, digests and faults readable. Every other call is a usage error from then on.
    pub fn say_goodbye(&mut self) {
        if self.is_forked() {
            return;
        }
        let deadline = deadline(self.terms.limits.close_timeout);
        let closing: Vec<bool> = self.slots.iter_mut().map(|slot| slot.begin_close(deadline)).collect();
        self.tell(0..self.slots.len());
        // A flag that is already raised is the reason for closing. Only a later interrupt ends the wait.
        let mut interrupt = self.interrupt.flag().load(Relaxed).then(Interrupt::default);
        let interrupt = &*interrupt.get_or_insert_with(|| self.interrupt.clone());
        let mut closing = self.slots.iter().zip(closing).filter(|(_, closing)| *closing);
        let _ = closing.try_for_each(|(slot, _)| slot.wait_closed(deadline, interrupt));
        self.end();
    }

    /// Ends all envs: tells all of them to end before waiting for any.
    pub(super) fn end(&mut self) {
        if self.is_forked() {
            std::mem::forget(self.recording.take());
            // The processes belong to the parent, and the thread that would report their ends is not in this process.
            std::mem::forget((std::mem::take(&mut self.slots), self.keeper.take()));
            // Its envs are the parent's too, and it sees that for itself.
            self.apart = None;
            self.terms.stock.end(true);
            return;
        }
        self.apart = None;
        self.slots.iter().for_each(Slot::kill);
        self.slots.iter_mut().for_each(Slot::close);
        let count = self.slots.len();
        if !std::mem::replace(&mut self.ended, true) && self.terms.stock.envs.fetch_sub(count, Relaxed) == count {
            // The branches of these envs can start no further instance from this stock.
            self.terms.stock.end(false);
        }
        self.keeper = None;
        self.short = None;
        // A caller can learn the result before this, or afterwards.
        self.recorded = self.finish_recording().transpose();
    }
}
