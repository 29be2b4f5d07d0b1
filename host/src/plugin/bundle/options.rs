//! Where the bundler finds what it needs: the base plugin, the cache of wheels, a Python with pip.

use std::path::PathBuf;

use crate::plugin::cache::bytes_of;

/// What the bundler uses of this machine.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The base plugin. None: it is looked for in the usual places.
    pub base: Option<PathBuf>,
    /// The cache folder; downloaded wheels are kept in `wheels` in it. None: they are downloaded each time.
    pub cache: Option<PathBuf>,
    /// Bytes that the cache may have. None: [`CACHE_BYTES_MAX`](crate::plugin::cache::CACHE_BYTES_MAX).
    pub cache_bytes_max: Option<u64>,
    /// The Python whose pip downloads wheels. None: the one of the active virtual environment, or `python3`.
    pub python: Option<PathBuf>,
    /// The program beside which a base may lie. None: this one.
    pub program: Option<PathBuf>,
}

impl Options {
    /// The options that the environment variables of this process name: `ROLLCAGE_PYTHON_BASE`, `ROLLCAGE_CACHE`,
    /// `ROLLCAGE_CACHE_MAX`.
    pub fn from_environment() -> Options {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let absolute = |name: &str| named(name).filter(|path| path.is_absolute());
        let own =
            || Some(absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?.join("rollcage"));
        Options {
            base: named("ROLLCAGE_PYTHON_BASE"),
            cache: named("ROLLCAGE_CACHE").or_else(own),
            cache_bytes_max: named("ROLLCAGE_CACHE_MAX").and_then(|text| bytes_of(text.to_str()?)),
            ..Options::default()
        }
    }
}
