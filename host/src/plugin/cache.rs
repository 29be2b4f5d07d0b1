//! Compiled code and descriptions on disk, by what they were made from: code by the hash of the plugin's file without its
//! assets, a description by that of the whole file, both by this build and the settings. Knows files; checks that they are
//! whole, and knows nothing else of their content.
//!
//! The cache is a folder of the user's own (0700). Each entry is one file: a checksum, an interface version, code or a
//! description. An entry is written under a temporary name and renamed into place, so many processes can share the folder.
//! A torn or altered entry is made again.
//!
//! The folder has a bound. The process that adds an entry checks whether the folder has outgrown its bound, and removes
//! the least recently used files; a file's modification time is the time of its last use. A process that has a removed
//! file open reads on; a later process compiles again.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;

use crate::cage::engine::EngineSettings;
use crate::error::UsageError;
use crate::files::{absolute, open_regular};
use crate::limits::Limits;
use crate::plugin::Plugin;
use crate::spec::{DESCRIPTION_BYTES_MAX, Description};

/// The first bytes of an entry; the digit is the format's version.
const MAGIC: &[u8; 16] = b"rollcage-cache-2";

/// The first bytes of kept assets; the digit is the format's version.
const ASSETS_MAGIC: &[u8; 17] = b"rollcage-assets-1";

/// Bytes that a cache may have by default: about a thousand compiled plugins. A plugin is compiled anew for each build
/// of rollcage and each setting of the engine, so a cache without a bound grows with every update.
pub const CACHE_BYTES_MAX: u64 = 2_000_000_000;

/// How long a plugin's file stays after its last use, whatever the bound: a recording may need a plugin that exists
/// nowhere else. Compiled code can be made again.
const PLUGIN_STAYS: Duration = Duration::from_secs(30 * 24 * 3600);

/// The age at which an unfinished file has no writer any more: its process was killed.
const UNFINISHED_AFTER: Duration = Duration::from_secs(3600);

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Compiled code; with the description where no assets belong to it.
    Code,
    /// The description of a plugin with assets.
    Description,
}

impl Part {
    fn ending(self) -> &'static str {
        match self {
            Part::Code => "plugin",
            Part::Description => "described",
        }
    }

    fn bytes_max(self) -> u64 {
        let code = if self == Part::Code { Limits::default().code_bytes } else { 0 };
        code + DESCRIPTION_BYTES_MAX as u64 + 1024
    }
}

/// A cache entry.
pub(crate) struct Entry {
    /// The interface version that the plugin exports.
    pub(crate) interface: String,
    /// The description, if it belongs to the entry.
    pub(crate) description: Option<Description>,
    /// The code; empty in an entry that is a description.
    pub(crate) code: Vec<u8>,
}

/// A folder of compiled plugins.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    bytes_max: u64,
}

/// The kind of a cache file, in the order of removal when there are too many files. A file with any other name does not
/// belong to the cache: it is neither counted nor removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A file that a process is writing, or was writing when it was killed.
    Unfinished,
    /// Compiled code.
    Compiled,
    /// A description.
    Described,
    /// A wheel of Python code, for bundles.
    Wheel,
    /// A plugin's file, or its assets alone, kept for the recordings that name it.
    Plugin,
}

impl Kind {
    /// The kind of a file with this name, if the cache gives such names: 64 hex digits, and an ending.
    fn of(name: &OsStr) -> Option<Kind> {
        let (hash, ending) = name.to_str()?.split_once('.')?;
        if hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match ending {
            "plugin" => Some(Kind::Compiled),
            "described" => Some(Kind::Described),
            "wasm" | "assets" => Some(Kind::Plugin),
            "whl" => Some(Kind::Wheel),
            _ => {
                let (process, number) = ending.strip_suffix(".tmp")?.split_once('-')?;
                (is_number(process) && is_number(number)).then_some(Kind::Unfinished)
            }
        }
    }

    /// How long a file stays after its last use in any case.
    fn stays(self) -> Duration {
        match self {
            Kind::Unfinished => UNFINISHED_AFTER,
            Kind::Compiled | Kind::Described | Kind::Wheel => Duration::ZERO,
            Kind::Plugin => PLUGIN_STAYS,
        }
    }
}

