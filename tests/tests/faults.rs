//! The table of hostile guests (`tests/hostile/expected.toml`): every row met with its fault within its deadline, and what
//! a fault returns under every policy and autoreset mode. The envs beside the faulty one never notice.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rollcage::fault::{BACKTRACE_FRAMES_MAX, MESSAGE_BYTES_MAX};
use rollcage::process::child::LOG_BYTES_MAX;
use rollcage::{
    Autoreset, Batch, Budget, Builder, Digest, Error, Fault, FaultKind, Limits, OnFault, RenderMode, ResetSome, Start,
    VecEnv,
};
use rollcage_tests::{Process, builder, discrete, envs_per_worker, eventually, fixture, program, root, shipped};
use serde::Deserialize;
use serde_json::{Map, Value, json};

// ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[derive(Deserialize)]
struct Table {
    guest: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Row {
    guest: String,
    #[serde(default)]
    config: Map<String, Value>,
    call: Function,
    #[serde(default = "third")]
    step: u32,
    actions: Option<Vec<Value>>,
    options: Option<Value>,
    #[serde(default = "rgb")]
    mode: RenderMode,
    method: Option<String>,
    arguments: Option<Value>,
    fault: String,
    error: Option<String>,
    #[serde(default)]
    limits: RowLimits,
    deadline: Option<String>,
    #[serde(default)]
    message_contains: Vec<String>,
    #[serde(default)]
    log_contains: Vec<String>,
    #[serde(default)]
    backtrace_contains: Vec<String>,
    #[serde(rename = "portable")]
    _portable: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "kebab-case")]
enum Function {
    Describe,
    Create,
    Reset,
    Step,
    Render,
    Call,
    GetAttribute,
    SetAttribute,
    Reseed,
    Close,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RowLimits {
    memory: Option<String>,
    fuel: Option<u64>,
    step_timeout: Option<String>,
    start_timeout: Option<String>,
    close_timeout: Option<String>,
    compile_timeout: Option<String>,
}

fn third() -> u32 {
    3
}

fn rgb() -> RenderMode {
    RenderMode::RgbArray
}

fn time(text: &str) -> Duration {
    match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => Duration::from_millis(number.parse().unwrap()),
        (None, Some(number)) => Duration::from_secs(number.parse().unwrap()),
        (None, None) => panic!("no time: {text}"),
    }
}

fn mebibytes(text: &str) -> u64 {
    text.strip_suffix("MiB").unwrap().parse::<u64>().unwrap() << 20
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("tests/hostile/expected.toml")).unwrap();
    let table: Table = toml::from_str(&text).unwrap();
    table.guest
}

/// The rows of these calls. Where envs share a worker, those that end it are `packed.rs`'s.
fn rows_of(calls: &[Function]) -> Vec<Row> {
    let shared = envs_per_worker() > 1;
    rows().into_iter().filter(|row| calls.contains(&row.call) && !(shared && row.ends_the_worker())).collect()
}

/// The first row of each guest, call and outcome: those that are tried under every policy and mode.
fn typical(calls: &[Function]) -> Vec<Row> {
    let mut seen = HashSet::new();
    let mut rows = rows_of(calls);
    rows.retain(|row| row.kind().is_some() && seen.insert((row.guest.clone(), row.call, row.fault.clone())));
    rows
}

/// Guests made with `mischief`, and plugins crafted in its manner, which behave when told never to strike.
const IMPS: [&str; 24] = [
    "trap",
    "panic",
    "loop",
    "memory",
    "handles",
    "random",
    "recurse",
    "stack",
    "slow",
    "wait",
    "logs",
    "exit",
    "refuses",
    "restart",
    "fail",
    "shape",
    "extra-liar",
    "frame-liar",
    "escape",
    "opens",
    "sockets",
    "honest",
    "table-bomb",
    "table-hoard",
];

impl Row {
    fn name(&self) -> String {
        format!("{} {} in {:?}: {}", self.guest, Value::from(self.config.clone()), self.call, self.fault)
    }

    fn kind(&self) -> Option<FaultKind> {
        serde_json::from_value(Value::from(self.fault.as_str())).ok()
    }

    /// Whether the fault ends the process, and not only the instance.
    fn ends_the_worker(&self) -> bool {
        matches!(self.kind(), Some(FaultKind::StepTimeout | FaultKind::ResetTimeout | FaultKind::CallTimeout))
    }

    fn deadline(&self) -> Duration {
        self.deadline.as_deref().map_or(Duration::from_secs(5), time)
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits { fuel_per_step: self.limits.fuel, ..Limits::default() };
        if let Some(memory) = &self.limits.memory {
            limits.memory_bytes = mebibytes(memory);
        }
        if let Some(timeout) = &self.limits.step_timeout {
            limits = limits.call_timeouts(time(timeout));
        }
        if let Some(timeout) = &self.limits.start_timeout {
            limits.start_timeout = time(timeout);
        }
        if let Some(timeout) = &self.limits.close_timeout {
            limits.close_timeout = time(timeout);
        }
        if let Some(timeout) = &self.limits.compile_timeout {
            limits.compile_timeout = time(timeout);
        }
        limits
    }

    /// A config with which the guest behaves: the same spaces, no mischief.
    fn good(&self) -> Map<String, Value> {
        let mut config = self.config.clone();
        match self.guest.as_str() {
            guest if IMPS.contains(&guest) => {
                config.insert("at".to_owned(), json!(-1));
            }
            "hoard" | "masked" | "bounds" => config = Map::new(),
            "echo" => {
                config.remove("hang_at");
            }
            "create-fail" => config = Map::from_iter([("what".to_owned(), json!("nothing"))]),
            // These misbehave by what is asked of them, not by their config.
            _ => {}
        }
        config
    }

    /// Three envs, of which the middle one has the row's config.
    fn envs(&self) -> Builder {
        self.three(self.config.clone())
    }

    /// The same with a config that behaves in all three.
    fn peace(&self) -> Builder {
        self.three(self.good())
    }

    fn three(&self, middle: Map<String, Value>) -> Builder {
        let good = self.good();
        let plugin = fixture(&self.guest);
        let builder = builder(plugin).envs(3).seed(100).limits(self.limits());
        builder.config_with(move |index| if index == 1 { middle.clone() } else { good.clone() })
    }

    /// Compiling is not part of any deadline.
    fn warm_up(&self) {
        // What cannot be described is never kept.
        if self.call == Function::Describe {
            return;
        }
        let prepared = builder(fixture(&self.guest)).limits(self.limits()).prepare();
        assert!(prepared.is_ok(), "{}: {:?}", self.name(), prepared.err());
    }

    /// Actions for all envs in step `number`.
    fn actions(&self, envs: &VecEnv, number: u32) -> Vec<u8> {
        let space = &envs.spec().action_space;
        let given = self.actions.as_ref().and_then(|actions| actions.get(number as usize));
        let mut action = vec![0; space.stride()];
        space.from_json(given.unwrap_or(&json!(0)), &mut action).unwrap();
        action.repeat(envs.len())
    }

    /// What is wrong with a fault, beside where it happened.
    fn check(&self, fault: &Fault) -> Result<(), String> {
        let contains = |what: &str, text: &str, all: &[String]| {
            let missing = all.iter().find(|part| !text.contains(part.as_str()));
            missing.map_or(Ok(()), |part| Err(format!("its {what} lacks {part:?}: {:.300?}", text)))
        };
        if Some(fault.kind) != self.kind() {
            return Err(format!("another fault: {fault}"));
        }
        contains("message", &fault.message, &self.message_contains)?;
        contains("log", &fault.log, &self.log_contains)?;
        contains("backtrace", &fault.backtrace.join("\n"), &self.backtrace_contains)?;
        if fault.message.len() > MESSAGE_BYTES_MAX || fault.log.len() > 3 * LOG_BYTES_MAX {
            return Err("its texts are too long".to_owned());
        }
        if fault.backtrace.len() > BACKTRACE_FRAMES_MAX {
            return Err(format!("{} frames", fault.backtrace.len()));
        }
        Ok(())
    }

