//! `rollcage run`: plays episodes and reports.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use indicatif::HumanCount;
use rollcage::env::builder::ENVS_MAX;
use rollcage::env::policy::{Policy, PolicyName};
use rollcage::plugin::config;
use rollcage::process::group::{Group, RunLimits};
use rollcage::record::writer::Record;
use rollcage::replay::snapshot::SNAPSHOT_BYTES_MAX;
use rollcage::rollout::{PolicyPlugin, PolicyWorker};
use rollcage::text::escape;
use rollcage::{
    Autoreset, Backend, Builder, EnvsPerWorker, Error, Level, Limits, OnFault, Plugin, Snapshot, Start, TimeLimit,
    UsageError, VecEnv, Wall, Walls,
};
use serde_json::{Map, Value};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::acting;
use super::grants::Granting;
use super::picture::{Drawn, Picture, Recorder};
use super::play::{Goal, Play, Tally};
use super::plot::Plot;
use super::progress::Progress;
use super::report::{Begun, Report, Times};
use super::source::{Source, cache, check_hash, not_here, with_cache, without_cache};
use super::telling::detail;
use super::{Status, complain, one_line, say, say_json};

/// Episodes where neither `--episodes` nor `--steps` is given.
const EPISODES_DEFAULT: u64 = 10;

/// The longest `--step-timeout`: longer values are typing errors, and the clock must be able to add them.
const STEP_TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The least `--memory`: a page of wasm memory.
const MEMORY_MIN: u64 = 64 << 10;

/// Play episodes of an env, each env in a process of its own
///
/// Env i of N is seeded with seed + i and plays an N-th of the episodes or steps. The summary, or with --json one
/// object, goes to stdout, everything else to stderr.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
#[command(mut_arg("plugin", |plugin| plugin.required(false).required_unless_present("from")))]
pub(super) struct Run {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    granting: Granting,

    /// Number of envs
    #[arg(long, value_name = "N", default_value = "1", value_parser = RangedU64ValueParser::<usize>::new().range(1..=ENVS_MAX as u64))]
    envs: usize,

    /// Episodes to play, all envs together; episodes ended by a fault do not count [default: 10, without --steps]
    #[arg(long, value_name = "E", conflicts_with = "steps")]
    episodes: Option<u64>,

    /// Steps to take, all envs together, in place of --episodes; resets do not count
    #[arg(long, value_name = "S")]
    steps: Option<u64>,

    /// The seed of env 0; env i has K + i [default: the snapshot's with --from, else drawn, and printed]
    #[arg(long, value_name = "K")]
    seed: Option<u64>,

    /// Policy: random, zeros, a file with a JSON array per step that holds an action for every env, a policy component, or
    /// a network
    ///
    /// `random` samples the action space, with a separate generator for each env. A FILE.jsonl has a line per step; the entry
    /// of an env that this step only resets is ignored. The run ends at the end of the file or at --episodes/--steps,
    /// whichever comes first. An action is a number (Discrete), a nested array (Box, MultiDiscrete, MultiBinary, Tuple), a
    /// string (Text) or an object (Dict). A FILE.wasm or FILE.onnx acts in the envs' workers, thousands of steps at a time,
    /// as untrusted as the env: docs/policies.md says how such a file is made.
    #[arg(long, value_name = "random|zeros|FILE.jsonl|FILE.wasm|FILE.onnx", default_value = "random")]
    policy: String,

    /// A value of the config of a policy that is a FILE.wasm or FILE.onnx, as for --config; may be repeated
    #[arg(long, value_name = "K=V")]
    policy_config: Vec<String>,

    /// The process of a policy that is a FILE.wasm or FILE.onnx: the env's worker, or a worker of its own, which is slower
    ///
    /// In the env's worker, policy and env are apart by WebAssembly alone. A worker of its own has all layers of the sandbox
    /// around it. No result depends on it.
    #[arg(long, value_name = "env|own", default_value = "env")]
    policy_worker: PolicyWorker,

