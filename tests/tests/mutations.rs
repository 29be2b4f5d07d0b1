//! Broken plugins: cut short, bits flipped, bytes put in, taken out, repeated and overwritten, sections exchanged. Each goes
//! the way of every plugin, and whatever is left of it, the outcome is a value within its deadline and nothing is left
//! behind. A failure is shrunk and printed as the fewest changes that show it.
//!
//! The plugin is the honest one of `tests/smith`, 10 KB, so that thousands are quick; one in twenty is a Rust guest.
//! `ROLLCAGE_MUTATION_SEED=N` tries others.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use rollcage::{Backend, Plugin};
use rollcage_tests::outcome::play;
use rollcage_tests::{Process, alone, eventually, fixture_path};

/// Both cores of a small machine.
const THREADS: usize = 2;

/// A place in a file.
#[derive(Clone, Debug)]
struct Place {
    area: Area,
    at: Index,
}

#[derive(Clone, Copy, Debug)]
enum Area {
    Anywhere,
    /// The first core module's code.
    Code,
    /// The first core module's data, where the honest env's answers lie: what is changed there is valid, and a lie.
    Data,
}

/// One change.
#[derive(Clone, Debug)]
enum Mutation {
    Truncate(Place),
    Flip(Place, u8),
    Overwrite(Place, Vec<u8>),
    Insert(Place, Vec<u8>),
    Delete(Place, u8),
    Repeat(Place, u8, Place),
    ExchangeSections(Index, Index),
}

#[derive(Clone, Debug)]
struct Broken {
    /// A Rust guest, else the honest one.
    rust: bool,
    pulley: bool,
    mutations: Vec<Mutation>,
}

fn place() -> impl Strategy<Value = Place> {
    let area = prop_oneof![2 => Just(Area::Anywhere), 1 => Just(Area::Code), 2 => Just(Area::Data)];
    (area, any::<Index>()).prop_map(|(area, at)| Place { area, at })
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..9);
    prop_oneof![
        1 => place().prop_map(Mutation::Truncate),
        6 => (place(), 0..8_u8).prop_map(|(place, bit)| Mutation::Flip(place, bit)),
        2 => (place(), bytes()).prop_map(|(place, bytes)| Mutation::Overwrite(place, bytes)),
        1 => (place(), bytes()).prop_map(|(place, bytes)| Mutation::Insert(place, bytes)),
        1 => (place(), 1..=255_u8).prop_map(|(place, length)| Mutation::Delete(place, length)),
        1 => (place(), 1..=255_u8, place()).prop_map(|(from, length, to)| Mutation::Repeat(from, length, to)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Mutation::ExchangeSections(one, other)),
    ]
}

fn broken() -> impl Strategy<Value = Broken> {
    let mutations = proptest::collection::vec(mutation(), 1..3);
    (proptest::bool::weighted(0.05), any::<bool>(), mutations).prop_map(|(rust, pulley, mutations)| Broken {
        rust,
        pulley,
        mutations,
    })
}

