//! `rollcage build` of a folder with a `rollcage.toml`: zig compiles its C to a core module, that is made a component in this
//! process, and its assets are put behind it.

use std::fs;
use std::io::Write;
use std::path::{Component, Path};

use anyhow::Context;
use rollcage::UsageError;
use rollcage::text::{escape, escape_line};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, SourceMap};

use super::build::{Compiled, NAME_WANTED, is_name, put};
use super::zig::Zig;
use super::{complain, one_line, shown};

/// The file that says what a folder's plugin is made of.
const MANIFEST: &str = "rollcage.toml";

/// The zig that `rollcage new` pins.
#[cfg(test)]
const ZIG_VERSION: &str = "0.17.1";

/// The SDK, which lies beside the env's own files.
const SDK: [(&str, &str); 2] = [
    ("rollcage.h", include_str!("../../../guest-envs/c/rollcage.h")),
    ("rollcage.c", include_str!("../../../guest-envs/c/rollcage.c")),
];

/// The SDK's connections, for an env that asks for them.
const SOCKET_SDK: [(&str, &str); 2] = [
    ("rollcage_socket.h", include_str!("../../../guest-envs/c/rollcage_socket.h")),
    ("rollcage_socket.c", include_str!("../../../guest-envs/c/rollcage_socket.c")),
];

/// The interface in C, as wit-bindgen 0.63.0 writes it: `wit-bindgen c wit/0.1.0 --world plugin --rename-world rollcage_wit
/// --no-object-file --no-helpers --out-dir guest-envs/c/bindings`.
const BINDINGS: [(&str, &str); 2] = [
    ("rollcage_wit.h", include_str!("../../../guest-envs/c/bindings/rollcage_wit.h")),
    ("rollcage_wit.c", include_str!("../../../guest-envs/c/bindings/rollcage_wit.c")),
];

/// The imports of the connections in C, in the same way: `wit-bindgen c FOLDER --world sockets --rename-world
/// rollcage_socket_wit` and so on, of a folder with the file of [`SOCKET_WIT`], and those of [`SOCKET_DEPS`] in its `deps`.
const SOCKET_BINDINGS: [(&str, &str); 2] = [
    ("rollcage_socket_wit.h", include_str!("../../../guest-envs/c/bindings/rollcage_socket_wit.h")),
    ("rollcage_socket_wit.c", include_str!("../../../guest-envs/c/bindings/rollcage_socket_wit.c")),
];

/// The interface itself: the component's type.
const WIT: [(&str, &str); 3] = [
    ("types.wit", include_str!("../../../wit/0.1.0/types.wit")),
    ("assets.wit", include_str!("../../../wit/0.1.0/assets.wit")),
    ("environment.wit", include_str!("../../../wit/0.1.0/environment.wit")),
];

/// What of WASI the connections import: a world, and the packages that it is of.
const SOCKET_WIT: [(&str, &str); 1] = [("sockets.wit", include_str!("../../../guest-envs/c/wit/sockets.wit"))];
const SOCKET_DEPS: [(&str, &str); 2] = [
    ("io.wit", include_str!("../../../guest-envs/js/wit/deps/io.wit")),
    ("sockets.wit", include_str!("../../../guest-envs/js/wit/deps/sockets.wit")),
];

/// Flags of the compiler. The stack is that of Rust's guests: zig's own, of 16 MiB, would be part of every env's memory, and
/// be copied with it. zig puts it first in memory, so that an overflow traps and overwrites nothing. Products are not fused
/// with sums, so that a native test has the plugin's numbers. zig would leave `assert` out where it optimizes.
const FLAGS: [&str; 10] = [
    "-target",
    "wasm32-wasi",
    "-mexec-model=reactor",
    "-O2",
    "-s",
    "-ffp-contract=off",
    "-UNDEBUG",
    "-Wall",
    "-Wextra",
    "-Wl,-z,stack-size=1048576",
];

/// Whether a folder is a project in C.
pub(super) fn is_in(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}

