//! The ports and services of an instance: taken and started before its worker. It also restarts an instance, with its
//! services, after its number of episodes.

use std::time::{Duration, Instant};

use super::fault::FaultFound;
use super::instance::Started;
use super::{Phase, Slot, Terms};
use crate::error::{Error, UsageError};
use crate::fault::FaultKind;
use crate::interrupt::Interrupt;
use crate::limits::{deadline, together};
use crate::outside::grant::{Per, Placeholders, inject};
use crate::outside::service::{Keeper, Told};
use crate::wire::keeper::{FromKeeper, Service};
use crate::wire::lease::LeaseSpec;

/// The time for ports to become free.
pub(crate) const LEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The extra time for a keeper, beyond the times it was given.
const GRACE: Duration = Duration::from_secs(5);

/// Bytes of a service's log that an error shows.
const LOG_SHOWN_BYTES: usize = 1024;

impl Slot {
    /// The present values of placeholders.
    pub(super) fn scene(&self, terms: &Terms) -> Placeholders {
        let ports = terms.shared.iter().chain(&self.ports).cloned().collect();
        Placeholders { ports, env: Some((self.env, self.instance)), seed: self.first_seed() }
    }

    /// Asks for ports, if there are none yet, or for services.
    pub(super) fn begin_keeping(&mut self, terms: &Terms) -> Result<(), Error> {
        let begun = self.ask_keeper(terms);
        self.or_interrupted(begun, false)
    }

    fn ask_keeper(&mut self, terms: &Terms) -> Result<(), Error> {
        self.ended_services.clear();
        // A killed keeper has let its ports go, and its services are gone with it.
        while let Some(keeper) = &self.keeper {
            match keeper.listen(Duration::ZERO) {
                Told::Gone(_) => self.keeper = None,
                Told::Message(_) => {}
                Told::Nothing => return self.ask_services(terms),
            }
        }
        let mut keeper = Keeper::start(Some(&terms.program), || self.interrupt.is_raised())?;
        self.ports.clear();
        if terms.beside.leases.is_empty() {
            self.keeper = Some(keeper);
            return self.ask_services(terms);
        }
        keeper.ask_hold(&terms.beside.leases, LEASE_TIMEOUT)?;
        self.phase = Phase::Keeping { deadline: Instant::now() + LEASE_TIMEOUT + GRACE };
        self.keeper = Some(keeper);
        Ok(())
    }

    /// Starts the services of this instance; if there are none, its worker.
    fn ask_services(&mut self, terms: &Terms) -> Result<(), Error> {
        let services = terms.beside.services_for(&self.scene(terms), Per::Env)?;
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        if services.is_empty() {
            return self.start_worker(terms, Duration::ZERO);
        }
        let ready = services.iter().map(|service| service.ready_timeout);
        let patience = together(ready.chain([keeper.end_timeout(), GRACE]));
        keeper.ask_serve(&services, &[])?;
        self.phase = Phase::Keeping { deadline: deadline(patience) };
        Ok(())
    }

    /// Listens to the keeper of an instance that is starting.
    pub(super) fn hear_keeper(&mut self, deadline: Instant, patience: Duration, terms: &Terms) -> Started {
        let Some(keeper) = &self.keeper else { return Started::fault(FaultKind::Exited, "no keeper") };
        let patience = patience.min(deadline.saturating_duration_since(Instant::now()));
        let next = match keeper.listen(patience) {
            Told::Message(FromKeeper::Held { ports }) if ports.len() == terms.beside.leases.len() => {
                self.ports = terms.beside.leases.iter().cloned().zip(ports).collect();
                self.put_ports_in(terms).and_then(|()| self.ask_services(terms))
            }
            Told::Message(FromKeeper::Serving) => self.start_worker(terms, Duration::ZERO),
            // A service of an earlier instance.
            Told::Message(FromKeeper::ServiceEnded { .. }) => Ok(()),
            Told::Message(FromKeeper::Exhausted(why)) => Err(exhausted(why)),
            Told::Message(FromKeeper::ServiceFailed { name, why }) => Err(service_failed(keeper, &name, &why)),
            Told::Message(FromKeeper::Held { .. }) => Err(broken("it answered for other leases".to_owned())),
            Told::Message(FromKeeper::Counted | FromKeeper::Full(_)) => {
                Err(broken("it counted, and nobody asked".to_owned()))
            }
            Told::Gone(why) => {
                self.keeper = None;
                return Started::fault(FaultKind::KeeperLost, &lost(&why));
            }
            Told::Nothing if Instant::now() >= deadline => Err(broken("it did not answer in time".to_owned())),
            Told::Nothing => return Started::NotYet,
        };
        match next {
            Ok(()) => Started::Kept,
            // If ports or services are missing at the first start, the operator must act. Later it is a fault of this
            // instance.
            Err(error) if self.is_first_here() => Started::Refused(error),
            Err(error) => Started::fault(FaultKind::CreateFailed, &error.to_string()),
        }
    }

    /// Puts the ports into the config.
    fn put_ports_in(&mut self, terms: &Terms) -> Result<(), Error> {
        if let Some(given) = &self.config_with_leases {
            let mut config = given.clone();
            inject(&mut config, &self.scene(terms).ports)?;
            self.config = terms.prepared.schema.complete(config, terms.prepared.plugin.name())?;
        }
        Ok(())
    }

