//! On the path of a step of envs that share a worker: vec_env → slab → wait → **worker/pack** → worker/serve →
//! worker/instance → slab.
//! This file knows which envs have a turn, and makes their instances; `serve.rs` answers for one of them.
//!
//! Each env has a store of its own, a limit of its own and a log of its own. Nothing but wasm keeps them apart.

use std::io;
use std::sync::Arc;

use super::instance::CreateFailure;
use super::load::Loaded;
use super::policy::PolicyCode;
use super::serve::{After, Line, SLEEP, Served};
use super::wasi::guest::Outside;
use super::wasi::streams::OwnLog;
use super::{Control, instance_with_log, refused, say, warm_up};
use crate::cage::Standing;
use crate::fault::FaultKind;
use crate::wire::job::PackJob;
use crate::wire::slab::pack::WorkerPack;
use crate::wire::slab::worker::WorkerSlab;
use crate::wire::slab::{Answer, Command, Lie, Request, Status};
use crate::wire::talk::{FromWorker, GuestFault, ToWorker};
use crate::wire::wait::{self, Spin};

/// One env of several.
#[expect(clippy::large_enum_variant, reason = "nearly every row runs, and a step goes through no further pointer")]
enum Row {
    /// No instance: before the first, after a goodbye or a fault.
    Empty(WorkerSlab),
    Running(Served),
}

/// What every env of the worker is made of.
pub(super) struct Making<'a> {
    pub(super) job: &'a PackJob,
    pub(super) loaded: &'a Loaded,
    pub(super) policy: Option<Arc<PolicyCode>>,
    pub(super) outside: Outside,
    pub(super) standing: Standing,
}

/// Says that envs can be made, then answers the turns of all envs until the host ends the process.
pub(super) fn serve(control: Control, job: &PackJob, mut slab: WorkerPack, making: Making<'_>) -> io::Result<()> {
    let mut rows: Vec<Row> = (0..job.rows as usize).map(|row| Row::Empty(slab.row(row))).collect();
    say(control, &FromWorker::Ready { bulk_len: 0, imports_us: 0 })?;
    loop {
        let Some(turn) = slab.told() else {
            let (watched, spin_us) = slab.watched();
            wait::wait(watched.word, watched.last, watched.sleeps, Spin::for_us(spin_us), SLEEP);
            continue;
        };
        for (number, row) in rows.iter_mut().enumerate() {
            if let Some(request) = row.slab().take() {
                slab.begin(number);
                row.take_turn(&request.map_err(|Lie(what)| io::Error::other(what))?, &making)?;
            }
        }
        slab.finish(turn);
    }
}

impl Row {
    fn slab(&mut self) -> &mut WorkerSlab {
        match self {
            Row::Empty(slab) => slab,
            Row::Running(served) => served.slab(),
        }
    }

    #[inline]
    fn take_turn(&mut self, request: &Request, making: &Making<'_>) -> io::Result<()> {
        match self {
            Row::Running(served) if request.command != Command::Create => {
                if served.take_turn(request)? == After::Ended {
                    *self = Row::Empty(served.slab().same());
                }
                Ok(())
            }
            _ if request.command == Command::Create => self.create(making),
            _ => Err(io::Error::other(format!("{:?} of an env that was not made", request.command))),
        }
    }

    /// Makes the env anew, in place of the one before.
    fn create(&mut self, making: &Making<'_>) -> io::Result<()> {
        // The memory of the instance before is given back first.
        *self = Row::Empty(self.slab().same());
        let Row::Empty(slab) = self else { return Ok(()) };
        let ToWorker::Create(config) = slab.read_message()? else {
            return Err(io::Error::other("no config came with the turn that makes an env"));
        };
        let failed = match making.instance(slab, &config) {
            Ok(served) => {
                served.say_ready()?;
                slab.publish(&Answer::NOTHING);
                *self = Row::Running(served);
                return Ok(());
            }
            Err(failed) => failed,
        };
        let (status, message) = match failed {
            CreateFailure::Config(errors) => (Status::Refused, FromWorker::ConfigRefused(errors)),
            CreateFailure::Fault(fault) => (Status::Fault, FromWorker::Fault(fault)),
        };
        slab.write_message(&message)?;
        slab.publish(&Answer { status, ..Answer::NOTHING });
        Ok(())
    }
}

impl Making<'_> {
    fn instance(&self, slab: &WorkerSlab, config: &str) -> Result<Served, CreateFailure> {
        let PackJob { each, logs_through, .. } = self.job;
        let outside = Outside {
            directories: self.outside.directories.clone(),
            assets: self.outside.assets.clone(),
            real_random: each.granted.real_random,
            ..Outside::default()
        };
        let failed = |what: String| CreateFailure::Fault(refused(FaultKind::CreateFailed, what));
        let log = slab.log().ok_or_else(|| failed("its slab has no log".to_owned()))?;
        let log = Box::new(OwnLog { own: log, through: *logs_through });
        let fault = |fault: GuestFault| CreateFailure::Fault(fault);
        let mut instance = instance_with_log(each, self.loaded, outside, log).map_err(fault)?;
        let imports = warm_up(each, &mut instance).map_err(fault)?;
        let spec = instance.create(config)?;
        let served = Served::new(slab.same(), Line::Slab, instance, spec, self.standing.clone(), imports);
        served.map(|served| served.with_policy(self.policy.clone(), each.clock_step)).map_err(failed)
    }
}
