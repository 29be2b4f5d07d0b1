//! Turns a plugin's bytes into code that a worker can load; runs in the compile process only.
//!
//! The bytes are untrusted: they are read and validated with `wasmparser` before the compiler sees them. So a wrong file gets
//! a readable message, and malformed bytes never reach the engine. This file reads no files and decides no limits. The caller
//! catches panics, and a process of its own bounds time and memory.

use wasmparser::{Encoding, Parser, Payload, Validator};

use super::bindings::{EXPORT, POLICIES_SUPPORTED, POLICY, POLICY_EXPORT, SUPPORTED};
use crate::cage::engine::EngineSettings;
use crate::cage::wasm::config;

/// The interfaces that a plugin may import, without their 0.2.x version; `wasi::link` links each.
const IMPORTS: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Our own interfaces that a plugin may import, before their versions: files inside the plugin, and the types that come
/// with `environment`, which have no functions.
const OWN: [&str; 2] = ["rollcage:env/assets@", "rollcage:env/types@"];

/// Bytes of a name from the file that an error repeats.
const NAME_BYTES_MAX: usize = 200;

/// Bytes of the engine's own words that an error repeats.
const REASON_BYTES_MAX: usize = 1024;

/// The result of a compile.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The code in the engine's own format, for [`load`](crate::worker::load::load).
    pub(crate) code: Vec<u8>,
    /// The interface version that the plugin exports.
    pub(crate) interface: String,
}

/// The reason why a file is not a plugin for this rollcage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CompileError {
    /// The file is not wasm.
    #[error("not a WebAssembly file; a plugin is a component built for wasm32-wasip2")]
    NotWasm,
    /// The file is a core module.
    #[error("a core WebAssembly module, not a component; build it for wasm32-wasip2")]
    CoreModule,
    /// The file is a component of something else.
    #[error(
        "it does not export rollcage:env/environment; use the rollcage SDK's `export!`, or the world `plugin` of wit/"
    )]
    NoEnvironment,
    /// The interface version is from the future, or was never released.
    #[error(
        "it exports interface version {found}, and this rollcage speaks {spoken}; use a rollcage that speaks {found}, or rebuild the plugin"
    )]
    Interface {
        /// The version that the file exports.
        found: String,
        /// The versions that this rollcage speaks.
        spoken: String,
    },
    /// The file was built for the asynchronous WASI.
    #[error("it needs WASI 0.3 (`{import}`), and this rollcage runs 0.2; build it for wasm32-wasip2")]
    Wasi03 {
        /// The first import of that WASI.
        import: String,
    },
    /// The file has an import that rollcage does not provide.
    #[error("it imports `{import}`, which no plugin is given; build it without what needs that")]
    Import {
        /// The import's name.
        import: String,
    },
    /// The bytes are not a valid component, or use a proposal that is off.
    #[error(
        "not a valid component: {0}; build it again, without WebAssembly proposals beyond wasm32-wasip2's defaults"
    )]
    Invalid(String),
    /// The engine could not compile it.
    #[error("the engine cannot compile it: {0}; report it to rollcage with the file")]
    Engine(String),
}

/// Reads, checks and compiles a plugin.
///
/// # Errors
///
/// The fault in the file.
pub(crate) fn compile(wasm: &[u8], settings: &EngineSettings) -> Result<Compiled, CompileError> {
    let interface = read(wasm)?;
    let engine = config(settings).and_then(|config| wasmtime::Engine::new(&config)).map_err(|e| refused(&e))?;
    Validator::new_with_features(engine.get_wasm_features()).validate_all(wasm).map_err(invalid)?;
    let code = engine.precompile_component(wasm).map_err(|e| refused(&e))?;
    Ok(Compiled { code, interface })
}

/// Reads only names: checks all imports, and returns the newest interface version that the file exports and rollcage speaks.
/// Imports and exports of components *inside* the file do not matter.
fn read(wasm: &[u8]) -> Result<String, CompileError> {
    if !wasm.starts_with(b"\0asm") {
        return Err(CompileError::NotWasm);
    }
    let mut depth = 0_u32;
    let mut found: Vec<&str> = Vec::new();
    let mut policies: Vec<&str> = Vec::new();
    let mut imports: Vec<&str> = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(CompileError::CoreModule),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(invalid)?.name.name);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let name = export.map_err(invalid)?.name.name;
                    found.extend(name.strip_prefix(EXPORT));
                    policies.extend(name.strip_prefix(POLICY_EXPORT));
                }
            }
            _ => {}
        }
    }

    // The most useful complaint comes first: a wrong WASI explains missing exports, and a component without our export may
    // import anything.
    if let Some(import) = imports.iter().find(|name| is_wasi(name, "0.3.")) {
        return Err(CompileError::Wasi03 { import: shown(import) });
    }
    let newest = |found: &[&str], supported: &[&'static str]| match found.first() {
        None => Err(CompileError::NoEnvironment),
        Some(first) => supported
            .iter()
            .rev()
            .find(|version| found.contains(version))
            .copied()
            .ok_or_else(|| CompileError::Interface { found: shown(first), spoken: supported.join(", ") }),
    };
    let interface = match newest(&found, SUPPORTED) {
        Err(CompileError::NoEnvironment) => newest(&policies, POLICIES_SUPPORTED).map(|_| POLICY)?,
        other => other?,
    };
    match imports.iter().find(|name| !is_given(name)) {
        Some(import) => Err(CompileError::Import { import: shown(import) }),
        None => Ok(interface.to_owned()),
    }
}

