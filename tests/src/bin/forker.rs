//! A host that forks: it starts envs by a grants file, forks a child that sleeps and has copies of every descriptor of the
//! host's, prints what it started, and waits to be killed.
//!
//!     forker PROGRAM GRANTS ENVS        prints: HOST CHILD, then a line KEEPER PORT WORKER for each env
#![expect(clippy::unwrap_used, reason = "a program of the tests: whoever starts it reads its end")]

use std::io::Write;
use std::time::Duration;

use rollcage::{Grants, Plugin, VecEnv};

fn main() {
    let [program, grants, envs] = std::env::args().skip(1).collect::<Vec<_>>().try_into().unwrap();
    let text = std::fs::read_to_string(&grants).unwrap();
    let grants = Grants::from_toml(&text, grants.as_ref()).unwrap();
    let envs: usize = envs.parse().unwrap();
    let plugin = Plugin::shipped("mirror").unwrap();
    let mut running = VecEnv::builder(plugin).worker(program).envs(envs).grants(grants).build().unwrap();
    running.reset(None).unwrap();
    // SAFETY: the child calls nothing but `sleep` and `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: both are async-signal-safe, which is all that a fork of a program with threads may call.
        unsafe {
            libc::sleep(600);
            libc::_exit(0);
        }
    }
    let mut text = format!("{} {child}\n", std::process::id());
    for env in 0..envs {
        let (keeper, worker) = (running.keeper_pid(env).unwrap(), running.pid(env).unwrap());
        text.push_str(&format!("{keeper} {} {worker}\n", running.ports(env)[0].1));
    }
    std::io::stdout().write_all(text.as_bytes()).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        if running.step(&vec![0; 8 * envs]).is_err() {
            return;
        }
    }
}
