//! A package index, asked through the user's own pip, with the user's own configuration. Only wheels are asked for, so that
//! nothing of a distribution is run: no build, no metadata made by a build. pip runs isolated from the project: not in its
//! folder, and without Python's search path there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use pep508_rs::pep440_rs::Version;
use serde::Deserialize;

use super::lock::Package;
use super::options::Options;
use super::resolve::{Found, Supply, Wanted};
use crate::error::UsageError;
use crate::text::{escape_line, plain};

/// Platforms whose wheels tell that a distribution has native code.
const NATIVE: [&str; 3] = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"];

/// Pythons before the guest's, for which there may be wheels.
const OTHERS: [&str; 3] = ["3.13", "3.12", "3.10"];

/// How many packages are asked for at once: most of the time is pip's own start.
const AT_ONCE: usize = 4;

/// An index behind pip.
pub(super) struct Pip {
    /// The Pythons that may have pip, the best first.
    candidates: Vec<PathBuf>,
    program: OnceLock<Result<PathBuf, UsageError>>,
    /// The Python of the guest, as in `3.14`.
    python: String,
}

/// What `pip install --dry-run --report` writes, as far as it matters.
#[derive(Deserialize)]
struct Report {
    install: Vec<Install>,
}

#[derive(Deserialize)]
struct Install {
    download_info: Download,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Download {
    url: String,
    archive_info: Option<Archive>,
}

#[derive(Deserialize)]
struct Archive {
    hashes: Option<Hashes>,
}

#[derive(Deserialize)]
struct Hashes {
    sha256: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    version: String,
    #[serde(default)]
    requires_dist: Vec<String>,
}

/// The wheel that pip would take, and whether it is one of Python code alone.
struct Wheel {
    package: Package,
    requires: Vec<String>,
    is_pure: bool,
}

impl Pip {
    pub(super) fn new(options: &Options, python: String) -> Pip {
        Pip { candidates: candidates(options), program: OnceLock::new(), python }
    }

    /// Downloads wheels into a folder. pip compares their hashes with those that it is given.
    pub(super) fn download(&self, packages: &[&Package], folder: &Path) -> Result<(), UsageError> {
        let list = folder.join("requirements.txt");
        let lines: Vec<String> = packages
            .iter()
            .map(|package| format!("{}=={} --hash=sha256:{}\n", package.name, package.version, package.sha256))
            .collect();
        std::fs::write(&list, lines.concat())
            .map_err(|error| UsageError::new(format!("`{}`: {error}", list.display())))?;
        let mut arguments = vec!["download".as_ref(), "--require-hashes".as_ref(), "-r".as_ref(), list.as_os_str()];
        arguments.extend(["--dest".as_ref(), folder.as_os_str()]);
        let said = self.run(&arguments, &tags(&self.python, &["any"]), true)?;
        if said.status.success() {
            return Ok(());
        }
        let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        let names = names.join(", ");
        let lock = super::lock::FILE;
        if String::from_utf8_lossy(&said.stderr).contains("DO NOT MATCH THE HASHES") {
            return Err(failed(
                &said,
                &format!("downloading {names} failed: a wheel has another sha256 than `{lock}` says"),
            )
            .hint(format!("somebody changed the wheel or the lock; if that is meant, delete `{lock}`")));
        }
        Err(failed(&said, &format!("downloading {names} failed"))
            .hint(format!("if a wheel is no longer there, delete `{lock}`: the next run looks for others")))
    }

    /// The wheel that pip would take for the guest's Python; otherwise what pip says.
    fn wheel(&self, requirement: &str, platforms: &[&str]) -> Result<Result<Wheel, Output>, UsageError> {
        self.wheel_for(&self.python, requirement, platforms)
    }

