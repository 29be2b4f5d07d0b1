//! Exports of recordings for other programs: a line of JSON for each row, and Minari's datasets.
//!
//! Minari keeps an episode of T steps as T + 1 rows, in a Parquet file of its own. The export has the form that its
//! `ParquetStorage` (0.5.4, `minari/dataset/_storages/arrow_storage.py`) would write, without its lossy encoding of pictures.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema};
use serde_json::{Map, Value, json};

use super::damage::Damage;
use super::folder::Rollout;
use crate::error::{Error, UsageError};
use crate::fault::FaultKind;
use crate::files::Beside;
use crate::limits::{Limits, STRANGERS_MEMORY_BYTES_MAX};
use crate::plugin::Plugin;
use crate::record::PLUGIN;
use crate::record::manifest::Manifest;
use crate::record::rows::{Row, RowShape, Rows};
use crate::record::writer::write_parquet;
use crate::space::{Layout, LeafKind, SHAPE_KEY, Space, float_json};

/// The version of Minari whose format is written.
const MINARI_VERSION: &str = "0.5.4";

/// The reason why an export failed or is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The recording is damaged.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The output cannot be written.
    #[error(transparent)]
    Host(#[from] Error),
}

impl From<UsageError> for ExportError {
    fn from(error: UsageError) -> ExportError {
        ExportError::Host(error.into())
    }
}

fn writing(error: io::Error) -> ExportError {
    ExportError::Host(Error::system("writing the export")(error))
}

/// As [`jsonl`], into a new file that appears only when it is complete.
///
/// # Errors
/// As [`jsonl`]; or the path exists already.
pub fn jsonl_file(rollout: &Rollout, path: &Path) -> Result<(), ExportError> {
    let (beside, file) = Beside::file(path).map_err(|error| cannot_put(path, error, "name another file"))?;
    jsonl(rollout, &mut BufWriter::new(file))?;
    beside.put().map_err(|error| cannot_put(path, error, "name another file"))
}

fn cannot_put(path: &Path, error: io::Error, hint: &str) -> ExportError {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return UsageError::new(format!("`{}` is there already", path.display())).hint(hint).into();
    }
    writing(io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))
}

/// Writes a JSON object for each row, in the recording's order. Values have the form that `rollcage run --policy FILE.jsonl`
/// reads.
///
/// # Errors
/// The recording cannot be read, or the output cannot be written.
pub fn jsonl(rollout: &Rollout, out: &mut dyn Write) -> Result<(), ExportError> {
    for rows in rollout.rows() {
        let rows = rows?;
        for index in 0..rows.len() {
            let line = row_json(&rows.row(index), rollout.shape());
            writeln!(out, "{line}").map_err(writing)?;
        }
    }
    out.flush().map_err(writing)
}

fn row_json(row: &Row<'_>, shape: &RowShape) -> Value {
    let text = |text: Option<&str>| match text {
        None | Some("") => Value::Null,
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    };
    let outcome = row.outcome.as_ref();
    let mut json = json!({
        "env": row.env,
        "instance": row.instance,
        "episode": row.episode,
        "step": row.step,
        "observation": shape.observation.to_json(row.view.observation),
        "action": row.action.map(|action| shape.action.to_json(action)),
        "reward": outcome.map(|outcome| float_json(outcome.reward)),
        "terminated": outcome.map(|outcome| outcome.terminated),
        "truncated": outcome.map(|outcome| outcome.truncated),
    });
    if shape.mask > 0 {
        json["action_mask"] = row.view.mask.into();
    }
    if shape.info.stride > 0 {
        json["info"] = shape.info.to_json(row.view.info).into();
    }
    json["info_extra"] = text(std::str::from_utf8(row.view.extra).ok());
    json["seed"] = row.seed.into();
    json["options"] = text(row.options);
    json["fault"] = row.fault.map(FaultKind::name).into();
    json["calls"] = text(row.calls);
    json["digest"] = outcome.map(|outcome| outcome.digest.to_string()).into();
    json
}

/// The counts of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Episodes of at least one step.
    pub episodes: u64,
    /// The steps of these episodes.
    pub steps: u64,
}

