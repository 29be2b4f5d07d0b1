//! The hidden worker modes: a process of the `rollcage` program that the host started for one job. The steps come in the
//! order of `docs/worker.md`; each is a line here and a file elsewhere.

mod answer;
mod assets;
mod bindings;
mod compile;
pub(crate) mod instance;
mod load;
mod pack;
mod policy;
mod policy_worker;
mod rollout;
mod running;
mod serve;
mod template;
pub(crate) mod wasi;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use assets::{Assets, Section};
use instance::{Instance, InstanceSettings};
use policy::PolicyCode;
use rustix::net::{RecvFlags, SendFlags};
use template::{Content, Template};
use wasi::capture::Capture;
use wasi::guest::Outside;
use wasi::preopens::Preopen;
use wasi::streams::{Log, LogPipe};
use wasi::{line, preopens};

use crate::cage::Standing;
use crate::cage::numbers::{ASSETS, BROKER, CAPTURE, OUTPUT, PLUGIN};
use crate::cage::process::{self, Allowance, Plan};
use crate::cage::seccomp::{Allow, Copies, Purpose};
use crate::fault::FaultKind;
use crate::process::start::UNSTARTED;
use crate::record::capture::CAPTURE_BYTES_MAX;
use crate::wire::job::{Cage, CaptureMode, CompileJob, EnvJob, GrantedDirectory, Job, PackJob};
use crate::wire::packet::{self, Received};
use crate::wire::sealed::Sealed;
use crate::wire::slab::pack::WorkerPack;
use crate::wire::slab::worker::WorkerSlab;
use crate::wire::talk::{self, BUILD, FromWorker, GuestFault};

/// Exit status after a panic of the worker's own code; the message is in the log.
const PANICKED: i32 = 70;

/// The control socket: open until the process ends.
type Control = BorrowedFd<'static>;

/// Runs the job that the host has for this process, in a sandbox with these system calls. Never returns to `main`.
pub(crate) fn run(table: &'static [Allow]) -> ! {
    let status = std::panic::catch_unwind(|| match work(table) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "worker: {error}");
            UNSTARTED
        }
    });
    process::exit(status.unwrap_or(PANICKED))
}

fn work(table: &'static [Allow]) -> io::Result<()> {
    let control = process::begin()?;
    hello(control)?;
    let (job, descriptors) = match packet::receive(control, RecvFlags::empty())? {
        Received::Message(job, descriptors) => (job, descriptors),
        Received::Closed => return Ok(()),
        other => return Err(io::Error::other(format!("no job came: {other:?}"))),
    };
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a descriptor of the job did not come"));
    match job {
        Job::Check(cage) => check_walls(control, &cage, table),
        Job::Compile(job) => compile_plugin(control, &job, next()?, next()?, table),
        Job::Describe(job) => describe_plugin(control, &job, next()?, next()?, descriptors, table),
        Job::Env(job) => serve_env(control, &job, next()?, next()?, descriptors, table),
        Job::Pack(job) => serve_pack(control, &job, next()?, next()?, descriptors, table),
        Job::Template(job) => serve_template(control, &job, next()?, next()?, descriptors, table),
    }
}

/// Activates the sandbox layers up to filter one, and reports the active layers. None: a required layer is not active. The
/// host then ends this process, which must not go on.
fn lock(control: Control, plan: &Plan<'_>, cage: &Cage) -> io::Result<Option<Standing>> {
    let standing = process::lock(plan)?;
    say(control, &FromWorker::Locked(standing.clone()))?;
    Ok(standing.lacks(cage.required).is_none().then_some(standing))
}

/// Mode check: activates the sandbox layers, and does nothing else.
fn check_walls(control: Control, cage: &Cage, table: &'static [Allow]) -> io::Result<()> {
    let allowance = Allowance::of_env(0);
    let plan = Plan {
        walls: cage.walls,
        allowance,
        directories: Vec::new(),
        table,
        purpose: Purpose::PURE,
        landlock: cage.landlock,
    };
    match lock(control, &plan, cage)? {
        Some(standing) => process::seal(&plan, &standing),
        None => Ok(()),
    }
}

