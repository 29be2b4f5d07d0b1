//! The env of a command: PLUGIN, `--config`, `--config-file`; and the cache of compiled plugins. This file reads the inputs
//! that the library does not read: arguments, files, the environment.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use rollcage::plugin::bundle::{Options, Told};
use rollcage::plugin::cache::CACHE_BYTES_MAX;
use rollcage::plugin::config::{self, CONFIG_FILE_BYTES_MAX};
use rollcage::record::manifest::PluginName;
use rollcage::text::escape_line;
use rollcage::{Builder, Cache, Plugin, Trust, UsageError, VecEnv};
use serde_json::{Map, Value};

use super::{compiling, complain};

#[derive(clap::Args)]
pub(super) struct Source {
    /// A name that `rollcage list` shows, or the path of a `.wasm` file or of the folder of an env in Python
    #[arg(required = true)]
    plugin: Option<OsString>,

    /// A value of the config; may be repeated
    ///
    /// K is a dotted path (`map.size`), V a TOML value; a value that is not TOML is taken as a string. Comes after
    /// `--config-file`.
    #[arg(long, value_name = "K=V")]
    config: Vec<String>,

    /// A file with the config: .toml, .json or .yaml
    #[arg(long, value_name = "F")]
    config_file: Option<PathBuf>,

    /// Refuse any other plugin than the one of this SHA-256, 64 hex digits
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,

    /// A trust file more: run no more than it allows; may be repeated
    ///
    /// `/etc/rollcage/trust.toml` and `~/.config/rollcage/trust.toml` are read in any case. Each can only narrow what the others
    /// allow: docs/trust.md has the form.
    #[arg(long, value_name = "FILE")]
    trust: Vec<PathBuf>,
}

impl Source {
    /// Opens the plugin and reads the config. It compiles nothing.
    pub(super) fn open(&self) -> Result<Builder, UsageError> {
        let plugin = self.plugin()?.ok_or_else(|| UsageError::new("no plugin was named"))?;
        Ok(VecEnv::builder(plugin).config(&self.config()?)?.trust(self.trust()))
    }

    /// The plugin, if one was named.
    pub(super) fn plugin(&self) -> Result<Option<Plugin>, UsageError> {
        let plugin = self.plugin.as_deref().map(open).transpose()?;
        if let (Some(plugin), Some(wanted)) = (&plugin, &self.sha256)
            && !plugin.sha256_hex().eq_ignore_ascii_case(wanted)
        {
            let (name, found) = (plugin.name(), plugin.sha256_hex());
            let wanted = escape_line(wanted);
            return Err(UsageError::new(format!(
                "plugin `{name}` has sha256 {found}; `--sha256` allows {wanted} alone"
            ))
            .hint("it is not the file that was meant: do not run it"));
        }
        Ok(plugin)
    }

    /// What the trust files that were named allow.
    pub(super) fn trust(&self) -> Trust {
        self.trust.iter().fold(Trust::all(), |trust, file| trust.and(file))
    }

    /// Whether a config was given at all.
    pub(super) fn has_config(&self) -> bool {
        !self.config.is_empty() || self.config_file.is_some()
    }

