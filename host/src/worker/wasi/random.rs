//! The guest's randomness: a stream from a key, unless the kernel's randomness was granted.

use rand::rngs::SysRng;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng, TryRng};

use crate::cage::wasm::RANDOM_BYTES_MAX;
use crate::worker::wasi::capture::{self, Capture};
pub(super) use wasmtime_wasi::p2::bindings::random;

use super::guest::Guest;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RandomMark {
    key: [u8; 32],
    position: u128,
}

/// The source of all of `wasi:random`, drawn from in call order.
pub(super) enum Random {
    /// One stream from one key.
    Seeded { key: [u8; 32], stream: Box<ChaCha12Rng> },
    /// The kernel's randomness, by getrandom(2). Seeds do not affect it.
    Kernel(Capture),
}

impl Random {
    pub(super) fn seeded(key: [u8; 32]) -> Random {
        Random::Seeded { key, stream: Box::new(ChaCha12Rng::from_seed(key)) }
    }

    pub(super) fn rekey(&mut self, key: [u8; 32]) {
        if matches!(self, Random::Seeded { .. }) {
            *self = Random::seeded(key);
        }
    }

    fn bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        let length = usize::try_from(length.min(RANDOM_BYTES_MAX + 1))?;
        if length as u64 > RANDOM_BYTES_MAX {
            return Err(wasmtime::Error::msg(format!(
                "the guest asked for more than {RANDOM_BYTES_MAX} random bytes at once"
            )));
        }
        match self {
            Random::Seeded { stream, .. } => {
                let mut bytes = vec![0; length];
                stream.fill_bytes(&mut bytes);
                Ok(bytes)
            }
            Random::Kernel(capture) => {
                let draw = || {
                    let mut bytes = vec![0; length];
                    SysRng.try_fill_bytes(&mut bytes).map(|()| bytes).map_err(|error| error.to_string())
                };
                let sent = (length as u64).to_le_bytes();
                let drawn = capture.pass(capture::Input::Random, &sent, draw, || Ok(vec![0; length]));
                let bytes = drawn.map_err(no_randomness)?;
                // A recording is untrusted.
                if bytes.len() == length { Ok(bytes) } else { Err(no_randomness("the recording has another length")) }
            }
        }
    }

    pub(super) fn u64(&mut self) -> wasmtime::Result<u64> {
        match self {
            Random::Seeded { stream, .. } => Ok(stream.next_u64()),
            Random::Kernel(_) => {
                let bytes = self.bytes(8)?;
                Ok(u64::from_le_bytes(std::array::from_fn(|index| bytes[index])))
            }
        }
    }

    pub(super) fn mark(&self) -> Option<RandomMark> {
        let Random::Seeded { key, stream } = self else { return None };
        Some(RandomMark { key: *key, position: stream.get_word_pos() })
    }

    pub(super) fn rewind(&mut self, mark: &RandomMark) {
        let Random::Seeded { key, stream } = self else { return };
        if *key != mark.key {
            *key = mark.key;
            **stream = ChaCha12Rng::from_seed(mark.key);
        }
        if stream.get_word_pos() != mark.position {
            stream.set_word_pos(mark.position);
        }
    }
}

pub(super) fn no_randomness(error: impl std::fmt::Display) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the system gives no randomness: {error}"))
}

/// The key of the random stream from the instance's start to its first seed. `config` is RFC 8785 JSON, and empty before
/// there is a config (`describe`).
pub(crate) fn key_create(plugin_sha256: &[u8; 32], config: &str) -> [u8; 32] {
    key(&[b"rollcage-create\x01", plugin_sha256, config.as_bytes()])
}

/// The random stream's key after `reset(seed)`.
pub(crate) fn key_reset(seed: u64) -> [u8; 32] {
    key(&[b"rollcage-random\x01", &seed.to_le_bytes()])
}

/// The random stream's key after `reseed(seed)`.
pub(crate) fn key_reseed(seed: u64) -> [u8; 32] {
    key(&[b"rollcage-reseed\x01", &seed.to_le_bytes()])
}

pub(super) fn key(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl random::random::Host for Guest {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random.bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random.u64()
    }
}

impl random::insecure::Host for Guest {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random.bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random.u64()
    }
}

impl random::insecure_seed::Host for Guest {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random.u64()?, self.random.u64()?))
    }
}
