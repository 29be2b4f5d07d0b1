//! Ports and simulators of envs, by real processes: GNU Go, a small RoboCup-like server, hosts that are killed.
#![expect(clippy::print_stderr, reason = "what was skipped, and how much was looked at, is for people")]

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rollcage::record::writer::Record;
use rollcage::{Autoreset, Error, Fault, FaultKind, Grants, Limits, VecEnv};
use rollcage_tests::{Process, Rollcage, Scratch, discrete, eventually, program, root, shipped, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Whether GNU Go is here; loudly, if it is not.
pub(crate) fn gnugo() -> bool {
    let there = Path::new("/usr/games/gnugo").exists();
    if !there {
        eprintln!("SKIPPED: /usr/games/gnugo is not installed (apt-get install gnugo): no game was played");
    }
    there
}

/// The processes of this machine whose program's path this is.
fn running(program: &Path) -> Vec<Process> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.map(Process)
        .filter(|process| std::fs::read_link(format!("/proc/{}/exe", process.0)).is_ok_and(|exe| exe == *program))
        .collect()
}

/// A copy of a program under a name of the test's own, so that other tests' processes are told from it.
fn own_copy(scratch: &Scratch, of: &Path) -> PathBuf {
    let copy = scratch.folder().join(of.file_name().unwrap());
    std::fs::copy(of, &copy).unwrap();
    copy
}

fn soccer(scratch: &Scratch) -> PathBuf {
    own_copy(scratch, Path::new(env!("CARGO_BIN_EXE_soccer")))
}

/// Grants for envs that have a soccer server each.
fn soccer_grants(server: &Path, range: &str) -> String {
    format!(
        "[[lease]]\nname = 'agent'\nrange = '{range}'\n\n[[service]]\nname = 'soccer'\n\
         command = ['{}', '--port', '{{agent}}']\nready = {{ tcp = '127.0.0.1:{{agent}}' }}\nstop-timeout = '1s'\n\n\
         [grant]\ntcp-connect = ['127.0.0.1:{{agent}}']\n",
        server.display()
    )
}

fn kill(process: u32) {
    let _ = kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), Signal::KILL);
}

/// Nobody holds a lease on these ports.
fn assert_free(lo: u16, hi: u16) {
    let names = std::fs::read_to_string("/proc/net/unix").unwrap();
    let held: Vec<&str> = names
        .lines()
        .filter(|line| {
            let port = line.rsplit_once("@rollcage/lease/").and_then(|(_, port)| port.parse::<u16>().ok());
            port.is_some_and(|port| (lo..=hi).contains(&port))
        })
        .collect();
    assert!(held.is_empty(), "{held:?}");
}

#[test]
fn eight_games_against_gnu_go_leave_none_behind() {
    if !gnugo() {
        return;
    }
    let scratch = Scratch::new("services-go");
    let server = own_copy(&scratch, Path::new("/usr/games/gnugo"));
    let text = std::fs::read_to_string(root().join("guest-envs/go/grants.toml")).unwrap();
    let text = text.replace("/usr/games/gnugo", server.to_str().unwrap()).replace("6200-6299", "18000-18049");
    let grants = scratch.file("grants.toml", text);
    let grants = format!("--grants={}", grants.display());
    let arguments = ["run", "go", "--envs=8", "--episodes=8", "--seed=3", &grants];
    let (status, object) = Rollcage::json(arguments);
    assert_eq!((status, &object["episodes"], &object["faults_total"]), (Some(0), &json!(8), &json!(0)), "{object}");
    // Recorded as the number that it was.
    assert!(object["config"]["port"].as_u64().is_some_and(|port| (18000..18050).contains(&port)), "{object}");
    assert_eq!(running(&server), []);
    assert_free(18000, 18049);

    // The same under kill -9 of the host.
    let mut host = Rollcage::command().args(["run", "go", "--envs=4", "--episodes=1000", &grants]).spawn().unwrap();
    eventually("four games are on", 60, || running(&server).len() == 4);
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("no game is on", 20, || running(&server).is_empty());
    eventually("the keepers are gone", 20, || {
        !std::fs::read_to_string("/proc/net/unix").unwrap().contains("@rollcage/lease/1800")
    });
}

