//! `cargo xtask dist`: what a release would upload, made into `target/dist` and tried. Everything is made from a copy of the
//! tree, so that a change meanwhile gets into no part or into all. Tools of the build go into folders of `target`.
//!
//! Programs are linked by zig against an old glibc: they run on every distribution that has it or a newer one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

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
const PARTS: [(&str, Part); 5] =
    [("licences", licences), ("wheels", wheels), ("tar", tar), ("crates", crates), ("aarch64", aarch64)];

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

// Wheels.

/// Steps envs, with what a user types.
const TRY: &str = "\
import sys, gymnasium, numpy, rollcage
envs = rollcage.make_vec('cartpole', num_envs=3, seed=7)
envs.reset()
total = sum(envs.step([0, 1, 0])[1].sum() for _ in range(8))
envs.close()
assert total == 24, total
print('Python', sys.version.split()[0], 'gymnasium', gymnasium.__version__, 'numpy', numpy.__version__, 'rollcage', rollcage.__version__)
";

/// The wheels of the Python package for both processors, and that of the base plugin where it is built. The wheel for this
/// processor is installed and tried; the other one is tried in an emulated machine.
fn wheels(release: &Release) -> Result<()> {
    licences(release)?;
    remove(&release.dist, "rollcage-", ".whl")?;
    base_wheel(release)?;
    // First: what is left in the copy of the tree is then this processor's program.
    let other = package_wheel(release, ARM, &release.program_for_arm()?)?;
    try_wheel_for_arm(release, &other)?;
    let wheel = package_wheel(release, HERE, &release.program_here()?)?;
    let pythons = pythons();
    ensure!(!pythons.is_empty(), "no Python from 3.10 on to try the wheel with");
    for (name, python) in pythons {
        try_wheel(release, &wheel, &name, &python)?;
    }
    newest_python(release, &wheel)
}

/// Builds the extension for a target, and packs it with the program for that target. Returns the wheel.
fn package_wheel(release: &Release, target: &str, program: &Path) -> Result<PathBuf> {
    let packaged = release.tree.join("python/rollcage/_program");
    copy_all(program, &packaged.join("rollcage"))?;
    std::fs::copy(release.dist.join("LICENCES.txt"), packaged.join("LICENCES.txt"))?;
    let tag = format!("manylinux_{}_{}", GLIBC.0, GLIBC.1);
    let mut maturin = release.tooled(Command::new(release.venv.join("bin/maturin")))?;
    maturin.args(["build", "--release", "--locked", "--zig", "--target", target, "--compatibility", &tag]);
    maturin.args(["--manifest-path", "python/Cargo.toml", "--out"]).arg(&release.dist);
    // In a folder of its own: maturin has zig called in another way, and cargo would build the one after the other anew.
    let built = release.build.join("extension");
    run(maturin.env("CARGO_TARGET_DIR", &built))?;
    let extension = built.join(target).join("release/lib_rollcage.so");
    needs_no_newer_glibc(&extension)?;
    for file in [program, &extension] {
        is_for(file, target)?;
    }
    let wheel = the_wheel(release, target)?;
    run(&mut release.tooled({
        let mut show = Command::new(release.venv.join("bin/auditwheel"));
        show.arg("show").arg(&wheel);
        show
    })?)?;
    Ok(wheel)
}

/// Checks that a file is for the processor of a target.
fn is_for(file: &Path, target: &str) -> Result<()> {
    let machine = if target == ARM { "AArch64" } else { "X86-64" };
    let said = output(Command::new("readelf").arg("--file-header").arg(file).env("LC_ALL", "C"))?;
    let line = said.lines().find(|line| line.trim_start().starts_with("Machine:")).unwrap_or_default();
    ensure!(line.contains(machine), "{} is not for {target}: {}", file.display(), line.trim());
    Ok(())
}

/// Removes files of a folder by their names' beginning and end.
fn remove(folder: &Path, begins: &str, ends: &str) -> Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(begins) && name.ends_with(ends) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The wheel of this version for a target.
fn the_wheel(release: &Release, target: &str) -> Result<PathBuf> {
    let begins = format!("rollcage-{}-", release.version);
    let ends = format!("_{}.whl", target.split('-').next().unwrap_or(target));
    let names = std::fs::read_dir(&release.dist)?.flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&begins) && name.ends_with(&ends)
    };
    names.into_iter().find(ours).context("maturin made no wheel")
}

/// Copies the wheel of the base plugin, which takes minutes to build and is not built here.
fn base_wheel(release: &Release) -> Result<()> {
    remove(&release.dist, "rollcage_python_base-", ".whl")?;
    let wheels = target()?.join("wheels");
    let entries = std::fs::read_dir(&wheels).into_iter().flatten().flatten();
    let base =
        entries.map(|entry| entry.file_name()).find(|name| name.to_string_lossy().starts_with("rollcage_python"));
    match base {
        Some(name) => copy_all(&wheels.join(&name), &release.dist.join(&name)),
        None => {
            eprintln!("xtask: dist: WARNING: no wheel of the base plugin: run `cargo xtask python-base` before");
            Ok(())
        }
    }
}

