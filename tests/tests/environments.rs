//! `docs/environments.md`: what ships, in figures; written by `cargo xtask environments`, and compared here.
//!
//! What depends on the machine is measured where the page is written. Where it is compared, the times are those of the
//! page, and a size may differ by a tenth: it depends on the paths that the compiler writes into panics' messages.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use rollcage::env::policy::{Policy, PolicyName};
use rollcage::{Autoreset, Error, OutOfBounds, Plugin, Prepared, RenderMode, Spec, VecEnv};
use rollcage_tests::{root, shipped};

/// Starts of which the median is taken.
const STARTS: usize = 15;
/// Steps that are timed.
const STEPS: u64 = 20_000;
/// Actions that are sent at once.
const BATCH: usize = 200;

const HEAD: &str = "\
# The environments that ship with rollcage

Written by `cargo xtask environments` from the plugins themselves, and compared with them by the tests; not by hand.

| name | observations | actions | config | time limit | wants | KiB | start, ms | ns a step |
|---|---|---|---|--:|---|--:|--:|--:|
";

const UNDER_THE_TABLE: &str = "
* *KiB*: the component, before it is compiled.
* *start*: one more env, from its process's start to the answer of its first reset, behind all walls, its code in the
  cache; the median of 15.
* *ns a step*: what one more step of a batch costs, the worker's part and the host's, which checks and hashes the answer:
  batches of up to 200 random actions, less what a batch of one action takes, which is mostly the turn there and back.
* Both times were measured on one machine with two cores, and are good to compare rows. A dash: it needs somebody to talk
  to. For all of this and more of any plugin: `rollcage inspect NAME`.
";

#[test]
fn environments_md_is_what_ships() {
    let file = root().join("docs/environments.md");
    let before = fs::read_to_string(&file).unwrap_or_default();
    let update = std::env::var_os("ROLLCAGE_UPDATE").is_some();
    let measured = if update { BTreeMap::new() } else { figures_of(&before) };
    let page = page(&measured);
    if update {
        fs::write(&file, page).unwrap();
    } else {
        assert!(page == before, "docs/environments.md is not what ships: `cargo xtask environments` writes it\n{page}");
    }
}

#[test]
fn figures_are_read_from_the_page() {
    let page = format!(
        "{HEAD}{}\n",
        row("a", ["Box", "Discrete(2)", "`k`", "10", "nothing"], &Figures::of(["5", "1.5", "–"]))
    );
    assert_eq!(figures_of(&page), BTreeMap::from([("a".to_owned(), Figures::of(["5", "1.5", "–"]))]));
}

/// What is measured of a plugin, as it stands in the table.
#[derive(Clone, Debug, PartialEq)]
struct Figures {
    kib: String,
    start: String,
    step: String,
}

impl Figures {
    fn of([kib, start, step]: [&str; 3]) -> Figures {
        Figures { kib: kib.to_owned(), start: start.to_owned(), step: step.to_owned() }
    }
}

fn page(measured: &BTreeMap<String, Figures>) -> String {
    let (mut table, mut sections) = (HEAD.to_owned(), String::new());
    for (name, _) in rollcage::plugin::shipped::PLUGINS {
        let builder = || shipped(name).autoreset(Autoreset::Disabled).seed(1);
        let prepared = builder().prepare().unwrap();
        // What needs a config or a grant has no env to ask.
        let env = match builder().build() {
            Ok(env) => Some(env),
            Err(Error::Usage(_) | Error::Fault(_)) => None,
            Err(error) => panic!("{name}: {error}"),
        };
        let spec = env.as_ref().map(|env| env.spec().clone());
        let figures = figures(prepared.plugin(), measured.get(*name), || {
            env.map(|env| times(env, || builder().build().unwrap()))
        });
        let keys: Vec<String> = prepared.schema().table().iter().map(|row| format!("`{}`", row.key)).collect();
        let wants: Vec<String> = prepared.description().wants.iter().map(|want| want.noun().to_owned()).collect();
        let or = |list: Vec<String>, nothing: &str| if list.is_empty() { nothing.to_owned() } else { list.join(", ") };
        let of_spec = |text: fn(&Spec) -> String| spec.as_ref().map_or("–".to_owned(), text);
        let cells = [
            of_spec(|spec| format!("`{}`", spec.observation_space)),
            of_spec(|spec| format!("`{}`{}", spec.action_space, if spec.action_masked { ", masks" } else { "" })),
            or(keys, "none"),
            of_spec(|spec| spec.max_episode_steps.map_or("none".to_owned(), |steps| steps.to_string())),
            or(wants, "nothing"),
        ];
        writeln!(table, "{}", row(&format!("[{name}](#{name})"), cells.each_ref().map(String::as_str), &figures))
            .unwrap();
        sections.push_str(&section(name, &prepared, spec.as_ref()));
    }
    table + UNDER_THE_TABLE + &sections
}

fn row(name: &str, cells: [&str; 5], Figures { kib, start, step }: &Figures) -> String {
    format!("| {name} | {} | {kib} | {start} | {step} |", cells.map(escaped).join(" | "))
}