/// Mode compile: reads a plugin's bytes and writes code. The plugin is not run.
fn compile_plugin(
    control: Control,
    job: &CompileJob,
    plugin: OwnedFd,
    output: OwnedFd,
    table: &'static [Allow],
) -> io::Result<()> {
    // The filter knows both descriptors by their numbers.
    if (plugin.as_raw_fd() as u64, output.as_raw_fd() as u64) != (PLUGIN, OUTPUT) {
        return Err(io::Error::other("a compile process was started with descriptors open"));
    }
    let plan = Plan {
        walls: job.cage.walls,
        allowance: Allowance {
            data_bytes: job.memory_bytes_max,
            file_bytes: job.output_bytes_max,
            descriptors: 0,
            cpu_seconds: Some(job.cpu_seconds_max),
        },
        directories: Vec::new(),
        table,
        purpose: Purpose::Compile,
        landlock: job.cage.landlock,
    };
    if lock(control, &plan, &job.cage)?.is_none() {
        return Ok(());
    }
    let mut wasm = vec![0; usize::try_from(job.plugin_bytes).map_err(io::Error::other)?];
    std::fs::File::from(plugin).read_exact(&mut wasm)?;
    let answer = match compile::compile(&wasm, &job.engine) {
        Ok(compiled) => {
            std::fs::File::from(output).write_all(&compiled.code)?;
            FromWorker::Compiled { code_len: compiled.code.len() as u64, interface: compiled.interface }
        }
        Err(error) => FromWorker::NotCompiled(brief(error.to_string())),
    };
    say(control, &answer)
}

/// Mode describe: loads the code and asks it to describe itself.
fn describe_plugin(
    control: Control,
    job: &EnvJob,
    slab: OwnedFd,
    code: OwnedFd,
    mut placeholders: impl Iterator<Item = OwnedFd>,
    table: &'static [Allow],
) -> io::Result<()> {
    let mapped = WorkerSlab::map(slab)?;
    let (assets, places) = assets_behind(&mut placeholders)?;
    let files = Files { code, assets, policy: None, places: Some(places) };
    let sealed = load_code(control, job, allowance_of(job), files, &[], Copies::None, table)?;
    let Some(Locked { content, .. }) = sealed else { return Ok(()) };
    let description = content
        .and_then(|Loaded { env, assets, .. }| match job.interface == bindings::POLICY {
            true => policy::describe(&env, job.memory_bytes, assets, Box::new(LogPipe)),
            false => instance_of(job, &env, Outside { assets, ..Outside::default() })?.describe(),
        })
        .and_then(|mut description| {
            description.interface.clone_from(&job.interface);
            description.encode().map_err(|what| refused(FaultKind::Compile, what))
        });
    match description {
        Ok(bytes) if mapped.write_bulk(0, &bytes) => {
            say(
                control,
                &FromWorker::Ready { bulk_len: u32::try_from(bytes.len()).unwrap_or(u32::MAX), imports_us: 0 },
            )?;
        }
        Ok(_) => {
            say(control, &FromWorker::Fault(refused(FaultKind::CreateFailed, "the description does not fit".into())))?
        }
        Err(fault) => say(control, &FromWorker::Fault(fault))?,
    }
    // The host reads the slab, then ends this process.
    let _ = packet::receive::<talk::ToWorker>(control, RecvFlags::empty());
    Ok(())
}

/// Mode env: one instance, then its turns until the end.
fn serve_env(
    control: Control,
    job: &EnvJob,
    slab: OwnedFd,
    code: OwnedFd,
    mut granted: impl Iterator<Item = OwnedFd>,
    table: &'static [Allow],
) -> io::Result<()> {
    let mut outside = outside_of(job, &mut granted)?;
    let assets = numbered(&mut granted, ASSETS, "assets")?;
    let files = Files { code, assets, policy: policy_files(job, &mut granted)?, places: None };
    outside.directories = directories_of(job, granted)?;
    let copies = if job.copied { Copies::All } else { Copies::None };
    let begun = begin(control, job, slab, files, &outside.directories, copies, table)?;
    let Some(Begun { slab, loaded: Loaded { env, assets, policy }, standing, .. }) = begun else { return Ok(()) };
    if let Some(acts_for) = &job.acts_for {
        return policy_worker::serve(control, job, acts_for, slab, env, assets);
    }
    outside.assets = assets;
    match create_ready(job, &env, outside) {
        Ok((instance, imports)) => serve::serve(control, job, slab, instance, policy, standing, imports),
        Err(fault) => say(control, &FromWorker::Fault(fault)),
    }
}

