//! The report of a run: one JSON object, or a summary for people.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::HumanCount;
use rollcage::fault::FAULTS_KEPT_MAX;
use rollcage::outside::grant::Refused;
use rollcage::space::float_json;
use rollcage::spread::Spread;
use rollcage::text::escape_line;
use rollcage::{Fault, FaultKind, Grant, Grants, Level, Oddity, Snapshot, VecEnv};
use serde::Serialize;
use serde_json::Value;

use super::one_line;
use super::picture::Drawn;
use super::play::Tally;

/// The times of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// From the program's start to the first reset's answer of every env; none if the run did not get that far.
    pub(super) start: Option<Duration>,
    /// From the first reset's answers to the last step's answer.
    pub(super) playing: Duration,
}

/// A finished run, in the order of its JSON keys.
#[derive(Serialize)]
pub(super) struct Report {
    plugin: String,
    sha256: String,
    envs: usize,
    seed: u64,
    config: Value,
    steps: u64,
    episodes: u64,
    #[serde(rename = "return")]
    returns: Option<Figures>,
    #[serde(rename = "length")]
    lengths: Option<Figures>,
    steps_per_second: f64,
    start_seconds: Option<f64>,
    compile_seconds: Option<f64>,
    import_seconds: Option<f64>,
    /// The reason why each env imports for itself.
    #[serde(skip)]
    own_imports: Option<&'static str>,
    start: Option<String>,
    /// The most envs that one worker has.
    envs_per_worker: usize,
    faults: Vec<FaultLine>,
    faults_total: u64,
    oddities: Vec<OddityLine>,
    digest: String,
    digests: Vec<String>,
    walls: Option<Vec<&'static str>>,
    /// The level of the sandbox, of `--require-sandbox`.
    level: Option<&'static str>,
    grants: Grants,
    refused: Vec<RefusedLine>,
    picture: Option<Drawn>,
    recording: Option<String>,
    from: Option<Begun>,
    pub(super) incomplete: Option<String>,
}

#[derive(Clone, Copy, Serialize)]
struct Figures {
    #[serde(serialize_with = "float")]
    mean: f64,
    #[serde(serialize_with = "float")]
    min: f64,
    #[serde(serialize_with = "float")]
    max: f64,
}

/// Writes any float: a value that JSON lacks is written as a word.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "so serde wants it")]
fn float<S: serde::Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    float_json(*number).serialize(serializer)
}

/// The starting point of a run that begins from a snapshot.
#[derive(Serialize)]
pub(super) struct Begun {
    /// Steps that the snapshot's env had taken.
    steps: u64,
    /// The steps of the episode that goes on: its return and length count them.
    episode_steps: u32,
}

impl Begun {
    pub(super) fn at(snapshot: &Snapshot) -> Begun {
        Begun { steps: snapshot.steps(), episode_steps: snapshot.episode_steps() }
    }

    fn line(&self) -> String {
        let Begun { steps, episode_steps } = self;
        let after = format!("a snapshot after {} steps", HumanCount(*steps));
        match episode_steps {
            0 => after,
            1 => format!("{after}; return and length of each env's first episode count 1 step before it"),
            many => format!("{after}; return and length of each env's first episode count {many} steps before it"),
        }
    }
}

/// A network request of an env that was refused.
#[derive(Serialize)]
struct RefusedLine {
    env: usize,
    what: String,
    times: u64,
}

#[derive(Serialize)]
struct FaultLine {
    env: u32,
    instance: u32,
    episode: u64,
    step: u32,
    kind: FaultKind,
    message: String,
}

impl From<&Fault> for FaultLine {
    fn from(fault: &Fault) -> FaultLine {
        let Fault { env, instance, episode, step, kind, message, .. } = fault;
        FaultLine {
            env: *env,
            instance: *instance,
            episode: *episode,
            step: *step,
            kind: *kind,
            message: message.clone(),
        }
    }
}

/// One kind of odd answers in the JSON object.
#[derive(Serialize)]
struct OddityLine {
    kind: &'static str,
    times: u64,
    env: u32,
    episode: u64,
    step: u32,
    example: String,
    /// The same in words.
    #[serde(skip)]
    told: String,
}

impl From<&Oddity> for OddityLine {
    fn from(oddity: &Oddity) -> OddityLine {
        let Oddity { kind, times, env, episode, step, example } = oddity;
        let (kind, times, env, episode, step) = (kind.name(), *times, *env, *episode, *step);
        OddityLine { kind, times, env, episode, step, example: example.clone(), told: oddity.to_string() }
    }
}

