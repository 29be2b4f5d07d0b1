//! SANDBOX, part 1: wasm itself. The engine's settings, and the caps of one store.
//!
//! One function makes the [`Config`], for the process that compiles and for the worker that loads: code compiled under
//! other settings does not load. Every setting that could make two runs differ is set here by name, even if it is the
//! engine's default today. Knows nothing of plugins, files or processes.

use std::fmt;
use std::num::NonZeroUsize;

use wasmtime::component::ResourceTable;
use wasmtime::{Config, OptLevel, ResourceLimiter, Store, Strategy, WasmBacktraceDetails};

use super::engine::{ANSWERING, Answering, Backend, EngineSettings};
use super::numbers::BULK_BYTES_MAX;
use crate::fault::BACKTRACE_FRAMES_MAX;

/// The stack size that the engine's `async` half requires and never uses here (no call is asynchronous). It must be at
/// least [`Answering::wasm_stack_bytes`].
const ASYNC_STACK_BYTES: usize = 2 << 20;

/// Address space reserved for each linear memory: all that 32 bits can address, so that native code needs no bounds
/// checks and a memory never moves. This is address space only; [`MemoryLimiter`] bounds what a guest may *use*.
const MEMORY_RESERVATION_BYTES: u64 = 1 << 32;

/// Bytes that one call may carry from the guest to the host, results included: the largest answer that fits the slab, a
/// frame that fills its bulk area (a 4K frame has 25 MB), and a little for the fields around it. The engine's default
/// is 128 MiB. This bounds one call; [`RESOURCES_MAX`] caps what the host keeps between calls.
const HOSTCALL_BYTES_MAX: usize = BULK_BYTES_MAX + (1 << 20);

/// Live resources (streams, pollables, descriptors, errors) that a guest may make the host keep, and live handles that
/// the guest may hold, including those of its own resources. A simulator's client holds a dozen; the engine's defaults
/// are 1,000,000 and 100,000. A resource takes about a hundred bytes of host memory. This does not bound the buffer of
/// a single resource: ours have no buffers.
const RESOURCES_MAX: usize = 4096;

/// Bytes of one request to `wasi:random`. A larger request traps, since the interface cannot return less than was asked
/// for.
pub(crate) const RANDOM_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of one write to a stream, as `check-write` tells the guest. Upstream uses this value since its own 1 MiB let a
/// guest make the host allocate.
pub(crate) const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of one read of a file. A guest that asks for more gets this many, and asks again.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;

/// Core instances, and also tables, of one component. A Rust guest has about five. An interpreter whose shared
/// libraries were linked at build time has one for each library, about fifty.
const INSTANCES_MAX: usize = 256;

/// Linear memories of one component. Each memory reserves 4 GiB of address space, of the 128 TiB a process has; the
/// memory limit bounds their sum.
const MEMORIES_MAX: usize = 32;

/// Elements of all tables together, eight bytes each, which the memory limit does not cover. An interpreter's function
/// table has some tens of thousands.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// The engine's configuration, for compiling and for loading alike.
///
/// # Errors
///
/// None on the targets rollcage builds for: the engine refuses a backend that it was built without.
pub(crate) fn config(settings: &EngineSettings) -> wasmtime::Result<Config> {
    let mut config = Config::new();

    // Whose code: Cranelift in both cases. Winch had four advisories in one day, one of them an escape.
    config.strategy(Strategy::Cranelift).cranelift_opt_level(OptLevel::Speed);
    match settings.backend {
        Backend::Native => {}
        Backend::Pulley => {
            config.target("pulley64")?;
        }
        // A target that is named has no features of this machine's processor.
        Backend::Baseline => {
            config.target(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH))?;
        }
    }

    // The same results on every machine. Without `..`: no setting is named in a manifest and not made.
    let Answering {
        nan_canonicalization,
        relaxed_simd_deterministic,
        memory_may_move,
        wasm_stack_bytes,
        shared_memory,
        concurrency,
        memory64,
        custom_page_sizes,
        wide_arithmetic,
        stack_switching,
    } = ANSWERING;
    config.cranelift_nan_canonicalization(nan_canonicalization);
    config.relaxed_simd_deterministic(relaxed_simd_deterministic);
    config.memory_reservation(MEMORY_RESERVATION_BYTES).memory_may_move(memory_may_move);
    // Fuel is counted in wasm operators; epochs are wall time, and off for good.
    config.consume_fuel(settings.fuel).epoch_interruption(false);
    config.max_wasm_stack(wasm_stack_bytes).async_stack_size(ASYNC_STACK_BYTES);

    // Native code finds out-of-bounds accesses, divisions by zero and the like by signal, which makes it fast. The
    // interpreter never does, and the handlers lie idle.
    config.signals_based_traps(settings.backend.is_native());

    // A trap names the functions it came through. The code already has the names. Lines would need the plugin's debug
    // information, which is untrusted DWARF, and by default an environment variable decides.
    config
        .generate_address_map(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .debug_info(false)
        .debug_symbols(false);
    // Nothing unwinds through wasm frames, and the tables would be registered with the system at each load.
    config.native_unwind_info(false);

    // A memory's initial image is mapped from the code's own file, copy on write, so that workers share it.
    config.memory_init_cow(true);

    // Proposals that no plugin needs would be more compiler code to attack. GC, exceptions, threads and async
    // components are not even compiled in (`Cargo.toml`).
    config
        .concurrency_support(concurrency)
        .shared_memory(shared_memory)
        .wasm_memory64(memory64)
        .wasm_custom_page_sizes(custom_page_sizes)
        .wasm_wide_arithmetic(wide_arithmetic)
        .wasm_stack_switching(stack_switching);
    Ok(config)
}

