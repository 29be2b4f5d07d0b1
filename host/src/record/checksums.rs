//! The files of a recording: which files may lie in its folder, how long each may be, and their hashes. To its readers
//! a recording is untrusted.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{CAPTURE, CHECKSUMS, MANIFEST, PLUGIN, env_of_capture};
use crate::digest::Digest;
use crate::files::open_regular;
use crate::limits::Limits;
use crate::record::capture::CAPTURE_BYTES_MAX;
use crate::record::number_of_part;

/// Creates a file that does not exist yet.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Writes a whole file, or nothing, in this recording's folder. Returns the file.
pub(super) fn write_whole(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    let temporary = folder.join(format!("{name}.tmp"));
    let mut file = create_new(&temporary)?;
    if let Err(error) = write(&mut file).and_then(|()| fs::rename(&temporary, folder.join(name))) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(file)
}

/// The checksums of every other file, as `b3sum` prints them.
pub(super) fn write_checksums(folder: &Path) -> io::Result<()> {
    let mut lines = String::new();
    // A file that somebody else put there does not belong to the recording: verifying reports it.
    for name in crate::record::checksums::files(folder)?
        .into_iter()
        .filter(|name| crate::record::checksums::limit_of(name).is_some())
    {
        let hash = crate::record::checksums::hash_file(folder, &name)?;
        lines.push_str(&format!("{hash}  {name}\n"));
    }
    write_whole(folder, CHECKSUMS, |file| file.write_all(lines.as_bytes())).map(drop)
}

/// Bytes of a manifest: it contains a config for each of up to 4,096 envs.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 512 << 20;

/// Files of a recording: one part every five seconds, for two months.
pub(crate) const FILES_MAX: usize = 1 << 20;

/// The files of a recording except the checksums, sorted by name. Of all folders only the captures' is looked into, and
/// only if it is a folder.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut add = |inside: &Path, prefix: &str| -> io::Result<bool> {
        let mut has_captures = false;
        for entry in fs::read_dir(inside)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|_| io::Error::other("a file's name is not UTF-8"))?;
            let is_own_folder = prefix.is_empty() && name == CAPTURE && entry.file_type()?.is_dir();
            has_captures |= is_own_folder;
            if !is_own_folder && name != CHECKSUMS && !name.ends_with(".tmp") {
                names.push(format!("{prefix}{name}"));
            }
            if names.len() > FILES_MAX {
                return Err(io::Error::other(format!("more than {FILES_MAX} files")));
            }
        }
        Ok(has_captures)
    };
    if add(folder, "")? {
        add(&folder.join(CAPTURE), &format!("{CAPTURE}/"))?;
    }
    names.sort_unstable();
    Ok(names)
}

/// Bytes that a file of this name may have; none if a recording has no such file.
pub(crate) fn limit_of(name: &str) -> Option<u64> {
    let captured = name.strip_prefix(CAPTURE).and_then(|rest| rest.strip_prefix('/')).and_then(env_of_capture);
    match name {
        MANIFEST => Some(MANIFEST_BYTES_MAX),
        PLUGIN => Some(Limits::default().plugin_bytes),
        _ if number_of_part(name).is_some() => Some(PART_FILE_BYTES_MAX),
        _ => captured.map(|_| CAPTURE_BYTES_MAX),
    }
}

/// BLAKE3 of a recording's file.
pub(crate) fn hash_file(folder: &Path, name: &str) -> io::Result<Digest> {
    let limit = limit_of(name).ok_or_else(|| io::Error::other("it is no file of a recording"))?;
    let mut hasher = blake3::Hasher::new();
    // The read stays bounded even if the file grows meanwhile.
    hasher.update_reader(open_regular(&folder.join(name), limit)?.take(limit))?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// Bytes of a part's file: its values, one more row of the largest size, and the format around them.
pub(crate) const PART_FILE_BYTES_MAX: u64 = 512 << 20;
