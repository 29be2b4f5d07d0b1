//! Recordings: written, run again, compared, damaged, cut off. What is recorded here is replayed by the real program, with
//! everything that its run had taken away.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{RecordBatch, UInt64Array};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rollcage::record::writer::Record;
use rollcage::replay::damage::Damage;
use rollcage::replay::folder::Rollout;
use rollcage::replay::how::Replaying;
use rollcage::replay::rerun::replay;
use rollcage::{Backend, Grant, Plugin, RenderMode, ResetSome, VecEnv};
use rollcage_tests::{
    Process, Ran, Rollcage, Scratch, alone, builder, cache, discrete, eventually, fixture, fixture_path, program, root,
    within,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::digest::SHIPPED;
use crate::services::gnugo;

const MODES: [&str; 3] = ["next-step", "same-step", "disabled"];

/// Records a run; its report, and the folder.
fn record(scratch: &Scratch, name: &str, arguments: &[&str]) -> (Value, PathBuf) {
    let folder = scratch.folder().join(name);
    let text = folder.display().to_string();
    let (status, report) = Rollcage::json([&["run"], arguments, &["--record", &text]].concat());
    assert!(matches!(status, Some(0 | 1)), "{report}");
    assert_eq!(report["recording"], text.as_str());
    (report, folder)
}

fn replayed(folder: &Path, further: &[&str]) -> (Option<i32>, Value) {
    let text = folder.display().to_string();
    Rollcage::json([&["replay", &text], further].concat())
}

/// A replay that finds nothing; what it says.
#[track_caller]
fn identical(folder: &Path, report: &Value, further: &[&str]) -> Value {
    let (status, result) = replayed(folder, further);
    assert_eq!((status, &result["result"]), (Some(0), &json!("identical")), "{further:?}: {result}");
    assert_eq!((&result["digest"], &result["digests"]), (&report["digest"], &report["digests"]), "{further:?}");
    result
}

/// Writes the checksums anew, as anybody can.
fn seal(folder: &Path) {
    let sums = folder.join("CHECKSUMS");
    let text = fs::read_to_string(&sums).unwrap();
    let names = text.lines().map(|line| line.split_once("  ").unwrap().1);
    let lines = names.map(|name| format!("{}  {name}\n", blake3::hash(&fs::read(folder.join(name)).unwrap())));
    fs::write(sums, lines.collect::<String>()).unwrap();
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("rollout.json")).unwrap()).unwrap()
}

/// Five seeds, a thousand steps each. A replay takes its steps in batches, so it is those that are compared here too.
#[test]
fn every_shipped_env_is_recorded_and_replayed() {
    let scratch = Scratch::new("rollouts-shipped");
    for plugin in SHIPPED {
        let mut digests = Vec::new();
        for mode in MODES {
            let arguments = [plugin, "--envs", "5", "--steps", "5000", "--seed", "7", "--autoreset", mode];
            let (report, folder) = record(&scratch, &format!("{plugin}-{mode}"), &arguments);
            assert_eq!(identical(&folder, &report, &[])["steps"], 5000, "{plugin} {mode}");
            if mode == "next-step" {
                identical(&folder, &report, &["--backend", "pulley"]);
            }
            digests.push(report["digests"].clone());
            fs::remove_dir_all(folder).unwrap();
        }
        assert!(digests.iter().all(|one| *one == digests[0]), "{plugin}: {digests:?}");
    }
}

#[test]
fn what_could_differ_between_machines_does_not() {
    let scratch = Scratch::new("rollouts-numbers");
    let numbers = fixture_path("numbers").display().to_string();
    let arguments = [numbers.as_str(), "--envs", "3", "--steps", "600", "--seed", "7"];
    let (report, folder) = record(&scratch, "plain", &arguments);
    identical(&folder, &report, &["--backend", "pulley"]);
    for further in [&["--backend", "pulley"][..], &["--fuel", "1000000000"], &["--autoreset", "same-step"]] {
        let (_, other) = Rollcage::json([&["run"], &arguments[..], further].concat());
        assert_eq!(other["digests"], report["digests"], "{further:?}");
    }
    let plain = manifest(&folder);
    assert_eq!((&plain["portable"], &plain["captured"]), (&json!(true), &json!([])));

    // With real clocks and real randomness no two runs are alike; and yet each is replayed.
    let real = [&arguments[..], &["--grant", "clock=real", "--grant", "random=real"]].concat();
    let (one, folder) = record(&scratch, "one", &real);
    let (two, other) = record(&scratch, "two", &real);
    assert_ne!(one["digest"], two["digest"]);
    assert_eq!(manifest(&folder)["captured"], json!(["clock=real", "random=real"]));
    for backend in ["native", "pulley"] {
        identical(&folder, &one, &["--backend", backend]);
        identical(&other, &two, &["--backend", backend]);
    }
    // What came in belongs to one run.
    fs::copy(other.join("capture/1.bin"), folder.join("capture/1.bin")).unwrap();
    assert_eq!(replayed_plain(&folder).status, Some(1));
    seal(&folder);
    let (status, result) = replayed(&folder, &[]);
    assert_eq!((status, &result["difference"]["env"]), (Some(1), &json!(1)), "{result}");
}

