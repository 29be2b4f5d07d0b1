//! Configs from the outside: what is typed, read from a file or handed over by a program, what becomes of it, and what is
//! said of it when it is wrong. The messages themselves, for schemas of all kinds, are tested in `host/src/config/`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rollcage::{Error, Plugin, UsageError, VecEnv};
use rollcage_tests::{Scratch, builder, cache, fixture, root, shipped, within};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::{assert_harmless, command, guest, json, run, snapshot, told};

// ── Wrong ones ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// What is wrong is said with its path, what was given and what is allowed: exit status 2, and nothing on stdout.
#[test]
fn wrong_configs_are_told() {
    let table: &[&[&str]] = &[
        &["cartpole", "sutton_barto_reward=1"],
        &["cartpole", "sutton_barto_reward=yes"],
        &["cartpole", "sutton_barto_reward=null"],
        &["cartpole", "sutton_barto_reward=[true]"],
        &["cartpole", "sutton_barto_reward.x=true"],
        &["cartpole", "sutton_barto=true"],
        &["cartpole", "Sutton_Barto_Reward=true"],
        &["cartpole", "gravity=9.8"],
        &["cartpole", "gravity=9.8", "length=1"],
        &["cartpole", "sutton_barto_reward"],
        &["cartpole", "=true"],
        &["cartpole", "a b=true"],
        &["cartpole", "'open=true"],
        &["frozenlake", "map_name=16x16"],
        &["frozenlake", "map_name=4"],
        &["frozenlake", "map-name=8x8"],
        &["frozenlake", "is_slippery=0"],
        &["frozenlake", "slippery=false"],
        &["frozenlake", "success_rate=1.5"],
        &["frozenlake", "success_rate=-0.1"],
        &["frozenlake", "success_rate=often"],
        &["frozenlake", "success_rate=nan"],
        &["frozenlake", "success_rate=inf"],
        &["frozenlake", "success_rate=null"],
        &["frozenlake", "reward_schedule=1"],
        &["frozenlake", "reward_schedule=[1.0, 0.0]"],
        &["frozenlake", "reward_schedule=[1, 0, 0, 0]"],
        &["frozenlake", "reward_schedule=[1, \"0\", 0]"],
        &["frozenlake", "reward_schedule=[1, 0, 99999999999999999999]"],
        &["frozenlake", "desc=SFFG"],
        &["frozenlake", "desc=[1, 2]"],
        &["frozenlake", "desc.0=SG"],
        &["frozenlake", "success_rate=2", "map_name=big", "ice=1"],
        &["blackjack", "natural=1"],
        &["blackjack", "sab=\"true\""],
        &["blackjack", "naturals=true"],
        // The schema lets these pass, and the env itself refuses them.
        &["frozenlake", "map_name=null"],
        &["frozenlake", "desc=[]"],
        &["frozenlake", "desc=[\"FG\"]"],
        &["frozenlake", "desc=[\"SF\", \"FFG\"]"],
        &["frozenlake", "desc=[\"SF\", \"FX\"]"],
        &["frozenlake", "desc=[\"S\\u001b[2J\"]"],
    ];
    let mut all = String::new();
    for row in table {
        let (plugin, config) = row.split_first().unwrap();
        let mut arguments = vec!["run", *plugin, "--seed=1"];
        config.iter().for_each(|assignment| arguments.extend(["--config", assignment]));
        let ran = run(&arguments);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{config:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: config"), "{config:?}: {}", ran.stderr);
        assert_harmless(&ran.stderr, &config);
        all.push_str(&told(&arguments, &ran));
        // What shows an env's config refuses the same.
        arguments[0] = "inspect";
        arguments.remove(2);
        let shown = run(&arguments);
        assert_eq!((shown.status, &shown.stderr), (Some(2), &ran.stderr), "{config:?}");
    }
    snapshot("wrong_configs", &all);
}

/// With a warm cache nothing at all is started: a program that is no worker would be noticed.
#[test]
fn a_wrong_config_starts_no_process() {
    for (plugin, config) in [
        ("cartpole", json!({"gravity": 1})),
        ("frozenlake", json!({"success_rate": 2})),
        ("blackjack", json!({"sab": null})),
    ] {
        shipped(plugin).prepare().unwrap();
        let build = |config: &Value| {
            let builder = VecEnv::builder(Plugin::shipped(plugin).unwrap()).worker("/bin/false").cache(cache());
            builder.envs(3).config(config).unwrap().build().err().unwrap()
        };
        let error = build(&config);
        assert!(matches!(&error, Error::Usage(error) if error.message.starts_with("config `")), "{error}");
        // It would have been tried otherwise.
        let error = build(&json!({}));
        assert!(!error.to_string().starts_with("config"), "{error}");
    }
}

/// The last of many envs has the wrong one: none is started, and it is said which key.
#[test]
fn every_config_is_checked_before_the_first_start() {
    shipped("cartpole").prepare().unwrap();
    let builder = VecEnv::builder(Plugin::shipped("cartpole").unwrap()).worker("/bin/false").cache(cache());
    let config = |env: usize| match env {
        7 => json!({"sutton_barto_reward": "no"}),
        _ => json!({}),
    };
    let error = builder.envs(8).config_with(config).build().err().unwrap();
    assert_eq!(error.to_string(), "config `sutton_barto_reward`: expected true or false, got \"no\"");
}

/// The rows of `tests/hostile/expected.toml` that are of interest here: what refuses a run before it starts.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    guest: String,
    #[serde(default)]
    config: BTreeMap<String, toml::Value>,
    call: String,
    fault: String,
    limits: Option<toml::Value>,
    #[serde(default)]
    message_contains: Vec<String>,
}