/// Sets the caps of a store that [`MemoryLimiter`] does not set.
pub(crate) fn cap_store<T>(store: &mut Store<T>) {
    store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
    store.set_max_component_handles(RESOURCES_MAX);
}

/// An empty table of host resources with its cap set.
pub(crate) fn resource_table() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES_MAX);
    table
}

/// The most that a linear memory of 32 bits can grow to.
const ADDRESSABLE_BYTES: usize = 1 << 32;

/// An error of the operating system, which refused memory below the limit. The guest never gets `-1` for it, which
/// would make the machine's state part of the rollout.
#[derive(Debug, thiserror::Error)]
#[error("the operating system refused memory below the limit: {0}")]
pub(crate) struct SystemRefusal(String);

/// Bounds the linear memories and tables of one store.
///
/// Growth beyond a memory's own declared maximum or beyond the limit fails as wasm defines (`memory.grow` returns -1),
/// equally on every machine. A refusal by the limit is remembered, because a guest that then traps has run out of
/// memory. Growth that the operating system refuses is an error, which ends the instance.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    memory_bytes_max: usize,
    memory_bytes: usize,
    table_elements: usize,
    refused: Option<CapRefused>,
}

/// The limit of ours that a growth would have exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CapRefused {
    /// The memory limit, in bytes.
    Memory(usize),
    /// [`TABLE_ELEMENTS_MAX`].
    Table,
}

impl fmt::Display for CapRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CapRefused::Memory(bytes) => write!(f, "beyond the memory limit of {bytes} bytes"),
            CapRefused::Table => write!(f, "beyond the limit of {TABLE_ELEMENTS_MAX} table elements"),
        }
    }
}

impl MemoryLimiter {
    /// A limiter for a store that holds nothing yet. `memory_bytes_max` bounds the sum of its memories.
    pub(crate) fn new(memory_bytes_max: u64) -> MemoryLimiter {
        let memory_bytes_max = usize::try_from(memory_bytes_max).unwrap_or(usize::MAX);
        MemoryLimiter { memory_bytes_max, memory_bytes: 0, table_elements: 0, refused: None }
    }

    /// Forgets refusals of earlier calls.
    pub(crate) fn begin_call(&mut self) {
        self.refused = None;
    }

    /// The limit that refused a growth since [`MemoryLimiter::begin_call`]; the latest one.
    pub(crate) fn refused(&self) -> Option<CapRefused> {
        self.refused
    }

    /// Remembers a growth beyond the memory limit.
    fn refuse_memory(&mut self) {
        self.refused = Some(CapRefused::Memory(self.memory_bytes_max));
    }
}

/// The reason why a growth is too large.
enum TooMuch {
    /// The growth exceeds the maximum that the guest declared: wasm's own -1.
    Own,
    /// The growth exceeds a limit of ours.
    Limit,
}

