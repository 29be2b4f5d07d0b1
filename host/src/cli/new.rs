//! `rollcage new`: an author's project that builds, is tested and runs at once.
//!
//! The files are those of `guest-envs/templates/`, with the author's name in place of `my-env`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use rollcage::UsageError;
use rollcage::text::{argument, escape_line};

use super::{Status, complain, say, say_json, shown};

/// Make a new env's project, which builds and runs as it stands
///
/// An env in Python needs no compiler: `rollcage run` takes the folder. One in Rust, JavaScript or C is built by
/// `rollcage build`, with cargo, npm or zig.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rollcage new my_env                          Python, one number to see and one to choose
  rollcage new maze --template grid            a Dict, action masks, a level file, pictures
  rollcage new fast --lang rust
  rollcage new light --lang js
  rollcage new small --lang c
  rollcage run my_env --envs 8
  rollcage check my_env

Templates:
  discrete    a walk along a corridor
  grid        a maze from a file: Dict observation, action mask, info, pictures
  continuous  a cart on a rail: Box actions
  pixels      a ball and a bat, seen as 84 by 84 pixels
  socket      a game that a server keeps, with the server and its grants

Exit status:
  0  the project is there
  1  a file cannot be written
  2  the name is none, or something is there already")]
pub(super) struct New {
    /// The folder to make; its name is the env's
    name: PathBuf,

    /// The language
    #[arg(long, value_name = "LANG", value_enum, default_value_t = Language::Python)]
    lang: Language,

    /// What the project begins with
    #[arg(long, value_name = "TEMPLATE", value_enum, default_value_t = Template::Discrete)]
    template: Template,

    /// Folder of the crate rollcage-sdk [default: the checkout that this program was built in, else the repository]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Python,
    Rust,
    /// JavaScript
    Js,
    C,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Template {
    Discrete,
    Grid,
    Continuous,
    Pixels,
    Socket,
}

/// A file of a project: where it goes, and its text.
type File = (&'static str, &'static str);

macro_rules! template {
    ($($path:literal => $file:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../guest-envs/templates/", $file)))),*]
    };
}

const PYTHON: &[File] = template![
    ".gitignore" => "python/common/gitignore",
    "pyproject.toml" => "python/common/pyproject.toml",
    "README.md" => "python/common/README.md",
    "AGENTS.md" => "python/common/AGENTS.md",
    "tests/test_my_env.py" => "python/common/tests/test_my_env.py",
];

const RUST: &[File] = template![
    ".gitignore" => "rust/common/gitignore",
    "Cargo.toml" => "rust/common/Cargo.toml.in",
    "rust-toolchain.toml" => "rust/common/rust-toolchain.toml",
    "README.md" => "rust/common/README.md",
    "AGENTS.md" => "rust/common/AGENTS.md",
];

const JS: &[File] = template![
    ".gitignore" => "js/common/gitignore",
    "package.json" => "js/common/package.json",
    "rollcage.js" => "../js/rollcage.js",
    "README.md" => "js/common/README.md",
    "AGENTS.md" => "js/common/AGENTS.md",
];

const C: &[File] = template![
    ".gitignore" => "c/common/gitignore",
    "rollcage.toml" => "c/common/rollcage.toml",
    "rollcage.h" => "../c/rollcage.h",
    "rollcage.c" => "../c/rollcage.c",
    "README.md" => "c/common/README.md",
    "AGENTS.md" => "c/common/AGENTS.md",
];

/// What a template has of its own.
struct Own {
    /// More lines of pyproject.toml or Cargo.toml.
    settings: &'static str,
    files: &'static [File],
}

/// What a template has in every language.
impl Template {
    fn summary(self) -> &'static str {
        match self {
            Template::Discrete => "Walk to the right end of a slippery corridor",
            Template::Grid => "Find the key in a maze, and then the door",
            Template::Continuous => "Push a cart to a place on a rail, and stop it there",
            Template::Pixels => "Catch falling balls with a bat, seen as grey pixels",
            Template::Socket => "Guess a number that a server keeps",
        }
    }

    /// The SDK's files in C, as README.md names them: those that are compiled, and all.
    fn c_files(self) -> [&'static str; 2] {
        match self {
            Template::Socket => {
                ["rollcage.c rollcage_socket.c", "`rollcage.h`, `rollcage.c` and the two of `rollcage_socket`"]
            }
            _ => ["rollcage.c", "`rollcage.h` and `rollcage.c`"],
        }
    }

    /// More lines of README.md.
    fn readme(self) -> &'static str {
        match self {
            Template::Socket => {
                "\nThe env needs its server: `rollcage run . --envs 8 --grants grants.toml` starts one for each env, on a port \
                 of its own.\n"
            }
            _ => "",
        }
    }
}