fn rows(call: &str, fault: &str) -> Vec<Row> {
    #[derive(Deserialize)]
    struct Table {
        guest: Vec<Row>,
    }
    let text = std::fs::read_to_string(root().join("tests/hostile/expected.toml")).unwrap();
    let rows = toml::from_str::<Table>(&text).unwrap().guest;
    let rows: Vec<Row> = rows.into_iter().filter(|row| row.call == call && row.fault == fault).collect();
    assert!(!rows.is_empty());
    rows
}

/// A stranger's schema is the plugin's fault: refused within seconds, with its name and the limit that it breaks.
#[test]
fn hostile_schemas_refuse_their_plugin() {
    let mut schemas = 0;
    // What waits for a timeout waits for half a minute here; the library's tests shorten that.
    for row in rows("describe", "compile").iter().filter(|row| row.limits.is_none()) {
        let path = guest(&row.guest);
        for command in ["run", "inspect"] {
            let begun = Instant::now();
            let ran = run(&[command, &path]);
            assert!(begun.elapsed() < Duration::from_secs(20), "{}: {:?}", row.guest, begun.elapsed());
            assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{}: {}", row.guest, ran.stderr);
            assert!(ran.stderr.starts_with(&format!("error: plugin `{path}`: ")), "{}: {}", row.guest, ran.stderr);
            for part in &row.message_contains {
                let stands = ran.stderr.contains(part) || part == "65536" && ran.stderr.contains("262144");
                assert!(stands, "{}: no `{part}` in: {}", row.guest, ran.stderr);
            }
            assert_harmless(&ran.stderr, &row.guest);
        }
        schemas += usize::from(row.guest.starts_with("schema-"));
    }
    assert!(schemas >= 10, "{schemas} schemas");
}

/// A config that `create` refuses: with its path, before anything is played.
#[test]
fn what_create_refuses_is_a_usage_error() {
    // `wanting` is refused before its `create` is asked, for what it is not granted.
    for row in rows("create", "usage").iter().filter(|row| !matches!(row.guest.as_str(), "escape" | "wanting")) {
        let config: Vec<String> = row.config.iter().map(|(key, value)| format!("--config={key}={value}")).collect();
        let path = guest(&row.guest);
        let mut arguments = vec!["run", path.as_str(), "--seed=1", "--envs=3"];
        arguments.extend(config.iter().map(String::as_str));
        let ran = run(&arguments);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: config"), "{arguments:?}: {}", ran.stderr);
        for part in &row.message_contains {
            assert!(ran.stderr.contains(part), "{arguments:?}: no `{part}` in: {}", ran.stderr);
        }
        assert!(ran.stderr.lines().count() <= 7, "{arguments:?}: {}", ran.stderr);
    }
    let error = shipped("frozenlake").config(&json!({"desc": ["SF", "FX"]})).unwrap().build().err().unwrap();
    let Error::Usage(UsageError { message, .. }) = error else { panic!("{error}") };
    assert_eq!(message, "config `desc.1`: expected the letters S, F, H and G, got 'X'");
}

// ── Where it comes from ─────────────────────────────────────────────────────────────────────────────────────────────

