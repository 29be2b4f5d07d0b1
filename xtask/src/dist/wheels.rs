//! The wheels of the Python package and of the base plugin, installed and tried.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::aarch64::try_wheel_for_arm;
use super::licences::licences;
use super::{ARM, GLIBC, HERE, Release, copy_all, needs_no_newer_glibc, suite};
use crate::{output, run, target};

/// Steps envs, with what a user types.
pub(super) const TRY: &str = "\
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
pub(super) fn wheels(release: &Release) -> Result<()> {
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
pub(super) fn is_for(file: &Path, target: &str) -> Result<()> {
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