/// All of one plugin that has no room in the table.
fn section(name: &str, prepared: &Prepared, spec: Option<&Spec>) -> String {
    let description = prepared.description();
    let mut text = format!("\n## {name}\n\n{}.\n\n", description.summary);
    if let Some(spec) = spec {
        for field in &spec.info_fields {
            writeln!(text, "* info: `{}`, `{}`", field.name, field.space).unwrap();
        }
        if spec.actions_out_of_bounds == OutOfBounds::Pass {
            writeln!(text, "* actions outside their bounds are taken as they are").unwrap();
        }
        if let Some(threshold) = spec.reward_threshold {
            writeln!(text, "* solved at a mean return of {threshold}").unwrap();
        }
    }
    let modes = description.render_modes.iter().map(|mode| match mode {
        RenderMode::RgbArray => "`rgb_array`",
        RenderMode::Ansi => "`ansi`",
    });
    let modes: Vec<&str> = modes.collect();
    let rate =
        if description.render_fps > 0 { format!(", {} a second", description.render_fps) } else { String::new() };
    let pictures = if modes.is_empty() { "none".to_owned() } else { modes.join(", ") + &rate };
    writeln!(text, "* pictures: {pictures}").unwrap();
    for want in &description.wants {
        let needed = if want.required { "needs" } else { "may use" };
        let flag = want.flag(&description.wants).map_or(String::new(), |flag| format!(", by `{flag}`"));
        writeln!(text, "* {needed} {}{flag}: {}", want.noun(), want.shown_reason()).unwrap();
    }
    let keys = prepared.schema().table();
    if !keys.is_empty() {
        text.push_str("\n| key | type | default | range | |\n|---|---|---|---|---|\n");
        for key in keys {
            let cells = [&format!("`{}`", key.key), &key.type_text, &key.default, &key.range, &key.doc];
            writeln!(text, "| {} |", cells.map(|cell| escaped(cell)).join(" | ")).unwrap();
        }
    }
    text
}

fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|").replace('\n', " ")
}

/// The figures of the page: its own, where it is compared.
fn figures(plugin: &Plugin, before: Option<&Figures>, measure: impl FnOnce() -> Option<(Duration, f64)>) -> Figures {
    let kib = plugin.size() / 1024;
    if let Some(before) = before {
        let was: usize = before.kib.parse().unwrap_or(0);
        let near = kib.abs_diff(was) * 10 <= was;
        return if near { before.clone() } else { Figures { kib: kib.to_string(), ..before.clone() } };
    }
    let (start, step) = match measure() {
        Some((start, step)) => (format!("{:.1}", start.as_secs_f64() * 1e3), format!("{step:.0}")),
        None => ("–".to_owned(), "–".to_owned()),
    };
    Figures { kib: kib.to_string(), start, step }
}

/// What the table of a page says was measured, by plugin.
fn figures_of(page: &str) -> BTreeMap<String, Figures> {
    let rows = page.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [first, .., kib, start, step] = cells.as_slice() else { return None };
        let name = first.trim_start_matches(['|', ' ', '[']).split(']').next()?;
        Some((name.to_owned(), Figures::of([kib, start, step.trim_end_matches([' ', '|'])])))
    })
    .collect()
}

/// How long a start takes, and how many nanoseconds one more step does.
fn times(mut env: VecEnv, start: impl Fn() -> VecEnv) -> (Duration, f64) {
    let one = || {
        let began = Instant::now();
        let mut env = start();
        env.reset(None).unwrap();
        began.elapsed()
    };
    let mut starts: Vec<Duration> = (0..STARTS).map(|_| one()).collect();
    starts.sort();

    let mut policy = Policy::new(&PolicyName::Random, &env.spec().action_space, 1, 1).unwrap();
    let stride = env.spec().action_space.stride();
    let mut actions = vec![0; stride * BATCH];
    let (mut single, mut many) = (Vec::new(), (Duration::ZERO, 0, 0_u32));
    let mut running = false;
    while u64::from(many.1) < STEPS {
        for action in actions.chunks_exact_mut(stride) {
            policy.act(0, None, action).unwrap();
        }
        for bytes in [&actions[..stride], &actions] {
            if !running {
                env.reset(None).unwrap();
            }
            let began = Instant::now();
            let steps = env.step_many(0, bytes).unwrap();
            let took = began.elapsed();
            assert!(steps.fault.is_none(), "{:?}", steps.fault);
            running = !(steps.terminated || steps.truncated);
            if bytes.len() == stride {
                single.push(took);
            } else {
                many = (many.0 + took, many.1 + steps.taken, many.2 + 1);
            }
        }
    }
    single.sort();
    let turn = single[single.len() / 2].as_secs_f64();
    let further = f64::from(many.1 - many.2).max(1.0);
    let step = (many.0.as_secs_f64() - turn * f64::from(many.2)) / further;
    (starts[STARTS / 2], step.max(0.0) * 1e9)
}