#[test]
fn without_its_grants_go_says_what_is_missing() {
    let ran = Rollcage::run(["run", "go", "--seed=1"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.starts_with("error: plugin `go`: needs a TCP connection, which is not granted ("), "{ran:?}");
}

#[test]
fn the_story_of_the_soccer_agents() {
    let scratch = Scratch::new("services-soccer");
    let server = soccer(&scratch);
    let text = soccer_grants(&server, "18100-18149") + "\n[config]\nserver_port = { lease = 'agent' }\n";
    let grants = scratch.file("grants.toml", text);
    let config = root().join("guest-envs/short-kick/example.yaml");
    let (status, object) = Rollcage::json([
        "run",
        "short-kick",
        "--envs=4",
        "--episodes=8",
        "--seed=1",
        "--grants",
        grants.to_str().unwrap(),
        "--config-file",
        config.to_str().unwrap(),
    ]);
    assert_eq!((status, &object["episodes"], &object["faults_total"]), (Some(0), &json!(8), &json!(0)), "{object}");
    assert_eq!(running(&server), []);
    assert_free(18100, 18149);
}

/// Envs of `mirror` with a soccer server each, by the library.
fn mirrors(envs: usize, grants: &str) -> VecEnv {
    let grants = Grants::from_toml(grants, "grants.toml".as_ref()).unwrap();
    let limits = Limits::default().call_timeouts(Duration::from_secs(10));
    shipped("mirror").envs(envs).seed(5).limits(limits).grants(grants).build().unwrap()
}

#[test]
fn n_envs_have_exactly_n_services_through_faults_and_restarts() {
    let scratch = Scratch::new("services-faults");
    let server = soccer(&scratch);
    let grants = soccer_grants(&server, "18150-18199") + "\n[config]\nport = { lease = 'agent' }\n";
    let mut envs = mirrors(3, &grants);
    envs.reset(None).unwrap();
    let before = running(&server);
    assert_eq!(before.len(), 3);
    let ports: Vec<u16> = (0..3).map(|env| envs.ports(env)[0].1).collect();
    assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 3);
    for (env, port) in ports.iter().enumerate() {
        let seen = envs.call(env, "see", &json!({})).unwrap();
        assert_eq!(seen["config"]["port"], json!(port), "{seen}");
        assert_eq!(envs.config_of(env).unwrap().value["port"], json!(port));
    }
    // A worker dies: its service is started anew, on the same port. The others are not touched.
    kill(envs.pid(1).unwrap());
    envs.step(&discrete(&[0, 0, 0])).unwrap();
    envs.step(&discrete(&[0, 0, 0])).unwrap();
    assert_eq!((envs.instance(0), envs.instance(1)), (Some(0), Some(1)));
    let after = running(&server);
    assert_eq!((after.len(), after.iter().filter(|process| before.contains(process)).count()), (3, 2));
    assert_eq!(envs.ports(1)[0].1, ports[1]);
    // A keeper dies: its service and its port go with it; the env's next fault starts both.
    let keeper = envs.keeper_pid(2).unwrap();
    kill(keeper);
    eventually("the service died with its keeper", 10, || running(&server).len() == 2);
    envs.step(&discrete(&[0, 0, 0])).unwrap();
    envs.step(&discrete(&[0, 0, 0])).unwrap();
    assert_eq!((running(&server).len(), envs.faults().first()[1].kind), (3, FaultKind::KeeperLost));
    assert_ne!(envs.keeper_pid(2), Some(keeper));
    drop(envs);
    assert_eq!(running(&server), []);
    assert_free(18150, 18199);
}