    /// Makes the row's call of an env, if it is one that `VecEnv` has beside steps and resets.
    fn ask(&self, envs: &mut VecEnv, env: usize) -> Result<(), Error> {
        let method = self.method.as_deref().unwrap_or("anything");
        let arguments = self.arguments.clone().unwrap_or_else(|| json!({}));
        match self.call {
            Function::Render => envs.render(env, self.mode).map(drop),
            Function::Call => envs.call(env, method, &arguments).map(drop),
            Function::GetAttribute => envs.get_attribute(env, method).map(drop),
            Function::SetAttribute => envs.set_attribute(env, method, &arguments),
            Function::Reseed => envs.reseed(env, 7),
            _ => panic!("{:?} is no call of its own", self.call),
        }
    }
}

fn fault_of(error: Error) -> Result<Fault, String> {
    match error {
        Error::Fault(fault) => Ok(*fault),
        other => Err(format!("no fault: {other:?}")),
    }
}

/// Runs all rows and tells all that went wrong.
fn each(rows: Vec<Row>, run: impl Fn(&Row) -> Result<(), String>) {
    assert!(!rows.is_empty());
    let count = rows.len();
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            row.warm_up();
            run(row).err().map(|what| format!("{}\n    {what}", row.name()))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {count} rows:\n  {}", wrong.len(), wrong.join("\n  "));
}

fn within(row: &Row, began: Instant) -> Result<(), String> {
    let (took, deadline) = (began.elapsed(), row.deadline());
    if took > deadline { Err(format!("it took {took:?}; the deadline is {deadline:?}")) } else { Ok(()) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}: {got:?} where {expected:?} was expected")) }
}

/// What the envs beside the faulty one have seen, call after call, and their digests.
#[derive(Debug, Default, PartialEq)]
struct Neighbours {
    seen: Vec<Vec<u8>>,
    digests: Vec<Digest>,
}

impl Neighbours {
    fn see(&mut self, batch: &Batch) {
        for row in [0, 2] {
            let mut bytes = batch.observation(row).to_vec();
            bytes.extend(batch.rewards[row].to_bits().to_le_bytes());
            bytes.extend([batch.terminated[row], batch.truncated[row], batch.was_reset[row]].map(u8::from));
            bytes.push(batch.faults[row].is_some().into());
            bytes.extend(batch.action_mask(row));
            bytes.extend(batch.info(row));
            bytes.extend(batch.infos_extra[row].bytes());
            bytes.extend(batch.final_observation(row).unwrap_or_default());
            self.seen.push(bytes);
        }
    }

    fn end(&mut self, envs: &VecEnv) {
        let digests = envs.digests();
        self.digests = vec![digests[0], digests[2]];
    }

    fn same_as(&self, peace: &Neighbours) -> Result<(), String> {
        if self.seen != peace.seen {
            let at = self.seen.iter().zip(&peace.seen).position(|(one, other)| one != other);
            return Err(format!("the other envs saw something else, first at {at:?}"));
        }
        equal("digests of the other envs", &self.digests, &peace.digests)
    }
}

