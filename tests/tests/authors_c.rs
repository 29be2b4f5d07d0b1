//! What an author of an env in C does: `rollcage new`, its tests, `build`, `run`, `check`; and all of the SDK for C, from outside.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rollcage::{Error, Frame, Grant, OnFault, Plugin, RenderMode, VecEnv};
use rollcage_tests::{Ran, Rollcage, Scratch, builder, discrete, root, within};
use serde_json::{Value, json};

use crate::authors::{corridor_is_built_and_plays, passes_its_tests, rollcage};

/// The built folder's plugin; none where zig is neither there nor to be had.
#[expect(clippy::print_stderr, reason = "whoever reads the log should see it")]
fn built(folder: &Path) -> Option<Ran> {
    let built = rollcage(folder, &["build", "."]);
    if built.stderr.contains("is not here, and ") {
        eprintln!("SKIPPED: {}", built.stderr);
        return None;
    }
    Some(built)
}

/// The command of a project's README, by the compiler that its build used.
fn passes_in_words(folder: &Path) {
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let line = readme.lines().find(|line| line.trim_start().starts_with("cc ")).unwrap().trim();
    // zig is there, and a `cc` may not be.
    let has_cc = Command::new("cc").arg("--version").output().is_ok_and(|output| output.status.success());
    let line = if has_cc { line.to_owned() } else { line.replacen("cc ", &format!("{} cc ", zig().display()), 1) };
    passes_its_tests(folder, &["sh", "-c", &line]);
}

/// The zig that a build has installed.
fn zig() -> std::path::PathBuf {
    rollcage_tests::cache_folder().join("zig/ziglang-0.17.1/ziglang/zig")
}