/// A keeper that was killed holds nothing any more: another host has its port, and the env must not go on with it untold.
#[test]
fn a_killed_keeper_is_told_in_the_next_call_and_in_one_that_is_under_way() {
    let scratch = Scratch::new("services-keeper");
    let server = soccer(&scratch);
    let grants = soccer_grants(&server, "18230-18249") + "\n[config]\nport = { lease = 'agent' }\n";
    let mut envs = mirrors(2, &grants);
    envs.reset(None).unwrap();
    let lose = |envs: &VecEnv| {
        let keeper = envs.keeper_pid(1).unwrap();
        kill(keeper);
        eventually("the keeper is reaped", 20, || !Process(keeper).exists());
    };
    let assert_lost = |fault: &Fault| {
        assert_eq!((fault.env, fault.kind), (1, FaultKind::KeeperLost), "{fault}");
        assert!(fault.message.starts_with("the keeper was killed by signal 9 (SIGKILL): the env's ports"), "{fault}");
    };
    // Between calls; a stranger has the port by the time it is told.
    lose(&envs);
    let at = ("127.0.0.1", envs.ports(1)[0].1);
    let mut taken = None;
    eventually("the port is anybody's", 20, || {
        taken = std::net::TcpListener::bind(at).ok();
        taken.is_some()
    });
    let batch = envs.step(&discrete(&[0, 0])).unwrap();
    assert!(batch.truncated[1] && !batch.truncated[0] && batch.faults[0].is_none());
    assert_lost(batch.faults[1].as_deref().unwrap());
    envs.step(&discrete(&[0, 0])).unwrap();
    let port = envs.ports(1)[0].1;
    assert_ne!(port, at.1);
    assert_eq!(envs.call(1, "see", &json!({})).unwrap()["config"]["port"], json!(port));
    // While a step is under way, and the worker says nothing.
    let worker = Pid::from_raw(envs.pid(1).unwrap().try_into().unwrap()).unwrap();
    kill_process(worker, Signal::STOP).unwrap();
    envs.step_async(&discrete(&[0, 0])).unwrap();
    lose(&envs);
    let began = Instant::now();
    let batch = envs.step_wait().unwrap();
    assert_lost(batch.faults[1].as_deref().unwrap());
    assert!(began.elapsed() < Duration::from_secs(8), "the step's own deadline is 10 s");
    envs.step(&discrete(&[0, 0])).unwrap();
    // In a conversation, and in a reset.
    lose(&envs);
    let error = envs.call(1, "see", &json!({})).unwrap_err();
    let Error::Fault(fault) = error else { panic!("{error:?}") };
    assert_lost(&fault);
    envs.step(&discrete(&[0, 0])).unwrap();
    lose(&envs);
    assert_lost(envs.reset(None).unwrap().faults[1].as_deref().unwrap());
    assert_eq!((envs.instance(0), envs.instance(1)), (Some(0), Some(4)));
    assert_eq!(running(&server).len(), 2);
    // Two hosts, and each says of its own.
    drop(envs);
    assert_eq!(running(&server), []);
}

#[test]
fn a_killed_keeper_of_the_run_ends_the_run() {
    let grants = "[[lease]]\nname = 'a'\nrange = '18250-18259'\nper = 'run'\n";
    let mut envs = mirrors(2, grants);
    envs.reset(None).unwrap();
    let children = Process::own().children();
    let keepers: Vec<_> = children.into_iter().filter(|child| child.title().starts_with("of ")).collect();
    let [keeper] = keepers[..] else { panic!("{keepers:?}") };
    kill(keeper.0);
    eventually("the keeper is reaped", 20, || !keeper.exists());
    for _ in 0..2 {
        let error = envs.step(&discrete(&[0, 0])).unwrap_err().to_string();
        assert!(error.starts_with("keeping what the run shares: its keeper has ended"), "{error}");
    }
    envs.close();
}

/// Two vector envs of one process with one grants file have env 0, instance 0 and a service `a` each.
#[test]
fn private_folders_of_two_vector_envs_with_one_grants_file_are_two() {
    let scratch = Scratch::new("services-folders");
    let grants = "[[service]]\nname = 'a'\ncommand = ['/bin/sh', '-c', 'echo {workdir}; : > mine; pwd; exec sleep 600']\n\
                  ready = { line = '^/' }\nstop-timeout = '100ms'\n";
    let make = || {
        let grants = Grants::from_toml(grants, "grants.toml".as_ref()).unwrap();
        let envs = shipped("mirror").seed(5).grants(grants).temporary(scratch.folder()).build().unwrap();
        eventually("the service has printed twice", 20, || envs.services_log(0).unwrap().lines().count() == 2);
        let log = envs.services_log(0).unwrap();
        let folders: Vec<PathBuf> = log.lines().map(|line| line.strip_prefix("a: ").unwrap().into()).collect();
        assert!(folders[0] == folders[1] && folders[0].starts_with(scratch.folder()), "{log}");
        (envs, folders[0].clone())
    };
    let ((first, one), (second, other)) = (make(), make());
    assert_ne!(one, other);
    assert!(one.join("mine").exists() && other.join("mine").exists());
    drop(second);
    assert!(one.join("mine").exists() && !other.exists(), "each removes its own");
    drop(first);
    assert!(!one.exists());
}