fn own(language: Language, template: Template) -> Own {
    match (language, template) {
        (Language::Python, Template::Discrete) => {
            Own { settings: "max-episode-steps = 200\n", files: template!["my_env.py" => "python/discrete/my_env.py"] }
        }
        (Language::Python, Template::Grid) => Own {
            settings: "max-episode-steps = 500\n# Files that travel inside the plugin.\nassets = [\"levels/*.txt\"]\n",
            files: template![
                "my_env.py" => "python/grid/my_env.py",
                "levels/first.txt" => "python/grid/levels/first.txt",
            ],
        },
        (Language::Python, Template::Continuous) => Own {
            settings: "max-episode-steps = 200\n",
            files: template!["my_env.py" => "python/continuous/my_env.py"],
        },
        (Language::Python, Template::Pixels) => {
            Own { settings: "", files: template!["my_env.py" => "python/pixels/my_env.py"] }
        }
        (Language::Python, Template::Socket) => Own {
            settings: "\n[[tool.rollcage.wants]]\nkind = \"tcp-connect\"\nexample = \"127.0.0.1:{game}\"\n\
                       reason = \"the number is kept by a server\"\nrequired = true\n",
            files: template![
                "my_env.py" => "python/socket/my_env.py",
                "server.py" => "python/socket/server.py",
                "grants.toml" => "python/socket/grants.toml",
                "tests/test_my_env.py" => "python/socket/tests/test_my_env.py",
            ],
        },
        (Language::Rust, Template::Discrete) => Own {
            settings: "",
            files: template![
                "src/lib.rs" => "rust/discrete/src/lib.rs",
                "tests/my_env.rs" => "rust/discrete/tests/my_env.rs",
            ],
        },
        (Language::Rust, Template::Grid) => Own {
            settings: "\n[package.metadata.rollcage]\n# Files that travel inside the plugin.\nassets = [\"levels/*.txt\"]\n",
            files: template![
                "src/lib.rs" => "rust/grid/src/lib.rs",
                "tests/my_env.rs" => "rust/grid/tests/my_env.rs",
                "levels/first.txt" => "python/grid/levels/first.txt",
            ],
        },
        (Language::Rust, Template::Continuous) => Own {
            settings: "",
            files: template![
                "src/lib.rs" => "rust/continuous/src/lib.rs",
                "tests/my_env.rs" => "rust/continuous/tests/my_env.rs",
            ],
        },
        (Language::Rust, Template::Pixels) => Own {
            settings: "",
            files: template![
                "src/lib.rs" => "rust/pixels/src/lib.rs",
                "tests/my_env.rs" => "rust/pixels/tests/my_env.rs",
            ],
        },
        (Language::Rust, Template::Socket) => Own {
            settings: "",
            files: template![
                "src/lib.rs" => "rust/socket/src/lib.rs",
                "tests/my_env.rs" => "rust/socket/tests/my_env.rs",
                "server.py" => "python/socket/server.py",
                "grants.toml" => "python/socket/grants.toml",
            ],
        },
        (Language::Js, Template::Discrete) => Own {
            settings: "    \"assets\": []\n",
            files: template![
                "my_env.js" => "js/discrete/my_env.js",
                "tests/my_env.test.js" => "js/discrete/my_env.test.js",
            ],
        },
        (Language::Js, Template::Grid) => Own {
            settings: "    \"assets\": [\"levels/*.txt\"]\n",
            files: template![
                "my_env.js" => "js/grid/my_env.js",
                "tests/my_env.test.js" => "js/grid/my_env.test.js",
                "levels/first.txt" => "python/grid/levels/first.txt",
            ],
        },
        (Language::Js, Template::Continuous) => Own {
            settings: "    \"assets\": []\n",
            files: template![
                "my_env.js" => "js/continuous/my_env.js",
                "tests/my_env.test.js" => "js/continuous/my_env.test.js",
            ],
        },
        (Language::Js, Template::Pixels) => Own {
            settings: "    \"assets\": []\n",
            files: template![
                "my_env.js" => "js/pixels/my_env.js",
                "tests/my_env.test.js" => "js/pixels/my_env.test.js",
            ],
        },
        (Language::Js, Template::Socket) => Own {
            settings: "    \"assets\": [],\n    \"wants\": [\n      { \"kind\": \"tcp-connect\", \"example\": \"127.0.0.1:{game}\", \
                       \"reason\": \"the number is kept by a server\" }\n    ]\n",
            files: template![
                "my_env.js" => "js/socket/my_env.js",
                "tests/my_env.test.js" => "js/socket/my_env.test.js",
                "server.py" => "python/socket/server.py",
                "grants.toml" => "python/socket/grants.toml",
            ],
        },
        (Language::C, Template::Discrete) => Own {
            settings: "assets = []\n",
            files: template![
                "my_env.c" => "c/discrete/my_env.c",
                "tests/my_env_test.c" => "c/discrete/my_env_test.c",
            ],
        },
        (Language::C, Template::Grid) => Own {
            settings: "assets = [\"levels/*.txt\"]\n",
            files: template![
                "my_env.c" => "c/grid/my_env.c",
                "tests/my_env_test.c" => "c/grid/my_env_test.c",
                "levels/first.txt" => "python/grid/levels/first.txt",
            ],
        },
        (Language::C, Template::Continuous) => Own {
            settings: "assets = []\n",
            files: template![
                "my_env.c" => "c/continuous/my_env.c",
                "tests/my_env_test.c" => "c/continuous/my_env_test.c",
            ],
        },
        (Language::C, Template::Pixels) => Own {
            settings: "assets = []\n",
            files: template![
                "my_env.c" => "c/pixels/my_env.c",
                "tests/my_env_test.c" => "c/pixels/my_env_test.c",
            ],
        },
        (Language::C, Template::Socket) => Own {
            settings: "assets = []\n",
            files: template![
                "rollcage.toml" => "c/socket/rollcage.toml",
                "rollcage_socket.h" => "../c/rollcage_socket.h",
                "rollcage_socket.c" => "../c/rollcage_socket.c",
                "my_env.c" => "c/socket/my_env.c",
                "tests/my_env_test.c" => "c/socket/my_env_test.c",
                "server.py" => "python/socket/server.py",
                "grants.toml" => "python/socket/grants.toml",
            ],
        },
    }
}