fn is_wasi(name: &str, version: &str) -> bool {
    name.starts_with("wasi:") && name.split_once('@').is_some_and(|(_, v)| v.starts_with(version))
}

/// Whether an import is one of [`IMPORTS`] at 0.2.x, or one of [`OWN`] at a supported interface version.
fn is_given(name: &str) -> bool {
    if let Some(version) = OWN.iter().find_map(|own| name.strip_prefix(own)) {
        return SUPPORTED.contains(&version);
    }
    name.split_once('@').is_some_and(|(interface, version)| {
        let patch = version.strip_prefix("0.2.");
        IMPORTS.contains(&interface)
            && patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn shown(name: &str) -> String {
    cut(name, NAME_BYTES_MAX).to_owned()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

fn invalid(error: wasmparser::BinaryReaderError) -> CompileError {
    CompileError::Invalid(cut(&error.to_string(), REASON_BYTES_MAX).to_owned())
}

fn refused(error: &wasmtime::Error) -> CompileError {
    CompileError::Engine(cut(&format!("{error:#}"), REASON_BYTES_MAX).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component that has only imports and exports by name, all instances. It can be read, but is not valid.
    fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
        let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
        // Import: name, instance type 0. Export: name, instance 0, no type.
        for (id, names, tail) in [(10, imports, &[5, 0][..]), (11, exports, &[5, 0, 0][..])] {
            let mut section = vec![byte(names.len())];
            for name in names {
                section.extend([0, byte(name.len())]);
                section.extend(name.as_bytes());
                section.extend(tail);
            }
            append(&mut wasm, id, &section);
        }
        wasm
    }

    fn append(wasm: &mut Vec<u8>, id: u8, section: &[u8]) {
        wasm.push(id);
        wasm.extend([byte(section.len() & 0x7f) | 0x80, byte(section.len() >> 7)]);
        wasm.extend(section);
    }

    fn byte(n: usize) -> u8 {
        u8::try_from(n).expect("a test's lengths are short")
    }

    const ENVIRONMENT: &str = "rollcage:env/environment@0.1.0";

    #[test]
    fn a_plugin_is_read() {
        let wasm = component(
            &["wasi:io/poll@0.2.0", "wasi:cli/exit@0.2.12", "rollcage:env/types@0.1.0", "rollcage:env/assets@0.1.0"],
            &[ENVIRONMENT],
        );
        assert_eq!(read(&wasm), Ok("0.1.0".to_owned()));
    }

    #[test]
    fn what_is_no_plugin_is_told_apart() {
        let core = b"\0asm\x01\0\0\0";
        assert_eq!(read(b"hello"), Err(CompileError::NotWasm));
        assert_eq!(read(b""), Err(CompileError::NotWasm));
        assert_eq!(read(core), Err(CompileError::CoreModule));
        assert!(matches!(read(b"\0asm\x0d\0\x01\0\xff"), Err(CompileError::Invalid(_))));
        assert_eq!(read(&component(&[], &["wasi:cli/run@0.2.0"])), Err(CompileError::NoEnvironment));
        assert_eq!(
            read(&component(&[], &["rollcage:env/environment@9.0.0"])),
            Err(CompileError::Interface { found: "9.0.0".to_owned(), spoken: "0.1.0".to_owned() })
        );
    }

    #[test]
    fn an_import_that_nobody_gives_is_named() {
        for import in [
            "wasi:http/types@0.2.0",
            "wasi:clocks/timezone@0.2.0",
            "wasi:io/poll@0.2.0-rc-2023-11-10",
            "wasi:io/poll@0.2.",
            "wasi:io/poll",
            "rollcage:env/types@9.0.0",
            "rollcage:env/assets@9.0.0",
            "acme:robot/arm@1.0.0",
            "log",
        ] {
            let error = read(&component(&["wasi:io/error@0.2.3", import], &[ENVIRONMENT]));
            assert_eq!(error, Err(CompileError::Import { import: import.to_owned() }));
        }
    }

    #[test]
    fn wasi_03_is_named_even_without_our_export() {
        let import = "wasi:clocks/monotonic-clock@0.3.0";
        let error = read(&component(&["wasi:io/poll@0.2.0", import], &[]));
        assert_eq!(error, Err(CompileError::Wasi03 { import: import.to_owned() }));
    }

    #[test]
    fn what_a_component_inside_imports_is_its_own_business() {
        let inner = component(&["acme:robot/arm@1.0.0"], &["rollcage:env/environment@9.0.0"]);
        let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
        append(&mut wasm, 4, &inner);
        wasm.extend(component(&[], &[ENVIRONMENT]).get(8..).expect("sections"));
        assert_eq!(read(&wasm), Ok("0.1.0".to_owned()));
    }

    #[test]
    fn an_invalid_component_does_not_reach_the_engine() {
        let error = compile(&component(&[], &[ENVIRONMENT]), &EngineSettings::default()).expect_err("an error");
        assert!(matches!(error, CompileError::Invalid(_)), "{error}");
    }
}