/// Builds the project of a folder. Nothing of it is run.
pub(super) fn build(folder: &Path) -> anyhow::Result<Compiled> {
    let package = Package::read(folder)?;
    for (name, text) in package.of_sdk(SDK, SOCKET_SDK) {
        if !folder.join(name).exists() {
            put(folder, name, text)?;
        }
    }
    let zig = Zig::find(&package.zig)?;
    let note = "nothing of this folder is run, but what it includes is read with your rights";
    complain("building", &format!("by zig cc {} ({}): {note}", package.zig, zig.found));
    let module = compile(folder, &package, &zig)?;
    let component =
        component(module, package.has_sockets).with_context(|| format!("making a component of `{}`", shown(folder)))?;
    let key = "rollcage.toml, `package.assets`";
    Compiled::with_assets(package.name.replace('-', "_"), component, folder, &package.assets, key)
}

/// The core module of a folder's sources, of the SDK and of the bindings.
fn compile(folder: &Path, package: &Package, zig: &Zig) -> anyhow::Result<Vec<u8>> {
    let bindings = zig.folder.join(concat!("bindings-", env!("CARGO_PKG_VERSION")));
    for (name, text) in package.of_sdk(BINDINGS, SOCKET_BINDINGS) {
        put(&bindings, name, text)?;
    }
    let generated = fs::canonicalize(&bindings).with_context(|| shown(&bindings))?;
    let is_source = |name: &&str| name.ends_with(".c");
    let sdk = package.of_sdk(SDK, SOCKET_SDK).map(|(name, _)| name).filter(is_source);
    let sdk_bindings = package.of_sdk(BINDINGS, SOCKET_BINDINGS).map(|(name, _)| name).filter(is_source);
    let output = zig.folder.join(format!(".{}.wasm.tmp", std::process::id()));
    let facts = [("NAME", &package.name), ("VERSION", &package.version), ("SUMMARY", &package.summary)];
    let run = zig
        .cc()
        .args(FLAGS)
        .args(facts.map(|(fact, text)| format!("-DROLLCAGE_{fact}={}", literal(text))))
        .args(["-I", "."])
        .arg("-I")
        .arg(&generated)
        .arg("-o")
        .arg(std::path::absolute(&output)?)
        // By their relative paths: a failure's place is the same wherever the folder lies.
        .args(&package.sources)
        .args(sdk)
        .args(sdk_bindings.map(|name| generated.join(name)))
        .current_dir(folder)
        .output()
        .with_context(|| format!("starting zig ({})", zig.found))?;
    let said = String::from_utf8_lossy(&run.stderr);
    let module = fs::read(&output);
    let _ = fs::remove_file(&output);
    // In lines of its own: errors and warnings, with the author's lines.
    if !said.trim().is_empty() {
        let _ = writeln!(std::io::stderr(), "{}", escape(said.trim_end()));
    }
    if !run.status.success() {
        let mut error = UsageError::new(format!("`{}`: zig cc could not build it", shown(folder)));
        // Both of a header that is not there and of functions that are not linked.
        if !package.has_sockets && ["rollcage_socket.h", "rollcage_connect"].iter().any(|name| said.contains(name)) {
            error = error.hint("`sockets = true` in [c] of rollcage.toml lets the env use rollcage_socket.h");
        }
        return Err(error.hint("what the compiler says is above; docs/c.md has what a plugin defines").into());
    }
    module.with_context(|| shown(&output))
}

