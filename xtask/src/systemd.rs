//! `cargo xtask systemd`: the program in units of systemd, with control groups of version 2.
//!
//! Boots Debian's kernel and systemd under qemu, as `cargo xtask kernels` does, and starts the unit that docs/platforms.md
//! shows, the same with other settings, and scopes. The unit is read from the page; only its command is a shorter one.
//! What came out becomes a table of that page.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::kernels::{self, Here, Lab, X86_64};
use crate::{page, root, target};

const PAGE: &str = "docs/platforms.md";
const TABLE: &str = "systemd";

/// The packages of the machine beside its kernel.
const PACKAGES: [&str; 7] = ["systemd", "systemd-sysv", "libnss-systemd", "bash", "coreutils", "mount", "util-linux"];

/// The kernel that is booted, by its name there.
const KERNEL: &str = "6.12";

/// How a run is started.
enum By {
    /// The unit of the page.
    Page,
    /// A unit with these settings alone.
    Unit,
    /// A scope, by `systemd-run`.
    Scope,
    /// A scope of an ordinary user's own manager, by `systemd-run --user`.
    UserScope,
}

/// A run, and what must come of it.
struct Trial {
    name: &'static str,
    by: By,
    /// Settings of the unit, those of the page's apart.
    settings: &'static [&'static str],
    /// Arguments after `rollcage run`.
    arguments: &'static str,
    status: i32,
    /// Whether the digest must be that of this machine.
    same_digest: bool,
    /// What `memory.max` and `cpu.max` of the run's own group must be.
    limits: &'static str,
    /// The kinds of faults, and then the beginning of every warning and error, in order.
    says: &'static [&'static str],
}

/// The run whose digest is compared.
const CARTPOLE: &str = "cartpole --envs 8 --episodes 20 --seed 7";

const TRIALS: [Trial; 11] = [
    Trial {
        name: "page",
        by: By::Page,
        settings: &[],
        arguments: "cartpole --envs 8 --episodes 20 --seed 7 --max-memory 1GiB --max-cpu 1.5 --require-sandbox",
        status: 0,
        same_digest: true,
        limits: "1073741824 150000 100000",
        says: &["warning: 8 envs may use"],
    },
    Trial {
        name: "scope",
        by: By::Scope,
        settings: &["Delegate=yes"],
        arguments: "cartpole --envs 8 --episodes 20 --seed 7 --max-memory 1GiB --max-cpu 0.5",
        status: 0,
        same_digest: true,
        limits: "1073741824 50000 100000",
        says: &["warning: 8 envs may use"],
    },
    Trial {
        name: "user-scope",
        by: By::UserScope,
        settings: &["Delegate=yes"],
        arguments: "cartpole --envs 8 --episodes 20 --seed 7 --max-memory 1GiB --max-cpu 0.5 --require-sandbox",
        status: 0,
        same_digest: true,
        limits: "1073741824 50000 100000",
        says: &["warning: 8 envs may use"],
    },
    Trial {
        name: "hungry",
        by: By::Unit,
        settings: &["Delegate=yes"],
        arguments: "/trial/guests/memory.wasm --envs 2 --episodes 2 --seed 7 --memory 1GiB --max-memory 200MiB --max-cpu 2",
        status: 1,
        same_digest: false,
        limits: "209715200 200000 100000",
        says: &["fault `signalled`", "warning: 2 envs may use", "error: not all was played: env"],
    },
    Trial {
        name: "bounded",
        by: By::Unit,
        settings: &["MemoryMax=300M", "TasksMax=64"],
        arguments: CARTPOLE,
        status: 0,
        same_digest: true,
        limits: "",
        says: &["warning: 8 envs may use"],
    },
    Trial {
        name: "few-tasks",
        by: By::Unit,
        settings: &["TasksMax=8"],
        arguments: CARTPOLE,
        status: 1,
        same_digest: false,
        limits: "",
        says: &["warning: this run has 10 processes", "error: not all was played"],
    },
    Trial {
        name: "not-delegated",
        by: By::Unit,
        settings: &["DynamicUser=yes"],
        arguments: "cartpole --envs 8 --episodes 20 --seed 7 --max-memory 1GiB",
        status: 2,
        same_digest: false,
        limits: "",
        says: &["error: `--max-memory`: the control group"],
    },
    Trial {
        name: "no-executable-memory",
        by: By::Page,
        settings: &["MemoryDenyWriteExecute=yes"],
        arguments: CARTPOLE,
        status: 1,
        same_digest: false,
        limits: "",
        says: &[
            "fault `create_failed`",
            "error: not all was played: env 0 (instance 2), episode 0, step 0: create_failed: the system lets no memory",
        ],
    },
    Trial {
        name: "interpreted",
        by: By::Page,
        settings: &["MemoryDenyWriteExecute=yes"],
        arguments: "cartpole --envs 8 --episodes 20 --seed 7 --backend pulley",
        status: 0,
        same_digest: true,
        limits: "",
        says: &[],
    },
    Trial {
        name: "no-namespaces",
        by: By::Page,
        settings: &["RestrictNamespaces=yes"],
        arguments: "cartpole --envs 8 --episodes 20 --seed 7 --require-sandbox",
        status: 0,
        same_digest: true,
        limits: "",
        says: &["warning: the sandbox layer `namespaces` is not active"],
    },
    // As by `systemctl stop`: rollcage alone hears SIGTERM, and ends its envs.
    Trial {
        name: "stopped",
        by: By::Page,
        settings: &["TimeoutStartSec=20"],
        arguments: "cartpole --envs 8 --episodes 100000000 --seed 7",
        status: 130,
        same_digest: false,
        limits: "",
        says: &[],
    },
];

