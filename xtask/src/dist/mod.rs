//! `cargo xtask dist`: what a release would upload, made into `target/dist` and tried. Everything is made from a copy of the
//! tree, so that a change meanwhile gets into no part or into all. Tools of the build go into folders of `target`.
//!
//! Programs are linked by zig against an old glibc: they run on every distribution that has it or a newer one.

pub(crate) mod aarch64;
mod archive;
mod crates;
mod licences;
mod wheels;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{apt_install, cargo, output, root, run, target};

/// The oldest glibc that programs and wheels run with: that of Debian 10, RHEL 8 and `manylinux_2_28`.
const GLIBC: (u32, u32) = (2, 28);

/// The target that everything is made for.
const HERE: &str = "x86_64-unknown-linux-gnu";

/// The target that a wheel is made for too, and whose digests are compared.
const ARM: &str = "aarch64-unknown-linux-gnu";

/// Tools from PyPI, into a venv of their own.
const TOOLS: &[&str] =
    &["ziglang==0.17.1", "maturin==1.16.0", "auditwheel==6.8.2", "cyclonedx-python-lib[json-validation]==11.11.0"];

/// The tool from crates.io that has zig link.
const ZIGBUILD: &str = "cargo-zigbuild@0.24.1";

type Part = fn(&Release) -> Result<()>;

/// The parts, in the order in which they are made.
const PARTS: [(&str, Part); 5] = [
    ("licences", licences::licences),
    ("wheels", wheels::wheels),
    ("tar", archive::tar),
    ("crates", crates::crates),
    ("aarch64", aarch64::aarch64),
];

/// Makes the named parts, or all, as far as they can be made; and sums of everything that lies in `target/dist` then.
pub(crate) fn dist(arguments: &[String]) -> Result<()> {
    let known = PARTS.map(|(name, _)| name).join(", ");
    if let Some(unknown) = arguments.iter().find(|argument| PARTS.iter().all(|(name, _)| name != argument)) {
        bail!("no part `{unknown}`; there are: {known}");
    }
    let release = Release::new()?;
    let mut failed = Vec::new();
    for (name, part) in PARTS {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            eprintln!("xtask: dist: {name}");
            if let Err(error) = part(&release) {
                eprintln!("xtask: dist: {name}: FAILED: {error:#}");
                failed.push(name);
            }
        }
    }
    release.sums()?;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// The places of a release.
struct Release {
    /// The copy of the tree that everything is made from.
    tree: PathBuf,
    /// What would be uploaded.
    dist: PathBuf,
    /// What is made on the way.
    build: PathBuf,
    /// Where cargo builds, for all targets: what runs while others are built is built once.
    cargo: PathBuf,
    /// The venv of the tools.
    venv: PathBuf,
    /// The other tools.
    tools: PathBuf,
    version: String,
    /// The time of the commit, which files in archives have.
    time: String,
}

impl Release {
    fn new() -> Result<Self> {
        let target = target()?;
        let build = target.join("dist-build");
        let release = Self {
            tree: build.join("tree"),
            cargo: build.join("cargo"),
            dist: target.join("dist"),
            venv: target.join("dist-venv"),
            tools: target.join("dist-tools"),
            version: version()?,
            time: output(git().args(["log", "-1", "--format=%ct"]))?,
            build,
        };
        std::fs::create_dir_all(&release.dist)?;
        copy_tree(&release.tree)?;
        release.install_tools()?;
        Ok(release)
    }

