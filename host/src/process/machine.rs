//! The machine's own limits (`ulimit`) for a host and its workers. Soft limits are raised as far as the hard limits
//! allow. A limit that is still too low is an error before anything is started. A limit that only bounds a worker
//! further is reported once.
//!
//! Knows limits and what they are for; a worker's own limits are set by `cage/rlimits.rs`, which takes the lower of
//! both.

use bytesize::ByteSize;
use procfs::process::Process;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::system::sysinfo;

use super::group::{self, GroupLimits};
use crate::error::UsageError;
use crate::limits::Limits;
use crate::wire::slab::SLAB_BYTES;
use crate::wire::slab::layout::{ROWS_MAX, pack_bytes, pack_rows};

/// Descriptors that stay free for the program itself and for what an env needs briefly.
const SPARE_DESCRIPTORS: u64 = 64;

/// Bytes of address space that a worker needs: a memory reserves 4 GiB and its guards; tables, stacks, the program, the
/// slab and the code come on top.
const SPACE_BYTES: u64 = 9 << 29;

/// Bytes of address space that stay free for the program itself.
const SPARE_BYTES: u64 = 256 << 20;

/// Bytes that a worker needs at least in addition to its guest's memory: the program's own heap, and the engine's heap
/// for a small plugin.
const DATA_BYTES: u64 = 16 << 20;

/// Raises this process's soft limits, if so many new envs need more, `each` of them to a worker, and each worker with so
/// many descriptors. No envs: a process that compiles or describes a plugin.
///
/// # Errors
/// A hard limit is too low: which limit, how much is needed, what to do.
pub(crate) fn make_room(envs: usize, each: usize, descriptors: usize) -> Result<(), UsageError> {
    let workers = envs.div_ceil(each);
    let slab_bytes = slab_bytes(rows(each));
    let apiece = if each == 1 { "each" } else { "for each worker" };
    raise(Resource::Fsize, slab_bytes).map_err(|most| {
        UsageError::new(format!(
            "files of this process may have {most} bytes, and the memory that it shares with a worker has {slab_bytes}"
        ))
        .hint("raise the limit: `ulimit -f unlimited`, by whoever set it")
    })?;
    let (reserved, addresses) = (reserved(each), addresses());
    if reserved > usable(addresses) {
        let fit = fitting(addresses);
        return Err(UsageError::new(format!(
            "a worker with {each} envs reserves {reserved} bytes of addresses (most of them are never used), and a process \
             has {addresses} on this kernel"
        ))
        .hint(format!("{fit} envs fit into a worker: `--envs-per-worker {fit}`, `envs_per_worker={fit}`")));
    }
    if let Some(most) = getrlimit(Resource::As).maximum.filter(|most| *most < reserved) {
        return Err(UsageError::new(format!(
            "a process may have {most} bytes of address space here, and a worker reserves {reserved} (most of it is never used)"
        ))
        .hint("raise the limit: `ulimit -v unlimited`, by whoever set it; what a guest may really use is `memory_bytes`"));
    }
    if let Some(most) = getrlimit(Resource::Data).maximum.filter(|most| *most < DATA_BYTES) {
        return Err(UsageError::new(format!(
            "a process may have {most} bytes of data here, and an env's needs {DATA_BYTES} at least"
        ))
        .hint("raise the limit: `ulimit -d unlimited`, by whoever set it"));
    }
    // The memory shared with each worker is part of this process too.
    let space = own_space() + slab_bytes * workers as u64 + SPARE_BYTES;
    raise(Resource::As, space).map_err(|most| {
        UsageError::new(format!(
            "{envs} envs need {space} bytes of this process's address space, {slab_bytes} {apiece}; it may have {most}"
        ))
        .hint("raise the limit: `ulimit -v unlimited`, by whoever set it; or start fewer envs")
    })?;
    group::begin_to_count_ended();
    if envs == 0 {
        return Ok(());
    }
    let open = std::fs::read_dir("/proc/self/fd").map_or(SPARE_DESCRIPTORS, |all| all.count() as u64);
    let need = (workers * descriptors) as u64;
    raise(Resource::Nofile, open + need + SPARE_DESCRIPTORS).map_err(|most| {
        let fit = most.saturating_sub(open + SPARE_DESCRIPTORS) / descriptors.max(1) as u64 * each as u64;
        UsageError::new(format!(
            "{envs} envs need {need} descriptors, {descriptors} {apiece}; this process may have {most}, and has {open} open"
        ))
        .hint(format!(
            "{fit} envs fit; or raise the hard limit (`ulimit -Hn`; `LimitNOFILE=` of systemd, `--ulimit nofile=` of a container)"
        ))
    })
}

/// How many envs fit into one worker, by the addresses that a process has.
pub(crate) fn envs_of_one_worker() -> usize {
    fitting(addresses())
}

/// How many envs fit into a worker that has so many addresses.
fn fitting(addresses: u64) -> usize {
    (2..ROWS_MAX).take_while(|envs| reserved(*envs) <= usable(addresses)).last().unwrap_or(1)
}

/// Bytes of addresses that a worker with so many envs reserves. Most of them are never used.
fn reserved(envs: usize) -> u64 {
    let rows = rows(envs);
    SPACE_BYTES * rows as u64 + slab_bytes(rows)
}

fn rows(envs: usize) -> usize {
    if envs <= 1 { 1 } else { pack_rows(envs) }
}

