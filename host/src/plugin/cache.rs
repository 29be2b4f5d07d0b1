//! Compiled code and descriptions on disk, by what they were made from: the file's hash, this build, the settings.
//! Knows files; knows nothing of what is in them but that it is whole.
//!
//! A folder of the user's own (0700). An entry is one file: a checksum, a description, code. It is written under a name
//! of its own and renamed into place, so many processes can share the folder; one that is torn or was tampered with
//! is compiled again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cage::engine::EngineSettings;
use crate::error::UsageError;
use crate::files::{absolute, open_regular};
use crate::limits::Limits;
use crate::spec::{DESCRIPTION_BYTES_MAX, Description};

/// The first bytes of an entry; the digit is the format's.
const MAGIC: &[u8; 16] = b"rollcage-cache-1";

/// What a cache holds of a plugin.
pub(crate) struct Entry {
    pub(crate) description: Description,
    pub(crate) code: Vec<u8>,
}

/// A folder of compiled plugins.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens a cache folder, making it (0700) where it is missing.
    ///
    /// # Errors
    /// It cannot be made, belongs to somebody else, or others may write to it: code from there would be anybody's.
    pub fn open(folder: &Path) -> Result<Cache, UsageError> {
        let shown = folder.display();
        let hint = "name another one with the environment variable `ROLLCAGE_CACHE`";
        let refuse = |what: String| UsageError::new(format!("cache folder `{shown}`: {what}")).hint(hint);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| refuse(error.to_string()))?;
        let metadata = std::fs::metadata(folder).map_err(|error| refuse(error.to_string()))?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(refuse("it belongs to somebody else".to_owned()));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(refuse("others may write to it".to_owned()));
        }
        Ok(Cache { folder: absolute(folder.to_owned()) })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The name of an entry.
    pub(crate) fn key(sha256: &[u8; 32], engine: EngineSettings, build: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(sha256);
        hasher.update(engine.fingerprint().as_bytes());
        hasher.update(build.as_bytes());
        hasher.finalize().to_hex().to_string()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.plugin"))
    }

    /// The entry of a key, if it is there. One that is not whole is an error that says so.
    pub(crate) fn read(&self, key: &str) -> Result<Option<Entry>, String> {
        let Some(bytes) = self.read_bytes(key) else { return Ok(None) };
        match parse(key, &bytes) {
            Some(entry) => Ok(Some(entry)),
            None => Err(format!("cache entry {} is damaged; the plugin is compiled again", self.path(key).display())),
        }
    }

    fn read_bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.read_own(&self.path(key), Limits::default().code_bytes + DESCRIPTION_BYTES_MAX as u64 + 1024)
    }

    /// A file of the user's own.
    fn read_own(&self, path: &Path, limit: u64) -> Option<Vec<u8>> {
        let mut file = open_regular(path, limit).ok()?;
        let metadata = file.metadata().ok()?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()?);
        file.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Keeps a plugin's file, so that a recording of it can be run again where the file is not at hand.
    pub(crate) fn keep_plugin(&self, sha256: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(format!("{sha256}.wasm"));
        if path.exists() { Ok(()) } else { self.write_file(&path, &[bytes]) }
    }

    /// A plugin's file that was kept, if it is there. Whether it is the right one, its hash says.
    pub(crate) fn plugin(&self, sha256: &str) -> Option<Vec<u8>> {
        self.read_own(&self.folder.join(format!("{sha256}.wasm")), Limits::default().plugin_bytes)
    }

    /// Writes an entry: whole under a name of its own, then in place by one rename.
    pub(crate) fn write(&self, key: &str, entry: &Entry) -> io::Result<()> {
        let description = entry.description.encode().map_err(io::Error::other)?;
        let len = u32::try_from(description.len()).map_err(io::Error::other)?;
        let mut payload = Vec::with_capacity(4 + description.len() + entry.code.len());
        payload.extend(len.to_le_bytes());
        payload.extend(&description);
        payload.extend(&entry.code);
        self.write_file(&self.path(key), &[MAGIC, &checksum_of(key, &payload), &payload])
    }

    fn write_file(&self, path: &Path, pieces: &[&[u8]]) -> io::Result<()> {
        static WRITES: AtomicU32 = AtomicU32::new(0);
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        let written = (|| {
            let mut file: File = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&temporary)?;
            pieces.iter().try_for_each(|piece| file.write_all(piece))?;
            std::fs::rename(&temporary, path)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}

/// The entry that these bytes are, if they are one and whole.
fn parse(key: &str, bytes: &[u8]) -> Option<Entry> {
    let (magic, rest) = bytes.split_at_checked(MAGIC.len())?;
    let (checksum, payload) = rest.split_at_checked(blake3::OUT_LEN)?;
    if magic != MAGIC || checksum != checksum_of(key, payload) {
        return None;
    }
    let (len, rest) = payload.split_first_chunk::<4>()?;
    let (description, code) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some(Entry { description: Description::decode(description).ok()?, code: code.to_owned() })
}

/// The checksum of an entry: over its key too, so that one entry's file is not taken for another's.
fn checksum_of(key: &str, payload: &[u8]) -> [u8; blake3::OUT_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}