/// The Pythons of this machine that the wheel is for: on the path, or pyenv's.
fn pythons() -> Vec<(String, PathBuf)> {
    let runs =
        |python: &Path| Command::new(python).arg("--version").output().is_ok_and(|output| output.status.success());
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv"))).unwrap_or_default();
    let versions: Vec<PathBuf> =
        std::fs::read_dir(pyenv.join("versions")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let find = |minor: u32| {
        let name = format!("python3.{minor}");
        let begins = format!("3.{minor}.");
        let pyenvs =
            versions.iter().filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&begins)));
        let pyenvs = pyenvs.map(|path| path.join("bin/python3"));
        let found = std::iter::once(PathBuf::from(&name)).chain(pyenvs).find(|python| runs(python));
        found.map(|python| (name, python))
    };
    (10..=20).filter_map(find).collect()
}

/// Installs the wheel into a clean venv, steps envs, and runs the program by the package's name.
fn try_wheel(release: &Release, wheel: &Path, name: &str, python: &Path) -> Result<()> {
    let venv = release.build.join(format!("venv-{name}"));
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&venv))?;
    let clean = |program: &str| {
        let mut command = Command::new(venv.join("bin").join(program));
        command.current_dir(&venv).env_remove("PYTHONPATH").env_remove("ROLLCAGE_PROGRAM");
        command
    };
    run(clean("pip").args(["install", "--quiet", "--disable-pip-version-check"]).arg(wheel))?;
    run(clean("python").args(["-c", TRY]))?;
    run(clean("python").args(["-m", "rollcage", "doctor"]))
}