    fn install_tools(&self) -> Result<()> {
        once(&self.venv, &TOOLS.join(" "), || {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&self.venv))?;
            run(Command::new(self.venv.join("bin/pip")).args(["install", "--quiet"]).args(TOOLS))
        })?;
        once(&self.tools.join("zigbuild"), ZIGBUILD, || {
            run(cargo(&["install", "--quiet", "--locked", ZIGBUILD, "--root"])
                .arg(&self.tools)
                .arg("--target-dir")
                .arg(self.cargo.join("tools")))
        })
    }

    /// A command that finds the tools, in the copy of the tree.
    fn tooled(&self, mut command: Command) -> Result<Command> {
        let others = std::env::var_os("PATH").unwrap_or_default();
        let ours = [self.venv.join("bin"), self.tools.join("bin")];
        let path = std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&others)))?;
        command.current_dir(&self.tree).env("PATH", path).env("SOURCE_DATE_EPOCH", &self.time);
        Ok(command)
    }

    /// Builds the program for a target, linked against the old glibc.
    fn program(&self, target: &str) -> Result<PathBuf> {
        let program = self.built("rollcage", "rollcage", target)?;
        needs_no_newer_glibc(&program)?;
        Ok(program)
    }

    /// Builds a program of a package for a target.
    fn built(&self, package: &str, program: &str, target: &str) -> Result<PathBuf> {
        let glibc = format!("{target}.{}.{}", GLIBC.0, GLIBC.1);
        let mut build = self.tooled(cargo(&["zigbuild", "--release", "--locked", "--package", package, "--bin"]))?;
        run(build.args([program, "--target", &glibc, "--target-dir"]).arg(&self.cargo))?;
        Ok(self.cargo.join(target).join("release").join(program))
    }

    /// Builds the program that is uploaded.
    fn program_here(&self) -> Result<PathBuf> {
        self.program(HERE)
    }

    /// Builds the program for aarch64.
    fn program_for_arm(&self) -> Result<PathBuf> {
        run(Command::new("rustup").args(["target", "add", ARM]).current_dir(&self.tree))?;
        self.program(ARM)
    }

    /// Writes the checksums of everything that would be uploaded.
    fn sums(&self) -> Result<()> {
        let sums = self.dist.join("SHA256SUMS");
        let mut names: Vec<_> = std::fs::read_dir(&self.dist)?.flatten().map(|entry| entry.file_name()).collect();
        names.retain(|name| name != "SHA256SUMS");
        names.sort();
        ensure!(!names.is_empty(), "nothing in {}", self.dist.display());
        let mut text = output(Command::new("sha256sum").args(&names).current_dir(&self.dist))?;
        text.push('\n');
        std::fs::write(&sums, &text)?;
        for name in &names {
            let bytes = std::fs::metadata(self.dist.join(name))?.len();
            eprintln!("xtask: dist: {:>9.1} MB  {}", bytes as f64 / 1e6, name.to_string_lossy());
        }
        Ok(())
    }
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.current_dir(root());
    git
}

/// Makes something once, and again when what is `wanted` of it changes.
fn once(made: &Path, wanted: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut mark = made.as_os_str().to_owned();
    mark.push(".made");
    let mark = PathBuf::from(mark);
    if std::fs::read_to_string(&mark).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    make()?;
    std::fs::write(&mark, wanted).with_context(|| mark.display().to_string())
}

/// The version of the workspace.
fn version() -> Result<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \""));
    Ok(line.and_then(|line| line.strip_suffix('"')).context("`version` in Cargo.toml")?.to_owned())
}

/// Copies the files that git has or would add. A file that is there with the same bytes keeps its time, so that cargo builds
/// only what has changed.
fn copy_tree(to: &Path) -> Result<()> {
    if !output(git().args(["status", "--porcelain"]))?.is_empty() {
        eprintln!("xtask: dist: WARNING: the tree has changes that are not committed");
    }
    let listed = output(git().args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let names: BTreeSet<PathBuf> = listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    let mut there = BTreeSet::new();
    files_below(to, to, &mut there)?;
    for gone in there.difference(&names) {
        std::fs::remove_file(to.join(gone))?;
    }
    for name in names {
        copy_changed(&root().join(&name), &to.join(&name)).with_context(|| name.display().to_string())?;
    }
    Ok(())
}

/// Copies a file or a symbolic link, if the bytes differ. A file that is not there is removed.
fn copy_changed(from: &Path, to: &Path) -> Result<()> {
    let Ok(kind) = from.symlink_metadata() else {
        let _ = std::fs::remove_file(to);
        return Ok(());
    };
    let is_link = kind.file_type().is_symlink();
    let same = if is_link {
        std::fs::read_link(to).is_ok_and(|there| std::fs::read_link(from).is_ok_and(|link| link == there))
    } else {
        std::fs::read(to).is_ok_and(|there| std::fs::read(from).is_ok_and(|bytes| bytes == there))
    };
    if same {
        return Ok(());
    }
    let _ = std::fs::remove_file(to);
    std::fs::create_dir_all(to.parent().context("a folder")?)?;
    if is_link {
        std::os::unix::fs::symlink(std::fs::read_link(from)?, to)?;
    } else {
        std::fs::copy(from, to)?;
    }
    Ok(())
}

/// Collects the files below a folder, relative to another.
fn files_below(folder: &Path, from: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            files_below(&path, from, found)?;
        } else {
            found.insert(path.strip_prefix(from)?.to_owned());
        }
    }
    Ok(())
}

