//! A recording as it is read: verified first, then part by part. Anybody may have written it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::manifest::{FORMAT, Manifest};
use super::rows::{RowShape, Rows};
use super::{CAPTURE, CHECKSUMS, MANIFEST, PLUGIN};
use crate::builder::ENVS_MAX;
use crate::digest::Digest;
use crate::error::UsageError;
use crate::plugin::Plugin;
use crate::spec::Spec;

/// Bytes of a manifest: a config for each of 4,096 envs is a part of it.
const MANIFEST_BYTES_MAX: u64 = 512 << 20;

/// Bytes of rows that are looked at in one piece.
const BATCH_BYTES: usize = 16 << 20;

/// Rows that are looked at in one piece.
const BATCH_ROWS: usize = 16_384;

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It cannot be used: not a recording, of another format, not readable.
    #[error(transparent)]
    Unusable(#[from] UsageError),
    /// A file is not what the recording says it is.
    #[error("{0}")]
    Mismatch(String),
}

/// A recording whose files are what its checksums say.
pub struct Rollout {
    folder: PathBuf,
    manifest: Manifest,
    spec: Spec,
    shape: Arc<RowShape>,
    parts: Vec<PathBuf>,
    complete: bool,
}

impl Rollout {
    /// Opens a recording and verifies every checksum. One without checksums is of a run that did not finish: what was closed
    /// of it is read.
    ///
    /// # Errors
    /// [`Damage::Mismatch`]: a file is not as it was written. [`Damage::Unusable`]: this is no recording that can be read.
    pub fn open(folder: &Path) -> Result<Rollout, Damage> {
        let shown = folder.display();
        let unusable = |what: String| Damage::Unusable(UsageError::new(format!("recording `{shown}`: {what}")));
        if !folder.is_dir() {
            return Err(unusable("no such folder".to_owned()));
        }
        let complete = verify(folder).map_err(|damage| match damage {
            Damage::Mismatch(what) => Damage::Mismatch(format!("recording `{shown}`: {what}")),
            Damage::Unusable(error) => unusable(error.message),
        })?;
        let manifest = read_manifest(folder).map_err(unusable)?;
        if complete && !manifest.complete {
            return Err(Damage::Mismatch(format!(
                "recording `{shown}`: {CHECKSUMS} is there, and {MANIFEST} not complete"
            )));
        }
        if manifest.format != FORMAT {
            let format = manifest.format;
            return Err(unusable(format!("its format is {format}; this rollcage reads {FORMAT}")));
        }
        if manifest.envs == 0 || manifest.envs as usize > ENVS_MAX {
            return Err(unusable(format!("{} envs; from 1 to {ENVS_MAX} are possible", manifest.envs)));
        }
        let spec = manifest.spaces.spec().map_err(unusable)?;
        let shape = RowShape::of(&spec).map_err(unusable)?;
        let mut parts = Vec::new();
        for name in files(folder).map_err(|error| unusable(error.to_string()))? {
            if name.starts_with("trajectory-") && name.ends_with(".parquet") {
                parts.push(folder.join(name));
            }
        }
        Ok(Rollout { folder: folder.to_owned(), manifest, spec, shape: Arc::new(shape), parts, complete })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Spaces, masks, infos.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether the run came to its end: else this is a prefix of it.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn shape(&self) -> &Arc<RowShape> {
        &self.shape
    }

    /// The plugin that was put in, if it is the one that the manifest names.
    ///
    /// # Errors
    /// It is another one, or cannot be read.
    pub fn embedded_plugin(&self) -> Result<Option<Plugin>, Damage> {
        let path = self.folder.join(PLUGIN);
        if !path.exists() {
            return Ok(None);
        }
        let plugin = Plugin::from_file(&path)?;
        if plugin.sha256_hex() != self.manifest.plugin.sha256 {
            return Err(Damage::Mismatch(format!("`{}` is not the plugin that {MANIFEST} names", path.display())));
        }
        Ok(Some(plugin))
    }

    /// What an env was told from outside, if that was captured.
    pub(crate) fn capture(&self, env: usize) -> PathBuf {
        self.folder.join(super::capture_name(env))
    }

    /// Its rows in order, in pieces that fit memory.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<Rows, Damage>> + '_ {
        self.batches().map(|batch| {
            let (path, batch) = batch?;
            Rows::from_batch(&self.shape, &batch)
                .map_err(|what| Damage::Unusable(UsageError::new(format!("recording: `{}` {what}", path.display()))))
        })
    }