/// Tries the wheel with the newest Python of Debian, where it can be had. Its interpreter is started by its own loader; the
/// program that it starts is not.
fn newest_python(release: &Release, wheel: &Path) -> Result<()> {
    let place = release.tools.join("sid");
    if !suite("sid", "amd64", "python3", &place)? {
        eprintln!("xtask: dist: WARNING: the wheel was NOT TRIED with Debian's newest Python");
        return Ok(());
    }
    let version = std::fs::read_link(place.join("usr/bin/python3"))?.to_string_lossy().into_owned();
    let number = version.strip_prefix("python").context("a version of Debian's Python")?;
    let packages = release.build.join("sid-packages");
    let _ = std::fs::remove_dir_all(&packages);
    let mut pip = Command::new(release.venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--only-binary", ":all:", "--python-version", number, "--target"]);
    run(pip.arg(&packages).arg(wheel))?;
    let libraries = place.join("usr/lib/x86_64-linux-gnu");
    let mut python = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    python.arg("--library-path").arg(&libraries).arg(place.join("usr/bin").join(&version)).args(["-c", TRY]);
    run(python.env("PYTHONHOME", place.join("usr")).env("PYTHONPATH", &packages).current_dir(&release.build))
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

// The program by itself.

/// The program with its licences, its completions and its manual, as one archive; tried here and with an older glibc.
fn tar(release: &Release) -> Result<()> {
    licences(release)?;
    let program = release.program_here()?;
    let name = format!("rollcage-{}-x86_64-linux", release.version);
    let folder = release.build.join(&name);
    let _ = std::fs::remove_dir_all(&folder);
    copy_all(&program, &folder.join("rollcage"))?;
    for file in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        copy_all(&release.tree.join(file), &folder.join(file))?;
    }
    copy_all(&release.dist.join("LICENCES.txt"), &folder.join("LICENCES.txt"))?;
    completions(&program, &folder)?;
    let archive = release.dist.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=go+rX-w"]);
    tar.args([&format!("--mtime=@{}", release.time), "--use-compress-program=gzip -9n", "--create", "--file"]);
    run(tar.arg(&archive).arg("--directory").arg(&release.build).arg(&name))?;
    try_archive(release, &archive, &name)
}

/// Writes completions and manual pages, where the program has the commands.
fn completions(program: &Path, folder: &Path) -> Result<()> {
    let places = [("bash", "rollcage"), ("zsh", "_rollcage"), ("fish", "rollcage.fish")];
    for (shell, name) in places {
        let Ok(text) = output(Command::new(program).args(["completions", shell])) else {
            eprintln!("xtask: dist: WARNING: no `rollcage completions {shell}`: the archive has none");
            continue;
        };
        let to = folder.join("completions").join(shell).join(name);
        std::fs::create_dir_all(to.parent().context("a folder")?)?;
        std::fs::write(to, text + "\n")?;
    }
    let man = folder.join("man");
    std::fs::create_dir_all(&man)?;
    if let Err(error) = output(Command::new(program).arg("man").arg(&man)) {
        eprintln!("xtask: dist: WARNING: no `rollcage man DIR`: the archive has no manual: {error:#}");
        std::fs::remove_dir_all(&man)?;
    }
    Ok(())
}

/// Unpacks the archive and runs its program; then in Debian 11, whose glibc is 2.31.
fn try_archive(release: &Release, archive: &Path, name: &str) -> Result<()> {
    let place = release.build.join("unpacked");
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place)?;
    run(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(&place))?;
    let program = place.join(name).join("rollcage");
    let here = digest(output(Command::new(&program).args(PLAY).arg("cartpole").env("HOME", &place))?)?;
    let debian = release.tools.join("bullseye");
    if !suite("bullseye", "amd64", "libc6,libgcc-s1", &debian)? {
        eprintln!("xtask: dist: WARNING: the program was NOT TRIED with an older glibc");
        return Ok(());
    }
    copy_all(&program, &debian.join("rollcage"))?;
    merged(&debian)?;
    let old = digest(output(in_root(&debian).args(PLAY).arg("cartpole"))?)?;
    ensure!(old == here, "with an older glibc the digest is {old}, and here {here}");
    eprintln!("xtask: dist: the archive's program plays here and with the glibc of Debian 11: {here}");
    Ok(())
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

// aarch64.

/// The envs whose digests are compared.
const PLAYED: [&str; 9] =
    ["cartpole", "frozenlake", "pendulum", "taxi", "blackjack", "acrobot", "mountaincar", "cliffwalking", "pixels"];

/// The suite that the emulated machine and its emulator come from.
const MACHINE: &str = "trixie";

/// How the emulated machine begins, and how it ends.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
ip link set lo up
TRIED
dmesg | grep type=1326
poweroff -f
"#;

/// What the emulated machine tries in between: each env without the sandbox, and with all of it. A line that begins with `@@` is
/// an answer.
const PLAY_ALL: &str = r#"
for env in ENVS; do
  for walls in "--walls none" --require-sandbox; do
    /rollcage run $walls --episodes 3 --seed 7 --envs 2 --json -- $env > /tmp/report 2> /tmp/said
    echo "@@ $env $(cat /tmp/report)"
    cat /tmp/said
  done
done
"#;

/// Builds the program for aarch64, and runs it in an emulated machine with a kernel of its own: the digests must be those of
/// x86-64, without the sandbox and with all of it. No hardware was tried.
fn aarch64(release: &Release) -> Result<()> {
    let arm = release.program_for_arm()?;
    let emulated = Emulated::fetched(release)?;
    let root = emulated.root(&arm, &PLAY_ALL.replace("ENVS", &PLAYED.join(" ")))?;
    let said = emulated.boot(&root)?;
    compare_digests(release, &said, &PLAYED)
}

/// Compares what the emulated machine played with the same envs here.
fn compare_digests(release: &Release, said: &str, envs: &[&str]) -> Result<()> {
    let here = release.program_here()?;
    let mut differing = Vec::new();
    for env in envs {
        let ours = digest(output(Command::new(&here).args(PLAY).arg(env))?)?;
        for (walls, theirs) in ["no sandbox", "sandbox"].iter().zip(answers(said, env)?) {
            let same = if ours == theirs { "same" } else { "DIFFERS" };
            eprintln!("xtask: dist: {env:<13} {walls:<10} {same}: x86-64 {ours}, aarch64 {theirs}");
            if ours != theirs {
                differing.push(format!("{env} ({walls})"));
            }
        }
    }
    let log = release.build.join("aarch64.log");
    ensure!(differing.is_empty(), "other digests on aarch64: {}; see {}", differing.join(", "), log.display());
    Ok(())
}

/// What the emulated machine tries of a wheel: its program, and then its package in Python.
const TRY_WHEEL: &str = r#"
echo "@@ version $(/rollcage --version)"
export PYTHONHOME=/usr PYTHONPATH=/packages
/usr/bin/python3 -c "$(cat /try.py)" 2>&1 | sed 's/^/@@ python /'
"#;

/// Runs the program of the wheel for aarch64, and uses its package in Debian's Python, in the emulated machine.
fn try_wheel_for_arm(release: &Release, wheel: &Path) -> Result<()> {
    let emulated = Emulated::fetched(release)?;
    let packages = release.build.join("arm-packages");
    let python = emulated.unpack_with_dependencies(wheel, &packages)?;
    let program = packages.join("rollcage/_program/rollcage");
    is_for(&program, ARM)?;
    needs_no_newer_glibc(&program)?;
    let script = PLAY_ALL.replace("ENVS", "cartpole") + TRY_WHEEL;
    let root = emulated.root(&program, &script)?;
    emulated.add_python(&root, &python, &packages)?;
    let said = emulated.boot(&root)?;
    let version = format!("@@ version rollcage {}", release.version);
    ensure!(said.lines().any(|line| line == version), "the wheel's program did not tell its version:\n{said}");
    let tried = said.lines().filter_map(|line| line.strip_prefix("@@ python "));
    let tried: Vec<&str> = tried.collect();
    // The last line of `TRY`, which is printed after all of it has succeeded.
    ensure!(
        tried.last().is_some_and(|line| line.starts_with("Python 3.")),
        "the wheel in Python:\n{}",
        tried.join("\n")
    );
    eprintln!("xtask: dist: in the emulated machine: {}", tried.join(" "));
    compare_digests(release, &said, &["cartpole"])
}

/// Builds the program for aarch64, and programs of the tests. Returns all, the program first.
pub(crate) fn programs_for_arm(of_tests: &[&str]) -> Result<Vec<PathBuf>> {
    let release = Release::new()?;
    let program = release.program_for_arm();
    let others = of_tests.iter().map(|name| release.built("rollcage-tests", name, ARM));
    std::iter::once(program).chain(others).collect()
}

/// The digests that the emulated machine gave for an env; or what stands there instead of a report.
fn answers(said: &str, env: &str) -> Result<Vec<String>> {
    let begins = format!("@@ {env} ");
    let reports = said.lines().filter_map(|line| line.strip_prefix(&begins));
    let found: Vec<_> =
        reports.map(|report| digest(report.to_owned()).unwrap_or_else(|_| format!("no digest ({report})"))).collect();
    ensure!(found.len() == 2, "the emulated machine did not run `{env}` twice:\n{said}");
    Ok(found)
}

/// A machine for aarch64 that is emulated, with a kernel and programs of Debian's.
struct Emulated<'a> {
    release: &'a Release,
    /// Where the emulator is unpacked.
    tools: PathBuf,
    /// Where the kernel and the programs are unpacked.
    machine: PathBuf,
}

