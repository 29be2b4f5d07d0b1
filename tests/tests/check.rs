//! `rollcage check`: planted defects are found under their rules, and sound envs pass.

use rollcage_tests::{Ran, Rollcage, Scratch, fixture_path, within};
use serde_json::Value;

fn check(arguments: &[&str]) -> Ran {
    within(120, Rollcage::command().arg("check").args(arguments))
}

fn examined(arguments: &[&str]) -> (Ran, Value) {
    let ran = check(&[arguments, &["--json"]].concat());
    let object = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, object)
}

/// The rules that found something.
fn found(object: &Value) -> Vec<&str> {
    let rules = object["rules"].as_array().unwrap();
    rules.iter().filter(|rule| rule["outcome"] == "found").map(|rule| rule["rule"].as_str().unwrap()).collect()
}

/// A defect of the guest `flawed`, and the rule that must name it.
const DEFECTS: [(&str, &str); 23] = [
    ("observation-outside", "observation-in-space"),
    ("observation-nan", "observation-in-space"),
    ("observation-short", "faults"),
    ("reward-nan", "reward-finite"),
    ("reward-infinite", "reward-finite"),
    ("mask-closed", "mask-open"),
    ("mask-short", "faults"),
    ("never-ends", "episode-ends"),
    ("reset-leaks", "reset-forgets"),
    ("seed-ignored", "seed-matters"),
    ("own-randomness", "reproducible"),
    ("config-unread", "config-matters"),
    ("config-refused", "config-accepted"),
    ("want-undeclared", "wants-declared"),
    ("picture-fails", "pictures"),
    ("picture-grows", "picture-size"),
    ("picture-steps", "picture-harmless"),
    ("step-after-end", "step-after-end"),
    ("refusal-moves", "refused-harmless"),
    ("memory-grows", "memory-bounded"),
    ("slow-step", "step-time"),
    ("panics", "faults"),
    ("create-fails", "creates"),
];

#[test]
fn planted_defects_are_found_under_their_rules() {
    let guest = fixture_path("flawed").display().to_string();
    for (defect, rule) in DEFECTS {
        let config = format!("defect={defect}");
        let mut arguments = vec![guest.as_str(), "--config", &config];
        if defect == "own-randomness" {
            // Without it the guest's randomness is the same in every run.
            arguments.extend(["--grant", "random=real"]);
        }
        if defect == "slow-step" {
            // Every play is slow.
            arguments.push("--quick");
        }
        let (ran, object) = examined(&arguments);
        assert!(found(&object).contains(&rule), "{defect}: {:?}, {}", found(&object), ran.stdout);
        // Nothing that is sound is blamed.
        let others: Vec<&str> = found(&object).into_iter().filter(|found| *found != rule).collect();
        assert!(others.is_empty(), "{defect}: also {others:?}: {}", ran.stdout);
        assert_eq!(ran.status, Some(1), "{defect}");
    }
}

#[test]
fn a_file_that_is_too_heavy_is_found() {
    let scratch = Scratch::new("check-size");
    let assets = scratch.folder().join("assets");
    std::fs::create_dir(&assets).unwrap();
    std::fs::write(assets.join("level"), vec![0; 63 << 20]).unwrap();
    let heavy = scratch.folder().join("heavy.wasm").display().to_string();
    let guest = fixture_path("flawed").display().to_string();
    let built =
        within(60, Rollcage::command().args(["build", &guest, "--assets"]).arg(&assets).args(["--output", &heavy]));
    assert_eq!(built.status, Some(0), "{built:?}");
    let (_, object) = examined(&[&heavy, "--quick"]);
    assert_eq!(found(&object), ["file-size"], "{object}");
}

/// Shipped envs that run alone, and what is meant so in them.
const SHIPPED: [(&str, &[&str]); 11] = [
    ("acrobot", &[]),
    ("blackjack", &[]),
    ("cartpole", &[]),
    ("cliffwalking", &[]),
    ("frozenlake", &[]),
    // It tells what it sees by `call`, and its observations count steps.
    ("mirror", &["seed-matters", "config-matters"]),
    ("mountaincar", &[]),
    ("mountaincar-continuous", &[]),
    ("pendulum", &[]),
    ("pixels", &[]),
    ("taxi", &[]),
];

