//! The world as a guest sees it: virtual clocks, seeded randomness, a log, and whatever else it was granted.
//!
//! The contract is in `docs/guest.md`: no arguments, no environment variables, only granted directories, stdin at its end,
//! stdout and stderr to the log. The engine's WASI crate provides the resource tables, stream and pollable types. The actions
//! of a call are here, and synchronous. The crate's own synchronous shims start a runtime with threads at the first blocking
//! call, and really sleep under a virtual clock; a worker has one thread.
//!
//! Granted directories are in `filesystem`, granted sockets in `sockets`, `tcp` and `udp`.

pub(crate) mod capture;
mod clock;
mod filesystem;
pub(crate) mod guest;
pub(super) mod line;
pub(crate) mod preopens;
pub(crate) mod random;
mod sockets;
pub(crate) mod streams;
mod tcp;
mod udp;

use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings;
use wasmtime_wasi::p2::bindings::cli::terminal_input::TerminalInput;
use wasmtime_wasi::p2::bindings::cli::terminal_output::TerminalOutput;
use wasmtime_wasi::p2::bindings::{cli, clocks, sync};
use wasmtime_wasi::p2::pipe::ClosedInputStream;
use wasmtime_wasi_io::bindings::wasi::io as asynchronous;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use self::guest::Guest;

/// Links every interface that a plugin may import, each by name. A directory, socket or name is denied inside the calls,
/// since the libraries of Rust, C and Python import all of these interfaces whether they use them or not.
///
/// # Errors
///
/// Only if an interface were linked twice.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Own = HasSelf<Guest>;
    let own: fn(&mut Guest) -> &mut Guest = |guest| guest;

    asynchronous::error::add_to_linker::<Guest, Table>(linker, |guest| &mut guest.table)?;
    sync::io::poll::add_to_linker::<Guest, Own>(linker, own)?;
    sync::io::streams::add_to_linker::<Guest, Own>(linker, own)?;

    clocks::monotonic_clock::add_to_linker::<Guest, Own>(linker, own)?;
    clocks::wall_clock::add_to_linker::<Guest, Own>(linker, own)?;

    bindings::random::random::add_to_linker::<Guest, Own>(linker, own)?;
    bindings::random::insecure::add_to_linker::<Guest, Own>(linker, own)?;
    bindings::random::insecure_seed::add_to_linker::<Guest, Own>(linker, own)?;

    cli::environment::add_to_linker::<Guest, Own>(linker, own)?;
    cli::exit::add_to_linker::<Guest, Own>(linker, own)?;
    cli::stdin::add_to_linker::<Guest, Own>(linker, own)?;
    cli::stdout::add_to_linker::<Guest, Own>(linker, own)?;
    cli::stderr::add_to_linker::<Guest, Own>(linker, own)?;
    cli::terminal_input::add_to_linker::<Guest, Own>(linker, own)?;
    cli::terminal_output::add_to_linker::<Guest, Own>(linker, own)?;
    cli::terminal_stdin::add_to_linker::<Guest, Own>(linker, own)?;
    cli::terminal_stdout::add_to_linker::<Guest, Own>(linker, own)?;
    cli::terminal_stderr::add_to_linker::<Guest, Own>(linker, own)?;

    // A guest gets descriptors only from the preopens. So without grants it can call only those functions of `types` that
    // look into an error.
    bindings::filesystem::preopens::add_to_linker::<Guest, Own>(linker, own)?;
    sync::filesystem::types::add_to_linker::<Guest, Own>(linker, own)?;

    crate::worker::wasi::sockets::link(linker)?;
    Ok(())
}

/// The table, for those interfaces of the crate that need only the table.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

// Waiting.

// Clocks.

// Randomness.

// Streams.

// The command line, which is empty.

/// The guest called exit. WASI 0.2 reports only success or failure; an exit number other than 0 is lost on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exit {
    /// `exit(0)`.
    #[error("the guest called exit with success")]
    Success,
    /// Any other status.
    #[error("the guest called exit with failure")]
    Failure,
    /// An exit by the newer function, which carries the number.
    #[error("the guest called exit with status {0}")]
    Code(u8),
}

impl cli::exit::Host for Guest {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(if status.is_ok() { Exit::Success } else { Exit::Failure }.into())
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        Err(Exit::Code(status).into())
    }
}