impl Report {
    /// Collects the facts at the end of a run, or of an attempt.
    #[expect(clippy::cast_precision_loss, reason = "nobody takes 2^53 steps")]
    pub(super) fn new(
        envs: &VecEnv,
        tally: &Tally,
        times: Times,
        picture: Option<Drawn>,
        recorded: Option<PathBuf>,
        from: Option<Begun>,
        incomplete: Option<String>,
    ) -> Report {
        let plugin = envs.prepared().plugin();
        let figures = |spread: &Spread| spread.figures().map(|(mean, min, max)| Figures { mean, min, max });
        let seconds = times.playing.as_secs_f64();
        Report {
            plugin: plugin.name().to_owned(),
            sha256: plugin.sha256_hex(),
            envs: envs.len(),
            seed: envs.seed(),
            config: envs.config_of(0).map_or(Value::Null, |config| config.value.clone()),
            steps: tally.steps,
            episodes: tally.episodes,
            returns: figures(&tally.returns),
            lengths: figures(&tally.lengths),
            steps_per_second: if tally.steps > 0 && seconds > 0.0 { tally.steps as f64 / seconds } else { 0.0 },
            start_seconds: times.start.map(|time| time.as_secs_f64()),
            compile_seconds: envs.prepared().compile_time().map(|time| time.as_secs_f64()),
            import_seconds: envs.own_imports().map(|(time, _)| time.as_secs_f64()),
            own_imports: envs.own_imports().map(|(_, why)| why),
            start: envs.started_by(0).map(|start| start.to_string()),
            envs_per_worker: envs.envs_per_worker(),
            faults: envs.faults().first().iter().take(FAULTS_KEPT_MAX).map(FaultLine::from).collect(),
            faults_total: envs.faults().total(),
            oddities: envs.oddities().iter().map(OddityLine::from).collect(),
            digest: envs.digest().to_string(),
            digests: envs.digests().iter().map(ToString::to_string).collect(),
            // If no env was ready, its sandbox layers are unknown.
            walls: Some(envs.walls().names()).filter(|walls| !walls.is_empty()),
            level: envs.level().map(Level::name),
            grants: envs.grants().clone(),
            refused: (0..envs.len())
                .flat_map(|env| {
                    envs.refused(env).into_iter().map(move |Refused { what, times }| RefusedLine { env, what, times })
                })
                .collect(),
            picture,
            recording: recorded.map(|folder| folder.display().to_string()),
            from,
            incomplete,
        }
    }

    /// The summary that `rollcage run` prints without `--json`.
    pub(super) fn summary(&self) -> String {
        let mut rows = vec![
            ("episodes", HumanCount(self.episodes).to_string()),
            ("steps", HumanCount(self.steps).to_string()),
            ("return", figures(self.returns)),
            ("length", figures(self.lengths)),
        ];
        if let Some(from) = &self.from {
            rows.push(("from", from.line()));
        }
        if self.steps > 0 {
            rows.push(("speed", format!("{} steps/s", count(self.steps_per_second))));
        }
        if let Some(seconds) = self.start_seconds {
            let compiling = self.compile_seconds.map(|seconds| format!(" (compiling {})", duration(seconds)));
            let (time, compiling) = (duration(seconds), compiling.unwrap_or_default());
            rows.push(("start", format!("{time}{compiling} until every env had answered its first reset")));
        }
        if let (Some(seconds), Some(why)) = (self.import_seconds, self.own_imports) {
            rows.push(("imports", format!("{} in each env: {why}", duration(seconds))));
        }
        rows.push(("faults", self.faults_by_kind()));
        if !self.oddities.is_empty() {
            let lines: Vec<String> = self.oddities.iter().map(|one| one_line(&one.told)).collect();
            rows.push(("odd", lines.join(&format!("\n{:14}", ""))));
        }
        if let Some(walls) = &self.walls {
            rows.push(("walls", walls.join(", ")));
        }
        if !self.grants.is_empty() {
            rows.push(("grants", self.granted()));
        }
        if !self.refused.is_empty() {
            rows.push(("refused", self.refusals()));
        }
        if let Some(picture) = &self.picture {
            rows.push(("picture", escape_line(&picture.line()).to_string()));
        }
        if let Some(folder) = &self.recording {
            rows.push(("recording", escape_line(folder)));
        }
        rows.push(("digest", self.digest.clone()));
        if let Some(why) = &self.incomplete {
            rows.push(("incomplete", one_line(why)));
        }
        let envs = if self.envs == 1 { "1 env".to_owned() } else { format!("{} envs", self.envs) };
        let mut text = format!("{}, {envs}, seed {}\n\n", escape_line(&self.plugin), self.seed);
        for (name, value) in rows {
            text.push_str(&format!("  {name:<12}{value}\n"));
        }
        text
    }

