//! Leases and services as the host sees them: the keeper that holds ports and runs commands beside envs, the messages
//! to it, and the placeholders of a command. Knows messages and deadlines; knows nothing of how a process tree is
//! ended.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, UsageError};
use crate::limits::{deadline, together};
use crate::process::child::{Child, Heard};
use crate::process::start::{self, describe_exit, not_a_worker};
use crate::process::watcher::{self, Log, Spawn};
use crate::text::plain;
use crate::wire::keeper::{Ceiling, FromKeeper, Service, Share, ToKeeper};
use crate::wire::lease::{LeaseSpec, check_together};
use crate::wire::talk::{BUILD, FromWorker};
use crate::wire::wait::SLICE;

pub use crate::process::child::Exit;

/// Services that one keeper runs together. Each may send one message unasked, and the mailbox holds twice as many.
pub const SERVICES_MAX: usize = 8;

/// How long a new keeper may take to say hello: an exec and some system calls, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The time that a keeper gets in addition to the timeouts it was given, before the host takes it for hung.
const GRACE: Duration = Duration::from_secs(5);

/// Characters of a text with placeholders that a message shows.
const SHOWN_MAX: usize = 200;

/// An owned keeper: a process that holds leases and runs services until it is told to end, or until this process is
/// gone.
///
/// Dropping it ends the services and everything they started, waits until that is done, and releases the ports.
pub struct Keeper {
    /// None only while the keeper is dropped.
    child: Option<Child>,
    /// The process that started the keeper. A copy of this value in a fork does not own the keeper.
    host: u32,
    /// The sum of the stop timeouts of the running services.
    stop: Duration,
}

/// What the host finds when it listens to a keeper.
#[derive(Debug)]
pub enum Told {
    /// The keeper sent this message.
    Message(FromKeeper),
    /// The process is gone, or does not act as a keeper any more: its leases are free.
    Gone(String),
    /// No message yet.
    Nothing,
}