    fn wheel_for(
        &self,
        python: &str,
        requirement: &str,
        platforms: &[&str],
    ) -> Result<Result<Wheel, Output>, UsageError> {
        let nowhere = std::env::temp_dir().join("rollcage-nowhere");
        let arguments = [
            "install".as_ref(),
            "--dry-run".as_ref(),
            "--ignore-installed".as_ref(),
            "--report".as_ref(),
            "-".as_ref(),
            // Needed beside another platform's tags; nothing is written.
            "--target".as_ref(),
            nowhere.as_os_str(),
            // Parsed and written by us: it begins with a name, and is no option.
            requirement.as_ref(),
        ];
        let said = self.ask(&arguments, &tags(python, platforms), true)?;
        if !said.status.success() {
            return Ok(Err(said));
        }
        let wrong = |what: String| UsageError::new(format!("pip's report about `{requirement}`: {what}"));
        let report: Report = serde_json::from_slice(&said.stdout).map_err(|error| wrong(error.to_string()))?;
        let [install] = report.install.as_slice() else { return Err(wrong("one wheel is expected".to_owned())) };
        let filename = install.download_info.url.rsplit('/').next().unwrap_or_default().replace("%2B", "+");
        let archive = install.download_info.archive_info.as_ref();
        let sha256 = archive.and_then(|archive| archive.hashes.as_ref()?.sha256.clone());
        let sha256 = sha256.ok_or_else(|| wrong("the index gives no sha256".to_owned()))?;
        let is_pure = filename.ends_with("-none-any.whl");
        let package = Package {
            name: String::new(),
            version: install.metadata.version.clone(),
            filename,
            sha256,
            url: install.download_info.url.clone(),
            needs: Vec::new(),
        };
        Ok(Ok(Wheel { package, requires: install.metadata.requires_dist.clone(), is_pure }))
    }

    /// What there is of a distribution that has nothing for the guest's Python: native wheels of others are a stub too.
    fn for_another_python(&self, wanted: &Wanted, said: &Output) -> Result<Found<Package>, UsageError> {
        let Wanted { name, by, .. } = wanted;
        let all: Vec<&str> = ["any"].into_iter().chain(NATIVE).collect();
        for python in OTHERS {
            if let Ok(wheel) = self.wheel_for(python, name, &all)? {
                let version = &wheel.package.version;
                if !wheel.is_pure {
                    return Ok(stub(format!("{name} has native code, and is not made for Python {}", self.python)));
                }
                return Err(UsageError::new(format!(
                    "no version of {name} takes Python {}, which is the base's: {version} takes {python} (needed by {by})",
                    self.python
                )));
            }
        }
        Err(failed(said, &format!("there is no {name} in the package index (needed by {by})"))
            .hint("is the name right? A package index has the names of distributions, not of modules"))
    }

    /// Versions of a distribution that take the guest's Python, in any form; none if there is no such distribution.
    fn versions(&self, name: &str) -> Result<Option<Vec<Version>>, UsageError> {
        let arguments: [&OsStr; 3] = ["index".as_ref(), "versions".as_ref(), name.as_ref()];
        let said = self.ask(&arguments, &["--python-version".to_owned(), self.python.clone()], false)?;
        if !said.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&said.stdout);
        let list = text.lines().find_map(|line| line.trim().strip_prefix("Available versions:")).unwrap_or_default();
        Ok(Some(list.split(',').filter_map(|version| version.trim().parse().ok()).collect()))
    }

    fn run(&self, arguments: &[&OsStr], more: &[String], quiet: bool) -> Result<Output, UsageError> {
        let program = self.program.get_or_init(|| with_pip(&self.candidates)).clone()?;
        let mut command = isolated(&program);
        // The command first, then its options.
        command.args(&arguments[..1]).args(more).args(&arguments[1..]);
        command.args(["--disable-pip-version-check", "--no-input", "--no-color", "--retries", "1", "--timeout", "20"]);
        if quiet {
            command.arg("--quiet");
        }
        let said = command.output().map_err(|error| UsageError::new(format!("`{}`: {error}", program.display())))?;
        Ok(said)
    }

    /// As [`Pip::run`]. What is no answer of the index is an error: it would be taken for "there is no such version".
    fn ask(&self, arguments: &[&OsStr], more: &[String], quiet: bool) -> Result<Output, UsageError> {
        let said = self.run(arguments, more, quiet)?;
        let text = String::from_utf8_lossy(&said.stderr);
        let broken = ["connection broken by", "Could not fetch URL", "HTTP error", "problem confirming the ssl"];
        let is_answer =
            text.contains("No matching distribution found") && !broken.iter().any(|words| text.contains(words));
        if said.status.success() || is_answer {
            return Ok(said);
        }
        Err(failed(&said, "the package index cannot be reached, or pip failed")
            .hint("once the wheels are in the cache, no network is needed"))
    }
}

impl Supply for Pip {
    type Package = Package;