    /// One line per grant, with its meaning for the next run.
    fn granted(&self) -> String {
        let line = |grant: &Grant| {
            let remark = match grant {
                Grant::Dir { .. } => "what is in it is an input too",
                Grant::Lease { .. } => "the config has the port",
                Grant::Service(_) if self.recording.is_some() => "not in the recording",
                _ if self.recording.is_some() => "captured in the recording",
                _ => "not reproducible",
            };
            format!("{} ({remark})", escape_line(&grant.to_string()))
        };
        self.grants.iter().map(line).collect::<Vec<_>>().join(&format!("\n{:14}", ""))
    }

    /// The refused network requests of envs. Equal requests of several envs are printed once.
    fn refusals(&self) -> String {
        let mut whats: Vec<(&str, u64, usize)> = Vec::new();
        for RefusedLine { what, times, .. } in &self.refused {
            match whats.iter_mut().find(|(known, ..)| known == what) {
                Some((_, all, envs)) => (*all, *envs) = (*all + times, *envs + 1),
                None => whats.push((what, *times, 1)),
            }
        }
        let more = whats.len().saturating_sub(REFUSED_SHOWN_MAX);
        let line = |(what, times, envs): &(&str, u64, usize)| {
            let of = if *envs == 1 { "1 env".to_owned() } else { format!("{envs} envs") };
            format!("{} ({}x, {of})", escape_line(what), HumanCount(*times))
        };
        let mut lines: Vec<String> = whats.iter().take(REFUSED_SHOWN_MAX).map(line).collect();
        if more > 0 {
            lines.push(format!("{more} more, which --json lists"));
        }
        lines.join(&format!("\n{:14}", ""))
    }

    /// The number of faults of each kind, and the first message of each kind.
    fn faults_by_kind(&self) -> String {
        if self.faults_total == 0 {
            return "none".to_owned();
        }
        let mut kinds: BTreeMap<u8, (u64, &FaultLine)> = BTreeMap::new();
        for fault in &self.faults {
            kinds.entry(fault.kind.number()).or_insert((0, fault)).0 += 1;
        }
        let mut lines = vec![HumanCount(self.faults_total).to_string()];
        for (number, first) in kinds.values() {
            let mut message = one_line(&first.message);
            if message.chars().count() > MESSAGE_SHOWN_MAX {
                message = message.chars().take(MESSAGE_SHOWN_MAX).chain(['…']).collect();
            }
            lines.push(format!("{}x {}: {message}", HumanCount(*number), first.kind));
        }
        let listed = self.faults.len() as u64;
        if self.faults_total > listed {
            lines.push(format!("{} more are not listed", HumanCount(self.faults_total - listed)));
        }
        lines.join(&format!("\n{:14}", ""))
    }
}

/// Refusals that the summary lists; `--json` has all refusals that were kept.
const REFUSED_SHOWN_MAX: usize = 8;

/// Characters of a fault's message in the summary; `--json` has the whole message.
const MESSAGE_SHOWN_MAX: usize = 160;

fn figures(figures: Option<Figures>) -> String {
    match figures {
        None => "no episode has finished".to_owned(),
        Some(Figures { mean, min, max }) => format!("{} on average, {} to {}", number(mean), number(min), number(max)),
    }
}

/// A number with at most two decimals, or none if they are zeros.
fn number(value: f64) -> String {
    if let Value::String(word) = float_json(value) {
        return word;
    }
    let text = format!("{value:.2}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people: finite, not negative, far below 2^53"
)]
fn count(value: f64) -> HumanCount {
    HumanCount(value.round() as u64)
}

