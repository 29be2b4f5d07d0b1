//! SANDBOX, part 2: limits on what a worker may use of the machine.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes beyond the guest's memory limit that a worker may make writable: the engine's tables and handles, the lists of
/// one call (a frame of 32 MiB is held three times at most), heap and stacks.
const DATA_MARGIN_BYTES: u64 = 160 << 20;

/// Bytes beyond its memory limit that each further env of a worker takes: the engine's tables and handles, and its
/// stack.
const ENV_BYTES: u64 = 4 << 20;

/// Descriptors of a worker without grants: null twice, log, control, code, and those that a message brings until they
/// are closed.
const DESCRIPTORS_MAX: u64 = 16;

/// Processes of one user namespace: the envs of a `VecEnv` that start as copies of one worker, and as many branches.
const COPIES_MAX: u64 = 8192;

/// The limits of one worker, by its purpose.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// Bytes that the worker may make writable.
    pub data_bytes: u64,
    /// Bytes of one file that the worker may write: 0, except for a compiler's output and for files in a granted
    /// directory.
    pub file_bytes: u64,
    /// Descriptors beyond a worker's own: granted directories, and the files that a guest has open in them.
    pub descriptors: u64,
    /// Seconds of processor time, if bounded.
    pub cpu_seconds: Option<u64>,
}

impl Allowance {
    /// The limits of an env without grants: its memory, and the memory around it.
    pub fn of_env(memory_bytes: u64) -> Allowance {
        let data_bytes = memory_bytes.saturating_add(DATA_MARGIN_BYTES);
        Allowance { data_bytes, file_bytes: 0, descriptors: 0, cpu_seconds: None }
    }

    /// The limits of so many envs in one worker, where this is the allowance of one with so much memory: the margin around
    /// their memories is what one call needs, and calls come one after another.
    #[must_use]
    pub fn for_envs(mut self, envs: u64, memory_bytes: u64) -> Allowance {
        let more = envs.saturating_sub(1);
        self.data_bytes = self.data_bytes.saturating_add(memory_bytes.saturating_add(ENV_BYTES).saturating_mul(more));
        self.descriptors = self.descriptors.saturating_mul(envs);
        self
    }
}

/// Sets the limits for good, soft and hard alike. A lower limit of the machine stays.
///
/// # Errors
/// The system's error, which no kernel gives for limits that only become lower.
pub(super) fn set(allowance: &Allowance) -> io::Result<()> {
    let limit = |resource, value: u64| {
        let value = getrlimit(resource).maximum.map_or(value, |most| value.min(most));
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
    };
    // A core dump would leave the env's memory behind.
    limit(Resource::Core, 0)?;
    // Writing to a regular file kills by SIGXFSZ, so the log is a pipe. With granted files, a guest gets `EFBIG`.
    limit(Resource::Fsize, allowance.file_bytes)?;
    if allowance.file_bytes > 0 {
        // SAFETY: an ignored signal runs no code.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    }
    limit(Resource::Nofile, DESCRIPTORS_MAX + allowance.descriptors)?;
    // DATA instead of AS, which would count the engine's 4 GiB reservations.
    limit(Resource::Data, allowance.data_bytes)?;
    let space = getrlimit(Resource::As);
    setrlimit(Resource::As, Rlimit { current: space.maximum, ..space })?;
    // The hard limit kills by SIGKILL, without a reason; the soft limit sends SIGXCPU.
    let most = getrlimit(Resource::Cpu).maximum;
    if let Some(seconds) = allowance.cpu_seconds.into_iter().chain(most.map(|most| most.saturating_sub(1))).min() {
        let kills = seconds.saturating_add(1);
        let most = most.map_or(kills, |most| most.min(kills));
        setrlimit(Resource::Cpu, Rlimit { current: Some(seconds.max(1).min(most)), maximum: Some(most) })?;
    }
    Ok(())
}

/// Bounds the number of copies of a worker, of their copies and so on. The kernel counts per namespace, and for every
/// user but root. For root, and in addition for other users, the host's watcher ends processes that it did not order.
///
/// # Errors
/// The system's error, which no kernel gives for a limit that becomes lower.
pub(super) fn bound_copies() -> io::Result<()> {
    let limit = Some(getrlimit(Resource::Nproc).maximum.map_or(COPIES_MAX, |hard| hard.min(COPIES_MAX)));
    Ok(setrlimit(Resource::Nproc, Rlimit { current: limit, maximum: limit })?)
}