/// Mode pack: several envs, each made, asked and made again by turns of its own.
fn serve_pack(
    control: Control,
    job: &PackJob,
    slab: OwnedFd,
    code: OwnedFd,
    mut granted: impl Iterator<Item = OwnedFd>,
    table: &'static [Allow],
) -> io::Result<()> {
    let PackJob { each, rows, .. } = job;
    let slab = WorkerPack::map(slab, *rows as usize)?;
    let (assets, places) = assets_behind(&mut granted)?;
    let files = Files { code, assets, policy: policy_files(each, &mut granted)?, places: Some(places) };
    let directories = directories_of(each, granted)?;
    let memory_bytes = each.memory_bytes + each.policy.as_ref().map_or(0, |policy| policy.memory_bytes);
    let allowance = allowance_of(each).for_envs(u64::from(*rows), memory_bytes);
    let sealed = load_code(control, each, allowance, files, &directories, Copies::None, table)?;
    let Some(Locked { content, standing, .. }) = sealed else { return Ok(()) };
    match content {
        Ok(Loaded { env, assets, policy }) => {
            let outside = Outside { directories, assets, ..Outside::default() };
            pack::serve(control, job, slab, pack::Making { job, loaded: &env, policy, outside, standing })
        }
        Err(fault) => say(control, &FromWorker::Fault(fault)),
    }
}

/// Mode template: makes no instance, and copies itself until the end.
fn serve_template(
    control: Control,
    job: &EnvJob,
    slab: OwnedFd,
    code: OwnedFd,
    mut granted: impl Iterator<Item = OwnedFd>,
    table: &'static [Allow],
) -> io::Result<()> {
    let (assets, places) = assets_behind(&mut granted)?;
    let files = Files { code, assets, policy: policy_files(job, &mut granted)?, places: Some(places) };
    let directories = directories_of(job, granted)?;
    let copies = if job.copied { Copies::All } else { Copies::First };
    let begun = begin(control, job, slab, files, &directories, copies, table)?;
    let Some(Begun { slab, loaded, standing, last_filter }) = begun else { return Ok(()) };
    let Loaded { env, assets, policy } = loaded;
    let outside = Outside { directories, assets, ..Outside::default() };
    let content = if job.warm_up {
        match create_ready(job, &env, outside) {
            Ok((instance, _)) => Content::Instance(instance),
            Err(fault) => return say(control, &FromWorker::Fault(fault)),
        }
    } else {
        Content::Code(env, outside)
    };
    Template { control, slab, content, policy, standing, last_filter }.run()
}

/// A worker in its sandbox, with its code and its slab.
struct Begun {
    slab: WorkerSlab,
    loaded: Loaded,
    standing: Standing,
    /// The filter that copies add if they may not be copied themselves.
    last_filter: Option<process::LastFilter>,
}

/// Maps the slab, loads the code, and reads the assets' index behind both filters. None: the host was told the reason for
/// failing.
fn begin(
    control: Control,
    job: &EnvJob,
    slab: OwnedFd,
    files: Files,
    directories: &[Preopen],
    copies: Copies,
    table: &'static [Allow],
) -> io::Result<Option<Begun>> {
    let mapped = WorkerSlab::map(slab)?;
    let sealed = load_code(control, job, allowance_of(job), files, directories, copies, table)?;
    let Some(Locked { content, standing, last_filter }) = sealed else { return Ok(None) };
    match content {
        Ok(loaded) => Ok(Some(Begun { slab: mapped, loaded, standing, last_filter })),
        Err(fault) => say(control, &FromWorker::Fault(fault)).map(|()| None),
    }
}

/// The files of a worker that runs code.
struct Files {
    code: OwnedFd,
    assets: OwnedFd,
    /// Code and assets of the policy.
    policy: Option<(OwnedFd, OwnedFd)>,
    /// Descriptors in place of broker and capture.
    places: Option<[OwnedFd; 2]>,
}

/// What a worker runs: the env's code and assets, and those of the policy beside it.
struct Loaded {
    env: load::Loaded,
    assets: Arc<Assets>,
    policy: Option<Arc<PolicyCode>>,
}

/// A worker behind both filters.
struct Locked {
    content: Result<Loaded, GuestFault>,
    standing: Standing,
    /// The filter that copies add if they may not be copied themselves.
    last_filter: Option<process::LastFilter>,
}

