//! The page for authors, word for word: its blocks are files, commands and what those print.
//!
//! `python/tests/test_docs.py` runs what the page has in Python.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rollcage_tests::{Scratch, program, root};

use crate::authors::products;

/// Tests of the author's own, which the second test runs.
const AUTHORS_TESTS: &str = "cargo test";

#[test]
fn the_page_makes_a_plugin_that_runs() {
    let folder = Folder::new("first-env");
    let mut printed = String::new();
    let (mut commands, mut compared) = (0, 0);
    for block in blocks() {
        match block {
            Block::File { name, text } => folder.write(&name, &text),
            Block::Commands(AUTHORS_TESTS) => {}
            Block::Commands(shell) => (printed, commands) = (folder.run(shell), commands + 1),
            Block::Output(expected) => {
                assert!(fits(expected, &printed), "the page says\n{expected}\nand the command printed\n{printed}");
                compared += 1;
            }
        }
    }
    assert!(commands >= 5 && compared >= 2, "{commands} commands, {compared} outputs");
    let lines = fs::read_to_string(folder.path().join("src/lib.rs")).unwrap().lines().count();
    assert!(lines < 60, "{lines} lines");
    let manifest = fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
    let dependencies = manifest.split_once("[dependencies]").unwrap().1;
    assert!(dependencies.trim().starts_with("rollcage-sdk") && dependencies.trim().lines().count() == 1, "{manifest}");
}

#[test]
fn the_pages_tests_run_natively() {
    let folder = Folder::new("first-env-tests");
    for block in blocks() {
        match block {
            Block::File { name, text } => folder.write(&name, &text),
            Block::Commands(shell) if shell.starts_with("cargo add") => drop(folder.run(shell)),
            Block::Commands(_) | Block::Output(_) => {}
        }
    }
    let printed = folder.run(AUTHORS_TESTS);
    assert!(printed.contains("test result: ok. 2 passed"), "{printed}");
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(fits("a\n…\nc", "a\nb\nb\nc\n") && fits("speed …\nend", "speed 7\nend") && fits("a", "a\n"));
    assert!(!fits("a\n…\nc", "a\nb\n") && !fits("a", "a\nb") && !fits("a\nc", "a\nb\nc"));
}

enum Block {
    File { name: String, text: String },
    Commands(&'static str),
    Output(&'static str),
}

/// The fenced blocks: ```` ```rust src/lib.rs ```` is a file, `sh` are commands, `text` is what they print.
fn blocks() -> Vec<Block> {
    let page: &'static str = fs::read_to_string(root().join("docs/first-env.md")).unwrap().leak();
    let (_, in_rust) = page.split_once("\n## In Rust\n").unwrap();
    in_rust
        .split("\n```")
        .skip(1)
        .step_by(2)
        .map(|block| {
            let (kind, text) = block.split_once('\n').unwrap();
            match kind.split_once(' ') {
                Some((_, name)) => Block::File { name: name.to_owned(), text: format!("{text}\n") },
                None if kind == "sh" => Block::Commands(text),
                None if kind == "text" => Block::Output(text),
                None => panic!("a block of `{kind}`, which nothing tests"),
            }
        })
        .collect()
}

/// Whether what was printed is what is expected, where `…` stands for any text.
fn fits(expected: &str, printed: &str) -> bool {
    let (mut rest, mut anchored) = (printed.trim_end(), true);
    let mut pieces = expected.trim_end().split('…').peekable();
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        rest = match rest.find(piece) {
            // The last piece is the end, unless there is no other.
            _ if last && !anchored => return rest.ends_with(piece),
            Some(at) if !anchored || at == 0 => &rest[at + piece.len()..],
            _ => return false,
        };
        anchored = false;
    }
    rest.is_empty()
}

/// An empty folder outside the repository.
struct Folder(Scratch);

impl Folder {
    fn new(name: &str) -> Folder {
        Folder(Scratch::for_every_user(name))
    }

    fn path(&self) -> &Path {
        self.0.folder()
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path().join(name).parent().unwrap()).unwrap();
        self.0.file(name, text);
    }

    /// Runs commands as the author's shell would, and gives what they printed.
    fn run(&self, commands: &str) -> String {
        let programs = program().parent().map(Path::to_owned).unwrap();
        let path = std::env::join_paths(
            std::iter::once(programs).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", commands]).current_dir(self.path()).stdin(Stdio::null());
        shell.env("ROLLCAGE", root()).env("PATH", path.unwrap());
        // What the author sees of a build is in the author's folder; its intermediate files are shared: the SDK is compiled once.
        shell.env("CARGO_BUILD_BUILD_DIR", products());
        // What this test's own cargo and CI set is not the author's.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let ours = ["CARGO_TARGET_DIR", "RUSTFLAGS", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_BUILD_TARGET"];
            if ours.contains(&&*text)
                || ["CARGO_PKG_", "CARGO_MANIFEST_", "NEXTEST"].iter().any(|prefix| text.starts_with(prefix))
            {
                shell.env_remove(&name);
            }
        }
        let output = shell.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{commands}: {}\n{}", output.status, text(&output.stderr));
        text(&output.stdout)
    }
}