impl<'a> Emulated<'a> {
    /// Fetched, or from an earlier run.
    fn fetched(release: &'a Release) -> Result<Emulated<'a>> {
        let (tools, machine) = (release.tools.join("emulator"), release.tools.join("arm64"));
        let packages = "linux-image-cloud-arm64,busybox-static,libc6,libgcc-s1,libstdc++6,python3";
        ensure!(
            suite(MACHINE, "amd64", "qemu-system-arm,busybox-static", &tools)?,
            "no emulator from Debian's {MACHINE}"
        );
        ensure!(suite(MACHINE, "arm64", packages, &machine)?, "no kernel from Debian's {MACHINE}");
        Ok(Emulated { release, tools, machine })
    }

    fn libraries(&self) -> PathBuf {
        self.machine.join("usr/lib/aarch64-linux-gnu")
    }

    /// Makes the folder that the machine begins with: the program, the shell, and a script that tries something. Returns the
    /// folder.
    fn root(&self, program: &Path, script: &str) -> Result<PathBuf> {
        let place = self.release.build.join("arm");
        let _ = std::fs::remove_dir_all(&place);
        for folder in ["proc", "sys", "dev", "tmp"] {
            std::fs::create_dir_all(place.join(folder))?;
        }
        const LIBRARIES: [&str; 6] =
            ["ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2"];
        for library in LIBRARIES {
            copy_all(&self.libraries().join(library), &place.join("lib").join(library))?;
        }
        copy_all(&self.machine.join("usr/bin/busybox"), &place.join("bin/busybox"))?;
        copy_all(program, &place.join("rollcage"))?;
        std::fs::write(place.join("init"), INIT.replace("TRIED", script))?;
        for file in ["init", "rollcage"] {
            runnable(&place.join(file))?;
        }
        Ok(place)
    }

    /// Unpacks a wheel and what it depends on. Returns the name of Debian's Python, `python3.13`.
    fn unpack_with_dependencies(&self, wheel: &Path, to: &Path) -> Result<String> {
        let name = std::fs::read_link(self.machine.join("usr/bin/python3"))?.to_string_lossy().into_owned();
        let version = name.strip_prefix("python").context("a version of Debian's Python")?;
        let _ = std::fs::remove_dir_all(to);
        let mut pip = Command::new(self.release.venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--only-binary", ":all:", "--python-version", version]);
        // The newest C library that the machine's programs may ask for, and the older ones that numpy's wheels name.
        for tag in ["manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64"] {
            pip.args(["--platform", tag]);
        }
        run(pip.arg("--target").arg(to).arg(wheel))?;
        Ok(name)
    }

    /// Adds Python, its library, the packages and what is tried with them.
    fn add_python(&self, root: &Path, python: &str, packages: &Path) -> Result<()> {
        copy_all(&self.machine.join("usr/bin").join(python), &root.join("usr/bin/python3"))?;
        std::fs::create_dir_all(root.join("usr/lib"))?;
        // By a command that keeps links: one of Debian's leads into a folder that is not copied.
        let library = self.machine.join("usr/lib").join(python);
        run(Command::new("cp").arg("--archive").arg(library).arg(root.join("usr/lib")))?;
        for entry in std::fs::read_dir(self.libraries())?.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().contains(".so") && entry.path().is_file() {
                copy_all(&entry.path(), &root.join("usr/lib/aarch64-linux-gnu").join(name))?;
            }
        }
        copy_all(packages, &root.join("packages"))?;
        std::fs::write(root.join("try.py"), TRY)?;
        Ok(())
    }

    /// Packs a folder, and boots the machine with it. Returns what it has said; that is kept in a file too. The processor has
    /// nothing beyond the first version of the architecture.
    fn boot(&self, root: &Path) -> Result<String> {
        const SECONDS: &str = "1800";
        let image = self.release.build.join("arm.cpio");
        let mut pack = Command::new("sh");
        pack.args(["-c", "find . | \"$1\" cpio -o -H newc > \"$2\"", "sh"]);
        output(pack.arg(self.tools.join("usr/bin/busybox")).arg(&image).current_dir(root))?;
        let kernels = std::fs::read_dir(self.machine.join("boot"))?.flatten().map(|entry| entry.path());
        let is_kernel = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz"));
        let kernel = kernels.into_iter().find(is_kernel).context("a kernel")?;
        let libraries = self.tools.join("usr/lib/x86_64-linux-gnu");
        let log = self.release.build.join("aarch64.log");
        // By its own loader: its libraries may be newer than this machine's.
        let mut qemu = Command::new("timeout");
        qemu.arg(SECONDS).arg(libraries.join("ld-linux-x86-64.so.2")).arg("--library-path").arg(&libraries);
        qemu.arg(self.tools.join("usr/bin/qemu-system-aarch64")).arg("-L").arg(self.tools.join("usr/share/qemu"));
        qemu.args(["-machine", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "3G", "-accel", "tcg,thread=multi"]);
        qemu.args(["-display", "none", "-nodefaults", "-no-reboot"]);
        qemu.args(["-append", "console=ttyAMA0 panic=-1 quiet audit=1"]);
        qemu.arg("-serial").arg(format!("file:{}", log.display()));
        run(qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(image))?;
        Ok(String::from_utf8_lossy(&std::fs::read(&log)?).replace('\r', ""))
    }
}

/// Lets every user run a file.
fn runnable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o755)).with_context(|| file.display().to_string())
}

