//! `cargo xtask python`: the Python package as a user gets it. A venv with the trainers that it is for, the wheel, the tests
//! over what was installed; and nothing from the source folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt_install, cargo, python_base, root, run, target};

/// Gymnasium's supported versions beside the newest, which the venv has; and tests of that version alone. 1.2.2 is RLlib's.
const GYMNASIUMS: [(&str, &[&str]); 2] = [("1.2.2", &["test_sb3.py"]), ("1.3.0", &[])];

/// The tests of what another version of Gymnasium, numpy or Python might do otherwise.
const SEAMS: [&str; 3] = ["test_vector.py", "test_gymnasium.py", "test_gymnasium_wrappers.py"];

/// Builds the wheel, installs it, and runs the tests: those that take minutes too, if `arguments` say so (`-m long`).
pub(crate) fn python(arguments: &[String]) -> Result<()> {
    made(&venv()?)?.test(arguments)
}

/// The package, installed into a venv from its wheel.
pub(crate) struct Package<'venv> {
    venv: &'venv Path,
    wheels: PathBuf,
}

/// Builds what the tests need.
pub(crate) fn made(venv: &Path) -> Result<Package<'_>> {
    guests()?;
    Ok(Package { venv, wheels: wheel(venv)? })
}

impl Package<'_> {
    /// Runs the tests over it; nothing is compiled.
    pub(crate) fn test(&self, arguments: &[String]) -> Result<()> {
        let marked = arguments.iter().any(|argument| argument == "-m");
        let mut pytest = pytest(self.venv)?;
        if !marked {
            pytest.args(["-m", "not long"]);
        }
        run(pytest.args(arguments).env("ROLLCAGE_WHEELS", &self.wheels))?;
        if marked || !arguments.is_empty() { Ok(()) } else { guest_sdk(self.venv) }
    }
}

