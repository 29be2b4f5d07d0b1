//! The grants of the command line: `--grant` and `--grants`; and the user's own paths that no grant may reach. This file
//! reads the inputs that the library does not read: arguments, the file, the home folder.

use std::path::PathBuf;

use rollcage::outside::grant::{Access, Extent, Grants, Protected};
use rollcage::{Builder, UsageError};

use super::source::cache_folder;

#[derive(clap::Args)]
pub(super) struct Granting {
    /// Give every env something of the outside, as dir=HOST:GUEST[:ro|:rw] or tcp-connect=HOST:PORT; may be repeated
    ///
    /// Without a grant an env has nothing: no files, no network, a clock and randomness that are the same in every run.
    /// `dir=./levels:/levels` lets it read the folder `levels`, under the name `/levels`; `:rw` lets it write as well.
    /// `tcp-connect=127.0.0.1:3100` lets it connect there, and nowhere else; a name that may mean this machine or a private
    /// address is written `tcp-connect=simulator:3100,private`. The others: `tcp-listen=ADDR:PORT`, `udp=ADDR:PORT`,
    /// `clock=real`, `random=real`. `rollcage inspect` shows the grants that a plugin would use; none is given automatically.
    #[arg(long, value_name = "KIND=SPEC")]
    grant: Vec<String>,

    /// A TOML file with grants, or `go` or `short-kick` for the grants that ship with them; grants of `--grant` are added
    ///
    /// A section `[grant]` with `dir = ["levels:/levels"]`, `tcp-connect = ["127.0.0.1:3100"]`, `clock = "real"`. A relative
    /// folder begins at the file's own.
    #[arg(long, value_name = "FILE")]
    grants: Option<PathBuf>,
}

impl Granting {
    /// Adds the grants to a builder. Their targets are checked when the builder makes envs.
    pub(super) fn give(&self, builder: Builder) -> Result<Builder, UsageError> {
        Ok(builder.grants(self.grants()?).protect(self.protected()))
    }

    /// The grants from the arguments and the file.
    pub(super) fn grants(&self) -> Result<Grants, UsageError> {
        let mut grants = match &self.grants {
            Some(file) => Grants::named(file)?,
            None => Grants::new(),
        };
        for text in &self.grant {
            grants.add(text.parse()?);
        }
        grants.check()?;
        Ok(grants)
    }

    /// The paths that no grant may reach.
    pub(super) fn protected(&self) -> Vec<Protected> {
        let mut all = etcetera::home_dir().map(|home| Protected::of_home(&home)).unwrap_or_default();
        let mut protect = |path: PathBuf, what: &str, extent, from| {
            all.push(Protected { path, what: what.to_owned(), extent, from });
        };
        if let Some(cache) = cache_folder() {
            // Also protected where this run does not use it, because the next run will.
            let what = "the cache of compiled plugins: code that workers run";
            protect(cache, what, Extent::Whole, Access::ReadOnly);
        }
        if let Some(file) = &self.grants {
            protect(file.clone(), "the file that says what is granted", Extent::Whole, Access::ReadWrite);
        }
        all
    }
}
