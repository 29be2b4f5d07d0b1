//! An engine that is not ours: the shipped envs that need nothing of the outside, transpiled by `jco` and stepped on V8,
//! answer as they do here, bit for bit, but for the bits of NaNs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use rollcage::{Batch, Plugin, ResetSome, VecEnv};
use rollcage_tests::{Scratch, root, shipped, target};
use serde_json::{Value, json};

use crate::digest::SHIPPED;

/// Steps of each env, and resets where its episodes end.
const STEPS: usize = 1000;

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn v8_gives_the_same_answers() {
    let jco = target().join("v8/node_modules/.bin/jco");
    if !jco.exists() {
        eprintln!("SKIPPED: {} is not installed (`cargo xtask test` does it, where there is npm)", jco.display());
        return;
    }
    // Beside what was installed: what jco makes imports from there.
    let scratch = Scratch::new("v8");
    let out = target().join(format!("v8/out-{}", std::process::id()));
    for plugin in SHIPPED {
        // It tells what an env sees of the outside, which is another outside there.
        if plugin == "mirror" {
            continue;
        }
        let (script, answers) = played(plugin);
        let wasm = scratch.file(&format!("{plugin}.wasm"), wasm(plugin));
        let transpiled = Command::new(&jco).arg("transpile").arg(wasm).arg("-o").arg(&out).arg("-q").output().unwrap();
        assert!(transpiled.status.success(), "{}", String::from_utf8_lossy(&transpiled.stderr));
        let module = out.join(format!("{plugin}.js"));
        let mut node = Command::new("node")
            .arg(root().join("tests/v8/play.mjs"))
            .args([&module, &scratch.folder().join("answers.jsonl")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        node.stdin.take().unwrap().write_all(script.to_string().as_bytes()).unwrap();
        assert!(node.wait().unwrap().success(), "{plugin}");
        let theirs = std::fs::read_to_string(scratch.folder().join("answers.jsonl")).unwrap();
        assert_eq!(theirs.lines().count(), answers.len(), "{plugin}");
        let layout = shipped(plugin).build().unwrap().spec().observation_space.layout();
        for (number, (theirs, ours)) in theirs.lines().zip(&answers).enumerate() {
            let mut theirs: Value = serde_json::from_str(theirs).unwrap();
            // Where the bits differ they are NaNs, or something is wrong.
            if theirs["observation"] != ours["observation"] {
                let read = |answer: &Value| layout.to_json(&bytes(answer["observation"].as_str().unwrap()));
                assert_eq!(read(&theirs), read(ours), "{plugin}, answer {number}");
                theirs["observation"] = ours["observation"].clone();
            }
            assert_eq!(theirs, *ours, "{plugin}, answer {number}");
        }
    }
    std::fs::remove_dir_all(out).unwrap();
}

fn wasm(plugin: &str) -> &'static [u8] {
    rollcage::plugin::shipped::PLUGINS.iter().find(|(name, _)| *name == plugin).unwrap().1
}

/// A random play of an env here: what was asked, and what came of it.
fn played(plugin: &str) -> (Value, Vec<Value>) {
    let made = shipped(plugin).seed(7).autoreset(rollcage::Autoreset::Disabled).max_episode_steps(u32::MAX);
    let mut envs: VecEnv = made.build().unwrap();
    let layout = envs.spec().action_space.layout();
    let mut rng = ChaCha12Rng::seed_from_u64(7);
    let mut action = vec![0; layout.stride];
    let (mut events, mut answers) = (Vec::new(), Vec::new());
    let mut steps = 0;
    let mut first = true;
    while steps < STEPS {
        if first || !envs.takes_action(0) {
            let seed = first.then_some((1u64 << 60) + 7);
            envs.reset_some(&ResetSome { seeds: Some(&[seed]), ..ResetSome::default() }).unwrap();
            events.push(json!({ "reset": { "seed": seed.map(|seed| seed.to_string()) } }));
            answers.push(view(envs.last()));
            first = false;
        }
        let mask = envs.last().action_mask(0).to_vec();
        layout.sample(&mut rng, Some(mask.as_slice()).filter(|mask| !mask.is_empty()), &mut action);
        let batch = envs.step(&action).unwrap();
        events.push(json!({ "action": hex(&action) }));
        let mut answer = view(batch);
        answer["reward"] = hex(&batch.rewards[0].to_le_bytes()).into();
        answer["terminated"] = batch.terminated[0].into();
        answer["truncated"] = batch.truncated[0].into();
        answers.push(answer);
        steps += 1;
        // An episode that does not end by itself is ended now and then.
        first |= steps % 300 == 0;
    }
    let config = serde_json_canonicalizer::to_string(&envs.config_of(0).unwrap().value).unwrap();
    assert_eq!(Plugin::shipped(plugin).unwrap().sha256(), envs.prepared().plugin().sha256());
    (json!({ "config": config, "events": events }), answers)
}

fn view(batch: &Batch) -> Value {
    json!({
        "observation": hex(batch.observation(0)),
        "mask": hex(batch.action_mask(0)),
        "info": hex(batch.info(0)),
        "extra": batch.infos_extra[0],
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}