#[test]
fn recordings_say_who_they_are() {
    let scratch = Scratch::new("rollouts-manifest");
    let (report, folder) = record(&scratch, "run", &["cartpole", "--envs", "2", "--episodes", "6", "--seed", "9"]);
    let manifest = manifest(&folder);
    assert_eq!((&manifest["format"], &manifest["complete"], &manifest["envs"]), (&json!(1), &json!(true), &json!(2)));
    assert_eq!((&manifest["seed"], &manifest["digest"]), (&json!(9), &report["digest"]));
    assert_eq!(manifest["plugin"]["sha256"], report["sha256"]);
    for key in ["steps", "episodes", "faults_total", "return", "length"] {
        assert_eq!(manifest["totals"][key], report[key], "{key}");
    }
    assert_eq!(manifest["config"], report["config"]);

    let ran = Rollcage::run(["verify".as_ref(), folder.as_os_str()]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let receipt = ran.stdout.trim_end().rsplit(' ').next().unwrap().to_owned();
    let steps = &report["steps"];
    assert!(
        ran.stdout.starts_with("cartpole 0.1.0, config {\"sutton_barto_reward\":false}, seed 9, "),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains(&format!(", {steps} steps, mean return ")), "{}", ran.stdout);
    let file = scratch.file("receipt.txt", &receipt);
    let verify = |against: &str| {
        let folder = folder.display().to_string();
        Rollcage::run(["verify", &folder, "--against", against])
    };
    assert_eq!(verify(&receipt).status, Some(0));
    assert_eq!(verify(&file.display().to_string()).status, Some(0));
    let other = receipt.replace(['0', '1'], "2");
    assert_eq!(verify(&other).status, Some(1));
    assert_eq!(verify("nonsense").status, Some(2));

    // The same run again, on another day: the same receipt.
    let (_, again) = record(&scratch, "again", &["cartpole", "--envs", "2", "--episodes", "6", "--seed", "9"]);
    let ran = Rollcage::run(["verify".as_ref(), again.as_os_str(), "--against".as_ref(), receipt.as_ref()]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
}

#[test]
fn a_recording_goes_into_an_empty_folder_alone() {
    let scratch = Scratch::new("rollouts-empty");
    let file = scratch.file("mine.txt", "mine");
    let folder = scratch.folder().display().to_string();
    let ran = Rollcage::run(["run", "cartpole", "--steps", "10", "--record", &folder]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("the folder is not empty"), "{ran:?}");
    assert_eq!(fs::read_dir(scratch.folder()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    // A run that cannot start leaves nothing.
    let new = scratch.folder().join("new");
    let text = new.display().to_string();
    let ran = Rollcage::run(["run", "frozenlake", "--config", "map_name=9x9", "--record", &text]);
    assert_eq!((ran.status, new.exists()), (Some(2), false), "{ran:?}");
    // A run of no steps has a part with its columns.
    let (_, none) = record(&scratch, "none", &["cartpole", "--steps", "0", "--seed", "1"]);
    assert!(none.join("trajectory-00000.parquet").exists());
    assert_eq!(replayed(&none, &[]).1["steps"], 0);
}

#[test]
fn a_plugin_is_found_by_its_hash() {
    let scratch = Scratch::new("rollouts-plugin");
    let plugin = fixture_path("spaces");
    let text = plugin.display().to_string();
    let own_cache = scratch.folder().join("cache");
    let run = |cache: &Path, arguments: &[&str]| -> Ran {
        Rollcage::command().env("ROLLCAGE_CACHE", cache).args(arguments).output().unwrap().into()
    };
    let folder = scratch.folder().join("plain").display().to_string();
    let arguments = ["run", &text, "--steps", "60", "--seed", "1", "--record", &folder];
    assert_eq!(run(&own_cache, &arguments).status, Some(0));
    // Where it was recorded, the cache has it.
    assert_eq!(run(&own_cache, &["replay", &folder]).status, Some(0));
    let empty = scratch.folder().join("empty");
    let missing = run(&empty, &["replay", &folder]);
    let sha256 = fixture("spaces").sha256_hex();
    assert_eq!(missing.status, Some(2));
    assert!(missing.stderr.contains(&sha256), "{missing:?}");
    assert_eq!(run(&empty, &["replay", &folder, "--plugin", &text]).status, Some(0));
    // Put into the recording it is needed nowhere else.
    let embedded = scratch.folder().join("embedded").display().to_string();
    let arguments = ["run", &text, "--steps", "60", "--seed", "1", "--record", &embedded, "--embed-plugin"];
    assert_eq!(run(&own_cache, &arguments).status, Some(0));
    assert_eq!(run(&scratch.folder().join("third"), &["replay", &embedded]).status, Some(0));

    // A file that was named is used or refused, wherever else the plugin is.
    let another = fixture_path("trap").display().to_string();
    let shipped = scratch.folder().join("shipped").display().to_string();
    let arguments = ["run", "cartpole", "--steps", "60", "--seed", "1", "--record", &shipped];
    assert_eq!(run(&own_cache, &arguments).status, Some(0));
    for command in ["replay", "verify"] {
        for recording in [&folder, &embedded, &shipped] {
            let ran = run(&own_cache, &[command, recording, "--plugin", &another]);
            assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{command} {recording}: {ran:?}");
            assert!(ran.stderr.contains("; the recording is of `"), "{ran:?}");
            let ran = run(&own_cache, &[command, recording, "--plugin", "/nowhere.wasm"]);
            assert_eq!(ran.status, Some(2), "{ran:?}");
        }
        assert_eq!(run(&empty, &[command, &embedded, "--plugin", &text]).status, Some(0));
    }
}

// ── Whose folder it is ──────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn two_runs_that_record_into_one_folder_leave_one_recording() {
    let scratch = Scratch::new("rollouts-two");
    for round in 0..6 {
        let folder = scratch.folder().join(round.to_string());
        if round % 2 == 1 {
            fs::create_dir(&folder).unwrap();
        }
        let runs: Vec<_> = (0..3)
            .map(|_| {
                let mut run = Rollcage::command();
                run.args(["run", "cartpole", "--envs", "4", "--steps", "400", "--seed", "3", "--json", "--record"]);
                run.arg(&folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let ran: Vec<Ran> = runs.into_iter().map(|run| run.wait_with_output().unwrap().into()).collect();
        let (kept, refused): (Vec<&Ran>, Vec<&Ran>) = ran.iter().partition(|ran| ran.status == Some(0));
        assert_eq!((kept.len(), refused.len()), (1, 2), "{ran:?}");
        for ran in refused {
            assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
            assert!(ran.stderr.contains("the folder is not empty"), "{ran:?}");
        }
        let report: Value = serde_json::from_str(&kept[0].stdout).unwrap();
        identical(&folder, &report, &[]);
    }
}

#[test]
fn a_start_that_fails_gives_the_folder_back() {
    let scratch = Scratch::new("rollouts-back");
    let guest = fixture_path("create-fail").display().to_string();
    for there in [false, true] {
        let folder = scratch.folder().join(format!("out-{there}"));
        let text = folder.display().to_string();
        if there {
            fs::create_dir(&folder).unwrap();
        }
        let refused = |arguments: &[&str]| {
            let ran = Rollcage::run([arguments, &["--seed", "1", "--record", &text]].concat());
            assert_ne!(ran.status, Some(0), "{ran:?}");
            assert_eq!(folder.exists(), there, "{arguments:?}");
            if there {
                assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{arguments:?}");
            }
        };
        // `create` fails, when what comes in from outside is written already; there is no picture to draw; the config is wrong.
        refused(&["run", &guest, "--grant", "clock=real", "--embed-plugin", "--envs", "3", "--on-fault", "raise"]);
        refused(&["run", "mirror", "--render", "/tmp/nothing.png", "--steps", "3"]);
        refused(&["run", "cartpole", "--config", "gravitas=1"]);
        // Then the folder is anybody's.
        let (status, report) = Rollcage::json(["run", "cartpole", "--steps", "30", "--seed", "1", "--record", &text]);
        assert_eq!(status, Some(0), "{report}");
        identical(&folder, &report, &[]);
    }
    // One that was killed before all envs had started says what it is.
    let folder = scratch.folder().join("begun");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("rollout.json"), "").unwrap();
    let ran = replayed_plain(&folder);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("the run has not started all its envs"), "{ran:?}");
}

#[test]
fn a_broken_off_export_does_not_block_the_next() {
    let scratch = Scratch::new("rollouts-broken");
    let (_, folder) = record(&scratch, "run", &["cartpole", "--steps", "3000", "--seed", "1"]);
    let out = scratch.folder().join("out");
    fs::create_dir(&out).unwrap();
    for (format, place) in [("jsonl", out.join("rows.jsonl")), ("minari", out.join("rollcage/cartpole-v0/data"))] {
        let output = if format == "jsonl" { &place } else { &out };
        let mut export = Command::new("sh");
        // A file may have 1 KiB: whoever writes more is killed.
        export.args(["-c", "ulimit -c 0; ulimit -f 2; exec \"$0\" \"$@\""]).arg(program());
        export.args(["export", "--format", format, "--output"]).args([output, &folder]);
        let ran = within(60, &mut export);
        assert_ne!(ran.status, Some(0), "{format}: {ran:?}");
        assert!(!place.exists(), "{format}: a half of it is there");
        let again = [&folder, output].map(|path| path.display().to_string());
        let export = || Rollcage::run(["export", &again[0], "--format", format, "--output", &again[1]]);
        let ran = export();
        assert_eq!(ran.status, Some(0), "{format}: {ran:?}");
        assert!(place.exists());
        // What is there is nobody's to write over.
        let ran = export();
        assert_eq!(ran.status, Some(2), "{format}: {ran:?}");
        assert!(ran.stderr.contains("is there already"), "{format}: {ran:?}");
    }
}

/// A program whose working directory changes after it has said where things are.
#[test]
fn a_relative_path_means_the_same_after_a_chdir() {
    alone("rollouts::a_relative_path_means_the_same_after_a_chdir", || {
        let scratch = Scratch::new("rollouts-chdir");
        for folder in ["here/data", "there"] {
            fs::create_dir_all(scratch.folder().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(program(), scratch.folder().join("here/program")).unwrap();
        fs::copy(fixture_path("trap"), scratch.folder().join("here/plugin.wasm")).unwrap();
        std::env::set_current_dir(scratch.folder().join("here")).unwrap();
        let plugin = Plugin::from_file("plugin.wasm".as_ref()).unwrap();
        let cache = rollcage::Cache::open("cache".as_ref()).unwrap();
        let builder = VecEnv::builder(plugin.clone())
            .config(&json!({"at": 3}))
            .unwrap()
            .seed(5)
            .worker("program")
            .cache(cache.clone())
            .grant("dir=data:/data".parse().unwrap())
            .record(Record { folder: "out".into(), embed_plugin: false });
        std::env::set_current_dir(scratch.folder().join("there")).unwrap();
        let mut envs = builder.build().unwrap();
        envs.reset(None).unwrap();
        // It traps and is started anew, from the program that was named.
        (0..20).for_each(|_| step_zeros(&mut envs));
        assert!(envs.faults().total() > 0);
        let digest = envs.digest();
        envs.finish_recording().unwrap().unwrap();
        drop(envs);
        assert_eq!(fs::read_dir(scratch.folder().join("there")).unwrap().count(), 0);

        std::env::set_current_dir(scratch.folder().join("here")).unwrap();
        let rollout = Rollout::open("out".as_ref()).unwrap();
        std::env::set_current_dir(scratch.folder().join("there")).unwrap();
        let grants = [format!("dir={}:/data", scratch.folder().join("here/data").display()).parse::<Grant>().unwrap()];
        let how = Replaying {
            worker: Some(program()),
            cache: Some(cache),
            grants: grants.into_iter().collect(),
            ..Replaying::default()
        };
        let result = replay(&rollout, &plugin, &how, |_| ()).unwrap();
        assert_eq!((result.difference, result.digest), (None, digest));
        std::env::set_current_dir("/").unwrap();
    });
}

// ── Numbers that JSON does not have ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_return_that_json_does_not_have_is_written_as_a_word() {
    let scratch = Scratch::new("rollouts-words");
    let guest = fixture_path("shape").display().to_string();
    for (what, word) in [("reward-nan", "NaN"), ("reward-infinite", "-Infinity")] {
        let what = format!("what={what}");
        let arguments =
            [guest.as_str(), "--config", &what, "--steps", "40", "--seed", "1", "--max-episode-steps", "10"];
        let (report, folder) = record(&scratch, word, &arguments);
        assert_eq!(report["return"]["mean"], word, "{report}");
        let totals = &manifest(&folder)["totals"];
        assert_eq!(totals["return"], report["return"], "{totals}");
        identical(&folder, &report, &[]);
        let ran = Rollcage::run(["verify".as_ref(), folder.as_os_str()]);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert!(ran.stdout.contains(&format!(", mean return {word}, receipt ")), "{ran:?}");
        assert!(jsonl(&folder).iter().any(|line| line["reward"] == word));
        let ran = Rollcage::run([&["run"], &arguments[..]].concat());
        assert!(ran.stdout.contains(&format!("{word} on average")), "{ran:?}");
    }
}

// ── Faults, calls ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn faults_come_again_or_are_believed() {
    let scratch = Scratch::new("rollouts-faults");
    let path = |name: &str| fixture_path(name).display().to_string();
    // Guest, what is further said, which fault, whether it is portable, whether a replay meets it.
    for (number, (guest, further, kind, portable, met)) in [
        ("trap", &["--config", "episode=2"][..], "trap", true, true),
        ("trap", &["--config", "in_call=reset", "--config", "episode=1"], "trap", true, true),
        ("restart", &[], "guest_restart", true, true),
        ("fail", &[], "guest_failed", true, true),
        ("exit", &[], "exited", false, true),
        ("memory", &["--memory", "16MiB"], "memory", true, true),
        ("loop", &["--fuel", "10000000"], "fuel", true, true),
        ("loop", &["--step-timeout", "300ms"], "step_timeout", false, false),
        ("stack", &[], "stack_overflow", false, true),
    ]
    .into_iter()
    .enumerate()
    {
        for mode in MODES {
            let guest_path = path(guest);
            let limits = ["--seed", "3", "--envs", "2", "--steps", "40", "--on-fault", "restart", "--autoreset", mode];
            let arguments = [&[guest_path.as_str()], &limits[..], further].concat();
            let (report, folder) = record(&scratch, &format!("{number}-{mode}"), &arguments);
            let faults = report["faults"].as_array().unwrap();
            if faults.is_empty() {
                panic!("{guest} {further:?} met no fault: {report}");
            }
            assert!(faults.iter().all(|fault| fault["kind"] == kind), "{guest}: {report}");
            let result = identical(&folder, &report, &[]);
            assert_eq!(result["believed_faults"].as_u64() == Some(0), met, "{guest} {further:?}: {result}");
            let manifest = manifest(&folder);
            assert_eq!(manifest["portable"], portable, "{guest} {further:?}: {}", manifest["not_portable"]);
            assert_eq!(manifest["totals"]["faults_total"].as_u64(), report["faults_total"].as_u64());
        }
    }
}

#[test]
fn a_planned_restart_is_replayed() {
    let scratch = Scratch::new("rollouts-recycled");
    for mode in MODES {
        let arguments =
            ["cartpole", "--envs", "2", "--episodes", "12", "--seed", "5", "--recycle-after", "2", "--autoreset", mode];
        let (report, folder) = record(&scratch, mode, &arguments);
        identical(&folder, &report, &[]);
        assert!(manifest(&folder)["instances"].as_array().unwrap().len() >= 6);
    }
}

#[test]
fn calls_and_resets_by_hand_are_replayed() {
    let scratch = Scratch::new("rollouts-calls");
    let folder = scratch.folder().join("calls");
    let made = builder(fixture("attributes")).seed(4).envs(2);
    let mut envs = made.record(Record { folder: folder.clone(), embed_plugin: true }).build().unwrap();
    envs.call(1, "add", &json!({"a": 1, "b": 2})).unwrap();
    envs.reset(None).unwrap();
    envs.call(0, "add", &json!({"a": 1, "b": 2.5})).unwrap();
    envs.set_attribute(0, "level", &json!(12)).unwrap();
    envs.step(&discrete(&[1, 1])).unwrap();
    envs.reseed(1, u64::MAX).unwrap();
    envs.step(&discrete(&[0, 1])).unwrap();
    // Neither a question nor what was refused is an event.
    envs.get_attribute(0, "level").unwrap();
    envs.set_attribute(0, "level", &json!(-1)).unwrap_err();
    // In the middle of an episode, of one env, from a seed.
    let (mask, seeds) = ([true, false], [Some(1 << 60), None]);
    envs.reset_some(&ResetSome { mask: Some(&mask), seeds: Some(&seeds), options: None }).unwrap();
    envs.reset_some(&ResetSome { mask: Some(&mask), ..ResetSome::default() }).unwrap();
    envs.step(&discrete(&[1, 0])).unwrap();
    envs.call(1, "echo", &json!({"text": "é", "list": [1, null]})).unwrap();
    let digests = envs.digests();
    let receipt = envs.finish_recording().unwrap().unwrap();
    // What is done afterwards is not in it.
    envs.step(&discrete(&[1, 0])).unwrap();
    drop(envs);

    let rollout = Rollout::open(&folder).unwrap();
    assert_eq!(rollout.manifest().receipt().unwrap(), receipt);
    for backend in [Backend::Native, Backend::Pulley] {
        let how =
            Replaying { backend: Some(backend), worker: Some(program()), cache: Some(cache()), ..Replaying::default() };
        let result = replay(&rollout, &fixture("attributes"), &how, |_| ()).unwrap();
        assert_eq!((result.difference, result.digests), (None, digests.clone()), "{backend:?}");
    }
    let lines = jsonl(&folder);
    // An episode that its caller gave up is truncated there, if it had a step; one that the recording's end cuts is not.
    let cut = |env: u64| {
        let own = lines.iter().filter(move |line| line["env"] == env && !line["action"].is_null());
        own.map(|line| (line["episode"].as_u64().unwrap(), line["truncated"] == true)).collect::<Vec<_>>()
    };
    assert_eq!(cut(0), [(0, false), (0, true), (2, false)]);
    assert_eq!(cut(1), [(0, false), (0, false), (0, false)]);
    assert_eq!(manifest(&folder)["totals"]["episodes"], 1);
    let calls: Vec<&Value> = lines.iter().flat_map(|line| line["calls"].as_array().into_iter().flatten()).collect();
    let what: Vec<&str> = calls.iter().map(|call| call["what"].as_str().unwrap()).collect();
    assert_eq!(what.len(), 5, "{calls:?}");
    assert!(calls.iter().any(|call| call["before_reset"] == true && call["result"] == json!(3.0)), "{calls:?}");
    assert!(calls.iter().any(|call| call["arguments"] == json!(u64::MAX)), "{calls:?}");
}

fn jsonl(folder: &Path) -> Vec<Value> {
    let ran = Rollcage::run(["export".as_ref(), folder.as_os_str(), "--format".as_ref(), "jsonl".as_ref()]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn rows_are_those_of_the_contract() {
    let scratch = Scratch::new("rollouts-rows");
    let spaces = fixture_path("spaces").display().to_string();
    let (_, folder) =
        record(&scratch, "rows", &[&spaces, "--config", "masked=true", "--envs", "2", "--steps", "160", "--seed", "2"]);
    let lines = jsonl(&folder);
    for env in 0..2 {
        let own: Vec<&Value> = lines.iter().filter(|line| line["env"] == env).collect();
        assert_eq!(own.iter().filter(|line| !line["action"].is_null()).count(), 80);
        let mut next = (0, 0);
        for line in &own {
            let (episode, step) = (line["episode"].as_u64().unwrap(), line["step"].as_u64().unwrap());
            assert_eq!((episode, step), next, "{line}");
            let last = line["action"].is_null();
            assert_eq!([&line["reward"], &line["terminated"], &line["digest"]].map(Value::is_null), [last; 3]);
            assert_eq!(line["seed"].is_null(), (episode, step) != (0, 0));
            assert!(line["info"]["always"].is_number() && line["info"].get("never").is_none());
            assert!(!line["action_mask"].as_array().unwrap().is_empty());
            next = if last { (episode + 1, 0) } else { (episode, step + 1) };
        }
        // Fifty steps are an episode there; the second one was cut off, and has its last view.
        assert_eq!(next, (2, 0));
    }
}

#[test]
fn a_replay_says_where_it_parts() {
    let scratch = Scratch::new("rollouts-different");
    let (_, folder) = record(&scratch, "run", &["frozenlake", "--envs", "3", "--steps", "900", "--seed", "5"]);
    // An honest recording of another seed, whose manifest is changed and whose checksums are written anew.
    let path = folder.join("rollout.json");
    let text = fs::read_to_string(&path).unwrap();
    let changed = text.replacen("\"is_slippery\": true", "\"is_slippery\": false", 1);
    assert_ne!(changed, text);
    fs::write(&path, &changed).unwrap();
    assert_eq!(replayed_plain(&folder).status, Some(1));
    seal(&folder);
    let (status, result) = replayed(&folder, &[]);
    assert_eq!((status, &result["result"]), (Some(1), &json!("different")), "{result}");
    let difference = &result["difference"];
    assert_ne!(difference["recorded"], difference["got"], "{difference}");
    let line = replayed_plain(&folder).stdout;
    let place = format!(
        "different: env {}, episode {}, step {}: {}: recorded ",
        difference["env"],
        difference["episode"],
        difference["step"],
        difference["field"].as_str().unwrap()
    );
    assert!(line.starts_with(&place), "{line}");
}

fn replayed_plain(folder: &Path) -> Ran {
    Rollcage::run(["replay".as_ref(), folder.as_os_str()])
}

#[test]
fn an_episode_of_a_recording_is_drawn() {
    let scratch = Scratch::new("rollouts-drawn");
    let (_, folder) = record(&scratch, "run", &["cartpole", "--episodes", "3", "--seed", "5"]);
    let length = |episode: u64| jsonl(&folder).iter().filter(|line| line["episode"] == episode).count();
    for episode in [0, 2] {
        let gif = scratch.folder().join(format!("{episode}.gif"));
        let text = gif.display().to_string();
        let (status, result) = replayed(&folder, &["--render", &text, "--from", &episode.to_string()]);
        assert_eq!((status, &result["picture"]["frames"]), (Some(0), &json!(length(episode))), "{result}");
        assert!(fs::read(gif).unwrap().starts_with(b"GIF8"));
    }
}

/// A picture is no event, whatever the guest reads for it.
#[test]
fn pictures_change_no_recording() {
    let scratch = Scratch::new("rollouts-pictures");
    let folder = scratch.folder().join("drawn");
    let grants = ["clock=real", "random=real"].map(|grant| grant.parse::<Grant>().unwrap());
    let made = builder(Plugin::shipped("mirror").unwrap()).seed(4).grants(grants.into_iter().collect());
    let mut envs = made.record(Record { folder: folder.clone(), embed_plugin: false }).build().unwrap();
    envs.reset(None).unwrap();
    for _ in 0..20 {
        let _ = envs.render(0, RenderMode::Ansi);
        step_zeros(&mut envs);
    }
    drop(envs);
    assert_eq!(replayed(&folder, &[]).0, Some(0));
}

fn step_zeros(envs: &mut VecEnv) {
    let layout = envs.spec().action_space.layout();
    let mut action = vec![0; layout.stride];
    layout.zero(None, &mut action);
    envs.step(&action).unwrap();
}

// ── The outside, captured ───────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn conversations_over_sockets_are_replayed_without_anybody_there() {
    let scratch = Scratch::new("rollouts-sockets");
    let folder = scratch.folder().join("talk");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        // Answers, and changes what it says: nobody else could.
        for number in 0..2u8 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut heard) {
                heard[..count].iter_mut().for_each(|byte| *byte = byte.wrapping_add(number));
                stream.write_all(&heard[..count]).unwrap();
            }
        }
    });
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_at = udp.local_addr().unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();

    let grants = [format!("tcp-connect={at}"), format!("udp={udp_at}")].map(|grant| grant.parse::<Grant>().unwrap());
    let made = builder(fixture("talker")).grants(grants.into_iter().collect());
    let mut envs = made.record(Record { folder: folder.clone(), embed_plugin: true }).build().unwrap();
    for text in ["abc", "xyz"] {
        envs.call(0, "connect", &json!({"to": at.to_string()})).unwrap();
        let long = text.repeat(700);
        envs.call(0, "say", &json!({"text": long})).unwrap();
        envs.call(0, "poll", &json!({})).unwrap();
        envs.call(0, "peek", &json!({"ms": 30})).unwrap();
        envs.call(0, "hang-up", &json!({})).unwrap();
    }
    let refused = envs.call(0, "connect", &json!({"to": "127.0.0.1:1"})).unwrap();
    assert!(refused.get("error").is_some(), "{refused}");
    server.join().unwrap();
    envs.reset(None).unwrap();
    step_zeros(&mut envs);
    drop((envs, udp));

    let in_nowhere = ["replay".as_ref(), folder.as_os_str()];
    let ran = without_network(&in_nowhere);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("identical: 1 steps"), "{ran:?}");
}