    fn find(&self, wanted: &Wanted) -> Result<Found<Package>, UsageError> {
        let Wanted { name, versions, by } = wanted;
        let asked = format!("{name}{versions}");
        let all: Vec<&str> = ["any"].into_iter().chain(NATIVE).collect();
        let pure = |wheel: Wheel| Found::Pure {
            version: wheel.package.version.clone(),
            requires: wheel.requires,
            package: Package { name: name.clone(), ..wheel.package },
        };
        match self.wheel(&asked, &all)? {
            Ok(wheel) if wheel.is_pure => Ok(pure(wheel)),
            Ok(native) => {
                // The same version may also have a wheel without native code.
                let version = &native.package.version;
                match self.wheel(&format!("{name}=={version}"), &["any"])? {
                    Ok(wheel) if wheel.is_pure => Ok(pure(wheel)),
                    _ => Ok(stub(format!("{name} {version} has native code"))),
                }
            }
            Err(said) => match self.versions(name)? {
                None => self.for_another_python(wanted, &said),
                Some(known) if known.iter().any(|version| versions.is_empty() || versions.contains(version)) => {
                    Ok(stub(format!("{name} has no wheel of Python code for Python {}", self.python)))
                }
                Some(known) => match self.wheel(name, &all)? {
                    // It could not run in any version.
                    Ok(wheel) if !wheel.is_pure => Ok(stub(format!("{name} has native code"))),
                    _ => {
                        let newest = known.iter().max().map(|version| format!("; the newest is {version}"));
                        Err(UsageError::new(format!(
                            "no version of {name} for Python {} fits {versions} (needed by {by}){}",
                            self.python,
                            newest.unwrap_or_default()
                        )))
                    }
                },
            },
        }
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }
}

/// Options of pip that say for which Python and platforms a wheel is.
fn tags(python: &str, platforms: &[&str]) -> Vec<String> {
    let mut tags: Vec<String> =
        ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
            .map(str::to_owned)
            .into();
    if platforms == ["any"] {
        tags.extend(["--abi".to_owned(), "none".to_owned()]);
    }
    tags.extend(platforms.iter().flat_map(|platform| ["--platform".to_owned(), (*platform).to_owned()]));
    tags
}

fn stub(why: String) -> Found<Package> {
    Found::Stub { why, modules: Vec::new() }
}

fn failed(said: &Output, what: &str) -> UsageError {
    let line = last_line(said);
    let error = UsageError::new(what);
    if line.is_empty() { error } else { error.hint(format!("pip says: {}", plain(&line, 300))) }
}

/// pip's last word.
fn last_line(said: &Output) -> String {
    let text = String::from_utf8_lossy(&said.stderr);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    escape_line(line.trim().trim_start_matches("ERROR: "))
}

/// Python's pip, isolated: no folder of the project is on its path, and none is its working directory.
fn isolated(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-I", "-m", "pip"]).current_dir(std::env::temp_dir()).stdin(Stdio::null());
    without_settings(&mut command);
    command
}

/// Leaves out what a user sets for installing, which has no meaning where pip fills a folder of ours; indexes, proxies and
/// constraints stay.
pub fn without_settings(command: &mut Command) {
    for name in
        ["USER", "TARGET", "PREFIX", "ROOT", "REQUIREMENT", "REQUIRE_VIRTUALENV", "NO_BINARY", "QUIET", "VERBOSE"]
    {
        command.env_remove(format!("PIP_{name}"));
    }
}

/// The Pythons that may have pip: the one that was named, that of the active environment, those on the path.
fn candidates(options: &Options) -> Vec<PathBuf> {
    let environment = std::env::var_os("VIRTUAL_ENV").map(|folder| PathBuf::from(folder).join("bin/python"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    let on_path =
        ["python3", "python"].into_iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    options.python.iter().cloned().chain(environment).chain(on_path).filter(|path| path.is_file()).take(8).collect()
}

/// The first Python that has pip.
fn with_pip(candidates: &[PathBuf]) -> Result<PathBuf, UsageError> {
    let has_pip = |program: &&PathBuf| {
        let said = isolated(program).arg("--version").output();
        said.is_ok_and(|said| said.status.success())
    };
    candidates.iter().find(has_pip).cloned().ok_or_else(|| {
        UsageError::new("the project's dependencies are fetched by pip, and no Python with pip was found").hint(
            "install one (`apt install python3-pip`), or activate an environment that has it (`python3 -m ensurepip`)",
        )
    })
}
