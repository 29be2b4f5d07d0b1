//! A policy in a process of its own: it answers turns as `wire/acting.rs` says. What it may do is what an env's worker may
//! that was granted nothing.

use std::io;
use std::sync::Arc;

use rustix::net::RecvFlags;

use super::assets::Assets;
use super::load::Loaded;
use super::policy::{PolicyCode, PolicyInstance, of};
use super::serve::{bad_answer, publish, wait_for_turn};
use super::wasi::streams::LogPipe;
use super::{Control, refused, say};
use crate::cage::process;
use crate::fault::FaultKind;
use crate::spec::Spec;
use crate::wire::acting::{self, Names};
use crate::wire::job::{ActsFor, EnvJob, PolicyJob};
use crate::wire::packet;
use crate::wire::slab::layout::{ViewLayout, Which};
use crate::wire::slab::worker::{ViewBytes, WorkerSlab};
use crate::wire::slab::{Answer, Command, Request, Status};
use crate::wire::talk::{FromWorker, GuestFault, ToWorker};

/// Makes the policy, and answers its turns until the end.
pub(super) fn serve(
    control: Control,
    job: &EnvJob,
    acts_for: &ActsFor,
    mut slab: WorkerSlab,
    loaded: Loaded,
    assets: Arc<Assets>,
) -> io::Result<()> {
    let mut asked = match Asked::new(job, acts_for, &slab, loaded, assets) {
        Ok(asked) => asked,
        Err(fault) => return say(control, &FromWorker::Fault(fault)),
    };
    let spec = acting::spec(&asked.env, asked.policy.names().len()).encode().map_err(io::Error::other)?;
    if !slab.write_bulk(0, &spec) {
        return Err(io::Error::other("the spec does not fit the bulk area"));
    }
    let bulk_len = u32::try_from(spec.len()).map_err(io::Error::other)?;
    say(control, &FromWorker::Ready { bulk_len, imports_us: 0 })?;
    loop {
        let request = wait_for_turn(&mut slab)?;
        match asked.answer(control, &request, &slab)? {
            Ok(answer) => publish(&slab, &answer),
            Err(fault) => {
                say(control, &FromWorker::Fault(fault))?;
                publish(&slab, &Answer { status: Status::Fault, ..Answer::NOTHING });
                return Ok(());
            }
        }
    }
}

/// The policy, and what it is asked about.
struct Asked {
    policy: PolicyInstance,
    /// The layouts of the env for which it acts, and of itself.
    env: ViewLayout,
    own: ViewLayout,
    question: Vec<u8>,
    decision: Vec<u8>,
}

impl Asked {
    fn new(
        job: &EnvJob,
        acts_for: &ActsFor,
        slab: &WorkerSlab,
        loaded: Loaded,
        assets: Arc<Assets>,
    ) -> Result<Asked, GuestFault> {
        let failed = |what: String| refused(FaultKind::CreateFailed, what);
        let code = PolicyCode {
            job: PolicyJob {
                engine: job.engine,
                interface: job.interface.clone(),
                sha256: job.plugin_sha256,
                assets_bytes: job.assets_bytes,
                memory_bytes: job.memory_bytes,
                fuel: job.fuel_per_step,
            },
            loaded,
            assets,
        };
        let spec = slab.read_bulk(acts_for.spec_len as usize).ok_or("the spec of its env did not come".to_owned());
        let spec = spec.and_then(|bytes| Spec::decode(&bytes)).map_err(failed)?;
        let env = ViewLayout::of(&spec).map_err(failed)?;
        let policy = PolicyInstance::create(&code, &spec, acts_for.key, &job.config, job.clock_step, Box::new(LogPipe));
        let policy = policy.map_err(|fault| of("`create`", fault))?;
        let own = ViewLayout::of(&acting::spec(&env, policy.names().len())).map_err(|what| {
            failed(format!("an observation is too large for a policy in a process of its own: {what}"))
        })?;
        Ok(Asked { policy, env, own, question: vec![0; own.action], decision: vec![0; own.observation] })
    }

    fn answer(
        &mut self,
        control: Control,
        request: &Request,
        slab: &WorkerSlab,
    ) -> io::Result<Result<Answer, GuestFault>> {
        match request.command {
            Command::Reset => Ok(self.reset(slab)),
            Command::Step => Ok(self.act(slab)),
            Command::Message => match packet::receive(control, RecvFlags::empty())? {
                packet::Received::Message(ToWorker::Close, _) => {
                    publish(slab, &Answer::NOTHING);
                    // The memory goes with the process.
                    process::exit(0);
                }
                other => Err(io::Error::other(format!("a policy was asked {other:?}"))),
            },
            other => Err(io::Error::other(format!("a policy was asked for {other:?}"))),
        }
    }

    fn reset(&mut self, slab: &WorkerSlab) -> Result<Answer, GuestFault> {
        self.policy.reset().map_err(|fault| of("`reset`", fault))?;
        self.write(slab);
        let names = Names { adds: self.policy.names().to_vec() };
        let names = serde_json::to_string(&names).map_err(|error| refused(FaultKind::BadAnswer, error.to_string()))?;
        slab.write_extra(Which::View, names.as_bytes());
        Ok(Answer { extra_len: names.len(), ..Answer::NOTHING })
    }

    fn act(&mut self, slab: &WorkerSlab) -> Result<Answer, GuestFault> {
        slab.read_action(&self.own, 1, 0, &mut self.question);
        let (observation, mask) = acting::asked(&self.env, &self.question);
        let decision = self.policy.act(observation, mask).map_err(|fault| of("`act`", fault))?;
        if decision.action.len() != self.env.action {
            let (given, wanted) = (decision.action.len(), self.env.action);
            let what = format!("its action has {given} bytes; one of the action space has {wanted}");
            return Err(of("`act`", bad_answer(what)));
        }
        acting::decision(&decision.action, &decision.added, self.own.observation, &mut self.decision);
        self.write(slab);
        Ok(Answer { taken: 1, ..Answer::NOTHING })
    }

    fn write(&self, slab: &WorkerSlab) {
        let view = ViewBytes { observation: &self.decision, mask: &[], info: &[] };
        slab.write_view(&self.own, Which::View, view);
    }
}
