//! A recording as it is read: verified first, then part by part. A recording is untrusted.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use serde::Deserialize;

use super::damage::Damage;
pub(super) use super::part::Part;
use crate::digest::Digest;
use crate::env::builder::ENVS_MAX;
use crate::error::UsageError;
use crate::files::read_regular;
use crate::limits::Limits;
use crate::plugin::Plugin;
use crate::record::checksums::{FILES_MAX, MANIFEST_BYTES_MAX, files, hash_file, limit_of};
use crate::record::manifest::{FORMAT, Manifest};
use crate::record::rows::{RowShape, Rows};
use crate::record::{CAPTURE, CHECKSUMS, MANIFEST, PLUGIN, number_of_part};
use crate::spec::Spec;

/// Bytes of the checksums: a line of at most 128 for each file.
const CHECKSUMS_BYTES_MAX: u64 = (FILES_MAX as u64) << 7;

/// Folders of one run that are looked at.
const PARTS_MAX: usize = 4096;

/// Bytes of rows that are read in one piece.
const BATCH_BYTES: usize = 16 << 20;

/// Rows that are read in one piece.
const BATCH_ROWS: usize = 16_384;

/// The recordings of a run: the folder itself; or, of a run over several hosts, its folders that are recordings, each with
/// the envs of one host.
pub fn recordings_of(folder: &Path) -> Vec<PathBuf> {
    let is_recording = |path: &PathBuf| path.join(MANIFEST).symlink_metadata().is_ok_and(|found| found.is_file());
    let itself = folder.to_owned();
    if is_recording(&itself) {
        return vec![itself];
    }
    let Ok(entries) = fs::read_dir(folder) else { return vec![itself] };
    let folders = entries.filter_map(|entry| entry.ok().filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir())));
    let mut parts: Vec<PathBuf> = folders.map(|entry| entry.path()).filter(is_recording).take(PARTS_MAX).collect();
    parts.sort();
    if parts.is_empty() { vec![itself] } else { parts }
}

/// Puts the recordings of a run in the order of their envs, and checks that they are parts of one run. An unfinished one is left
/// out where another has its envs from a later instance on: its host was lost. Returns the folders that are left out too.
///
/// # Errors
/// Two of them differ in what all parts of a run share, or have the same env.
pub fn in_order(mut parts: Vec<Rollout>) -> Result<(Vec<Rollout>, Vec<PathBuf>), UsageError> {
    let later: Vec<(Range<u32>, u32)> =
        parts.iter().map(|part| (part.manifest.env_numbers(), part.manifest.first_instance)).collect();
    let mut lost = Vec::new();
    parts.retain(|part| {
        let (envs, first) = (part.manifest.env_numbers(), part.manifest.first_instance);
        let goes_on = later.iter().any(|(others, from)| *others == envs && *from > first);
        if goes_on && !part.complete {
            lost.push(part.folder.clone());
        }
        !goes_on || part.complete
    });
    parts.sort_by_key(|part| part.manifest.first_env);
    for (one, next) in parts.iter().zip(parts.iter().skip(1)) {
        let refuse = |what: &str| {
            let (one, next) = (one.folder.display(), next.folder.display());
            let hint = format!("replay each by itself: `rollcage replay {next}`");
            UsageError::new(format!("recordings `{one}` and `{next}` are no parts of one run: {what}")).hint(hint)
        };
        let shared = |part: &Rollout| {
            let Manifest { plugin, policy, seed, autoreset, max_episode_steps, .. } = &part.manifest;
            (plugin.clone(), policy.clone(), *seed, *autoreset, *max_episode_steps)
        };
        if shared(one) != shared(next) {
            return Err(refuse("they have another plugin, policy, seed, autoreset mode or time limit"));
        }
        if one.manifest.env_numbers().end > next.manifest.first_env {
            return Err(refuse(&format!("both have env {}", next.manifest.first_env)));
        }
    }
    Ok((parts, lost))
}