/// Writes a Minari dataset into `folder/data`, which must not exist, and appears only when it is complete: an episode for
/// each recorded episode that took a step. If the last step of an episode neither terminated nor was truncated (a fault, or
/// the end of the run), it is exported as truncated, as in Minari's own collector. `id` is the dataset's name,
/// `NAMESPACE/NAME-vN`. With the recording's `plugin` the dataset says how Gymnasium makes its env again. A plugin that does
/// not ship with rollcage is put beside the episodes.
///
/// # Errors
/// The recording cannot be read; the folder exists already, or cannot be written.
pub fn minari(rollout: &Rollout, folder: &Path, id: &str, plugin: Option<&Plugin>) -> Result<Exported, ExportError> {
    let hint = "name another folder, or another dataset";
    fs::create_dir_all(folder).map_err(writing)?;
    let place = folder.join("data");
    let (beside, data) = Beside::folder(&place).map_err(|error| cannot_put(&place, error, hint))?;
    let shape = rollout.shape();
    let mut dataset =
        Dataset { data: &data, exported: Exported::default(), bytes: 0, characters: (' '..='~').collect() };
    let mut open: HashMap<u32, Rows> = HashMap::new();
    for rows in rollout.rows() {
        let rows = rows?;
        for index in 0..rows.len() {
            let row = rows.row(index);
            let episode = open.entry(row.env).or_insert_with(|| Rows::new(Arc::clone(shape)));
            if row.step == 0 && !episode.is_empty() {
                dataset.write(episode)?;
                *episode = Rows::new(Arc::clone(shape));
            }
            episode.push(&row);
        }
    }
    let mut rest: Vec<(u32, Rows)> = open.into_iter().collect();
    rest.sort_unstable_by_key(|(env, _)| *env);
    rest.iter().try_for_each(|(_, episode)| dataset.write(episode))?;
    let Dataset { exported, bytes, characters, .. } = dataset;
    let characters: String = characters.into_iter().collect();

    let spec = rollout.spec();
    let manifest = rollout.manifest();
    let mut metadata = json!({
        "total_episodes": exported.episodes,
        "total_steps": exported.steps,
        "data_format": "parquet",
        "jpeg_encoding": false,
        "observation_space": space_text(&spec.observation_space, &characters),
        "action_space": space_text(&spec.action_space, &characters),
        "dataset_id": id,
        "minari_version": MINARI_VERSION,
        "dataset_size": megabytes(bytes),
        "description": format!(
            "Recorded with rollcage {}: plugin {} {}, sha256 {}, seed {}.",
            manifest.rollcage, manifest.plugin.name, manifest.plugin.version, manifest.plugin.sha256, manifest.seed
        ),
        "rollcage_digest": manifest.digest,
    });
    if let Some(plugin) = plugin.filter(|plugin| plugin.sha256_hex() == manifest.plugin.sha256) {
        let named = named(plugin, &manifest.plugin.name, &data, &place).map_err(writing)?;
        metadata["env_spec"] = env_spec(manifest, &named).to_string().into();
    }
    fs::write(data.join("metadata.json"), metadata.to_string()).map_err(writing)?;
    beside.put().map_err(|error| cannot_put(&place, error, hint))?;
    Ok(exported)
}

/// The name by which `rollcage.make_vec` opens the plugin: its own name if it ships, else a file that is written into `data`,
/// which will be at `place`.
#[cfg_attr(not(feature = "shipped"), expect(unused_variables, reason = "nothing ships by a name"))]
fn named(plugin: &Plugin, name: &str, data: &Path, place: &Path) -> io::Result<String> {
    #[cfg(feature = "shipped")]
    if Plugin::shipped(name).is_some_and(|shipped| shipped.sha256() == plugin.sha256()) {
        return Ok(name.to_owned());
    }
    fs::write(data.join(PLUGIN), plugin.bytes())?;
    Ok(std::path::absolute(place)?.join(PLUGIN).display().to_string())
}

/// The `EnvSpec` by which Gymnasium makes the env again. It holds no grants: what of the outside an env is given must be
/// decided by a person who knows the plugin, not by a file.
fn env_spec(manifest: &Manifest, plugin: &str) -> Value {
    let ours = Limits::default();
    let recorded = &manifest.limits;
    let mut limits = Map::new();
    if recorded.memory_bytes != ours.memory_bytes && recorded.memory_bytes <= STRANGERS_MEMORY_BYTES_MAX {
        limits.insert("memory_bytes".to_owned(), recorded.memory_bytes.into());
    }
    if let Some(fuel) = recorded.fuel_per_step {
        limits.insert("fuel_per_step".to_owned(), fuel.into());
    }
    let mut kwargs = json!({ "plugin": plugin, "config": manifest.config_of(manifest.first_env) });
    if !limits.is_empty() {
        kwargs["limits"] = limits.into();
    }
    // An untrusted word becomes a part of Gymnasium's name; names of plugins have only these letters.
    let name: String =
        manifest.plugin.name.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    json!({
        "id": format!("rollcage/{name}-v0"),
        "entry_point": "rollcage.registration:Env",
        "reward_threshold": null,
        "nondeterministic": false,
        "max_episode_steps": manifest.max_episode_steps.over(manifest.spaces.max_episode_steps),
        "order_enforce": true,
        "disable_env_checker": false,
        "kwargs": kwargs,
        "additional_wrappers": [],
        "vector_entry_point": "rollcage.registration:VectorEnv",
    })
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e5).round() / 10.0
}