/// Installs filter one, loads the code, installs filter two: afterwards the first instruction of the guest may run. None: a
/// required layer of the sandbox is not active.
fn load_code(
    control: Control,
    job: &EnvJob,
    allowance: Allowance,
    files: Files,
    directories: &[Preopen],
    copies: Copies,
    table: &'static [Allow],
) -> io::Result<Option<Locked>> {
    let Files { code, assets, policy, places } = files;
    let granted = &job.granted;
    let purpose = Purpose::Env {
        reads: granted.reads(),
        writes: granted.writes(),
        sleeps: granted.real_clock && granted.capture != Some(CaptureMode::Serve),
        talks: granted.talks(),
        listens: granted.talks() && granted.sockets.is_some_and(|sockets| sockets.listens),
        records: granted.capture == Some(CaptureMode::Write),
        replays: granted.capture == Some(CaptureMode::Serve),
        carries: job.assets_bytes > 0,
        copies,
    };
    let plan = Plan {
        walls: job.cage.walls,
        allowance,
        directories: directories.iter().map(|given| (given.as_fd(), given.writable)).collect(),
        table,
        purpose,
        landlock: job.cage.landlock,
    };
    let Some(standing) = lock(control, &plan, &job.cage)? else { return Ok(None) };
    let load = |code: &OwnedFd, engine, interface: &str| {
        load::load(&format!("/proc/self/fd/{}", code.as_raw_fd()), engine, interface)
    };
    let loaded = load(&code, &job.engine, &job.interface);
    let policy = policy.zip(job.policy.as_ref());
    let policy = policy.map(|((code, assets), job)| {
        let loaded = load(&code, &job.engine, &job.interface);
        (loaded, assets, job)
    });
    // The engine has descriptors of its own, so these can be closed. Not before the policy is loaded: the engine would take
    // their numbers, which in a copy are those of other descriptors.
    drop((code, places));
    let last_filter = match copies {
        Copies::First => process::last_filter(&plan, &standing, purpose.with_copies(Copies::None))?,
        Copies::All | Copies::None => None,
    };
    process::seal(&plan, &standing)?;
    let opened = |section: Section, bytes: u64| match bytes {
        0 => Ok(Arc::default()),
        bytes => Assets::open(section, bytes).map(Arc::new).map_err(|what| format!("its assets: {what}")),
    };
    let content = loaded.map_err(|error| error.to_string()).and_then(|env| {
        let assets = opened(Section::File(assets), job.assets_bytes)?;
        let policy = policy.map(|(loaded, assets, job)| {
            let loaded = loaded.map_err(|error| error.to_string())?;
            let bytes = usize::try_from(job.assets_bytes).map_err(|error| error.to_string())?;
            // Read where they lie: the filter names the env's own assets by their descriptor, and no other file.
            let section = match bytes {
                0 => Section::File(assets),
                bytes => Section::Mapped(Sealed::map(assets, bytes).map_err(|error| error.to_string())?),
            };
            let assets = opened(section, job.assets_bytes)?;
            Ok::<_, String>(Arc::new(PolicyCode { job: job.clone(), loaded, assets }))
        });
        let policy = policy.transpose().map_err(|what| format!("its policy: {what}"))?;
        Ok(Loaded { env, assets, policy })
    });
    let content = content.map_err(|what| refused(FaultKind::CreateFailed, what));
    Ok(Some(Locked { content, standing, last_filter }))
}

/// The machine resources that a job's worker may use.
fn allowance_of(job: &EnvJob) -> Allowance {
    let policy = job.policy.as_ref();
    let memory_bytes = policy.map_or(job.memory_bytes, |policy| job.memory_bytes.saturating_add(policy.memory_bytes));
    let allowance = preopens::allow(&job.granted, Allowance::of_env(memory_bytes));
    let mut allowance = line::allow(&job.granted, allowance);
    if job.granted.capture == Some(CaptureMode::Write) {
        allowance.file_bytes = allowance.file_bytes.max(CAPTURE_BYTES_MAX);
    }
    allowance
}

/// The next descriptor. The filter knows it by its number, which is the same whether it is used or not.
fn numbered(descriptors: &mut impl Iterator<Item = OwnedFd>, number: u64, what: &str) -> io::Result<OwnedFd> {
    match descriptors.next() {
        Some(descriptor) if descriptor.as_raw_fd() as u64 == number => Ok(descriptor),
        Some(_) => Err(io::Error::other("a worker was started with descriptors open")),
        None => Err(io::Error::other(format!("no {what} came"))),
    }
}