/// One config in three languages, as assignments, and in part in each: the same object, the same rollout.
#[test]
fn a_config_is_the_same_however_it_is_given() {
    let scratch = Scratch::new("config-files");
    scratch.file(
        "a.toml",
        "is_slippery = false\nsuccess_rate = 0.5\nreward_schedule = [2, -1, 0]\ndesc = ['SFF', 'FHG']\n",
    );
    let object =
        r#"{"desc": ["SFF", "FHG"], "reward_schedule": [2.0, -1e0, 0], "success_rate": 5e-1, "is_slippery": false}"#;
    scratch.file("a.json", object);
    scratch
        .file("a.yaml", "desc:\n- SFF\n- FHG\nis_slippery: false\nsuccess_rate: 0.5\nreward_schedule: [2, -1, 0.0]\n");
    scratch.file("A.YML", "{desc: [SFF, FHG], is_slippery: false, success_rate: 0.50, reward_schedule: [2, -1, 0]}\n");
    scratch.file("part.toml", "is_slippery = true\nsuccess_rate = 0.5\ndesc = ['S']\n");
    let typed = ["is_slippery=false", "success_rate=0.5", "reward_schedule=[2,-1,0]", "desc=['SFF', 'FHG']"];
    let typed: Vec<String> = typed.iter().map(|assignment| format!("--config={assignment}")).collect();
    let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
    let over = ["--config-file=part.toml", "--config=is_slippery=false", typed[2], typed[3]];
    let ways: [&[&str]; 6] = [
        &["--config-file=a.toml"],
        &["--config-file=a.json"],
        &["--config-file=a.yaml"],
        &["--config-file=A.YML"],
        &typed,
        &over,
    ];
    let play = |way: &[&str]| {
        let arguments = [&["run", "frozenlake", "--seed=3", "--steps=50", "--json"], way].concat();
        let ran = within(30, command(&arguments).current_dir(scratch.folder()));
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{way:?}");
        let value: Value = serde_json::from_str(&ran.stdout).unwrap();
        (value["config"].clone(), value["digest"].clone())
    };
    let (config, digest) = play(ways[0]);
    let expected = json!({
        "desc": ["SFF", "FHG"], "is_slippery": false, "map_name": "4x4", "reward_schedule": [2, -1, 0],
        "success_rate": 0.5,
    });
    assert_eq!(config.to_string(), expected.to_string());
    for way in &ways[1..] {
        assert_eq!(play(way), (config.clone(), digest.clone()), "{way:?}");
    }
}

/// What was typed comes after the file, wherever it stands; of two for one key the later counts.
#[test]
fn the_later_of_two_counts() {
    let scratch = Scratch::new("config-order");
    let file = scratch.file("a.toml", "natural = true\nsab = true\n");
    let file = format!("--config-file={}", file.display());
    let config =
        |more: &[&str]| json(&[&["run", "blackjack", "--seed=1", "--steps=1"], more].concat())["config"].clone();
    assert_eq!(config(&[&file]), json!({"natural": true, "sab": true}));
    assert_eq!(config(&[&file, "--config=sab=false"]), json!({"natural": true, "sab": false}));
    assert_eq!(config(&["--config=sab=false", &file]), json!({"natural": true, "sab": false}));
    assert_eq!(config(&["--config=sab=false", "--config=sab=true"]), json!({"natural": false, "sab": true}));
    assert_eq!(config(&[]), json!({"natural": false, "sab": true}));
}

/// Defaults are filled in, keys have the schema's order, and what does not parse as TOML is a string.
#[test]
fn the_object_has_the_whole_config() {
    let config =
        |more: &[&str]| json(&[&["run", "frozenlake", "--seed=1", "--steps=0"], more].concat())["config"].to_string();
    let defaults = r#"{"desc":null,"is_slippery":true,"map_name":"4x4","reward_schedule":[1,0,0],"success_rate":0.3333333333333333}"#;
    assert_eq!(config(&[]), defaults);
    assert_eq!(config(&["--config=map_name=4x4"]), defaults);
    assert_eq!(config(&["--config=map_name=\"4x4\"", "--config=reward_schedule=[1.0, 0.0, 0.0]"]), defaults);
    let other = config(&["--config=success_rate=1.0", "--config=map_name=8x8", "--config=desc=null"]);
    assert_eq!(other, defaults.replace("4x4", "8x8").replace("0.3333333333333333", "1"));
}

// ── From a program ──────────────────────────────────────────────────────────────────────────────────────────────────

#[derive(Serialize)]
struct Lake {
    is_slippery: bool,
    map_name: Option<&'static str>,
    reward_schedule: [f32; 3],
}

