//! Wheels of Python code: kept in the user's cache by their hashes, and unzipped in memory. Nothing of them is run.

use std::fs::DirBuilder;
use std::io::{Cursor, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use zip::ZipArchive;

use super::lock::Package;
use super::options::Options;
use super::pip::Pip;
use crate::assets::BYTES_MAX;
use crate::error::UsageError;
use crate::files::{open_regular, read_regular};
use crate::plugin::cache::{Cache, touch};
use crate::text::escape_line;

/// The most bytes of a wheel.
const WHEEL_BYTES_MAX: u64 = 256 << 20;

/// The most files in a wheel.
const ENTRIES_MAX: usize = 20_000;

/// A folder that holds wheels by their hashes.
pub(super) struct Wheels {
    folder: PathBuf,
    /// The cache that the folder belongs to, which has a bound.
    cache: Option<Cache>,
    /// The folder itself, where there is no cache: it is removed when this value is dropped.
    _temporary: Option<TempDir>,
}

impl Wheels {
    /// The wheels in a cache folder, or none that stay.
    ///
    /// # Errors
    /// The folder cannot be made, or may be written to by others.
    pub(super) fn open(options: &Options) -> Result<Wheels, UsageError> {
        let cache = options.cache.as_deref().map(Cache::open).transpose()?;
        let cache = cache.map(|cache| match options.cache_bytes_max {
            Some(bytes) => cache.bound(bytes),
            None => cache,
        });
        if let Some(folder) = cache.as_ref().map(Cache::wheels) {
            make(&folder)?;
            return Ok(Wheels { folder, cache, _temporary: None });
        }
        let made = temporary(&std::env::temp_dir())?;
        Ok(Wheels { folder: made.path().to_owned(), cache, _temporary: Some(made) })
    }

    /// The bytes of wheels, in the given order. Those that are not here yet are downloaded.
    ///
    /// # Errors
    /// A wheel is not to be had, or has another hash.
    pub(super) fn get(
        &self,
        packages: &[Package],
        pip: &Pip,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Vec<Vec<u8>>, UsageError> {
        let kept: Vec<Option<Vec<u8>>> = packages.iter().map(|package| self.kept(package)).collect();
        let missing: Vec<&Package> =
            packages.iter().zip(&kept).filter(|(_, kept)| kept.is_none()).map(|(package, _)| package).collect();
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|package| package.name.as_str()).collect();
            tell(&names.join(", "));
            self.download(&missing, pip)?;
            if let Some(cache) = &self.cache {
                let places: Vec<PathBuf> = packages.iter().map(|package| self.place(package)).collect();
                cache.make_room(&places.iter().map(PathBuf::as_path).collect::<Vec<_>>());
            }
        }
        let bytes = packages.iter().zip(kept).map(|(package, kept)| {
            kept.or_else(|| self.kept(package)).ok_or_else(|| {
                UsageError::new(format!(
                    "the wheel of {} {} has another sha256 than the lock",
                    package.name, package.version
                ))
                .hint(format!("if that is meant, delete `{}`", super::lock::FILE))
            })
        });
        bytes.collect()
    }

    /// A wheel that is here and whole.
    fn kept(&self, package: &Package) -> Option<Vec<u8>> {
        let mut file = open_regular(&self.place(package), WHEEL_BYTES_MAX).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let hash = hex::encode(Sha256::digest(&bytes));
        touch(&file);
        (hash == package.sha256).then_some(bytes)
    }

    fn place(&self, package: &Package) -> PathBuf {
        self.folder.join(format!("{}.whl", package.sha256))
    }

    fn download(&self, missing: &[&Package], pip: &Pip) -> Result<(), UsageError> {
        let into = temporary(&self.folder)?;
        pip.download(missing, into.path()).and_then(|()| {
            for entry in std::fs::read_dir(&into).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.extension().is_none_or(|extension| extension != "whl") {
                    continue;
                }
                let bytes = read_regular(&path, WHEEL_BYTES_MAX)
                    .map_err(|error| UsageError::new(format!("`{}`: {error}", path.display())))?;
                let hash = hex::encode(Sha256::digest(&bytes));
                std::fs::rename(&path, self.folder.join(format!("{hash}.whl")))
                    .map_err(|error| UsageError::new(format!("`{}`: {error}", self.folder.display())))?;
            }
            Ok(())
        })
    }
}

/// A folder of this user alone, which is removed when the value is dropped.
fn temporary(beside: &Path) -> Result<TempDir, UsageError> {
    tempfile::Builder::new()
        .prefix(".rollcage-wheels-")
        .tempdir_in(beside)
        .map_err(|error| UsageError::new(format!("`{}`: {error}", beside.display())))
}

fn make(folder: &Path) -> Result<(), UsageError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| UsageError::new(format!("folder `{}`: {error}", folder.display())))
}

/// The files of a wheel, as they lie in `site-packages`: code, package data, and of `*.dist-info` what
/// `importlib.metadata` needs. Further the names of native libraries in it, which are left out.
pub(super) struct Unzipped {
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) native: Vec<String>,
}

