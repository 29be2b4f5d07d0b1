//! **rollcage** runs untrusted reinforcement-learning environments: each is a WebAssembly component, with an instance of its
//! own, sandboxed in an operating-system process of its own.
//!
//! Begin at [`VecEnv`]. A program without the `rollcage` program beside it calls [`worker_main`] first in its `main`.
//!
//! # Layout
//!
//! The crate has floors: a file may use its own floor and those below it.
//!
//! * `cli`, in the program: the command line.
//! * [`replay`]: recordings run again, compared, exported; snapshots.
//! * [`env`]: many envs. A step begins in [`env::vec_env`].
//! * `worker`: the other process, with every wasmtime crate; behind the feature `worker`.
//! * [`outside`]: grants, the broker of sockets, ports and services.
//! * [`plugin`]: a plugin's bytes, its code in the cache, its config.
//! * [`process`]: the one thread that starts processes, and a process as its owner sees it.
//! * [`record`]: the way into a recording.
//! * [`wire`]: messages and the shared memory.
//! * [`cage`]: the layers of the sandbox.
//! * The ground: [`assets`], [`space`], [`spec`], [`episode`], [`fault`], [`error`], [`limits`], [`digest`], [`text`].
//!
//! # Words
//!
//! A *plugin* is a component. An *env* is one running environment (plugin, config, grants, seed): one wasm instance. A
//! *grant* is one capability of the outside that the operator gave. A *worker* is the process in which an env lives. The
//! *host* starts, steps and watches workers. A *slab* is the memory that a worker shares with the host. All other things have
//! Gymnasium's, the component model's or Linux's name.

pub mod assets;
pub mod cage;
pub mod check;
pub mod digest;
pub mod env;
pub mod episode;
pub mod error;
pub mod fault;
pub mod files;
mod interrupt;
mod json;
pub mod limits;
mod message;
pub mod outside;
pub mod plugin;
pub mod process;
pub mod record;
pub mod replay;
mod slice;
pub mod space;
pub mod spec;
#[doc(hidden)]
pub mod spread;
pub mod text;
pub mod wire;
#[cfg(feature = "worker")]
mod worker;

pub use cage::engine::Backend;
pub use cage::{Level, Standing, Wall, Walls};
pub use digest::{Digest, run_digest};
pub use env::batch::{Batch, EpisodeEnd, Steps};
pub use env::builder::Builder;
pub use env::oddity::{Oddity, OddityKind};
pub use env::pack::EnvsPerWorker;
pub use env::rollout;
pub use env::terms::Start;
pub use env::vec_env::{Frame, ResetSome, VecEnv};
pub use episode::{Autoreset, TimeLimit};
pub use error::{Error, UsageError, UsageKind};
pub use fault::{Budget, Fault, FaultKind, FaultLog, OnFault};
pub use limits::Limits;
pub use outside::grant::{Access, Grant, Grants};
pub use outside::trust::Trust;
pub use plugin::cache::Cache;
pub use plugin::{CompileObserver, Compiling, Plugin, Prepared};
pub use process::start::check_walls;
pub use replay::snapshot::Snapshot;
pub use space::{Dtype, InfoField, OutOfBounds, Space};
pub use spec::{Description, RenderMode, Spec, Want, WantKind};

/// The atomics of this program; the model of `handshake` uses loom's instead.
mod sync {
    pub(crate) use std::sync::atomic::{AtomicU32, Ordering, fence};
}

/// The first argument of a worker process: the hidden mode of the `rollcage` program.
pub const WORKER_ARGUMENT: &str = "__rollcage-worker";

/// The first argument of a keeper process: the other hidden mode.
pub const KEEPER_ARGUMENT: &str = "__rollcage-keeper";

/// Makes this program its own worker program: call it first in `main`.
///
/// If this process's soft limit of the stack is below 8 MiB, it is raised to 8 MiB.
///
/// In a process that the host started as a worker or keeper, this does the job of that process and never returns. Otherwise
/// it returns at once, and from then on [`VecEnv`] starts workers from this very program.
#[cfg(feature = "worker")]
pub fn worker_main() {
    worker_main_behind(cage::seccomp::TABLE);
}

/// [`worker_main`] with another table of system calls: for the tests that leave a row out.
#[cfg(feature = "worker")]
#[doc(hidden)]
pub fn worker_main_behind(table: &'static [cage::seccomp::Allow]) {
    cage::stack::make_room();
    match std::env::args_os().nth(1) {
        Some(mode) if mode == WORKER_ARGUMENT => worker::run(table),
        Some(mode) if mode == KEEPER_ARGUMENT => outside::keeper::run(),
        _ => {}
    }
    process::start::THIS_PROGRAM_IS_A_WORKER.store(true, std::sync::atomic::Ordering::Relaxed);
}