    /// Whether the env's keeper has ended.
    pub(super) fn has_lost_its_keeper(&self) -> bool {
        self.keeper.as_ref().is_some_and(Keeper::is_gone)
    }

    /// Hears which services have ended by themselves; a later fault names them. Returns a message if the keeper itself is
    /// gone, which is a fault: it is reported once, with its consequences.
    pub(super) fn hear_what_ended(&mut self) -> Option<String> {
        let keeper = self.keeper.as_ref()?;
        loop {
            match keeper.listen(Duration::ZERO) {
                Told::Message(FromKeeper::ServiceEnded { name, exit }) => {
                    self.ended_services.push(format!("its service `{name}` {exit}"));
                }
                Told::Message(_) => {}
                Told::Gone(why) => {
                    self.keeper = None;
                    return Some(lost(&why));
                }
                // The watcher is about to report how the keeper ended.
                Told::Nothing if keeper.is_gone() => {}
                Told::Nothing => return None,
            }
        }
    }

    /// The fault of an env that has lost its keeper. Its message is filled in by `make_fault`.
    pub(super) fn keeper_lost() -> FaultFound {
        (FaultKind::KeeperLost, String::new(), Vec::new())
    }

    /// Ends an instance that has played its episodes and starts the next instance, which continues the operation under way.
    pub(super) fn recycle_if_due(&mut self, terms: &Terms) {
        let due = terms.recycle_after.is_some_and(|episodes| self.played >= episodes);
        if !(due && self.ended && matches!(self.phase, Phase::Idle)) {
            return;
        }
        self.enter_recycled();
        let deadline = deadline(terms.limits.close_timeout);
        if self.begin_close(deadline) {
            self.phase = Phase::Closing { deadline };
        } else {
            self.start_next(terms);
        }
    }

    /// Ends the instance, and starts the next one.
    pub(super) fn start_next(&mut self, terms: &Terms) {
        self.stop();
        if let Err(error) = self.start_instance(terms) {
            self.give_up(error);
        }
    }
}

/// Counts so many envs among all that this user runs, where there is a ceiling; none: there is none.
pub(crate) fn count_envs(terms: &Terms, envs: usize, interrupt: &Interrupt) -> Result<Option<Keeper>, Error> {
    if terms.ceilings.is_empty() {
        return Ok(None);
    }
    let is_raised = || interrupt.is_raised();
    let mut keeper = Keeper::start(Some(&terms.program), is_raised)?;
    keeper.count(terms.share_of(envs), &terms.ceilings, is_raised)?;
    Ok(Some(keeper))
}

/// Counts the run, and takes the ports and starts the services that all its envs share. None: there is nothing of it.
pub(crate) fn keep_the_run(
    terms: &mut Terms,
    envs: usize,
    seed: u64,
    interrupt: &Interrupt,
) -> Result<Option<Keeper>, Error> {
    let counted = count_envs(terms, envs, interrupt)?;
    if !terms.beside.run_is_kept() {
        return Ok(counted);
    }
    let is_raised = || interrupt.is_raised();
    let mut keeper = match counted {
        Some(keeper) => keeper,
        None => Keeper::start(Some(&terms.program), is_raised)?,
    };
    let leases: Vec<LeaseSpec> = terms.beside.run_leases.clone();
    if !leases.is_empty() {
        let ports = keeper.hold(&leases, LEASE_TIMEOUT, is_raised)?;
        terms.shared = leases.into_iter().zip(ports).collect();
    }
    let scene = Placeholders { ports: terms.shared.clone(), env: None, seed };
    let services: Vec<Service> = terms.beside.services_for(&scene, Per::Run)?;
    if !services.is_empty()
        && let Err((name, why)) = keeper.serve(&services, &[], is_raised)?
    {
        return Err(service_failed(&keeper, &name, &why));
    }
    Ok(Some(keeper))
}

/// The error for a lost keeper of the shared services. No env caused it, and no restarted env gets the keeper back.
pub(crate) fn lost_keeper_of_the_run(keeper: &Keeper) -> Option<Error> {
    let why = "its keeper has ended: shared ports may be somebody else's by now, shared services have ended, and the run is not \
         counted any more; start anew";
    keeper.is_gone().then(|| Error::system("keeping what the run shares")(std::io::Error::other(why)))
}

fn lost(why: &str) -> String {
    format!("{why}: the env's ports may be somebody else's by now, and its services have ended")
}

fn exhausted(why: String) -> Error {
    Error::system("taking leases")(std::io::Error::new(std::io::ErrorKind::AddrInUse, why))
}

fn broken(why: String) -> Error {
    Error::system("asking the keeper")(std::io::Error::other(why))
}

/// The error for a service that failed to start: the reason, and its last output.
fn service_failed(keeper: &Keeper, name: &str, why: &str) -> Error {
    let log = keeper.log();
    let mut from = log.len().saturating_sub(LOG_SHOWN_BYTES);
    while !log.is_char_boundary(from) {
        from += 1;
    }
    let error = UsageError::new(format!("service `{name}`: {}", crate::text::escape_line(why)));
    log[from..]
        .lines()
        .rev()
        .take(5)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .fold(error, |error, line| error.hint(format!("it printed: {}", crate::text::escape_line(line))))
        .into()
}
