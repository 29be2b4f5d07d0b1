//! The files of a recording, which is a stranger's to whoever reads it: what may lie in its folder, how long each file may be, and
//! their hashes.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::CAPTURE;

use super::CHECKSUMS;

use super::MANIFEST;

use super::PLUGIN;

use super::env_of_capture;
use crate::digest::Digest;
use crate::files::open_regular;
use crate::limits::Limits;
use crate::record::capture::CAPTURE_BYTES_MAX;
use crate::record::number_of_part;

/// Makes a file that is not there.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Writes a file whole, or not at all, in a folder that is this recording's. Returns it.
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
    // What somebody else has put there is not the recording's: whoever reads it says so.
    for name in crate::record::checksums::files(folder)?
        .into_iter()
        .filter(|name| crate::record::checksums::limit_of(name).is_some())
    {
        let hash = crate::record::checksums::hash_file(folder, &name)?;
        lines.push_str(&format!("{hash}  {name}\n"));
    }
    write_whole(folder, CHECKSUMS, |file| file.write_all(lines.as_bytes())).map(drop)
}

/// Bytes of a manifest: a config for each of 4,096 envs is a part of it.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 512 << 20;

/// Files of a recording: a part in five seconds for two months.
pub(crate) const FILES_MAX: usize = 1 << 20;

/// The files of a recording but the checksums, in the order of their names. No folder but that of captures is looked into, and
/// that only if it is one.
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

/// Bytes that a file of this name may have; none: a recording has no such file.
pub(crate) fn limit_of(name: &str) -> Option<u64> {
    let captured = name.strip_prefix(CAPTURE).and_then(|rest| rest.strip_prefix('/')).and_then(env_of_capture);
    match name {
        MANIFEST => Some(MANIFEST_BYTES_MAX),
        PLUGIN => Some(Limits::default().plugin_bytes),
        _ if number_of_part(name).is_some() => Some(PART_FILE_BYTES_MAX),
        _ => captured.map(|_| CAPTURE_BYTES_MAX),
    }
}

/// BLAKE3 of a file of a recording's.
pub(crate) fn hash_file(folder: &Path, name: &str) -> io::Result<Digest> {
    let limit = limit_of(name).ok_or_else(|| io::Error::other("it is no file of a recording"))?;
    let mut hasher = blake3::Hasher::new();
    // Bounded even if it grows while it is read.
    hasher.update_reader(open_regular(&folder.join(name), limit)?.take(limit))?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// Bytes of a part's file: its values, one more row of the largest, and what is around them.
pub(crate) const PART_FILE_BYTES_MAX: u64 = 512 << 20;
