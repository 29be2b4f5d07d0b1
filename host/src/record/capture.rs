//! `capture/ENV.bin`: what came in from outside, record by record. This file has the records, and finds where the
//! records of an instance begin. A worker writes and reads them (`worker/wasi/capture.rs`); the host looks only at
//! their lengths.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::open_regular;

/// Bytes of a record: a read of 64 KiB, or the most randomness that a guest gets at once, and the fields around it.
pub(crate) const RECORD_BYTES_MAX: u32 = 64 << 20;

/// Bytes of one env's capture. A worker that would write more ends with a fault.
pub(crate) const CAPTURE_BYTES_MAX: u64 = 16 << 30;

/// The call of a record that begins an instance. Its result is the instance number, u32, little-endian.
const INSTANCE: &str = "instance";

/// A record: one call to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The call's name.
    pub(crate) call: String,
    /// BLAKE3 of what the guest sent with the call.
    pub(crate) sent: [u8; 32],
    /// The call's result, in `postcard`.
    pub(crate) result: Vec<u8>,
}

/// Opens an env's capture for the next instance. A record that the instance before left unfinished is cut off.
pub(crate) fn begin_instance(path: &Path, instance: u32) -> io::Result<OwnedFd> {
    let options = |options: &mut OpenOptions| -> io::Result<File> {
        options.mode(0o644).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = options(OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
    let mut whole = 0;
    walk(&file, |at, _| {
        whole = at;
        Ok(true)
    })?;
    file.set_len(whole)?;
    drop(file);
    let mut file = options(OpenOptions::new().append(true))?;
    let record = Record { call: INSTANCE.to_owned(), sent: [0; 32], result: instance.to_le_bytes().to_vec() };
    let bytes = postcard::to_stdvec(&record).map_err(io::Error::other)?;
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    file.write_all(&[&len.to_le_bytes(), bytes.as_slice()].concat())?;
    Ok(file.into())
}

/// Opens an env's capture, and finds where the records of an instance begin.
pub(crate) fn of_instance(path: &Path, instance: u32) -> io::Result<(OwnedFd, u64)> {
    let file = open_regular(path, CAPTURE_BYTES_MAX)?;
    let mut begins = None;
    let wanted = Record { call: INSTANCE.to_owned(), sent: [0; 32], result: instance.to_le_bytes().to_vec() };
    let wanted = postcard::to_stdvec(&wanted).map_err(io::Error::other)?;
    walk(&file, |end, bytes| {
        let found = bytes == wanted;
        begins = begins.or(found.then_some(end));
        Ok(!found)
    })?;
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("nothing was captured of instance {instance}"));
    Ok((file.into(), begins.ok_or_else(missing)?))
}

/// Visits every whole record, with the offset of its end; false ends the walk. Of a long record only the first bytes
/// are shown.
fn walk(file: &File, mut each: impl FnMut(u64, &[u8]) -> io::Result<bool>) -> io::Result<()> {
    /// Bytes of a record that are looked at: more than a record that begins an instance has.
    const SHOWN: usize = 64;
    let total = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let mut at = 0;
    loop {
        let mut len = [0; 4];
        match reader.read_exact(&mut len) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let len = u64::from(u32::from_le_bytes(len));
        // No record is empty: a length of 0 is a hole in the file.
        if len == 0 || len > u64::from(RECORD_BYTES_MAX) || at + 4 + len > total {
            return Ok(());
        }
        let mut shown = [0; SHOWN];
        let shown = &mut shown[..SHOWN.min(usize::try_from(len).unwrap_or(SHOWN))];
        reader.read_exact(shown)?;
        reader.seek_relative(i64::try_from(len).unwrap_or(i64::MAX) - i64::try_from(shown.len()).unwrap_or(0))?;
        at += 4 + len;
        if !each(at, shown)? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    #[test]
    fn a_torn_record_goes_and_each_instance_finds_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("captured/0.bin");
        let mut first = File::from(begin_instance(&path, 0).expect("a file"));
        first.write_all(&[3, 0, 0, 0, 1, 2, 3]).expect("a record");
        first.write_all(&[9, 0, 0, 0, 1]).expect("a torn one");
        let mut second = File::from(begin_instance(&path, 2).expect("a file"));
        second.write_all(&[1, 0, 0, 0, 7]).expect("a record");

        let rest = |instance| {
            let mut bytes = Vec::new();
            let (file, at) = of_instance(&path, instance).expect("it is there");
            let mut file = File::from(file);
            file.seek(std::io::SeekFrom::Start(at)).expect("a file");
            file.read_to_end(&mut bytes).expect("bytes");
            bytes
        };
        assert_eq!(rest(2), [1, 0, 0, 0, 7]);
        assert!(rest(0).starts_with(&[3, 0, 0, 0, 1, 2, 3]) && rest(0).ends_with(&rest(2)));
        assert!(of_instance(&path, 1).is_err());
        std::fs::remove_dir_all(folder).expect("it was there");
    }
}