    /// Its record batches in order, each with the part that it is of.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Result<(&Path, RecordBatch), Damage>> + '_ {
        let size = (BATCH_BYTES / self.shape.row_bytes().max(1)).clamp(1, BATCH_ROWS);
        self.parts.iter().flat_map(move |path| {
            let wrong = |error: String| {
                Damage::Unusable(UsageError::new(format!("recording: `{}` cannot be read: {error}", path.display())))
            };
            let reader = File::open(path)
                .map_err(|error| wrong(error.to_string()))
                .and_then(|file| {
                    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| wrong(error.to_string()))
                })
                .and_then(|builder| builder.with_batch_size(size).build().map_err(|error| wrong(error.to_string())));
            let (reader, failed) = match reader {
                Ok(reader) => (Some(reader), None),
                Err(error) => (None, Some(Err(error))),
            };
            let batches = reader.into_iter().flatten().map(move |batch| match batch {
                Ok(batch) => Ok((path.as_path(), batch)),
                Err(error) => Err(wrong(error.to_string())),
            });
            batches.chain(failed)
        })
    }
}

fn read_manifest(folder: &Path) -> Result<Manifest, String> {
    let mut text = String::new();
    let file = File::open(folder.join(MANIFEST)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("it has no {MANIFEST}; a recording is made by `rollcage run … --record DIR`")
        }
        _ => format!("{MANIFEST}: {error}"),
    })?;
    file.take(MANIFEST_BYTES_MAX).read_to_string(&mut text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{MANIFEST}: {error}"))
}

/// Compares every file with its checksum. False: there are none, as after a kill.
fn verify(folder: &Path) -> Result<bool, Damage> {
    let unreadable = |name: &str, error: io::Error| Damage::Unusable(UsageError::new(format!("{name}: {error}")));
    let text = match fs::read(folder.join(CHECKSUMS)) {
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
        // As it is written: in lower case.
        let hash = Digest::from_hex(hash).filter(|digest| digest.to_string() == hash).ok_or_else(malformed)?;
        if listed.insert(name.to_owned(), hash).is_some() {
            return Err(malformed());
        }
    }
    let present = files(folder).map_err(|error| unreadable("the folder", error))?;
    if let Some(name) = present.iter().find(|name| !listed.contains_key(*name)) {
        return Err(Damage::Mismatch(format!("`{name}` is not in {CHECKSUMS}")));
    }
    for (name, hash) in &listed {
        if !present.contains(name) {
            return Err(Damage::Mismatch(format!("`{name}` is in {CHECKSUMS}, and not in the folder")));
        }
        let found = hash_file(&folder.join(name)).map_err(|error| unreadable(name, error))?;
        if found != *hash {
            return Err(Damage::Mismatch(format!("`{name}` is not what it was: its checksum differs")));
        }
    }
    Ok(true)
}

/// The files of a recording but the checksums, in the order of their names. No folder but that of captures is looked into.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for (inside, prefix) in [(folder.to_owned(), String::new()), (folder.join(CAPTURE), format!("{CAPTURE}/"))] {
        let entries = match fs::read_dir(&inside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|_| io::Error::other("a file's name is not UTF-8"))?;
            let is_own_folder = prefix.is_empty() && name == CAPTURE && entry.file_type()?.is_dir();
            if !is_own_folder && name != CHECKSUMS && !name.ends_with(".tmp") {
                names.push(format!("{prefix}{name}"));
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// BLAKE3 of a file.
pub(crate) fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}
