//! A guest in a store of its own: how its code is instantiated, how each call into it is made, and the names of traps.
//! This file knows the engine, and nothing of what a guest is for.

use wasmtime::{Store, Trap, WasmBacktrace};

use super::answer::guest_fault;
use super::bindings::Pre;
use super::load::Loaded;
use super::wasi::Exit;
use super::wasi::guest::{Guest, Outside};
use super::wasi::streams::Log;
use crate::cage::wasm::{MemoryLimiter, cap_store, is_memory_cap};
use crate::fault::{BACKTRACE_FRAMES_MAX, FaultKind};
use crate::text::cut;
use crate::wire::talk::GuestFault;

/// Fuel of a call that is bounded by time only: more than any call burns in its time.
pub(super) const FUEL_UNBOUNDED: u64 = u64::MAX;

/// Bytes of a function's name in a backtrace. A mangled generic name can have thousands.
const FUNCTION_NAME_BYTES_MAX: usize = 200;

/// A guest whose exports are `E`.
///
/// After a fault it must not be called again: the guest's memory is as the trap left it.
pub(super) struct Running<E> {
    store: Store<Guest>,
    exports: E,
    fuel_counted: bool,
}

impl<E> Running<E> {
    /// Instantiates the code: the guest's first instructions run here. `key` is that of its random stream.
    ///
    /// # Errors
    ///
    /// A fault of kind `memory`, `trap` or `stack_overflow`: a limit was reached, or the guest's start trapped.
    pub(super) fn new(
        loaded: &Loaded,
        memory_bytes: u64,
        key: [u8; 32],
        outside: Outside,
        log: Box<dyn Log>,
        instantiate: impl FnOnce(&Pre, &mut Store<Guest>) -> wasmtime::Result<E>,
    ) -> Result<Running<E>, GuestFault> {
        let guest = Guest::new(MemoryLimiter::new(memory_bytes), key, outside, log);
        let mut store = Store::new(&loaded.engine, guest);
        store.limiter(|guest| &mut guest.limiter);
        cap_store(&mut store);
        let fuel_counted = loaded.settings.fuel;
        let exports =
            refuel(&mut store, fuel_counted, FUEL_UNBOUNDED).and_then(|()| instantiate(&loaded.pre, &mut store));
        match exports {
            Ok(exports) => Ok(Running { store, exports, fuel_counted }),
            Err(error) => Err(classify(&error, &store.data().limiter)),
        }
    }

    /// The guest's world.
    pub(super) fn guest(&self) -> &Guest {
        self.store.data()
    }

    pub(super) fn guest_mut(&mut self) -> &mut Guest {
        self.store.data_mut()
    }

    /// Makes every call into the guest: limits that count per call are reset, and a trap becomes a fault.
    #[inline]
    pub(super) fn call<T>(
        &mut self,
        fuel: u64,
        call: impl FnOnce(&E, &mut Store<Guest>) -> wasmtime::Result<T>,
    ) -> Result<T, GuestFault> {
        let Running { store, exports, fuel_counted } = self;
        store.data_mut().limiter.begin_call();
        let answer = refuel(store, *fuel_counted, fuel)
            .and_then(|()| call(exports, store))
            .map_err(|error| classify(&error, &store.data().limiter));
        let answer = answer.inspect_err(|_| store.data().end_call(true))?;
        // The answer depends on input whose capture failed.
        match store.data().capture_failure() {
            None => Ok(answer),
            Some(why) => Err(guest_fault(FaultKind::Trap, why)),
        }
    }
}

/// Gives a call its fuel, if fuel is counted.
#[inline]
fn refuel(store: &mut Store<Guest>, counted: bool, fuel: u64) -> wasmtime::Result<()> {
    if counted { store.set_fuel(fuel) } else { Ok(()) }
}

/// Names an error of the engine. Engine errors are examined only here.
fn classify(error: &wasmtime::Error, limiter: &MemoryLimiter) -> GuestFault {
    let trap = error.downcast_ref::<Trap>().copied();
    let cause = error.root_cause().to_string();
    let (kind, message) = if let Some(exit) = error.downcast_ref::<Exit>() {
        (FaultKind::Exited, exit.to_string())
    } else if trap == Some(Trap::OutOfFuel) {
        (FaultKind::Fuel, "the step's fuel is used up".to_owned())
    } else if trap == Some(Trap::StackOverflow) {
        (FaultKind::StackOverflow, cause)
    } else if is_memory_cap(error) {
        (FaultKind::Memory, cause)
    } else if let Some(limit) = limiter.refused() {
        (FaultKind::Memory, format!("{limit}: {cause}"))
    } else {
        (FaultKind::Trap, cause)
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    GuestFault { backtrace, ..guest_fault(kind, message) }
}

/// Function names, innermost first.
fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let name = |frame: &wasmtime::FrameInfo| {
        let mut name = match frame.func_name() {
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", frame.func_index()),
        };
        cut(&mut name, FUNCTION_NAME_BYTES_MAX);
        name
    };
    backtrace.frames().iter().take(BACKTRACE_FRAMES_MAX).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_engine_have_their_kinds() {
        let calm = MemoryLimiter::new(0);
        let mut refused = MemoryLimiter::new(0);
        let growth = wasmtime::ResourceLimiter::memory_growing(&mut refused, 0, 65_536, None);
        assert!(!growth.expect("an answer"));
        let kind = |error: wasmtime::Error, limiter: &MemoryLimiter| classify(&error, limiter).kind;

        assert_eq!(kind(Trap::OutOfFuel.into(), &calm), FaultKind::Fuel);
        assert_eq!(kind(Trap::StackOverflow.into(), &refused), FaultKind::StackOverflow);
        assert_eq!(kind(Trap::MemoryOutOfBounds.into(), &calm), FaultKind::Trap);
        assert_eq!(kind(Trap::UnreachableCodeReached.into(), &refused), FaultKind::Memory);
        assert_eq!(kind(Exit::Failure.into(), &refused), FaultKind::Exited);
        let full: wasmtime::Error = wasmtime::component::ResourceTableError::Full.into();
        assert_eq!(kind(full, &calm), FaultKind::Memory);
        assert_eq!(kind(wasmtime::Error::msg("anything else"), &calm), FaultKind::Trap);
    }
}
