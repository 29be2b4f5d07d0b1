//! The format of a plugin's assets (`docs/assets.md`): what the writer of the section and its readers have to agree on.

/// The name of the custom section, the last one of the file.
pub const SECTION: &str = "rollcage:assets";

/// The last bytes of a file that has assets.
pub const MAGIC: [u8; 8] = *b"rcassets";

/// Bytes of the trailer: the length of the whole section as a little-endian `u64`, then [`MAGIC`].
pub const TRAILER_BYTES: usize = 16;

/// The most bytes that the whole section may have.
pub const BYTES_MAX: u64 = 64 << 20;

/// The most files.
pub const FILES_MAX: usize = 4_096;

/// The most bytes that a path may have.
pub const PATH_BYTES_MAX: usize = 1_024;

/// The most bytes that a part of a path may have.
pub const PART_BYTES_MAX: usize = 255;

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
}
