//! Where the bundler finds what it needs: the base plugin, the cache of wheels, a Python with pip.

use std::path::PathBuf;

/// What the bundler uses of this machine.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The base plugin. None: it is looked for in the usual places.
    pub base: Option<PathBuf>,
    /// The cache folder; downloaded wheels are kept in `wheels` in it. None: they are downloaded each time.
    pub cache: Option<PathBuf>,
    /// The Python whose pip downloads wheels. None: the one of the active virtual environment, or `python3`.
    pub python: Option<PathBuf>,
    /// The program beside which a base may lie. None: this one.
    pub program: Option<PathBuf>,
}

impl Options {
    /// The options that the environment variables of this process name: `ROLLCAGE_PYTHON_BASE`, `ROLLCAGE_CACHE`.
    pub fn from_environment() -> Options {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let absolute = |name: &str| named(name).filter(|path| path.is_absolute());
        let own =
            || Some(absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?.join("rollcage"));
        Options {
            base: named("ROLLCAGE_PYTHON_BASE"),
            cache: named("ROLLCAGE_CACHE").or_else(own),
            ..Options::default()
        }
    }
}