// ── Every row, as its columns say ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn every_guest_has_a_row_and_every_row_a_guest() {
    let manifest = std::fs::read_to_string(root().join("tests/hostile/Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    let members: HashSet<String> = manifest["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        // A policy is no env, and its tests are elsewhere.
        .filter(|name| !name.starts_with("policies/"))
        .collect();
    let mut named: HashSet<String> = rows().into_iter().map(|row| row.guest).collect();
    // The crate that the others share, and one that is there for measuring.
    named.extend(["mischief", "sized"].map(str::to_owned));
    let crafted = std::fs::read_dir(rollcage_tests::crafted_folder()).unwrap().map(|entry| entry.unwrap().path());
    let crafted: HashSet<String> = crafted.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(crafted.is_disjoint(&members), "one name for two");
    assert_eq!(&members | &crafted, named);
    for row in rows() {
        let known = row.kind().is_some() || matches!(row.fault.as_str(), "none" | "error" | "usage");
        assert!(known, "{}", row.name());
        assert_eq!(row.error.is_some(), row.fault == "error", "{}", row.name());
        rollcage_tests::fixture_path(&row.guest);
    }
}

#[test]
fn rows_of_describe() {
    each(rows_of(&[Function::Describe]), |row| {
        // Compiled and forgotten: the row's deadline is that of `describe`, and some seconds of compiling come first.
        let began = Instant::now();
        let error = row.envs().prepare().err().ok_or("it is accepted")?;
        let took = began.elapsed();
        if took > row.deadline() + Duration::from_secs(60) {
            return Err(format!("it took {took:?}"));
        }
        let Error::Usage(error) = error else { return Err(format!("no usage error: {error:?}")) };
        let file = rollcage_tests::fixture_path(&row.guest);
        let named = format!("plugin `{}`", file.display());
        for part in row.message_contains.iter().chain([&named]) {
            if !error.message.contains(part.as_str()) {
                return Err(format!("its message lacks {part:?}: {error}"));
            }
        }
        Ok(())
    });
}

#[test]
fn rows_of_create() {
    each(rows_of(&[Function::Create]), |row| {
        let began = Instant::now();
        let built = row.envs().on_fault(OnFault::Raise).build();
        within(row, began)?;
        let error = built.err().ok_or("it is accepted")?;
        if row.kind().is_some() {
            let fault = fault_of(error)?;
            equal("place", (fault.env, fault.instance, fault.episode, fault.step), (1, 0, 0, 0))?;
            return row.check(&fault);
        }
        equal("outcome", row.fault.as_str(), "usage")?;
        let Error::Usage(error) = error else { return Err(format!("no usage error: {error:?}")) };
        let missing = row.message_contains.iter().find(|part| !error.message.contains(part.as_str()));
        missing.map_or(Ok(()), |part| Err(format!("its message lacks {part:?}: {error}")))
    });
}

#[test]
fn rows_of_reset() {
    each(rows_of(&[Function::Reset]), |row| {
        let reset = |envs: &mut VecEnv| {
            let options = row.options.as_ref();
            envs.reset_some(&ResetSome { options, ..ResetSome::default() }).map(drop)
        };
        let mut peace = Neighbours::default();
        let mut envs = row.peace().build().map_err(|error| error.to_string())?;
        // Others are reset without the options that env 1 may refuse.
        envs.reset(None).map_err(|error| error.to_string())?;
        peace.see(envs.last());
        peace.end(&envs);

        let mut envs = row.envs().on_fault(OnFault::Raise).build().map_err(|error| error.to_string())?;
        let began = Instant::now();
        let done = reset(&mut envs);
        within(row, began)?;
        let mut seen = Neighbours::default();
        seen.see(envs.last());
        seen.end(&envs);
        match (row.fault.as_str(), done) {
            ("none", done) => {
                done.map_err(|error| error.to_string())?;
                equal("faults", envs.faults().total(), 0)
            }
            ("error", Err(Error::Usage(error))) => {
                let missing = row.message_contains.iter().find(|part| !error.message.contains(part.as_str()));
                missing.map_or(Ok(()), |part| Err(format!("its message lacks {part:?}: {error}")))?;
                equal("faults", envs.faults().total(), 0)?;
                // It goes on.
                envs.reset(None).map(drop).map_err(|error| error.to_string())
            }
            (_, Err(error)) => {
                let fault = fault_of(error)?;
                equal("place", (fault.env, fault.instance, fault.episode, fault.step), (1, 0, 0, 0))?;
                row.check(&fault)?;
                seen.same_as(&peace)
            }
            (_, Ok(())) => Err("it was reset".to_owned()),
        }
    });
}

#[test]
fn rows_of_step() {
    each(rows_of(&[Function::Step]), |row| {
        if row.fault == "error" {
            return refused_in_a_step(row);
        }
        let mut peace = Neighbours::default();
        play_in_peace(row, &mut peace)?;
        let mut seen = Neighbours::default();
        let mut envs = row.envs().build().map_err(|error| error.to_string())?;
        seen.see(envs.reset(None).map_err(|error| error.to_string())?);
        for number in 0..row.step {
            let actions = row.actions(&envs, number);
            let batch = envs.step(&actions).map_err(|error| error.to_string())?;
            equal("a fault before its step", &batch.faults[1], &None)?;
            seen.see(batch);
        }
        let actions = row.actions(&envs, row.step);
        let began = Instant::now();
        let batch = envs.step(&actions).map_err(|error| error.to_string())?.clone();
        within(row, began)?;
        seen.see(&batch);
        let ended = batch.terminated[1] || batch.truncated[1];
        if row.kind().is_some() {
            let fault = batch.faults[1].as_deref().ok_or("no fault")?;
            equal("place", (fault.env, fault.instance, fault.episode, fault.step), (1, 0, 0, row.step))?;
            row.check(fault)?;
        } else {
            equal("fault", &batch.faults[1], &None)?;
        }
        // One step more: the new instance is reset, or the old one goes on.
        let actions = row.actions(&envs, 0);
        let batch = envs.step(&actions).map_err(|error| error.to_string())?;
        equal("fault afterwards", &batch.faults[1], &None)?;
        equal("reset afterwards", batch.was_reset[1], ended)?;
        seen.see(batch);
        seen.end(&envs);
        seen.same_as(&peace)
    });
}

/// As many steps as a row's run takes, with a middle env that behaves.
fn play_in_peace(row: &Row, peace: &mut Neighbours) -> Result<(), String> {
    let mut envs = row.peace().build().map_err(|error| error.to_string())?;
    peace.see(envs.reset(None).map_err(|error| error.to_string())?);
    for number in (0..=row.step).chain([0]) {
        let actions = row.actions(&envs, number);
        peace.see(envs.step(&actions).map_err(|error| error.to_string())?);
    }
    peace.end(&envs);
    Ok(())
}

/// An action that the env refuses changes nothing. One env, since the others would refuse it too.
fn refused_in_a_step(row: &Row) -> Result<(), String> {
    let config = row.config.clone();
    let mut envs = builder(fixture(&row.guest)).config_with(move |_| config.clone()).build().unwrap();
    let text = |error: Error| error.to_string();
    envs.reset(None).map_err(text)?;
    let stride = envs.spec().action_space.stride();
    for number in 0..row.step {
        let actions = row.actions(&envs, number);
        envs.step(&actions[..stride]).map_err(text)?;
    }
    let (before, digest) = (envs.last().observation(0).to_vec(), envs.digest());
    let actions = row.actions(&envs, row.step);
    let Err(Error::Usage(error)) = envs.step(&actions[..stride]) else { return Err("it is not refused".to_owned()) };
    let missing = row.message_contains.iter().find(|part| !error.message.contains(part.as_str()));
    missing.map_or(Ok(()), |part| Err(format!("its message lacks {part:?}: {error}")))?;
    equal("observation", envs.last().observation(0), &before[..])?;
    equal("digest", envs.digest(), digest)?;
    equal("faults", envs.faults().total(), 0)?;
    envs.reset(None).map(drop).map_err(text)
}

#[test]
fn rows_of_other_calls() {
    let calls = [Function::Render, Function::Call, Function::GetAttribute, Function::SetAttribute, Function::Reseed];
    each(rows_of(&calls), |row| {
        let text = |error: Error| error.to_string();
        let mut envs = row.envs().build().map_err(text)?;
        envs.reset(None).map_err(text)?;
        let began = Instant::now();
        let asked = row.ask(&mut envs, 1);
        within(row, began)?;
        match (row.fault.as_str(), asked) {
            ("none", asked) => asked.map_err(text)?,
            ("error", Err(Error::Usage(error))) => {
                let missing = row.message_contains.iter().find(|part| !error.message.contains(part.as_str()));
                missing.map_or(Ok(()), |part| Err(format!("its message lacks {part:?}: {error}")))?;
            }
            (_, Err(error)) => {
                let fault = fault_of(error)?;
                equal("place", (fault.env, fault.instance, fault.episode, fault.step), (1, 0, 0, 0))?;
                return row.check(&fault);
            }
            (_, Ok(())) => return Err("it answered".to_owned()),
        }
        equal("faults", envs.faults().total(), 0)?;
        let actions = row.actions(&envs, 0);
        let batch = envs.step(&actions).map_err(text)?;
        equal("its next step is a reset", batch.was_reset[1], false)
    });
}

#[test]
fn rows_of_close() {
    each(rows_of(&[Function::Close]), |row| {
        let text = |error: Error| error.to_string();
        let mut envs = row.envs().build().map_err(text)?;
        envs.reset(None).map_err(text)?;
        let workers: Vec<Process> = (0..3).filter_map(|env| envs.pid(env)).map(Process).collect();
        let began = Instant::now();
        envs.say_goodbye();
        within(row, began)?;
        equal("faults", envs.faults().total(), 0)?;
        equal("workers that live on", workers.iter().filter(|worker| worker.exists()).count(), 0)
    });
}

/// A fault that ends the process is a fault of all its envs: the culprit's is its own, the others' is `sibling`, charged to
/// nobody. The envs of another worker never notice.
#[test]
fn rows_that_end_a_shared_worker() {
    let shared: Vec<Row> = rows().into_iter().filter(Row::ends_the_worker).collect();
    each(shared, |row| {
        let text = |error: Error| error.to_string();
        // Envs 0 to 2 share a worker, and so do 3 to 5.
        let six = |middle: Map<String, Value>| {
            let good = row.good();
            let limits = Limits { restarts: Budget { in_all: 1, ..Budget::default() }, ..row.limits() };
            let builder = builder(fixture(&row.guest)).envs(6).seed(100).limits(limits).envs_per_worker(3);
            builder.config_with(move |index| if index == 1 { middle.clone() } else { good.clone() })
        };
        let call = |envs: &mut VecEnv| match row.call {
            Function::Reset => {
                envs.reset_some(&ResetSome { options: row.options.as_ref(), ..ResetSome::default() }).map(drop)
            }
            Function::Step => {
                envs.reset(None)?;
                for number in 0..=row.step {
                    let actions = row.actions(envs, number);
                    envs.step(&actions)?;
                }
                Ok(())
            }
            _ => {
                envs.reset(None)?;
                row.ask(envs, 1)
            }
        };
        let mut peace = six(row.good()).build().map_err(text)?;
        call(&mut peace).map_err(text)?;
        let mut envs = six(row.config.clone()).on_fault(OnFault::Raise).build().map_err(text)?;
        let worker = envs.pid(1);
        equal("worker of env 0", envs.pid(0), worker)?;
        let began = Instant::now();
        let fault = fault_of(call(&mut envs).err().ok_or("no fault")?)?;
        within(row, began)?;
        equal("place", (fault.env, fault.instance), (1, 0))?;
        row.check(&fault)?;
        equal("digests of the other worker", &envs.digests()[3..], &peace.digests()[3..])?;
        // Env 0 had answered before; it learns of it in its next step, as all siblings do after a call.
        let mut expected = vec![(1, fault.kind), (2, FaultKind::Sibling)];
        if row.call != Function::Reset {
            let actions = row.actions(&envs, 0);
            let error = envs.step(&actions).err().ok_or("no fault in the next step")?;
            let kind = if row.call == Function::Step { FaultKind::Sibling } else { fault.kind };
            equal("fault of the next step", fault_of(error)?.kind, kind)?;
            expected.insert(0, (0, FaultKind::Sibling));
        }
        let mut met: Vec<(u32, FaultKind)> = envs.faults().first().iter().map(|met| (met.env, met.kind)).collect();
        met.sort_by_key(|(env, _)| *env);
        equal("faults", met, expected)?;
        let named = envs
            .faults()
            .first()
            .iter()
            .filter(|met| met.kind == FaultKind::Sibling)
            .all(|met| met.message.contains("a fault of env 1") && met.message.contains(fault.kind.name()));
        equal("siblings name the culprit", named, true)
    });
}

// ── Beside honest envs ──────────────────────────────────────────────────────────────────────────────────────────────

/// Plays a row with one env of it alone; any error is the outcome.
fn meet(row: &Row) -> Result<(), Error> {
    let config = row.config.clone();
    let builder = builder(fixture(&row.guest)).seed(101).limits(row.limits()).on_fault(OnFault::Raise);
    let mut envs = builder.config_with(move |_| config.clone()).build()?;
    let options = row.options.as_ref().filter(|_| row.call == Function::Reset);
    envs.reset_some(&ResetSome { options, ..ResetSome::default() })?;
    match row.call {
        Function::Describe | Function::Create | Function::Reset => {}
        Function::Step => {
            for number in 0..=row.step {
                let actions = row.actions(&envs, number);
                envs.step(&actions)?;
            }
        }
        Function::Close => envs.say_goodbye(),
        _ => row.ask(&mut envs, 0)?,
    }
    Ok(())
}

#[test]
fn seven_honest_envs_never_notice_any_of_the_guests() {
    const HONEST: usize = 7;
    let honest = || shipped("cartpole").envs(HONEST).seed(77).build().unwrap();
    // Not all the same, and the same in every run.
    let actions =
        |step: usize| discrete(&std::array::from_fn::<i64, HONEST, _>(|env| ((step * 31 + env * 7) % 5 % 2) as i64));
    let done = AtomicBool::new(false);
    let (beside, steps) = std::thread::scope(|scope| {
        let playing = scope.spawn(|| {
            let mut envs = honest();
            envs.reset(None).unwrap();
            let mut steps = 0;
            while !done.load(Relaxed) {
                envs.step(&actions(steps)).unwrap();
                steps += 1;
                // Room for the guests on a small machine.
                std::thread::sleep(Duration::from_micros(500));
            }
            assert_eq!(envs.faults().total(), 0);
            (envs.digests(), steps)
        });
        // Whatever becomes of the rows, the other thread is told.
        let met = std::panic::catch_unwind(|| {
            each(rows(), |row| {
                let began = Instant::now();
                let outcome = meet(row);
                // Starting and compiling are in it.
                let took = began.elapsed();
                if took > row.deadline() + Duration::from_secs(60) {
                    return Err(format!("it took {took:?}"));
                }
                match (row.kind(), outcome) {
                    (Some(FaultKind::Compile), Err(Error::Usage(_))) => Ok(()),
                    (Some(_), Err(Error::Fault(fault))) => row.check(&fault),
                    (None, Err(Error::Usage(_))) if row.fault != "none" => Ok(()),
                    (None, Ok(())) if row.fault == "none" => Ok(()),
                    (Some(_), Ok(())) if row.call == Function::Close => Ok(()),
                    (_, outcome) => Err(format!("another outcome: {outcome:?}")),
                }
            });
        });
        done.store(true, Relaxed);
        let played = playing.join().unwrap();
        met.unwrap();
        played
    });
    assert!(steps > 1_000, "{steps}");
    let mut alone = honest();
    alone.reset(None).unwrap();
    for step in 0..steps {
        alone.step(&actions(step)).unwrap();
    }
    assert_eq!(beside, alone.digests());
}

// ── Every policy, every mode ────────────────────────────────────────────────────────────────────────────────────────

const MODES: [Autoreset; 3] = [Autoreset::NextStep, Autoreset::SameStep, Autoreset::Disabled];
const POLICIES: [OnFault; 3] = [OnFault::Restart, OnFault::Raise, OnFault::Mask];

const ONLY_ENV_1: ResetSome<'_> = ResetSome { mask: Some(&[false, true, false]), seeds: None, options: None };

/// Rows 0 to 2 of a batch that env 1 has no part in.
fn is_quiet(batch: &Batch, row: usize) -> Result<(), String> {
    equal("reward", batch.rewards[row], 0.0)?;
    equal("terminated", batch.terminated[row], false)?;
    equal("truncated", batch.truncated[row], false)?;
    equal("final observation", batch.final_observation(row), None)?;
    equal("episode", batch.episodes[row], None)?;
    equal("fault", &batch.faults[row], &None)
}

/// The row of a step whose action a fault did not answer, but for the observation.
fn is_truncated_by(batch: &Batch, fault: &Fault) -> Result<(), String> {
    equal("fault", batch.faults[1].as_deref(), Some(fault))?;
    equal("reward", batch.rewards[1], 0.0)?;
    equal("terminated", batch.terminated[1], false)?;
    equal("truncated", batch.truncated[1], true)?;
    equal("episode", batch.episodes[1], None)?;
    equal("was reset", batch.was_reset[1], false)
}

/// What comes of the step in which env 1 meets a fault, whatever the fault. `step` makes that step; `before` is the last
/// observation that env 1 gave. Leaves env 1 running, in a new instance, just reset or one step after it.
fn after_a_fault(
    envs: &mut VecEnv,
    policy: OnFault,
    mode: Autoreset,
    before: &[u8],
    actions: &[u8],
    seen: &mut Neighbours,
    find: impl Fn(&Fault) -> Result<(), String>,
) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    let total = envs.faults().total();
    let stepped = envs.step(actions).cloned();
    let batch = envs.last().clone();
    seen.see(&batch);
    // Where: the first fault of this env is known before its step if a call met it.
    let fault = envs.faults().first().last().ok_or("no fault")?.clone();
    find(&fault)?;
    match (policy, stepped) {
        (OnFault::Raise, Err(error)) => equal("raised", fault_of(error)?, fault.clone())?,
        (OnFault::Raise, Ok(_)) => return Err("it was not raised".to_owned()),
        (_, stepped) => drop(stepped.map_err(text)?),
    }
    is_truncated_by(&batch, &fault)?;
    if (policy, mode) == (OnFault::Restart, Autoreset::SameStep) {
        equal("final observation", batch.final_observation(1), Some(before))?;
        equal("instance", envs.instance(1), Some(1))?;
        equal("masked", batch.masked[1], false)?;
    } else {
        equal("observation", batch.observation(1), before)?;
    }

    match (policy, mode) {
        (OnFault::Mask, _) => {
            for _ in 0..2 {
                let batch = envs.step(actions).map_err(text)?;
                seen.see(batch);
                is_quiet(batch, 1)?;
                equal("observation", batch.observation(1), before)?;
                equal("masked", batch.masked[1], true)?;
                equal("was reset", batch.was_reset[1], false)?;
            }
            equal("worker of a masked env", envs.pid(1), None)?;
            let batch = envs.reset_some(&ONLY_ENV_1).map_err(text)?;
            is_quiet(batch, 1)?;
            equal("was reset", batch.was_reset[1], true)?;
            equal("masked", batch.masked[1], false)?;
        }
        (_, Autoreset::Disabled) => {
            let Err(Error::Usage(error)) = envs.step(actions) else {
                return Err("a step without a reset was taken".to_owned());
            };
            if !error.message.contains("env 1") || !error.message.contains("its episode is over") {
                return Err(format!("the refusal says {error}"));
            }
            let batch = envs.reset_some(&ONLY_ENV_1).map_err(text)?;
            equal("was reset", batch.was_reset[1], true)?;
        }
        (OnFault::Restart, Autoreset::SameStep) => {}
        (_, Autoreset::NextStep | Autoreset::SameStep) => {
            let batch = envs.step(actions).map_err(text)?;
            seen.see(batch);
            is_quiet(batch, 1)?;
            equal("was reset", batch.was_reset[1], true)?;
        }
    }
    equal("instance", envs.instance(1), Some(1))?;
    let batch = envs.step(actions).map_err(text)?;
    seen.see(batch);
    equal("fault", &batch.faults[1], &None)?;
    equal("was reset", batch.was_reset[1], false)?;
    equal("masked", batch.masked[1], false)?;
    equal("faults", envs.faults().total().max(total), envs.faults().total())
}

