//! Files that travel inside the plugin: levels, tables, texts.
//!
//! A path is relative, with `/` between its parts, as it stands in the plugin. The files are the same for every env and
//! cannot be written; a file is read only when it is asked for.
//!
//! Outside a component, in `cargo test`, the files are those below a folder: [`use_folder`] names it for a thread.
//!
//! ```
//! use rollcage_sdk::assets;
//!
//! # let folder = std::env::temp_dir().join("rollcage-sdk-assets");
//! # std::fs::create_dir_all(folder.join("levels")).unwrap();
//! # std::fs::write(folder.join("levels/1.txt"), "####").unwrap();
//! assets::use_folder(&folder); // A test says so; a component has its own.
//! assert_eq!(assets::list(), ["levels/1.txt"]);
//! assert_eq!(assets::read_to_string("levels/1.txt").unwrap(), "####");
//! assert_eq!(assets::read("levels/2.txt").unwrap_err().to_string(), "the plugin has no file `levels/2.txt`");
//! ```

use std::error::Error;
use std::fmt;
#[cfg(not(target_family = "wasm"))]
use std::path::Path;

/// Bytes of one read; the interface gives at most 1 MiB.
const READ_BYTES: u32 = 1 << 20;

/// The reason why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssetError {
    /// The plugin has no such file.
    Missing {
        /// The path that was asked for.
        path: String,
    },
    /// The file is not UTF-8.
    NotText {
        /// The path that was asked for.
        path: String,
    },
}

impl fmt::Display for AssetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AssetError::Missing { path } => write!(f, "the plugin has no file `{path}`"),
            AssetError::NotText { path } => write!(f, "the plugin's file `{path}` is not UTF-8"),
        }
    }
}

impl Error for AssetError {}

impl From<AssetError> for crate::CreateError {
    fn from(error: AssetError) -> Self {
        crate::CreateError::failed(error.to_string())
    }
}

impl From<AssetError> for crate::EnvError {
    fn from(error: AssetError) -> Self {
        crate::EnvError::failed(error.to_string())
    }
}

/// The paths of all files, in the order of their bytes.
#[must_use]
pub fn list() -> Vec<String> {
    source::list()
}

/// The size of a file in bytes, if it exists.
#[must_use]
pub fn size(path: &str) -> Option<u64> {
    source::size(path)
}

/// The bytes of a whole file.
///
/// # Errors
///
/// There is no such file.
pub fn read(path: &str) -> Result<Vec<u8>, AssetError> {
    // Room for all at once: a large file would be moved again and again.
    let mut bytes = Vec::with_capacity(size(path).and_then(|size| usize::try_from(size).ok()).unwrap_or(0));
    loop {
        let offset = bytes.len() as u64;
        match source::read(path, offset, READ_BYTES) {
            None => return Err(AssetError::Missing { path: path.to_owned() }),
            Some(piece) if piece.is_empty() => return Ok(bytes),
            Some(piece) => bytes.extend(piece),
        }
    }
}

/// A whole file as text.
///
/// # Errors
///
/// There is no such file, or it is not UTF-8.
pub fn read_to_string(path: &str) -> Result<String, AssetError> {
    String::from_utf8(read(path)?).map_err(|_| AssetError::NotText { path: path.to_owned() })
}

/// Reads at most `length` bytes of a file from `offset`, and at most 1 MiB; no bytes are its end.
///
/// # Errors
///
/// There is no such file.
pub fn read_at(path: &str, offset: u64, length: u32) -> Result<Vec<u8>, AssetError> {
    source::read(path, offset, length).ok_or_else(|| AssetError::Missing { path: path.to_owned() })
}

/// Names the folder whose files are the assets of this thread's envs, outside a component.
#[cfg(not(target_family = "wasm"))]
pub fn use_folder(folder: impl AsRef<Path>) {
    source::use_folder(folder.as_ref());
}

#[cfg(target_family = "wasm")]
use crate::raw::assets as source;

#[cfg(not(target_family = "wasm"))]
mod source {
    use std::cell::RefCell;
    use std::fs::{self, File};
    use std::io::{Read, Seek, SeekFrom};
    use std::path::{Component, Path, PathBuf};

    thread_local! {
        static FOLDER: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
    }

    pub(super) fn use_folder(folder: &Path) {
        FOLDER.replace(Some(folder.to_owned()));
    }

    pub(super) fn list() -> Vec<String> {
        let mut paths = Vec::new();
        if let Some(folder) = FOLDER.with_borrow(Clone::clone) {
            collect(&folder, "", &mut paths);
        }
        paths.sort_unstable();
        paths
    }

    fn collect(folder: &Path, prefix: &str, paths: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else { continue };
            if kind.is_dir() {
                collect(&entry.path(), &format!("{prefix}{name}/"), paths);
            } else if kind.is_file() {
                paths.push(format!("{prefix}{name}"));
            }
        }
    }

    pub(super) fn size(path: &str) -> Option<u64> {
        file(path).and_then(|path| fs::metadata(path).ok()).filter(fs::Metadata::is_file).map(|found| found.len())
    }

    pub(super) fn read(path: &str, offset: u64, length: u32) -> Option<Vec<u8>> {
        size(path)?;
        let mut file = File::open(file(path)?).ok()?;
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut bytes = Vec::new();
        file.take(length.min(super::READ_BYTES).into()).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The file of a path that stays below the folder.
    fn file(path: &str) -> Option<PathBuf> {
        let is_plain =
            !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        FOLDER.with_borrow(Clone::clone).filter(|_| is_plain).map(|folder| folder.join(path))
    }
}