impl cli::environment::Host for Guest {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl cli::stdin::Host for Guest {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(ClosedInputStream);
        Ok(self.table.push(stream)?)
    }
}

impl cli::stdout::Host for Guest {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.log_stream()
    }
}

impl cli::stderr::Host for Guest {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.log_stream()
    }
}

impl cli::terminal_input::Host for Guest {}

impl cli::terminal_input::HostTerminalInput for Guest {
    fn drop(&mut self, terminal: Resource<TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_output::Host for Guest {}

impl cli::terminal_output::HostTerminalOutput for Guest {
    fn drop(&mut self, terminal: Resource<TerminalOutput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_stdin::Host for Guest {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<TerminalInput>>> {
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for Guest {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for Guest {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::guest::Outside;
    use super::streams::Log;
    use super::*;
    use crate::cage::wasm::{MemoryLimiter, RANDOM_BYTES_MAX};
    use crate::worker::wasi::clock::WALL_CLOCK_START_SECONDS;
    use crate::worker::wasi::random::{Random, key_create, key_reseed, key_reset};

    const STEP: Duration = Duration::from_millis(20);

    struct Nowhere;

    impl Log for Nowhere {
        fn write(&mut self, _: &[u8]) {}
    }

    fn guest() -> Guest {
        guest_with(Outside::default())
    }

    fn guest_with(outside: Outside) -> Guest {
        Guest::new(MemoryLimiter::new(0), key_create(&[0; 32], ""), outside, Box::new(Nowhere))
    }

    #[test]
    fn each_reading_adds_a_microsecond_to_both_clocks() {
        let mut guest = guest();
        assert_eq!(clocks::monotonic_clock::Host::now(&mut guest).expect("a time"), 0);
        let wall = clocks::wall_clock::Host::now(&mut guest).expect("a time");
        assert_eq!((wall.seconds, wall.nanoseconds), (WALL_CLOCK_START_SECONDS, 1_000));
        assert_eq!(clocks::monotonic_clock::Host::now(&mut guest).expect("a time"), 2_000);
    }

    #[test]
    fn a_step_begins_twenty_milliseconds_after_the_one_before_or_now() {
        let mut guest = guest();
        guest.clock.read();
        guest.begin_step(STEP);
        assert_eq!(guest.clock.now(), 1_000);
        guest.begin_step(STEP);
        assert_eq!(guest.clock.now(), 20_001_000);
        guest.clock.wait_until(90_000_000).expect("no wait");
        guest.begin_step(STEP);
        assert_eq!(guest.clock.now(), 90_000_000);
    }

    #[test]
    fn a_wait_jumps_to_its_timer_and_a_poll_to_the_earliest() {
        let mut guest = guest();
        let hour = 3_600_000_000_000;
        let late = clocks::monotonic_clock::Host::subscribe_duration(&mut guest, hour).expect("a timer");
        let soon = clocks::monotonic_clock::Host::subscribe_duration(&mut guest, 5_000).expect("a timer");
        let late_again = Resource::new_borrow(late.rep());
        assert_eq!(sync::io::poll::Host::poll(&mut guest, vec![late, soon]).expect("indices"), [1]);
        assert_eq!(guest.clock.now(), 5_000);
        sync::io::poll::HostPollable::block(&mut guest, late_again).expect("no trap");
        assert_eq!(guest.clock.now(), hour);
    }

    #[test]
    fn a_wait_that_nothing_ends_is_an_error() {
        let mut guest = guest();
        let never = clocks::monotonic_clock::Host::subscribe_instant(&mut guest, u64::MAX).expect("a timer");
        let error = sync::io::poll::HostPollable::block(&mut guest, never).expect_err("an error");
        assert!(error.to_string().contains("waits for nothing"), "{error}");
    }

    #[test]
    fn random_streams_are_pinned() {
        // Computed from the contract with other implementations of BLAKE3 and ChaCha12.
        let first = |key| Random::seeded(key).u64().expect("a draw");
        assert_eq!(first(key_create(&[7; 32], "{}")), 0xb9e8_f9e8_00e3_f22e);
        assert_eq!(first(key_reset(42)), 0xbb87_a03a_b5b1_a79b);
        assert_eq!(first(key_reseed(42)), 0x4b3c_c02c_5bfc_4830);
    }

    #[test]
    fn all_of_random_draws_from_one_stream_and_a_rewind_takes_draws_back() {
        let mut guest = guest();
        let mark = guest.mark();
        let drawn: Vec<u64> = (0..4).map(|_| guest.random.u64().expect("a draw")).collect();
        guest.rewind(&mark);
        assert_eq!(bindings::random::random::Host::get_random_u64(&mut guest).expect("a draw"), drawn[0]);
        let seed = bindings::random::insecure_seed::Host::insecure_seed(&mut guest).expect("a draw");
        assert_eq!(seed, (drawn[1], drawn[2]));
        let bytes = bindings::random::insecure::Host::get_insecure_random_bytes(&mut guest, 8).expect("a draw");
        assert_eq!(bytes, drawn[3].to_le_bytes());

        let mark = guest.mark();
        guest.rekey(key_reset(1));
        guest.clock.read();
        guest.rewind(&mark);
        assert_eq!(guest.mark(), mark);
    }

    #[test]
    fn a_request_for_too_much_randomness_is_an_error() {
        let mut guest = guest();
        assert!(bindings::random::random::Host::get_random_bytes(&mut guest, RANDOM_BYTES_MAX).is_ok());
        assert!(bindings::random::random::Host::get_random_bytes(&mut guest, RANDOM_BYTES_MAX + 1).is_err());
        assert!(bindings::random::random::Host::get_random_bytes(&mut guest, u64::MAX).is_err());
    }

    #[test]
    fn a_real_clock_is_the_machines_and_nobody_moves_it() {
        let mut guest = guest_with(Outside { real_clock: true, ..Outside::default() });
        let mark = guest.mark();
        let millis = 1_000_000;
        let timer = clocks::monotonic_clock::Host::subscribe_duration(&mut guest, 30 * millis).expect("a timer");
        let later = clocks::monotonic_clock::Host::subscribe_duration(&mut guest, 3_600_000 * millis).expect("a timer");
        let began = Instant::now();
        assert_eq!(sync::io::poll::Host::poll(&mut guest, vec![later, timer]).expect("indices"), [1]);
        assert!(began.elapsed() >= Duration::from_millis(25), "{:?}", began.elapsed());
        let now = clocks::monotonic_clock::Host::now(&mut guest).expect("a time");
        assert!((30 * millis..60_000 * millis).contains(&now), "{now}");

        guest.begin_step(Duration::from_secs(3_600));
        guest.begin_step(Duration::from_secs(3_600));
        guest.rewind(&mark);
        let after = clocks::monotonic_clock::Host::now(&mut guest).expect("a time");
        assert!((now..60_000 * millis).contains(&after), "{after}");
        assert_eq!(clocks::monotonic_clock::Host::resolution(&mut guest).expect("a time"), 1);
        let wall = clocks::wall_clock::Host::now(&mut guest).expect("a time");
        let machine = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        assert!(wall.seconds.abs_diff(machine.as_secs()) < 60, "{wall:?}");

        let never = clocks::monotonic_clock::Host::subscribe_instant(&mut guest, u64::MAX).expect("a timer");
        let error = sync::io::poll::HostPollable::block(&mut guest, never).expect_err("an error");
        assert!(error.to_string().contains("waits for nothing"), "{error}");
    }

    #[test]
    fn real_randomness_knows_no_seed() {
        let mut guest = guest_with(Outside { real_random: true, ..Outside::default() });
        let draw = |guest: &mut Guest| bindings::random::random::Host::get_random_u64(guest).expect("a draw");
        let (mark, first) = (guest.mark(), draw(&mut guest));
        guest.rewind(&mark);
        let second = draw(&mut guest);
        guest.rekey(key_create(&[0; 32], ""));
        let third = draw(&mut guest);
        assert!(first != second && second != third && third != first);
        assert_ne!(third, Random::seeded(key_create(&[0; 32], "")).u64().expect("a draw"));
        let bytes = bindings::random::random::Host::get_random_bytes(&mut guest, RANDOM_BYTES_MAX).expect("bytes");
        assert!(bytes.iter().any(|&byte| byte != 0) && bytes.len() as u64 == RANDOM_BYTES_MAX);
        assert!(bindings::random::random::Host::get_random_bytes(&mut guest, RANDOM_BYTES_MAX + 1).is_err());
    }
}