#[test]
fn a_service_that_does_not_come_up_is_told() {
    let grants = "[[service]]\nname = 'none'\ncommand = ['/bin/sh', '-c', 'echo I cannot; exit 3']\n\
                  ready = { line = 'ready', timeout = '5s' }\n";
    let scratch = Scratch::new("services-none");
    let grants = scratch.file("grants.toml", grants);
    let ran = Rollcage::run(["run", "mirror", "--seed=1", "--grants", grants.to_str().unwrap()]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains("error: service `none`: it ended with status 3 before it was ready"), "{ran:?}");
    assert!(ran.stderr.contains("hint: it printed: none: I cannot"), "{ran:?}");
}

#[test]
fn a_service_sees_what_its_file_says_and_nothing_else() {
    let scratch = Scratch::new("services-sees");
    let out = scratch.folder().join("seen");
    let script = format!(
        "env | sort; pwd; ls -A; ls /proc/self/fd; echo {{env}} {{instance}} {{seed}} > {}; echo up; exec sleep 600",
        out.display()
    );
    let grants = format!(
        "[[service]]\nname = 'seer'\ncommand = ['/bin/sh', '-c', '{script}']\nenv = {{ ONLY = 'this' }}\n\
         ready = {{ line = '^up$' }}\nstop-timeout = '100ms'\n\n[[service]]\nname = 'shared'\nper = 'run'\n\
         command = ['/bin/sh', '-c', 'echo shared; exec sleep 600']\nready = {{ delay = '50ms' }}\nstop-timeout = '100ms'\n"
    );
    let envs = mirrors(2, &grants);
    let log = envs.services_log(1).unwrap();
    let lines: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("seer: ")).collect();
    assert!(lines.contains(&"ONLY=this") && !log.contains("HOME=") && !log.contains("CARGO"), "{log}");
    let folder = lines.iter().find(|line| line.starts_with('/')).unwrap().to_string();
    assert!(Path::new(&folder).is_dir(), "{log}");
    assert!(envs.run_services_log().unwrap().contains("shared: shared"));
    assert!(["0 0 5\n", "1 0 6\n"].contains(&std::fs::read_to_string(&out).unwrap().as_str()));
    drop(envs);
    assert!(!Path::new(&folder).exists(), "{folder}");
}

#[test]
fn an_exhausted_range_names_who_holds_it() {
    let grants = "[[lease]]\nname = 'a'\nrange = '18200-18201'\n";
    let envs = mirrors(2, grants);
    let holders: Vec<u32> = (0..2).map(|env| envs.keeper_pid(env).unwrap()).collect();
    let scratch = Scratch::new("services-exhausted");
    let grants = scratch.file("grants.toml", grants);
    let ran = within(60, Rollcage::command().args(["run", "mirror", "--seed=1", "--grants", grants.to_str().unwrap()]));
    assert_eq!(ran.status, Some(1), "{ran:?}");
    for holder in holders {
        assert!(ran.stderr.contains(&format!("by process {holder}")), "{ran:?}");
    }
}