    /// Draw the returns of all episodes as a histogram
    #[arg(long, value_name = "FILE.png")]
    plot: Option<PathBuf>,

    /// Behaviour at an episode's end, as in Gymnasium; with `disabled` the run itself resets
    #[arg(long, value_name = "MODE", default_value = "next-step",
        value_parser = PossibleValuesParser::new(["next-step", "same-step", "disabled"]).map(|name| autoreset(&name)))]
    autoreset: Autoreset,

    /// A time limit for episodes in place of the env's own; `none`: no limit
    #[arg(long, value_name = "N|none", allow_negative_numbers = true)]
    max_episode_steps: Option<TimeLimit>,

    /// After a fault: start the env anew, end the run, or go on without the env
    #[arg(long, value_name = "POLICY", default_value = "restart",
        value_parser = PossibleValuesParser::new(["restart", "raise", "mask"]).map(|name| on_fault(&name)))]
    on_fault: OnFault,

    /// Memory of one env: a number of bytes, or with a unit, as in 64MiB
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = bytes)]
    memory: u64,

    /// Time limit for a step, a reset or a picture: 250ms, 10s
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration)]
    step_timeout: Duration,

    /// Limit of processor time for compiling the plugin, where the cache does not have it
    #[arg(long, value_name = "DUR", default_value = "2m", value_parser = duration)]
    compile_timeout: Duration,

    /// Fuel of one step, about one unit for each wasm instruction [default: not limited]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    fuel: Option<u64>,

    /// Start an env anew, with its services, after so many episodes: simulators leak [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    recycle_after: Option<u64>,

    /// Envs that share a worker process, each in a wasm store of its own: a number, or `auto` for a worker a core
    ///
    /// Many cheap envs step several times faster so. They are apart by wasm alone, and a fault that ends the process is a
    /// fault of all its envs (`sibling`). Sockets, ports, services and the real clock need an env to a worker.
    #[arg(long, value_name = "K|auto", default_value = "1")]
    envs_per_worker: EnvsPerWorker,

    /// Draw env 0: its first episode as FILE.gif, or its final state as FILE.png, or FILE.txt for text
    ///
    /// A GIF plays at the env's own rate and has at most 1,000 frames. With `--autoreset same-step` it lacks the state in
    /// which the episode ends: the env has begun its next episode by then.
    #[arg(long, value_name = "FILE.gif|.png|.txt")]
    render: Option<PathBuf>,

    /// Record every reset, step and fault into this folder, which must be empty; `rollcage replay` runs it again
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,

    /// Put the plugin into the recording, so that another person needs nothing else
    #[arg(long, requires = "record")]
    embed_plugin: bool,

    /// Begin from a snapshot, with its plugin, config, seed and limits; `rollcage replay --snapshot` takes one
    ///
    /// Every env begins in the snapshot's state; the random policy draws different actions for each env. The return and
    /// length of the first episode count the steps before the snapshot. PLUGIN is needed where the snapshot's plugin is
    /// neither shipped nor in the cache.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "config_file", "memory", "fuel", "max_episode_steps", "record"])]
    from: Option<PathBuf>,

    /// How envs start: as copies of a locked worker that has instantiated nothing, or that has imported its modules; as copies
    /// of one env that was created, for envs of one config; or by an exec each [default: fork, where every layer of the
    /// sandbox is active; fork-after-import for plugins that ask for it]
    #[arg(long, value_name = "METHOD",
        value_parser = PossibleValuesParser::new(["fork", "fork-after-create", "fork-after-import", "spawn"]).try_map(|name| name.parse::<Start>()))]
    start: Option<Start>,

    /// Compile to the machine's code, or interpret: slower, the same answers
    #[arg(long, value_name = "BACKEND", default_value = "native",
        value_parser = PossibleValuesParser::new(["native", "pulley"]).map(|name| backend(&name)))]
    backend: Backend,

    /// Refuse to run with less of the sandbox than this level; see `rollcage doctor` [without a value: strict]
    ///
    /// `seccomp`: the filter of system calls. `full`: every attempt of SECURITY.md's table is stopped, by whichever layer;
    /// granted directories need Linux 6.2 or newer then. `strict`: every layer but the namespaces (Linux 6.12).
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    require_sandbox: Option<Level>,

    /// Memory that all processes of the run may use together, by a control group: 2GiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_memory: Option<u64>,

    /// Cores whose time all processes of the run may use together, by a control group: 1.5
    #[arg(long, value_name = "CORES", value_parser = cores)]
    max_cpu: Option<f64>,

    /// For tests: use no newer Landlock than this version
    #[arg(long, value_name = "VERSION", hide = true)]
    pretend_landlock: Option<u32>,

    /// `none` runs the plugin with the rights of the user who runs rollcage: for debugging trusted code
    #[arg(long, value_name = "all|none", default_value = "all",
        value_parser = PossibleValuesParser::new(["all", "none"]).map(|name| walls(&name)))]
    walls: Walls,

    /// For debugging, with `--walls none`: no timeouts, and the envs' output goes to stderr at once
    #[arg(long, conflicts_with_all = ["logs", "step_timeout", "compile_timeout"])]
    debug: bool,

    /// Time between two lines of progress, where stderr is not a terminal
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration)]
    progress: Duration,

    /// At the end, print the envs' output to stderr
    #[arg(long)]
    logs: bool,

    /// Compile anew, and keep nothing
    #[arg(long)]
    no_cache: bool,

    /// Print one JSON object in place of the summary
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  rollcage run cartpole --envs 8 --episodes 200 --seed 7
  rollcage run frozenlake --config map_name=8x8 --config is_slippery=false
  rollcage run cartpole --steps 1000 --seed 7 --render last.png --json
  rollcage run blackjack --policy actions.jsonl --autoreset same-step
  rollcage run ./maze.wasm --grant dir=./levels:/levels
  rollcage run cartpole --episodes 100 --record first
  rollcage run cartpole --policy ppo.onnx --episodes 1000 --plot returns.png

