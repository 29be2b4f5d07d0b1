//! Globs over paths relative to a folder: `*` and `?` within a part of a path, `**` for any number of parts. A glob that
//! names a folder matches all that lies in it. Files whose names begin with a dot are never among the paths.

use regex::Regex;

use crate::error::UsageError;
use crate::text::escape_line;

/// The most bytes of a glob.
const GLOB_BYTES_MAX: usize = 1_024;

/// A glob, as an expression that takes linear time: it comes from a folder that nobody vouches for.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    expression: Regex,
}

impl Glob {
    /// Reads a glob that somebody wrote.
    ///
    /// # Errors
    /// It leads out of the folder, or has a form that is not known here.
    pub fn parse(text: &str) -> Result<Glob, UsageError> {
        let refuse = |what: &str| Err(UsageError::new(format!("`{}`: {what}", escape_line(text))));
        if text.is_empty() || text.starts_with('/') || text.contains('\\') {
            return refuse("a path relative to the folder is expected, with `/` between its parts");
        }
        if text.split('/').any(|part| part == "..") {
            return refuse("`..` leads out of the folder");
        }
        if text.contains(['[', ']', '{', '}']) {
            return refuse("only `*`, `?` and `**` are wildcards here");
        }
        if text.len() > GLOB_BYTES_MAX {
            return refuse("it is too long");
        }
        match Regex::new(&expression(text)) {
            Ok(expression) => Ok(Glob { text: text.to_owned(), expression }),
            Err(_) => refuse("it is too complicated"),
        }
    }

    /// Whether the glob matches a relative path.
    pub fn matches(&self, path: &str) -> bool {
        self.expression.is_match(path)
    }

    /// The glob as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn expression(glob: &str) -> String {
    let parts: Vec<&str> = glob.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let mut expression = "^".to_owned();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        match (*part, last) {
            ("**", true) => expression.push_str(".+"),
            ("**", false) => expression.push_str("(?:[^/]+/)*"),
            _ => {
                for character in part.chars() {
                    match character {
                        '*' => expression.push_str("[^/]*"),
                        '?' => expression.push_str("[^/]"),
                        _ => expression.push_str(&regex::escape(character.encode_utf8(&mut [0; 4]))),
                    }
                }
                expression.push_str(if last { "(?:/.*)?" } else { "/" });
            }
        }
    }
    expression.push('$');
    expression
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_as_people_expect() {
        for (glob, path, expected) in [
            ("levels/*.json", "levels/a.json", true),
            ("levels/*.json", "levels/deep/a.json", false),
            ("levels/*.json", "levels/a.txt", false),
            ("levels/*.json", "levels/axjson", false),
            ("levels/**", "levels/deep/a.txt", true),
            ("levels/**", "levels", false),
            ("levels/**/*.txt", "levels/deep/er/a.txt", true),
            ("levels/**/*.txt", "levels/a.txt", true),
            ("**/*.txt", "a.txt", true),
            ("**/*.txt", "a/b/c.txt", true),
            ("levels", "levels/deep/a.txt", true),
            ("levels/", "levels/a", true),
            ("level?", "levels/a", true),
            ("levels", "levels2/a", false),
            ("./a.txt", "a.txt", true),
            ("a+(b).txt", "a+(b).txt", true),
        ] {
            assert_eq!(Glob::parse(glob).unwrap().matches(path), expected, "{glob} {path}");
        }
        // Backtracking would not come to an end.
        let many = "*a".repeat(400);
        assert!(!Glob::parse(&many).unwrap().matches(&"a".repeat(300)));
    }

    #[test]
    fn a_glob_stays_in_the_folder() {
        for glob in ["", "/etc/passwd", "../x", "a/../../b", "a\\b", "[ab]", &"a".repeat(2_000)] {
            assert!(Glob::parse(glob).is_err(), "{glob}");
        }
    }
}
