//! A plugin's assets as its guest reads them: the section's index, and the bytes of its files by `pread64`.
//!
//! The section (`docs/assets.md`) is untrusted. It is read behind both filters, and everything it claims is checked once,
//! in [`Assets::open`]. Nothing of a file's bytes is read before the guest asks for them.

use std::os::fd::OwnedFd;

use crate::assets::{FILES_MAX, INDEX_LEN_BYTES, MAGIC, PATH_BYTES_MAX, SECTION, TRAILER_BYTES, check_path};
use crate::wire::sealed::Sealed;

/// Bytes of one read: a guest that asks for more gets this many, and asks again.
pub(crate) const READ_BYTES_MAX: u32 = 1 << 20;

/// Bytes of an index entry beside its path.
const ENTRY_BYTES: usize = 2 + 8;

/// Where the bytes of a section are.
#[derive(Debug)]
pub(crate) enum Section {
    /// In a file, read by `pread64`.
    File(OwnedFd),
    /// In memory.
    Mapped(Sealed),
}

/// The files inside a plugin. The default is none.
#[derive(Debug, Default)]
pub(crate) struct Assets {
    section: Option<Section>,
    /// In the order of their paths.
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    path: String,
    /// Where its bytes begin in the section.
    at: u64,
    bytes: u64,
}

impl Assets {
    /// Reads and checks the index of a section of this many bytes.
    ///
    /// # Errors
    /// The rule that the section breaks.
    pub(crate) fn open(section: Section, bytes: u64) -> Result<Assets, String> {
        let end = usize::try_from(bytes).map_err(|error| error.to_string())?;
        let before_index = index_begins(&section, end)?;
        let index = read(&section, before_index, end - TRAILER_BYTES - INDEX_LEN_BYTES - before_index)?;
        let data = header_ends(&section, end)?;
        let files = parse(&index, data as u64, before_index as u64)?;
        Ok(Assets { section: Some(section), files })
    }

    /// The paths of all files, in order.
    pub(crate) fn list(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str())
    }

    /// Bytes of a file, if it exists.
    pub(crate) fn size(&self, path: &str) -> Option<u64> {
        self.find(path).map(|file| file.bytes)
    }

    /// Reads at most `length` bytes of a file from `offset`, and at most [`READ_BYTES_MAX`]. None: there is no such file.
    ///
    /// # Errors
    /// The system cannot read what it holds in memory.
    pub(crate) fn read(&self, path: &str, offset: u64, length: u32) -> Result<Option<Vec<u8>>, String> {
        let (Some(file), Some(section)) = (self.find(path), &self.section) else { return Ok(None) };
        let left = file.bytes.saturating_sub(offset);
        let length = u64::from(length.min(READ_BYTES_MAX)).min(left);
        let (Ok(at), Ok(length)) = (usize::try_from(file.at.saturating_add(offset)), usize::try_from(length)) else {
            return Ok(Some(Vec::new()));
        };
        if length == 0 { Ok(Some(Vec::new())) } else { read(section, at, length).map(Some) }
    }

    fn find(&self, path: &str) -> Option<&File> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(at)
    }
}

/// Where the index begins, as the end of the section says.
fn index_begins(section: &Section, end: usize) -> Result<usize, String> {
    let tail_bytes = INDEX_LEN_BYTES + TRAILER_BYTES;
    let at = end.checked_sub(tail_bytes).ok_or("the section is shorter than its trailer")?;
    let tail = read(section, at, tail_bytes)?;
    let (count, trailer) = tail.split_first_chunk::<INDEX_LEN_BYTES>().ok_or("the section has no end")?;
    let (length, magic) = trailer.split_first_chunk::<8>().ok_or("the section has no trailer")?;
    if magic != MAGIC || u64::from_le_bytes(*length) != end as u64 {
        return Err("the trailer does not fit the section".to_owned());
    }
    let count = u32::from_le_bytes(*count) as usize;
    if count > FILES_MAX * (ENTRY_BYTES + PATH_BYTES_MAX) {
        return Err(format!("the index claims {count} bytes"));
    }
    at.checked_sub(count).ok_or_else(|| format!("the index claims {count} bytes, and the section has {end}"))
}