impl New {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let names = Names::of(&self.name)?;
        let own = own(self.lang, self.template);
        if self.name.exists() && fs::read_dir(&self.name).map_or(true, |mut entries| entries.next().is_some()) {
            let error = UsageError::new(format!("`{}` is there already", shown(&self.name)));
            return Err(error.hint("name a folder that is not there, or an empty one").into());
        }
        let sdk = match self.lang {
            Language::Rust => self.sdk()?,
            Language::Python | Language::Js | Language::C => String::new(),
        };
        let common = match self.lang {
            Language::Python => PYTHON,
            Language::Rust => RUST,
            Language::Js => JS,
            Language::C => C,
        };
        let [compiled, all_of_sdk] = self.template.c_files();
        let mut written = Vec::new();
        // What a template has of its own takes the place of what all have.
        let all = common.iter().filter(|(path, _)| !own.files.iter().any(|(own, _)| own == path)).chain(own.files);
        for (path, text) in all {
            let text = names.put_into(text).replace("@SUMMARY@", self.template.summary());
            let text = text
                .replace("SETTINGS\n", own.settings)
                .replace("MORE\n", self.template.readme())
                .replace("@COMPILED@", compiled)
                .replace("@SDK@", all_of_sdk)
                .replace("{ SDK }", &format!("{{ {sdk} }}"));
            let path = names.put_into(path);
            let file = self.name.join(&path);
            let folder = file.parent().unwrap_or(&self.name);
            fs::create_dir_all(folder).with_context(|| format!("making `{}`", shown(folder)))?;
            fs::write(&file, text).with_context(|| format!("writing `{}`", shown(&file)))?;
            written.push(path);
        }
        written.sort();
        if self.json {
            say_json(&serde_json::json!({"folder": self.name, "files": written}))?;
            return Ok(Status::Complete);
        }
        say(&format!("{}: {}\n", shown(&self.name), written.join(", ")))?;
        let folder = argument(&self.name.display().to_string());
        let grants =
            if self.template == Template::Socket { format!(" --grants {folder}/grants.toml") } else { String::new() };
        match self.lang {
            Language::Python => {
                complain("hint", &format!("`rollcage run {folder} --envs 8{grants}` plays it as it stands"))
            }
            Language::Rust | Language::Js | Language::C => {
                let tool = match self.lang {
                    Language::Js => "npm and componentize-qjs",
                    Language::C => "zig cc",
                    _ => "cargo",
                };
                complain(
                    "hint",
                    &format!(
                        "`rollcage build {folder}` builds it with {tool}, and `rollcage run {folder}{grants}` plays it"
                    ),
                );
            }
        }
        complain("hint", &format!("`rollcage check {folder}{grants}` says what should be mended"));
        Ok(Status::Complete)
    }

    /// Where the SDK is, as Cargo.toml says it.
    fn sdk(&self) -> Result<String, UsageError> {
        let named = |folder: &Path| {
            let there = folder.join("Cargo.toml").is_file();
            let folder = fs::canonicalize(folder).ok().filter(|_| there)?;
            Some(format!("path = {:?}", folder.display().to_string()))
        };
        match &self.sdk {
            Some(folder) => named(folder).ok_or_else(|| {
                UsageError::new(format!("`{}` is no crate: it has no Cargo.toml", shown(folder)))
                    .hint("in a checkout of rollcage it is guest-envs/sdk")
            }),
            // TARGET/release/rollcage, where TARGET lies in the checkout.
            None => Ok(std::env::current_exe()
                .ok()
                .and_then(|program| named(&program.ancestors().nth(3)?.join("guest-envs/sdk")))
                .unwrap_or_else(|| format!("git = \"{}\"", env!("CARGO_PKG_REPOSITORY")))),
        }
    }
}