Exit status:
  0    every env played its share, whatever faults were met on the way
  1    the run stopped early: a restart budget is spent, or --on-fault raise or mask; see the report
  2    the command, config, a grant, actions or plugin is wrong; nothing is printed to stdout
  130  interrupted; the report says how far it came";

impl Run {
    pub(super) fn run(&self, started: Instant) -> anyhow::Result<Status> {
        let signals = Signals::listen()?;
        let policy = PolicyName::parse(&self.policy)?;
        let picture = self.render.as_deref().map(Picture::at).transpose()?;
        let plot = self.plot.as_deref().map(Plot::at).transpose()?;
        let goal = self.goal();
        let acting = self.acting(&policy)?;
        if self.debug && self.walls != Walls::NONE {
            return Err(UsageError::new("`--debug` goes with `--walls none`: the walls end what a debugger does")
                .hint("add `--walls none`, if the plugin is trusted")
                .into());
        }
        // Before the first process of the run: each begins in the group of this one.
        let _group = Group::enter(RunLimits { memory_bytes: self.max_memory, cores: self.max_cpu })?;
        let snapshot = self.from.as_deref().map(read_snapshot).transpose()?;
        let said = self.seed.or(snapshot.as_ref().map(Snapshot::seed));
        let seed = said.unwrap_or_else(drawn_seed);
        let mut builder = self.builder(seed, snapshot.as_ref())?;
        let acts = acting.is_some();
        if let Some(acting) = acting {
            builder = builder.policy(acting).policy_worker(self.policy_worker);
        }

        let mut progress = Progress::new(goal, self.progress, !matches!(policy, PolicyName::File(_)));
        if self.walls == Walls::NONE {
            // Before there is a bar, and whatever is to be quiet.
            let _ = io::stderr().write_all(NO_SANDBOX.as_bytes());
        }
        let mut envs = builder.assemble()?;
        for warning in envs.prepared().warnings() {
            progress.print(&format!("warning: {}\n", one_line(warning)));
        }
        if let Some(picture) = &picture {
            picture.check(envs.prepared().description())?;
        }
        if said.is_none() {
            progress.print(&format!("seed: {seed} was drawn; `--seed {seed}` plays the same again\n"));
        }
        progress.begin("starting");
        let interrupt = signals.hand_over(envs.interrupt_flag())?;

        let mut times = Times::default();
        let mut recorder = picture.as_ref().and_then(|picture| {
            let description = envs.prepared().description();
            picture.recorder(description, self.autoreset)
        });
        let begun = envs.start().and_then(|()| match &snapshot {
            Some(from) => (0..envs.len()).try_for_each(|env| envs.restore(env, from).map(drop)),
            None => Ok(()),
        });
        let (tally, ended) = match begun {
            Err(error) => (Tally::default(), Err(error)),
            Ok(()) => {
                progress.print(&about_walls(&envs, self.json));
                details(&envs);
                if acts {
                    let tally = Tally { every: plot.as_ref().map(|_| Vec::new()), ..Tally::default() };
                    acting::play(&mut envs, goal, tally, &mut times, &mut progress, started, snapshot.is_some())
                } else {
                    let policy = Policy::new(&policy, &envs.spec().action_space, envs.len(), envs.seed())?;
                    let policy = policy.out_of_bounds(envs.spec().actions_out_of_bounds);
                    let mut play = Play::new(&mut envs, policy, goal, self.autoreset);
                    play.tally.every = plot.as_ref().map(|_| Vec::new());
                    let reset = if snapshot.is_some() { Ok(()) } else { play.reset() };
                    let ended =
                        play_on(reset, &mut play, recorder.as_mut(), &mut times, &mut progress, started, &interrupt);
                    let (tally, masked) = (std::mem::take(&mut play.tally), std::mem::take(&mut play.masked));
                    (tally, ended.map(|()| why_masked(&envs, &masked)))
                }
            }
        };
        progress.tell(envs.faults());
        progress.end();
        let (mut status, mut incomplete) = verdict(ended)?;

        // After an interrupt, operations under way are not waited for.
        let stands = status != Status::Interrupted;
        let mut drawn = None;
        match draw(picture.as_ref(), recorder, stands.then_some(&mut envs)) {
            Ok(picture) => drawn = picture,
            Err(error) => {
                status = if stands { Status::Incomplete } else { status };
                incomplete.get_or_insert(format!("{error:#}"));
            }
        }
        if let Some(plot) = &plot
            && let Err(error) = plot.draw(tally.every.as_deref().unwrap_or_default())
        {
            status = if stands { Status::Incomplete } else { status };
            incomplete.get_or_insert(format!("{error:#}"));
        }
        let recorded = envs.recording().map(Path::to_owned);
        if let Err(error) = envs.finish_recording() {
            status = if stands { Status::Incomplete } else { status };
            incomplete.get_or_insert(error.to_string());
        }
        if stands {
            envs.say_goodbye();
        }
        let from = snapshot.as_ref().map(Begun::at);
        let report = Report::new(&envs, &tally, times, drawn, recorded, from, incomplete);
        if self.logs {
            print_logs(&envs);
        }
        if self.json { say_json(&report) } else { say(&report.summary()) }?;
        if let (Status::Incomplete, Some(why)) = (status, &report.incomplete) {
            complain("error", &format!("not all was played: {why}"));
        }
        Ok(status)
    }