/// A file of a cache.
struct Found {
    path: PathBuf,
    kind: Kind,
    bytes: u64,
    used: SystemTime,
}

impl Found {
    /// Whether the last use is so long ago that the file may be removed.
    fn may_go(&self, now: SystemTime) -> bool {
        now.duration_since(self.used).unwrap_or_default() >= self.kind.stays()
    }

    /// Removes the file, or finds it gone.
    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            // Another process removed it first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// A number of files, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// The number of files.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// The content of a cache, or what was removed from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Compiled code and descriptions.
    pub compiled: Amount,
    /// Wheels of Python code, kept for the bundles that are made of them.
    pub wheels: Amount,
    /// Plugins' files, kept for the recordings that name them.
    pub plugins: Amount,
    /// Files that are being written, or whose writer was killed.
    pub unfinished: Amount,
}

/// What [`Cache::clear`] removes beside compiled code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Also {
    /// Wheels of Python code: the next build of a bundle downloads those that it needs.
    pub wheels: bool,
    /// Plugins' files: the replay of a recording may need `--plugin FILE` then.
    pub plugins: bool,
}

impl Usage {
    fn add(&mut self, file: &Found) {
        let amount = match file.kind {
            Kind::Unfinished => &mut self.unfinished,
            Kind::Compiled | Kind::Described => &mut self.compiled,
            Kind::Wheel => &mut self.wheels,
            Kind::Plugin => &mut self.plugins,
        };
        amount.files += 1;
        amount.bytes += file.bytes;
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.compiled.bytes + self.wheels.bytes + self.plugins.bytes + self.unfinished.bytes
    }
}

