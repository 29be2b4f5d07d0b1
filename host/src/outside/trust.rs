//! What an operator allows: which plugins may run, whose, with what grants at most, behind which sandbox.
//!
//! A trust file binds people who do not replace the program: the command line and the Python package read the standing ones, and a
//! Rust program passes in what it wants.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::UsageError;
use crate::files::read_regular;
use crate::outside::grant::{Access, Grant, Grants};
use crate::plugin::Plugin;
use crate::text::escape_line;

/// The file of the machine's operator.
pub const OF_MACHINE: &str = "/etc/rollcage/trust.toml";

/// The most bytes of a trust file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What one or more trust files allow: what all of them do.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    files: Vec<(PathBuf, Rules)>,
    /// What is wrong with a file: then nothing runs.
    broken: Option<UsageError>,
}

/// A trust file. What it does not speak of, it leaves open.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rules {
    /// Plugins that may run, by their hash.
    plugin: Option<Vec<PluginRule>>,
    /// Authors whose packages may run, by their keys.
    author: Option<Vec<AuthorRule>>,
    /// Whether what ships with rollcage may run without being listed.
    #[serde(default = "yes")]
    shipped: bool,
    /// Grants that may be given; none at all if the list is empty.
    grants: Option<Vec<String>>,
    /// Whether every layer of the sandbox must be active.
    #[serde(default)]
    require_sandbox: bool,
    /// Envs of one run at most.
    envs: Option<u64>,
    /// Bytes of memory of all envs of a run at most, as `8GiB`.
    memory: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginRule {
    sha256: String,
    #[expect(dead_code, reason = "for people who read the file")]
    name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorRule {
    key: String,
    #[expect(dead_code, reason = "for people who read the file")]
    name: Option<String>,
}

fn yes() -> bool {
    true
}

/// What a run would use.
pub(crate) struct Asked<'a> {
    pub(crate) plugin: &'a Plugin,
    pub(crate) grants: &'a Grants,
    pub(crate) envs: u64,
    pub(crate) memory_bytes: u64,
}

impl Trust {
    /// Everything is allowed.
    pub fn all() -> Trust {
        Trust::default()
    }

    /// What the machine's file and the user's own allow, where they exist. The user's can only narrow the machine's. With a file
    /// that cannot be read or is wrong nothing runs.
    #[must_use]
    pub fn standing(of_user: Option<&Path>) -> Trust {
        let files = [Some(Path::new(OF_MACHINE)), of_user].into_iter().flatten();
        files.filter(|path| path.symlink_metadata().is_ok()).fold(Trust::all(), Trust::and)
    }

    /// The user's own file, as this process's environment has it: `rollcage/trust.toml` in `$XDG_CONFIG_HOME` or `~/.config`.
    pub fn file_of_user() -> Option<PathBuf> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
        Some(folder.join("rollcage/trust.toml"))
    }

    /// Allows no more than another file does.
    #[must_use]
    pub fn and(mut self, path: &Path) -> Trust {
        match self.read(path) {
            Ok(()) => {}
            Err(error) => self.broken = self.broken.or(Some(error)),
        }
        self
    }

    /// Allows what both allow.
    #[must_use]
    pub fn both(mut self, other: Trust) -> Trust {
        self.files.extend(other.files);
        self.broken = self.broken.or(other.broken);
        self
    }

    fn read(&mut self, path: &Path) -> Result<(), UsageError> {
        let shown = escape_line(&path.display().to_string());
        let refuse = |what: String| UsageError::new(format!("trust file `{shown}`: {what}"));
        let path_read = std::fs::canonicalize(path).map_err(|error| refuse(error.to_string()))?;
        let bytes = read_regular(&path_read, FILE_BYTES_MAX).map_err(|error| refuse(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8".to_owned()))?;
        let rules: Rules = toml::from_str(&text)
            .map_err(|error| refuse(escape_line(error.to_string().trim_end()).replace("\\n", "; ")))?;
        if let Some(text) = rules.memory.as_deref().filter(|text| crate::plugin::cache::bytes_of(text).is_none()) {
            return Err(refuse(format!("`memory`: a size like `8GiB` is expected, got `{}`", escape_line(text))));
        }
        for pattern in rules.grants.iter().flatten() {
            if !pattern.contains('=') {
                return Err(refuse(format!(
                    "`grants`: KIND=SPEC is expected, as in `tcp-connect=127.0.0.1:*`, got `{}`",
                    escape_line(pattern)
                )));
            }
        }
        self.files.push((path.to_owned(), rules));
        Ok(())
    }

    /// Refuses what a file does not allow.
    pub(crate) fn check(&self, asked: &Asked<'_>) -> Result<(), UsageError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        for (path, rules) in &self.files {
            let shown = escape_line(&path.display().to_string());
            rules.check(asked).map_err(|what| {
                UsageError::new(format!("{what}: `{shown}` does not allow it"))
                    .hint("the operator of this machine may add it to that file")
            })?;
        }
        Ok(())
    }

    /// Whether a file demands every layer of the sandbox.
    pub fn requires_sandbox(&self) -> bool {
        self.files.iter().any(|(_, rules)| rules.require_sandbox)
    }
}