    /// The policy that acts in the workers, if one was named.
    fn acting(&self, policy: &PolicyName) -> Result<Option<PolicyPlugin>, UsageError> {
        let PolicyName::Plugin(path) = policy else {
            let about = match (self.policy_config.is_empty(), self.policy_worker) {
                (true, PolicyWorker::Env) => return Ok(None),
                (true, PolicyWorker::Own) => "`--policy-worker` is about the process of a policy in a file",
                (false, _) => "`--policy-config` is the config of a policy in a file",
            };
            return Err(UsageError::new(about).hint("name the file: `--policy FILE.wasm` or `--policy FILE.onnx`"));
        };
        if self.render.as_deref().is_some_and(|path| path.extension().is_some_and(|extension| extension == "gif")) {
            return Err(UsageError::new(
                "a policy in a file plays in the worker, where no pictures are drawn on the way",
            )
            .hint(
                "record the run and draw it afterwards: `--record DIR`, then `rollcage replay DIR --render FILE.gif`",
            ));
        }
        let mut config = Value::Object(Map::new());
        for assignment in &self.policy_config {
            let (path, value) = config::parse_assignment(assignment)?;
            config::assign(&mut config, &path, value)?;
        }
        PolicyPlugin::open(path)?.config(&config).map(Some)
    }

