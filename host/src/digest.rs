//! Digests: the events of an instance, of an env, of a run, as one number. Knows bytes in an order; knows nothing of
//! where they came from.
//!
//! The events are those of the *instance*, so autoreset mode, number of envs, batching, timing and engine do not change
//! a digest. A reset enters together with the event that follows it. A reset without a following event enters in no
//! mode; only same-step autoreset makes such a reset, after a run's last step.

use std::fmt;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::fault::FaultKind;

/// Bytes of records that are gathered before they are hashed: BLAKE3's wide instructions need more than 1 KiB.
const BLOCK_BYTES: usize = 64 * 1024;

/// A BLAKE3 digest, which prints as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Parses a digest from 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Digest> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).ok()?;
        Some(Digest(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The parts of a view that enter a digest, in order.
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
    /// Whether this step reached the host's time limit.
    pub(crate) time_limit: bool,
}

/// Kinds of calls that change or may change what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Call = 1,
    SetAttribute = 2,
    Reseed = 3,
}

/// A hasher for the bytes of events: the crate's BLAKE3, or an [`Edge`], whose digest is read after every event.
pub(crate) trait Absorb: Clone + Default {
    fn absorb(&mut self, bytes: &[u8]);
    fn root(&self) -> Digest;
}

impl Absorb for blake3::Hasher {
    fn absorb(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }

    fn root(&self) -> Digest {
        Digest(*self.finalize().as_bytes())
    }
}

/// The digest of one instance, which grows with every event.
#[derive(Clone)]
pub(crate) struct InstanceDigest<H: Absorb = blake3::Hasher> {
    hasher: H,
    block: Vec<u8>,
    /// Where the last reset's record begins in `block`, while no event has followed it.
    open_reset: Option<usize>,
}

impl<H: Absorb> InstanceDigest<H> {
    pub(crate) fn new() -> InstanceDigest<H> {
        let mut hasher = H::default();
        hasher.absorb(b"rollcage-instance\x01");
        InstanceDigest { hasher, block: Vec::new(), open_reset: None }
    }

    /// Enters an answered reset.
    pub(crate) fn reset(&mut self, seed: Option<u64>, options: &str, view: ViewParts<'_>) {
        self.begin();
        self.open_reset = Some(self.block.len());
        self.block.extend([b'R', u8::from(seed.is_some())]);
        self.block.extend(seed.unwrap_or(0).to_le_bytes());
        self.text(options.as_bytes());
        self.view(view);
    }

    /// Enters an answered step.
    pub(crate) fn step(&mut self, action: &[u8], reward: f64, flags: StepFlags, view: ViewParts<'_>) {
        self.begin();
        self.block.push(b'S');
        self.block.extend(action);
        self.block.extend(reward.to_bits().to_le_bytes());
        self.block.push(u8::from(flags.terminated) | u8::from(flags.truncated) << 1 | u8::from(flags.time_limit) << 2);
        self.view(view);
    }

    /// Enters an answered call, attribute or reseed.
    pub(crate) fn call(&mut self, kind: CallKind, name: &str, arguments: &[u8], result: &[u8]) {
        self.begin();
        self.block.extend([b'C', kind as u8]);
        for text in [name.as_bytes(), arguments, result] {
            self.text(text);
        }
    }

    /// Enters a fault, the last event of an instance.
    ///
    /// A policy's fault ends its process, and says nothing of the instance: it does not enter. Neither does the loss of a node,
    /// with which the events before it are lost.
    pub(crate) fn fault(&mut self, kind: FaultKind) {
        if matches!(kind, FaultKind::Policy | FaultKind::NodeLost) {
            return;
        }
        self.begin();
        self.block.extend([b'F', kind.number()]);
    }

    /// Enters the instance's end by the host, which was told to end it after so many episodes. It is the last event.
    pub(crate) fn recycled(&mut self) {
        self.begin();
        self.block.push(b'E');
    }

    /// The digest so far, without a reset that no event has followed.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = self.hasher.clone();
        hasher.absorb(&self.block[..self.open_reset.unwrap_or(self.block.len())]);
        hasher.root()
    }

    /// Makes room for an event: everything before it is complete.
    fn begin(&mut self) {
        self.open_reset = None;
        if self.block.len() >= BLOCK_BYTES {
            self.hasher.absorb(&self.block);
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

impl InstanceDigest<Edge> {
    /// Adds the digest so far to those that `edges` computes later. Only to be called after a complete event, which a
    /// reset is not.
    pub(crate) fn owe(&mut self, edges: &mut Edges) {
        self.hasher.absorb(&self.block);
        self.block.clear();
        edges.add(&self.hasher);
    }
}

/// Bytes of a leaf of BLAKE3's tree.
const CHUNK_BYTES: usize = 1024;

/// BLAKE3's tree as it grows to the right: the chunk under way, and the whole subtrees to its left. A digest after
/// every event costs the walk from that chunk up to the root: one block per level, each waiting for the block before.
/// [`Edges`] walks many of them side by side.
#[derive(Clone)]
pub(crate) struct Edge {
    chunk: blake3::Hasher,
    in_chunk: usize,
    /// The number of chunks before the chunk under way.
    chunks: u64,
    /// Whole subtrees, largest first.
    left: Vec<[u8; 32]>,
}

impl Default for Edge {
    fn default() -> Edge {
        Edge { chunk: blake3::Hasher::new(), in_chunk: 0, chunks: 0, left: Vec::new() }
    }
}

impl Absorb for Edge {
    fn absorb(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.in_chunk == CHUNK_BYTES {
                self.close_chunk();
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.in_chunk));
            self.chunk.update(now);
            self.in_chunk += now.len();
            bytes = later;
        }
    }

    fn root(&self) -> Digest {
        let Some((first, others)) = self.left.split_first() else { return self.chunk.root() };
        let right = others
            .iter()
            .rev()
            .fold(self.chunk.finalize_non_root(), |right, left| merge_subtrees_non_root(left, &right, Mode::Hash));
        Digest(*merge_subtrees_root(first, &right, Mode::Hash).as_bytes())
    }
}