/// Steps that the other envs take in [`after_a_fault`].
fn steps_after(policy: OnFault, mode: Autoreset) -> u32 {
    match (policy, mode) {
        (OnFault::Mask, _) => 4,
        (_, Autoreset::Disabled) | (OnFault::Restart, Autoreset::SameStep) => 2,
        (_, Autoreset::NextStep | Autoreset::SameStep) => 3,
    }
}

/// What the other envs see when `steps` steps are taken and nobody misbehaves.
fn peaceful(row: &Row, mode: Autoreset, steps: u32) -> Result<Neighbours, String> {
    let text = |error: Error| error.to_string();
    let mut peace = Neighbours::default();
    let mut envs = row.peace().autoreset(mode).build().map_err(text)?;
    peace.see(envs.reset(None).map_err(text)?);
    for number in 0..steps {
        let actions = row.actions(&envs, if number <= row.step { number } else { 0 });
        peace.see(envs.step(&actions).map_err(text)?);
    }
    peace.end(&envs);
    Ok(peace)
}

#[test]
fn a_fault_in_a_step_under_every_policy_and_mode() {
    let mut rows = typical(&[Function::Step]);
    // Those that strike in the first step would strike again in the last one that is looked at.
    // And the actions of `masked` are open in their own steps alone (`actions.rs` has its faults under every policy).
    rows.retain(|row| row.step > 0 && row.guest != "masked");
    assert!(rows.len() > 20);
    each(rows, |row| {
        for (policy, mode) in POLICIES.iter().flat_map(|policy| MODES.map(|mode| (*policy, mode))) {
            let text = |error: Error| error.to_string();
            let run = || {
                let mut seen = Neighbours::default();
                let mut envs = row.envs().on_fault(policy).autoreset(mode).build().map_err(text)?;
                seen.see(envs.reset(None).map_err(text)?);
                for number in 0..row.step {
                    let actions = row.actions(&envs, number);
                    seen.see(envs.step(&actions).map_err(text)?);
                }
                let before = envs.last().observation(1).to_vec();
                let actions = row.actions(&envs, row.step);
                after_a_fault(&mut envs, policy, mode, &before, &actions, &mut seen, |fault| {
                    equal("place", (fault.env, fault.instance, fault.episode, fault.step), (1, 0, 0, row.step))?;
                    row.check(fault)
                })?;
                equal("faults", envs.faults().total(), 1)?;
                seen.end(&envs);
                // Once the step of the row is behind, all act as in it: as in peace, only if the actions are the same.
                if row.actions.is_none() {
                    seen.same_as(&peaceful(row, mode, row.step + steps_after(policy, mode))?)?;
                }
                Ok(())
            };
            run().map_err(|what: String| format!("{policy:?}, {mode:?}: {what}"))?;
        }
        Ok(())
    });
}