    fn goal(&self) -> Goal {
        match (self.episodes, self.steps) {
            (_, Some(steps)) => Goal::Steps(steps),
            (episodes, None) => Goal::Episodes(episodes.unwrap_or(EPISODES_DEFAULT)),
        }
    }

    /// The plugin and its config: the snapshot's, if the run begins from one.
    fn opened(&self, snapshot: Option<&Snapshot>) -> Result<Builder, UsageError> {
        let Some(snapshot) = snapshot else { return self.source.open() };
        let wanted = snapshot.plugin();
        let cache = if self.no_cache { None } else { cache() };
        let plugin = match self.source.plugin()? {
            Some(plugin) => plugin,
            None => Plugin::of_hash(&wanted.sha256, &wanted.name, cache.as_ref()).ok_or_else(|| {
                not_here("the snapshot's plugin", wanted, "name its file: `rollcage run FILE.wasm --from …`")
            })?,
        };
        check_hash(&plugin, wanted, "the snapshot")?;
        Ok(VecEnv::builder(plugin).config(snapshot.config())?.time_limit(snapshot.time_limit()))
    }

    fn builder(&self, seed: u64, snapshot: Option<&Snapshot>) -> Result<Builder, UsageError> {
        let (memory_bytes, fuel_per_step) = snapshot.map_or((self.memory, self.fuel), Snapshot::limits);
        // No snapshot is taken here.
        let limits = Limits {
            memory_bytes,
            fuel_per_step,
            compile_timeout: self.compile_timeout,
            snapshot_bytes: 0,
            ..Limits::default()
        };
        let mut builder = self
            .opened(snapshot)?
            .envs(self.envs)
            .seed(seed)
            .limits(if self.debug { limits.patient() } else { limits.call_timeouts(self.step_timeout) })
            .autoreset(self.autoreset)
            .on_fault(self.on_fault)
            .backend(self.backend);
        // No env is copied here, so its worker lacks the system calls for copies.
        builder = builder.walls(self.walls).branching(false).start(self.start.unwrap_or_default());
        builder = builder.envs_per_worker(self.envs_per_worker);
        if let Some(level) = self.require_sandbox {
            builder = builder.require_sandbox(level);
        }
        if let Some(version) = self.pretend_landlock {
            builder = builder.pretend_landlock(version);
        }
        if self.debug {
            builder = builder.debug();
        }
        if let Some(limit) = self.max_episode_steps {
            builder = builder.time_limit(limit);
        }
        if let Some(episodes) = self.recycle_after {
            builder = builder.recycle_after(episodes);
        }
        if let Some(folder) = &self.record {
            builder = builder.record(Record { folder: folder.clone(), embed_plugin: self.embed_plugin });
        }
        let builder = self.granting.give(builder)?.temporary(std::env::temp_dir());
        Ok(if self.no_cache { without_cache(builder) } else { with_cache(builder) })
    }
}

