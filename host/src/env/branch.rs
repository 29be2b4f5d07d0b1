//! Branches: live copies of an env at its present step, and copies put in other envs' places. A worker is single-threaded and
//! locked, so one system call copies it (`docs/copies.md`).
//!
//! This file knows envs and slots. Processes and their copies belong to `cage/copy` and the watcher.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::batch::Batch;
use super::builder::ENVS_MAX;
use super::slot::{self, Slot};
use super::vec_env::VecEnv;
use crate::error::{Error, UsageError};
use crate::interrupt::Interrupt;

impl VecEnv {
    /// Makes `count` live copies of an env in its present state: envs of a `VecEnv` of their own, each in a process of its
    /// own. Env and copies share memory until one of them writes to it, and nothing else: from now on neither sees what the
    /// other does. Given the same actions, a copy goes on exactly as the env would, bit for bit. Copies can be branched
    /// again.
    ///
    /// Each copy starts as its own first instance, with the env's history so far as its past: its digest equals the digest of
    /// an env with the same history. A copy is not recorded, and it gets a new interrupt flag.
    ///
    /// ```no_run
    /// # fn look(envs: &mut rollcage::VecEnv, actions: &[u8]) -> Result<(), rollcage::Error> {
    /// let mut futures = envs.branch(0, 8)?; // eight copies of env 0
    /// let rewards = &futures.step(actions)?.rewards;
    /// println!("{rewards:?}"); // env 0 has not moved
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`]: no such env, no copies or more than [`ENVS_MAX`], an env in flight, masked or without an instance
    /// after a fault; an env with granted sockets, ports or services, which cannot be in two processes; or copies were
    /// switched off ([`Builder::branching`](crate::Builder::branching)). [`Error::Fault`]: the env is dead.
    /// [`Error::Interrupted`].
    pub fn branch(&mut self, env: usize, count: usize) -> Result<VecEnv, Error> {
        check_count(count)?;
        let mut branches = self.branches(env, count)?;
        branches.set_interrupt(&Interrupt::default());
        Ok(branches)
    }

    /// The branches, made with this call's interrupt for their waits.
    fn branches(&mut self, env: usize, count: usize) -> Result<VecEnv, Error> {
        let index = self.check_copied(env)?;
        self.terms.make_room(count)?;
        let counted = slot::count_envs(&self.terms, count, &self.interrupt)?;
        // Ask for all copies before waiting for any.
        let slots = self.copies_of(index, count)?;
        let mut branches = self.beside(slots);
        branches.keeper = counted;
        branches.come_up()?;
        Ok(branches)
    }

    /// As [`VecEnv::branch`], with one copy for each seed. A copy begins its random streams anew from its seed, so the
    /// futures differ where the env is random. The reseeding is an event, as with [`VecEnv::reseed`].
    ///
    /// # Errors
    /// As [`VecEnv::branch`] and [`VecEnv::reseed`].
    pub fn branch_reseeded(&mut self, env: usize, seeds: &[u64]) -> Result<VecEnv, Error> {
        check_count(seeds.len())?;
        let mut branches = self.branches(env, seeds.len())?;
        seeds.iter().enumerate().try_for_each(|(index, seed)| branches.reseed(index, *seed))?;
        branches.set_interrupt(&Interrupt::default());
        Ok(branches)
    }

    /// Makes each env of `to` a copy of env `from` in its present state: the next instance of that env, in the middle of an
    /// episode. The rows of `to` show the copied view; the other rows stay as they are.
    ///
    /// # Errors
    /// As [`VecEnv::branch`]; and [`Error::Usage`] where the run is recorded, since the rows of such an instance would lack
    /// their beginning. After an error no env has changed.
    pub fn write_back(&mut self, from: usize, to: &[usize]) -> Result<&Batch, Error> {
        self.check_replaced(to)?;
        let index = self.check_copied(from)?;
        let slots = self.copies_of(index, to.len())?;
        self.replace(to, slots)
    }

    /// As [`VecEnv::write_back`], from an env of another `VecEnv`, usually one of its branches.
    ///
    /// # Errors
    /// As [`VecEnv::write_back`]; and [`Error::Usage`] where neither `VecEnv` is a branch of the other.
    pub fn write_back_from(&mut self, source: &mut VecEnv, from: usize, to: &[usize]) -> Result<&Batch, Error> {
        self.check_replaced(to)?;
        if !Arc::ptr_eq(&self.terms, &source.terms) {
            return Err(UsageError::new("the env to be copied is not of these envs, nor of branches of theirs").into());
        }
        // This call waits for the other `VecEnv`'s env, and either `VecEnv` may be closed meanwhile.
        let theirs = source.interrupt.clone();
        source.set_interrupt(&self.interrupt.or_flag_of(&theirs));
        let slots = source.check_copied(from).and_then(|index| source.copies_of(index, to.len()));
        source.set_interrupt(&theirs);
        self.replace(to, slots?)
    }

    /// Whether an env may be copied now.
    fn check_copied(&mut self, env: usize) -> Result<usize, Error> {
        self.check_started()?;
        let index = self.existing(env)?;
        let refuse = |what: &str, hint: &str| UsageError::new(format!("env {env} cannot be copied: {what}")).hint(hint);
        if self.terms.granted.talks() || self.terms.beside.is_kept() {
            let hint = "what it did can be recorded, replayed, and branched there";
            return Err(refuse("it may have connections, ports or services, which are one process's", hint).into());
        }
        if self.terms.each > 1 {
            let hint = "start the envs one to a worker (`envs_per_worker=1`); a snapshot and `restore` work with any";
            return Err(refuse("it shares its worker, and a process is copied with all its envs", hint).into());
        }
        if !self.terms.copied {
            return Err(refuse("it was started without that", "`Builder::branching(true)`").into());
        }
        self.finish_pending_of(index)?;
        if self.slots[index].is_masked() {
            return Err(refuse("it is masked after a fault", "reset it first").into());
        }
        Ok(index)
    }

    /// Checks that the instances of these envs may be replaced by copies.
    pub(crate) fn check_replaced(&mut self, envs: &[usize]) -> Result<(), Error> {
        self.check_started()?;
        if self.recording.is_some() {
            return Err(UsageError::new(
                "the run is recorded: an instance that begins in the middle has no rows before it",
            )
            .hint("`finish_recording` first, or do it with envs that are not recorded")
            .into());
        }
        if self.terms.beside.is_kept() {
            return Err(UsageError::new(
                "these envs have ports or services of their own, which another env's state does not fit",
            )
            .into());
        }
        self.check_ids(envs)?;
        self.check_not_halved()?;
        envs.iter().try_for_each(|&index| self.finish_pending_of(index))
    }

    /// Asks for copies of an env and returns their slots, numbered from 0.
    fn copies_of(&mut self, index: usize, count: usize) -> Result<Vec<Slot>, Error> {
        let VecEnv { slots, terms, batch, faults, .. } = self;
        let copy = |number| {
            let child = slots[index].ask_for_copy(terms, batch, faults)?;
            Ok(slots[index].of_copy(number, child, terms))
        };
        (0u32..).take(count).map(copy).collect()
    }

    /// A `VecEnv` of these slots with the same terms. It has this `VecEnv`'s interrupt while a call of this `VecEnv` makes
    /// it.
    pub(crate) fn beside(&self, slots: Vec<Slot>) -> VecEnv {
        self.terms.stock.envs.fetch_add(slots.len(), Relaxed);
        let (terms, interrupt) = (Arc::clone(&self.terms), self.interrupt.clone());
        VecEnv::assembled_beside(slots, terms, self.grants.clone(), self.seed, interrupt)
    }

    pub(super) fn set_interrupt(&mut self, interrupt: &Interrupt) {
        self.interrupt = interrupt.clone();
        self.slots.iter_mut().for_each(|slot| slot.set_interrupt(interrupt));
    }

    /// Waits until every env is ready, and shows its present view in its row.
    pub(crate) fn come_up(&mut self) -> Result<(), Error> {
        for index in 0..self.slots.len() {
            self.finish(index)?;
            if let Some(error) = self.slots[index].take_error() {
                return Err(error);
            }
            // A copy that met a fault has been replaced by an instance that is not a copy.
            if let Some(fault) = self.faults.first().first() {
                return Err(fault.clone().into());
            }
            self.slots[index].show(&mut self.batch);
        }
        Ok(())
    }

    /// Puts these slots in the places of others, once all of them are ready.
    fn replace(&mut self, envs: &[usize], slots: Vec<Slot>) -> Result<&Batch, Error> {
        let mut fresh = self.beside(slots);
        fresh.come_up()?;
        Ok(self.take_over(envs, &mut fresh))
    }

    /// Takes the only env out; the rest of this value ends.
    pub(crate) fn leave_only(mut self) -> Option<Slot> {
        self.terms.stock.envs.fetch_sub(self.slots.len(), Relaxed);
        std::mem::take(&mut self.slots).pop()
    }

    /// Moves the envs of another `VecEnv` into the places of these.
    pub(crate) fn take_over(&mut self, envs: &[usize], fresh: &mut VecEnv) -> &Batch {
        let slots = std::mem::take(&mut fresh.slots);
        self.terms.stock.envs.fetch_sub(slots.len(), Relaxed);
        for (&index, slot) in envs.iter().zip(slots) {
            self.slots[index].become_that(slot);
            self.slots[index].show(&mut self.batch);
        }
        &self.batch
    }
}

fn check_count(count: usize) -> Result<(), UsageError> {
    if count == 0 || count > ENVS_MAX {
        return Err(UsageError::new(format!("{count} branches; from 1 to {ENVS_MAX} are possible")));
    }
    Ok(())
}