/// The total after a growth.
fn grown(total: usize, from: usize, to: usize, own: Option<usize>, limit: usize) -> Result<usize, TooMuch> {
    if own.is_some_and(|own| to > own) {
        return Err(TooMuch::Own);
    }
    let grown = total.saturating_add(to.saturating_sub(from));
    if grown > limit { Err(TooMuch::Limit) } else { Ok(grown) }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // A memory without a declared maximum may use what 32 bits can address. Growth beyond that exceeds every limit
        // of ours too.
        if maximum.is_some_and(|maximum| desired > maximum && maximum >= ADDRESSABLE_BYTES) {
            self.refuse_memory();
        }
        match grown(self.memory_bytes, current, desired, maximum, self.memory_bytes_max) {
            Ok(bytes) => self.memory_bytes = bytes,
            Err(TooMuch::Own) => return Ok(false),
            Err(TooMuch::Limit) => {
                self.refuse_memory();
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        if is_system_refusal(&error) {
            return Err(SystemRefusal(error.root_cause().to_string()).into());
        }
        // The engine also gets here without asking first, for growth beyond 32 bits of address: this returns -1 too,
        // and exceeds every limit of ours.
        self.refuse_memory();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        match grown(self.table_elements, current, desired, maximum, TABLE_ELEMENTS_MAX) {
            Ok(elements) => self.table_elements = elements,
            Err(TooMuch::Own) => return Ok(false),
            Err(TooMuch::Limit) => {
                self.refused = Some(CapRefused::Table);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

/// Whether an engine error comes from the operating system or the host's allocator.
fn is_system_refusal(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<std::io::Error>() || cause.is::<rustix::io::Errno>() || cause.is::<wasmtime::OutOfMemory>()
    })
}

/// Whether an engine error means that a cap of this file, or the machine's memory, was reached.
///
/// Two of the caps have no error type of their own upstream, so their texts are matched here. Tests that reach each cap
/// with a guest would notice another wording.
pub(crate) fn is_memory_cap(error: &wasmtime::Error) -> bool {
    let table_full = error.chain().any(|cause| {
        matches!(
            cause.downcast_ref::<wasmtime::component::ResourceTableError>(),
            Some(wasmtime::component::ResourceTableError::Full)
        )
    });
    let text = error.root_cause().to_string();
    table_full
        || is_system_refusal(error)
        || error.is::<SystemRefusal>()
        || text.contains("store handle limit exceeded")
        || text.contains("fuel allocated for hostcalls has been exhausted")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 65_536;

    #[test]
    fn both_backends_make_an_engine_with_and_without_fuel() {
        for backend in [Backend::Native, Backend::Pulley, Backend::Baseline] {
            for fuel in [false, true] {
                let config = config(&EngineSettings { backend, fuel }).expect("a config");
                let engine = wasmtime::Engine::new(&config).expect("an engine");
                assert_eq!(engine.is_pulley(), backend == Backend::Pulley);
            }
        }
    }

    #[test]
    fn memories_share_one_limit_and_the_refusal_is_remembered_for_the_call() {
        let mut limiter = MemoryLimiter::new(10 * PAGE as u64);
        assert!(limiter.memory_growing(0, 6 * PAGE, None).expect("an answer"));
        assert!(limiter.memory_growing(0, 4 * PAGE, None).expect("an answer"));
        assert_eq!(limiter.refused(), None);
        assert!(!limiter.memory_growing(4 * PAGE, 5 * PAGE, None).expect("an answer"));
        assert!(limiter.refused().is_some());
        limiter.begin_call();
        assert_eq!(limiter.refused(), None);
    }

    #[test]
    fn a_guests_own_maximum_is_not_a_refusal_of_ours() {
        let mut limiter = MemoryLimiter::new(10 * PAGE as u64);
        assert!(!limiter.memory_growing(0, 3 * PAGE, Some(2 * PAGE)).expect("an answer"));
        assert_eq!(limiter.refused(), None);
        assert!(limiter.memory_growing(0, 10 * PAGE, None).expect("an answer"));
        assert!(!limiter.memory_growing(PAGE, ADDRESSABLE_BYTES + PAGE, Some(ADDRESSABLE_BYTES)).expect("an answer"));
        assert!(limiter.refused().is_some());
    }

    #[test]
    fn only_a_refusal_of_the_system_is_an_error() {
        let mut limiter = MemoryLimiter::new(PAGE as u64);
        assert!(limiter.memory_grow_failed(wasmtime::Error::msg("memory growth exceeds memory type's limits")).is_ok());
        assert!(limiter.refused().is_some());
        let refused = limiter.memory_grow_failed(rustix::io::Errno::NOMEM.into()).expect_err("an error");
        assert!(is_memory_cap(&refused));
    }

    #[test]
    fn table_elements_are_bounded() {
        let mut limiter = MemoryLimiter::new(0);
        assert!(limiter.table_growing(0, TABLE_ELEMENTS_MAX, None).expect("an answer"));
        assert!(!limiter.table_growing(0, 1, None).expect("an answer"));
        assert_eq!(limiter.refused(), Some(CapRefused::Table));
    }
}