/// The program with an empty network namespace, and with nothing in the folder where GNU Go is installed.
fn without_network(arguments: &[&std::ffi::OsStr]) -> Ran {
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none /usr/games && ! test -e /usr/games/gnugo && exec \"$0\" \"$@\"";
    command.args(["--user", "--map-root-user", "--net", "--mount", "--", "sh", "-c", script]);
    command.arg(program()).args(arguments).env("ROLLCAGE_CACHE", rollcage_tests::cache_folder());
    command.stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn a_game_of_go_is_replayed_without_gnu_go_and_without_a_network() {
    if !gnugo() {
        return;
    }
    let scratch = Scratch::new("rollouts-go");
    let grants = fs::read_to_string(root().join("guest-envs/go/grants.toml")).unwrap();
    let grants = scratch.file("grants.toml", grants.replace("6200-6299", "18100-18149")).display().to_string();
    let arguments = ["go", "--envs", "2", "--episodes", "2", "--seed", "11", "--grants", &grants];
    let (report, folder) = record(&scratch, "games", &arguments);
    assert_eq!(report["episodes"], 2);
    assert_eq!(manifest(&folder)["captured"], json!(["sockets"]));
    for backend in ["native", "pulley"] {
        let arguments: [&std::ffi::OsStr; 5] =
            ["replay".as_ref(), folder.as_os_str(), "--backend".as_ref(), backend.as_ref(), "--json".as_ref()];
        let ran = without_network(&arguments);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        let result: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((&result["result"], &result["digest"]), (&json!("identical"), &report["digest"]), "{result}");
    }
}

#[test]
fn files_are_granted_again() {
    let scratch = Scratch::new("rollouts-files");
    let data = scratch.folder().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("level.txt"), "one").unwrap();
    let grant = format!("dir={}:/data", data.display());
    let guest = fixture_path("trap").display().to_string();
    let arguments = [guest.as_str(), "--config", "at=-1", "--steps", "20", "--seed", "1", "--grant", &grant];
    let (report, folder) = record(&scratch, "run", &arguments);
    let manifest = manifest(&folder);
    assert_eq!(manifest["portable"], false, "{manifest}");
    // A stranger's recording opens no folder of ours.
    let ran = replayed_plain(&folder);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("--grant dir="), "{ran:?}");
    identical(&folder, &report, &["--grant", &grant]);
}

