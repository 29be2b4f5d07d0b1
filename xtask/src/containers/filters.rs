//! Profiles of system calls, as engines of containers have them in JSON, made into what the kernel or runc takes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The rules of a profile that hold for this architecture and these capabilities, as the OCI runtime takes them.
pub(super) fn rules(profile: &Value, capabilities: &[&str]) -> Vec<Value> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let has = |capability: &String| capabilities.contains(&capability.as_str());
    let is_here = |architecture: &String| architecture == "amd64";
    let holds = |rule: &&Value| {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let architectures = words(&includes["arches"]);
        (architectures.is_empty() || architectures.iter().any(is_here))
            && words(&includes["caps"]).iter().all(has)
            && !words(&excludes["arches"]).iter().any(is_here)
            && !words(&excludes["caps"]).iter().any(has)
    };
    let rules = profile["syscalls"].as_array().into_iter().flatten().filter(holds);
    let kept = ["names", "action", "args", "errnoRet"];
    let clean = |rule: &Value| {
        let fields = kept.into_iter().filter(|name| !rule[name].is_null());
        fields.map(|name| (name.to_owned(), rule[name].clone())).collect::<serde_json::Map<_, _>>().into()
    };
    rules.map(clean).collect()
}

/// The numbers of system calls, from the kernel's header.
pub(super) fn numbers(header: &str) -> BTreeMap<String, u32> {
    let defined = |line: &str| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    header.lines().filter_map(defined).collect()
}

/// An instruction of classic BPF.
type Step = (u16, u8, u8, u32);

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u64 = 1;
const X86_64: u32 = 0xc000_003e;

/// A profile as a program for the kernel. Names that this architecture lacks are left out, as runtimes leave them out. The
/// first rule of a system call whose conditions hold decides. Calls of other architectures get the profile's default.
pub(super) fn compiled(profile: &Value, rules: &[Value], numbers: &BTreeMap<String, u32>) -> Result<Vec<u8>> {
    let default = action(&profile["defaultAction"], &profile["defaultErrnoRet"])?;
    let mut bodies: BTreeMap<u32, Vec<Step>> = BTreeMap::new();
    for rule in rules {
        let mut body = conditions(&rule["args"])?;
        body.push((RETURN, 0, 0, action(&rule["action"], &rule["errnoRet"])?));
        for name in rule["names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Some(number) = numbers.get(name) {
                bodies.entry(*number).or_default().extend(&body);
            }
        }
    }
    let mut steps = vec![(LOAD, 0, 0, 4), (JUMP_IF_EQUAL, 1, 0, X86_64), (RETURN, 0, 0, default), (LOAD, 0, 0, 0)];
    for (number, body) in bodies {
        let past = u8::try_from(body.len() + 1).context("a system call with too many rules")?;
        steps.push((JUMP_IF_EQUAL, 0, past, number));
        steps.extend(body);
        steps.push((RETURN, 0, 0, default));
    }
    steps.push((RETURN, 0, 0, default));
    let bytes = |(code, yes, no, value): &Step| {
        code.to_ne_bytes().into_iter().chain([*yes, *no]).chain(value.to_ne_bytes()).collect::<Vec<_>>()
    };
    Ok(steps.iter().flat_map(bytes).collect())
}

fn action(action: &Value, error: &Value) -> Result<u32> {
    match action.as_str() {
        Some("SCMP_ACT_ALLOW") => Ok(ALLOW),
        Some("SCMP_ACT_ERRNO") => Ok(ERRNO | u32::try_from(error.as_u64().unwrap_or(EPERM))?),
        _ => bail!("an action of a filter that is not known: {action}"),
    }
}

/// The lower and the upper half of an argument.
#[expect(clippy::cast_possible_truncation, reason = "that is what a half is")]
fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// Conditions on arguments of a system call. If one does not hold, the rule's last instruction is jumped over, which comes
/// after these.
fn conditions(arguments: &Value) -> Result<Vec<Step>> {
    /// Stands for the way past the rule until the rule's length is known.
    const FAILS: u8 = u8::MAX;
    let mut steps: Vec<Step> = Vec::new();
    for argument in arguments.as_array().into_iter().flatten() {
        let number = |name: &str| argument[name].as_u64().unwrap_or(0);
        let at = u32::try_from(16 + 8 * number("index"))?;
        let (low, high) = halves(number("value"));
        match argument["op"].as_str() {
            Some("SCMP_CMP_EQ") => {
                steps.extend([(LOAD, 0, 0, at), (JUMP_IF_EQUAL, 0, FAILS, low)]);
                steps.extend([(LOAD, 0, 0, at + 4), (JUMP_IF_EQUAL, 0, FAILS, high)]);
            }
            Some("SCMP_CMP_NE") => {
                steps.extend([(LOAD, 0, 0, at), (JUMP_IF_EQUAL, 0, 2, low)]);
                steps.extend([(LOAD, 0, 0, at + 4), (JUMP_IF_EQUAL, FAILS, 0, high)]);
            }
            Some("SCMP_CMP_MASKED_EQ") => {
                let (wanted_low, wanted_high) = halves(number("valueTwo"));
                steps.extend([(LOAD, 0, 0, at), (AND, 0, 0, low), (JUMP_IF_EQUAL, 0, FAILS, wanted_low)]);
                steps.extend([(LOAD, 0, 0, at + 4), (AND, 0, 0, high), (JUMP_IF_EQUAL, 0, FAILS, wanted_high)]);
            }
            _ => bail!("a condition of a filter that is not known: {argument}"),
        }
    }
    let length = steps.len();
    for (place, (_, yes, no, _)) in steps.iter_mut().enumerate() {
        for way in [yes, no].into_iter().filter(|way| **way == FAILS) {
            *way = u8::try_from(length - place).context("a rule with too many conditions")?;
        }
    }
    Ok(steps)
}
