//! More than anybody needs: the largest plugin, code that takes minutes and gigabytes to compile, a log without end, every
//! function of the network. What it costs the host has a bound, and what is refused is refused in words.

use std::time::{Duration, Instant};

use rollcage::process::child::LOG_BYTES_MAX;
use rollcage::{Backend, Error, FaultKind, Limits, OnFault, Plugin, UsageError};
use rollcage_tests::{Process, Scratch, alone, builder, crafted_folder, discrete, fixture, program};
use serde_json::json;

/// The most memory that this process has had, in KiB.
fn peak_kib() -> u64 {
    Process::own().status("VmHWM").strip_suffix(" kB").unwrap().parse().unwrap()
}

fn refused(limits: Limits, plugin: Plugin) -> UsageError {
    let builder = rollcage::VecEnv::builder(plugin).worker(program()).limits(limits);
    match builder.prepare() {
        Err(Error::Usage(error)) => error,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it is accepted"),
    }
}

#[test]
fn a_plugin_of_200_megabytes_plays() {
    let scratch = Scratch::new("excess-huge");
    let file = scratch.folder().join("huge.wasm");
    let smith = crafted_folder().parent().unwrap().join("release/rollcage-smith");
    let made = std::process::Command::new(smith).arg("huge").arg(&file).status().unwrap();
    assert!(made.success());
    let plugin = Plugin::from_file(&file).unwrap();
    assert!(plugin.size() > 200_000_000);
    for backend in [Backend::Native, Backend::Pulley] {
        let began = Instant::now();
        // Not kept: most of it is nothing that is compiled, but nobody needs it twice.
        let builder = rollcage::VecEnv::builder(plugin.clone()).worker(program()).backend(backend);
        let mut envs = builder.build().unwrap();
        envs.reset(None).unwrap();
        envs.step(&discrete(&[0])).unwrap();
        assert!(began.elapsed() < Duration::from_secs(60), "{backend:?}: {:?}", began.elapsed());
    }
    let limits = Limits { plugin_bytes: 200_000_000, ..Limits::default() };
    let message = refused(limits, plugin).message;
    assert!(message.contains("bytes; the limit is 200000000"), "{message}");
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let scratch = Scratch::new("excess-sparse");
    let file = scratch.file("sparse.wasm", "");
    // A terabyte, none of which is there.
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(1 << 40).unwrap();
    let error = Plugin::from_file(&file).err().unwrap();
    assert!(error.message.contains("1099511627776 bytes; the limit is"), "{error}");
    let error = Plugin::from_file(std::path::Path::new("/dev/zero")).err().unwrap();
    assert!(error.message.contains("not a file"), "{error}");
}

#[test]
fn a_compiler_that_runs_out_of_memory_says_so() {
    let limits = Limits { compile_bytes: 128 << 20, ..Limits::default() };
    let UsageError { message, hints, .. } = refused(limits, fixture("code-slow"));
    assert!(message.contains("it does not compile within 134217728 bytes of memory"), "{message} {hints:?}");
}

#[test]
fn a_log_without_end_does_not_fill_the_host() {
    // In a process of its own, whose memory is looked at.
    alone("excess::a_log_without_end_does_not_fill_the_host", || {
        for config in [
            json!({ "bytes": 10_000_000_000_u64 }),
            json!({ "bytes": 10_000_000_000_u64, "newlines": false, "stream": "stdout" }),
        ] {
            let limits = Limits::default().call_timeouts(Duration::from_secs(3));
            let mut envs = builder(fixture("logs")).limits(limits).config(&config).unwrap().build().unwrap();
            envs.reset(None).unwrap();
            for _ in 0..3 {
                envs.step(&discrete(&[0])).unwrap();
            }
            let before = peak_kib();
            let fault = envs.step(&discrete(&[0])).unwrap().faults[0].clone().unwrap();
            // The kernel's count is off by some pages, either way, until it sums up what each thread has counted.
            let grown = peak_kib().saturating_sub(before);
            assert_eq!(fault.kind, FaultKind::StepTimeout);
            assert!(fault.log.len() <= LOG_BYTES_MAX);
            assert!(fault.log_dropped_bytes > 10_000_000, "{}", fault.log_dropped_bytes);
            assert!(grown < 4 * 1024, "the host grew by {grown} KiB");
        }
    });
}

#[test]
fn no_function_of_a_socket_takes_a_handle_that_was_not_given() {
    let mut tried = 0;
    loop {
        let config = json!({ "forged": tried, "at": 0 });
        let builder = builder(fixture("sockets")).on_fault(OnFault::Raise).config(&config).unwrap();
        let mut envs = builder.build().unwrap();
        envs.reset(None).unwrap();
        let Err(Error::Fault(fault)) = envs.step(&discrete(&[0])) else { panic!("function {tried} answered") };
        if fault.kind == FaultKind::GuestFailed && fault.message.contains("there is no such function") {
            break;
        }
        assert_eq!(fault.kind, FaultKind::Trap, "function {tried}: {fault}");
        assert!(fault.message.contains("unknown handle index"), "function {tried}: {fault}");
        tried += 1;
    }
    assert_eq!(tried, 50);
}