// ── Damage ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Every bit of the manifest and of the checksums, and many of the rest.
#[test]
fn every_flipped_bit_is_found() {
    let scratch = Scratch::new("rollouts-flipped");
    let grants = ["--grant", "clock=real", "--embed-plugin"];
    let mirror = ["mirror", "--envs", "2", "--steps", "60", "--seed", "5"];
    let (_, folder) = record(&scratch, "run", &[&mirror[..], &grants].concat());
    let mut rng = ChaCha12Rng::seed_from_u64(8);
    let names =
        ["rollout.json", "CHECKSUMS", "trajectory-00000.parquet", "plugin.wasm", "capture/0.bin", "capture/1.bin"];
    Rollout::open(&folder).map(drop).unwrap();
    for name in names {
        let path = folder.join(name);
        let whole = fs::read(&path).unwrap();
        let all = whole.len() * 8;
        let bits: Vec<usize> = if all <= 4096 {
            (0..all).collect()
        } else {
            (0..200).map(|_| usize::try_from(rng.next_u64() % all as u64).unwrap()).collect()
        };
        for bit in bits {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            match Rollout::open(&folder) {
                Err(Damage::Mismatch(_)) => {}
                Err(other) => panic!("{name}, bit {bit}: {other}"),
                Ok(_) => panic!("{name}, bit {bit}: nobody has seen it"),
            }
        }
        // Cut, lengthened, gone.
        for changed in [&whole[..whole.len() - 1], &[&whole[..], b"\n"].concat()] {
            fs::write(&path, changed).unwrap();
            assert!(Rollout::open(&folder).is_err(), "{name}");
        }
        if name != "CHECKSUMS" {
            fs::remove_file(&path).unwrap();
            assert!(Rollout::open(&folder).is_err(), "{name}");
        }
        fs::write(&path, &whole).unwrap();
        Rollout::open(&folder).map(drop).unwrap();
    }
    fs::write(folder.join("trajectory-00001.parquet"), "more").unwrap();
    assert_eq!(replayed_plain(&folder).status, Some(1));
}