impl Cache {
    /// Opens a cache folder; makes it (0700) if it is missing.
    ///
    /// # Errors
    /// The folder cannot be made, belongs to another user, or is writable for others: then anybody could put code
    /// there.
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
        Ok(Cache { folder: absolute(folder.to_owned()), bytes_max: CACHE_BYTES_MAX })
    }

    /// Sets the bound, which is [`CACHE_BYTES_MAX`] by default. If the folder has more bytes than this after an entry
    /// is added, other files are removed: compiled code first, least recently used first; then wheels; then plugins' files that
    /// were not used for 30 days. The added entry stays, whatever its size.
    #[must_use]
    pub fn bound(mut self, bytes: u64) -> Cache {
        self.bytes_max = bytes;
        self
    }

    /// As [`Cache::bound`], from a text: a number of bytes, or with a unit: `500MB`, `1.5 GiB`.
    ///
    /// # Errors
    /// The text has neither form.
    pub fn bound_by(self, text: &str) -> Result<Cache, UsageError> {
        let refuse = || UsageError::new("expected a size like `2GB`, or a number of bytes");
        Ok(self.bound(bytes_of(text).ok_or_else(refuse)?))
    }

    /// The bound, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Measures the folder's content. Looks at every file.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn usage(&self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        self.files()?.iter().for_each(|file| usage.add(file));
        Ok(usage)
    }

    /// Removes compiled code and files that killed processes left unfinished; and further kinds of files, if asked. Returns
    /// what was removed. Runs that are under way go on.
    ///
    /// # Errors
    /// The folder cannot be read, or a file cannot be removed. All other files are removed even then.
    pub fn clear(&self, also: Also) -> io::Result<Usage> {
        let now = SystemTime::now();
        let mut removed = Usage::default();
        let mut failed = None;
        for file in self.files()? {
            let goes = match file.kind {
                Kind::Unfinished => file.may_go(now),
                Kind::Compiled | Kind::Described => true,
                Kind::Wheel => also.wheels,
                Kind::Plugin => also.plugins,
            };
            if !goes {
                continue;
            }
            match file.remove() {
                Ok(()) => removed.add(&file),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(removed), Err)
    }

    /// The folder's files with names of a cache: regular files of the user's own. Links are not followed.
    fn files(&self) -> io::Result<Vec<Found>> {
        let mut files = Vec::new();
        self.files_of(&self.folder, &mut files)?;
        match self.files_of(&self.wheels(), &mut files) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(files),
        }
    }

    fn files_of(&self, folder: &Path, files: &mut Vec<Found>) -> io::Result<()> {
        let own = rustix::process::geteuid().as_raw();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Some(kind) = Kind::of(&entry.file_name()) else { continue };
            if (kind == Kind::Wheel) != (folder != self.folder) {
                continue;
            }
            // Another process removed this file meanwhile.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() && metadata.uid() == own {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push(Found { path: entry.path(), kind, bytes: metadata.len(), used });
            }
        }
        Ok(())
    }

    /// The folder of wheels: `HASH.whl` each.
    pub(super) fn wheels(&self) -> PathBuf {
        self.folder.join("wheels")
    }

    /// Removes files until the folder is within its bound again. `added` was just written, and stays. A file that
    /// cannot be removed is no error, but costs room.
    pub(super) fn make_room(&self, added: &[&Path]) {
        let Ok(mut files) = self.files() else { return };
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let now = SystemTime::now();
        files.retain(|file| !added.contains(&file.path.as_path()) && file.may_go(now));
        files.sort_unstable_by_key(|file| (file.kind, file.used));
        for file in files {
            if bytes <= self.bytes_max {
                break;
            }
            if file.remove().is_ok() {
                bytes -= file.bytes;
            }
        }
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

    fn path(&self, part: Part, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.{}", part.ending()))
    }

    /// The entry of a key, if it exists. An entry that is not whole is an error that says so.
    pub(crate) fn read(&self, part: Part, key: &str) -> Result<Option<Entry>, String> {
        let path = self.path(part, key);
        let Some(bytes) = self.read_own(&path, part.bytes_max()) else { return Ok(None) };
        match parse(key, bytes) {
            Some(entry) => Ok(Some(entry)),
            None => Err(format!("cache entry {} is damaged; the plugin is compiled again", path.display())),
        }
    }

    /// Reads a file of the user's own.
    fn read_own(&self, path: &Path, limit: u64) -> Option<Vec<u8>> {
        let mut file = open_regular(path, limit).ok()?;
        let metadata = file.metadata().ok()?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()?);
        file.read_to_end(&mut bytes).ok()?;
        touch(&file);
        Some(bytes)
    }

    /// Keeps a plugin's file, so that a recording of the plugin can be replayed where the file is missing. Its assets are a
    /// file of their own, so that plugins with one code and other assets have the code in common.
    pub(crate) fn keep_plugin(&self, plugin: &Plugin) -> io::Result<()> {
        let assets = plugin.assets();
        self.keep(&format!("{}.wasm", plugin.code_sha256_hex()), &[plugin.code()])?;
        if assets.is_empty() {
            return Ok(());
        }
        self.keep(&format!("{}.assets", plugin.sha256_hex()), &[ASSETS_MAGIC, &plugin.code_sha256(), assets])
    }

    fn keep(&self, name: &str, pieces: &[&[u8]]) -> io::Result<()> {
        let path = self.folder.join(name);
        match open_regular(&path, pieces.iter().map(|piece| piece.len() as u64).sum()) {
            Ok(file) => touch(&file),
            Err(_) => self.write_file(&path, pieces)?,
        }
        Ok(())
    }

    /// A plugin's kept file, if it exists. The caller compares its hash.
    pub(crate) fn plugin(&self, sha256: &str) -> Option<Vec<u8>> {
        let limit = Limits::default().plugin_bytes;
        if let Some(whole) = self.read_own(&self.folder.join(format!("{sha256}.wasm")), limit) {
            return Some(whole);
        }
        let kept = self.read_own(&self.folder.join(format!("{sha256}.assets")), limit)?;
        let (code, assets) = kept.strip_prefix(ASSETS_MAGIC)?.split_first_chunk::<32>()?;
        let mut bytes = self.read_own(&self.folder.join(format!("{}.wasm", hex::encode(code))), limit)?;
        bytes.extend(assets);
        Some(bytes)
    }

    /// Writes an entry: whole under a temporary name, then into place by one rename.
    pub(crate) fn write(
        &self,
        part: Part,
        key: &str,
        interface: &str,
        description: Option<&Description>,
        code: &[u8],
    ) -> io::Result<()> {
        let description = description.map(Description::encode).transpose().map_err(io::Error::other)?;
        let description = description.unwrap_or_default();
        let mut head = vec![u8::try_from(interface.len()).map_err(io::Error::other)?];
        head.extend(interface.as_bytes());
        head.extend(u32::try_from(description.len()).map_err(io::Error::other)?.to_le_bytes());
        head.extend(description);
        let checksum = checksum_of(key, &[&head, code]);
        self.write_file(&self.path(part, key), &[MAGIC, &checksum, &head, code])
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
        match &written {
            Ok(()) => self.make_room(&[path]),
            Err(_) => drop(fs::remove_file(&temporary)),
        }
        written
    }
}