impl Rules {
    fn check(&self, asked: &Asked<'_>) -> Result<(), String> {
        let plugin = asked.plugin;
        let name = escape_line(plugin.name());
        self.check_plugin(plugin).map_err(|why| format!("plugin `{name}` (sha256 {}){why}", plugin.sha256_hex()))?;
        if let Some(allowed) = &self.grants {
            for grant in asked.grants.iter() {
                if !allowed.iter().any(|pattern| covers(pattern, grant)) {
                    return Err(format!("the grant `{}`", escape_line(&grant.to_string())));
                }
            }
        }
        if let Some(most) = self.envs.filter(|most| asked.envs > *most) {
            return Err(format!("a run of {} envs, with at most {most}", asked.envs));
        }
        let most = self.memory.as_deref().and_then(crate::plugin::cache::bytes_of);
        if let Some(most) = most.filter(|most| asked.envs.saturating_mul(asked.memory_bytes) > *most) {
            let bytes = asked.envs.saturating_mul(asked.memory_bytes);
            return Err(format!(
                "{} envs that may have {bytes} bytes of memory together, with at most {most}",
                asked.envs
            ));
        }
        Ok(())
    }

    /// Whether a plugin may run: by its hash, its author's key, or because it ships.
    fn check_plugin(&self, plugin: &Plugin) -> Result<(), String> {
        if self.plugin.is_none() && self.author.is_none() || self.shipped && plugin.is_shipped() {
            return Ok(());
        }
        let sha256 = plugin.sha256_hex();
        if self.plugin.iter().flatten().any(|rule| rule.sha256.eq_ignore_ascii_case(&sha256)) {
            return Ok(());
        }
        match plugin.key() {
            Some(key) if self.author.iter().flatten().any(|rule| rule.key == key) => Ok(()),
            Some(key) => Err(format!(", signed by {}", escape_line(key))),
            None => Err(", which nobody signed".to_owned()),
        }
    }
}

/// Whether a pattern of a trust file covers a grant: the same text, where a `*` at its end stands for anything. A directory that
/// may be written to may be read too.
fn covers(pattern: &str, grant: &Grant) -> bool {
    let matches = |text: &str| match pattern.strip_suffix('*') {
        // `dir=/srv/levels*` must not reach `/srv/levels/../..`; grants have no such parts, since they were opened by then.
        Some(start) => text.starts_with(start),
        None => text == pattern,
    };
    let text = grant.to_string();
    if matches(&text) {
        return true;
    }
    match grant {
        Grant::Dir { access: Access::ReadOnly, .. } => {
            text.strip_suffix(":ro").is_some_and(|text| matches(text) || matches(&format!("{text}:rw")))
        }
        _ => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        toml::from_str(text).unwrap()
    }

    fn grants(texts: &[&str]) -> Grants {
        let mut grants = Grants::new();
        texts.iter().for_each(|text| grants.add(text.parse().unwrap()));
        grants
    }

    fn asked<'a>(plugin: &'a Plugin, grants: &'a Grants) -> Asked<'a> {
        Asked { plugin, grants, envs: 8, memory_bytes: 1 << 28 }
    }

    #[test]
    fn what_is_not_listed_is_named() {
        let plugin = Plugin::from_bytes("maze.wasm", b"\0asm".to_vec());
        let none = Grants::new();
        let sha256 = plugin.sha256_hex();
        assert_eq!(rules("").check(&asked(&plugin, &none)), Ok(()));
        let listed = format!("plugin = [{{ sha256 = \"{}\" }}]", sha256.to_uppercase());
        assert_eq!(rules(&listed).check(&asked(&plugin, &none)), Ok(()));
        let why = rules("author = [{ key = \"RWQa\", name = \"Ada\" }]").check(&asked(&plugin, &none)).unwrap_err();
        assert_eq!(why, format!("plugin `maze.wasm` (sha256 {sha256}), which nobody signed"));
        assert!(rules("plugin = []").check(&asked(&plugin, &none)).is_err());
    }

    #[test]
    fn grants_sandbox_and_ceilings_are_bounds() {
        let plugin = Plugin::from_bytes("maze.wasm", b"\0asm".to_vec());
        let given = grants(&["tcp-connect=127.0.0.1:3100", "dir=/srv/levels:/levels"]);
        let check = |text: &str| rules(text).check(&asked(&plugin, &given));
        assert_eq!(check("grants = [\"tcp-connect=127.0.0.1:*\", \"dir=/srv/levels:/levels:ro\"]"), Ok(()));
        assert_eq!(check("grants = [\"tcp-connect=127.0.0.1:*\", \"dir=/srv/*\"]"), Ok(()));
        assert_eq!(check("grants = [\"dir=/srv/*\"]").unwrap_err(), "the grant `tcp-connect=127.0.0.1:3100`");
        assert!(check("grants = []").is_err());
        assert!(check("envs = 7").unwrap_err().starts_with("a run of 8 envs"));
        assert!(check("memory = \"1GiB\"").unwrap_err().contains("2147483648 bytes"));
        assert_eq!(check("memory = \"2GiB\"\nenvs = 8"), Ok(()));
    }
}