/// What anybody can put in place of a file.
const ODD: [&str; 6] = ["fifo", "zero", "link", "folder", "sparse", "device"];

fn put(odd: &str, path: &Path) {
    let meant = path.with_extension("meant");
    fs::rename(path, &meant).unwrap();
    match odd {
        "fifo" => rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap(),
        "zero" => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        // To the very file.
        "link" => std::os::unix::fs::symlink(&meant, path).unwrap(),
        "folder" => fs::create_dir(path).unwrap(),
        "sparse" => fs::File::create(path).unwrap().set_len(9 << 30).unwrap(),
        _ => std::os::unix::fs::symlink("/dev/stdin", path).unwrap(),
    }
}

#[test]
fn what_is_no_regular_file_of_bounded_size_is_refused_at_once() {
    let scratch = Scratch::new("rollouts-odd");
    let arguments =
        ["mirror", "--envs", "2", "--steps", "60", "--seed", "5", "--grant", "clock=real", "--embed-plugin"];
    let (_, whole) = record(&scratch, "run", &arguments);
    let names = ["rollout.json", "CHECKSUMS", "trajectory-00000.parquet", "plugin.wasm", "capture/1.bin", "capture"];
    for name in names {
        for odd in ODD {
            // As it was published; and as a run leaves it that was killed.
            for sealed in [true, false] {
                if !sealed && name == "CHECKSUMS" {
                    continue;
                }
                let folder = scratch.folder().join("odd");
                let _ = fs::remove_dir_all(&folder);
                let copied = Command::new("cp").arg("-r").args([&whole, &folder]).status().unwrap();
                assert!(copied.success());
                if !sealed {
                    fs::remove_file(folder.join("CHECKSUMS")).unwrap();
                }
                put(odd, &folder.join(name));
                let meant = folder.join(name).with_extension("meant");
                if odd != "link" && meant.is_dir() {
                    fs::remove_dir_all(&meant).unwrap();
                } else if odd != "link" {
                    fs::remove_file(&meant).unwrap();
                }
                for command in [&["verify"][..], &["replay"], &["export", "--format", "jsonl"]] {
                    let mut run = Rollcage::command();
                    run.args(command).arg(&folder).stdin(Stdio::null());
                    let ran = within(60, &mut run);
                    // An export of a prefix looks at neither plugin nor captures; and an empty folder of captures is one.
                    let unused =
                        ["plugin.wasm", "capture/1.bin"].contains(&name) || (name, odd) == ("capture", "folder");
                    let expected: &[i32] = if !sealed && command[0] == "export" && unused { &[0] } else { &[1, 2] };
                    let status = ran.status.unwrap_or(-1);
                    assert!(expected.contains(&status), "{command:?}, {odd} as {name}, sealed {sealed}: {ran:?}");
                    assert!(!ran.stderr.contains("a bug in rollcage"), "{ran:?}");
                }
            }
        }
    }
}

