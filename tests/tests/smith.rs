//! Random but valid plugins, made by `tests/smith` from a seed each: whatever they do, the outcome is a value, it comes within
//! its deadline, native code, with and without the processor's newer instructions, and the interpreter agree on it, and nothing is left behind.
//!
//! `ROLLCAGE_SMITH_SEED=N` begins with another seed; a failure names the seed of each plugin that it is about.

use rollcage::{Backend, Plugin};
use rollcage_tests::outcome::play;
use rollcage_tests::{Process, Scratch, alone, eventually, random_plugins};

/// Steps that each may take.
const STEPS: u32 = 30;

/// Plays the plugins of these seeds natively, by Pulley, and without the processor's newer instructions. Counts those that were refused, met a fault, and ran.
fn play_all(folder: &Scratch, seeds: std::ops::Range<u64>) -> [usize; 3] {
    let mut wrong = Vec::new();
    let mut counts = [0; 3];
    for seed in seeds {
        let plugin = Plugin::from_file(&folder.folder().join(format!("{seed}.wasm"))).unwrap();
        let (native, others) = std::thread::scope(|scope| {
            let others = [Backend::Pulley, Backend::Baseline].map(|backend| {
                let plugin = &plugin;
                (backend, scope.spawn(move || play(plugin, backend, STEPS)))
            });
            (play(&plugin, Backend::Native, STEPS), others.map(|(backend, played)| (backend, played.join())))
        });
        for (backend, other) in others {
            match (&native, other) {
                (Ok(native), Ok(Ok(other))) => {
                    if *native != other && native.is_portable() && other.is_portable() {
                        wrong.push(format!("seed {seed}: natively {native:?}, {backend:?} {other:?}"));
                    }
                }
                (native, other) => wrong.push(format!("seed {seed}: natively {native:?}, {backend:?} {other:?}")),
            }
        }
        if let Ok(native) = &native {
            counts[native.class()] += 1;
        }
        // A plugin that leaves a process is found by its seed.
        eventually(&format!("no process is left of seed {seed}"), 10, || Process::own().children().is_empty());
    }
    assert!(wrong.is_empty(), "{} plugins:\n  {}", wrong.len(), wrong.join("\n  "));
    counts
}

fn random(name: &str, count: u64) {
    let first = std::env::var("ROLLCAGE_SMITH_SEED").map_or(0, |seed| seed.parse().unwrap());
    alone(&format!("smith::{name}"), || {
        let scratch = Scratch::new(name);
        random_plugins(scratch.folder(), first..first + count);
        // What the first worker brings stays: a thread and its descriptors.
        play_all(&scratch, first..first + 1);
        let before = Process::own().descriptors().len();
        let counts = play_all(&scratch, first..first + count);
        eventually("all descriptors are given back", 10, || Process::own().descriptors().len() == before);
        // Of everything enough to mean something: refused, met a fault, ran.
        let enough = usize::try_from(count / 20).unwrap();
        assert!(counts.iter().all(|number| *number >= enough), "{counts:?}");
    });
}

#[test]
fn random_plugins_end_in_a_value_natively_and_by_pulley_alike() {
    random("random_plugins_end_in_a_value_natively_and_by_pulley_alike", 60);
}

#[test]
#[ignore = "long: some minutes; `cargo xtask long` runs it"]
fn two_thousand_random_plugins() {
    random("two_thousand_random_plugins", 2_000);
}