/// The component of a core module that is linked to WASI's first preview. Of the adapter to the second one it keeps what the
/// module needs.
fn component(mut module: Vec<u8>, has_sockets: bool) -> anyhow::Result<Vec<u8>> {
    embed(&mut module, "plugin", &WIT, &[])?;
    if has_sockets {
        embed(&mut module, "sockets", &SOCKET_WIT, &SOCKET_DEPS)?;
    }
    ComponentEncoder::default()
        .validate(true)
        .module(&module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?
        .encode()
}

/// Puts the types of a world into a module, for what makes a component of it. The files of its package are together; each file
/// of `deps` is a package.
fn embed(module: &mut Vec<u8>, world: &str, files: &[(&str, &str)], deps: &[(&str, &str)]) -> anyhow::Result<()> {
    let parsed = |files: &[(&str, &str)]| {
        let mut map = SourceMap::new();
        for (name, text) in files {
            map.push_str(name, *text);
        }
        map.parse().map_err(|(_, error)| anyhow::anyhow!("the interface: {error:?}"))
    };
    let deps = deps.iter().map(|dep| parsed(&[*dep])).collect::<Result<_, _>>()?;
    let mut interface = Resolve::new();
    let package = interface.push_groups(parsed(files)?, deps)?;
    let world = interface.select_world(&[package], Some(world))?;
    embed_component_metadata(module, &interface, world, StringEncoding::UTF8)
}

/// A text as C has it.
fn literal(text: &str) -> String {
    let mut literal = "\"".to_owned();
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | b'?' => literal.extend(['\\', char::from(byte)]),
            b' '..=b'~' => literal.push(char::from(byte)),
            // Three octal digits: what follows cannot be taken for one of them.
            _ => literal.push_str(&format!("\\{byte:03o}")),
        }
    }
    literal.push('"');
    literal
}

/// What rollcage.toml says.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    summary: String,
    assets: Vec<String>,
    /// Files in C, by their paths in the folder.
    sources: Vec<String>,
    /// The version of zig that compiles them.
    zig: String,
    /// Whether the env may ask for connections. One that does not is linked to nothing of sockets.
    has_sockets: bool,
}

impl Package {
    fn read(folder: &Path) -> anyhow::Result<Package> {
        let file = folder.join(MANIFEST);
        let text = fs::read_to_string(&file).with_context(|| shown(&file))?;
        let package = Package::parse(&text).map_err(|what| {
            UsageError::new(format!("`{}`: {what}", shown(&file)))
                .hint("`rollcage new NAME --lang c` makes a project that can be built")
        })?;
        for source in &package.sources {
            let is_below = Path::new(source).components().all(|part| matches!(part, Component::Normal(_)));
            if !is_below || !folder.join(source).is_file() {
                let what =
                    format!("`{}`: `c.sources`: no file `{}` is in the folder", shown(&file), escape_line(source));
                let hint = "its files are named by their paths in the folder, as in [\"my_env.c\", \"src/maze.c\"]";
                return Err(UsageError::new(what).hint(hint).into());
            }
        }
        Ok(package)
    }

    /// The SDK's files that the env is built with: those of all envs, and those of connections.
    fn of_sdk(
        &self,
        common: [(&'static str, &'static str); 2],
        sockets: [(&'static str, &'static str); 2],
    ) -> impl Iterator<Item = (&'static str, &'static str)> {
        common.into_iter().chain(sockets.into_iter().filter(|_| self.has_sockets))
    }