#[test]
fn a_fault_in_a_call_is_reported_by_the_next_step_too() {
    // One of each kind of call.
    let calls = [Function::Render, Function::Call, Function::GetAttribute, Function::SetAttribute, Function::Reseed];
    let mut rows = typical(&calls);
    rows.retain(|row| {
        row.guest == "trap" || (row.guest == "loop" && row.call == Function::Render) || row.guest == "fail"
    });
    assert!(rows.len() >= if envs_per_worker() > 1 { 6 } else { 7 });
    each(rows, |row| {
        for (policy, mode) in POLICIES.iter().flat_map(|policy| MODES.map(|mode| (*policy, mode))) {
            let text = |error: Error| error.to_string();
            let run = || {
                let mut seen = Neighbours::default();
                let mut envs = row.envs().on_fault(policy).autoreset(mode).build().map_err(text)?;
                seen.see(envs.reset(None).map_err(text)?);
                let actions = row.actions(&envs, 0);
                for _ in 0..2 {
                    seen.see(envs.step(&actions).map_err(text)?);
                }
                let before = envs.last().observation(1).to_vec();
                // The call returns it under every policy, and again until a step has told it.
                let fault = fault_of(row.ask(&mut envs, 1).err().ok_or("it answered")?)?;
                row.check(&fault)?;
                equal("place", (fault.env, fault.instance, fault.episode, fault.step), (1, 0, 0, 2))?;
                equal("told again", fault_of(row.ask(&mut envs, 1).err().ok_or("it answered")?)?, fault.clone())?;
                after_a_fault(&mut envs, policy, mode, &before, &actions, &mut seen, |later| {
                    equal("fault", later, &fault)
                })?;
                equal("faults", envs.faults().total(), 1)?;
                seen.end(&envs);
                seen.same_as(&peaceful(row, mode, 2 + steps_after(policy, mode))?)
            };
            run().map_err(|what: String| format!("{policy:?}, {mode:?}: {what}"))?;
        }
        Ok(())
    });
}

// ── Resets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Three envs; the middle one traps as `config` says.
fn trap(config: Value) -> Builder {
    let quiet = json!({ "at": -1, "length": config.get("length").cloned().unwrap_or(json!(8)) });
    builder(fixture("trap"))
        .envs(3)
        .seed(100)
        .config_with(move |index| if index == 1 { config.clone() } else { quiet.clone() })
}

fn budget(in_all: u32) -> Limits {
    Limits { restarts: Budget { in_all, ..Budget::default() }, ..Limits::default() }
}

#[test]
fn a_reset_that_met_a_fault_is_tried_again_in_a_new_instance() {
    for mode in MODES {
        // Only the first instance has this seed.
        let mut envs = trap(json!({ "in_call": "reset", "only_seed": 101 })).autoreset(mode).build().unwrap();
        let batch = envs.reset(None).unwrap();
        let fault = batch.faults[1].as_deref().unwrap();
        assert_eq!((fault.kind, fault.instance, fault.episode, fault.step), (FaultKind::Trap, 0, 0, 0), "{mode:?}");
        assert_eq!((batch.was_reset[1], batch.truncated[1], batch.rewards[1]), (true, false, 0.0), "{mode:?}");
        assert_eq!(batch.final_observation(1), None);
        assert_eq!(batch.observation(1), discrete(&[0, -1]), "{mode:?}");
        assert_eq!((envs.instance(1), envs.faults().total()), (Some(1), 1));
        let batch = envs.step(&discrete(&[1; 3])).unwrap();
        assert_eq!((batch.rewards[1], &batch.faults[1]), (1.0, &None), "{mode:?}");
    }
}