/// The tests of the SDK's Python side, which runs inside the base, here over the Python of the venv.
fn guest_sdk(venv: &Path) -> Result<()> {
    let mut pytest = Command::new(venv.join("bin/pytest"));
    pytest.args(["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests", "base/tests"]);
    pytest.current_dir(root().join("guest-envs/python"));
    run(pytest.env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// The wheel of the venv with other versions of Gymnasium, or with the newest Python of Debian: after [`python`].
pub(crate) fn others(arguments: &[String]) -> Result<()> {
    let venv = venv()?;
    if arguments.iter().any(|argument| argument == "debian") {
        return newest_debian(&venv);
    }
    if arguments.iter().any(|argument| argument == "rllib") {
        return rllib(&venv);
    }
    if arguments.iter().any(|argument| argument == "frameworks") {
        return frameworks(&venv);
    }
    for (version, more) in GYMNASIUMS {
        // Before the venv's own on Python's path, and nothing else of it is another.
        let folder = target()?.join(format!("pythons/gymnasium-{version}"));
        installed(&folder, &format!("gymnasium=={version}"), |folder| {
            let wanted = format!("gymnasium=={version}");
            run(pip_into(&venv, folder).arg(wanted))
        })?;
        let mut pytest = pytest(&venv)?;
        pytest.args(["-m", "not long"]).args(SEAMS).args(more);
        run(pytest.env("PYTHONPATH", folder).env("ROLLCAGE_GYMNASIUM", version))?;
    }
    Ok(())
}

/// RLlib, which wants a Gymnasium of its own.
const RLLIB: &str = "ray[rllib]==2.60.0";

/// RLlib and the wheel, installed by one call of pip: it must find versions that suit both. Then RLlib trains.
fn rllib(venv: &Path) -> Result<()> {
    let wheel = one_wheel()?;
    let folder = target()?.join("pythons/rllib");
    let wanted = format!("{RLLIB} {}", std::fs::metadata(&wheel)?.len());
    installed(&folder, &wanted, |folder| {
        let mut pip = Command::new(venv.join("bin/pip"));
        run(pip.args(["install", "--quiet", "--upgrade", "--target"]).arg(folder).arg(&wheel).arg(RLLIB))
    })?;
    let mut pytest = pytest(venv)?;
    pytest.args(["-m", "long", "test_rllib.py", "test_frameworks.py"]);
    run(pytest.env("PYTHONPATH", folder).env("ROLLCAGE_FRAMEWORK", "rllib"))
}

/// Frameworks with an environment each: name in `docs/frameworks.md`, our extra for it, what is installed, and tests beside that
/// page's. The page names the versions, and a test compares them with those that are installed.
const FRAMEWORKS: [(&str, &str, &str, &[&str]); 4] = [
    ("torchrl", "[torchrl]", "torchrl==0.14.1", &["test_torchrl.py"]),
    ("tianshou", "[tianshou]", "tianshou==2.0.1", &["test_tianshou.py"]),
    ("skrl", "", "skrl==2.1.1", &[]),
    // No package, but a loop to copy: it needs torch alone.
    ("cleanrl", "", "torch==2.15.0", &[]),
];

/// Each framework beside the wheel, in a venv of its own in which one call of pip finds versions that suit both. The script on the
/// page runs there, and the tests of what we have for it.
fn frameworks(venv: &Path) -> Result<()> {
    let wheel = one_wheel()?;
    let bytes = std::fs::metadata(&wheel)?.len();
    for (name, extra, framework, tests) in FRAMEWORKS {
        let folder = target()?.join("pythons").join(name);
        installed(&folder, &format!("{framework} {bytes}"), |folder| {
            venv_over(venv, folder)?;
            let mut ours = wheel.clone().into_os_string();
            ours.push(extra);
            let pip = folder.join("bin/pip");
            run(Command::new(&pip).args(["install", "--quiet"]).arg(ours).arg(framework))?;
            // To pip the other venv's rollcage may be the same version, whatever is in it.
            run(Command::new(&pip).args(["install", "--quiet", "--no-deps", "--force-reinstall"]).arg(&wheel))
        })?;
        let mut python = Command::new(folder.join("bin/python"));
        python.args(["-m", "pytest"]);
        run(as_here(&mut python)?
            .args(["-m", "long", "test_frameworks.py"])
            .args(tests)
            .env("ROLLCAGE_FRAMEWORK", name))?;
    }
    Ok(())
}

/// A venv in which the packages of another one are installed, torch's gigabytes among them: pip adds what is missing, and what has
/// to have another version.
fn venv_over(other: &Path, folder: &Path) -> Result<()> {
    run(Command::new(other.join("bin/python")).args(["-m", "venv"]).arg(folder))?;
    std::fs::write(packages(folder)?.join("other.pth"), format!("{}\n", packages(other)?.display()))?;
    Ok(())
}

/// The folder of a venv's packages.
fn packages(venv: &Path) -> Result<PathBuf> {
    let lib = venv.join("lib");
    let entries = std::fs::read_dir(&lib).with_context(|| lib.display().to_string())?;
    let found = entries.flatten().map(|entry| entry.path().join("site-packages")).find(|folder| folder.is_dir());
    found.with_context(|| format!("site-packages in {}", lib.display()))
}

/// The wheel that [`wheel`] has built.
fn one_wheel() -> Result<PathBuf> {
    let mut wheels = built_wheels(&target()?.join("wheels"))?.into_iter();
    let (Some(wheel), None) = (wheels.next(), wheels.next()) else {
        bail!("one wheel: run `cargo xtask python` first")
    };
    Ok(wheel)
}

/// The wheels of the package `rollcage` in a folder, in which the base's wheel may lie too.
fn built_wheels(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let ours = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("rollcage-");
    Ok(entries.flatten().filter(ours).map(|entry| entry.path()).collect())
}

/// Pytest as it is run here, without arguments: from the tests' own folder, so that the package is the venv's, from the wheel.
fn pytest(venv: &Path) -> Result<Command> {
    let mut pytest = Command::new(venv.join("bin/pytest"));
    as_here(&mut pytest)?;
    Ok(pytest)
}

/// Our options and environment, for a command that runs pytest.
fn as_here(pytest: &mut Command) -> Result<&mut Command> {
    Ok(pytest
        .args(["--config-file", "../pyproject.toml", "--rootdir", ".", "-q", "-p", "no:cacheprovider"])
        .current_dir(root().join("python/tests"))
        .env("CARGO_TARGET_DIR", target()?)
        .env("ROLLCAGE_PYTHON_BASE", python_base::built()?)
        // The networks here are small. Where other tests run too, PyTorch's threads would wait for each other in busy loops.
        .env("OMP_NUM_THREADS", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// `pip install` of the named things alone into a folder.
fn pip_into(venv: &Path, folder: &Path) -> Command {
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--no-deps", "--upgrade", "--target"]).arg(folder);
    pip
}

/// A folder that is made once, and again when what is `wanted` in it changes.
fn installed(folder: &Path, wanted: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut made = folder.as_os_str().to_owned();
    made.push(".made");
    let made = PathBuf::from(made);
    if std::fs::read_to_string(&made).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    make(folder)?;
    std::fs::write(&made, wanted).with_context(|| made.display().to_string())
}

/// What is unpacked of Debian's newest suite.
const DEBIAN: &str =
    "python3,python3-numpy,python3-pytest,python3-hypothesis,python3-cloudpickle,python3-typing-extensions";

/// The root of a mount namespace of its own is Debian's newest suite: its Python runs the tests over the wheel. Not by `chroot`,
/// in which the kernel makes no user namespace, so that a wall of the sandbox would not stand.
const IN_DEBIAN: &str = r#"
set -e
mount --bind "$1" "$1"
mount --rbind /proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
mount --bind "$2" "$1/repository"
mount --bind "$3" "$1/target"
cd "$1"
pivot_root . outside
cd /repository/python/tests
shift 3
exec python3 -m pytest --config-file ../pyproject.toml --rootdir . -q -p no:cacheprovider -m 'not long' "$@"
"#;

/// The tests in Debian's newest suite, where its packages can be had and a mount namespace made; else it is said.
fn newest_debian(venv: &Path) -> Result<()> {
    let place = target()?.join("pythons/debian");
    let has =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !(has("mmdebstrap") || apt_install(&["mmdebstrap"]) && has("mmdebstrap")) {
        eprintln!(
            "xtask: mmdebstrap is not installed and could not be: the tests with Debian's newest Python ARE SKIPPED"
        );
        return Ok(());
    }
    let unpacked = installed(&place, DEBIAN, |place| {
        // Unpacked, and nothing in it is run. The suite may be older than its signature is valid: a mirror that stands still.
        run(Command::new("mmdebstrap")
            .args(["--quiet", "--variant=extract", "--aptopt=Acquire::Check-Valid-Until \"false\""])
            .arg(format!("--include={DEBIAN}"))
            .arg("sid")
            .arg(place))?;
        finish(place)
    });
    if let Err(error) = unpacked {
        eprintln!("xtask: {error:#}: the tests with Debian's newest Python ARE SKIPPED");
        return Ok(());
    }
    let newest = requirement("gymnasium")?;
    run(pip_into(venv, &place.join("opt/packages")).arg(one_wheel()?).args([&newest, "farama-notifications"]))?;
    run(Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", IN_DEBIAN, "sh"])
        .args([&place, &root(), &target()?])
        .args(SEAMS)
        .env_clear()
        .envs([("PATH", "/usr/bin:/usr/sbin"), ("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("PYTHONDONTWRITEBYTECODE", "1")])
        .envs([("PYTHONPATH", "/opt/packages"), ("CARGO_TARGET_DIR", "/target")]))
}

/// What the packages' own scripts would do, of which none is run: links of the merged `/usr` and of the linear algebra; and
/// the places where other folders are mounted.
fn finish(place: &Path) -> Result<()> {
    use std::os::unix::fs::symlink;
    for name in ["bin", "sbin", "lib", "lib64"] {
        if !place.join(name).exists() {
            symlink(format!("usr/{name}"), place.join(name))?;
        }
    }
    for folder in std::fs::read_dir(place.join("usr/lib"))?.flatten() {
        for name in ["blas", "lapack"] {
            let library = format!("{name}/lib{name}.so.3");
            if folder.path().join(&library).exists() {
                symlink(&library, folder.path().join(format!("lib{name}.so.3")))?;
            }
        }
    }
    for name in ["proc", "dev", "tmp", "repository", "target", "outside"] {
        std::fs::create_dir_all(place.join(name))?;
    }
    Ok(())
}

/// A line of the requirements.
fn requirement(name: &str) -> Result<String> {
    let file = root().join("python/tests/requirements.txt");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let line = text.lines().find(|line| line.starts_with(&format!("{name}==")));
    Ok(line.with_context(|| format!("{name} in {}", file.display()))?.to_owned())
}

/// The venv, kept beside the builds until what belongs into it changes.
pub(crate) fn venv() -> Result<PathBuf> {
    let venv = target()?.join("venv-python");
    let requirements = root().join("python/tests/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).with_context(|| requirements.display().to_string())?;
    let made = venv.join("made");
    if std::fs::read_to_string(&made).is_ok_and(|made| made == wanted) {
        return Ok(venv);
    }
    eprintln!("xtask: making a venv with torch and stable-baselines3: some minutes and gigabytes, once");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&requirements))?;
    std::fs::write(&made, wanted).with_context(|| made.display().to_string())?;
    Ok(venv)
}

/// The guests that are twins of Python envs.
fn guests() -> Result<()> {
    run(cargo(&["build", "--release", "--locked", "--target", "wasm32-wasip2", "--examples"])
        .args(["--manifest-path", "python/tests/guests/Cargo.toml", "--target-dir"])
        .arg(target()?.join("guests")))
}

/// Builds the wheel by pip, as a user's pip does, and installs it. Returns the folder it is in.
pub(crate) fn wheel(venv: &Path) -> Result<PathBuf> {
    let wheels = target()?.join("wheels");
    std::fs::create_dir_all(&wheels).with_context(|| wheels.display().to_string())?;
    for old in built_wheels(&wheels)? {
        std::fs::remove_file(&old).with_context(|| old.display().to_string())?;
    }
    let pip = venv.join("bin/pip");
    // maturin is in the venv: it is not fetched once more.
    run(Command::new(&pip)
        .args(["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"])
        .arg(&wheels)
        .arg(root().join("python"))
        .env("CARGO_TARGET_DIR", target()?)
        .env("PATH", path_with(&venv.join("bin"))?))?;
    run(Command::new(&pip).args(["install", "--quiet", "--no-deps", "--force-reinstall"]).arg(one_wheel()?))?;
    Ok(wheels)
}

/// `PATH` with a folder before the others.
fn path_with(folder: &Path) -> Result<std::ffi::OsString> {
    let others = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths([folder.to_owned()].into_iter().chain(std::env::split_paths(&others)))?)
}