// Crates.

/// What the library's sources include of the folders beside `host/`.
const INCLUDED: [&str; 9] = [
    "wit",
    "guest-envs/c",
    "guest-envs/js/rollcage.js",
    "guest-envs/js/wit",
    "guest-envs/templates",
    "guest-envs/go/grants.toml",
    "guest-envs/short-kick/grants.toml",
    "guest-envs/cartpole-c/rollcage.toml",
    "guest-envs/cartpole-js/package.json",
];

/// The crates of the SDK and of the library, as far as an upload goes without a registry's key. Neither may be published by
/// its manifest, so the copies without that line are packed.
fn crates(release: &Release) -> Result<()> {
    let sdk = staged(release, "guest-envs/Cargo.toml", "rollcage-sdk")?;
    publishable(&sdk, &[])?;
    publish(release, &sdk, "rollcage-sdk")?;
    let library = staged(release, "Cargo.toml", "rollcage")?;
    as_repository(release, &library)?;
    publish(release, &library, "rollcage")
}

/// Has cargo write a package with a manifest that stands alone, and unpacks it. Returns its folder.
fn staged(release: &Release, manifest: &str, name: &str) -> Result<PathBuf> {
    let folder = release.build.join("crates");
    let package =
        ["package", "--locked", "--allow-dirty", "--no-verify", "--manifest-path", manifest, "--package", name];
    run(release.tooled(cargo(&package))?.arg("--target-dir").arg(&folder))?;
    let full = format!("{name}-{}", release.version);
    let staged = folder.join("staged").join(&full);
    let _ = std::fs::remove_dir_all(&staged);
    std::fs::create_dir_all(folder.join("staged"))?;
    let crate_file = folder.join("package").join(format!("{full}.crate"));
    run(Command::new("tar").arg("-xzf").arg(crate_file).arg("-C").arg(folder.join("staged")))?;
    for made in ["Cargo.toml.orig", ".cargo_vcs_info.json", ".cargo-ok"] {
        let _ = std::fs::remove_file(staged.join(made));
    }
    Ok(staged)
}

/// Rewrites a manifest: it may be published, is no member of the workspace around, and names other paths.
fn publishable(staged: &Path, paths: &[(&str, &str)]) -> Result<()> {
    let file = staged.join("Cargo.toml");
    let mut text = std::fs::read_to_string(&file)?;
    ensure!(text.contains("publish = false\n"), "{}: has no `publish = false`", file.display());
    text = text.replace("publish = false\n", "");
    for (old, new) in paths {
        ensure!(text.contains(old), "{}: has no `{old}`", file.display());
        text = text.replace(old, new);
    }
    let keywords = text.split_once("keywords = [").and_then(|(_, rest)| rest.split_once(']')).unwrap_or_default().0;
    for long in keywords.split('"').filter(|keyword| keyword.len() > 20) {
        eprintln!("xtask: dist: WARNING: {}: crates.io refuses the keyword `{long}`: 20 letters", file.display());
    }
    text.push_str("\n[workspace]\n");
    std::fs::write(file, text)?;
    Ok(())
}

