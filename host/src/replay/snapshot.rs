//! Snapshots: the small, portable form of a live env. A snapshot has every request to the env since its instance began, and
//! the digest of the answers. Repeated anywhere, these requests lead to the same state, and the digest proves it
//! (`docs/copies.md`).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cage::engine::ENGINE_VERSION;
use crate::digest::{CallKind, Digest};
use crate::env::batch::Batch;
use crate::env::slot::{PastEvent, Slot};
use crate::env::terms::Terms;
use crate::env::vec_env::VecEnv;
use crate::episode::TimeLimit;
use crate::error::{Error, UsageError};
use crate::limits::STRANGERS_MEMORY_BYTES_MAX;
use crate::outside::grant::Grant;
use crate::record::manifest::PluginName;
use crate::wire::job::CaptureMode;

/// The version of the snapshot format.
const FORMAT: u32 = 1;

/// Bytes of a snapshot's file: a hundred times the default bound on an instance's kept past. It bounds the memory that an
/// untrusted snapshot takes.
pub const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;

/// A live env, as any host on any machine can restore it. A snapshot is data: serialise it by serde, or write it with
/// [`Snapshot::to_bytes`]. It carries a hash of itself, and a changed snapshot is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Snapshot(Fields);

/// The content of a snapshot, as its file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    format: u32,
    plugin: PluginName,
    config: Value,
    /// The base seed of the instance's env. After a restore, restarts after faults use the seed of the env that was restored
    /// into.
    seed: u64,
    /// Granted directories by the guest's names; their files are not in the snapshot.
    grants: Vec<String>,
    limits: SnapshotLimits,
    max_episode_steps: TimeLimit,
    /// The version of the engine that ran the instance.
    wasmtime: String,
    /// Steps of the present episode.
    step: u32,
    /// Steps of the instance.
    steps: u64,
    events: Vec<Event>,
    digest: String,
    /// BLAKE3 of all fields before it.
    hash: String,
}

/// The limits that answers depend on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotLimits {
    memory_bytes: u64,
    fuel_per_step: Option<u64>,
    clock_step_ns: u64,
}