#[test]
fn a_config_may_be_a_struct() {
    let lake = Lake { is_slippery: false, map_name: Some("8x8"), reward_schedule: [1.0, 0.5, 0.0] };
    let value = json!({"reward_schedule": [1, 0.5, 0], "map_name": "8x8", "is_slippery": false});
    let map = BTreeMap::from([
        ("is_slippery", json!(false)),
        ("map_name", json!("8x8")),
        ("reward_schedule", json!([1.0, 0.5, 0.0])),
    ]);
    let play = |builder: rollcage::Builder| {
        let mut envs = builder.envs(2).seed(3).build().unwrap();
        envs.reset(None).unwrap();
        for _ in 0..20 {
            envs.step(&[[2, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]].concat()).unwrap();
        }
        assert_eq!(envs.config_of(0).unwrap().canonical, envs.config_of(1).unwrap().canonical);
        (envs.config_of(0).unwrap().canonical.clone(), envs.digests())
    };
    let expected = play(shipped("frozenlake").config(&lake).unwrap());
    let canonical = r#"{"desc":null,"is_slippery":false,"map_name":"8x8","reward_schedule":[1,0.5,0],"success_rate":0.3333333333333333}"#;
    assert_eq!(expected.0, canonical);
    assert_eq!(play(shipped("frozenlake").config(&value).unwrap()), expected);
    assert_eq!(play(shipped("frozenlake").config(&map).unwrap()), expected);
    assert_eq!(play(shipped("frozenlake").config_with(move |_| value.clone())), expected);
}

#[test]
fn a_config_must_be_an_object() {
    let refusal = |refused: Result<rollcage::Builder, UsageError>| refused.err().unwrap().message;
    let given = |value: Value| refusal(shipped("cartpole").config(&value));
    assert_eq!(given(json!(7)), "config: expected an object, got 7");
    assert_eq!(given(json!([{"a": 1}])), "config: expected an object, got [{\"a\":1}]");
    assert_eq!(given(json!("a\u{1b}[2J")), "config: expected an object, got \"a\\u001b[2J\"");
    assert_eq!(given(json!(null)), "config: expected an object, got null");
    assert!(refusal(shipped("cartpole").config(&f64::NAN)).starts_with("config"));
    assert!(
        refusal(shipped("frozenlake").config(&BTreeMap::from([("success_rate", f64::INFINITY)])))
            .contains("success_rate")
    );
    assert!(refusal(shipped("cartpole").config(&BTreeMap::from([([1, 2], 3)]))).starts_with("config"));
    // Of a function it shows when the envs are built.
    let error = shipped("cartpole").config_with(|env| env).build().err().unwrap();
    assert_eq!(error.to_string(), "config: expected an object, got 0");
}

/// Env i has the i-th, and plays as it would alone.
#[test]
fn each_env_may_have_its_own() {
    let maps = ["4x4", "4x4", "8x8"];
    let config = move |env: usize| json!({"is_slippery": env == 0, "desc": ["SFFF", "FHFH", "FFFH", "HFFG"], "map_name": maps[env]});
    let play = |builder: rollcage::Builder, envs: usize, seed: u64| {
        let mut envs = builder.envs(envs).seed(seed).build().unwrap();
        envs.reset(None).unwrap();
        let action = 1i64.to_le_bytes();
        for _ in 0..30 {
            envs.step(&action.repeat(envs.len())).unwrap();
        }
        envs.digests()
    };
    let together = play(shipped("frozenlake").config_with(config), 3, 11);
    for (env, digest) in together.iter().enumerate() {
        let alone = play(shipped("frozenlake").config(&config(env)).unwrap(), 1, 11 + env as u64);
        assert_eq!(alone, [*digest], "env {env}");
    }
}

/// What the envs of one run cannot differ in is named, with both envs and the first place where they do.
#[test]
fn spaces_that_differ_are_refused() {
    let config = |env: usize| json!({"n": if env == 2 { 3 } else { 2 }});
    let error = builder(fixture("differing-spaces")).envs(4).config_with(config).build().err().unwrap();
    let Error::Usage(error) = error else { panic!("{error}") };
    for part in ["envs 0 and 2", "observation"] {
        assert!(error.message.contains(part), "no `{part}` in: {}", error.message);
    }
    // One config alone is fine, whichever.
    for n in [1, 64] {
        builder(fixture("differing-spaces")).envs(2).config(&json!({"n": n})).unwrap().build().unwrap();
    }
}
