//! Reading and writing files safely. An untrusted path is read only if it is a regular file of bounded size. A file
//! written for others appears in its place whole, or not at all.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use tempfile::{TempDir, TempPath};

/// Bytes of a file from which on it is checked for holes.
const SPARSE_FROM_BYTES: u64 = 64 << 20;

/// How many times its size on the disk such a file may be long. File systems that compress come nowhere near.
const SPARSE_TIMES_MAX: u64 = 256;

/// Bytes of a block, as `stat` counts them.
const BLOCK_BYTES: u64 = 512;

/// The path from the root: a kept path must mean the same after the working directory has changed. A path that cannot
/// be made absolute (an empty one) stays as it is, and its use reports it.
pub(crate) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Opens an untrusted file for reading: a regular file of at most `limit` bytes, and no link. Never blocks.
///
/// # Errors
/// The system's error; or what the file is instead, as a fragment.
pub(crate) fn open_regular(path: &Path, limit: u64) -> io::Result<File> {
    // Checked before opening, since opening a device has effects; and afterwards, since it may be another file then.
    check(&fs::symlink_metadata(path)?, limit)?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    check(&file.metadata()?, limit)?;
    Ok(file)
}

/// Reads a whole untrusted file.
///
/// # Errors
/// As for [`open_regular`].
pub(crate) fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more byte shows that the file has grown.
    open_regular(path, limit)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(too_long(bytes.len() as u64, limit));
    }
    Ok(bytes)
}

fn check(metadata: &Metadata, limit: u64) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => None,
        () if kind.is_symlink() => Some("a link, and none is followed here"),
        () if kind.is_dir() => Some("a folder, and no file"),
        () if kind.is_fifo() => Some("a FIFO, and no regular file"),
        () if kind.is_socket() => Some("a socket, and no regular file"),
        () => Some("a device, and no regular file"),
    };
    if let Some(what) = what {
        return Err(io::Error::other(format!("it is {what}")));
    }
    let (bytes, on_disk) = (metadata.len(), metadata.blocks().saturating_mul(BLOCK_BYTES));
    if bytes > limit {
        return Err(too_long(bytes, limit));
    }
    if bytes >= SPARSE_FROM_BYTES && on_disk.saturating_mul(SPARSE_TIMES_MAX) < bytes {
        return Err(io::Error::other(format!("it is a sparse file: {bytes} bytes long, {on_disk} bytes on the disk")));
    }
    Ok(())
}

fn too_long(bytes: u64, limit: u64) -> io::Error {
    io::Error::other(format!("it has {bytes} bytes; the limit is {limit}"))
}

/// A file or folder that is written beside its place, and moved there when it is whole. If it is dropped before, it is
/// removed, so that an unfinished file is in nobody's way.
pub(crate) struct Beside {
    place: PathBuf,
    temporary: Temporary,
}

enum Temporary {
    File(TempPath),
    Folder(TempDir),
}

impl Beside {
    /// Makes a file beside `place`, where nothing may exist yet.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`]: something is there. Otherwise the system's error.
    pub(crate) fn file(place: &Path) -> io::Result<(Beside, File)> {
        let (place, prefix, folder) = free(place)?;
        let permissions = Permissions::from_mode(0o666);
        let made = temporary(&prefix).permissions(permissions).tempfile_in(folder)?;
        let (file, path) = made.into_parts();
        Ok((Beside { place, temporary: Temporary::File(path) }, file))
    }

    /// As [`Beside::file`], for a folder. Returns the folder to write into.
    ///
    /// # Errors
    /// As [`Beside::file`].
    pub(crate) fn folder(place: &Path) -> io::Result<(Beside, PathBuf)> {
        let (place, prefix, folder) = free(place)?;
        let permissions = Permissions::from_mode(0o777);
        let made = temporary(&prefix).permissions(permissions).tempdir_in(folder)?;
        let path = made.path().to_owned();
        Ok((Beside { place, temporary: Temporary::Folder(made) }, path))
    }

    /// Moves the file or folder to its place. If something is there by now, it stays, and this fails.
    ///
    /// # Errors
    /// As [`Beside::file`].
    pub(crate) fn put(self) -> io::Result<()> {
        match self.temporary {
            Temporary::File(path) => Ok(path.persist_noclobber(&self.place)?),
            Temporary::Folder(mut folder) => {
                match rustix::fs::renameat_with(CWD, folder.path(), CWD, &self.place, RenameFlags::NOREPLACE) {
                    // Not every file system supports the flag.
                    Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(&self.place).is_err() => {
                        fs::rename(folder.path(), &self.place)?;
                    }
                    renamed => renamed?,
                }
                folder.disable_cleanup(true);
                Ok(())
            }
        }
    }
}

/// Writes a file whole beside its place and moves it there, in place of an older one: a reader that has the old file open reads
/// on.
///
/// # Errors
/// The system's.
pub fn replace(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let (place, prefix, folder) = named(place)?;
    let mut file = temporary(&prefix).permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(place)?;
    Ok(())
}

/// A place where nothing is yet: its absolute path, the prefix of what is made beside it, and its folder.
fn free(place: &Path) -> io::Result<(PathBuf, String, PathBuf)> {
    let named = named(place)?;
    if fs::symlink_metadata(&named.0).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    Ok(named)
}

fn named(place: &Path) -> io::Result<(PathBuf, String, PathBuf)> {
    let place = std::path::absolute(place)?;
    let name = place.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
    // Hidden, so that nobody takes the unfinished file for the finished one.
    let prefix = format!(".{name}.");
    let folder = place.parent().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    Ok((place, prefix, folder))
}

fn temporary(prefix: &str) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(".tmp");
    builder
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_of_bounded_size_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let told = |limit| open_regular(&path, limit).unwrap_err().to_string();
        rustix::fs::mkfifoat(CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(told(9), "it is a FIFO, and no regular file");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(told(9), "it is a link, and none is followed here");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(told(9), "it is a folder, and no file");
        fs::remove_dir(&path).unwrap();
        File::create(&path).unwrap().set_len(9 << 30).unwrap();
        assert_eq!(told(9), format!("it has {} bytes; the limit is 9", 9u64 << 30));
        assert!(told(u64::MAX).starts_with("it is a sparse file: "), "{}", told(u64::MAX));
        fs::write(&path, "whole").unwrap();
        assert_eq!(read_regular(&path, 5).unwrap(), b"whole");
        assert_eq!(told(4), "it has 5 bytes; the limit is 4");
    }

    #[test]
    fn what_is_broken_off_is_gone_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        let (broken, mut file) = Beside::file(&place).unwrap();
        file.write_all(b"half").unwrap();
        assert!(names() == 1 && !place.exists());
        drop(broken);
        let (broken, inside) = Beside::folder(&place).unwrap();
        fs::write(inside.join("a"), "a").unwrap();
        drop(broken);
        assert_eq!(names(), 0);

        let (first, mut file) = Beside::file(&place).unwrap();
        file.write_all(b"mine").unwrap();
        let (second, _) = Beside::folder(&place).unwrap();
        first.put().unwrap();
        assert_eq!(second.put().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(Beside::file(&place).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&place).unwrap().as_slice(), names()), (&b"mine"[..], 1));
    }
}