/// Boots, starts everything, and writes the table.
pub(crate) fn systemd() -> Result<()> {
    let base = target()?.join("kernels");
    let here = Here::ready(&base)?;
    let lab = Lab::ready(&base, &X86_64, &here)?;
    let linux = kernels::kernel_of(&base, KERNEL)?;
    let cache = lab.cache(&linux)?;
    let image = image(&base, &here, &lab, &cache)?;
    let report = lab.boot("systemd.report", &linux, &image, "systemd", "systemd.unit=trial.target")?;
    let report = String::from_utf8_lossy(&report).replace('\r', "");
    if !report.contains("\n@@ done") {
        bail!("the report ends too early; it is in {}", base.display());
    }
    let mut wrong = Vec::new();
    let mut table = String::from(
        "| how it is started | settings | arguments | exit status | digest | the run's own control group | what it says |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for trial in &TRIALS {
        let met = Met::of(trial, &report).with_context(|| format!("the report has no `{}`", trial.name))?;
        wrong.extend(met.differences(trial, &here));
        table.push_str(&met.row(trial, &here));
    }
    let version = report.lines().find_map(|line| line.strip_prefix("@@ version ")).unwrap_or_default();
    let version = version.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    page::put(PAGE, TABLE, &format!("{version}, on Linux {KERNEL} with control groups of version 2:\n\n{table}"))?;
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

// ── The machine ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// The file system: Debian's systemd, the program, guests, the code cache, and the units.
fn image(base: &Path, here: &Here, lab: &Lab<'_>, cache: &Path) -> Result<PathBuf> {
    let machine = kernels::unpacked(base, "systemd", &X86_64, &PACKAGES)?;
    let folder = base.join("systemd.root");
    kernels::fresh(&folder)?;
    crate::run(std::process::Command::new("cp").args(["-a", "--reflink=auto"]).arg(machine.join(".")).arg(&folder))?;
    // Without its libraries: those of the machine are as new as those that the program was built against, or newer.
    kernels::copy_program(&here.program, &folder.join("bin/rollcage"))?;
    std::fs::create_dir_all(folder.join("trial/guests"))?;
    lab.copy_trial(&folder.join("trial"))?;
    lab.unpack(cache, &folder.join("trial"))?;
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().context("a file at the root")?)?;
        std::fs::write(file, text).with_context(|| name.to_owned())
    };
    write(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/run/user/1000:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    )?;
    write("etc/group", "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n")?;
    write("etc/nsswitch.conf", "passwd: files systemd\ngroup: files systemd\n")?;
    write("etc/machine-id", "")?;
    // Nothing is to be updated at the first boot.
    write("etc/.updated", "")?;
    write("var/.updated", "")?;
    write("etc/systemd/system/trial.target", "[Unit]\nRequires=trial.service\nAfter=trial.service\n")?;
    write(
        "etc/systemd/system/trial.service",
        "[Service]\nType=oneshot\nExecStart=/bin/bash /trial/trial.sh\nStandardOutput=file:/dev/ttyS1\n\
         TimeoutStartSec=infinity\nExecStopPost=/bin/systemctl --force --force poweroff\n",
    )?;
    write("trial/trial.sh", &std::fs::read_to_string(root().join("xtask/systemd/trial.sh"))?)?;
    let page_unit = page_unit()?;
    let mut units = String::new();
    for trial in &TRIALS {
        let Trial { name, settings, arguments, .. } = trial;
        let command = format!("/bin/rollcage run {arguments} --json");
        match trial.by {
            By::Scope | By::UserScope => {
                let is_users = matches!(trial.by, By::UserScope);
                // The user has a cache of its own.
                let (kind, user, cache) = match is_users {
                    true => ("user-scope", " --user", "/run/user/1000/cache"),
                    false => ("scope", "", "/trial/cache"),
                };
                units.push_str(&format!("{kind} {name}\n"));
                let properties: String = settings.iter().map(|setting| format!(" --property {setting}")).collect();
                let script = format!(
                    "ROLLCAGE_CACHE={cache} exec systemd-run -q{user} --scope --unit {name}{properties} {command}\n"
                );
                write(&format!("trial/{name}.sh"), &script)?;
                if is_users {
                    // The scope begins within the user's manager: without D-Bus that manager takes no process from elsewhere.
                    let unit = format!(
                        "[Service]\nType=oneshot\nExecStart=/bin/bash /trial/{name}.sh\n\
                         StandardOutput=file:/run/trial/{name}.out\nStandardError=file:/run/trial/{name}.err\n"
                    );
                    write(&format!("etc/systemd/user/{name}.service"), &unit)?;
                }
            }
            By::Page | By::Unit => {
                units.push_str(&format!("unit {name}\n"));
                let unit = if matches!(trial.by, By::Page) {
                    page_unit.as_str()
                } else {
                    "[Service]\nEnvironment=ROLLCAGE_CACHE=/trial/cache\n"
                };
                let unit = format!(
                    "{unit}\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=\nExecStart={command}\n\
                     StandardOutput=file:/run/trial/{name}.out\nStandardError=file:/run/trial/{name}.err\n{}\n",
                    settings.join("\n")
                );
                write(&format!("etc/systemd/system/{name}.service"), &unit)?;
            }
        }
    }
    write("trial/units.txt", &units)?;
    std::os::unix::fs::symlink("usr/lib/systemd/systemd", folder.join("init"))?;
    lab.packed(&folder)
}