#[test]
fn shipped_envs_pass() {
    for (name, meant) in SHIPPED {
        let allowed: Vec<&str> = meant.iter().flat_map(|rule| ["--allow", rule]).collect();
        let (ran, object) = examined(&[&[name], &allowed[..]].concat());
        assert_eq!(found(&object), [] as [&str; 0], "{name}: {}", ran.stdout);
        assert_eq!(ran.status, Some(0), "{name}");
        // What is not looked at has a reason.
        for rule in object["rules"].as_array().unwrap().iter().filter(|rule| rule["outcome"] == "skipped") {
            assert!(rule["skipped"].as_str().is_some_and(|why| !why.is_empty()), "{name}: {rule}");
        }
    }
}

#[test]
fn a_report_is_read_by_people_and_by_a_ci() {
    let scratch = Scratch::new("check-report");
    let junit = scratch.folder().join("report.xml").display().to_string();
    let guest = fixture_path("flawed").display().to_string();
    let ran = check(&[&guest, "--config", "defect=reward-nan", "--quick", "--seed", "3", "--junit", &junit]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    for words in [
        "  !!  reward-finite        ",
        "  ok  observation-in-space ",
        "\nreward-finite\n  seen  seed 3: ",
        "rewards were NaN (first: env 0, episode 0, step 3)",
        "\n  why   one NaN or infinity makes every later estimate NaN\n  mend  look for a division by zero",
        "1 rule found something; ",
    ] {
        assert!(ran.stdout.contains(words), "{words:?} in {}", ran.stdout);
    }
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>"), "{xml}");
    assert!(xml.contains("name=\"reward-finite\"><failure message=\"seed 3: "), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), 29, "{xml}");
    assert!(xml.contains(" failures=\"1\" "), "{xml}");

    // What is meant so is told, and is no finding.
    let ran = check(&[&guest, "--config", "defect=reward-nan", "--quick", "--allow", "reward-finite"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("reward-finite        not looked at: allowed by --allow"), "{}", ran.stdout);
    let ran = check(&[&guest, "--allow", "rewards"]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("error: no rule `rewards`\nhint: the rules are creates, faults, "), "{}", ran.stderr);
    // What is not granted is the operator's to give.
    let ran = check(&["go"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains("--grant"), "{}", ran.stderr);
}

#[test]
fn every_run_counts_what_is_odd() {
    let guest = fixture_path("flawed").display().to_string();
    let run = |defect: &str, more: &[&str]| {
        let config = format!("defect={defect}");
        let arguments = [&["run", &guest, "--config", &config, "--envs", "2", "--episodes", "4", "--seed", "1"], more];
        within(60, Rollcage::command().args(arguments.concat()))
    };
    let ran = run("reward-nan", &[]);
    let line = "\n  odd         4 rewards were NaN (first: env 0, episode 0, step 3)\n";
    assert!(ran.stdout.contains(line) && ran.status == Some(0), "{ran:?}");
    let ran = run("observation-outside", &["--json"]);
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    let odd = &object["oddities"][0];
    assert_eq!((&odd["kind"], &odd["env"], &odd["step"]), (&"outside_space".into(), &0.into(), &3.into()), "{object}");
    assert_eq!(odd["example"], "element [1] is 1.5, allowed is 0.0 to 1.0", "{object}");
    let ran = run("none", &["--json"]);
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&object["oddities"], &object["faults_total"]), (&serde_json::json!([]), &0.into()), "{object}");
    // A view in which nothing can be chosen is the env's mistake, and not the policy's.
    let ran = run("mask-closed", &["--json"]);
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(object["faults"][0]["kind"], "bad_answer", "{object}");
    assert!(
        object["faults"][0]["message"].as_str().unwrap().contains("its action mask: no choice is open"),
        "{object}"
    );
}