struct Dataset<'a> {
    data: &'a Path,
    exported: Exported,
    bytes: u64,
    /// The characters of all texts, and ASCII: Minari gives them to a space of texts without a character set of its own.
    characters: BTreeSet<char>,
}

impl Dataset<'_> {
    fn write(&mut self, episode: &Rows) -> Result<(), ExportError> {
        let steps = (0..episode.len()).filter(|&index| episode.row(index).outcome.is_some()).count();
        // The last view is a row of its own. If a kill lost that row, the last step has no view after it and is left out.
        let steps = steps.min(episode.len().saturating_sub(1));
        if steps == 0 {
            return Ok(());
        }
        for row in (0..=steps).map(|index| episode.row(index)) {
            self.read_characters(&episode.shape.observation, row.view.observation);
            if let Some(action) = row.action {
                self.read_characters(&episode.shape.action, action);
            }
        }
        let number = self.exported.episodes;
        let folder = self.data.join(number.to_string());
        fs::create_dir(&folder).map_err(writing)?;
        let batch = episode_batch(episode, steps).map_err(|error| writing(io::Error::other(error)))?;
        let path = folder.join("part-0.parquet");
        let written = File::create(&path).and_then(|mut file| {
            write_parquet(&mut file, &batch)?;
            Ok(file.metadata()?.len())
        });
        self.bytes += written.map_err(writing)?;
        let first = episode.row(0);
        let mut metadata = Map::from_iter([
            ("id".to_owned(), number.into()),
            ("total_steps".to_owned(), steps.into()),
            ("rollcage_env".to_owned(), first.env.into()),
            ("rollcage_episode".to_owned(), first.episode.into()),
        ]);
        if let Some(seed) = first.seed {
            metadata.insert("seed".to_owned(), seed.into());
        }
        if let Some(options) = first.options.and_then(|text| serde_json::from_str(text).ok()) {
            metadata.insert("options".to_owned(), options);
        }
        fs::write(folder.join("metadata.json"), Value::from(metadata).to_string()).map_err(writing)?;
        self.exported.episodes += 1;
        self.exported.steps += steps as u64;
        Ok(())
    }

    fn read_characters(&mut self, layout: &Layout, value: &[u8]) {
        for leaf in layout.leaves.iter().filter(|leaf| matches!(leaf.kind, LeafKind::Text { .. })) {
            // A text is a count of bytes, UTF-8, then zeros.
            let Some((count, text)) =
                value.get(leaf.offset..leaf.offset + leaf.size).and_then(<[u8]>::split_first_chunk)
            else {
                continue;
            };
            let text = text.get(..u32::from_le_bytes(*count) as usize).unwrap_or(text);
            self.characters.extend(String::from_utf8_lossy(text).chars());
        }
    }
}

