//! The words of the errors that an author's mistakes give while compiling.
//!
//! Each source is compiled against the library that these tests use; what the compiler itself adds may change.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// An env: all that comes before `impl`, its info space, what `spec` answers, and its name and summary.
fn env(before: &str, info: &str, spec: &str, name: &str, summary: &str) -> String {
    format!(
        r#"
use rollcage_sdk::prelude::*;

{before}

pub struct MyEnv;

impl Environment for MyEnv {{
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = {info};

    const NAME: &'static str = {name};
    const SUMMARY: &'static str = {summary};

    fn create(_config: NoConfig) -> Result<Self, CreateError> {{
        Ok(Self)
    }}

    fn spec(&self) -> Spec<Self> {{
        {spec}
    }}

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {{
        Ok(View::new(0))
    }}

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {{
        Ok(Step::new(action, 0.0))
    }}
}}

rollcage_sdk::export!(MyEnv);
"#
    )
}

/// An env without info, with this name and summary.
fn named(name: &str, summary: &str) -> String {
    env("", "NoInfo", "Spec::new(Discrete::new(2), Discrete::new(2))", &format!("{name:?}"), &format!("{summary:?}"))
}

/// The errors of a source: everything that the compiler says about it, or nothing.
fn errors(case: &str, source: &str) -> String {
    // The library lies beside this program; where a build left several, the newest is the one that was linked.
    let program = std::env::current_exe().expect("a program");
    let folder = program.parent().expect("a folder");
    let library = fs::read_dir(folder)
        .expect("a folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("librollcage_sdk-") && name.ends_with(".rlib")
        })
        .max_by_key(|path| fs::metadata(path).and_then(|file| file.modified()).expect("a time"))
        .expect("the library");

    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(case);
    fs::create_dir_all(&scratch).expect("a folder");
    let file = scratch.join("my_env.rs");
    fs::write(&file, source).expect("a file");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let ran = Command::new(compiler)
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "--color", "never", "-L"])
        .arg(format!("dependency={}", folder.display()))
        .arg("--extern")
        .arg(format!("rollcage_sdk={}", library.display()))
        .arg("--out-dir")
        .arg(&scratch)
        .arg(&file)
        .output()
        .expect("a compiler");
    let said = String::from_utf8(ran.stderr).expect("a text");
    assert_eq!(ran.status.success(), !said.contains("error"), "{said}");
    if ran.status.success() { String::new() } else { said }
}

/// Checks the first error's headline, and what else must be said.
#[track_caller]
fn refused(case: &str, source: &str, headline: &str, also: &[&str]) -> String {
    let said = errors(case, source);
    let first = said.lines().find(|line| line.starts_with("error")).unwrap_or("no error");
    assert!(first.contains(headline), "{case}: {said}");
    // The compiler breaks a note into lines where a note has line breaks of its own only.
    for words in also {
        assert!(said.contains(words), "{case}: `{words}` is missing in {said}");
    }
    said
}

#[test]
fn a_sound_env_compiles() {
    let before = r#"
rollcage_sdk::choices! {
    pub enum Mode { Fast = "fast", Slow = "slow" }
}
rollcage_sdk::config! {
    pub struct Config {
        pub mode: Mode = Mode::Fast,
        size: Option<Vec<[i64; 2]>> = None,
    }
}
"#;
    let spec = "Spec::new(Discrete::new(2), Discrete::new(2))";
    let summary = format!("{:?}", "ü".repeat(200));
    assert_eq!(errors("sound", &env(before, "NoInfo", spec, &format!("{:?}", "a-1".repeat(21)), &summary)), "");
}

#[test]
fn a_key_without_a_default_is_named() {
    let config = |fields: &str| format!("rollcage_sdk::config! {{ pub struct Config {{ {fields} }} }}");
    let said = refused(
        "no-default",
        &config(
            "pub size: i64, slip: f64 = 0.1, #[schemars(range(min = 0.0))] mass: f64, pub list: Vec<i64>, pub(crate) name: String",
        ),
        "`config!`: `size` has no default: write `pub size: i64 = 9`",
        &[
            "`config!`: `mass` has no default: write `mass: f64 = 1.0`",
            "`config!`: `name` has no default: write `pub(crate) name: String = \"name\".to_owned()`",
            "`config!`: `list` has no default: write `pub list: Vec<i64> = Default::default()`",
        ],
    );
    assert_eq!(said.matches("error: ").count(), 5, "and no errors that only follow: {said}");
    refused(
        "no-name",
        "rollcage_sdk::config! { pub struct Config { pub 9 } }",
        "a key is a name, a type and a default",
        &[],
    );
    refused(
        "enum-config",
        "rollcage_sdk::config! { pub enum Config { A, B } }",
        "declare an enum of the allowed texts with `rollcage_sdk::choices!`",
        &[],
    );
    refused(
        "no-text",
        "rollcage_sdk::choices! { pub enum Mode { Fast = \"fast\", Slow } }",
        "`choices!`: `Slow` has no text: write `Slow = \"text in the config\"`",
        &[],
    );
}

#[test]
fn a_plain_enum_is_no_type_of_a_key() {
    refused(
        "plain-enum",
        r"
        #[derive(Clone, Debug)]
        pub enum Mode { Fast, Slow }
        rollcage_sdk::config! { pub struct Config { pub modes: Vec<Mode> = Vec::new() } }
        ",
        "`Mode` cannot be the type of a config key",
        &[
            "declare an enum of the allowed texts with `rollcage_sdk::choices!`: `choices! { pub enum Mode { Fast = \"fast\", \
             Slow = \"slow\" } }`",
            "write `impl rollcage_sdk::ConfigValue for Mode {}`",
        ],
    );
}

#[test]
fn an_env_with_info_is_shown_its_constructor() {
    let info = "rollcage_sdk::info! { pub struct Facts in FactsSpace { distance: BoxSpace<f64> } }";
    let spec = "Spec::new(Discrete::new(2), Discrete::new(2))";
    refused(
        "info",
        &env(info, "FactsSpace", spec, "\"my-env\"", "\"\""),
        "`Spec::new` is for an env whose `InfoSpace` is `NoInfo`: this one's is `FactsSpace`",
        &["use `Spec::with_info(observation_space, action_space, info_space)`"],
    );
}

#[test]
fn names_and_summaries_are_checked() {
    let letters = "`NAME` must have lower-case letters, digits and hyphens only";
    for (index, (name, summary, headline)) in [
        ("", "", "`NAME` is empty"),
        (&*"a".repeat(65), "", "`NAME` is longer than 64 characters"),
        ("My-Env", "", letters),
        ("my_env", "", letters),
        ("größe", "", letters),
        ("my-env", "One line.\nAnother.", "`SUMMARY` must be one line"),
        ("my-env", &*"ü".repeat(201), "`SUMMARY` is longer than 200 characters"),
    ]
    .into_iter()
    .enumerate()
    {
        // The place is that of `export!`.
        refused(&format!("name-{index}"), &named(name, summary), headline, &["rollcage_sdk::export!(MyEnv);"]);
    }
}
