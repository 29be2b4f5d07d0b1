//! The assets section of a plugin as bytes: written behind the code of a base, and cut off again. `docs/assets.md` is the
//! contract. Nothing is parsed here: a section is found by the trailer that ends it.

use std::collections::BTreeMap;

use crate::assets::{self, BYTES_MAX, FILES_MAX, INDEX_LEN_BYTES, MAGIC, SECTION, TRAILER_BYTES};
use crate::error::UsageError;

/// Files by their paths. The order of the keys is the order of their bytes, which is that of the section.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Puts an assets section behind a component that has none.
///
/// # Errors
/// A path or a number breaks a rule of the format.
pub fn attach(code: &[u8], files: &Files) -> Result<Vec<u8>, UsageError> {
    check(files)?;
    let archive_max = files.iter().map(|(path, bytes)| path.len() + bytes.len() + 10).sum::<usize>() + 64;
    let mut plugin = Vec::with_capacity(code.len() + archive_max);
    plugin.extend_from_slice(code);
    write(&mut plugin, files);
    Ok(plugin)
}

/// Cuts a plugin into its code and its assets section. The section is none for a plugin without assets.
///
/// # Errors
/// The file ends as if it had assets, and its trailer cannot be right.
pub fn detach(plugin: &[u8]) -> Result<(&[u8], Option<&[u8]>), UsageError> {
    if !plugin.ends_with(&MAGIC) {
        return Ok((plugin, None));
    }
    let damaged = |what: String| UsageError::new(format!("its assets section is damaged: {what}"));
    let (code, archive) = plugin.split_at(assets::split(plugin).map_err(damaged)?);
    // The first byte of a custom section.
    if archive.first() != Some(&0) {
        return Err(damaged("it does not begin as a custom section does".to_owned()));
    }
    Ok((code, Some(archive)))
}

/// The bytes of an archive's files, back to back, in the order of their paths.
pub(super) fn contents(archive: &[u8]) -> Option<&[u8]> {
    let name_at = archive.windows(SECTION.len()).take(16).position(|window| window == SECTION.as_bytes())?;
    let without_trailer = archive.get(name_at + SECTION.len()..archive.len().checked_sub(TRAILER_BYTES)?)?;
    let (rest, index_len) = without_trailer.split_last_chunk::<INDEX_LEN_BYTES>()?;
    rest.get(..rest.len().checked_sub(u32::from_le_bytes(*index_len) as usize)?)
}

fn check(files: &Files) -> Result<(), UsageError> {
    if files.len() > FILES_MAX {
        return Err(UsageError::new(format!("{} files; a plugin carries at most {FILES_MAX}", files.len())));
    }
    for path in files.keys() {
        let shown = crate::text::escape_line(path);
        assets::check_path(path).map_err(|rule| UsageError::new(format!("file `{shown}`: {rule}")))?;
        let folder = path.match_indices('/').map(|(at, _)| &path[..at]).find(|folder| files.contains_key(*folder));
        if let Some(folder) = folder {
            let folder = crate::text::escape_line(folder);
            return Err(UsageError::new(format!("file `{shown}`: there is also a file `{folder}`")));
        }
    }
    let bytes: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
    if bytes + 64 + files.keys().map(|path| path.len() as u64 + 10).sum::<u64>() > BYTES_MAX {
        return Err(UsageError::new(format!("{bytes} bytes of files; a plugin carries at most {BYTES_MAX}")));
    }
    Ok(())
}

/// Writes the section. `files` is within the format's limits.
fn write(plugin: &mut Vec<u8>, files: &Files) {
    let mut index = Vec::new();
    for (path, bytes) in files {
        index.extend_from_slice(&u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
        index.extend_from_slice(path.as_bytes());
        index.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    }
    let contents: usize = files.values().map(Vec::len).sum();
    let rest = 1 + SECTION.len() + contents + index.len() + INDEX_LEN_BYTES + TRAILER_BYTES;
    let size = leb128(u32::try_from(rest).unwrap_or(u32::MAX));
    let whole = 1 + size.len() + rest;
    plugin.push(0);
    plugin.extend_from_slice(&size);
    plugin.push(u8::try_from(SECTION.len()).unwrap_or(u8::MAX));
    plugin.extend_from_slice(SECTION.as_bytes());
    files.values().for_each(|bytes| plugin.extend_from_slice(bytes));
    plugin.extend_from_slice(&index);
    plugin.extend_from_slice(&u32::try_from(index.len()).unwrap_or(u32::MAX).to_le_bytes());
    plugin.extend_from_slice(&(whole as u64).to_le_bytes());
    plugin.extend_from_slice(&MAGIC);
}

/// A number in LEB128, as WebAssembly writes sizes.
fn leb128(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn files(given: &[(&str, &[u8])]) -> Files {
        given.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect()
    }

    /// An empty component: magic, version, layer.
    const CODE: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_section_has_the_bytes_of_the_contract() {
        let plugin = attach(CODE, &files(&[("b", b"two"), ("a/x", b"one")])).unwrap();
        let mut expected = CODE.to_vec();
        let rest: &[u8] = b"\x0frollcage:assetsonetwo\x03\0a/x\x03\0\0\0\0\0\0\0\x01\0b\x03\0\0\0\0\0\0\0";
        let length = rest.len() + 4 + 16;
        expected.extend_from_slice(&[0, u8::try_from(length).unwrap()]);
        expected.extend_from_slice(rest);
        expected.extend_from_slice(&24u32.to_le_bytes());
        expected.extend_from_slice(&(length as u64 + 2).to_le_bytes());
        expected.extend_from_slice(b"rcassets");
        assert_eq!(plugin, expected);
    }

    #[test]
    fn what_was_attached_is_cut_off_again() {
        for given in [files(&[]), files(&[("a", b"")]), files(&[("a", &[7; 100_000]), ("b", b"rcassets")])] {
            let plugin = attach(CODE, &given).unwrap();
            let (code, archive) = detach(&plugin).unwrap();
            assert_eq!(code, CODE);
            assert_eq!(contents(archive.unwrap()).unwrap(), given.values().flatten().copied().collect::<Vec<u8>>());
        }
        assert_eq!(detach(CODE).unwrap(), (CODE, None));
    }

    #[test]
    fn a_trailer_that_lies_is_refused() {
        let plugin = attach(CODE, &files(&[("a", b"bytes")])).unwrap();
        let at = plugin.len() - TRAILER_BYTES;
        for length in [0, 15, 16, plugin.len() as u64 + 1, BYTES_MAX + 1, u64::MAX] {
            let mut lying = plugin.clone();
            lying[at..at + 8].copy_from_slice(&length.to_le_bytes());
            let said = detach(&lying).unwrap_err().message;
            assert!(said.starts_with("its assets section "), "{length}: {said}");
        }
        assert!(detach(b"rcassets").is_err());
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        let many: Files = (0..=FILES_MAX).map(|number| (format!("{number}"), Vec::new())).collect();
        let large = files(&[("a", &vec![0; usize::try_from(BYTES_MAX).unwrap()])]);
        for (given, said) in [
            (many, "4097 files; a plugin carries at most 4096"),
            (large, "67108864 bytes of files; a plugin carries at most 67108864"),
            (files(&[("../a", b"")]), "file `../a`: it has the part `..`"),
            (files(&[("a", b""), ("a.b", b""), ("a/b/c", b"")]), "file `a/b/c`: there is also a file `a`"),
        ] {
            assert_eq!(attach(CODE, &given).unwrap_err().message, said);
        }
    }
}