#[test]
fn a_reset_that_always_meets_a_fault_spends_the_budget() {
    let mut envs = trap(json!({ "in_call": "reset" })).limits(budget(3)).build().unwrap();
    let Err(Error::Fault(fault)) = envs.reset(None) else { panic!("it was reset") };
    assert_eq!((fault.kind, fault.env, fault.instance), (FaultKind::Trap, 1, 2));
    assert!(fault.message.contains("(the restart budget is spent: 3 instances in a row came to nothing)"), "{fault}");
    assert_eq!(envs.faults().total(), 3);
    // The others are reset all the same, and can be stepped.
    let last = envs.last();
    assert!(last.was_reset[0] && last.was_reset[2]);
    assert_eq!(last.observation(0), discrete(&[0, -1]));
    let batch = envs.step_some(&discrete(&[1, 1]), &[0, 2]).unwrap();
    assert_eq!([batch.rewards[0], batch.rewards[2]], [1.0, 1.0]);
    // Without a budget there is no further instance.
    assert!(matches!(envs.reset_some(&ONLY_ENV_1), Err(Error::Fault(_))));
    assert_eq!(envs.faults().total(), 3);
    // A smaller budget is spent before.
    let mut envs = trap(json!({ "in_call": "reset" })).limits(budget(1)).build().unwrap();
    let Err(Error::Fault(fault)) = envs.reset(None) else { panic!("it was reset") };
    assert!(fault.message.contains("(the restart budget is spent: 10 in 60 s, 1 in all)"), "{fault}");
    assert_eq!(envs.faults().total(), 2);
}

/// Each takes a whole timeout, so that ten in a minute are never reached.
#[test]
fn an_endless_loop_is_started_three_times_and_not_for_a_quarter_of_an_hour() {
    let long = Duration::from_millis(500);
    for (in_call, at, kind) in [
        ("create", 0, FaultKind::StartTimeout),
        ("reset", 0, FaultKind::ResetTimeout),
        ("step", 0, FaultKind::StepTimeout),
        ("step", 2, FaultKind::StepTimeout),
    ] {
        let mut limits = Limits::default().call_timeouts(long);
        if in_call == "create" {
            limits.start_timeout = Duration::from_secs(3);
        }
        let config = json!({ "in_call": in_call, "at": at, "episode": -1 });
        let made = builder(fixture("loop")).limits(limits).config(&config).unwrap();
        let began = Instant::now();
        let play = |mut envs: VecEnv| -> Result<(), Error> {
            envs.reset(None)?;
            (0..100).try_for_each(|_| envs.step(&discrete(&[0])).map(drop))
        };
        let Err(Error::Fault(fault)) = made.build().and_then(play) else { panic!("{in_call}: it goes on") };
        assert_eq!((fault.kind, fault.instance), (kind, 2), "{in_call}: {fault}");
        assert!(
            fault.message.ends_with("(the restart budget is spent: 3 instances in a row came to nothing)"),
            "{fault}"
        );
        assert!(began.elapsed() < Duration::from_secs(60), "{in_call}: {:?}", began.elapsed());
    }
}

/// An instance that finished an episode did answer: only the budget of a minute bounds such an env.
#[test]
fn an_env_that_gets_somewhere_before_it_hangs_is_started_again() {
    let limits = Limits::default().call_timeouts(Duration::from_millis(500));
    let config = json!({ "at": 1, "episode": 1, "length": 4 });
    let mut envs = builder(fixture("loop")).limits(limits).config(&config).unwrap().build().unwrap();
    envs.reset(None).unwrap();
    while envs.instance(0) != Some(5) {
        envs.step(&discrete(&[0])).unwrap();
    }
    assert_eq!(envs.faults().total(), 5);
}

#[test]
fn an_automatic_reset_that_met_a_fault_leaves_the_step_answered() {
    // The second episode's reset traps; a fault is the reset's, and the episode before it counts.
    let config = json!({ "in_call": "reset", "episode": 1, "length": 2, "only_seed": 101 });
    let ends = |batch: &Batch| {
        assert!(batch.terminated[1] && !batch.truncated[1]);
        assert_eq!(batch.rewards[1], 1.0);
        assert_eq!(batch.episodes[1].unwrap().length, 2);
    };
    let actions = discrete(&[1; 3]);
    let is_of_the_reset = |fault: Option<&Fault>| {
        let fault = fault.unwrap();
        assert_eq!((fault.kind, fault.instance, fault.episode, fault.step), (FaultKind::Trap, 0, 1, 0), "{fault}");
    };

    let mut envs = trap(config.clone()).build().unwrap();
    envs.reset(None).unwrap();
    envs.step(&actions).unwrap();
    let batch = envs.step(&actions).unwrap();
    ends(batch);
    assert_eq!(batch.faults[1], None);
    let batch = envs.step(&actions).unwrap();
    is_of_the_reset(batch.faults[1].as_deref());
    assert_eq!((batch.was_reset[1], batch.truncated[1], batch.rewards[1]), (true, false, 0.0));
    assert_eq!(batch.observation(1), discrete(&[0, -1]));

    for policy in POLICIES {
        let builder = trap(config.clone()).autoreset(Autoreset::SameStep).on_fault(policy);
        let mut envs = builder.build().unwrap();
        envs.reset(None).unwrap();
        envs.step(&actions).unwrap();
        let stepped = envs.step(&actions).map(drop);
        let batch = envs.last().clone();
        ends(&batch);
        is_of_the_reset(batch.faults[1].as_deref());
        assert_eq!(batch.final_observation(1), Some(&discrete(&[2, 1])[..]), "{policy:?}");
        // The neighbours' own episodes ended as well.
        assert!(batch.terminated[0] && batch.terminated[2]);
        match policy {
            OnFault::Restart => {
                stepped.unwrap();
                assert_eq!(batch.observation(1), discrete(&[0, -1]));
                assert_eq!(envs.instance(1), Some(1));
            }
            OnFault::Raise => assert!(matches!(stepped, Err(Error::Fault(_)))),
            OnFault::Mask => {
                stepped.unwrap();
                assert!(batch.masked[1]);
            }
        }
    }
}

// ── Batches of steps ────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_fault_in_a_batch_names_its_step_and_keeps_those_before_it() {
    for (policy, mode) in POLICIES.iter().flat_map(|policy| MODES.map(|mode| (*policy, mode))) {
        let mut envs = trap(json!({ "at": 3 })).on_fault(policy).autoreset(mode).build().unwrap();
        envs.reset(None).unwrap();
        match (policy, envs.step_many(1, &discrete(&[1; 6]))) {
            (OnFault::Raise, Err(Error::Fault(fault))) => assert_eq!((fault.kind, fault.step), (FaultKind::Trap, 3)),
            (OnFault::Restart | OnFault::Mask, Ok(steps)) => {
                let fault = steps.fault.unwrap();
                assert_eq!((fault.kind, fault.step, steps.taken), (FaultKind::Trap, 3, 3));
                assert_eq!(steps.rewards, [1.0; 3]);
                assert_eq!(steps.observations, discrete(&[1, 1, 2, 1, 3, 1]));
                assert_eq!((steps.terminated, steps.truncated, steps.episode), (false, true, None));
            }
            (_, other) => panic!("{policy:?}, {mode:?}: {other:?}"),
        }
        // It never resets, and says so until somebody does.
        let error = envs.step_many(1, &discrete(&[1])).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{error:?}");
        envs.reset_some(&ONLY_ENV_1).unwrap();
        assert_eq!(envs.step_many(1, &discrete(&[1, 0])).unwrap().taken, 2, "{policy:?}, {mode:?}");
        // The others were not stepped.
        assert_eq!(envs.last().observation(0), discrete(&[0, -1]));
    }
}

