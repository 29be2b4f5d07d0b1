//! `rollcage replay`: runs a recording again and compares it, step by step.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use rollcage::replay::acted::{OtherAction, chosen_by};
use rollcage::replay::compare::Difference;
use rollcage::replay::folder::{Rollout, in_order, recordings_of};
use rollcage::replay::how::{ReplayError, Replayed, Replaying};
use rollcage::replay::rerun::{replay, snapshot_at, watch};
use rollcage::text::{cut, escape_line};
use rollcage::{Autoreset, Backend, Level, Plugin, UsageError, VecEnv};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::grants::Granting;
use super::picture::Picture;
use super::progress::BARS;
use super::run::backend;
use super::source::{cache, check_hash, not_here, open, standing};
use super::{Status, compiling, complain, say, say_json};

/// Run a recording again and compare every step of it
///
/// Each env is started as before and given the recorded actions; every difference in its answers is found. A replay needs no
/// network: input from outside is in the recording, and served from there.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Replay {
    #[command(flatten)]
    recorded: Recorded,

    /// The first episode of each env to compare; earlier episodes are run but not compared [default: 0]
    #[arg(long, value_name = "EPISODE", default_value = "0", hide_default_value = true)]
    from: u64,

    /// Draw env 0's episode (the first, or that of --from) as a GIF
    #[arg(long, value_name = "FILE.gif")]
    render: Option<PathBuf>,

    /// Write a snapshot of an env into this file, in place of a whole replay: `rollcage run --from` begins from it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["render", "from", "json"])]
    snapshot: Option<PathBuf>,

    /// Number of steps of the env before the snapshot, over all its episodes [default: all that are recorded]
    #[arg(long, value_name = "STEP", requires = "snapshot")]
    until: Option<u64>,

    /// The env to take the snapshot of [default: the first]
    #[arg(long, value_name = "ENV", requires = "snapshot")]
    env: Option<u32>,

    /// Print one JSON object in place of the line
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  rollcage run cartpole --envs 4 --seed 7 --record first
  rollcage replay first
  rollcage replay first --backend pulley
  rollcage replay first --render first.gif
  rollcage replay first --until 100 --snapshot there

Exit status:
  0    everything came out as it was recorded
  1    something did not, or a file of the recording is damaged: the line says which
  2    the recording cannot be used: none, of another format, or its plugin is not here";

/// A recording, and the settings to run it again.
#[derive(clap::Args)]
pub(super) struct Recorded {
    /// The folder that `rollcage run --record` wrote; of a run over several machines, the folder with the folder of each
    pub(super) dir: PathBuf,

    /// The plugin's file, or the folder of an env in Python [default: the plugin in the recording, or shipped, or in the cache, found by its hash]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,

    /// Compile to the machine's code, or interpret [default: as it was recorded]
    #[arg(long, value_name = "BACKEND",
        value_parser = PossibleValuesParser::new(["native", "pulley"]).map(|name| backend(&name)))]
    backend: Option<Backend>,

    #[command(flatten)]
    granting: Granting,

    /// Refuse to run with less of the sandbox than this level; see `rollcage doctor` [without a value: strict]
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    require_sandbox: Option<Level>,

    /// Compile anew, and keep nothing
    #[arg(long)]
    no_cache: bool,
}

/// An opened recording, with its plugin.
pub(super) struct Opened {
    pub(super) rollout: Rollout,
    pub(super) plugin: Plugin,
    pub(super) how: Replaying,
}

impl Recorded {
    /// Verifies the recording, and finds its plugin.
    pub(super) fn open(&self) -> anyhow::Result<Opened> {
        if let [first, _, ..] = recordings_of(&self.dir).as_slice() {
            let error = UsageError::new(format!("`{}` has the recordings of several hosts", self.dir.display()));
            return Err(error.hint(format!("name one of them: `{}`", first.display())).into());
        }
        let mut parts = self.open_all()?;
        parts.pop().context("a recording")
    }

    /// Verifies the recordings of all hosts of the run, in the order of their envs, and finds the plugin.
    pub(super) fn open_all(&self) -> anyhow::Result<Vec<Opened>> {
        let rollouts: Result<Vec<Rollout>, _> = recordings_of(&self.dir).iter().map(|dir| Rollout::open(dir)).collect();
        let how = self.how()?;
        let (rollouts, lost) = in_order(rollouts?)?;
        for folder in lost {
            let shown = escape_line(&folder.display().to_string());
            complain("note", &format!("`{shown}` is of a host that was lost, and not looked at: replay it by itself"));
        }
        rollouts.into_iter().map(|rollout| self.with_plugin(rollout, how.clone())).collect()
    }