/// A recording whose files match its checksums.
pub struct Rollout {
    folder: PathBuf,
    manifest: Manifest,
    spec: Spec,
    shape: Arc<RowShape>,
    parts: Vec<PathBuf>,
    complete: bool,
}

impl Rollout {
    /// Opens a recording and verifies every checksum. A recording without checksums belongs to an unfinished run: its closed
    /// parts are read.
    ///
    /// # Errors
    /// [`Damage::Mismatch`]: a file is not as it was written. [`Damage::Unusable`]: the folder is not a recording that can be
    /// read.
    pub fn open(folder: &Path) -> Result<Rollout, Damage> {
        let shown = folder.display();
        // The folder is read long after this call, when the working directory may have changed.
        let folder =
            &std::path::absolute(folder).map_err(|error| UsageError::new(format!("recording `{shown}`: {error}")))?;
        let unusable = |what: String| Damage::Unusable(UsageError::new(format!("recording `{shown}`: {what}")));
        if !folder.is_dir() {
            return Err(unusable("no such folder".to_owned()));
        }
        let complete = verify(folder).map_err(|damage| match damage {
            Damage::Mismatch(what) => Damage::Mismatch(format!("recording `{shown}`: {what}")),
            Damage::Unusable(error) => unusable(error.message),
        })?;
        let (manifest, as_written) = read_manifest(folder).map_err(unusable)?;
        if !as_written {
            return Err(Damage::Mismatch(format!("recording `{shown}`: {MANIFEST} is not as rollcage writes it")));
        }
        if complete && !manifest.complete {
            return Err(Damage::Mismatch(format!(
                "recording `{shown}`: {CHECKSUMS} is there, and {MANIFEST} not complete"
            )));
        }
        if manifest.envs == 0 || manifest.envs as usize > ENVS_MAX {
            return Err(unusable(format!("{} envs; from 1 to {ENVS_MAX} are possible", manifest.envs)));
        }
        let spec = manifest.spaces.spec().map_err(unusable)?;
        let shape = RowShape::of(&spec).map_err(unusable)?;
        // Through a link in place of the folder, each capture could be another person's file.
        if fs::symlink_metadata(folder.join(CAPTURE)).is_ok_and(|found| !found.is_dir()) {
            return Err(unusable(format!("`{CAPTURE}` is no folder")));
        }
        let names = files(folder).map_err(|error| unusable(error.to_string()))?;
        let mut numbers: Vec<(u32, &String)> =
            names.iter().filter_map(|name| Some((number_of_part(name)?, name))).collect();
        numbers.sort_unstable();
        if let Some((_, (number, _))) = (0..).zip(&numbers).find(|(expected, (number, _))| number != expected) {
            return Err(Damage::Mismatch(format!("recording `{shown}`: a part before number {number} is missing")));
        }
        let parts = numbers.into_iter().map(|(_, name)| folder.join(name)).collect();
        Ok(Rollout { folder: folder.to_owned(), manifest, spec, shape: Arc::new(shape), parts, complete })
    }

    /// The recording's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The recording's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Spaces, masks, infos.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether the run was finished: otherwise this is a prefix of the run.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn shape(&self) -> &Arc<RowShape> {
        &self.shape
    }

    /// The plugin in the recording, if it is the plugin that the manifest names.
    ///
    /// # Errors
    /// The embedded file is another plugin, or cannot be read.
    pub fn embedded_plugin(&self) -> Result<Option<Plugin>, Damage> {
        let path = self.folder.join(PLUGIN);
        let bytes = match read_regular(&path, Limits::default().plugin_bytes) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(UsageError::new(format!("plugin `{}`: {error}", path.display())).into()),
        };
        let plugin = Plugin::from_bytes(&path.display().to_string(), bytes);
        if plugin.sha256_hex() != self.manifest.plugin.sha256 {
            return Err(Damage::Mismatch(format!("`{}` is not the plugin that {MANIFEST} names", path.display())));
        }
        Ok(Some(plugin))
    }

    /// The file with an env's captured input from outside, if that was captured.
    pub(crate) fn capture(&self, env: usize) -> PathBuf {
        self.folder.join(crate::record::capture_name(env))
    }

    /// The rows in order, in pieces that fit memory.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<Rows, Damage>> + '_ {
        self.batches().map(|batch| {
            let (path, batch) = batch?;
            Rows::from_batch(&self.shape, &batch)
                .map_err(|what| Damage::Unusable(UsageError::new(format!("recording: `{}` {what}", path.display()))))
        })
    }

    /// The record batches in order, each with the path of its part.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Result<(&Path, RecordBatch), Damage>> + '_ {
        let size = (BATCH_BYTES / self.shape.row_bytes().max(1)).clamp(1, BATCH_ROWS);
        self.parts.iter().flat_map(move |path| {
            let (part, failed) = match Part::open(path, &self.shape, &self.manifest.rollcage, size) {
                Ok(part) => (Some(part), None),
                Err(damage) => (None, Some(Err(damage))),
            };
            part.into_iter().flatten().map(move |batch| Ok((path.as_path(), batch?))).chain(failed)
        })
    }
}