/// Marks a file as used now. The time of last access would not do: many systems do not keep it, and a backup changes
/// it.
pub(super) fn touch(file: &File) {
    // If the time cannot be set, the file is removed sooner.
    let _ = file.set_modified(SystemTime::now());
}

/// Parses a number of bytes: `2000000000`, `2GB`, `1.5 GiB`.
pub(crate) fn bytes_of(text: &str) -> Option<u64> {
    text.trim().parse::<ByteSize>().ok().map(|size| size.as_u64())
}

/// Parses an entry, if the bytes are a whole one.
fn parse(key: &str, mut bytes: Vec<u8>) -> Option<Entry> {
    let (magic, rest) = bytes.split_at_checked(MAGIC.len())?;
    let (checksum, payload) = rest.split_at_checked(blake3::OUT_LEN)?;
    if magic != MAGIC || checksum != checksum_of(key, &[payload]) {
        return None;
    }
    let (len, rest) = payload.split_first()?;
    let (interface, rest) = rest.split_at_checked(usize::from(*len))?;
    let interface = std::str::from_utf8(interface).ok()?.to_owned();
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (description, code) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let description = match description {
        [] => None,
        encoded => Some(Description::decode(encoded).ok()?),
    };
    let code_begins = bytes.len() - code.len();
    bytes.drain(..code_begins);
    Some(Entry { interface, description, code: bytes })
}

/// The checksum of an entry. It covers the key too, so that an entry's file is not taken for another key's.
fn checksum_of(key: &str, payload: &[&[u8]]) -> [u8; blake3::OUT_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    for piece in payload {
        hasher.update(piece);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_caches_by_its_name() {
        let hash = "0f".repeat(32);
        for (name, kind) in [
            (format!("{hash}.plugin"), Some(Kind::Compiled)),
            (format!("{hash}.described"), Some(Kind::Described)),
            (format!("{hash}.wasm"), Some(Kind::Plugin)),
            (format!("{hash}.assets"), Some(Kind::Plugin)),
            (format!("{hash}.whl"), Some(Kind::Wheel)),
            (format!("{hash}.4711-0.tmp"), Some(Kind::Unfinished)),
            (format!("{hash}.tmp"), None),
            (format!("{hash}.-.tmp"), None),
            (format!("{hash}.47x-0.tmp"), None),
            (format!("{hash}.plugin.bak"), None),
            (hash.clone(), None),
            (format!("{}.plugin", &hash[1..]), None),
            (format!("{}.plugin", hash.to_uppercase()), None),
            (format!("../{}.plugin", &hash[3..]), None),
            ("my_env.wasm".to_owned(), None),
        ] {
            assert_eq!(Kind::of(name.as_ref()), kind, "{name}");
        }
    }

    #[test]
    fn a_bound_is_read_as_people_write_it() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("2000000000", Some(CACHE_BYTES_MAX)),
            ("2GB", Some(CACHE_BYTES_MAX)),
            (" 1.5 GiB ", Some(3 << 29)),
            ("64kib", Some(1 << 16)),
            ("18446744073709551615", Some(u64::MAX)),
            ("-1", None),
            ("2 GB or so", None),
            ("inf", None),
            ("much", None),
            ("", None),
        ] {
            assert_eq!(bytes_of(text), bytes, "{text}");
        }
    }
}
