//! The C compiler of `rollcage build`: zig's, in the version that a folder pins. It is looked for where pip or the user has
//! put it, and else installed once, by pip, into a folder of rollcage's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use rollcage::plugin::bundle::without_settings;
use rollcage::text::argument;
use rollcage::{Cache, UsageError};

use super::source::{cache_folder, shown_folder};
use super::{complain, one_line};

/// The Python package that has zig inside.
const PACKAGE: &str = "ziglang";

/// A zig, and the folder for what it keeps from one build to the next.
pub(super) struct Zig {
    program: PathBuf,
    /// Folder of rollcage's own for zig: below the cache of plugins, which neither counts nor removes folders.
    pub(super) folder: PathBuf,
    /// Where it was found, for people.
    pub(super) found: String,
}

impl Zig {
    /// The zig of a version, which has digits and dots alone.
    pub(super) fn find(version: &str) -> anyhow::Result<Zig> {
        let folder = cache_folder().ok_or_else(|| {
            UsageError::new("the folder for zig is not known: there is no home folder")
                .hint("`ROLLCAGE_CACHE=/tmp/rollcage-cache rollcage build` names a folder")
        })?;
        // A program is run that lies there: it is refused where others could have put one.
        Cache::open(&folder)?;
        let folder = folder.join("zig");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", shown_folder(&folder)))?;
        let kept = folder.join(format!("{PACKAGE}-{version}"));
        let program = kept.join(PACKAGE).join("zig");
        if !program.is_file() {
            if let Some((program, found)) = installed(version) {
                return Ok(Zig { program, folder, found });
            }
            // Of several builds at once, one installs it.
            let lock = folder.join("lock");
            let lock = fs::File::create(&lock).with_context(|| shown_folder(&lock))?;
            lock.lock().context("waiting for another build that installs zig")?;
            if !program.is_file() {
                install(version, &folder, &kept)?;
            }
        }
        Ok(Zig { program, found: shown_folder(&kept), folder })
    }

    /// `zig cc`, with all that zig keeps in rollcage's own folder.
    pub(super) fn cc(&self) -> Command {
        let kept = self.folder.join("cache");
        let mut command = Command::new(&self.program);
        command.arg("cc").env("ZIG_GLOBAL_CACHE_DIR", &kept).env("ZIG_LOCAL_CACHE_DIR", &kept).stdin(Stdio::null());
        // Headers, libraries and a libc of this machine.
        for name in ["CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "ZIG_LIBC", "ZIG_LIB_DIR"] {
            command.env_remove(name);
        }
        command
    }
}

/// The user's own zig, if it is of the version: the one of the package in Python, or the one in the search path.
fn installed(version: &str) -> Option<(PathBuf, String)> {
    // In a folder in which nobody puts a `ziglang.py`.
    let asked = Command::new("python3")
        .args(["-c", "import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let of_python = asked.ok().filter(|asked| asked.status.success()).map(|asked| {
        let path = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
        (PathBuf::from(path), format!("of `python3 -m {PACKAGE}`"))
    });
    let own = (PathBuf::from("zig"), "in the search path".to_owned());
    of_python.into_iter().chain([own]).find(|(program, _)| {
        let said = Command::new(program).arg("version").current_dir("/").stdin(Stdio::null()).output();
        said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).trim() == version)
    })
}

/// Installs it beside its place and moves it there: what lies there is whole.
fn install(version: &str, folder: &Path, kept: &Path) -> anyhow::Result<()> {
    let pinned = format!("{PACKAGE}=={version}");
    complain(
        "building",
        &format!("pip installs {pinned} (once, some 100 MB to download and 420 MB in {}) …", shown_folder(kept)),
    );
    let temporary = folder.join(format!(".{PACKAGE}-{version}.{}.tmp", std::process::id()));
    let mut pip = Command::new("python3");
    without_settings(&mut pip);
    let run = pip
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"])
        .args(["--only-binary", ":all:", "--target"])
        .arg(&temporary)
        .arg(&pinned)
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output();
    let refuse = |why: &str, hint: String| UsageError::new(format!("zig {version} is not here, and {why}")).hint(hint);
    let by_hand = format!("`pip install {pinned}` installs it where pip is; https://ziglang.org/download has it too");
    let said = match run {
        Ok(run) if run.status.success() && temporary.join(PACKAGE).join("zig").is_file() => {
            let _ = fs::remove_dir_all(kept);
            return fs::rename(&temporary, kept).with_context(|| shown_folder(kept));
        }
        Ok(run) => String::from_utf8_lossy(&run.stderr).into_owned(),
        Err(error) => return Err(refuse(&format!("`python3` cannot be started: {error}"), by_hand).into()),
    };
    let _ = fs::remove_dir_all(&temporary);
    if said.contains("No module named pip") {
        return Err(refuse("this Python has no pip", by_hand).into());
    }
    let last = said.lines().rfind(|line| line.starts_with("ERROR")).or(said.lines().last()).unwrap_or_default();
    let again =
        format!("`python3 -m pip install --target {} {pinned}` says more", argument(&kept.display().to_string()));
    Err(refuse(&format!("pip could not install it: {}", one_line(last)), again).into())
}