#[test]
fn a_batch_has_a_deadline_for_each_of_its_steps() {
    // Together the steps take longer than one may, and the second batch is not judged by what the first one left behind.
    let limits = Limits::default().call_timeouts(Duration::from_millis(1500));
    let config = json!({ "spins": 300_000_000 });
    let mut envs = builder(fixture("echo")).limits(limits).config(&config).unwrap().build().unwrap();
    envs.reset(None).unwrap();
    for _ in 0..2 {
        let steps = envs.step_many(0, &discrete(&[1; 12])).unwrap();
        assert_eq!((steps.taken, steps.fault), (12, None));
    }
}

#[test]
fn a_deadline_is_not_given_twice() {
    // A step that hangs after others that answered: what those left in the slab is no sign of progress.
    let timeout = Duration::from_secs(4);
    let limits = Limits::default().call_timeouts(timeout);
    let mut envs = builder(fixture("echo")).limits(limits).config(&json!({ "hang_at": 1 })).unwrap().build().unwrap();
    envs.reset(None).unwrap();
    envs.step(&discrete(&[1])).unwrap();
    let began = Instant::now();
    let batch = envs.step(&discrete(&[1])).unwrap();
    let took = began.elapsed();
    assert_eq!(batch.faults[0].as_ref().unwrap().kind, FaultKind::StepTimeout);
    assert!(took >= timeout, "{took:?}");
    assert!(took < 2 * timeout, "the step had {timeout:?} and took {took:?}");
}

// ── Instances, seeds, budgets ───────────────────────────────────────────────────────────────────────────────────────

/// The seed of the first reset of instance `instance` of an env with this base seed, as `faults.md` has it.
fn derived(base: u64, instance: u32) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"rollcage-restart\x01").update(&base.to_le_bytes()).update(&instance.to_le_bytes());
    u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().unwrap())
}

/// CartPole's first observation after a reset from this seed.
fn first_observation(seed: u64) -> Vec<u8> {
    let mut envs = shipped("cartpole").seed(seed).build().unwrap();
    envs.reset(None).unwrap().observation(0).to_vec()
}

#[test]
fn a_new_instance_begins_from_a_seed_of_its_own() {
    let kill = |envs: &VecEnv| {
        let pid = rustix::process::Pid::from_raw(envs.pid(1).unwrap().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        eventually("it is dead", 10, || envs.pid(1).is_none());
    };
    let mut envs = shipped("cartpole").envs(2).seed(40).build().unwrap();
    envs.reset(None).unwrap();
    for instance in 1..=2 {
        kill(&envs);
        let batch = envs.step(&discrete(&[0, 0])).unwrap();
        let fault = batch.faults[1].as_ref().unwrap();
        assert_eq!((fault.kind, fault.instance), (FaultKind::Signalled, instance - 1));
        let batch = envs.step(&discrete(&[0, 0])).unwrap();
        assert!(batch.was_reset[1]);
        assert_eq!(batch.observation(1), first_observation(derived(41, instance)));
    }
    // An explicit seed is the base from then on.
    envs.reset(Some(900)).unwrap();
    assert_eq!(envs.last().observation(1), first_observation(901));
    kill(&envs);
    envs.step(&discrete(&[0, 0])).unwrap();
    let batch = envs.step(&discrete(&[0, 0])).unwrap();
    assert_eq!(batch.observation(1), first_observation(derived(901, 3)));
}

#[test]
fn the_same_faults_give_the_same_digests() {
    let play = || {
        let mut envs =
            builder(fixture("panic")).envs(2).seed(5).config(&json!({ "episode": -1 })).unwrap().build().unwrap();
        envs.reset(None).unwrap();
        for _ in 0..20 {
            envs.step(&discrete(&[1, 0])).unwrap();
        }
        assert_eq!(envs.faults().total(), 8);
        let place = |fault: &Fault| (fault.env, fault.instance, fault.episode, fault.step);
        let mut places: Vec<_> = envs.faults().first().iter().map(place).collect();
        // Whose of one step is found first is a matter of time.
        places.sort_unstable();
        let of = |env: u32| (0..4).map(move |number: u32| (env, number, u64::from(number), 3));
        assert_eq!(places, of(0).chain(of(1)).collect::<Vec<_>>());
        envs.digests()
    };
    assert_eq!(play(), play());
}

#[test]
fn a_spent_budget_raises_and_says_so() {
    let mut envs = trap(json!({ "at": 0, "episode": -1 })).limits(budget(2)).build().unwrap();
    envs.reset(None).unwrap();
    let actions = discrete(&[1; 3]);
    for instance in 0..2 {
        let batch = envs.step(&actions).unwrap();
        assert_eq!(batch.faults[1].as_ref().unwrap().instance, instance);
        assert!(envs.step(&actions).unwrap().was_reset[1]);
    }
    let Err(Error::Fault(fault)) = envs.step(&actions) else { panic!("it goes on") };
    assert_eq!((fault.env, fault.instance, fault.kind), (1, 2, FaultKind::Trap));
    assert!(fault.message.contains("the restart budget is spent"), "{fault}");
    // The others' answers of that step are there.
    let last = envs.last();
    assert_eq!([last.rewards[0], last.rewards[2]], [1.0, 1.0]);
    assert_eq!(last.observation(0), discrete(&[5, 1]));
    assert!(last.truncated[1] && last.faults[1].is_some());
}

#[test]
fn the_window_of_a_budget_moves() {
    let window = Duration::from_secs(3);
    let restarts = Budget { in_window: 1, window, in_all: 100 };
    let limits = Limits { restarts, ..Limits::default() };
    let mut envs = trap(json!({ "at": 0, "episode": -1 })).limits(limits).build().unwrap();
    envs.reset(None).unwrap();
    let actions = discrete(&[1; 3]);
    let began = Instant::now();
    envs.step(&actions).unwrap();
    envs.step(&actions).unwrap();
    let second = envs.step(&actions).map(drop);
    if began.elapsed() < window {
        assert!(matches!(second, Err(Error::Fault(_))), "{second:?}");
    }
    std::thread::sleep(window);
    assert!(envs.step(&actions).unwrap().was_reset[1]);
}

#[test]
fn two_faults_of_one_step_are_both_told() {
    for policy in [OnFault::Restart, OnFault::Mask] {
        let builder = builder(fixture("trap")).envs(3).on_fault(policy);
        let mut envs = builder.config_with(|index| json!({ "at": if index == 1 { -1 } else { 1 } })).build().unwrap();
        envs.reset(None).unwrap();
        let actions = discrete(&[1; 3]);
        envs.step(&actions).unwrap();
        let batch = envs.step(&actions).unwrap();
        let told: Vec<bool> = batch.faults.iter().map(Option::is_some).collect();
        assert_eq!(told, [true, false, true], "{policy:?}");
        assert_eq!(batch.rewards, [0.0, 1.0, 0.0]);
    }
}

// ── What a fault says ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_log_tail_is_the_newest_and_counts_what_it_lost() {
    let limits = Limits::default().call_timeouts(Duration::from_secs(1));
    let mut envs = builder(fixture("logs")).limits(limits).build().unwrap();
    envs.reset(None).unwrap();
    for _ in 0..3 {
        envs.step(&discrete(&[0])).unwrap();
    }
    let fault = envs.step(&discrete(&[0])).unwrap().faults[0].clone().unwrap();
    assert_eq!(fault.kind, FaultKind::StepTimeout);
    assert_eq!(fault.log.len(), LOG_BYTES_MAX);
    assert!(fault.log_dropped_bytes > LOG_BYTES_MAX as u64, "{}", fault.log_dropped_bytes);
    // Lines are numbered: those that are left are the last ones, none is missing among them.
    let number = |line: &str| line.strip_prefix("log line ").and_then(|number| number.parse::<u64>().ok());
    let whole: Vec<u64> = fault.log.lines().filter(|line| line.len() == 21).filter_map(number).collect();
    assert!(whole.len() > 2_000);
    assert!(whole.windows(2).all(|pair| pair[1] == pair[0] + 1));
    // Every byte was either kept or counted.
    let end = fault.log_dropped_bytes + fault.log.len() as u64;
    let cut = fault.log.rsplit('\n').next().unwrap().len() as u64;
    assert_eq!(end, (whole[whole.len() - 1] + 1) * 22 + cut);
}