/// A trainer that forks without exec (`SubprocVecEnv`, `DataLoader`) leaves every descriptor of its own in its children.
#[test]
fn a_host_that_forked_before_it_was_killed_leaves_nothing() {
    let scratch = Scratch::new("services-forked");
    let server = soccer(&scratch);
    let grants = scratch.file("grants.toml", soccer_grants(&server, "18210-18229"));
    let mut host = Command::new(env!("CARGO_BIN_EXE_forker"));
    let mut host = host.arg(program()).arg(&grants).arg("2").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines().map(Result::unwrap);
    let numbers = |line: String| -> Vec<u32> { line.split(' ').map(|word| word.parse().unwrap()).collect() };
    let child = numbers(lines.next().unwrap())[1];
    let envs: Vec<Vec<u32>> = lines.by_ref().take(2).map(numbers).collect();
    assert_eq!(running(&server).len(), 2);
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("services, keepers and workers are gone", 20, || {
        // KEEPER PORT WORKER
        running(&server).is_empty() && envs.iter().all(|env| !is_ours(env[0]) && !is_ours(env[2]))
    });
    assert_free(18210, 18229);
    assert!(Process(child).exists(), "the child that the host forked sleeps on");
    kill(child);
}

/// Whether an id is that of a process of rollcage's.
fn is_ours(id: u32) -> bool {
    std::fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.starts_with(b"rollcage"))
}

/// The story's first pain: a class variable that counted occupied ports and could not.
#[test]
fn pain_the_ports_that_could_not_be_counted() {
    kill_hosts_at_random(60, 18300);
}

#[test]
#[ignore = "long: five minutes; `cargo xtask long` runs it"]
fn pain_the_ports_that_could_not_be_counted_for_five_minutes() {
    kill_hosts_at_random(300, 18400);
}

/// Four hosts at once, eight leased envs each with a server that listens on its port; one after the other is killed and
/// started again. No port has two listeners, none stays held, and no server survives.
fn kill_hosts_at_random(seconds: u64, lo: u16) {
    let scratch = Scratch::new(&format!("services-ports-{lo}"));
    let server = soccer(&scratch);
    // More than thirty-two: those of a killed host take a moment to come free.
    let grants = scratch.file("grants.toml", soccer_grants(&server, &format!("{lo}-{}", lo + 99)));
    let start = || -> Child {
        let mut command = Rollcage::command();
        command.args(["run", "mirror", "--envs=8", "--steps=100000000", "--grants"]).arg(&grants);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut hosts: Vec<Child> = (0..4).map(|_| start()).collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut random = u64::from(std::process::id()) | 1;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let (mut kills, mut looks) = (0, 0);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200 + draw(800)));
        // Whoever listens, listens alone: one process for each port.
        let mut ports: BTreeMap<String, u32> = BTreeMap::new();
        for process in running(&server) {
            let line = std::fs::read(format!("/proc/{}/cmdline", process.0)).unwrap_or_default();
            let port = String::from_utf8_lossy(&line).split('\0').nth(2).unwrap_or_default().to_owned();
            if process.state().is_some_and(|state| state != 'Z') && !port.is_empty() {
                *ports.entry(port).or_default() += 1;
            }
        }
        assert!(ports.values().all(|count| *count == 1), "{ports:?}");
        looks += ports.len();
        let one = usize::try_from(draw(4)).unwrap();
        if let Some(status) = hosts[one].try_wait().unwrap() {
            let said = hosts[one].stderr.take().map(|stderr| std::io::read_to_string(stderr).unwrap());
            panic!("a host ended by itself, {status}: {said:?}");
        }
        hosts[one].kill().unwrap();
        hosts[one].wait().unwrap();
        hosts[one] = start();
        kills += 1;
    }
    for mut host in hosts {
        host.kill().unwrap();
        host.wait().unwrap();
    }
    eprintln!("{kills} hosts killed, {looks} ports looked at");
    assert!(kills > 10 && looks > 100, "{kills} kills, {looks} ports");
    eventually("no service survives", 30, || running(&server).is_empty());
    eventually("no port stays held", 30, || {
        !std::fs::read_to_string("/proc/net/unix").unwrap().contains(&format!("@rollcage/lease/{}", lo / 100))
    });
}

