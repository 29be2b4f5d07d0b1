//! The hidden worker modes: a process of the `rollcage` program that the host started for one job.
//! The steps stand in the order of `docs/worker.md`; each is a line here and a file elsewhere.

mod compile;
pub(crate) mod instance;
mod load;
mod serve;
pub(crate) mod wasi;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};

use crate::cage::process::{self, Allowance};
use crate::control::{self, BUILD, CompileJob, EnvJob, FromWorker, GuestFault, Job, Received};
use crate::fault::FaultKind;
use crate::slab::WorkerSlab;
use instance::{CreateFailure, Instance, InstanceSettings};
use wasi::LogPipe;

/// Exit status after a panic of the worker's own code; the message is in the log.
const PANICKED: i32 = 70;
/// Exit status when the host or the system was not as a worker must find them; the message is in the log.
const UNSTARTED: i32 = 71;

/// Runs the job that the host has for this process. Never returns to `main`.
pub(crate) fn run() -> ! {
    let status = std::panic::catch_unwind(|| match work() {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "worker: {error}");
            UNSTARTED
        }
    });
    process::exit(status.unwrap_or(PANICKED))
}

fn work() -> io::Result<()> {
    let control = process::begin()?;
    say(&control, &FromWorker::Hello { build: BUILD.to_owned() })?;
    let (job, descriptors) = match control::receive(control.as_fd(), RecvFlags::empty())? {
        Received::Message(job, descriptors) => (job, descriptors),
        Received::Closed => return Ok(()),
        other => return Err(io::Error::other(format!("no job came: {other:?}"))),
    };
    let mut descriptors = descriptors.into_iter();
    let (Some(first), Some(second)) = (descriptors.next(), descriptors.next()) else {
        return Err(io::Error::other("a job comes with two descriptors"));
    };
    let directories: Vec<OwnedFd> = descriptors.collect();
    match job {
        Job::Compile(job) => compile_plugin(&control, &job, first, second),
        Job::Describe(job) => describe_plugin(&control, &job, first, second),
        Job::Env(job) => serve_env(control, &job, first, second, directories),
    }
}

/// Mode compile: a plugin's bytes in, code out. Nothing of the plugin is run.
fn compile_plugin(control: &OwnedFd, job: &CompileJob, plugin: OwnedFd, output: OwnedFd) -> io::Result<()> {
    process::lock(&Allowance {
        data_bytes: job.memory_bytes_max,
        file_bytes: job.output_bytes_max,
        cpu_seconds: Some(job.cpu_seconds_max),
    })?;
    let mut wasm = Vec::new();
    std::fs::File::from(plugin).read_to_end(&mut wasm)?;
    let answer = match compile::compile(&wasm, &job.engine) {
        Ok(compiled) => {
            std::fs::File::from(output).write_all(&compiled.code)?;
            FromWorker::Compiled { code_len: compiled.code.len() as u64, interface: compiled.interface }
        }
        Err(error) => FromWorker::NotCompiled(brief(error.to_string())),
    };
    say(control, &answer)
}

/// Mode describe: loads the code and asks it who it is.
fn describe_plugin(control: &OwnedFd, job: &EnvJob, slab: OwnedFd, code: OwnedFd) -> io::Result<()> {
    let slab = WorkerSlab::map(slab.as_fd())?;
    process::lock(&Allowance::of_env(job.memory_bytes))?;
    let description = instance_of(job, &code).and_then(|mut instance| {
        let mut description = instance.describe()?;
        description.interface.clone_from(&job.interface);
        description.encode().map_err(|what| refused(FaultKind::Compile, what))
    });
    match description {
        Ok(bytes) if slab.write_bulk(0, &bytes) => {
            say(control, &FromWorker::Ready { bulk_len: u32::try_from(bytes.len()).unwrap_or(u32::MAX) })?;
        }
        Ok(_) => {
            say(control, &FromWorker::Fault(refused(FaultKind::CreateFailed, "the description does not fit".into())))?
        }
        Err(fault) => say(control, &FromWorker::Fault(fault))?,
    }
    // The host reads the slab, then ends this process.
    let _ = control::receive::<control::ToWorker>(control.as_fd(), RecvFlags::empty());
    Ok(())
}

/// Mode env: one instance, then its turns until the end.
fn serve_env(
    control: OwnedFd,
    job: &EnvJob,
    slab: OwnedFd,
    code: OwnedFd,
    directories: Vec<OwnedFd>,
) -> io::Result<()> {
    if directories.len() != job.granted.directories.len() {
        return Err(io::Error::other("a granted directory did not come"));
    }
    let mapped = WorkerSlab::map(slab.as_fd())?;
    drop(slab);
    process::lock(&Allowance::of_env(job.memory_bytes))?;
    let mut instance = match instance_of(job, &code) {
        Ok(instance) => instance,
        Err(fault) => return say(&control, &FromWorker::Fault(fault)),
    };
    drop(code);
    let spec = match instance.create(&job.config) {
        Ok(spec) => spec,
        Err(CreateFailure::Config(errors)) => return say(&control, &FromWorker::ConfigRefused(errors)),
        Err(CreateFailure::Fault(fault)) => return say(&control, &FromWorker::Fault(fault)),
    };
    let bytes = match spec.encode() {
        Ok(bytes) => bytes,
        Err(what) => return say(&control, &FromWorker::Fault(refused(FaultKind::CreateFailed, what))),
    };
    let served = match serve::Served::new(mapped, control, instance, &spec) {
        Ok(served) => served,
        Err((control, what)) => return say(&control, &FromWorker::Fault(refused(FaultKind::CreateFailed, what))),
    };
    served.run(&bytes)
}

/// Loads the code and instantiates it.
fn instance_of(job: &EnvJob, code: &OwnedFd) -> Result<Instance, GuestFault> {
    let path = format!("/proc/self/fd/{}", code.as_raw_fd());
    let loaded = load::load(&path, &job.engine, &job.interface)
        .map_err(|error| refused(FaultKind::CreateFailed, error.to_string()))?;
    let settings = InstanceSettings {
        memory_bytes: job.memory_bytes,
        fuel_per_step: job.fuel_per_step,
        clock_step: job.clock_step,
        plugin_sha256: job.plugin_sha256,
    };
    Instance::new(&loaded, &settings, Box::new(LogPipe))
}

fn refused(kind: FaultKind, message: String) -> GuestFault {
    GuestFault { kind, message: brief(message), backtrace: Vec::new() }
}

/// A message the host gets: cut to what a fault keeps.
fn brief(mut message: String) -> String {
    crate::text::cut(&mut message, crate::fault::MESSAGE_BYTES_MAX);
    message
}

fn say(control: &impl AsFd, message: &FromWorker) -> io::Result<()> {
    control::send(control.as_fd(), message, &[], SendFlags::empty())
}
