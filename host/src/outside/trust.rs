//! What an operator allows: which plugins may run, whose, with what grants at most, behind which sandbox.
//!
//! A trust file binds people who do not replace the program: the command line and the Python package read the standing ones, and a
//! Rust program passes in what it wants.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::cage::{Level, Walls};
use crate::error::UsageError;
use crate::files::read_regular;
use crate::outside::grant::{Access, Grant, Grants};
use crate::plugin::Plugin;
use crate::text::escape_line;
use crate::wire::keeper::{Ceiling, Counted};

/// The file of the machine's operator.
pub const OF_MACHINE: &str = "/etc/rollcage/trust.toml";

/// The most bytes of a trust file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What one or more trust files allow: what all of them do.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    files: Vec<File>,
    /// What is wrong with a file: then nothing runs.
    broken: Option<UsageError>,
}

/// A trust file as it was read.
#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    text: String,
    rules: Rules,
}

/// What a trust file says. What it does not speak of, it leaves open.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rules {
    /// Plugins that may run, by their hash.
    plugin: Option<Spanned<Vec<PluginRule>>>,
    /// Authors whose packages may run, by their keys.
    author: Option<Spanned<Vec<AuthorRule>>>,
    /// Whether what ships with rollcage may run without being listed.
    #[serde(default = "yes")]
    shipped: bool,
    /// Grants that may be given; none at all if the list is empty.
    grants: Option<Spanned<Vec<String>>>,
    /// The level of the sandbox that must be active; `true` is `strict`.
    require_sandbox: Option<Spanned<Demand>>,
    /// Envs of one run at most.
    envs: Option<Spanned<u64>>,
    /// Bytes of memory of all envs of a run at most.
    memory: Option<Spanned<Size>>,
    /// The most of all runs of a user together.
    #[serde(default)]
    all_runs: AllRuns,
}

/// How much of the sandbox a trust file demands.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "expected `true`, `false`, \"seccomp\", \"full\" or \"strict\"")]
enum Demand {
    All(bool),
    Level(Level),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllRuns {
    envs: Option<Spanned<u64>>,
    memory: Option<Spanned<Size>>,
    processes: Option<Spanned<u64>>,
}

/// Bytes, written as `8GiB`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Size(u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Size, String> {
        let bytes = crate::plugin::cache::bytes_of(&text);
        bytes.map(Size).ok_or_else(|| format!("a size like `8GiB` is expected, got `{}`", escape_line(&text)))
    }
}

/// What a file does not allow, and where in the file that is said.
type Refused = (String, usize);

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
    pub(crate) walls: Walls,
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
        for pattern in rules.grants.iter().flat_map(Spanned::get_ref) {
            if !pattern.contains('=') {
                return Err(refuse(format!(
                    "`grants`: KIND=SPEC is expected, as in `tcp-connect=127.0.0.1:*`, got `{}`",
                    escape_line(pattern)
                )));
            }
        }
        self.files.push(File { path: path.to_owned(), text, rules });
        Ok(())
    }

    /// Refuses what a file does not allow.
    pub(crate) fn check(&self, asked: &Asked<'_>) -> Result<(), UsageError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        for file in &self.files {
            file.rules.check(asked).map_err(|(what, at)| {
                UsageError::new(format!("{what}: `{}` does not allow it", file.place(at)))
                    .hint("the operator of this machine may change that line")
            })?;
        }
        Ok(())
    }

    /// The highest level of the sandbox that a file demands.
    pub fn requires_sandbox(&self) -> Option<Level> {
        self.files.iter().filter_map(|file| file.rules.wants_sandbox()).map(|(level, _)| level).max()
    }

    /// The most that all runs of a user may have together.
    pub(crate) fn ceilings(&self) -> Vec<Ceiling> {
        self.files.iter().flat_map(File::ceilings).collect()
    }
}

impl File {
    /// A place in the file, as `FILE:LINE`.
    fn place(&self, at: usize) -> String {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        format!("{}:{line}", escape_line(&self.path.display().to_string()))
    }

    fn ceilings(&self) -> impl Iterator<Item = Ceiling> {
        let AllRuns { envs, memory, processes } = &self.rules.all_runs;
        let most = |of, number: &Spanned<u64>| (of, *number.get_ref(), number.span().start);
        let all = [
            envs.as_ref().map(|envs| most(Counted::Envs, envs)),
            memory.as_ref().map(|size| (Counted::Memory, size.get_ref().0, size.span().start)),
            processes.as_ref().map(|processes| most(Counted::Processes, processes)),
        ];
        all.into_iter().flatten().map(|(of, most, at)| Ceiling { of, most, place: self.place(at) })
    }
}

impl Rules {
    fn check(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        self.check_plugin(asked.plugin)?;
        if let Some(allowed) = &self.grants {
            for grant in asked.grants.iter() {
                if !allowed.get_ref().iter().any(|pattern| covers(pattern, grant)) {
                    return Err((format!("the grant `{}`", escape_line(&grant.to_string())), allowed.span().start));
                }
            }
        }
        if let Some(most) = self.envs.as_ref().filter(|most| asked.envs > *most.get_ref()) {
            return Err((format!("a run of {} envs, with at most {}", asked.envs, most.get_ref()), most.span().start));
        }
        let bytes = asked.envs.saturating_mul(asked.memory_bytes);
        if let Some(most) = self.memory.as_ref().filter(|most| bytes > most.get_ref().0) {
            let what = format!(
                "{} envs that may have {bytes} bytes of memory together, with at most {}",
                asked.envs,
                most.get_ref().0
            );
            return Err((what, most.span().start));
        }
        if let Some((level, at)) = self.wants_sandbox()
            && let Some(wall) = level.walls().iter().find(|wall| !asked.walls.has(*wall))
        {
            return Err((format!("a run without the sandbox layer `{wall}`"), at));
        }
        Ok(())
    }