/// Unzips a wheel.
///
/// # Errors
/// It is no wheel of Python code, damaged, or too large.
pub(super) fn unzip(wheel: &[u8]) -> Result<Unzipped, UsageError> {
    let damaged = |error: zip::result::ZipError| UsageError::new(format!("it is damaged: {error}"));
    let mut archive = ZipArchive::new(Cursor::new(wheel)).map_err(damaged)?;
    if archive.len() > ENTRIES_MAX {
        return Err(UsageError::new(format!("it has more than {ENTRIES_MAX} files")));
    }
    let mut unzipped = Unzipped { files: Vec::new(), native: Vec::new() };
    let mut bytes_left = BYTES_MAX;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(damaged)?;
        if !entry.is_file() {
            continue;
        }
        // A name that is no UTF-8 is no module's.
        let Some(path) = entry.name().ok().and_then(|name| installed(&name)) else { continue };
        if is_native(&path) {
            unzipped.native.push(path);
            continue;
        }
        let mut bytes = Vec::new();
        entry
            .by_ref()
            .take(bytes_left + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| UsageError::new(format!("`{}` in it is damaged: {error}", escape_line(&path))))?;
        bytes_left = bytes_left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| UsageError::new(format!("its files have more than {BYTES_MAX} bytes")))?;
        unzipped.files.push((path, bytes));
    }
    Ok(unzipped)
}

/// Where a file of a wheel is installed, relative to `site-packages`; none for what is not bundled.
pub(super) fn installed(name: &str) -> Option<String> {
    let (first, rest) = name.split_once('/').unwrap_or((name, ""));
    let path = match first.strip_suffix(".data") {
        // Code may also lie there; scripts, headers and data of the system are of no use.
        Some(_) => rest.strip_prefix("purelib/").or_else(|| rest.strip_prefix("platlib/"))?,
        None => name,
    };
    let first = path.split('/').next().unwrap_or_default();
    if first.ends_with(".dist-info") || first.ends_with(".egg-info") {
        let file = path.split_once('/').map_or("", |(_, file)| file);
        return ["METADATA", "PKG-INFO", "entry_points.txt", "top_level.txt"].contains(&file).then(|| path.to_owned());
    }
    // Tests are half of some distributions, and an env does not run them.
    let unused = |part: &str| part.starts_with('.') || part == "__pycache__" || part == "tests" || part.is_empty();
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    let hidden = path.rsplit('/').next().is_some_and(|name| name.starts_with('.'))
        || !folders.is_empty() && folders.split('/').any(unused);
    let of_no_use =
        path.ends_with(".pyc") || path.ends_with(".pth") || path.ends_with(".pyi") || path.ends_with("/py.typed");
    (!hidden && !of_no_use && crate::assets::check_path(path).is_ok()).then(|| path.to_owned())
}

/// Whether a file is a native library.
pub(super) fn is_native(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    [".so", ".pyd", ".dll", ".dylib", ".exe"].iter().any(|ending| name.ends_with(ending)) || name.contains(".so.")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    pub(crate) fn wheel(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn a_wheel_is_unzipped_as_it_would_be_installed() {
        let wheel = wheel(&[
            ("maze/__init__.py", b"a"),
            ("maze/levels.json", b"{}"),
            ("maze/_fast.cpython-314-x86_64-linux-gnu.so", b"elf"),
            ("maze/__pycache__/x.pyc", b""),
            ("maze/.hidden/x.py", b""),
            ("maze/.hidden.py", b""),
            ("maze/tests/test_x.py", b""),
            ("maze/tests.py", b"c"),
            ("../../etc/passwd", b""),
            ("/etc/passwd", b""),
            ("maze-1.0.data/purelib/more.py", b"b"),
            ("maze-1.0.data/scripts/maze", b""),
            ("maze-1.0.dist-info/METADATA", b"Name: maze"),
            ("maze-1.0.dist-info/RECORD", b""),
            ("maze-1.0.dist-info/entry_points.txt", b""),
        ]);
        let unzipped = unzip(&wheel).unwrap();
        let names: Vec<&str> = unzipped.files.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "maze/__init__.py",
            "maze/levels.json",
            "maze/tests.py",
            "more.py",
            "maze-1.0.dist-info/METADATA",
            "maze-1.0.dist-info/entry_points.txt",
        ];
        assert_eq!(names, expected);
        assert_eq!(unzipped.native, ["maze/_fast.cpython-314-x86_64-linux-gnu.so"]);
        assert!(unzip(b"no zip").is_err());
        let mut torn = wheel.clone();
        torn.truncate(wheel.len() / 2);
        assert!(unzip(&torn).is_err());
    }

    /// A megabyte of zeros is a kilobyte in a wheel.
    #[test]
    fn a_wheel_cannot_unfold_without_end() {
        let zeros = vec![0; 8 << 20];
        let names: Vec<String> = (0..9).map(|number| format!("maze/{number}.bin")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), zeros.as_slice())).collect();
        let wheel = wheel(&files);
        assert!(wheel.len() < 1 << 20);
        let error = unzip(&wheel).err().unwrap();
        assert_eq!(error.message, format!("its files have more than {BYTES_MAX} bytes"));
    }
}