#[test]
fn a_log_that_ends_is_whole() {
    let config = json!({ "bytes": 1_000, "at": 0 });
    let mut envs = builder(fixture("logs")).config(&config).unwrap().build().unwrap();
    envs.reset(None).unwrap();
    envs.step(&discrete(&[0])).unwrap();
    let text = || envs.log(0).unwrap().text();
    eventually("the log has arrived", 10, || text().len() == 46 * 22);
    assert!(text().starts_with("log line 000000000000\n") && text().ends_with("log line 000000000045\n"));
    assert_eq!(envs.log(0).unwrap().dropped(), 0);
}

#[test]
fn a_backtrace_begins_where_it_happened() {
    let mut envs = builder(fixture("panic")).config(&json!({ "at": 0 })).unwrap().build().unwrap();
    envs.reset(None).unwrap();
    let fault = envs.step(&discrete(&[0])).unwrap().faults[0].clone().unwrap();
    let at = |name: &str| fault.backtrace.iter().position(|frame| frame.contains(name));
    let (guilty, step) = (at("the_guilty_function").unwrap(), at("step").unwrap());
    assert!(guilty < step, "{:#?}", fault.backtrace);
    // Recursion fills what is kept of a backtrace, and no more.
    let mut envs = builder(fixture("recurse")).config(&json!({ "at": 0 })).unwrap().build().unwrap();
    envs.reset(None).unwrap();
    let fault = envs.step(&discrete(&[0])).unwrap().faults[0].clone().unwrap();
    assert!(fault.backtrace.len() <= BACKTRACE_FRAMES_MAX, "{}", fault.backtrace.len());
}

#[test]
fn refused_memory_is_the_guests_own_minus_one() {
    let limits = Limits { memory_bytes: 32 << 20, ..Limits::default() };
    let mut envs = builder(fixture("hoard")).limits(limits).build().unwrap();
    envs.reset(None).unwrap();
    for step in 1..=100 {
        let batch = envs.step(&discrete(&[1])).unwrap();
        assert_eq!((batch.observation(0), &batch.faults[0]), (&discrete(&[step, 1, -1])[..], &None));
    }
    assert_eq!(envs.instance(0), Some(0));
}

#[test]
fn envs_of_different_spaces_are_refused_by_name() {
    let builder = builder(fixture("differing-spaces")).envs(3);
    let built = builder.config_with(|index| json!({ "n": if index == 2 { 3 } else { 2 } })).build();
    let Err(Error::Usage(error)) = built else { panic!("it is accepted") };
    assert!(error.message.contains("envs 0 and 2 have different spaces"), "{error}");
    // The first node that differs: the observation's length, before the number of choices.
    let found = error.message.split_once("have different spaces: ").unwrap().1;
    assert!(found.starts_with("observation space: "), "{error}");
    assert!(found.contains("(2,)") && found.contains("(3,)") && !found.contains("action"), "{error}");
}

#[test]
fn a_refused_start_leaves_nobody() {
    for config in [json!({ "what": "config" }), json!({ "what": "failed" })] {
        let builder = builder(fixture("create-fail")).envs(4).on_fault(OnFault::Raise);
        let config_of = move |index| if index == 3 { config.clone() } else { json!({ "what": "nothing" }) };
        let mut envs = builder.config_with(config_of).assemble().unwrap();
        assert!(envs.start().is_err());
        let workers: Vec<u32> = (0..4).filter_map(|env| envs.pid(env)).collect();
        drop(envs);
        eventually("the others are gone", 10, || workers.iter().all(|pid| !Process(*pid).exists()));
    }
}

#[test]
fn a_killed_worker_is_told_as_killed_whatever_is_asked_next() {
    let restarts = Budget { in_window: 1_000, in_all: 1_000, ..Budget::default() };
    let limits = Limits { restarts, ..Limits::default() };
    let mut envs = builder(fixture("echo")).limits(limits).build().unwrap();
    let mut told = 0;
    for round in 0..60 {
        envs.reset(None).unwrap();
        let pid = rustix::process::Pid::from_raw(envs.pid(0).unwrap().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // At once, before anybody can have noticed.
        let fault = match round % 3 {
            0 => envs.get_attribute(0, "any").err().and_then(|error| fault_of(error).ok()),
            1 => envs.step(&discrete(&[1])).unwrap().faults[0].as_deref().cloned(),
            _ => {
                let options = json!({});
                let reset = ResetSome { options: Some(&options), ..ResetSome::default() };
                envs.reset_some(&reset).unwrap().faults[0].as_deref().cloned()
            }
        };
        // On another core the worker may have answered before the signal arrived there.
        let Some(fault) = fault else { continue };
        told += 1;
        assert_eq!(fault.kind, FaultKind::Signalled, "round {round}: {fault}");
        assert!(fault.message.contains("SIGKILL"), "{fault}");
        if round % 3 == 0 {
            // The next step tells it again.
            assert_eq!(envs.step(&discrete(&[1])).unwrap().faults[0].as_deref(), Some(&fault));
        }
    }
    assert!(told > 30, "{told} of 60");
}

/// No clock can add them: they are as good as none.
#[test]
fn timeouts_near_the_longest_duration_are_waited_for() {
    let long = Duration::MAX;
    let limits = Limits {
        start_timeout: long,
        compile_timeout: long,
        close_timeout: long,
        clock_step: long,
        ..Limits::default()
    };
    let restarts = Budget { window: long, ..Budget::default() };
    let limits = Limits { restarts, ..limits.call_timeouts(long) };
    for start in [Start::Spawn, Start::Fork, Start::ForkAfterCreate] {
        // Without a cache: it is compiled and described.
        let made = VecEnv::builder(fixture("echo")).worker(program()).limits(limits.clone()).start(start);
        let mut envs = made.envs(2).build().unwrap();
        envs.reset(None).unwrap();
        envs.step(&discrete(&[1, 1])).unwrap();
        envs.send(&discrete(&[1, 1]), &[0, 1]).unwrap();
        assert_eq!(envs.recv(2, Some(long)).unwrap().0, [0, 1]);
        assert_eq!(envs.step_many(0, &discrete(&[1, 1])).unwrap().taken, 2);
        let _ = envs.call(0, "anything", &json!({}));
        let snapshot = envs.snapshot(0).unwrap();
        envs.restore(1, &snapshot).unwrap();
        envs.write_back(0, &[1]).unwrap();
        envs.close();
    }
}
