//! `rollcage.lock`: what a search for dependencies found, kept in the project's folder. The next build takes the same
//! wheels, and needs no network if they are in the cache. The file comes with a folder that nobody vouches for: its
//! addresses are for people, and no file is fetched from them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::base::Facts;
use super::project::Project;
use super::resolve::{Resolved, Stub};
use crate::error::UsageError;
use crate::files::{read_regular, replace};
use crate::text::escape_line;

/// The name of the file.
pub(super) const FILE: &str = "rollcage.lock";

/// The most bytes that it may have.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The version of its format.
const FORMAT: u32 = 1;

const HEAD: &str = "\
# Written by rollcage: the wheels that this project's env is bundled with. Keep it with the project.
# It is written anew when `project.dependencies` or `tool.rollcage.leave-out` change; delete it for newer versions.
";

/// A wheel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The normalised name of the distribution.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The wheel's file name.
    pub filename: String,
    /// The wheel's SHA-256, 64 lower-case hex digits.
    pub sha256: String,
    /// Where the index had it, for people.
    pub url: String,
    /// Distributions that it needs.
    #[serde(default)]
    pub needs: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    name: String,
    modules: Vec<String>,
    why: String,
    by: String,
}

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Lock {
    format: u32,
    /// The Python that the wheels are for.
    python: String,
    /// What the base holds, which is not bundled.
    base_holds: Vec<String>,
    /// What the search was for.
    requires: Vec<String>,
    leave_out: Vec<String>,
    warnings: Vec<String>,
    #[serde(default, rename = "package")]
    packages: Vec<Package>,
    #[serde(default, rename = "stub")]
    stubs: Vec<Left>,
}

impl Lock {
    /// A lock of what a search found.
    pub(super) fn of(project: &Project, facts: &Facts, python: &str, resolved: &Resolved<Package>) -> Lock {
        let package = |distribution: &super::resolve::Distribution<Package>| Package {
            needs: distribution.needs.clone(),
            ..distribution.package.clone()
        };
        let left = |stub: &Stub| Left {
            name: stub.name.clone(),
            modules: stub.modules.clone(),
            why: stub.why.clone(),
            by: stub.by.clone(),
        };
        Lock {
            packages: resolved.distributions.iter().map(package).collect(),
            stubs: resolved.stubs.iter().map(left).collect(),
            warnings: resolved.warnings.clone(),
            ..Lock::asked(project, facts, python)
        }
    }

    /// A lock of what is searched for, without what was found.
    fn asked(project: &Project, facts: &Facts, python: &str) -> Lock {
        let mut requires: Vec<String> = project.dependencies.iter().map(ToString::to_string).collect();
        requires.sort();
        let mut leave_out = project.settings.leave_out.clone();
        leave_out.sort();
        Lock {
            format: FORMAT,
            python: python.to_owned(),
            base_holds: facts.distributions.keys().cloned().collect(),
            requires,
            leave_out,
            warnings: Vec::new(),
            packages: Vec::new(),
            stubs: Vec::new(),
        }
    }

    /// Reads the lock of a project, if it has one that fits what is searched for.
    ///
    /// # Errors
    /// The file is damaged.
    pub(super) fn read(project: &Project, facts: &Facts, python: &str) -> Result<Option<Lock>, UsageError> {
        let path = path(&project.folder);
        let bytes = match read_regular(&path, FILE_BYTES_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| refuse(&path, &error.to_string()))?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let lock: Lock = match toml::from_str(&text) {
            Ok(lock) => lock,
            // A later format is looked at no further.
            Err(_) if !text.contains(&format!("\nformat = {FORMAT}\n")) && text.contains("\nformat = ") => {
                return Ok(None);
            }
            Err(error) => return Err(refuse(&path, &escape_line(error.message()))),
        };
        for package in &lock.packages {
            check(package).map_err(|what| refuse(&path, &what))?;
        }
        let found = Lock { warnings: Vec::new(), packages: Vec::new(), stubs: Vec::new(), ..lock.clone() };
        Ok((found == Lock::asked(project, facts, python)).then_some(lock))
    }

    /// Writes the lock into the project's folder, in place of an older one.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn write(&self, project: &Project) -> std::io::Result<()> {
        let text = toml::to_string(self).map_err(std::io::Error::other)?;
        replace(&path(&project.folder), format!("{HEAD}\n{text}").as_bytes())
    }

    /// The wheels.
    pub(super) fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// What is declared and not bundled.
    pub(super) fn stubs(&self) -> Vec<Stub> {
        let stub = |left: &Left| Stub {
            name: left.name.clone(),
            modules: left.modules.clone(),
            why: left.why.clone(),
            by: left.by.clone(),
        };
        self.stubs.iter().map(stub).collect()
    }

    /// What stops nothing and should be known.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn refuse(path: &Path, what: &str) -> UsageError {
    UsageError::new(format!("`{}`: {what}", escape_line(&path.display().to_string())))
        .hint("delete it: it is written anew, with the versions that the package index has today")
}