/// The env's name in its forms.
struct Names {
    /// `my-env`.
    hyphened: String,
    /// `my_env`.
    underscored: String,
    /// `MyEnv`.
    class: String,
}

impl Names {
    fn of(folder: &Path) -> Result<Names, UsageError> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let refuse = |what: &str| {
            UsageError::new(format!("name `{}`: {what}", escape_line(&name)))
                .hint("lower-case letters, digits, `-` and `_`, beginning with a letter: `my_env`")
        };
        let parts: Vec<&str> = name.split(['-', '_']).collect();
        let is_part = |part: &&str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if !parts.iter().all(is_part) || !name.starts_with(|first: char| first.is_ascii_lowercase()) || name.len() > 64
        {
            return Err(refuse("it cannot be the name of a package"));
        }
        // Names that a module of the project would hide, or that are no names in the language.
        if ["test", "tests", "gymnasium", "numpy", "rollcage", "server", "class", "import", "mod", "crate", "self"]
            .contains(&&*name)
        {
            return Err(refuse("it has a meaning already"));
        }
        let capitalised = |part: &&str| {
            let (first, rest) = part.split_at(1);
            first.to_uppercase() + rest
        };
        Ok(Names {
            hyphened: parts.join("-"),
            underscored: parts.join("_"),
            class: parts.iter().map(capitalised).collect(),
        })
    }

    fn put_into(&self, text: &str) -> String {
        text.replace("my-env", &self.hyphened).replace("my_env", &self.underscored).replace("MyEnv", &self.class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_three_forms() {
        let names = Names::of(Path::new("envs/big_maze-2")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(names.put_into("my-env my_env MyEnv"), "big-maze-2 big_maze_2 BigMaze2");
        for wrong in ["", "Maze", "2d", "a b", "a__b", "-a", "..", "tests", "é"] {
            assert!(Names::of(Path::new(wrong)).is_err(), "{wrong}");
        }
    }
}