/// The unit that the page shows.
fn page_unit() -> Result<String> {
    let page = std::fs::read_to_string(root().join(PAGE))?;
    let unit = page.split_once("```ini\n").and_then(|(_, rest)| rest.split_once("```"));
    Ok(unit.with_context(|| format!("{PAGE} shows no unit"))?.0.to_owned())
}

// ── What came out ───────────────────────────────────────────────────────────────────────────────────────────────────

/// What came of a trial.
struct Met {
    status: i32,
    digest: Option<String>,
    limits: String,
    /// The faults, warnings and errors.
    said: Vec<String>,
}

impl Met {
    /// From the report.
    fn of(trial: &Trial, report: &str) -> Option<Met> {
        let (head, rest) = report.split_once(&format!("\n@@ {} ", trial.name))?.1.split_once('\n')?;
        let (out, rest) = rest.split_once("@@ limits ")?;
        let (limits, rest) = rest.split_once("\n@@ said\n")?;
        let said = rest.split("\n@@ ").next()?;
        let said = said.lines().filter(|line| line.starts_with("warning: ") || line.starts_with("error: "));
        let report = kernels::json(out);
        let faults = report.as_ref().and_then(|report| report["faults"].as_array()).into_iter().flatten();
        let mut faults: Vec<String> =
            faults.filter_map(|fault| fault["kind"].as_str()).map(|kind| format!("fault `{kind}`")).collect();
        faults.dedup();
        Some(Met {
            status: head.trim().parse().ok()?,
            digest: report.as_ref().and_then(|report| report["digest"].as_str()).map(str::to_owned),
            limits: limits.trim().to_owned(),
            said: faults.into_iter().chain(said.map(str::to_owned)).collect(),
        })
    }

    fn has_same_digest(&self, here: &Here) -> bool {
        self.digest.as_deref().is_some_and(|digest| here.cartpole().ends_with(digest))
    }

    /// What is not as it must be.
    fn differences(&self, trial: &Trial, here: &Here) -> Vec<String> {
        let says = self.said.len() == trial.says.len()
            && self.said.iter().zip(trial.says).all(|(line, begin)| line.starts_with(begin));
        let checks = [
            (self.status == trial.status, format!("status {}", self.status)),
            (self.has_same_digest(here) == trial.same_digest, format!("digest {:?}", self.digest)),
            (self.limits == trial.limits, format!("limits `{}`", self.limits)),
            (says, format!("it says {:?}", self.said)),
        ];
        checks.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| format!("{}: {what}", trial.name)).collect()
    }

    fn row(&self, trial: &Trial, here: &Here) -> String {
        let how = match trial.by {
            By::Page => "the unit below",
            By::Unit => "a unit",
            By::Scope => "`systemd-run --scope`",
            By::UserScope => "`systemd-run --user --scope`",
        };
        // `memory.max` has one number, `cpu.max` two.
        let limits = self.limits.split_once(' ');
        let limits =
            limits.map(|(memory, time)| format!("`memory.max` {memory}, `cpu.max` {time}")).unwrap_or_default();
        let settings: Vec<String> = trial.settings.iter().map(|setting| format!("`{setting}`")).collect();
        let digest = match &self.digest {
            Some(_) if self.has_same_digest(here) => "same",
            Some(_) if trial.same_digest => "**other**",
            _ => "",
        };
        // A line goes on after its first sentence with what to do.
        let said: Vec<String> =
            self.said.iter().map(|line| line.split("; ").next().unwrap_or(line).replace('|', "\\|")).collect();
        format!(
            "| {how} | {} | `{}` | {} | {digest} | {} | {} |\n",
            settings.join(" "),
            trial.arguments.replace("/trial/guests/", ""),
            self.status,
            limits,
            said.join(". ")
        )
    }
}