fn copied(from: &str, to: &Path) {
    for entry in std::fs::read_dir(root().join(from)).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn digest(folder: &Path, arguments: &[&str]) -> String {
    let ran = rollcage(folder, &[&["run"], arguments, &["--json"]].concat());
    let object: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    object["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_project_in_c_goes_as_it_stands() {
    let scratch = Scratch::new("new-c");
    let made = rollcage(scratch.folder(), &["new", "long-walk", "--lang", "c"]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let refused = rollcage(scratch.folder(), &["run", "long-walk"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("the folder is not built"), "{}", refused.stderr);
    assert!(refused.stderr.contains("`rollcage build long-walk` builds it\n"), "{}", refused.stderr);

    let folder = scratch.folder().join("long-walk");
    let Some(first) = built(&folder) else { return };
    assert_eq!(first.status, Some(0), "{first:?}");
    // Files that are as they were made are the same plugin, wherever they lie.
    let plugin = std::fs::read(folder.join("dist/long_walk.wasm")).unwrap();
    let elsewhere = scratch.folder().join("deep/long-walk");
    std::fs::create_dir_all(&elsewhere).unwrap();
    for file in ["rollcage.toml", "long_walk.c"] {
        std::fs::copy(folder.join(file), elsewhere.join(file)).unwrap();
    }
    let again = rollcage(&elsewhere, &["build", "."]);
    assert_eq!(again.status, Some(0), "{again:?}");
    assert_eq!(std::fs::read(elsewhere.join("dist/long_walk.wasm")).unwrap(), plugin);

    // A level that travels inside the plugin.
    std::fs::create_dir(folder.join("levels")).unwrap();
    std::fs::write(folder.join("levels/one.txt"), "#####").unwrap();
    let manifest = std::fs::read_to_string(folder.join("rollcage.toml")).unwrap();
    std::fs::write(folder.join("rollcage.toml"), manifest.replace("[]", r#"["levels/*.txt"]"#)).unwrap();
    corridor_is_built_and_plays(&folder, 5, "nothing of this folder is run");
    passes_in_words(&folder);

    // What rollcage.toml says wrongly is named, and what matches nothing is a mistake.
    for (from, to, said) in [
        ("[]", r#"["maps/*.txt"]"#, "rollcage.toml, `package.assets`: `maps/*.txt` matches no file"),
        ("long_walk.c", "short_walk.c", "`c.sources`: no file `short_walk.c` is in the folder"),
        ("long_walk.c", "src/../long_walk.c", "`c.sources`: no file `src/../long_walk.c` is in the folder"),
        ("long_walk.c", "-fplugin=long_walk.c", "`c.sources`: a list of files in C is expected"),
        ("sources", "source", "`c.source` is not known: the keys of [c] are sources, ziglang"),
        ("name =", "nam =", "`package.nam` is not known"),
    ] {
        std::fs::write(folder.join("rollcage.toml"), manifest.replace(from, to)).unwrap();
        let refused = rollcage(&folder, &["build", "."]);
        assert_eq!(refused.status, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
    std::fs::write(folder.join("rollcage.toml"), &manifest).unwrap();

    // What the compiler says is shown as it says it.
    let env = std::fs::read_to_string(folder.join("long_walk.c")).unwrap();
    let line = env.lines().position(|line| line.contains("env->at +=")).unwrap() + 1;
    std::fs::write(folder.join("long_walk.c"), env.replace("env->at +=", "env->place +=")).unwrap();
    let refused = rollcage(&folder, &["build", "."]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    let said = format!("long_walk.c:{line}:8: error: no member named 'place' in 'struct env'\n");
    assert!(refused.stderr.contains(&said), "{said}: {}", refused.stderr);
    assert!(refused.stderr.contains("`.`: zig cc could not build it\nhint: what the compiler says is above"));

    let listed = rollcage(&folder, &["build", ".", "--list"]);
    assert_eq!(listed.status, Some(2), "{listed:?}");
}

/// The page's own project.
#[test]
fn the_page_builds_and_plays() {
    let scratch = Scratch::new("c-page");
    let folder = scratch.folder();
    let page = std::fs::read_to_string(root().join("docs/c.md")).unwrap();
    let block = |language: &str| page.split_once(&format!("```{language}\n")).unwrap().1.split_once("```").unwrap().0;
    std::fs::write(folder.join("rollcage.toml"), block("toml")).unwrap();
    std::fs::write(folder.join("walk.c"), block("c")).unwrap();
    std::fs::create_dir(folder.join("levels")).unwrap();
    std::fs::write(folder.join("levels/one.txt"), "#").unwrap();
    let Some(built) = built(folder) else { return };
    assert_eq!(built.status, Some(0), "{built:?}");
    let run = ["--envs", "2", "--seed", "7"];
    assert_eq!(digest(folder, &[&["."][..], &run].concat()).len(), 64);
}

/// Where there is neither zig nor pip, one command helps. The folder's pip, of a `PATH` without both, is not asked.
#[test]
fn without_zig_and_pip_the_error_says_what_helps() {
    let scratch = Scratch::new("no-zig");
    copied("guest-envs/cartpole-c", scratch.folder());
    let mut command = Rollcage::command();
    command.args(["build", "."]).current_dir(scratch.folder());
    command.env("ROLLCAGE_CACHE", scratch.folder().join("cache")).env("PATH", scratch.folder());
    let refused = within(60, &mut command);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    for words in
        ["zig 0.17.1 is not here, and `python3` cannot be started", "`pip install ziglang==0.17.1` installs it"]
    {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
}

/// CartPole in C has the digest of the one in Rust.
#[test]
fn cartpole_in_c_is_cartpole() {
    let scratch = Scratch::new("cartpole-c");
    copied("guest-envs/cartpole-c", scratch.folder());
    let Some(built) = built(scratch.folder()) else { return };
    assert_eq!(built.status, Some(0), "{built:?}");
    let run = ["--envs", "8", "--episodes", "200", "--seed", "7"];
    for more in [&[][..], &["--start", "spawn"]] {
        let of = |plugin| digest(scratch.folder(), &[&[plugin][..], &run, more].concat());
        assert_eq!(of("."), of("cartpole"), "{more:?}");
    }
    let checked = rollcage(scratch.folder(), &["check", "."]);
    assert_eq!(checked.status, Some(0), "{checked:?}");
    // A recording is played again.
    let folder = scratch.folder();
    let recorded = rollcage(folder, &["run", ".", "--episodes", "20", "--seed", "3", "--record", "recording"]);
    assert_eq!(recorded.status, Some(0), "{recorded:?}");
    let replayed = rollcage(folder, &["replay", "recording"]);
    assert_eq!(replayed.status, Some(0), "{replayed:?}");
}

/// The bytes of an action of `tests/c/everything.c`.
fn action(choice: i64, parts: [i64; 2]) -> Vec<u8> {
    [choice, parts[0], parts[1]].into_iter().flat_map(i64::to_le_bytes).collect()
}

/// Checks that it is an error with these words.
#[track_caller]
fn refused<T>(answer: Result<T, Error>, words: &str) {
    let said = answer.err().map_or_else(|| "no error".to_owned(), |error| error.to_string());
    assert!(said.contains(words), "{words:?} in {said:?}");
}

#[test]
fn the_sdk_for_c_has_everything() {
    let scratch = Scratch::new("c-everything");
    copied("tests/c", scratch.folder());
    let Some(built) = built(scratch.folder()) else { return };
    assert_eq!(built.status, Some(0), "{built:?}");
    assert!(!built.stderr.contains("warning"), "{}", built.stderr);
    let plugin = Plugin::from_file(&scratch.folder().join("dist/everything.wasm")).unwrap();
    let make = |config: Value| -> Result<VecEnv, Error> {
        builder(plugin.clone()).on_fault(OnFault::Raise).config(&config)?.build()
    };

    refused(make(json!({ "level": 3 })), "config `level`: 3 is odd");
    refused(make(json!({ "level": 6 })), "not at level 6");
    refused(make(json!({ "mood": "odd" })), "config `mood`");
    refused(make(json!({ "note": "éééééééé" })), "a text of at most 11 bytes is expected");

    let mut envs = make(json!({ "level": 4, "factor": -2.5e-3, "mood": "wild", "note": "é\"\\\n" })).unwrap();
    let spec = envs.spec();
    let (observations, actions) = (spec.observation_space.to_string(), spec.action_space.to_string());
    let seen = "Tuple(MultiBinary(3), Box(-128, 127, (2,), int8), Dict('half': Box(0, 65535, (), uint16), 'at': Discrete(5, start=-2)))";
    assert_eq!(observations, seen);
    assert_eq!(actions, "Dict('move': Discrete(3), 'parts': MultiDiscrete([2 3]))");

    let batch = envs.reset(Some(5)).unwrap();
    let first = batch.observation(0).to_vec();
    assert_eq!(first.len(), 24, "3 flags, 2 small, to 8; 2 of half, to 16; at");
    assert_eq!((first[3], u16::from_le_bytes([first[8], first[9]])), (0x80, 4000));
    assert_eq!(i64::from_le_bytes(first[16..].try_into().unwrap()), -2);
    assert_eq!(batch.action_mask(0), [1, 1, 1, 1, 1, 1, 1, 0]);
    // Two fields are there; count is 0, and the pair has the factor.
    assert_eq!(batch.info(0)[..2], [1, 1]);
    assert_eq!(f64::from_le_bytes(batch.info(0)[16..24].try_into().unwrap()), -2.5e-3);
    assert_eq!(batch.infos_extra[0], r#"{"third": 0}"#);

    let batch = envs.step(&action(2, [0, 1])).unwrap();
    assert_eq!((batch.rewards[0], batch.action_mask(0)[0], batch.infos_extra[0].as_str()), (3.0, 0, ""));
    assert_eq!(batch.info(0)[..2], [1, 0], "the pair is left out after an odd step");
    assert_eq!(batch.info(0)[16..], [0; 16]);

    // Refusals leave the env as it was.
    refused(envs.step(&action(0, [0, 1])), "action `move`: 0, which is masked");
    assert_eq!(envs.step(&action(1, [1, 0])).unwrap().rewards[0], 1.0);

    // Attributes and methods.
    let get = |envs: &mut VecEnv, name| envs.get_attribute(0, name).unwrap();
    assert_eq!(get(&mut envs, "note"), "é\"\\\n");
    assert_eq!(
        (get(&mut envs, "factor"), get(&mut envs, "loud"), get(&mut envs, "level")),
        (json!(-2.5e-3), json!(true), json!(4))
    );
    envs.set_attribute(0, "note", &json!("\u{1f600} ok")).unwrap();
    refused(envs.set_attribute(0, "note", &json!("a text that is too long")), "at most 11 bytes");
    assert_eq!(get(&mut envs, "note"), "\u{1f600} ok");
    refused(envs.set_attribute(0, "level", &json!(9)), "a whole number from 0 to 8 is expected");
    refused(envs.get_attribute(0, "speed"), "there is no attribute `speed`");
    assert_eq!(envs.call(0, "note", &json!({ "a": [1, "é"] })).unwrap(), json!(["a note", { "a": [1, "é"] }, 1]));
    // numpy's, as the tests of the SDK in Rust have them.
    let drawn = json!([3035954346590650344_i64, 5939376034059241549_i64, 3245753645_i64, 0, 0.8162886545122193]);
    assert_eq!(envs.call(0, "draws", &json!({})).unwrap(), drawn);
    assert_eq!(envs.call(0, "quiet", &json!({})).unwrap(), Value::Null);
    refused(envs.call(0, "fly", &json!({})), "there is no method `fly`");

    // Options of a reset.
    envs.set_reset_options(0, Some(&json!({ "first": 7 }))).unwrap();
    let info = envs.reset(None).unwrap().info(0).to_vec();
    assert_eq!(i64::from_le_bytes(info[8..16].try_into().unwrap()), 7);
    for (options, words) in [
        (json!({ "first": 13 }), "`first`: 13 brings bad luck"),
        (json!({ "first": 101 }), "`first`: a whole number from"),
        (json!({ "last": 1 }), "`last`: there is no such key"),
    ] {
        envs.set_reset_options(0, Some(&options)).unwrap();
        refused(envs.reset(None), words);
    }

    // Equal seeds are equal episodes, in rows of steps too.
    envs.set_reset_options(0, None).unwrap();
    assert_eq!(envs.reset(Some(5)).unwrap().observation(0), first);

    // Faults have the author's words and line.
    let source = std::fs::read_to_string(root().join("tests/c/everything.c")).unwrap();
    let line = |text: &str| source.lines().position(|line| line.contains(text)).unwrap() + 1;
    let failed = format!("panicked at everything.c:{}: broken at level 2", line("rollcage_fail(\"broken"));
    let asserted = format!("panicked at everything.c:{}: assert(trouble < 4)", line("assert(trouble < 4)"));
    // An action that the mask leaves open is not to be refused: that is a fault too.
    for (trouble, words) in [
        (1, "not after 0 steps"),
        (2, "tired"),
        (3, &failed),
        (4, &asserted),
        (5, "five"),
        (6, "out of bounds memory access"),
    ] {
        let mut envs = make(json!({})).unwrap();
        envs.reset(Some(1)).unwrap();
        envs.set_attribute(0, "trouble", &json!(trouble)).unwrap();
        refused(envs.step(&action(1, [0, 1])), words);
    }
}

/// The template that connects, against its server: a grant that is missing is named, and a recording is played again.
#[test]
fn an_env_in_c_connects_where_it_is_granted() {
    let scratch = Scratch::new("c-socket");
    let folder = scratch.folder();
    let made = rollcage(folder, &["new", "asker", "--lang", "c", "--template", "socket"]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let project = folder.join("asker");
    let Some(first) = built(&project) else { return };
    assert_eq!(first.status, Some(0), "{first:?}");
    assert!(!first.stderr.contains("warning"), "{}", first.stderr);
    assert!(first.stdout.contains("wants         a TCP connection"), "{}", first.stdout);

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (grant, port) = (format!("--grant=tcp-connect=127.0.0.1:{nobody}"), format!("port={nobody}"));
    let missing = rollcage(folder, &["run", "asker"]);
    assert_eq!(missing.status, Some(2), "{missing:?}");
    let said = "needs a TCP connection, which is not granted (the number is kept by a server)";
    assert!(missing.stderr.contains(said), "{}", missing.stderr);
    let other = rollcage(folder, &["run", "asker", "--episodes", "1", &grant]);
    let said =
        "127.0.0.1, port 48800 cannot be reached: it is not granted; `python3 server.py --port 48800` starts one";
    assert!(other.stderr.contains(said), "{}", other.stderr);
    let refused = rollcage(folder, &["run", "asker", "--episodes", "1", &grant, "--config", &port]);
    let said = format!("127.0.0.1, port {nobody} cannot be reached: connection refused");
    assert!(refused.stderr.contains(&said), "{}", refused.stderr);

    // The digest of those in Python, Rust and JavaScript.
    let run = ["run", "asker", "--envs", "2", "--episodes", "10", "--seed", "1", "--grants", "asker/grants.toml"];
    let recorded = rollcage(folder, &[&run[..], &["--record", "recording"]].concat());
    assert!(recorded.stdout.contains("fc37ec7e8ac3"), "{recorded:?}");
    for command in ["replay", "verify"] {
        let again = rollcage(folder, &[command, "recording"]);
        assert_eq!(again.status, Some(0), "{again:?}");
    }
    passes_in_words(&project);

    // Without the line in rollcage.toml nothing is linked, and the error says what is missing.
    let manifest = std::fs::read_to_string(project.join("rollcage.toml")).unwrap();
    std::fs::write(project.join("rollcage.toml"), manifest.replace("sockets = true\n", "")).unwrap();
    let hint = "hint: `sockets = true` in [c] of rollcage.toml lets the env use rollcage_socket.h";
    for what in ["undefined symbol: rollcage_connect", "'rollcage_socket.h' file not found"] {
        let refused = rollcage(&project, &["build", "."]);
        assert_eq!(refused.status, Some(2), "{refused:?}");
        for words in [what, hint] {
            assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
        }
        let _ = std::fs::remove_file(project.join("rollcage_socket.h"));
    }
}

/// A server of one connection after another: it sends what `answer` makes of a line, and closes where that is nothing.
fn server(answer: fn(&str) -> Option<String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(answer) = lines.next().and_then(|line| answer(&line.ok()?)) {
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    port
}

#[test]
fn connections_in_c_have_everything() {
    let scratch = Scratch::new("c-sockets");
    copied("tests/c-sockets", scratch.folder());
    let Some(built) = built(scratch.folder()) else { return };
    assert_eq!(built.status, Some(0), "{built:?}");
    assert!(!built.stderr.contains("warning"), "{}", built.stderr);
    let file = scratch.folder().join("dist/talker.wasm");
    let has = |file: &Path, text: &str| {
        std::fs::read(file).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(has(&file, "wasi:sockets"));

    // The length of a line, twice the number of a short one; and the ends of lines.
    let port = server(|line| match line.len() {
        0 => None,
        1 | 2 => Some(format!("{}\n", 2 * line.parse::<u32>().ok()?)),
        3 => Some("one\r\n\ntwo\r\nabcdefgh\nrest".to_owned()),
        length => Some(format!("{length}\n")),
    });
    let grants = [format!("tcp-connect=127.0.0.1:{port}"), format!("tcp-connect=localhost:{port}")];
    let grants = grants.iter().map(|grant| grant.parse::<Grant>().unwrap()).collect();
    let mut envs = builder(Plugin::from_file(&file).unwrap()).on_fault(OnFault::Raise).grants(grants).build().unwrap();
    envs.reset(Some(1)).unwrap();
    let peer = format!("127.0.0.1, port {port}");
    refused(envs.call(0, "read", &json!(1)), "there is no connection yet");
    refused(
        envs.call(0, "connect", &json!(port ^ 1)),
        &format!("port {} cannot be reached: it is not granted", port ^ 1),
    );
    let mut ask = |method: &str, number: u64| envs.call(0, method, &json!(number));
    for connect in ["connect-by-name", "connect"] {
        ask(connect, port.into()).unwrap();
        // More than is sent or kept at once.
        ask("write", 100_001).unwrap();
        assert_eq!(ask("line", 16).unwrap(), json!("100000"));
    }
    ask("write", 4).unwrap();
    for line in ["one", "", "two"] {
        assert_eq!(ask("line", 6).unwrap(), json!(line));
    }
    refused(ask("line", 8), &format!("{peer} has sent a line of more than 7 bytes"));
    assert_eq!(ask("read", 3).unwrap(), json!("abc"));
    // What is behind the other side's last newline is a line too, and then there is nothing.
    assert_eq!(ask("line", 9).unwrap(), json!("defgh"));
    ask("write", 1).unwrap();
    assert_eq!(ask("line", 9).unwrap(), json!("rest"));
    refused(ask("line", 9), &format!("{peer} has closed the connection"));
    assert_eq!(ask("read", 9).unwrap(), json!(""));
    ask("close", 0).unwrap();
    ask("close", 0).unwrap();
    refused(ask("write", 1), &format!("the connection to {peer} is closed"));

    // Each step reads a file of the plugin, and asks the server.
    ask("connect", port.into()).unwrap();
    let actions: Vec<i64> = (0..60).collect();
    let steps = envs.step_many(0, &discrete(&actions)).unwrap();
    let doubled: Vec<i64> = actions.iter().map(|action| 2 * action).collect();
    assert_eq!(steps.observations, discrete(&doubled));

    // A plugin that asks for no connection imports nothing of sockets.
    let plain = scratch.folder().join("plain");
    std::fs::create_dir(&plain).unwrap();
    copied("guest-envs/cartpole-c", &plain);
    assert_eq!(rollcage(&plain, &["build", "."]).status, Some(0));
    assert!(!has(&plain.join("dist/cartpole_c.wasm"), "wasi:sockets"));
}

/// The other templates: each builds, is tested, plays and passes as it stands, with the digest of the one in Python.
#[test]
#[ignore = "plays the interpreter too; `cargo xtask long` runs it"]
fn every_template_in_c_goes_as_it_stands() {
    let scratch = Scratch::new("new-c-all");
    let folder = scratch.folder();
    for template in ["discrete", "grid", "continuous", "pixels", "socket"] {
        for (name, lang) in [("in_c", "c"), ("in_python", "python")] {
            let name = format!("{template}_{name}");
            let made = rollcage(folder, &["new", &name, "--lang", lang, "--template", template]);
            assert_eq!(made.status, Some(0), "{made:?}");
        }
        let (name, twin) = (format!("{template}_in_c"), format!("{template}_in_python"));
        let Some(built) = built(&folder.join(&name)) else { return };
        assert_eq!(built.status, Some(0), "{built:?}");
        assert!(!built.stderr.contains("warning"), "{}", built.stderr);
        let run = ["--envs", "4", "--episodes", "24", "--seed", "11"];
        let is_granted = template == "socket";
        let grants = format!("{name}/grants.toml");
        let grants = if is_granted { vec!["--grants", &grants] } else { Vec::new() };
        let of = |plugin: &str| digest(folder, &[&[plugin][..], &run, &grants].concat());
        assert_eq!(of(&name), of(&twin), "{template}");
        let checked = rollcage(folder, &[&["check", &name][..], &grants].concat());
        assert_eq!(checked.status, Some(0), "{checked:?}");
        passes_in_words(&folder.join(&name));
        if is_granted {
            continue;
        }
        // The pictures are those of the Python template.
        assert_eq!(rollcage(folder, &["build", &twin]).status, Some(0));
        let frame = |file: &Path, mode| -> Option<Frame> {
            let mut envs = builder(Plugin::from_file(file).unwrap()).build().unwrap();
            envs.reset(Some(4)).unwrap();
            envs.render(0, mode).ok()
        };
        for mode in [RenderMode::RgbArray, RenderMode::Ansi] {
            let ours = frame(&folder.join(format!("{name}/dist/{name}.wasm")), mode);
            assert_eq!(ours, frame(&folder.join(format!("dist/{twin}.wasm")), mode), "{template} {mode:?}");
        }
    }
}