    fn how(&self) -> anyhow::Result<Replaying> {
        let cache = if self.no_cache { None } else { cache() };
        let how = Replaying {
            backend: self.backend,
            compile_observer: Some(compiling::told(cache.as_ref())),
            cache,
            grants: self.granting.grants()?,
            protected: self.granting.protected(),
            require_sandbox: self.require_sandbox,
            trust: standing(),
            ..Replaying::default()
        };
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal ends the replay, the second signal ends the program.
            let code = Status::Interrupted.code().into();
            signal_hook::flag::register_conditional_shutdown(signal, code, how.interrupt.clone())?;
            signal_hook::flag::register(signal, how.interrupt.clone())?;
        }
        Ok(how)
    }

    /// Finds the plugin of a recording.
    fn with_plugin(&self, rollout: Rollout, how: Replaying) -> anyhow::Result<Opened> {
        let wanted = &rollout.manifest().plugin;
        let embedded = rollout.embedded_plugin()?;
        let plugin = match &self.plugin {
            // A named file is always used: if it is not the recorded plugin, that is reported.
            Some(file) => open_named(file)?,
            None => embedded
                .or_else(|| Plugin::of_hash(&wanted.sha256, &wanted.name, how.cache.as_ref()))
                .ok_or_else(|| not_here("the plugin", wanted, "name its file with `--plugin FILE`"))?,
        };
        check_hash(&plugin, wanted, "the recording")?;
        Ok(Opened { rollout, plugin, how })
    }
}

/// A plugin that is named by a path: a shipped name is none here.
fn open_named(path: &Path) -> Result<Plugin, UsageError> {
    if path.is_dir() { open(path.as_os_str()) } else { Plugin::from_file(path) }
}

impl Opened {
    /// Runs the recording again, with a bar.
    pub(super) fn replay(&self) -> anyhow::Result<Replayed> {
        let total = self.rollout.manifest().totals.as_ref().and_then(|totals| totals["steps"].as_u64());
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let bar = BARS.add(bar);
        let template = "{wide_bar:.cyan/dim} {human_pos}/{human_len} steps compared  {elapsed}, {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸─"));
        let replayed = replay(&self.rollout, &self.plugin, &self.how, |steps| bar.set_position(steps));
        bar.finish_and_clear();
        let replayed = replayed.map_err(into_anyhow)?;
        for (wall, why) in &replayed.missing_walls {
            complain("warning", &format!("the sandbox layer `{wall}` was not active: {why}"));
        }
        Ok(replayed)
    }
}

impl Opened {
    /// Lets the recording's policy act again, and compares its actions.
    pub(super) fn chosen_by(&self, policy: &Plugin) -> anyhow::Result<Option<OtherAction>> {
        chosen_by(&self.rollout, &self.plugin, policy, &self.how).map_err(into_anyhow)
    }
}

/// Converts an error of a replay for the exit codes.
fn into_anyhow(error: ReplayError) -> anyhow::Error {
    match error {
        ReplayError::Damage(damage) => damage.into(),
        ReplayError::Host(error) => error.into(),
    }
}

impl Replay {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let picture = self.render.as_deref().map(Picture::at).transpose()?;
        if picture.as_ref().is_some_and(|picture| !picture.is_gif()) {
            let error = UsageError::new("`--render` of a recording draws an episode: name a file that ends in .gif");
            return Err(error
                .hint("where an env draws text alone, `rollcage run` with `--render FILE.txt` draws its last state")
                .into());
        }
        let mut parts = self.recorded.open_all()?;
        if let Some(file) = &self.snapshot {
            let has = |part: &&Opened| self.env.is_none_or(|env| part.rollout.manifest().env_numbers().contains(&env));
            // A recording that has no such env says so.
            let part = parts.iter().find(has).or(parts.first()).context("a recording")?;
            return self.take_snapshot(part, file);
        }
        let mut replayed = Vec::new();
        for part in &mut parts {
            part.how.from = self.from;
            replayed.push(part.replay()?);
            if replayed.last().is_some_and(|last| last.difference.is_some()) {
                break;
            }
        }
        let replayed = Replayed::joined(replayed);
        let drawn = match (&picture, parts.first()) {
            (Some(picture), Some(first)) => Some(draw(picture, first)?),
            _ => None,
        };
        let not_portable: Vec<&String> = parts.iter().flat_map(|part| &part.rollout.manifest().not_portable).collect();
        if self.json {
            say_json(&json!({
                "result": word(&replayed),
                "steps": replayed.steps,
                "digest": replayed.digest.to_string(),
                "digests": replayed.digests.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "prefix": replayed.prefix,
                "believed_faults": replayed.believed,
                "portable": not_portable.is_empty(),
                "not_portable": not_portable,
                "difference": replayed.difference,
                "picture": drawn,
            }))?;
        } else {
            say(&line(&replayed))?;
            if let Some(missing) = missing(&parts) {
                complain("note", &missing);
            }
            for why in not_portable {
                complain("note", &format!("the recording is not portable: {why}"));
            }
        }
        Ok(if replayed.difference.is_none() { Status::Complete } else { Status::Incomplete })
    }
}

