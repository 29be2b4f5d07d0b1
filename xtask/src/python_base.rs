//! `cargo xtask python-base`: the base plugin of Python environments and its wheel. The build itself is a script in Python,
//! `guest-envs/python/base/build.py`: whoever runs it has cargo and Python, and nothing else.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{cargo, root, run, target};

/// Builds the base into `target/python-base`, and its wheel into `target/wheels`; or, told so by `arguments`, runs numpy's own
/// tests inside a guest.
pub(crate) fn python_base(arguments: &[String]) -> Result<()> {
    if arguments.first().is_some_and(|verb| verb == "numpy-tests") {
        run(&mut cargo(&["build", "--release", "--locked", "--package", "rollcage", "--bins"]))?;
    }
    let mut build = Command::new("python3");
    build.arg(root().join("guest-envs/python/base/build.py")).arg("--target").arg(target()?).args(arguments);
    run(&mut build)
}

/// Where the base lies once it is built.
pub(crate) fn built() -> Result<PathBuf> {
    Ok(target()?.join("python-base/python-base.wasm"))
}
