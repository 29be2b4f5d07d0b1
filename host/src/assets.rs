//! The format of a plugin's assets (`docs/assets.md`): what the writer of the section and its readers have to agree on.

/// The name of the custom section, the last one of the file.
pub const SECTION: &str = "rollcage:assets";

/// The last bytes of a file that has assets.
pub const MAGIC: [u8; 8] = *b"rcassets";

/// Bytes of the trailer: the length of the whole section as a little-endian `u64`, then [`MAGIC`].
pub const TRAILER_BYTES: usize = 16;

/// Bytes before the trailer that hold the length of the index.
pub const INDEX_LEN_BYTES: usize = 4;

/// The most bytes that the whole section may have.
pub const BYTES_MAX: u64 = 64 << 20;

/// The most files.
pub const FILES_MAX: usize = 4_096;

/// The most bytes that a path may have.
pub const PATH_BYTES_MAX: usize = 1_024;

/// The most bytes that a part of a path may have.
pub const PART_BYTES_MAX: usize = 255;

/// The fewest bytes of a section: its header, the name, an empty index and the trailer.
const SECTION_BYTES_MIN: u64 = 2 + 1 + SECTION.len() as u64 + (INDEX_LEN_BYTES + TRAILER_BYTES) as u64;

/// Bytes of a plugin's file that come before its assets: all bytes if it has none. Looks at the trailer only.
///
/// # Errors
/// The trailer's length cannot be true, in words that go behind the plugin's name.
pub fn split(file: &[u8]) -> Result<usize, String> {
    let Some(trailer) = file.last_chunk::<TRAILER_BYTES>() else { return Ok(file.len()) };
    let (length, magic) = trailer.split_at(TRAILER_BYTES - MAGIC.len());
    if magic != MAGIC {
        return Ok(file.len());
    }
    let bytes = length.iter().rev().fold(0, |bytes, byte| bytes << 8 | u64::from(*byte));
    if bytes < SECTION_BYTES_MIN {
        return Err(format!("its assets claim {bytes} bytes, which is less than an empty section has"));
    }
    if bytes > BYTES_MAX {
        return Err(format!("its assets have {bytes} bytes; the limit is {BYTES_MAX}"));
    }
    let before = usize::try_from(bytes).ok().and_then(|bytes| file.len().checked_sub(bytes));
    before.ok_or_else(|| format!("its assets claim {bytes} bytes, and the file has {}", file.len()))
}

/// Checks the rules that hold for each path by itself.
///
/// # Errors
/// The rule that the path breaks, in words that go behind a path: `its part … has 300 bytes; the limit is 255`.
pub fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("it is empty".to_owned());
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("it has {} bytes; the limit is {PATH_BYTES_MAX}", path.len()));
    }
    if path.contains(|character: char| character.is_control() || character == '\\') {
        return Err("it has a control character or a `\\`".to_owned());
    }
    for part in path.split('/') {
        match part {
            "" => return Err("it has an empty part: it begins or ends with `/`, or has `//`".to_owned()),
            "." | ".." => return Err(format!("it has the part `{part}`")),
            _ if part.len() > PART_BYTES_MAX => {
                return Err(format!("one of its parts has {} bytes; the limit is {PART_BYTES_MAX}", part.len()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_and_plain() {
        for path in ["a", "a/b", "site/my_env.py", "ä/…", &"x/".repeat(511)[..1_021], &"y".repeat(255)] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        let long = "x/".repeat(513);
        let wide = "y".repeat(256);
        for (path, why) in [
            ("", "empty"),
            ("/a", "empty part"),
            ("a/", "empty part"),
            ("a//b", "empty part"),
            (".", "part `.`"),
            ("a/../b", "part `..`"),
            ("a\\b", "control character or a `\\`"),
            ("a\nb", "control character"),
            ("a\u{85}b", "control character"),
            (&long[..1_025], "the limit is 1024"),
            (&wide, "256 bytes; the limit is 255"),
        ] {
            let said = check_path(path).unwrap_err();
            assert!(said.contains(why), "{path}: {said}");
        }
    }

    #[test]
    fn a_file_is_split_by_its_trailer_alone() {
        let with = |bytes: u64, before: usize| {
            let mut file = vec![7; before];
            file.extend(bytes.to_le_bytes());
            file.extend(MAGIC);
            file
        };
        assert_eq!(split(b""), Ok(0));
        assert_eq!(split(b"rcassets"), Ok(8));
        assert_eq!(split(&[1; 100]), Ok(100));
        assert_eq!(split(&with(60, 100)), Ok(56));
        assert_eq!(split(&with(116, 100)), Ok(0));
        for (bytes, why) in [
            (117, "claim 117 bytes, and the file has 116"),
            (0, "claim 0 bytes"),
            (37, "claim 37 bytes, which is less"),
            (BYTES_MAX + 1, "the limit is"),
            (u64::MAX, "the limit is"),
        ] {
            let said = split(&with(bytes, 100)).unwrap_err();
            assert!(said.contains(why), "{bytes}: {said}");
        }
    }
}
