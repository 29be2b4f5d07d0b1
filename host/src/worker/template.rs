//! The template process: a worker that is locked and has its code loaded. It is never an env, and copies itself on request.
//!
//! Most often it has instantiated nothing, and the memory that its copies share contains nothing that a guest could have
//! written. For a plugin that warms up it holds an instance that has done so: its copies share what the guest imported.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::RecvFlags;

use super::load::Loaded;
use super::policy::PolicyCode;
use super::wasi::guest::Outside;
use super::{Control, create_ready, hello, instance::Instance, policy_worker, say, serve};
use crate::cage::Standing;
use crate::cage::copy::{self, Side};
use crate::cage::process::{self, LastFilter};
use crate::wire::job::Job;
use crate::wire::packet::{self, Received};
use crate::wire::slab::worker::WorkerSlab;
use crate::wire::talk::{FromWorker, ToTemplate};

/// What a template process has for its copies.
pub(super) enum Content {
    /// Code, and what an instance will be given of the outside beside broker and capture.
    Code(Loaded, Outside),
    /// An instance that has warmed up.
    Instance(Instance),
}

/// A template process at work.
pub(super) struct Template {
    pub(super) control: Control,
    pub(super) slab: WorkerSlab,
    pub(super) content: Content,
    /// What the policies of its copies are made of.
    pub(super) policy: Option<Arc<PolicyCode>>,
    pub(super) standing: Standing,
    /// The filter that its copies add if they may not be copied themselves.
    pub(super) last_filter: Option<LastFilter>,
}

impl Template {
    /// Reports that it is ready, then makes a copy for each message, until the host is gone. Also returns in each copy, at
    /// the copy's end.
    pub(super) fn run(self) -> io::Result<()> {
        say(self.control, &FromWorker::Ready { bulk_len: 0, imports_us: 0 })?;
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

    /// Runs in the copy: continues as a worker that has just loaded its code, or warmed up.
    fn become_env(mut self, control: OwnedFd, log: OwnedFd, slab: OwnedFd) -> io::Result<()> {
        copy::become_the_copy(control, log)?;
        self.slab.replace(slab)?;
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
        let outside = super::outside_of(&job, &mut descriptors)?;
        let instance = match (self.content, &job.acts_for) {
            (Content::Instance(instance), _) => Ok((instance, Duration::ZERO)),
            (Content::Code(loaded, Outside { assets, .. }), Some(acts_for)) => {
                return policy_worker::serve(self.control, &job, acts_for, self.slab, loaded, assets);
            }
            (Content::Code(loaded, Outside { directories, assets, .. }), None) => {
                create_ready(&job, &loaded, Outside { directories, assets, ..outside })
            }
        };
        match instance {
            Ok((instance, imports)) => {
                serve::serve(self.control, &job, self.slab, instance, self.policy, self.standing, imports)
            }
            Err(fault) => say(self.control, &FromWorker::Fault(fault)),
        }
    }
}