/// Another part with the same rows, but for what `change` makes of them; everything else is as it was written.
fn rewrite(folder: &Path, change: impl Fn(RecordBatch) -> RecordBatch, metadata: impl Fn(&str, &str) -> String) {
    let path = folder.join("trajectory-00000.parquet");
    let read = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap();
    let file = read.metadata().file_metadata();
    let keys = file.key_value_metadata().unwrap().iter().filter(|pair| pair.key != "ARROW:schema");
    let keys = keys.map(|pair| KeyValue::new(pair.key.clone(), metadata(&pair.key, pair.value.as_deref().unwrap())));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))
        .set_created_by(file.created_by().unwrap().to_owned())
        .set_key_value_metadata(Some(keys.collect()))
        .set_statistics_enabled(EnabledStatistics::None);
    for name in ["env", "instance", "episode", "step"] {
        properties = properties.set_column_statistics_enabled(name.into(), EnabledStatistics::Chunk);
    }
    let schema = read.schema().clone();
    let batch = read.with_batch_size(1 << 20).build().unwrap().next().unwrap().unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), schema, Some(properties.build())).unwrap();
    writer.write(&change(batch)).unwrap();
    writer.close().unwrap();
    seal(folder);
}

/// Whoever changes a recording makes its checksums anew: what no hash has is found by a replay.
#[test]
fn what_is_not_hashed_is_recomputed_and_compared() {
    let scratch = Scratch::new("rollouts-forged");
    let (_, whole) = record(&scratch, "run", &["cartpole", "--envs", "2", "--episodes", "6", "--seed", "9"]);
    let folder = scratch.folder().join("forged");
    let fresh = || {
        let _ = fs::remove_dir_all(&folder);
        assert!(Command::new("cp").arg("-r").args([&whole, &folder]).status().unwrap().success());
    };
    let found = |field: &str| {
        let ran = Rollcage::run(["verify".as_ref(), folder.as_os_str()]);
        assert_eq!(ran.status, Some(1), "{field}: {ran:?}");
        assert!(ran.stdout.contains(field) || ran.stderr.contains(field), "{field}: {ran:?}");
    };
    // As it was, written anew: this way of forging leaves no other traces.
    fresh();
    rewrite(&folder, |batch| batch, |_, value| value.to_owned());
    assert_eq!(Rollcage::run(["verify".as_ref(), folder.as_os_str()]).status, Some(0));

    // The column `episode`, of the last episodes, and of all.
    for from in [2, 0] {
        fresh();
        let later = |batch: RecordBatch| {
            let mut columns = batch.columns().to_vec();
            let index = batch.schema().index_of("episode").unwrap();
            let episodes = columns[index].as_primitive::<UInt64Type>().values();
            let later = episodes.iter().map(|episode| episode + u64::from(*episode >= from));
            columns[index] = Arc::new(UInt64Array::from_iter_values(later));
            RecordBatch::try_new(batch.schema(), columns).unwrap()
        };
        rewrite(&folder, later, |_, value| value.to_owned());
        found("instance, episode, step");
    }
    // What a part says of its spaces, which other programs read.
    fresh();
    rewrite(&folder, |batch| batch, |_, value| value.replace("\"n\":2", "\"n\":3"));
    found("is not as it is written");

    // The manifest: anybody can write another, and its receipt is another; but it says what came out.
    let forge = |pointer: &str, value: Value| {
        fresh();
        let mut manifest = manifest(&folder);
        let old = std::mem::replace(manifest.pointer_mut(pointer).unwrap(), value);
        assert_ne!(&old, manifest.pointer(pointer).unwrap(), "{pointer}");
        fs::write(folder.join("rollout.json"), serde_json::to_string_pretty(&manifest).unwrap() + "\n").unwrap();
        seal(&folder);
    };
    for (pointer, value, field) in [
        ("/totals/return/mean", json!(500.0), "totals"),
        ("/totals/steps", json!(9), "totals"),
        ("/totals/length", json!(null), "totals"),
        ("/instances/1/digest", json!("00".repeat(32)), "instances"),
        ("/instances/0/instance", json!(1), "digests"),
        ("/not_portable", json!(["because"]), "not_portable"),
        ("/portable", json!(false), "not_portable"),
        ("/plugin/name", json!("chess"), "plugin"),
        ("/plugin/version", json!("9.0.0"), "plugin"),
        ("/spaces/max_episode_steps", json!(501), "spaces"),
        ("/spaces/observation/low", json!(-9.0), "is not as it is written"),
        ("/config/sutton_barto_reward", json!(true), "different"),
        ("/rollcage", json!("9.9.9"), "is not as it is written"),
    ] {
        forge(pointer, value);
        found(field);
    }
    // Words that nobody asked for, and the same words in another form.
    for (from, to, status) in [("\"format\": 1", "\"format\": 1,\n  \"best\": true", 2), ("  \"seed\"", " \"seed\"", 1)]
    {
        fresh();
        let path = folder.join("rollout.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(path, text.replace(from, to)).unwrap();
        seal(&folder);
        assert_eq!(Rollcage::run(["verify".as_ref(), folder.as_os_str()]).status, Some(status), "{to}");
    }
}

/// A flipped bit of a part is found, or it changes nothing of what is read.
#[test]
fn a_flipped_bit_under_new_checksums_is_found_or_says_nothing() {
    let scratch = Scratch::new("rollouts-resealed");
    let (_, folder) = record(&scratch, "run", &["mirror", "--envs", "2", "--steps", "40", "--seed", "5"]);
    let rows = |folder: &Path| -> Option<Vec<u8>> {
        let mut lines = Vec::new();
        rollcage::replay::export::jsonl(&Rollout::open(folder).ok()?, &mut lines).ok()?;
        Some(lines)
    };
    let as_written = rows(&folder).unwrap();
    let path = folder.join("trajectory-00000.parquet");
    let whole = fs::read(&path).unwrap();
    let plugin = Plugin::shipped("mirror").unwrap();
    let mut rng = ChaCha12Rng::seed_from_u64(4);
    let (mut refused, mut silent) = (0, 0);
    for _ in 0..300 {
        let bit = usize::try_from(rng.next_u64() % (whole.len() as u64 * 8)).unwrap();
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        seal(&folder);
        // A reader that panics has not found it.
        let how = Replaying { worker: Some(program()), cache: Some(cache()), ..Replaying::default() };
        let identical = Rollout::open(&folder)
            .ok()
            .and_then(|rollout| replay(&rollout, &plugin, &how, |_| ()).ok())
            .is_some_and(|replayed| replayed.difference.is_none());
        if identical {
            silent += 1;
            assert_eq!(rows(&folder).as_ref(), Some(&as_written), "bit {bit}");
        } else {
            refused += 1;
        }
    }
    assert!(refused > silent, "{refused} found, {silent} say nothing");
}

#[test]
fn what_is_no_recording_is_said_to_be_none() {
    let scratch = Scratch::new("rollouts-none");
    for (name, manifest) in
        [("empty", None), ("garbage", Some("{")), ("other", Some("{}")), ("newer", Some(r#"{"format": 2}"#))]
    {
        let folder = scratch.folder().join(name);
        fs::create_dir(&folder).unwrap();
        if let Some(manifest) = manifest {
            fs::write(folder.join("rollout.json"), manifest).unwrap();
        }
        for command in ["replay", "verify"] {
            let ran = Rollcage::run([command.as_ref(), folder.as_os_str()]);
            assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        }
    }
}

/// A million steps are sixteen parts: what one of them takes is given back.
#[test]
fn memory_stays_flat() {
    let scratch = Scratch::new("rollouts-flat");
    let folder = scratch.folder().join("long");
    let mut run = Rollcage::command();
    run.args(["run", "cartpole", "--envs", "2", "--steps", "1000000", "--seed", "3", "--record"]).arg(&folder);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let resident = |pid: u32| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let (mut early, mut late) = (0, 0);
    while run.try_wait().unwrap().is_none() {
        let kib = resident(run.id()).unwrap_or(0);
        let third = folder.join("trajectory-00003.parquet").exists();
        *(if third { &mut late } else { &mut early }) = kib.max(if third { late } else { early });
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(run.wait().unwrap().success() && folder.join("trajectory-00014.parquet").exists());
    assert!(early > 0 && late > 0 && late < early + 65_536, "{early} KiB with the first parts, {late} KiB later");
    assert!(late < 400_000, "{late} KiB");
}

#[test]
fn a_killed_run_leaves_a_readable_prefix() {
    let scratch = Scratch::new("rollouts-killed");
    let mut rng = ChaCha12Rng::seed_from_u64(6);
    for round in 0..3u64 {
        let folder = scratch.folder().join(round.to_string());
        let mut run = Rollcage::command();
        run.args(["run", "cartpole", "--envs", "4", "--steps", "100000000", "--seed", "3", "--record"]).arg(&folder);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("a part is closed", 60, || folder.join("trajectory-00000.parquet").exists());
        std::thread::sleep(Duration::from_millis(rng.next_u64() % 2000));
        run.kill().unwrap();
        run.wait().unwrap();
        let parts = fs::read_dir(&folder)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".parquet"));
        let parts = parts.count() as u64;
        assert_eq!(manifest(&folder)["complete"], false);
        let ran = replayed_plain(&folder);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        let steps: u64 = ran.stdout.strip_prefix("prefix: ").unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(steps > 0 && steps <= parts * 65_536, "{parts} parts, {steps} steps");
        assert_eq!(Rollcage::run(["verify".as_ref(), folder.as_os_str()]).status, Some(2));
    }
}

/// Whatever it waits for: here for a worker that is not ready and stands still.
#[test]
fn an_interrupt_ends_a_replay_whose_env_does_not_start() {
    let scratch = Scratch::new("rollouts-interrupted");
    let folder = scratch.folder().join("run");
    let plugin = fixture_path("slow");
    let slow = ["--config=in_call=create", "--config=at=0", "--config=spins=2000000000"];
    let mut run = Rollcage::command();
    run.arg("run").arg(&plugin).args(slow).args(["--steps=2", "--seed=1", "--embed-plugin", "--record"]).arg(&folder);
    let ran = within(100, &mut run);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let mut command = Rollcage::command();
    let mut host = command.arg("replay").arg(&folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = |pid: u32| Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    eventually("its env starts", 60, || !Process(host.id()).envs().is_empty());
    kill_process(pid(Process(host.id()).envs()[0].0), Signal::STOP).unwrap();
    kill_process(pid(host.id()), Signal::INT).unwrap();
    eventually("it has ended", 20, || host.try_wait().unwrap().is_some());
    assert_eq!(host.wait().unwrap().code(), Some(130));
}
