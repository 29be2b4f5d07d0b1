//! Which env is meant: PLUGIN, `--config`, `--config-file`; and where compiled plugins are kept.
//! Reads what the library does not: arguments, files, the environment.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use rollcage::config::{self, CONFIG_FILE_BYTES_MAX};
use rollcage::{Builder, Cache, Plugin, UsageError, VecEnv, shipped};
use serde_json::{Map, Value};

use super::complain;

/// How alike a name must be to a shipped one to be taken for a slip (Jaro-Winkler; 1 is the same).
const ALIKE: f64 = 0.8;

#[derive(clap::Args)]
pub(super) struct Source {
    /// A name that `rollcage list` shows, or the path of a `.wasm` file
    plugin: OsString,

    /// A value of the config; may be repeated
    ///
    /// K is a dotted path (`map.size`), V a TOML value; what is no TOML is taken as a string. Comes after
    /// `--config-file`.
    #[arg(long, value_name = "K=V")]
    config: Vec<String>,

    /// A file with the config: .toml, .json or .yaml
    #[arg(long, value_name = "F")]
    config_file: Option<PathBuf>,
}

impl Source {
    /// Opens the plugin and reads the config. Nothing is compiled yet.
    pub(super) fn open(&self) -> Result<Builder, UsageError> {
        VecEnv::builder(open_plugin(&self.plugin)?).config(&self.config()?)
    }

    /// Whether a config was given at all.
    pub(super) fn has_config(&self) -> bool {
        !self.config.is_empty() || self.config_file.is_some()
    }

    fn config(&self) -> Result<Value, UsageError> {
        let mut config = match &self.config_file {
            Some(path) => read_config(path)?,
            None => Value::Object(Map::new()),
        };
        for assignment in &self.config {
            let (path, value) = config::parse_assignment(assignment)?;
            config::assign(&mut config, &path, value)?;
        }
        Ok(config)
    }
}

/// A plugin that ships with rollcage, by name; else a file.
pub(super) fn open_plugin(given: &OsString) -> Result<Plugin, UsageError> {
    if let Some(plugin) = given.to_str().and_then(Plugin::shipped) {
        return Ok(plugin);
    }
    let path = Path::new(given);
    let names: Vec<&str> = shipped::PLUGINS.iter().map(|(name, _)| *name).collect();
    let shown = path.display();
    let is_path = path.extension().is_some_and(|extension| extension == "wasm") || path.components().count() > 1;
    if path.exists() {
        return Plugin::from_file(path);
    }
    let what = if is_path { "no such file" } else { "neither a shipped plugin nor a file" };
    let error = UsageError::new(format!("plugin `{shown}`: {what}"));
    let stem = path.file_stem().unwrap_or(given).to_string_lossy();
    let ship = "`rollcage list` names what ships; anything else is the path of a .wasm file";
    Err(match nearest(&stem, &names) {
        Some(name) => error.hint(format!("did you mean `{name}`? {ship}")),
        None => error.hint(ship),
    })
}

fn nearest<'n>(given: &str, names: &[&'n str]) -> Option<&'n str> {
    let given = given.to_lowercase();
    let scored = names.iter().map(|name| (strsim::jaro_winkler(&given, name), *name));
    scored.filter(|(score, _)| *score >= ALIKE).max_by(|one, two| one.0.total_cmp(&two.0)).map(|(_, name)| name)
}

fn read_config(path: &Path) -> Result<Value, UsageError> {
    let name = path.to_string_lossy();
    let refuse = |error: std::io::Error| UsageError::new(format!("config file `{name}`: {error}"));
    let mut text = String::new();
    // One byte more than is allowed: the parser then says what the limit is.
    let mut file = File::open(path).map_err(refuse)?.take(CONFIG_FILE_BYTES_MAX as u64 + 1);
    file.read_to_string(&mut text).map_err(refuse)?;
    config::parse_file(&name, &text)
}

/// The folder for compiled plugins: `ROLLCAGE_CACHE`, else `rollcage` in the user's own.
pub(super) fn cache_folder() -> Option<PathBuf> {
    match std::env::var_os("ROLLCAGE_CACHE").filter(|folder| !folder.is_empty()) {
        Some(folder) => Some(folder.into()),
        None => etcetera::choose_base_strategy().ok().map(|folders| folders.cache_dir().join("rollcage")),
    }
}

/// Adds the cache. One that cannot be used costs a compile each time, and nothing else: that is said, and no error.
pub(super) fn with_cache(builder: Builder) -> Builder {
    let cache = match cache_folder() {
        Some(folder) => Cache::open(&folder),
        None => {
            Err(UsageError::new("cache folder: the home folder is not known").hint("name one with `ROLLCAGE_CACHE`"))
        }
    };
    match cache {
        Ok(cache) => builder.cache(cache),
        Err(error) => {
            complain("warning", &format!("{}; plugins are compiled each time", error.message));
            error.hints.iter().for_each(|hint| complain("hint", hint));
            builder
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised() {
        let names = ["blackjack", "cartpole", "frozenlake"];
        for (given, expected) in [
            ("cartpol", Some("cartpole")),
            ("CartPole", Some("cartpole")),
            ("frozen-lake", Some("frozenlake")),
            ("pong", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, &names), expected, "{given}");
        }
    }

    #[test]
    fn a_plugin_that_is_not_there() {
        let error = open_plugin(&"./nowhere/cartpol.wasm".into()).err().unwrap();
        assert_eq!(error.message, "plugin `./nowhere/cartpol.wasm`: no such file");
        let error = open_plugin(&"pong".into()).err().unwrap();
        assert_eq!(error.message, "plugin `pong`: neither a shipped plugin nor a file");
        assert!(error.hints[0].starts_with("`rollcage list` names"), "{:?}", error.hints);
    }

    #[test]
    fn assignments_come_after_the_file() {
        let path = std::env::temp_dir().join(format!("rollcage-source-{}.toml", std::process::id()));
        std::fs::write(&path, "gravity = 1.0\n[map]\nsize = 4\n").unwrap();
        let source = Source {
            plugin: "x".into(),
            config: vec!["gravity=9.5".to_owned(), "map.name=a b".to_owned()],
            config_file: Some(path.clone()),
        };
        let config = source.config();
        std::fs::remove_file(path).unwrap();
        assert_eq!(config.unwrap(), serde_json::json!({"gravity": 9.5, "map": {"size": 4, "name": "a b"}}));
    }
}