/// Where the header ends: the section's id, its size and its name.
fn header_ends(section: &Section, end: usize) -> Result<usize, String> {
    const BYTES_MAX: usize = 1 + 5 + 1 + SECTION.len();
    let header = read(section, 0, BYTES_MAX.min(end))?;
    let wrong = || "the section's header is not that of a custom section of its length".to_owned();
    let (id, mut rest) = header.split_first().ok_or_else(wrong)?;
    let (mut size, mut shift) = (0_u64, 0);
    loop {
        let (byte, after) = rest.split_first().filter(|_| shift < 35).ok_or_else(wrong)?;
        rest = after;
        size |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let size_ends = header.len() - rest.len();
    if *id != 0 || size != (end - size_ends) as u64 {
        return Err(wrong());
    }
    let name = rest.get(1..=SECTION.len());
    if rest.first().map(|length| usize::from(*length)) != Some(SECTION.len()) || name != Some(SECTION.as_bytes()) {
        return Err(format!("the section's name is not `{SECTION}`"));
    }
    Ok(size_ends + 1 + SECTION.len())
}

/// The files of an index, whose bytes must fill the section from `begin` to `end`.
fn parse(mut index: &[u8], begin: u64, end: u64) -> Result<Vec<File>, String> {
    let mut files: Vec<File> = Vec::new();
    let mut at = begin;
    while !index.is_empty() {
        if files.len() == FILES_MAX {
            return Err(format!("more than {FILES_MAX} files"));
        }
        let cut_short = || "the index ends within an entry".to_owned();
        let (length, rest) = index.split_first_chunk::<2>().ok_or_else(cut_short)?;
        let (path, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or_else(cut_short)?;
        let (bytes, rest) = rest.split_first_chunk::<8>().ok_or_else(cut_short)?;
        index = rest;
        let path = std::str::from_utf8(path).map_err(|_| "a path is not UTF-8".to_owned())?;
        let shown = || crate::text::escape_line(path);
        check_path(path).map_err(|rule| format!("the path `{}`: {rule}", shown()))?;
        if files.last().is_some_and(|last| last.path.as_str() >= path) {
            return Err(format!("the path `{}` is not behind the one before it", shown()));
        }
        let bytes = u64::from_le_bytes(*bytes);
        let next = at.checked_add(bytes).filter(|next| *next <= end);
        let next = next.ok_or_else(|| format!("the file `{}` ends behind the files", shown()))?;
        files.push(File { path: path.to_owned(), at, bytes });
        at = next;
    }
    if at != end {
        return Err(format!("{} bytes belong to no file", end.saturating_sub(at)));
    }
    match files.iter().find_map(|file| file_above(&files, &file.path)) {
        Some(folder) => {
            Err(format!("the path `{}` is a file, and a folder of others", crate::text::escape_line(folder)))
        }
        None => Ok(files),
    }
}

/// The file, if there is one, whose path is a folder of this path.
fn file_above<'a>(files: &'a [File], path: &str) -> Option<&'a str> {
    path.match_indices('/').find_map(|(at, _)| {
        let folder = path.get(..at)?;
        let found = files.binary_search_by(|file| file.path.as_str().cmp(folder)).ok()?;
        files.get(found).map(|file| file.path.as_str())
    })
}