/// Lays the library's crate out as the repository is, so that its sources find what they include, unchanged; and puts the
/// built components in place of the guests' sources, which nobody could build from there.
fn as_repository(release: &Release, staged: &Path) -> Result<()> {
    let moved = [("path = \"src/", "path = \"host/src/"), ("build = \"build.rs\"", "build = \"host/build.rs\"")];
    let examples = ("path = \"examples/", "path = \"host/examples/");
    publishable(staged, &[moved[0], moved[1], examples])?;
    std::fs::create_dir_all(staged.join("host"))?;
    for name in ["src", "examples", "build.rs"] {
        std::fs::rename(staged.join(name), staged.join("host").join(name)).with_context(|| name.to_owned())?;
    }
    for path in INCLUDED {
        copy_all(&release.tree.join(path), &staged.join(path))?;
    }
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy_all(&release.tree.join(licence), &staged.join(licence))?;
    }
    release.program_here()?;
    let built = release.cargo.join(HERE).join("guests/wasm32-wasip2/release");
    for entry in std::fs::read_dir(&built)?.flatten() {
        if entry.path().extension().is_some_and(|end| end == "wasm") {
            copy_all(&entry.path(), &staged.join("host/components").join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// What `cargo publish` does before the upload: packs, unpacks, builds, and asks whether the version may be uploaded. The
/// package goes into `target/dist`.
fn publish(release: &Release, staged: &Path, name: &str) -> Result<()> {
    let target = release.build.join("published");
    for verb in [&["package"][..], &["publish", "--dry-run", "--no-verify"]] {
        let mut publish = release.tooled(cargo(verb))?;
        publish.args(["--locked", "--allow-dirty", "--target-dir"]).arg(&target).current_dir(staged);
        // It is built without optimisation, and nobody debugs it.
        run(publish.env("CARGO_PROFILE_DEV_DEBUG", "0"))?;
    }
    let file = format!("{name}-{}.crate", release.version);
    let packed = target.join("package").join(&file);
    let bytes = std::fs::metadata(&packed).with_context(|| packed.display().to_string())?.len();
    ensure!(bytes <= 10 << 20, "{file} has {bytes} bytes; crates.io takes 10 MiB");
    copy_all(&packed, &release.dist.join(&file))
}

// Licences.

/// Licences that need their text, and MPL-2.0 that people are told where the source is: [`texts`] does.
const ALLOWED: [&str; 15] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MPL-2.0",
    "Zlib",
    "BSL-1.0",
    "0BSD",
    "CC0-1.0",
    "Unicode-3.0",
    "Unlicense",
    "PSF-2.0",
];

/// What is uploaded and what it is built from: a manifest, the target, and whose licences they are.
const BUILT: [(&str, &str); 5] = [
    ("Cargo.toml", HERE),
    ("Cargo.toml", ARM),
    ("python/Cargo.toml", HERE),
    ("python/Cargo.toml", ARM),
    ("guest-envs/Cargo.toml", "wasm32-wasip2"),
];

/// A crate that is inside something uploaded.
struct Inside {
    licence: String,
    folder: PathBuf,
    repository: String,
    needs: BTreeSet<(String, String)>,
}

/// Crates by name and version.
type Crates = BTreeMap<(String, String), Inside>;

/// The texts of all licences, and a list of everything inside in CycloneDX's form.
fn licences(release: &Release) -> Result<()> {
    let mut crates = Crates::new();
    for (manifest, target) in BUILT {
        inside(release, manifest, target, &mut crates)?;
    }
    let refused = crates.iter().filter(|(_, inside)| !allowed(&inside.licence));
    let refused: Vec<_> =
        refused.map(|((name, version), inside)| format!("{name} {version}: {}", inside.licence)).collect();
    ensure!(refused.is_empty(), "licences that are not allowed here: {}", refused.join("; "));
    std::fs::write(release.dist.join("LICENCES.txt"), texts(release, &crates)?)?;
    let bill = release.dist.join(format!("rollcage-{}.cdx.json", release.version));
    std::fs::write(&bill, serde_json::to_string_pretty(&bill_of(release, &crates)?)? + "\n")?;
    let check = "import sys; from cyclonedx.schema import SchemaVersion as V; \
                 from cyclonedx.validation.json import JsonStrictValidator as J; \
                 sys.exit(J(V.V1_6).validate_str(open(sys.argv[1]).read()))";
    run(Command::new(release.venv.join("bin/python")).args(["-c", check]).arg(bill))
}

/// Adds the crates that are linked into what a manifest builds. What runs only at build time is not inside: build scripts,
/// and crates of macros.
fn inside(release: &Release, manifest: &str, target: &str, crates: &mut Crates) -> Result<()> {
    let arguments = ["metadata", "--format-version=1", "--locked", "--filter-platform", target, "--manifest-path"];
    let metadata: Value = serde_json::from_str(&output(release.tooled(cargo(&arguments))?.arg(manifest))?)?;
    let by_id = |list: &Value| -> BTreeMap<String, Value> {
        let rows = list.as_array().into_iter().flatten();
        rows.map(|row| (text(&row["id"]), row.clone())).collect()
    };
    let (packages, nodes) = (by_id(&metadata["packages"]), by_id(&metadata["resolve"]["nodes"]));
    let shipped = |id: &String| !text(&packages[id]["manifest_path"]).contains("/tests/") && !id.contains("/xtask");
    let mut left: Vec<String> = metadata["workspace_members"].as_array().into_iter().flatten().map(text).collect();
    left.retain(shipped);
    let mut seen = BTreeSet::new();
    while let Some(id) = left.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let needs: Vec<String> = linked(&nodes[&id]).filter(|need| !is_macro(&packages[need])).collect();
        let package = &packages[&id];
        let key = |package: &Value| (text(&package["name"]), text(&package["version"]));
        let entry = crates.entry(key(package)).or_insert_with(|| Inside {
            licence: text(&package["license"]),
            folder: Path::new(&text(&package["manifest_path"])).parent().unwrap_or(Path::new("/")).to_owned(),
            repository: text(&package["repository"]),
            needs: BTreeSet::new(),
        });
        entry.needs.extend(needs.iter().map(|need| key(&packages[need])));
        left.extend(needs);
    }
    Ok(())
}

/// A JSON string; empty if it is none.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The dependencies of a node that are linked.
fn linked(node: &Value) -> impl Iterator<Item = String> {
    let normal = |need: &&Value| need["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null());
    node["deps"].as_array().into_iter().flatten().filter(normal).map(|need| text(&need["pkg"]))
}

fn is_macro(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    targets.flat_map(|target| target["kind"].as_array().into_iter().flatten()).any(|kind| kind == "proc-macro")
}

/// Whether an SPDX expression is satisfied by licences of the list: of an `OR` one side, of an `AND` both.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    for (word, every) in [(" OR ", false), (" AND ", true)] {
        if let Some((left, right)) = split_outside(expression, word) {
            return if every { allowed(left) && allowed(right) } else { allowed(left) || allowed(right) };
        }
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => allowed(inner),
        None => ALLOWED.contains(&expression),
    }
}

