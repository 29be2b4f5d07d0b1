//! The template process: a worker that is locked, has its code loaded and has instantiated nothing. It is never an env, and
//! copies itself on request. The memory that its copies share contains nothing that a guest could have written.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::RecvFlags;

use super::load::Loaded;
use super::{Control, hello, say, serve};
use crate::cage::Standing;
use crate::cage::copy::{self, Side};
use crate::cage::process::{self, LastFilter};
use crate::wire::job::Job;
use crate::wire::packet::{self, Received};
use crate::wire::slab::worker::WorkerSlab;
use crate::wire::talk::{FromWorker, ToTemplate};
use crate::worker::wasi::preopens::Preopen;

/// A template process at work.
pub(super) struct Template {
    pub(super) control: Control,
    pub(super) slab: WorkerSlab,
    pub(super) loaded: Loaded,
    pub(super) standing: Standing,
    pub(super) directories: Vec<Preopen>,
    /// The filter that its copies add if they may not be copied themselves.
    pub(super) last_filter: Option<LastFilter>,
}

impl Template {
    /// Reports that it is ready, then makes a copy for each message, until the host is gone. Also returns in each copy, at
    /// the copy's end.
    pub(super) fn run(self) -> io::Result<()> {
        say(self.control, &FromWorker::Ready { bulk_len: 0 })?;
        loop {
            let (ToTemplate::Copy, descriptors) = match packet::receive(self.control, RecvFlags::empty())? {
                Received::Message(message, descriptors) => (message, descriptors),
                Received::Closed => return Ok(()),
                other => return Err(io::Error::other(format!("no order came: {other:?}"))),
            };
            let [control, log, slab] = copy::descriptors_of_a_copy(descriptors)?;
            match copy::copy() {
                Ok(Side::Copy) => return self.become_env(control, log, slab),
                // The party that waits for the copy sees the copy's socket close, and then spawns a worker instead.
                Ok(Side::Original) | Err(_) => {}
            }
        }
    }

    /// Runs in the copy: continues as a worker that has just loaded its code.
    fn become_env(mut self, control: OwnedFd, log: OwnedFd, slab: OwnedFd) -> io::Result<()> {
        copy::become_the_copy(control, log)?;
        self.slab.replace(slab.as_fd())?;
        drop(slab);
        if let Some(filter) = &self.last_filter {
            filter.put_up()?;
        }
        hello(self.control)?;
        say(self.control, &FromWorker::Locked(self.standing.clone()))?;
        let (job, descriptors) = match packet::receive(self.control, RecvFlags::empty())? {
            Received::Message(Job::Env(job), descriptors) => (job, descriptors),
            Received::Closed => return Ok(()),
            other => return Err(io::Error::other(format!("no job came: {other:?}"))),
        };
        process::set_title(&job.title);
        let mut descriptors = descriptors.into_iter();
        // This descriptor only kept the numbers of the later ones.
        drop(descriptors.next());
        let outside = super::outside_of(&job, &mut descriptors, self.directories)?;
        serve::serve(self.control, &job, self.slab, &self.loaded, outside, self.standing)
    }
}