/// The sections of a component or module: where each begins, and where the last one ends. Ends at the first that is cut.
fn sections(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![8.min(bytes.len())];
    while let Some(&start) = starts.last()
        && start < bytes.len()
    {
        let (mut length, mut at) = (0_usize, start + 1);
        loop {
            let Some(&byte) = bytes.get(at) else { return starts };
            length |= usize::from(byte & 0x7f) << (7 * (at - start - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
            if at - start > 5 {
                return starts;
            }
        }
        if at + length > bytes.len() {
            return starts;
        }
        starts.push(at + length);
    }
    starts
}

/// Where the first section with this number begins and ends.
fn section(bytes: &[u8], number: u8) -> Option<(usize, usize)> {
    sections(bytes).windows(2).find_map(|ends| (bytes[ends[0]] == number).then_some((ends[0], ends[1])))
}

impl Place {
    fn within(&self, bytes: &[u8]) -> usize {
        const CORE_MODULE: u8 = 1;
        let number = match self.area {
            Area::Anywhere => None,
            Area::Code => Some(10),
            Area::Data => Some(11),
        };
        let found = number.and_then(|number| {
            let (start, end) = section(bytes, CORE_MODULE)?;
            // Its length stands before the module, in one to five bytes.
            let module = (start..end.min(start + 7)).find(|at| bytes[*at..].starts_with(b"\0asm"))?;
            let (from, to) = section(&bytes[module..end], number)?;
            Some((module + from, module + to))
        });
        let (from, to) = found.unwrap_or((0, bytes.len().max(1)));
        from + self.at.index(to - from)
    }
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let end = |bytes: &[u8], at: usize, length: u8| bytes.len().min(at + usize::from(length));
        match self {
            Mutation::Truncate(place) => bytes.truncate(place.within(bytes)),
            Mutation::Flip(place, bit) => {
                let at = place.within(bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Mutation::Overwrite(place, new) => {
                let at = place.within(bytes);
                for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
                    *byte = *new;
                }
            }
            Mutation::Insert(place, new) => {
                let at = place.within(bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Mutation::Delete(place, length) => {
                let at = place.within(bytes);
                bytes.drain(at..end(bytes, at, *length));
            }
            Mutation::Repeat(from, length, to) => {
                let (at, to) = (from.within(bytes), to.within(bytes));
                let part = bytes[at..end(bytes, at, *length)].to_vec();
                bytes.splice(to..to, part);
            }
            Mutation::ExchangeSections(one, other) => {
                let starts = sections(bytes);
                if starts.len() < 3 {
                    return;
                }
                let (one, other) = (one.index(starts.len() - 1), other.index(starts.len() - 1));
                let (one, other) = (one.min(other), one.max(other));
                if one == other {
                    return;
                }
                let range = |index: usize| bytes[starts[index]..starts[index + 1]].to_vec();
                let between = bytes[starts[one + 1]..starts[other]].to_vec();
                let exchanged = [range(other), between, range(one)].concat();
                bytes.splice(starts[one]..starts[other + 1], exchanged);
            }
        }
    }
}

impl Broken {
    fn bytes(&self, honest: &[u8], rust: &[u8]) -> Vec<u8> {
        let mut bytes = if self.rust { rust } else { honest }.to_vec();
        for mutation in &self.mutations {
            mutation.apply(&mut bytes);
        }
        bytes
    }
}

fn break_plugins(name: &str, count: usize) {
    let seed: u64 = std::env::var("ROLLCAGE_MUTATION_SEED").map_or(0, |seed| seed.parse().unwrap());
    alone(&format!("mutations::{name}"), || {
        let honest = std::fs::read(fixture_path("honest")).unwrap();
        let rust = std::fs::read(fixture_path("masked")).unwrap();
        let counts: [AtomicUsize; 3] = Default::default();
        let run = |cases: usize, thread: u8| {
            let config = Config {
                cases: u32::try_from(cases).unwrap(),
                failure_persistence: None,
                max_shrink_iters: 300,
                ..Config::default()
            };
            let mut bytes = [thread; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
            let result = runner.run(&broken(), |broken| {
                let plugin = Plugin::from_bytes("broken", broken.bytes(&honest, &rust));
                let backend = if broken.pulley { Backend::Pulley } else { Backend::Native };
                let outcome = play(&plugin, backend, 3).map_err(TestCaseError::fail)?;
                counts[outcome.class()].fetch_add(1, Relaxed);
                Ok(())
            });
            result.map_err(|error| format!("seed {seed}, thread {thread}: {error}"))
        };
        // What the first worker brings stays: a thread and its descriptors.
        run(1, 99).unwrap();
        eventually("no process is left", 10, || Process::own().children().is_empty());
        let before = Process::own().descriptors().len();
        let wrong: Vec<String> = std::thread::scope(|scope| {
            let threads = [0, 1].map(|thread| scope.spawn(move || run(count / THREADS, thread)));
            threads.into_iter().filter_map(|thread| thread.join().unwrap().err()).collect()
        });
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        eventually("no process is left", 10, || Process::own().children().is_empty());
        eventually("all descriptors are given back", 10, || Process::own().descriptors().len() == before);
        let [refused, fault, ran] = counts.map(AtomicUsize::into_inner);
        // Of everything enough to mean something: most are found out by the validator.
        assert!(refused > count / 2 && fault > count / 100 && ran > count / 50, "{refused}, {fault}, {ran}");
    });
}

#[test]
fn two_thousand_broken_plugins_end_in_a_value() {
    break_plugins("two_thousand_broken_plugins_end_in_a_value", 2_000);
}

#[test]
#[ignore = "long: some minutes; `cargo xtask long` runs it"]
fn ten_thousand_broken_plugins_end_in_a_value() {
    break_plugins("ten_thousand_broken_plugins_end_in_a_value", 10_000);
}