/// An episode's T + 1 rows in Minari's columns. The last row's action, reward and flags are fillers.
fn episode_batch(episode: &Rows, steps: usize) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let rows = || (0..=steps).map(|index| episode.row(index));
    let shape = &*episode.shape;
    let (mut observations, mut actions, mut infos) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows() {
        observations.extend_from_slice(row.view.observation);
        match row.action {
            Some(action) => actions.extend_from_slice(action),
            None => actions.resize(actions.len() + shape.action.stride, 0),
        }
        infos.extend_from_slice(row.view.info);
    }
    let outcomes: Vec<_> = rows().map(|row| row.outcome).take(steps).collect();
    let ends = outcomes.iter().flatten().any(|outcome| outcome.terminated || outcome.truncated);
    let flag = |of: &dyn Fn(usize) -> bool| -> ArrayRef {
        Arc::new((0..=steps).map(|index| Some(index < steps && of(index))).collect::<BooleanArray>())
    };
    let terminated = |index: usize| outcomes[index].is_some_and(|outcome| outcome.terminated);
    let truncated =
        |index: usize| outcomes[index].is_some_and(|outcome| outcome.truncated) || (!ends && index + 1 == steps);
    let rewards: Float64Array =
        outcomes.iter().map(|outcome| outcome.map_or(0.0, |outcome| outcome.reward)).chain([0.0]).map(Some).collect();
    let mut fields = vec![
        shape.observation.arrow_field("observations", false),
        shape.action.arrow_field("actions", false),
        Field::new("rewards", DataType::Float64, false),
        Field::new("terminations", DataType::Boolean, false),
        Field::new("truncations", DataType::Boolean, false),
    ];
    let mut columns: Vec<ArrayRef> = vec![
        shape.observation.to_arrow(&observations, None),
        shape.action.to_arrow(&actions, None),
        Arc::new(rewards),
        flag(&terminated),
        flag(&truncated),
    ];
    let (mut info_fields, mut info_columns) = (Vec::new(), Vec::new());
    for (field, column) in shape.info.arrow_fields().zip(shape.info.to_arrow(&infos)) {
        // Minari cannot hold infos that exist at some steps only.
        if column.null_count() == 0 {
            let name = field.name().strip_prefix("info.").unwrap_or(field.name()).to_owned();
            let list = field.metadata().get(SHAPE_KEY).map(|shape| shape.trim_matches(['[', ']']).to_owned());
            let metadata = list.map(|shape| HashMap::from([("shape".to_owned(), shape)])).unwrap_or_default();
            info_fields.push(Field::new(name, field.data_type().clone(), false).with_metadata(metadata));
            info_columns.push(strip_nulls(&column));
        }
    }
    let extras: Vec<String> = rows().map(|row| String::from_utf8_lossy(row.view.extra).into_owned()).collect();
    if extras.iter().any(|extra| !extra.is_empty()) {
        info_fields.push(Field::new("info_extra", DataType::Utf8, false));
        info_columns.push(Arc::new(StringArray::from(extras)));
    }
    if !info_fields.is_empty() {
        let info_fields = Fields::from(info_fields);
        fields.push(Field::new("infos", DataType::Struct(info_fields.clone()), false));
        columns.push(Arc::new(StructArray::new(info_fields, info_columns, None)));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Removes the null mask of a column that has no nulls.
fn strip_nulls(column: &ArrayRef) -> ArrayRef {
    match column.to_data().into_builder().nulls(None).build() {
        Ok(data) => arrow_array::make_array(data),
        Err(_) => Arc::clone(column),
    }
}

/// A space as Minari writes it: Python's JSON, which has infinities. Minari requires a character set for texts: a space
/// without one gets `characters`.
fn space_text(space: &Space, characters: &str) -> String {
    match space {
        Space::Box { dtype, .. } => {
            let json = space.to_description_json();
            // Gymnasium's description writes equal bounds once; Minari writes them for every element.
            let bounds = |name: &str| {
                let bound = &json[name];
                let shape: Vec<usize> = serde_json::from_value(json["shape"].clone()).unwrap_or_default();
                python_json(&if bound.is_array() { bound.clone() } else { filled(&shape, bound) })
            };
            let (dtype, shape) = (dtype.name(), &json["shape"]);
            let (low, high) = (bounds("low"), bounds("high"));
            format!(r#"{{"type": "Box", "dtype": "{dtype}", "shape": {shape}, "low": {low}, "high": {high}}}"#)
        }
        Space::Discrete { n, start } => {
            json!({ "type": "Discrete", "dtype": "int64", "start": start, "n": n }).to_string()
        }
        Space::MultiDiscrete { .. } => {
            let json = space.to_description_json();
            json!({ "type": "MultiDiscrete", "dtype": "int64", "nvec": json["nvec"], "start": json["start"] })
                .to_string()
        }
        Space::MultiBinary { shape } => match shape.as_slice() {
            [n] => json!({ "type": "MultiBinary", "n": n }).to_string(),
            shape => json!({ "type": "MultiBinary", "n": shape }).to_string(),
        },
        Space::Text { min_length, max_length, charset } => {
            let charset = charset.as_deref().unwrap_or(characters);
            json!({ "type": "Text", "max_length": max_length, "min_length": min_length, "charset": charset })
                .to_string()
        }
        Space::Dict(entries) => {
            let entry = |(key, space): &(String, Space)| {
                format!("{}: {}", Value::from(key.as_str()), space_text(space, characters))
            };
            let entries: Vec<String> = entries.iter().map(entry).collect();
            format!(r#"{{"type": "Dict", "subspaces": {{{}}}}}"#, entries.join(", "))
        }
        Space::Tuple(spaces) => {
            let spaces: Vec<String> = spaces.iter().map(|space| space_text(space, characters)).collect();
            format!(r#"{{"type": "Tuple", "subspaces": [{}]}}"#, spaces.join(", "))
        }
    }
}

fn filled(shape: &[usize], value: &Value) -> Value {
    match shape.split_first() {
        None => value.clone(),
        Some((&len, inner)) => (0..len).map(|_| filled(inner, value)).collect(),
    }
}

fn python_json(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(python_json).collect::<Vec<_>>().join(", ")),
        // A value that JSON lacks is a text in our description, and a bare word in Python's JSON.
        Value::String(word) => word.clone(),
        other => other.to_string(),
    }
}