fn slab_bytes(rows: usize) -> u64 {
    (if rows == 1 { SLAB_BYTES } else { pack_bytes(rows) }) as u64
}

/// What is left of so many addresses when the program has its own, and gaps between mappings are lost.
fn usable(addresses: u64) -> u64 {
    addresses - addresses / 16
}

/// How many addresses a process has: half of them or more are below its stack. 2^47 on x86-64, 2^39 to 2^48 on aarch64.
fn addresses() -> u64 {
    let on_the_stack = 0u8;
    (std::ptr::from_ref(&on_the_stack).addr() as u64).checked_next_power_of_two().unwrap_or(u64::MAX)
}

/// Bytes of address space that this process has, if the kernel tells.
fn own_space() -> u64 {
    Process::myself().and_then(|own| own.statm()).map_or(0, |memory| memory.size * rustix::param::page_size() as u64)
}

/// Raises a soft limit that is below the need.
///
/// # Errors
/// The hard limit, if it is below the need too.
fn raise(resource: Resource, need: u64) -> Result<(), u64> {
    let limit = getrlimit(resource);
    if limit.current.is_none_or(|current| current >= need) {
        return Ok(());
    }
    if let Some(most) = limit.maximum.filter(|most| *most < need) {
        return Err(most);
    }
    // Raised no further than needed: programs that use `select` rely on small descriptor numbers.
    let raised = setrlimit(resource, Rlimit { current: Some(need), ..limit });
    raised.map_err(|_| limit.current.unwrap_or(u64::MAX))
}

/// Seconds of processor time that a process really gets if it is given this many.
pub(crate) fn processor_seconds(seconds: u64) -> u64 {
    getrlimit(Resource::Cpu).maximum.map_or(seconds, |most| seconds.min(most.saturating_sub(1).max(1)))
}

/// A warning if so many processes are more than this process's control group allows.
pub(crate) fn more_processes_than_allowed(processes: u64, limits: &GroupLimits) -> Option<String> {
    let most = limits.processes?;
    let running = limits.running.unwrap_or(0);
    (running.saturating_add(processes) > most).then(|| {
        format!(
            "this run has {processes} processes, and the control group of this process allows {most} (`pids.max`), of which \
             {running} are there: envs that do not fit do not start; start fewer, or let workers have more envs each \
             (`--envs-per-worker`, `envs_per_worker`)"
        )
    })
}

/// Bytes of memory of this machine, or of this process's control group if that is less.
pub fn memory_there(limits: &GroupLimits) -> u64 {
    let of_machine = sysinfo();
    let machine = (of_machine.totalram as u64).saturating_mul(u64::from(of_machine.mem_unit));
    machine.min(limits.memory_bytes.unwrap_or(u64::MAX))
}

/// A warning if so many envs may use more memory together than the machine has, or this process's control group.
pub(crate) fn more_than_there_is(envs: usize, memory_bytes: u64, limits: &GroupLimits) -> Option<String> {
    let there = memory_there(limits);
    let (envs, together) = (envs as u64, (envs as u64).saturating_mul(memory_bytes));
    let shown = |bytes: u64| ByteSize(bytes).display().iec();
    (together > there).then(|| {
        format!(
            "{envs} envs may use {} of memory together, and there are {}: where they do, the kernel ends processes; start \
             fewer, or give each less than {} (`--memory`, `memory_bytes`)",
            shown(together),
            shown(there),
            shown(there / envs.max(1))
        )
    })
}

/// The machine's hard limits that are lower than a worker's own, a line each: the machine's limit, the worker's limit,
/// what to do.
pub(crate) fn lower_than_a_workers_own(limits: &Limits, compiles: bool) -> Vec<String> {
    let compiling = |bytes: u64| if compiles { bytes } else { 0 };
    let data = limits.memory_bytes.saturating_add(DATA_BYTES).max(compiling(limits.compile_bytes));
    let lower = |resource, need: u64| getrlimit(resource).maximum.filter(|most| *most < need);
    let mut lines = Vec::new();
    if let Some(most) = lower(Resource::Data, data) {
        lines.push(format!(
            "a process may have {most} bytes of data here, where one might need {data}: an env that needs more meets the \
             fault `memory`, a plugin does not compile; raise the limit: `ulimit -d unlimited`, by whoever set it"
        ));
    }
    if let Some(most) = lower(Resource::Fsize, compiling(limits.code_bytes)) {
        lines.push(format!(
            "a file may have {most} bytes here, where code might need {}: a plugin that needs more does not compile; raise \
             the limit: `ulimit -f unlimited`, by whoever set it",
            limits.code_bytes
        ));
    }
    if let Some(most) = getrlimit(Resource::Cpu).maximum {
        lines.push(format!(
            "a process may have {most} s of processor time here: an env that has used them meets the fault `signalled`, and is \
             started anew; raise the limit: `ulimit -t unlimited`, by whoever set it"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels for aarch64 give 2^39 addresses at least.
    #[test]
    fn a_worker_has_as_many_envs_as_its_addresses_allow() {
        for (bits, least, most) in [(39, 64, 120), (42, 800, 1000), (47, 4096, ROWS_MAX), (48, 4096, ROWS_MAX)] {
            let fit = fitting(1 << bits);
            assert!((least..=most).contains(&fit), "{fit} envs with {bits} bits");
            assert!(reserved(fit) <= 1 << bits);
        }
        assert!(addresses() >= 1 << 39);
    }
}