/// Splits at the first such word outside parentheses.
fn split_outside<'a>(expression: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    expression
        .match_indices(word)
        .map(|(at, _)| (&expression[..at], &expression[at + word.len()..]))
        .find(|(left, _)| left.matches('(').count() == left.matches(')').count())
}

/// The texts, each once, with the crates that bring it.
fn texts(release: &Release, crates: &Crates) -> Result<String> {
    let mut list = String::new();
    let mut by_text: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ((name, version), inside) in crates {
        list.push_str(&format!("{name} {version}: {}\n", inside.licence));
        // Of crates of this repository the licence is that of the whole.
        let ours = inside.folder.starts_with(&release.tree);
        let folder = if ours { &release.tree } else { &inside.folder };
        collect_texts(folder, if ours { 0 } else { 3 }, &format!("{name} {version}"), &mut by_text)?;
    }
    let base = base_texts(release, &mut by_text)?;
    let mut all = format!(
        "rollcage {} is under MIT or Apache-2.0, at your choice. It contains other work, under these licences.\n\n\
         Crates of Rust in the program, in the Python extension and in the shipped plugins. The source of each, unchanged, is\n\
         at https://crates.io/crates/NAME/VERSION:\n\n{list}\n\
         Rust's standard library: MIT OR Apache-2.0 (https://www.rust-lang.org/policies/licenses)\n\
         wasi-libc, in the shipped plugins: MIT OR Apache-2.0 OR Apache-2.0 WITH LLVM-exception\n\n\
         In the base plugin of Python environments (the wheel rollcage-python-base):\n\n{base}",
        release.version
    );
    for (text, names) in by_text {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        all.push_str(&format!("\n{}\n{names}\n\n{text}\n", "=".repeat(100)));
    }
    Ok(all)
}

/// Adds the texts of licences that lie in a folder, or as deep below it as is said.
fn collect_texts(
    folder: &Path,
    depth: u32,
    whose: &str,
    by_text: &mut BTreeMap<String, BTreeSet<String>>,
) -> Result<()> {
    const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.file_type()?.is_dir() {
            if depth > 0 {
                collect_texts(&entry.path(), depth - 1, whose, by_text)?;
            }
        } else if NAMES.iter().any(|begins| name.starts_with(begins))
            && !(name.ends_with(".RS") || name.ends_with(".YML"))
        {
            let text = String::from_utf8_lossy(&std::fs::read(entry.path())?).replace('\r', "");
            by_text.entry(text.trim().to_owned()).or_default().insert(whose.to_owned());
        }
    }
    Ok(())
}