    /// The folder that was named, if one was.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.plugin.as_deref().map(PathBuf::from).filter(|path| path.is_dir())
    }

    pub(super) fn config(&self) -> Result<Value, UsageError> {
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

/// Opens a plugin. A folder is bundled; what takes time there, or should be known, is reported.
pub(super) fn open(given: &OsStr) -> Result<Plugin, UsageError> {
    Plugin::open_with(given, &bundle_options(), &mut |told| report(told))
}

/// Where the bundler finds what it needs.
pub(super) fn bundle_options() -> Options {
    Options { cache: cache_folder(), ..Options::from_environment() }
}

/// Reports what the bundler tells, on stderr.
pub(super) fn report(told: Told<'_>) {
    match told {
        Told::Asking(names) => complain("dependencies", &format!("asking the package index for {names} …")),
        Told::Downloading(names) => {
            let kept =
                cache_folder().map(|folder| format!(" (once, kept in {})", shown_folder(&folder.join("wheels"))));
            complain("dependencies", &format!("downloading {names}{} …", kept.unwrap_or_default()));
        }
        Told::Warning(what) => complain("warning", what),
    }
}

/// The error for a plugin that a file names and that is not on this machine.
pub(super) fn not_here(what: &str, wanted: &PluginName, hint: &str) -> UsageError {
    let (name, sha256) = (escape_line(&wanted.name), escape_line(&wanted.sha256));
    UsageError::new(format!(
        "{what} `{name}` (sha256 {sha256}) is not here: it is neither shipped nor in the cache, \
which drops plugins that were not used for 30 days"
    ))
    .hint(hint)
}

/// Refuses a plugin that differs from the plugin that a file (`of`: `the recording`) names.
pub(super) fn check_hash(plugin: &Plugin, wanted: &PluginName, of: &str) -> Result<(), UsageError> {
    if plugin.sha256_hex() == wanted.sha256 {
        return Ok(());
    }
    let (name, found) = (plugin.name(), plugin.sha256_hex());
    let (other, wanted) = (escape_line(&wanted.name), escape_line(&wanted.sha256));
    Err(UsageError::new(format!("plugin `{name}` has sha256 {found}; {of} is of `{other}`, sha256 {wanted}")))
}

fn read_config(path: &Path) -> Result<Value, UsageError> {
    let name = path.to_string_lossy();
    let refuse = |error: std::io::Error| UsageError::new(format!("config file `{name}`: {error}"));
    let mut text = String::new();
    // One byte more than is allowed: the parser then reports the limit.
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

/// What the standing trust files allow: the machine's and the user's own.
pub(super) fn standing() -> Trust {
    Trust::standing(Trust::file_of_user().as_deref())
}

/// Adds the cache, if there is one. Compilations are reported.
pub(super) fn with_cache(builder: Builder) -> Builder {
    match cache() {
        Some(cache) => builder.trust(standing()).when_compiling(compiling::told(Some(&cache))).cache(cache),
        None => without_cache(builder),
    }
}

/// Compiles without a cache. Compilations are reported, and their results are not kept.
pub(super) fn without_cache(builder: Builder) -> Builder {
    builder.trust(standing()).when_compiling(compiling::told(None))
}

/// The cache, with the bound from `ROLLCAGE_CACHE_MAX`.
pub(super) fn bounded(cache: Cache) -> Result<Cache, UsageError> {
    let Some(said) = std::env::var_os("ROLLCAGE_CACHE_MAX").filter(|said| !said.is_empty()) else { return Ok(cache) };
    let said = said.to_string_lossy();
    cache.bound_by(&said).map_err(|error| {
        let UsageError { message, .. } = error;
        UsageError::new(format!("environment variable `ROLLCAGE_CACHE_MAX`: {message}, got \"{}\"", escape_line(&said)))
    })
}

/// A folder as people write it: inside the user's own folder it starts with `~`.
pub(super) fn shown_folder(folder: &Path) -> String {
    let home = etcetera::home_dir().ok().filter(|home| home.components().count() > 1);
    let shown = match home.as_deref().and_then(|home| folder.strip_prefix(home).ok()) {
        Some(rest) => Path::new("~").join(rest).display().to_string(),
        None => folder.display().to_string(),
    };
    escape_line(&shown)
}

/// The cache. An unusable cache only costs a compile each time, so it is a warning and not an error.
pub(super) fn cache() -> Option<Cache> {
    let cache = match cache_folder() {
        Some(folder) => Cache::open(&folder),
        None => {
            Err(UsageError::new("cache folder: the home folder is not known").hint("name one with `ROLLCAGE_CACHE`"))
        }
    };
    match cache {
        Ok(cache) => Some(bounded(cache.clone()).unwrap_or_else(|error| {
            complain("warning", &format!("{}; the bound is {CACHE_BYTES_MAX} bytes", error.message));
            cache
        })),
        Err(error) => {
            complain("warning", &format!("{}; plugins are compiled each time", error.message));
            error.hints.iter().for_each(|hint| complain("hint", hint));
            None
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn assignments_come_after_the_file() {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        let path = file.path().to_owned();
        std::fs::write(&path, "gravity = 1.0\n[map]\nsize = 4\n").unwrap();
        let source = Source {
            plugin: Some("x".into()),
            config: vec!["gravity=9.5".to_owned(), "map.name=a b".to_owned()],
            config_file: Some(path),
            sha256: None,
            trust: Vec::new(),
        };
        let config = source.config();
        assert_eq!(config.unwrap(), serde_json::json!({"gravity": 9.5, "map": {"size": 4, "name": "a b"}}));
    }
}