/// Draws the requested picture: the rest of a recording, or env 0 in its present state if it still has one.
fn draw(
    picture: Option<&Picture<'_>>,
    recorder: Option<Recorder>,
    envs: Option<&mut VecEnv>,
) -> anyhow::Result<Option<Drawn>> {
    match (picture, recorder, envs) {
        (_, Some(recorder), _) => recorder.finish().map(Some),
        (Some(picture), None, Some(envs)) => picture.draw(envs).map(Some),
        _ => Ok(None),
    }
}

/// The warning about `--walls none`, printed before any process is started.
const NO_SANDBOX: &str =
    "warning: NO SANDBOX: a plugin that breaks out of wasm may read and change whatever you may (--walls none)\n";

/// The active sandbox layers (with `--json` they are in the object), and warnings about the layers that are not active.
fn about_walls(envs: &VecEnv, json: bool) -> String {
    let standing = envs.walls();
    let mut text = if json { String::new() } else { format!("walls: {standing}\n") };
    for (wall, why) in envs.missing_walls() {
        let all = if wall == Wall::Namespaces { "; the other layers do not need it" } else { "" };
        text.push_str(&format!("warning: the sandbox layer `{wall}` is not active: {}{all}\n", one_line(&why)));
    }
    text
}

/// With `-v`: what was started, and of what.
fn details(envs: &VecEnv) {
    let prepared = envs.prepared();
    detail(|| {
        let engine = prepared.compiled_for();
        let code = match prepared.compile_time() {
            Some(time) => format!("compiled in {:.2} s", time.as_secs_f64()),
            None => "from the cache".to_owned(),
        };
        format!("{}, sha256 {}: code for {engine}, {code}", prepared.plugin().name(), prepared.plugin().sha256_hex())
    });
    detail(|| {
        let level = envs.level().map_or("less than a level", Level::name);
        let start = envs.started_by(0).map_or("nothing".to_owned(), |start| start.to_string());
        let pids: Vec<String> = (0..envs.len()).filter_map(|env| envs.pid(env)).map(|pid| pid.to_string()).collect();
        let (shown, more) = pids.split_at(pids.len().min(8));
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        format!("envs started by {start}, sandbox level {level}, processes {}{more}", shown.join(" "))
    });
}

/// Reads a snapshot from its file.
fn read_snapshot(path: &Path) -> Result<Snapshot, UsageError> {
    let refuse = |what: String| UsageError::new(format!("snapshot `{}`: {what}", path.display()));
    let mut bytes = Vec::new();
    // One byte more than is allowed: the snapshot's reader then reports the limit.
    let file = std::fs::File::open(path).map_err(|error| refuse(error.to_string()))?;
    file.take(SNAPSHOT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| refuse(error.to_string()))?;
    Snapshot::from_bytes(&bytes).map_err(|error| refuse(error.message))
}

/// Cores, as a number that may have a fraction.
fn cores(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cores) if (0.01..=4096.0).contains(&cores) => Ok(cores),
        _ => Err("expected a number of cores from 0.01 to 4096, like `1.5`".to_owned()),
    }
}

fn walls(name: &str) -> Walls {
    if name == "none" { Walls::NONE } else { Walls::ALL }
}