impl Replay {
    /// Plays up to a step, and writes a snapshot of the state there.
    fn take_snapshot(&self, opened: &Opened, file: &Path) -> anyhow::Result<Status> {
        let Opened { rollout, plugin, how } = opened;
        match snapshot_at(rollout, plugin, how, self.env.unwrap_or(rollout.manifest().first_env), self.until)
            .map_err(into_anyhow)?
        {
            Err(difference) => {
                say(&difference_line(&difference))?;
                Ok(Status::Incomplete)
            }
            Ok(snapshot) => {
                let shown = file.display();
                std::fs::write(file, snapshot.to_bytes()).with_context(|| format!("writing `{shown}`"))?;
                say(&format!("snapshot: {}\n", escape_line(&snapshot.to_string())))?;
                Ok(Status::Complete)
            }
        }
    }
}

/// The envs of the run that are in no folder, where there are such.
fn missing(parts: &[Opened]) -> Option<String> {
    let mut next = 0;
    let mut gaps = Vec::new();
    for part in parts {
        let numbers = part.rollout.manifest().env_numbers();
        if numbers.start > next {
            gaps.push(format!("{next} to {}", numbers.start - 1));
        }
        next = numbers.end;
    }
    let gaps = gaps.join(", ");
    (!gaps.is_empty()).then(|| format!("envs {gaps} of the run are not here: the digest is that of the others"))
}

fn word(replayed: &Replayed) -> &'static str {
    match (&replayed.difference, replayed.prefix) {
        (Some(_), _) => "different",
        (None, true) => "prefix",
        (None, false) => "identical",
    }
}

/// The result of a replay, on a line.
fn line(replayed: &Replayed) -> String {
    let Replayed { steps, digest, .. } = replayed;
    match &replayed.difference {
        Some(difference) => difference_line(difference),
        None if replayed.prefix => {
            format!("prefix: {steps} steps of a run that did not finish, all identical, digest {digest}\n")
        }
        None => format!("identical: {steps} steps, digest {digest}\n"),
    }
}

/// The place where a replay differs from its recording, on a line.
pub(super) fn difference_line(difference: &Difference) -> String {
    let Difference { env, episode, step, field, recorded, got } = difference;
    let (recorded, got) = (shown(recorded), shown(got));
    let field = escape_line(field);
    format!("different: env {env}, episode {episode}, step {step}: {field}: recorded {recorded}, got {got}\n")
}

/// Bytes of a value that are shown; `--json` has the whole value.
const VALUE_SHOWN_BYTES: usize = 200;

fn shown(value: &Value) -> String {
    let mut text = escape_line(&value.to_string());
    cut(&mut text, VALUE_SHOWN_BYTES);
    text
}

/// Draws an episode of the first env.
fn draw(picture: &Picture<'_>, opened: &Opened) -> anyhow::Result<Value> {
    let Opened { rollout, plugin, how } = opened;
    let mut recorder = None;
    let mut unfit = None;
    let show = |envs: &mut VecEnv, stepped: bool| {
        if recorder.is_none() && unfit.is_none() {
            let description = envs.prepared().description();
            match picture.check(description) {
                Ok(()) => recorder = picture.recorder(description, Autoreset::Disabled),
                Err(error) => {
                    let hint = "a recording's picture is an episode, in pixels; `rollcage run` with `--render FILE.txt` draws text";
                    unfit = Some(UsageError::new(error.message).hint(hint));
                }
            }
        }
        if let Some(recorder) = &mut recorder {
            if stepped { recorder.after_step(envs) } else { recorder.after_reset(envs) }
        }
    };
    watch(rollout, plugin, how, (rollout.manifest().first_env, how.from), show).map_err(into_anyhow)?;
    if let Some(error) = unfit {
        return Err(error.into());
    }
    let drawn = recorder.map(super::picture::Recorder::finish).transpose()?;
    Ok(serde_json::to_value(drawn)?)
}