/// Reads this many bytes at an offset of the section.
fn read(section: &Section, at: usize, length: usize) -> Result<Vec<u8>, String> {
    let section = match section {
        Section::File(file) => file,
        Section::Mapped(memory) => {
            let bytes = memory.bytes().get(at..at.saturating_add(length));
            return bytes.map(<[u8]>::to_vec).ok_or_else(|| "the section ends too early".to_owned());
        }
    };
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        match rustix::io::pread(section, &mut bytes[done..], (at + done) as u64) {
            Ok(0) => return Err("the section ends too early".to_owned()),
            Ok(count) => done += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// An index of these entries, and the bytes of its files.
    fn section(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
        let data: Vec<u8> = entries.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let mut index = Vec::new();
        for (path, bytes) in entries {
            index.extend(u16::try_from(path.len()).unwrap().to_le_bytes());
            index.extend(*path);
            index.extend((bytes.len() as u64).to_le_bytes());
        }
        around(&data, &index)
    }

    fn around(data: &[u8], index: &[u8]) -> Vec<u8> {
        let rest = 16 + data.len() + index.len() + INDEX_LEN_BYTES + TRAILER_BYTES;
        let septet = |at: usize| u8::try_from(rest >> (7 * at) & 0x7f).unwrap();
        let mut section = vec![0, septet(0) | 0x80, septet(1) | 0x80, septet(2) | 0x80, septet(3)];
        section.push(15);
        section.extend(SECTION.as_bytes());
        section.extend(data);
        section.extend(index);
        section.extend(u32::try_from(index.len()).unwrap().to_le_bytes());
        section.extend((section.len() as u64 + 16).to_le_bytes());
        section.extend(MAGIC);
        section
    }

    fn open(bytes: &[u8]) -> Result<Assets, String> {
        let memory = rustix::fs::memfd_create("assets", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(rustix::io::write(&memory, bytes).unwrap(), bytes.len());
        Assets::open(Section::File(memory), bytes.len() as u64)
    }

    #[test]
    fn files_are_listed_and_read() {
        let assets = open(&section(&[(b"a/b", b"hello"), (b"a/c", b""), (b"d", b"x")])).unwrap();
        assert_eq!(assets.list().collect::<Vec<_>>(), ["a/b", "a/c", "d"]);
        assert_eq!([assets.size("a/b"), assets.size("a/c"), assets.size("a")], [Some(5), Some(0), None]);
        for (path, offset, length, read) in [
            ("a/b", 0, 100, Some(&b"hello"[..])),
            ("a/b", 1, 2, Some(b"el")),
            ("a/b", 5, 2, Some(b"")),
            ("a/b", u64::MAX, u32::MAX, Some(b"")),
            ("a/c", 0, 9, Some(b"")),
            ("d", 0, 1, Some(b"x")),
            ("nowhere", 0, 1, None),
        ] {
            assert_eq!(assets.read(path, offset, length).unwrap().as_deref(), read, "{path} {offset} {length}");
        }
        assert_eq!(open(&section(&[])).unwrap().list().count(), 0);
        let large = vec![5; 3 << 20];
        let assets = open(&section(&[(b"large", &large)])).unwrap();
        assert_eq!(assets.read("large", 0, u32::MAX).unwrap().unwrap().len(), READ_BYTES_MAX as usize);
    }

    #[test]
    fn a_section_that_breaks_a_rule_is_refused_in_words() {
        let good = section(&[(b"a", b"one"), (b"b", b"two")]);
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let end = good.len();
        for (bytes, why) in [
            (section(&[(b"../a", b"")]), "the part `..`"),
            (section(&[(b"/etc/passwd", b"")]), "empty part"),
            (section(&[(b"", b"")]), "it is empty"),
            (section(&[(b"a\0", b"")]), "control character"),
            (section(&[(b"\xff", b"")]), "not UTF-8"),
            (section(&[(b"b", b""), (b"a", b"")]), "not behind the one before"),
            (section(&[(b"a", b""), (b"a", b"")]), "not behind the one before"),
            (section(&[(b"a", b""), (b"a-b", b""), (b"a/b", b"")]), "the path `a` is a file, and a folder"),
            (around(b"12345", &section_index(b"a", 4)), "1 bytes belong to no file"),
            (around(b"12345", &section_index(b"a", 6)), "ends behind the files"),
            (around(b"12345", &section_index(b"a", u64::MAX)), "ends behind the files"),
            (around(b"", &[1, 0, b'a']), "ends within an entry"),
            (around(b"", &[1]), "ends within an entry"),
            (changed(0, 1), "not that of a custom section"),
            (changed(1, 0x81), "not that of a custom section"),
            (changed(5, 14), "the section's name is not"),
            (changed(7, b'x'), "the section's name is not"),
            (changed(end - 1, b'x'), "the trailer does not fit"),
            (changed(end - 16, 0), "the trailer does not fit"),
            (changed(end - 20, 0xff), "the index claims"),
            (changed(end - 17, 0xff), "the index claims"),
            (b"short".to_vec(), "shorter than its trailer"),
            (Vec::new(), "shorter than its trailer"),
        ] {
            let said = open(&bytes).err();
            assert!(said.as_ref().is_some_and(|said| said.contains(why)), "{why}: {said:?}");
        }
    }

    fn section_index(path: &[u8], bytes: u64) -> Vec<u8> {
        let mut index = u16::try_from(path.len()).unwrap().to_le_bytes().to_vec();
        index.extend(path);
        index.extend(bytes.to_le_bytes());
        index
    }
}
