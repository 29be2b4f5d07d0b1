//! The base plugin: CPython, numpy, gymnasium and the SDK as one component. An env in Python is this base with other
//! assets. This file finds the base, and reads what it holds from its own assets: the component is not parsed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::archive::{contents, detach};
use super::options::Options;
use crate::error::UsageError;
use crate::files::absolute;
use crate::limits::Limits;

/// The name of the base's file.
const FILE: &str = "python-base.wasm";

/// What a base says about itself: `base.json` in its assets, or `python-base.json` beside it.
#[derive(Clone, Debug, Deserialize)]
pub struct Facts {
    /// The version of rollcage-python-base.
    pub version: String,
    /// The version of CPython.
    pub python: String,
    /// Versions of the distributions that the base holds, by their normalised names.
    pub distributions: BTreeMap<String, String>,
}

/// A base: the code that every env in Python has, and what it holds.
#[derive(Clone, Debug)]
pub struct Base {
    /// The file that it was read from.
    pub path: PathBuf,
    /// The component, without assets.
    pub code: Vec<u8>,
    /// What it holds.
    pub facts: Facts,
}

impl Base {
    /// Finds and reads the base: the file that the options name, or the first one that exists in the usual places.
    ///
    /// # Errors
    /// There is no base, or it cannot be read.
    pub fn find(options: &Options) -> Result<Base, UsageError> {
        if let Some(path) = &options.base {
            return Base::open(path).map_err(|error| error.of(&format!("python base `{}`: ", path.display())));
        }
        let places = places(options);
        match places.iter().find(|place| place.is_file()) {
            Some(path) => Base::open(path).map_err(|error| error.of(&format!("python base `{}`: ", path.display()))),
            None => Err(UsageError::new(
                "an environment in Python runs on a base plugin (CPython and numpy), and there is none here",
            )
            .hint("`pip install rollcage-python-base` brings it, if this rollcage came by pip")
            .hint("`cargo xtask python-base` in a checkout of rollcage builds it: about 10 minutes, once")
            .hint("the environment variable `ROLLCAGE_PYTHON_BASE` names a file that lies elsewhere")),
        }
    }

    /// Reads a base.
    ///
    /// # Errors
    /// The file cannot be read, or is no base.
    pub fn open(path: &Path) -> Result<Base, UsageError> {
        let limit = Limits::default().plugin_bytes;
        let refuse = |error: std::io::Error| UsageError::new(error.to_string());
        let bytes = std::fs::metadata(path).map_err(refuse)?.len();
        if bytes > limit {
            return Err(UsageError::new(format!("{bytes} bytes; the limit is {limit}")));
        }
        let mut code = std::fs::read(path).map_err(refuse)?;
        let (code_len, own) = {
            let (code, archive) = detach(&code)?;
            (code.len(), archive.and_then(contents).map(<[u8]>::to_vec))
        };
        code.truncate(code_len);
        let beside = path.with_extension("json");
        let facts = match own {
            Some(facts) => facts,
            None => std::fs::read(&beside).map_err(|_| {
                UsageError::new("it does not say what it holds: it has no `base.json` among its assets")
                    .hint("is it a base? `cargo xtask python-base` builds one")
            })?,
        };
        let facts: Facts = serde_json::from_slice(&facts)
            .map_err(|error| UsageError::new(format!("what it says of itself cannot be read: {error}")))?;
        Ok(Base { path: absolute(path.to_owned()), code, facts })
    }
}

/// Where a base may lie, the first place first.
fn places(options: &Options) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(cache) = &options.cache {
        places.push(cache.join(FILE));
    }
    let program = options.program.clone().or_else(|| std::env::current_exe().ok());
    places.extend(program.iter().flat_map(|program| beside_program(program)));
    places
}

/// The base beside a program: in the Python package that lies beside the program's own, or in the folder where a checkout
/// builds it.
fn beside_program(program: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let above = |levels: usize| program.ancestors().nth(levels);
    let named = |folder: Option<&Path>, name: &str| folder.and_then(Path::file_name).is_some_and(|own| own == name);
    // site-packages/rollcage/_program/rollcage
    if named(above(1), "_program")
        && let Some(packages) = above(3)
    {
        places.push(packages.join("rollcage_python_base").join(FILE));
    }
    // target/release/rollcage
    if named(above(2), "target")
        && let Some(target) = above(2)
    {
        places.push(target.join("python-base").join(FILE));
    }
    places
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use crate::plugin::bundle::archive::{Files, attach};

    #[test]
    fn a_base_says_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let facts = r#"{"version": "0.1.0", "python": "3.14.0", "distributions": {"numpy": "2.4.6"}}"#;
        std::fs::write(&path, b"code").unwrap();
        let said = Base::open(&path).unwrap_err().message;
        assert!(said.contains("no `base.json`"), "{said}");
        // Beside it, while a base is made by hand.
        std::fs::write(path.with_extension("json"), facts.replace("0.1.0", "0.0.9")).unwrap();
        assert_eq!(Base::open(&path).unwrap().facts.version, "0.0.9");
        // Its own assets come first.
        let files = Files::from([("base.json".to_owned(), facts.as_bytes().to_vec())]);
        std::fs::write(&path, attach(b"code", &files).unwrap()).unwrap();
        let base = Base::open(&path).unwrap();
        assert_eq!((base.code.as_slice(), base.facts.version.as_str()), (&b"code"[..], "0.1.0"));
        assert_eq!(base.facts.distributions["numpy"], "2.4.6");
    }

    #[test]
    fn the_usual_places_are_beside_the_program() {
        let places = |program: &str| beside_program(Path::new(program));
        assert_eq!(places("/usr/local/bin/rollcage"), [] as [PathBuf; 0]);
        assert_eq!(
            places("/v/site-packages/rollcage/_program/rollcage"),
            [PathBuf::from("/v/site-packages/rollcage_python_base/python-base.wasm")]
        );
        assert_eq!(places("/src/target/release/rollcage"), [PathBuf::from("/src/target/python-base/python-base.wasm")]);
    }
}
