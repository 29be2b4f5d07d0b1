//! What happened, as one number: the events of an instance, of an env, of a run.
//! Knows bytes in an order; knows nothing of where they came from.
//!
//! The events are those of the *instance*, so autoreset mode, number of envs, batching, timing and engine do not
//! enter. A reset enters together with the event that follows it: one that nothing follows (only same-step autoreset
//! makes such, after a run's last step) enters in no mode.

use std::fmt;

use crate::fault::FaultKind;

/// Records are gathered to this many bytes before they are hashed: BLAKE3's wide instructions want more than 1 KiB.
const BLOCK_BYTES: usize = 64 * 1024;

/// A BLAKE3 digest; prints as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The parts of a view that enter, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ViewParts<'a> {
    pub(crate) observation: &'a [u8],
    pub(crate) mask: &'a [u8],
    pub(crate) info: &'a [u8],
    pub(crate) extra: &'a [u8],
}

/// Flags of a step in the digest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepFlags {
    pub(crate) terminated: bool,
    pub(crate) truncated: bool,
    /// The host's time limit was reached by this step.
    pub(crate) time_limit: bool,
}

/// Kinds of calls that change or may change what follows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CallKind {
    Call = 1,
    SetAttribute = 2,
    Reseed = 3,
}

/// The digest of one instance, as it grows.
#[derive(Clone)]
pub(crate) struct InstanceDigest {
    hasher: blake3::Hasher,
    block: Vec<u8>,
    /// Where the last reset's record begins in `block`, while nothing followed it.
    open_reset: Option<usize>,
}

impl InstanceDigest {
    pub(crate) fn new() -> InstanceDigest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"rollcage-instance\x01");
        InstanceDigest { hasher, block: Vec::new(), open_reset: None }
    }

    /// A reset that answered.
    pub(crate) fn reset(&mut self, seed: Option<u64>, options: &str, view: ViewParts<'_>) {
        self.begin();
        self.open_reset = Some(self.block.len());
        self.block.extend([b'R', u8::from(seed.is_some())]);
        self.block.extend(seed.unwrap_or(0).to_le_bytes());
        self.text(options.as_bytes());
        self.view(view);
    }

    /// A step that answered.
    pub(crate) fn step(&mut self, action: &[u8], reward: f64, flags: StepFlags, view: ViewParts<'_>) {
        self.begin();
        self.block.push(b'S');
        self.block.extend(action);
        self.block.extend(reward.to_bits().to_le_bytes());
        self.block.push(u8::from(flags.terminated) | u8::from(flags.truncated) << 1 | u8::from(flags.time_limit) << 2);
        self.view(view);
    }

    /// A call, attribute or reseed that answered.
    pub(crate) fn call(&mut self, kind: CallKind, name: &str, arguments: &[u8], result: &[u8]) {
        self.begin();
        self.block.extend([b'C', kind as u8]);
        for text in [name.as_bytes(), arguments, result] {
            self.text(text);
        }
    }

    /// A fault: the last event of an instance.
    pub(crate) fn fault(&mut self, kind: FaultKind) {
        self.begin();
        self.block.extend([b'F', kind.number()]);
    }

    /// The host ended the instance, as it was told to after so many episodes: its last event.
    pub(crate) fn recycled(&mut self) {
        self.begin();
        self.block.push(b'E');
    }

    /// The digest so far; a reset that nothing followed is not in it.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.block[..self.open_reset.unwrap_or(self.block.len())]);
        Digest(*hasher.finalize().as_bytes())
    }

    /// Room for an event: what came before it is complete.
    fn begin(&mut self) {
        self.open_reset = None;
        if self.block.len() >= BLOCK_BYTES {
            self.hasher.update(&self.block);
            self.block.clear();
        }
    }

    fn text(&mut self, text: &[u8]) {
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.block.extend(len.to_le_bytes());
        self.block.extend(text);
    }

    fn view(&mut self, view: ViewParts<'_>) {
        self.block.extend(view.observation);
        self.block.extend(view.mask);
        self.block.extend(view.info);
        self.text(view.extra);
    }
}

/// The digest of an env: over the digests of its instances.
pub(crate) fn env_digest(instances: impl Iterator<Item = (u32, Digest)>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"rollcage-env\x01");
    for (number, digest) in instances {
        hasher.update(&number.to_le_bytes());
        hasher.update(&digest.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// The digest of a run: over the digests of its envs.
pub fn run_digest(envs: &[Digest]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"rollcage-run\x01");
    hasher.update(&u32::try_from(envs.len()).unwrap_or(u32::MAX).to_le_bytes());
    for digest in envs {
        hasher.update(&digest.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: ViewParts<'_> = ViewParts { observation: &[1; 8], mask: &[], info: &[], extra: b"" };

    #[test]
    fn a_reset_enters_with_the_event_that_follows_it() {
        let mut one = InstanceDigest::new();
        one.reset(Some(7), "", VIEW);
        assert_eq!(one.digest(), InstanceDigest::new().digest());
        one.step(&[0; 8], 1.0, StepFlags::default(), VIEW);
        let after_step = one.digest();
        one.reset(None, "", VIEW);
        assert_eq!(one.digest(), after_step);
        one.fault(FaultKind::Trap);
        assert_ne!(one.digest(), after_step);
    }

    #[test]
    fn the_bytes_are_those_of_the_contract() {
        let mut digest = InstanceDigest::new();
        digest.reset(Some(7), "{}", VIEW);
        digest.step(&[2; 8], -1.5, StepFlags { terminated: true, truncated: false, time_limit: true }, VIEW);
        let mut bytes = b"rollcage-instance\x01".to_vec();
        bytes.extend(b"R\x01\x07\0\0\0\0\0\0\0\x02\0\0\0{}\x01\x01\x01\x01\x01\x01\x01\x01\0\0\0\0");
        bytes.extend(b"S\x02\x02\x02\x02\x02\x02\x02\x02");
        bytes.extend((-1.5f64).to_le_bytes());
        bytes.extend(b"\x05\x01\x01\x01\x01\x01\x01\x01\x01\0\0\0\0");
        assert_eq!(digest.digest().0, *blake3::hash(&bytes).as_bytes());
    }

    #[test]
    fn blocks_do_not_show() {
        let (mut whole, mut plain) = (InstanceDigest::new(), b"rollcage-instance\x01".to_vec());
        for index in 0..5_000u32 {
            whole.step(&index.to_le_bytes(), 0.0, StepFlags::default(), VIEW);
            plain.push(b'S');
            plain.extend(index.to_le_bytes());
            plain.extend([0; 9]);
            plain.extend([1; 8]);
            plain.extend([0; 4]);
        }
        assert_eq!(whole.digest().0, *blake3::hash(&plain).as_bytes());
    }
}