/// After the first resets, steps until all shares are done, the actions end, or something ends the run.
fn play_on(
    reset: Result<(), Error>,
    play: &mut Play<'_>,
    mut recorder: Option<&mut Recorder>,
    times: &mut Times,
    progress: &mut Progress,
    started: Instant,
    interrupt: &AtomicBool,
) -> Result<(), Error> {
    reset?;
    let first = Instant::now();
    times.start = Some(first.duration_since(started));
    if let Some(recorder) = &mut recorder {
        recorder.after_reset(play.envs_mut());
    }
    let ended = loop {
        // A call that need not wait does not look at the flag.
        if interrupt.load(Relaxed) {
            break Err(Error::Interrupted);
        }
        match play.turn() {
            Ok(true) => {
                if let Some(recorder) = recorder.as_mut().filter(|_| play.acted(0)) {
                    recorder.after_step(play.envs_mut());
                }
                progress.step(&play.tally, play.envs().faults());
            }
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    times.playing = first.elapsed();
    ended
}

/// The exit code for the end of a run, and the reason why the run is not complete. A usage error during the run (an action of
/// the file that is not in the space, or that the env refuses) is handled like an earlier usage error: there is no report.
fn verdict(ended: Result<Option<String>, Error>) -> anyhow::Result<(Status, Option<String>)> {
    match ended {
        Ok(None) => Ok((Status::Complete, None)),
        Ok(Some(masked)) => Ok((Status::Incomplete, Some(masked))),
        Err(Error::Interrupted) => Ok((Status::Interrupted, Some("interrupted".to_owned()))),
        Err(Error::Usage(error)) => Err(error.into()),
        Err(error) => Ok((Status::Incomplete, Some(error.to_string()))),
    }
}

/// The reason for masked envs: the envs that were masked before they had played their share, and their faults.
fn why_masked(envs: &VecEnv, masked: &[usize]) -> Option<String> {
    let faults = envs.faults().first();
    let why = masked.iter().map(|&env| {
        let fault = faults.iter().rev().find(|fault| usize::try_from(fault.env) == Ok(env));
        let fault = fault.map(|fault| format!(": {}: {}", fault.kind, fault.message)).unwrap_or_default();
        format!("env {env} is masked after a fault{fault}")
    });
    (!masked.is_empty()).then(|| why.collect::<Vec<_>>().join("; "))
}

/// A seed for a user who gave none, from the keys that the system gives std's hasher. It is below 2^53, so that readers of
/// JSON that keep numbers as doubles read it exactly.
fn drawn_seed() -> u64 {
    RandomState::new().hash_one(0) >> 11
}

/// Prints the envs' output on stderr.
fn print_logs(envs: &VecEnv) {
    let mut text = String::new();
    for env in 0..envs.len() {
        let Some(log) = envs.log(env) else { continue };
        if log.dropped() > 0 {
            text.push_str(&format!("[env {env}] ({} bytes before this were dropped)\n", HumanCount(log.dropped())));
        }
        for line in log.text().lines() {
            text.push_str(&format!("[env {env}] {}\n", escape(line)));
        }
        for line in envs.services_log(env).unwrap_or_default().lines() {
            text.push_str(&format!("[env {env}] [service] {}\n", escape(line)));
        }
    }
    for line in envs.run_services_log().unwrap_or_default().lines() {
        text.push_str(&format!("[run] [service] {}\n", escape(line)));
    }
    let _ = io::stderr().write_all(text.as_bytes());
}

/// SIGINT and SIGTERM. Before the run they end the program. After that, the first signal raises the run's flag, so that there
/// is a report, and the second ends the program. In either case its workers end too.
struct Signals {
    ends: Arc<AtomicBool>,
}

impl Signals {
    fn listen() -> anyhow::Result<Signals> {
        let ends = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, Status::Interrupted.code().into(), Arc::clone(&ends))
                .context("listening for signals")?;
        }
        Ok(Signals { ends })
    }

    /// Makes signals raise the run's flag first, from now on. Handlers run in the order of their registration: the handler
    /// that ends the program sees `ends` as the signal before left it.
    fn hand_over(self, interrupt: Arc<AtomicBool>) -> anyhow::Result<Arc<AtomicBool>> {
        self.ends.store(false, Relaxed);
        for signal in [SIGINT, SIGTERM] {
            for raised in [&self.ends, &interrupt] {
                flag::register(signal, Arc::clone(raised)).context("listening for signals")?;
            }
        }
        Ok(interrupt)
    }
}