/// Reads the manifest, and whether its text equals the text that would be written for it.
fn read_manifest(folder: &Path) -> Result<(Manifest, bool), String> {
    /// The format is read first, because other formats have other keys.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let wrong = |error: &dyn std::fmt::Display| format!("{MANIFEST}: {error}");
    let text = read_regular(&folder.join(MANIFEST), MANIFEST_BYTES_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("it has no {MANIFEST}; a recording is made by `rollcage run … --record DIR`")
        }
        _ => wrong(&error),
    })?;
    if text.is_empty() {
        return Err(format!("{MANIFEST} is empty: the run has not started all its envs, or was ended before it had"));
    }
    let text = String::from_utf8(text).map_err(|error| wrong(&error))?;
    let Format { format } = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    if format != FORMAT {
        return Err(format!("its format is {format}; this rollcage reads {FORMAT}"));
    }
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let as_written = manifest.text().map_err(|error| wrong(&error))? == text;
    Ok((manifest, as_written))
}

/// Compares every file with its checksum. False: there are no checksums, as after a kill.
fn verify(folder: &Path) -> Result<bool, Damage> {
    let unreadable = |name: &str, error: io::Error| Damage::Unusable(UsageError::new(format!("{name}: {error}")));
    let text = match read_regular(&folder.join(CHECKSUMS), CHECKSUMS_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(unreadable(CHECKSUMS, error)),
    };
    let malformed = || Damage::Mismatch(format!("{CHECKSUMS} is damaged: a line is not a hash and a name"));
    let text = String::from_utf8(text).map_err(|_| malformed())?;
    let mut listed = BTreeMap::new();
    for line in text.split_inclusive('\n') {
        let line = line.strip_suffix('\n').ok_or_else(malformed)?;
        let (hash, name) = line.split_once("  ").ok_or_else(malformed)?;
        // A hash is written in lower case.
        let hash = Digest::from_hex(hash).filter(|digest| digest.to_string() == hash).ok_or_else(malformed)?;
        if listed.insert(name.to_owned(), hash).is_some() {
            return Err(malformed());
        }
    }
    let present = files(folder).map_err(|error| unreadable("the folder", error))?;
    if let Some(name) = present.iter().find(|name| !listed.contains_key(*name)) {
        return Err(Damage::Mismatch(format!("`{name}` is not in {CHECKSUMS}")));
    }
    if let Some(name) = listed.keys().find(|name| limit_of(name).is_none()) {
        return Err(Damage::Mismatch(format!("`{name}` is no file of a recording")));
    }
    for (name, hash) in &listed {
        if !present.contains(name) {
            return Err(Damage::Mismatch(format!("`{name}` is in {CHECKSUMS}, and not in the folder")));
        }
        let found = hash_file(folder, name).map_err(|error| unreadable(name, error))?;
        if found != *hash {
            return Err(Damage::Mismatch(format!("`{name}` is not what it was: its checksum differs")));
        }
    }
    Ok(true)
}