/// The story's third pain: a global `setup()` that spawned children never ran.
#[test]
fn pain_the_config_that_was_not_there() {
    // It reaches every env, and what each sees is the same, however and from wherever it was started.
    let config = json!({"note": "set up once", "number": 2.5});
    let see = |envs: &mut VecEnv| -> Vec<Value> {
        (0..envs.len()).map(|env| envs.call(env, "see", &json!({})).unwrap()).collect()
    };
    let make = |envs: usize| shipped("mirror").envs(envs).config(&config).unwrap().build().unwrap();
    let mut first = see(&mut make(4));
    assert_eq!((&first[0]["config"]["note"], &first[0]["variables"]), (&json!("set up once"), &json!({})));
    assert_eq!(first[0]["arguments"], json!([]));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let config = config.clone();
            std::thread::spawn(move || {
                let mut envs = shipped("mirror").envs(2).config(&config).unwrap().build().unwrap();
                (0..2).map(|env| envs.call(env, "see", &json!({})).unwrap()).collect::<Vec<_>>()
            })
        })
        .collect();
    first.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap()));
    assert!(first.iter().all(|seen| *seen == first[0]), "{first:#?}");
    // A missing one is refused before anything is started.
    let ran = Rollcage::run(["run", "short-kick", "--seed=1", "--grant=tcp-connect=127.0.0.1:3100"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains("server_port"), "{ran:?}");
}

#[test]
fn a_planned_restart_is_no_fault_and_the_same_in_every_mode() {
    let digests: Vec<_> = [Autoreset::NextStep, Autoreset::SameStep]
        .into_iter()
        .map(|mode| {
            let mut envs = shipped("cartpole").envs(2).seed(3).autoreset(mode).recycle_after(2).build().unwrap();
            envs.reset(None).unwrap();
            let mut ended = [0; 2];
            let mut digests = [None, None];
            let mut step = [0u32; 2];
            // The same actions for the same steps of an env, whatever else a mode does between them.
            while digests.iter().any(Option::is_none) {
                let actions: Vec<i64> = step.iter().map(|step| i64::from(step / 3 % 2)).collect();
                let takes: Vec<bool> = (0..2).map(|env| envs.takes_action(env)).collect();
                let batch = envs.step(&discrete(&actions)).unwrap();
                let over: Vec<bool> = (0..2).map(|env| batch.terminated[env] || batch.truncated[env]).collect();
                for env in 0..2 {
                    if takes[env] {
                        step[env] += 1;
                        ended[env] += u32::from(over[env]);
                        if ended[env] == 7 && digests[env].is_none() {
                            digests[env] = Some(envs.digests()[env]);
                        }
                    }
                }
            }
            assert_eq!(envs.faults().total(), 0);
            assert!(envs.instance(0).unwrap() >= 3, "{:?}", envs.instance(0));
            digests
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
    let mut without = shipped("cartpole").recycle_after(1).build().unwrap();
    without.reset(None).unwrap();
    // A reset in the middle of an episode is no boundary.
    without.reset(None).unwrap();
    assert_eq!(without.instance(0), Some(0));
}

/// An instance an episode, recorded: the lists of ended instances are only added to, and all of them are in the recording.
fn an_instance_an_episode(episodes: u32) {
    let scratch = Scratch::new("services-recycled");
    let folder = scratch.folder().join("recording");
    let mut envs = shipped("blackjack")
        .seed(5)
        .autoreset(Autoreset::SameStep)
        .recycle_after(1)
        .record(Record { folder: folder.clone(), embed_plugin: false })
        .build()
        .unwrap();
    envs.reset(None).unwrap();
    // To stick ends an episode in one step.
    for episode in 1..=episodes {
        let batch = envs.step(&discrete(&[0])).unwrap();
        assert!(batch.terminated[0]);
        assert_eq!(envs.instance(0), Some(episode));
    }
    let digest = envs.digest();
    assert_eq!(envs.faults().total(), 0);
    envs.finish_recording().unwrap();
    drop(envs);
    let verified = Rollcage::run(["verify".as_ref(), folder.as_os_str()]);
    assert_eq!(verified.status, Some(0), "{verified:?}");
    let manifest = std::fs::read_to_string(folder.join("rollout.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["digest"], digest.to_string());
    assert_eq!(manifest["totals"]["episodes"], episodes);
}

#[test]
fn hundreds_of_instances_are_in_one_recording() {
    an_instance_an_episode(300);
}

#[test]
#[ignore = "long: a minute; `cargo xtask long` runs it"]
fn twenty_thousand_instances_are_in_one_recording() {
    an_instance_an_episode(20_000);
}