fn duration(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            plugin: "cartpole".to_owned(),
            sha256: "00".to_owned(),
            envs: 8,
            seed: 7,
            config: serde_json::json!({"sutton_barto_reward": false}),
            steps: 4482,
            episodes: 200,
            returns: Some(Figures { mean: 22.41, min: 9.0, max: 71.5 }),
            lengths: None,
            steps_per_second: 131_220.4,
            start_seconds: Some(0.0312),
            compile_seconds: None,
            import_seconds: None,
            own_imports: None,
            start: Some("fork".to_owned()),
            envs_per_worker: 1,
            faults: Vec::new(),
            faults_total: 0,
            oddities: Vec::new(),
            digest: "ab".to_owned(),
            digests: vec!["cd".to_owned()],
            walls: Some(vec!["wasm", "process"]),
            level: None,
            grants: Grants::new(),
            refused: Vec::new(),
            picture: None,
            recording: None,
            from: None,
            incomplete: None,
        }
    }

    #[test]
    fn the_object_has_the_keys_of_the_contract_in_order() {
        let value = serde_json::to_value(report()).unwrap_or_default();
        let keys: Vec<&str> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let expected = [
            "plugin",
            "sha256",
            "envs",
            "seed",
            "config",
            "steps",
            "episodes",
            "return",
            "length",
            "steps_per_second",
            "start_seconds",
            "compile_seconds",
            "import_seconds",
            "start",
            "envs_per_worker",
            "faults",
            "faults_total",
            "oddities",
            "digest",
            "digests",
            "walls",
            "level",
            "grants",
            "refused",
            "picture",
            "recording",
            "from",
            "incomplete",
        ];
        assert_eq!(keys, expected);
        assert_eq!(value["length"], Value::Null);
        assert_eq!(value["return"]["max"], 71.5);
    }

    #[test]
    fn a_summary_is_read_at_a_glance() {
        let expected = "\
cartpole, 8 envs, seed 7

  episodes    200
  steps       4,482
  return      22.41 on average, 9 to 71.5
  length      no episode has finished
  speed       131,220 steps/s
  start       31 ms until every env had answered its first reset
  faults      none
  walls       wasm, process
  digest      ab
";
        assert_eq!(report().summary(), expected);
        let compiled = Report { start_seconds: Some(0.62), compile_seconds: Some(0.48), ..report() };
        let expected = "  start       620 ms (compiling 480 ms) until every env had answered its first reset\n";
        assert!(compiled.summary().contains(expected), "{}", compiled.summary());
        let own = Report { import_seconds: Some(1.94), own_imports: Some("envs with sockets share none"), ..report() };
        let expected = "answered its first reset\n  imports     1.9 s in each env: envs with sockets share none\n";
        assert!(own.summary().contains(expected), "{}", own.summary());
    }

    #[test]
    fn grants_are_told_with_what_they_mean() {
        let mut report = report();
        report.grants = ["dir=/srv/a\u{1b}b:/levels", "clock=real"].iter().flat_map(|grant| grant.parse()).collect();
        let expected = "  \
  walls       wasm, process
  grants      dir=/srv/a\\u{1b}b:/levels:ro (what is in it is an input too)
              clock=real (not reproducible)
  digest      ab
";
        assert!(report.summary().ends_with(expected), "{}", report.summary());
        let value = serde_json::to_value(report).unwrap_or_default();
        assert_eq!(value["grants"], serde_json::json!(["dir=/srv/a\u{1b}b:/levels:ro", "clock=real"]));
    }

    #[test]
    fn refusals_of_many_envs_are_told_once() {
        let line = |env, what: &str| RefusedLine { env, what: what.to_owned(), times: 2 };
        let mut report = report();
        report.refused =
            vec![line(0, "udp 10.0.0.1:53"), line(1, "udp 10.0.0.1:53"), line(1, "tcp-connect [::1]:\u{1b}")];
        let expected = "  \
  refused     udp 10.0.0.1:53 (4x, 2 envs)
              tcp-connect [::1]:\\u{1b} (2x, 1 env)
  digest      ab
";
        assert!(report.summary().ends_with(expected), "{}", report.summary());
    }

    #[test]
    fn faults_are_summed_up_by_kind() {
        let fault = |kind, message: &str| FaultLine {
            env: 1,
            instance: 0,
            episode: 2,
            step: 3,
            kind,
            message: message.to_owned(),
        };
        let mut report = report();
        report.faults = vec![
            fault(FaultKind::StepTimeout, "the step did not answer within 1 s"),
            fault(FaultKind::Trap, "unreachable\u{1b}[2J"),
            fault(FaultKind::Trap, "another"),
        ];
        report.faults_total = 1003;
        assert_eq!(
            report.faults_by_kind(),
            "1,003\n              2x trap: unreachable\\u{1b}[2J\n              1x step_timeout: the step did not answer \
             within 1 s\n              1,000 more are not listed"
        );
    }

    #[test]
    fn numbers_for_people() {
        for (value, expected) in [
            (9.0, "9"),
            (-0.5, "-0.5"),
            (22.414, "22.41"),
            (100.0, "100"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