/// Copies a file, or a folder with all that is in it.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let mut files = BTreeSet::new();
    if from.is_dir() {
        files_below(from, from, &mut files)?;
    } else {
        files.insert(PathBuf::new());
    }
    for file in files {
        let (from, to) = if file.as_os_str().is_empty() {
            (from.to_owned(), to.to_owned())
        } else {
            (from.join(&file), to.join(&file))
        };
        std::fs::create_dir_all(to.parent().context("a folder")?)?;
        std::fs::copy(&from, &to).with_context(|| from.display().to_string())?;
    }
    Ok(())
}

/// Checks the newest version of a glibc symbol that a file needs.
fn needs_no_newer_glibc(file: &Path) -> Result<()> {
    let needs = output(Command::new("readelf").args(["--wide", "--version-info"]).arg(file))?;
    let versions = needs.split("GLIBC_").skip(1).filter_map(|rest| {
        let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    let newest: (u32, u32) = versions.max().with_context(|| format!("{}: needs no glibc", file.display()))?;
    eprintln!("xtask: dist: {} needs glibc {}.{}", file.display(), newest.0, newest.1);
    ensure!(newest <= GLIBC, "{} needs glibc {}.{}", file.display(), newest.0, newest.1);
    Ok(())
}

/// Unpacks packages of a Debian suite into a folder; false where that cannot be.
fn suite(suite: &str, architecture: &str, packages: &str, place: &Path) -> Result<bool> {
    let has = || Command::new("mmdebstrap").arg("--version").output().is_ok_and(|output| output.status.success());
    if !(has() || apt_install(&["mmdebstrap"]) && has()) {
        return Ok(false);
    }
    let unpacked = once(place, packages, || {
        let _ = std::fs::remove_dir_all(place);
        run(Command::new("mmdebstrap")
            .args(["--quiet", "--variant=extract", "--aptopt=Acquire::Check-Valid-Until \"false\""])
            .args([&format!("--include={packages}"), &format!("--architectures={architecture}"), suite])
            .arg(place))
    });
    if let Err(error) = &unpacked {
        eprintln!("xtask: dist: {error:#}");
    }
    Ok(unpacked.is_ok())
}

/// A short run, whose digest is compared. The env's name follows.
const PLAY: [&str; 11] = ["run", "--walls", "none", "--episodes", "3", "--seed", "7", "--envs", "2", "--json", "--"];

/// The digest in a report.
fn digest(report: String) -> Result<String> {
    let report: Value = serde_json::from_str(&report).with_context(|| report.clone())?;
    Ok(report["digest"].as_str().context("`digest` in the report")?.to_owned())
}

/// Makes the links of a merged `/usr`, where a folder's packages have none.
fn merged(place: &Path) -> Result<()> {
    for name in ["lib", "lib64"] {
        if !place.join(name).exists() && place.join("usr").join(name).exists() {
            std::os::unix::fs::symlink(format!("usr/{name}"), place.join(name))?;
        }
    }
    Ok(())
}

/// Begins as the shell of the machine, and goes on as the program of another root.
const IN_ROOT: &str = r#"
set -e
mount --bind "$1" "$1"
mkdir -p "$1/proc" "$1/dev" "$1/tmp" "$1/outside"
mount --rbind /proc "$1/proc"
mount --rbind /dev "$1/dev"
cd "$1"
pivot_root . outside
cd /
shift
exec /rollcage "$@"
"#;

/// The program `rollcage` of another root folder, in namespaces of its own.
fn in_root(place: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--propagation", "private", "sh", "-c", IN_ROOT, "sh"]);
    command.arg(place).env_clear().envs([("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"), ("HOME", "/tmp")]);
    command
}