/// The assets' descriptor of a job without broker and capture, and the descriptors that keep their places.
fn assets_behind(descriptors: &mut impl Iterator<Item = OwnedFd>) -> io::Result<(OwnedFd, [OwnedFd; 2])> {
    let broker = numbered(descriptors, BROKER, "place of a broker")?;
    let capture = numbered(descriptors, CAPTURE, "place of a file for what comes in")?;
    Ok((numbered(descriptors, ASSETS, "assets")?, [broker, capture]))
}

/// The descriptors of the policy beside an env, if there is one.
fn policy_files(
    job: &EnvJob,
    descriptors: &mut impl Iterator<Item = OwnedFd>,
) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    if job.policy.is_none() {
        return Ok(None);
    }
    let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a policy's code or assets did not come"));
    Ok(Some((next()?, next()?)))
}

/// The outside that a job grants, with its two descriptors; without directories, and without the plugin's assets.
fn outside_of(job: &EnvJob, descriptors: &mut impl Iterator<Item = OwnedFd>) -> io::Result<Outside> {
    let granted = &job.granted;
    let broker = numbered(descriptors, BROKER, "broker")?;
    let file = numbered(descriptors, CAPTURE, "file for what comes in")?;
    let capture = match granted.capture {
        None => Capture::default(),
        Some(CaptureMode::Write) => Capture::writing(file),
        Some(CaptureMode::Serve) => Capture::serving(file, job.capture_at),
    };
    let broker = granted.talks().then_some(broker);
    Ok(Outside {
        directories: Vec::new(),
        assets: Arc::default(),
        real_clock: granted.real_clock,
        real_random: granted.real_random,
        sockets: granted.sockets.map(|sockets| (broker, sockets)),
        capture,
    })
}

/// The directories that a job grants, with their descriptors.
fn directories_of(job: &EnvJob, descriptors: impl Iterator<Item = OwnedFd>) -> io::Result<Vec<Preopen>> {
    let descriptors: Vec<OwnedFd> = descriptors.collect();
    let granted = &job.granted.directories;
    if descriptors.len() != granted.len() {
        return Err(io::Error::other("a granted directory did not come"));
    }
    let preopen = |(granted, directory): (&GrantedDirectory, OwnedFd)| {
        Preopen::new(granted.guest.clone(), granted.writable, directory)
    };
    Ok(granted.iter().zip(descriptors).map(preopen).collect())
}

/// Instantiates a job's code.
fn instance_of(job: &EnvJob, loaded: &load::Loaded, outside: Outside) -> Result<Instance, GuestFault> {
    instance_with_log(job, loaded, outside, Box::new(LogPipe))
}

/// As [`instance_of`], for a guest with a log of its own.
fn instance_with_log(
    job: &EnvJob,
    loaded: &load::Loaded,
    outside: Outside,
    log: Box<dyn Log>,
) -> Result<Instance, GuestFault> {
    let settings = InstanceSettings {
        memory_bytes: job.memory_bytes,
        fuel_per_step: job.fuel_per_step,
        clock_step: job.clock_step,
        plugin_sha256: job.plugin_sha256,
    };
    Instance::new(loaded, &settings, outside, log)
}

/// Instantiates a job's code, and lets the guest do what comes before `create`. Also returns how long that took.
fn create_ready(job: &EnvJob, loaded: &load::Loaded, outside: Outside) -> Result<(Instance, Duration), GuestFault> {
    let mut instance = instance_of(job, loaded, outside)?;
    let imports = warm_up(job, &mut instance)?;
    Ok((instance, imports))
}

/// Lets the guest do what comes before `create`. Returns how long that took.
fn warm_up(job: &EnvJob, instance: &mut Instance) -> Result<Duration, GuestFault> {
    if !job.warm_up {
        return Ok(Duration::ZERO);
    }
    let begun = Instant::now();
    // The host knows the description already.
    instance.describe()?;
    Ok(begun.elapsed())
}

fn refused(kind: FaultKind, message: String) -> GuestFault {
    GuestFault { kind, message: brief(message), backtrace: Vec::new() }
}

/// Cuts a message to the length that a fault keeps.
fn brief(mut message: String) -> String {
    crate::text::cut(&mut message, crate::fault::MESSAGE_BYTES_MAX);
    message
}

fn hello(control: Control) -> io::Result<()> {
    say(control, &FromWorker::Hello { build: BUILD.to_owned() })
}

fn say(control: Control, message: &FromWorker) -> io::Result<()> {
    packet::send(control, message, &[], SendFlags::empty())
}