/// Reads a time: `250ms`, `10s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| "expected a time like `250ms` or `10s`".to_owned())?;
    if time.is_zero() || time > STEP_TIMEOUT_MAX {
        return Err("expected a time above 0 and up to 30 days".to_owned());
    }
    Ok(time)
}

/// Reads a number of bytes: `64MiB`, or a number.
fn bytes(text: &str) -> Result<u64, String> {
    let bytes: bytesize::ByteSize =
        text.parse().map_err(|_| "expected a size like `64MiB`, or a number of bytes".to_owned())?;
    if bytes.as_u64() < MEMORY_MIN {
        return Err("expected at least 64KiB, one page of wasm memory".to_owned());
    }
    Ok(bytes.as_u64())
}

fn autoreset(name: &str) -> Autoreset {
    match name {
        "same-step" => Autoreset::SameStep,
        "disabled" => Autoreset::Disabled,
        _ => Autoreset::NextStep,
    }
}

fn on_fault(name: &str) -> OnFault {
    match name {
        "raise" => OnFault::Raise,
        "mask" => OnFault::Mask,
        _ => OnFault::Restart,
    }
}

pub(super) fn backend(name: &str) -> Backend {
    if name == "pulley" { Backend::Pulley } else { Backend::Native }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn parse(arguments: &[&str]) -> Run {
        let command = Run::augment_args(clap::Command::new("run"));
        let matches = command.try_get_matches_from(["run", "cartpole"].iter().chain(arguments)).unwrap();
        Run::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let run = parse(&[]);
        assert_eq!((run.envs, run.goal(), run.seed), (1, Goal::Episodes(10), None));
        assert_eq!(
            (run.autoreset, run.on_fault, run.backend),
            (Autoreset::NextStep, OnFault::Restart, Backend::Native)
        );
        assert_eq!((run.memory, run.step_timeout, run.fuel), (256 << 20, Duration::from_secs(10), None));
        assert_eq!(run.policy, "random");
        assert_eq!(parse(&["--steps", "5"]).goal(), Goal::Steps(5));
        assert_eq!(parse(&["--episodes", "0"]).goal(), Goal::Episodes(0));
        let run = parse(&["--autoreset", "same-step", "--on-fault", "mask", "--backend", "pulley"]);
        assert_eq!((run.autoreset, run.on_fault, run.backend), (Autoreset::SameStep, OnFault::Mask, Backend::Pulley));
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("250ms", Some(Duration::from_millis(250))),
            ("10s", Some(Duration::from_secs(10))),
            ("1m 30s", Some(Duration::from_secs(90))),
            ("30days", Some(STEP_TIMEOUT_MAX)),
            ("10", None),
            ("0s", None),
            ("31days", None),
            ("-1s", None),
            ("", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("64MiB", Some(64 << 20)),
            ("64 mib", Some(64 << 20)),
            ("64MB", Some(64_000_000)),
            ("1.5GiB", Some(3 << 29)),
            ("65536", Some(1 << 16)),
            ("65535", None),
            ("0", None),
            ("-1", None),
            ("much", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn an_end_has_its_exit_code() {
        let (status, why) = verdict(Ok(None)).unwrap();
        assert_eq!((status, why), (Status::Complete, None));
        let (status, why) = verdict(Ok(Some("env 1 is masked".to_owned()))).unwrap();
        assert_eq!((status, why.as_deref()), (Status::Incomplete, Some("env 1 is masked")));
        let (status, why) = verdict(Err(Error::Interrupted)).unwrap();
        assert_eq!((status, why.as_deref()), (Status::Interrupted, Some("interrupted")));
        assert!(verdict(Err(UsageError::new("no").into())).is_err());
    }

    #[test]
    fn a_drawn_seed_leaves_room_for_every_env() {
        assert!(drawn_seed().checked_add(ENVS_MAX as u64).is_some());
    }
}