    /// The level of the sandbox that is demanded, and where, if one is.
    fn wants_sandbox(&self) -> Option<(Level, usize)> {
        let wanted = self.require_sandbox.as_ref()?;
        let level = match wanted.get_ref() {
            Demand::All(false) => return None,
            Demand::All(true) => Level::Strict,
            Demand::Level(level) => *level,
        };
        Some((level, wanted.span().start))
    }

    /// Whether a plugin may run: by its hash, its author's key, or because it ships.
    fn check_plugin(&self, plugin: &Plugin) -> Result<(), Refused> {
        let lists = [self.plugin.as_ref().map(Spanned::span), self.author.as_ref().map(Spanned::span)];
        let Some(first) = lists.into_iter().flatten().map(|span| span.start).min() else { return Ok(()) };
        if self.shipped && plugin.is_shipped() {
            return Ok(());
        }
        let sha256 = plugin.sha256_hex();
        if self.plugin.iter().flat_map(Spanned::get_ref).any(|rule| rule.sha256.eq_ignore_ascii_case(&sha256)) {
            return Ok(());
        }
        let why = match plugin.key() {
            Some(key) if self.author.iter().flat_map(Spanned::get_ref).any(|rule| rule.key == key) => return Ok(()),
            Some(key) => format!(", signed by {}", escape_line(key)),
            None => ", which nobody signed".to_owned(),
        };
        Err((format!("plugin `{}` (sha256 {sha256}){why}", escape_line(plugin.name())), first))
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
        Asked { plugin, grants, envs: 8, memory_bytes: 1 << 28, walls: Walls::ALL }
    }

    #[test]
    fn what_is_not_listed_is_named() {
        let plugin = Plugin::from_bytes("maze.wasm", b"\0asm".to_vec());
        let none = Grants::new();
        let sha256 = plugin.sha256_hex();
        assert_eq!(rules("").check(&asked(&plugin, &none)), Ok(()));
        let listed = format!("plugin = [{{ sha256 = \"{}\" }}]", sha256.to_uppercase());
        assert_eq!(rules(&listed).check(&asked(&plugin, &none)), Ok(()));
        let why = rules("author = [{ key = \"RWQa\", name = \"Ada\" }]").check(&asked(&plugin, &none)).unwrap_err().0;
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
        assert_eq!(check("grants = [\"dir=/srv/*\"]").unwrap_err().0, "the grant `tcp-connect=127.0.0.1:3100`");
        assert!(check("grants = []").is_err());
        assert!(check("envs = 7").unwrap_err().0.starts_with("a run of 8 envs"));
        assert!(check("memory = \"1GiB\"").unwrap_err().0.contains("2147483648 bytes"));
        assert_eq!(check("memory = \"2GiB\"\nenvs = 8"), Ok(()));
        for demand in ["true", "false", "\"seccomp\"", "\"full\"", "\"strict\""] {
            assert_eq!(check(&format!("require-sandbox = {demand}")), Ok(()));
        }
        let error = toml::from_str::<Rules>("require-sandbox = \"most\"").unwrap_err().to_string();
        assert!(error.contains("\"full\" or \"strict\""), "{error}");
        assert!(toml::from_str::<Rules>("memory = \"lots\"").unwrap_err().to_string().contains("a size like `8GiB`"));
    }

    #[test]
    fn what_is_refused_is_refused_by_a_line() {
        let plugin = Plugin::from_bytes("maze.wasm", b"\0asm".to_vec());
        let given = grants(&["clock=real"]);
        for (text, line) in [
            ("# all\nshipped = true\nenvs = 7\n", 3),
            ("envs = 9\n\ngrants = [\n  \"dir=/a:/b\",\n]\n", 3),
            ("[[author]]\nkey = \"RWQa\"\n", 1),
            ("\nauthor = [{ key = \"RWQa\" }]\nplugin = []\n", 2),
            ("memory = '1GiB'\n", 1),
            ("envs = 8\nrequire-sandbox = true\n", 2),
        ] {
            let file = File { path: "/etc/t.toml".into(), text: text.to_owned(), rules: rules(text) };
            let asked = Asked { walls: Walls::NONE, ..asked(&plugin, &given) };
            let (_, at) = file.rules.check(&asked).unwrap_err();
            assert_eq!(file.place(at), format!("/etc/t.toml:{line}"), "{text}");
        }
        let text = "[all-runs]\nenvs = 5\n\nmemory = \"1KiB\"\nprocesses = 7\n";
        let file = File { path: "t".into(), text: text.to_owned(), rules: rules(text) };
        let ceilings: Vec<_> = file.ceilings().map(|ceiling| (ceiling.most, ceiling.place)).collect();
        assert_eq!(ceilings, [(5, "t:2".to_owned()), (1024, "t:4".to_owned()), (7, "t:5".to_owned())]);
    }
}