impl Edge {
    /// Closes a full chunk when more bytes follow: the chunk becomes a subtree, and merges with subtrees of its size.
    fn close_chunk(&mut self) {
        let mut tree = self.chunk.finalize_non_root();
        self.chunks += 1;
        // There are as many merges as a counter of chunks has carries.
        for _ in 0..self.chunks.trailing_zeros() {
            if let Some(left) = self.left.pop() {
                tree = merge_subtrees_non_root(&left, &tree, Mode::Hash);
            }
        }
        self.left.push(tree);
        self.chunk = blake3::Hasher::new();
        self.chunk.set_input_offset(self.chunks * CHUNK_BYTES as u64);
        self.in_chunk = 0;
    }
}

/// Digests that are still to be computed: right edges of trees, walked up together in the processor's wide
/// instructions.
#[derive(Default)]
pub(crate) struct Edges {
    /// The present node of each edge; in the end it is the digest itself.
    at: Vec<[u8; 32]>,
    /// The number of subtrees left of each edge, and where they begin in `left`.
    above: Vec<(usize, usize)>,
    left: Vec<[u8; 32]>,
}

/// BLAKE3's initial value, which is SHA-256's.
const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// Domain flags from BLAKE3's paper, section 2.1.
const PARENT: u8 = 1 << 2;
const ROOT: u8 = 1 << 3;

impl Edges {
    fn add(&mut self, edge: &Edge) {
        self.above.push((edge.left.len(), self.left.len()));
        self.left.extend_from_slice(&edge.left);
        self.at.push(if edge.left.is_empty() { edge.chunk.root().0 } else { edge.chunk.finalize_non_root() });
    }

    /// Computes all outstanding digests, in the order in which they were added. Afterwards none is outstanding.
    pub(crate) fn walk(&mut self) -> Vec<Digest> {
        let platform = blake3::platform::Platform::detect();
        let mut which = Vec::with_capacity(self.at.len());
        let mut blocks: Vec<[u8; 64]> = Vec::with_capacity(self.at.len());
        let mut out = Vec::new();
        let deepest = self.above.iter().map(|(depth, _)| *depth).max().unwrap_or(0);
        for level in (1..=deepest).rev() {
            which.clear();
            which.extend((0..self.at.len()).filter(|&index| self.above[index].0 >= level));
            blocks.clear();
            blocks.extend(which.iter().map(|&index| {
                let mut block = [0; 64];
                block[..32].copy_from_slice(&self.left[self.above[index].1 + level - 1]);
                block[32..].copy_from_slice(&self.at[index]);
                block
            }));
            let inputs: Vec<&[u8; 64]> = blocks.iter().collect();
            out.resize(32 * inputs.len(), 0);
            let flags = if level == 1 { PARENT | ROOT } else { PARENT };
            platform.hash_many(&inputs, &IV, 0, blake3::IncrementCounter::No, flags, 0, 0, &mut out);
            for (&index, found) in which.iter().zip(out.as_chunks::<32>().0) {
                self.at[index] = *found;
            }
        }
        self.above.clear();
        self.left.clear();
        std::mem::take(&mut self.at).into_iter().map(Digest).collect()
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
        let mut one = <InstanceDigest>::new();
        one.reset(Some(7), "", VIEW);
        assert_eq!(one.digest(), <InstanceDigest>::new().digest());
        one.step(&[0; 8], 1.0, StepFlags::default(), VIEW);
        let after_step = one.digest();
        one.reset(None, "", VIEW);
        assert_eq!(one.digest(), after_step);
        one.fault(FaultKind::Trap);
        assert_ne!(one.digest(), after_step);
    }

    #[test]
    fn the_bytes_are_those_of_the_contract() {
        let mut digest = <InstanceDigest>::new();
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
    fn an_edge_that_is_walked_after_every_event_is_blake3() {
        let (mut digest, mut edges) = (InstanceDigest::<Edge>::new(), Edges::default());
        let mut plain = b"rollcage-instance\x01".to_vec();
        let mut expected = Vec::new();
        for index in 0..4_000u32 {
            // Events of many lengths, so that chunks end inside events, at their ends, and several in one event.
            let action = vec![7; (index % 131) as usize + if index % 500 == 0 { 5_000 } else { 0 }];
            digest.step(&action, 0.0, StepFlags::default(), VIEW);
            plain.push(b'S');
            plain.extend(&action);
            plain.extend([0; 9]);
            plain.extend([1; 8]);
            plain.extend([0; 4]);
            digest.owe(&mut edges);
            if index % 16 == 0 || index < 40 {
                assert_eq!(digest.digest().0, *blake3::hash(&plain).as_bytes(), "{index}");
            }
            expected.push(digest.digest());
        }
        assert_eq!(edges.walk(), expected);
        assert_eq!(edges.walk(), []);
    }

    #[test]
    fn blocks_do_not_show() {
        let (mut whole, mut plain) = (<InstanceDigest>::new(), b"rollcage-instance\x01".to_vec());
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