    /// Reads the file. The error names the key.
    fn parse(text: &str) -> Result<Package, String> {
        let table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            format!("line {line}: {}", one_line(error.message()))
        })?;
        const KEYS: [(&str, &[&str]); 2] =
            [("package", &["name", "version", "summary", "assets"]), ("c", &["sources", "ziglang", "sockets"])];
        for (name, value) in &table {
            let known = KEYS.iter().find(|(known, _)| known == name).map(|(_, keys)| *keys);
            let known = known
                .ok_or_else(|| format!("`{}` is not known: its tables are [package] and [c]", escape_line(name)))?;
            let unknown =
                value.as_table().into_iter().flat_map(toml::Table::keys).find(|key| !known.contains(&key.as_str()));
            if let Some(key) = unknown {
                let known = known.join(", ");
                return Err(format!("`{name}.{}` is not known: the keys of [{name}] are {known}", escape_line(key)));
            }
        }
        let value = |name: &str, key: &str| table.get(name).and_then(|table| table.get(key));
        let wrong = |name: &str, key: &str, wanted: &str| format!("`{name}.{key}`: {wanted}");
        let word = |name: &str, key: &str, wanted: &str, is_allowed: &dyn Fn(&str) -> bool| {
            let word = value(name, key).and_then(toml::Value::as_str).filter(|word| is_allowed(word));
            word.map(str::to_owned).ok_or_else(|| wrong(name, key, wanted))
        };
        let list = |name: &str, key: &str, wanted: &str| match value(name, key) {
            None => Ok(Vec::new()),
            Some(list) => {
                let list = list.as_array().map(|list| list.iter().map(|one| one.as_str().map(str::to_owned)).collect());
                list.and_then(|list: Option<Vec<String>>| list).ok_or_else(|| wrong(name, key, wanted))
            }
        };
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let wanted_sources = "a list of files in C is expected, as in [\"my_env.c\"]";
        let package = Package {
            name: word("package", "name", NAME_WANTED, &is_name)?,
            version: word("package", "version", "a version is expected, as in \"0.1.0\"", &|word| !word.is_empty())?,
            summary: word("package", "summary", "a line is expected", &|word| !word.contains('\n'))?,
            assets: list("package", "assets", "a list of globs is expected, as in [\"levels/*.txt\"]")?,
            sources: list("c", "sources", wanted_sources)?,
            zig: word("c", "ziglang", "a version of zig is expected, as in \"0.17.1\"", &|word| {
                word.split('.').count() == 3 && word.split('.').all(is_number)
            })?,
            has_sockets: value("c", "sockets")
                .map_or(Some(false), toml::Value::as_bool)
                .ok_or_else(|| wrong("c", "sockets", "`true` is expected, of an env that connects to a server"))?,
        };
        // What begins otherwise may be an option of the compiler's, which could run something.
        let is_source = |source: &String| {
            source.ends_with(".c") && source.starts_with(|first: char| first == '_' || first.is_alphanumeric())
        };
        if package.sources.is_empty() || !package.sources.iter().all(is_source) {
            return Err(wrong("c", "sources", wanted_sources));
        }
        Ok(package)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_of_zig_is_pinned() {
        let pin = format!("ziglang = \"{ZIG_VERSION}\"");
        for package in [
            include_str!("../../../guest-envs/templates/c/common/rollcage.toml"),
            include_str!("../../../guest-envs/templates/c/socket/rollcage.toml"),
            include_str!("../../../guest-envs/cartpole-c/rollcage.toml"),
        ] {
            assert!(package.contains(&pin), "{pin} in {package}");
        }
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        let good = "[package]\nname = \"a-b\"\nversion = \"1.0.0\"\nsummary = \"s\"\n[c]\nsources = [\"a.c\"]\nziglang = \"0.17.1\"\n";
        assert!(Package::parse(good).is_ok_and(|package| package.assets.is_empty() && package.sources == ["a.c"]));
        for (from, to, said) in [
            ("a-b", "A b", "`package.name`: lower-case letters"),
            ("[\"a.c\"]", "\"a.c\"", "`c.sources`: a list of files"),
            ("a.c", "a.py", "`c.sources`: a list of files"),
            ("a.c", "-fplugin=a.c", "`c.sources`: a list of files"),
            ("a.c", "@a.c", "`c.sources`: a list of files"),
            ("[\"a.c\"]", "[]", "`c.sources`: a list of files"),
            ("0.17.1", "../x", "`c.ziglang`: a version of zig"),
            ("sources", "source", "`c.source` is not known: the keys of [c] are sources, ziglang, sockets"),
            ("[c]", "[c]\nsockets = \"tcp\"", "`c.sockets`: `true` is expected"),
            ("[c]", "[cc]", "`cc` is not known"),
            ("[c]", "[c", "line 5: "),
            ("summary = \"s\"", "", "`package.summary`: a line is expected"),
        ] {
            let error = Package::parse(&good.replacen(from, to, 1)).expect_err(to);
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn any_text_is_a_literal() {
        assert_eq!(literal("a \"b\" \\ ??/ é\n9"), "\"a \\\"b\\\" \\\\ \\?\\?/ \\303\\251\\0129\"");
    }
}