impl SnapshotLimits {
    fn of(terms: &Terms) -> SnapshotLimits {
        SnapshotLimits {
            memory_bytes: terms.limits.memory_bytes,
            fuel_per_step: terms.limits.fuel_per_step,
            clock_step_ns: u64::try_from(terms.limits.clock_step.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Event {
    /// An answered reset.
    Reset { seed: Option<u64>, options: Option<String> },
    /// Steps in a row: their actions, in the interface's encoding, base64.
    Steps { count: u64, actions: String },
    /// A method of the author's own; arguments are JSON.
    Call { name: String, arguments: String },
    /// A written attribute; the value is JSON.
    SetAttribute { name: String, value: String },
    /// New random streams.
    Reseed { seed: u64 },
}

impl Fields {
    fn hash(&self) -> Result<Digest, String> {
        let text = serde_json::to_string(&Fields { hash: String::new(), ..self.clone() });
        Ok(Digest(blake3::hash(text.map_err(|error| error.to_string())?.as_bytes()).into()))
    }
}

impl From<Snapshot> for Fields {
    fn from(snapshot: Snapshot) -> Fields {
        snapshot.0
    }
}

impl TryFrom<Fields> for Snapshot {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Snapshot, String> {
        if fields.format != FORMAT {
            return Err(format!("its format is {}; this rollcage reads {FORMAT}", fields.format));
        }
        if fields.limits.memory_bytes > STRANGERS_MEMORY_BYTES_MAX {
            return Err(format!(
                "it wants {} bytes of memory; the limit is {STRANGERS_MEMORY_BYTES_MAX}",
                fields.limits.memory_bytes
            ));
        }
        if fields.hash()?.to_string() != fields.hash {
            return Err("it was changed since it was taken: its hash is another".to_owned());
        }
        Ok(Snapshot(fields))
    }
}

impl Snapshot {
    /// The bytes of a snapshot's file: one JSON object and a newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&self.0).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads a snapshot from exactly the bytes that [`Snapshot::to_bytes`] made.
    ///
    /// # Errors
    /// The bytes are not a snapshot, or are of another format, or were changed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot, UsageError> {
        let refuse = |what: String| UsageError::new(format!("snapshot: {what}"));
        if bytes.len() as u64 > SNAPSHOT_BYTES_MAX {
            return Err(refuse(format!("{} bytes; the limit is {SNAPSHOT_BYTES_MAX}", bytes.len())));
        }
        let snapshot: Snapshot = serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
        if snapshot.to_bytes() != bytes {
            return Err(refuse("it was changed since it was taken: its bytes are others".to_owned()));
        }
        Ok(snapshot)
    }

    /// The plugin of the snapshot.
    pub fn plugin(&self) -> &PluginName {
        &self.0.plugin
    }

    /// The env's config.
    pub fn config(&self) -> &Value {
        &self.0.config
    }

    /// The env's base seed.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// The requested time limit.
    pub fn time_limit(&self) -> TimeLimit {
        self.0.max_episode_steps
    }

    /// The bytes of memory that the env may have, and its fuel for a step.
    pub fn limits(&self) -> (u64, Option<u64>) {
        (self.0.limits.memory_bytes, self.0.limits.fuel_per_step)
    }

    /// The number of steps that the instance has taken.
    pub fn steps(&self) -> u64 {
        self.0.steps
    }

    /// The number of steps in the present episode: its return and length count them.
    pub fn episode_steps(&self) -> u32 {
        self.0.step
    }

    /// The digest of its instance.
    pub fn digest(&self) -> Option<Digest> {
        Digest::from_hex(&self.0.digest)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fields { plugin, steps, digest, .. } = &self.0;
        write!(f, "{} {} after {steps} steps, digest {digest}", plugin.name, plugin.version)
    }
}

/// Granted directories, by the guest's names.
fn directories<'a>(grants: impl Iterator<Item = &'a Grant>) -> Vec<String> {
    let mut names: Vec<String> = grants
        .filter_map(|grant| match grant {
            Grant::Dir { guest, access, .. } => Some(format!("dir={guest}:{access}")),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names
}

impl VecEnv {
    /// Takes a snapshot of the env in its present state: the requests since its instance began, a few bytes a step.
    /// [`VecEnv::restore`] brings the env back, here or anywhere. The env goes on as before.
    ///
    /// # Errors
    /// [`Error::Usage`]: no such env, or an env in flight or dead after a fault; an env with sockets, real clocks or real
    /// randomness, since captured input is not in a snapshot; or its instance was told more than
    /// [`Limits::snapshot_bytes`](crate::Limits::snapshot_bytes).
    pub fn snapshot(&mut self, env: usize) -> Result<Snapshot, Error> {
        self.check_started()?;
        let index = self.existing(env)?;
        self.finish_pending_of(index)?;
        let slot = &self.slots[index];
        let refuse = |what: String| UsageError::new(format!("env {env} has no snapshot: {what}"));
        if slot.is_masked() || slot.has_pending_fault() || slot.pid().is_none() {
            return Err(refuse("it has no running instance after a fault".to_owned()).hint("reset it first").into());
        }
        let granted = &self.terms.granted;
        if granted.is_captured() || granted.capture == Some(CaptureMode::Serve) {
            return Err(refuse(
                "what came in over sockets, from real clocks or real randomness is not in one".to_owned(),
            )
            .hint("record the run, and replay it")
            .into());
        }
        let (past, digest) = slot.past();
        if past.is_lost {
            let most = self.terms.limits.snapshot_bytes;
            return Err(refuse(format!("its instance was told more than the {most} bytes that are kept"))
                .hint("`Limits::snapshot_bytes` bounds them")
                .into());
        }
        let past = past.events();
        let events: Vec<Event> = past.iter().map(event_of).collect();
        let count = |event: &PastEvent| if let PastEvent::Steps { count, .. } = event { *count } else { 0 };
        let mut fields = Fields {
            format: FORMAT,
            plugin: PluginName::of(&self.terms.prepared),
            config: slot.config().value.clone(),
            seed: slot.base_seed(),
            grants: directories(self.grants.iter()),
            limits: SnapshotLimits::of(&self.terms),
            max_episode_steps: self.terms.time_limit,
            wasmtime: ENGINE_VERSION.to_owned(),
            step: slot.step(),
            steps: past.iter().map(count).sum(),
            events,
            digest: digest.to_string(),
            hash: String::new(),
        };
        fields.hash = fields.hash().map_err(UsageError::new)?.to_string();
        Ok(Snapshot(fields))
    }

    /// Makes an env the env of a snapshot. The env's next instance is given the same requests again, in batches and with no
    /// policy in the loop, and its digest is compared. The row of the env then shows its state. The seed for restarts stays
    /// the env's own.
    ///
    /// # Errors
    /// [`Error::Usage`]: no such env, or an env in flight; a recorded run (the rows of such an instance would lack their
    /// beginning); a snapshot of another plugin, of other limits or another time limit than these envs have, or with
    /// directories that these envs lack; or the replay's digest differs. [`Error::Fault`], [`Error::Interrupted`]. After an
    /// error no env has changed.
    pub fn restore(&mut self, env: usize, snapshot: &Snapshot) -> Result<&Batch, Error> {
        self.check_replaced(&[env])?;
        let Snapshot(fields) = snapshot;
        self.check_fits(fields)?;
        let name = self.terms.prepared.plugin.name().to_owned();
        let config = self.terms.prepared.schema.complete(fields.config.clone(), &name)?;
        let mut slot = Slot::new(0, config, None, fields.seed);
        slot.keep_past(self.terms.limits.snapshot_bytes);
        if self.terms.each > 1 {
            let full = || UsageError::new(format!("env {env}: its worker has no place for a restored env"));
            slot.sit(self.slots[env].seat_beside().ok_or_else(full)?);
        }
        slot.begin_start(&self.terms)?;
        let mut again = self.beside(vec![slot]);
        again.come_up()?;
        for event in &fields.events {
            again.tell_past(&past_of(event)?)?;
            if let Some(fault) = again.faults.first().first() {
                return Err(fault.clone().into());
            }
        }
        let got = again.slots[0].past().1;
        if got.to_string() != fields.digest {
            let message = format!("the snapshot does not come out as it was: digest {}, got {got}", fields.digest);
            return Err(UsageError::new(message)
                .hint("it was taken with another engine, or its plugin is not deterministic")
                .into());
        }
        Ok(self.take_over(&[env], &mut again))
    }

    fn check_fits(&self, fields: &Fields) -> Result<(), UsageError> {
        let refuse = |what: String| Err(UsageError::new(format!("the snapshot is not one of these envs': {what}")));
        let own = &self.terms.prepared.plugin;
        if fields.plugin.sha256 != own.sha256_hex() {
            let (of, here) = (&fields.plugin.sha256, own.sha256_hex());
            return refuse(format!("it is of the plugin with sha256 {of:?}; theirs has {here:?}"));
        }
        let (theirs, limits) = (fields.limits, SnapshotLimits::of(&self.terms));
        if theirs != limits {
            return refuse(format!("it has {theirs:?}; they have {limits:?}"));
        }
        if fields.max_episode_steps != self.terms.time_limit {
            let (theirs, ours) = (fields.max_episode_steps, self.terms.time_limit);
            return refuse(format!("its time limit is {theirs}; theirs is {ours}"));
        }
        let granted = directories(self.grants.iter());
        if fields.grants != granted {
            return refuse(format!("it was granted {:?}; they were granted {granted:?}", fields.grants));
        }
        Ok(())
    }
}

fn event_of(event: &PastEvent) -> Event {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match event {
        PastEvent::Reset { seed, options } => {
            Event::Reset { seed: *seed, options: options.as_deref().map(str::to_owned) }
        }
        PastEvent::Steps { count, actions } => Event::Steps { count: *count, actions: BASE64.encode(actions) },
        PastEvent::Said { kind, name, arguments } => match kind {
            CallKind::Call => Event::Call { name: name.clone(), arguments: text(arguments) },
            CallKind::SetAttribute => Event::SetAttribute { name: name.clone(), value: text(arguments) },
            CallKind::Reseed => Event::Reseed { seed: arguments.as_slice().try_into().map_or(0, u64::from_le_bytes) },
        },
    }
}

/// A request of a snapshot, as an instance is given it again.
///
/// # Errors
/// The actions are no base64.
fn past_of(event: &Event) -> Result<PastEvent, UsageError> {
    let said = |kind, name: &str, arguments: &[u8]| PastEvent::Said {
        kind,
        name: name.to_owned(),
        arguments: arguments.to_vec(),
    };
    Ok(match event {
        Event::Reset { seed, options } => PastEvent::Reset { seed: *seed, options: options.as_deref().map(Into::into) },
        Event::Steps { count, actions } => PastEvent::Steps {
            count: *count,
            actions: BASE64.decode(actions).map_err(|error| UsageError::new(format!("snapshot: actions: {error}")))?,
        },
        Event::Call { name, arguments } => said(CallKind::Call, name, arguments.as_bytes()),
        Event::SetAttribute { name, value } => said(CallKind::SetAttribute, name, value.as_bytes()),
        Event::Reseed { seed } => said(CallKind::Reseed, "", &seed.to_le_bytes()),
    })
}