/// Adds the texts of what the base plugin is made of, by the versions that it is pinned to. Returns the list.
fn base_texts(release: &Release, by_text: &mut BTreeMap<String, BTreeSet<String>>) -> Result<String> {
    let pinned = pinned(release)?;
    let folder = release.build.join("base-licences");
    let wanted: Vec<String> = pinned.iter().skip(1).map(|(name, version)| format!("{name}=={version}")).collect();
    once(&folder, &wanted.join(" "), || {
        let _ = std::fs::remove_dir_all(&folder);
        let mut pip = Command::new(release.venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--no-deps", "--ignore-requires-python", "--target"]);
        run(pip.arg(&folder).args(&wanted))
    })?;
    for entry in std::fs::read_dir(&folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".dist-info") {
            collect_texts(&entry.path(), 2, &name.replace('-', " "), by_text)?;
        }
    }
    let library = "import sysconfig; print(sysconfig.get_paths()['stdlib'])";
    let library = PathBuf::from(output(Command::new(release.venv.join("bin/python")).args(["-c", library]))?);
    collect_texts(&library, 0, "CPython", by_text)?;
    Ok(pinned.iter().map(|(name, version)| format!("{name} {version}\n")).collect())
}

/// What the base plugin holds: CPython first, then what is on PyPI.
fn pinned(release: &Release) -> Result<Vec<(String, String)>> {
    let pins = std::fs::read_to_string(release.tree.join("guest-envs/python/base/pins.toml"))?;
    let mut found = Vec::new();
    let mut section = "";
    for line in pins.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let quoted = |key: &str| line.strip_prefix(key).map(|rest| rest.trim_matches('"').to_owned());
        if let Some(version) = quoted("python = ") {
            found.push(("cpython".to_owned(), version));
        }
        let name = section.strip_prefix("packages.").or_else(|| {
            ["numpy", "tools.componentize-py"].contains(&section).then(|| section.trim_start_matches("tools."))
        });
        if let (Some(name), Some(version)) = (name, quoted("version = ")) {
            found.push((name.to_owned(), version));
        }
    }
    ensure!(found.first().is_some_and(|(name, _)| name == "cpython") && found.len() > 4, "pins.toml: {found:?}");
    Ok(found)
}

/// Everything that is inside, as CycloneDX 1.6 has it.
fn bill_of(release: &Release, crates: &Crates) -> Result<Value> {
    let sums = locked_sums(release)?;
    let purl = |(name, version): &(String, String)| format!("pkg:cargo/{name}@{version}");
    let of_crates = crates.iter().map(|(key, inside)| {
        let mut component = json!({
            "type": "library", "name": key.0, "version": key.1, "bom-ref": purl(key), "purl": purl(key),
            "licenses": [{ "expression": inside.licence.replace('/', " OR ") }],
        });
        if let Some(sum) = sums.get(key) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
        }
        if inside.repository.starts_with("http") {
            component["externalReferences"] = json!([{ "type": "vcs", "url": inside.repository }]);
        }
        component
    });
    let pinned = pinned(release)?;
    let of_base = pinned.iter().map(|(name, version)| {
        let purl = match name.as_str() {
            "cpython" => format!("pkg:generic/cpython@{version}"),
            _ => format!("pkg:pypi/{name}@{version}"),
        };
        json!({ "type": "library", "name": name, "version": version, "bom-ref": purl, "purl": purl })
    });
    let dependencies = crates.iter().map(
        |(key, inside)| json!({ "ref": purl(key), "dependsOn": inside.needs.iter().map(purl).collect::<Vec<_>>() }),
    );
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": { "component": {
            "type": "application", "name": "rollcage", "version": release.version, "bom-ref": "rollcage",
            "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        } },
        "components": of_crates.chain(of_base).collect::<Vec<_>>(),
        "dependencies": dependencies.collect::<Vec<_>>(),
    }))
}

/// The checksums of the lock files.
fn locked_sums(release: &Release) -> Result<BTreeMap<(String, String), String>> {
    let mut sums = BTreeMap::new();
    for (manifest, _) in BUILT {
        let lock = release.tree.join(manifest).with_file_name("Cargo.lock");
        let lock = std::fs::read_to_string(&lock).with_context(|| lock.display().to_string())?;
        for package in lock.split("[[package]]") {
            let field = |key: &str| {
                let line = package.lines().find_map(|line| line.strip_prefix(key))?;
                Some(line.trim_matches('"').to_owned())
            };
            if let (Some(name), Some(version), Some(sum)) =
                (field("name = "), field("version = "), field("checksum = "))
            {
                sums.insert((name, version), sum);
            }
        }
    }
    Ok(sums)
}