/// Checks what becomes a part of a path or of a command.
fn check(package: &Package) -> Result<(), String> {
    let shown = escape_line(&package.name);
    let name = pep508_rs::PackageName::new(package.name.clone()).map(|name| name.to_string());
    if name.as_ref() != Ok(&package.name) {
        return Err(format!("`{shown}` is no normalised name of a distribution"));
    }
    if package.version.parse::<pep508_rs::pep440_rs::Version>().is_err() {
        return Err(format!("{shown}: `{}` is no version", escape_line(&package.version)));
    }
    if crate::digest::Digest::from_hex(&package.sha256).is_none() {
        return Err(format!("{shown}: `{}` is no SHA-256", escape_line(&package.sha256)));
    }
    if !package.filename.ends_with("-none-any.whl") {
        return Err(format!("{shown}: `{}` is no wheel of Python code alone", escape_line(&package.filename)));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::super::pins::tests::facts;
    use super::*;
    use crate::plugin::bundle::resolve::Distribution;

    #[test]
    fn a_lock_fits_what_it_was_made_for() {
        let folder = tempfile::tempdir().unwrap();
        let project = |text: &str| Project::parse(folder.path(), text).unwrap();
        let first = project("[project]\ndependencies = ['maze>=1', 'numpy']");
        let package = Package {
            name: "maze".to_owned(),
            version: "1.0".to_owned(),
            filename: "maze-1.0-py3-none-any.whl".to_owned(),
            sha256: "0f".repeat(32),
            url: "https://example.org/maze-1.0-py3-none-any.whl".to_owned(),
            needs: vec!["pygame".to_owned()],
        };
        let distribution =
            Distribution { name: "maze".to_owned(), version: "1.0".to_owned(), needs: package.needs.clone(), package };
        let stub = Stub {
            name: "pygame".to_owned(),
            modules: vec!["pygame".to_owned()],
            why: "native".to_owned(),
            by: "maze".to_owned(),
        };
        let resolved =
            Resolved { distributions: vec![distribution], stubs: vec![stub], warnings: vec!["w".to_owned()] };
        assert!(Lock::read(&first, &facts(), "3.14").unwrap().is_none());
        let lock = Lock::of(&first, &facts(), "3.14", &resolved);
        lock.write(&first).unwrap();
        assert_eq!(Lock::read(&first, &facts(), "3.14").unwrap().as_ref(), Some(&lock));
        assert_eq!(lock.stubs(), resolved.stubs);
        // The order in which requirements are written does not count.
        let turned = project("[project]\ndependencies = ['numpy', 'maze >= 1']");
        assert!(Lock::read(&turned, &facts(), "3.14").unwrap().is_some());
        for other in [
            "[project]\ndependencies = ['maze>=2', 'numpy']",
            "[project]\ndependencies = ['maze>=1', 'numpy']\n[tool.rollcage]\nleave-out = ['pygame']",
        ] {
            assert!(Lock::read(&project(other), &facts(), "3.14").unwrap().is_none(), "{other}");
        }
        assert!(Lock::read(&first, &facts(), "3.15").unwrap().is_none());
        let mut newer = facts();
        newer.distributions.insert("maze".to_owned(), "1.0".to_owned());
        assert!(Lock::read(&first, &newer, "3.14").unwrap().is_none());

        let text = std::fs::read_to_string(path(folder.path())).unwrap();
        for (from, to, said) in [
            ("maze-1.0-py3-none-any.whl\"", "../../x\"", "is no wheel of Python code alone"),
            ("name = \"maze\"", "name = \"--index-url\"", "is no normalised name"),
            ("version = \"1.0\"", "version = \"1.0 --pre\"", "is no version"),
            ("0f0f", "zzzz", "is no SHA-256"),
            ("format = 1", "format = 'one'", ""),
        ] {
            std::fs::write(path(folder.path()), text.replacen(from, to, 1)).unwrap();
            match Lock::read(&first, &facts(), "3.14") {
                Err(error) => assert!(error.message.contains(said), "{to}: {}", error.message),
                Ok(found) => assert!(said.is_empty() && found.is_none(), "{to}"),
            }
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