impl Keeper {
    /// Starts a keeper from the worker program (`None`: this program, if it is one) and waits for its hello.
    ///
    /// # Errors
    /// The worker program is missing or of another build; the system's errors; [`Error::Interrupted`] if `interrupted`
    /// returns true.
    pub fn start(program: Option<&Path>, interrupted: impl Fn() -> bool) -> Result<Keeper, Error> {
        let program = start::program(program)?;
        let host = std::process::id();
        let title = format!("of {host}");
        let spawn = Spawn { program: program.clone(), mode: crate::KEEPER_ARGUMENT, title, slab: None, log: Log::Kept };
        let child = watcher::spawn(spawn).map_err(|error| start::refused("starting a keeper", error))?;
        // A keeper that is gone already is noticed below.
        let _ = child.send(&ToKeeper::Begin { host }, &[]);
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match child.listen(deadline.saturating_duration_since(Instant::now())) {
                Heard::Message(FromWorker::Hello { build }) if build == BUILD => break,
                Heard::Message(_) | Heard::Lie(_) => return Err(start::another_build(&program).into()),
                Heard::Dead(exit) => return Err(not_a_worker(&program, &child, exit).into()),
                Heard::Nothing if Instant::now() >= deadline => {
                    return Err(Error::system("starting a keeper")(std::io::ErrorKind::TimedOut.into()));
                }
                Heard::Nothing if interrupted() => return Err(Error::Interrupted),
                Heard::Nothing => {}
            }
        }
        Ok(Keeper { child: Some(child), host, stop: Duration::ZERO })
    }

    /// The keeper's process id. To other processes, this process holds the ports.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::pid).unwrap_or(0)
    }

    /// Takes a block for each lease, all or none, and tries again until `timeout` is over. Returns the first port of
    /// each.
    ///
    /// # Errors
    /// Leases that do not go together; ports that are held, and by whom; [`Error::Interrupted`].
    pub fn hold(
        &mut self,
        leases: &[LeaseSpec],
        timeout: Duration,
        interrupted: impl Fn() -> bool,
    ) -> Result<Vec<u16>, Error> {
        self.ask_hold(leases, timeout)?;
        match self.answer(together([timeout, self.stop, GRACE].into_iter()), interrupted, "taking leases")? {
            FromKeeper::Held { ports } if ports.len() == leases.len() => Ok(ports),
            FromKeeper::Exhausted(why) => {
                Err(Error::system("taking leases")(std::io::Error::new(std::io::ErrorKind::AddrInUse, why)))
            }
            other => Err(unasked("taking leases", &other)),
        }
    }

    /// Sends the request of [`hold`](Keeper::hold), without waiting for the answer.
    ///
    /// # Errors
    /// As for [`hold`](Keeper::hold).
    pub fn ask_hold(&mut self, leases: &[LeaseSpec], timeout: Duration) -> Result<(), Error> {
        check_together(leases)?;
        self.say("taking leases", &ToKeeper::Hold { leases: leases.to_vec(), timeout }, &[])
    }

    /// Counts a run among all runs of this user, for as long as this keeper lives.
    ///
    /// # Errors
    /// [`Error::Usage`]: a ceiling would be passed, and who has what. [`Error::Interrupted`]; a keeper that is gone.
    pub(crate) fn count(
        &mut self,
        share: Share,
        ceilings: &[Ceiling],
        interrupted: impl Fn() -> bool,
    ) -> Result<(), Error> {
        const WHAT: &str = "counting the user's runs";
        self.say(WHAT, &ToKeeper::Count { share, ceilings: ceilings.to_vec() }, &[])?;
        match self.answer(GRACE, interrupted, WHAT)? {
            FromKeeper::Counted => Ok(()),
            FromKeeper::Full(why) => {
                Err(UsageError::new(why).hint("end another run, or ask the operator of this machine").into())
            }
            other => Err(unasked(WHAT, &other)),
        }
    }

    /// Ends the running services, then starts these services in order. `stdio` has three descriptors for each service
    /// that is [`ServiceStdio::Passed`](crate::wire::keeper::ServiceStdio::Passed). The outer error is the system's; the inner one is the service that failed, and
    /// why.
    ///
    /// # Errors
    /// Too many services, or a message that is too long; a keeper that is gone; [`Error::Interrupted`].
    pub fn serve(
        &mut self,
        services: &[Service],
        stdio: &[BorrowedFd<'_>],
        interrupted: impl Fn() -> bool,
    ) -> Result<Result<(), (String, String)>, Error> {
        let before = self.stop;
        self.ask_serve(services, stdio)?;
        let ready = services.iter().map(|service| service.ready_timeout);
        let patience = together(ready.chain([before, self.stop, GRACE]));
        match self.answer(patience, interrupted, "starting services")? {
            FromKeeper::Serving => Ok(Ok(())),
            FromKeeper::ServiceFailed { name, why } => Ok(Err((name, why))),
            other => Err(unasked("starting services", &other)),
        }
    }

    /// Sends the request of [`serve`](Keeper::serve), without waiting for the answer.
    ///
    /// # Errors
    /// As for [`serve`](Keeper::serve).
    pub fn ask_serve(&mut self, services: &[Service], stdio: &[BorrowedFd<'_>]) -> Result<(), Error> {
        if services.len() > SERVICES_MAX {
            let count = services.len();
            return Err(UsageError::new(format!("{count} services; at most {SERVICES_MAX} run together")).into());
        }
        self.say("starting services", &ToKeeper::Serve { services: services.to_vec() }, stdio)?;
        self.stop = together(services.iter().map(|service| service.stop_timeout));
        Ok(())
    }

    /// Waits for a message of the keeper, for at most `time` and at most 20 ms.
    pub fn listen(&self, time: Duration) -> Told {
        let Some(child) = &self.child else { return Told::Nothing };
        match child.listen(time) {
            Heard::Message(FromWorker::Keeper(message)) => Told::Message(message),
            Heard::Message(_) => Told::Gone("the keeper said what no keeper says".to_owned()),
            Heard::Lie(lie) => Told::Gone(format!("the keeper was not understood: {lie}")),
            Heard::Dead(exit) => Told::Gone(format!("the keeper {}", describe_exit(exit))),
            Heard::Nothing => Told::Nothing,
        }
    }

    /// Whether the keeper's process has ended: its ports are free then. Costs one load.
    pub(crate) fn is_gone(&self) -> bool {
        self.child.as_ref().is_some_and(Child::is_dead)
    }

    /// Tells the keeper to end everything. The messages after that say how the services ended, then that the keeper is
    /// gone.
    pub fn ask_end(&self) {
        if let Some(child) = &self.child {
            let _ = child.send(&ToKeeper::End, &[]);
        }
    }

    /// How long the end may take.
    pub fn end_timeout(&self) -> Duration {
        self.stop.saturating_add(GRACE)
    }

    /// The output of the keeper and its services: the newest 64 KiB, not escaped.
    pub fn log(&self) -> String {
        self.child.as_ref().map(|child| child.log().text()).unwrap_or_default()
    }

    fn say(&self, what: &'static str, message: &ToKeeper, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let Some(child) = &self.child else { return Ok(()) };
        child.send(message, descriptors).map_err(Error::system(what))
    }

    /// Waits for the answer to a request. The end of a service meanwhile is not returned: it shows as the service's
    /// failure.
    fn answer(
        &self,
        timeout: Duration,
        interrupted: impl Fn() -> bool,
        what: &'static str,
    ) -> Result<FromKeeper, Error> {
        let deadline = deadline(timeout);
        loop {
            match self.listen(SLICE) {
                Told::Message(FromKeeper::ServiceEnded { .. }) => {}
                Told::Message(message) => return Ok(message),
                Told::Gone(why) => return Err(Error::system(what)(std::io::Error::other(why))),
                Told::Nothing if interrupted() => return Err(Error::Interrupted),
                Told::Nothing if Instant::now() >= deadline => {
                    return Err(Error::system(what)(std::io::ErrorKind::TimedOut.into()));
                }
                Told::Nothing => {}
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        if self.host != std::process::id() {
            // This is a fork's copy: the keeper and its socket are the parent's.
            std::mem::forget(child);
            return;
        }
        let _ = child.send(&ToKeeper::End, &[]);
        let deadline = deadline(self.end_timeout());
        while !child.is_dead() && Instant::now() < deadline {
            if !matches!(child.listen(SLICE), Heard::Nothing | Heard::Message(_)) {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        // A keeper that is still there is killed here; its services die with it.
    }
}

fn unasked(what: &'static str, message: &FromKeeper) -> Error {
    Error::system(what)(std::io::Error::other(format!("the keeper answered {message:?}")))
}

/// Replaces the placeholders of a text: `{NAME}` by what `lookup` has for `NAME`. `{{` and `}}` are braces.
///
/// ```
/// let lookup = |name: &str| (name == "agent").then(|| "3100".to_owned());
/// assert_eq!(rollcage::outside::service::expand("{agent} {{}}", lookup, &["agent".to_owned()]).unwrap(), "3100 {}");
/// ```
///
/// # Errors
/// A name that `lookup` does not have, with the `known` names in a hint; a single brace.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>, known: &[String]) -> Result<String, UsageError> {
    let wrong = |why: String| {
        let known: Vec<String> = known.iter().map(|name| format!("`{{{name}}}`")).collect();
        let there = if known.is_empty() { String::new() } else { format!("there is {}; ", known.join(", ")) };
        UsageError::new(format!("`{}`: {why}", plain(text, SHOWN_MAX)))
            .hint(format!("{there}`{{{{` and `}}}}` are braces that mean nothing"))
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            out.push_str(brace);
            rest = after;
        } else if brace == "}" {
            return Err(wrong("`}` without `{`".to_owned()));
        } else {
            let Some((name, after)) = after.split_once('}') else {
                return Err(wrong("`{` without `}`".to_owned()));
            };
            let value = lookup(name);
            out.push_str(&value.ok_or_else(|| wrong(format!("unknown placeholder `{{{}}}`", plain(name, SHOWN_MAX))))?);
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, UsageError> {
        let lookup = |name: &str| match name {
            "a" => Some("1".to_owned()),
            "a+1" => Some("2".to_owned()),
            _ => None,
        };
        expand(text, lookup, &["a".to_owned(), "a+1".to_owned()])
    }

    #[test]
    fn placeholders_are_replaced_and_braces_stay() {
        for (text, out) in [
            ("", ""),
            ("plain ü", "plain ü"),
            ("{a}", "1"),
            ("127.0.0.1:{a},{a+1}", "127.0.0.1:1,2"),
            ("{{a}}", "{a}"),
            ("{{{a}}}", "{1}"),
            ("{{\"port\": {a}}}", "{\"port\": 1}"),
        ] {
            assert_eq!(expanded(text).unwrap(), out, "{text}");
        }
    }

    #[test]
    fn a_wrong_placeholder_is_told_with_the_right_ones() {
        for (text, why) in [
            ("{b}", "unknown placeholder `{b}`"),
            ("{}", "unknown placeholder `{}`"),
            ("{a+2}", "unknown placeholder `{a+2}`"),
            ("{ a}", "unknown placeholder `{ a}`"),
            ("{a", "`{` without `}`"),
            ("a}", "`}` without `{`"),
        ] {
            let error = expanded(text).unwrap_err();
            assert_eq!(error.message, format!("`{text}`: {why}"));
            assert_eq!(error.hints, ["there is `{a}`, `{a+1}`; `{{` and `}}` are braces that mean nothing"]);
        }
    }
}
