//! numpy's default generator, draw for draw: `SeedSequence`, PCG64, and the parts of `numpy.random.Generator` that
//! environments use. Gymnasium's `np_random(seed)` is [`NumpyRng::new`].

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

/// The generator behind Gymnasium's `self.np_random`: the same seed gives the same draws, in the same order.
///
/// ```
/// let mut rng = rollcage_sdk::NumpyRng::new(7);
/// assert_eq!(rng.random(), 0.625095466604667); // np.random.default_rng(7).random()
/// ```
#[derive(Clone, Debug)]
pub struct NumpyRng {
    bits: Pcg64,
    /// The high half of a 64-bit draw. numpy cuts a 64-bit draw in two for 32-bit draws, and uses the low half first.
    high_half: Option<u32>,
}

impl NumpyRng {
    /// A generator as `numpy.random.Generator(PCG64(SeedSequence(seed)))`, which is Gymnasium's `np_random(seed)`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let [state_high, state_low, stream_high, stream_low] = seed_sequence(seed);
        let join = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        Self { bits: Pcg64::new(join(state_high, state_low), join(stream_high, stream_low)), high_half: None }
    }

    /// Draws 64 bits. A half that waits for [`next_u32`](Self::next_u32) goes on waiting, as in numpy.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.bits.next_u64()
    }

    /// Draws 32 bits.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are meant")]
    pub fn next_u32(&mut self) -> u32 {
        self.high_half.take().unwrap_or_else(|| {
            let both = self.bits.next_u64();
            self.high_half = Some((both >> 32) as u32);
            both as u32
        })
    }

    /// Draws as `Generator.random()`: from 0 up to but without 1, in steps of 2^-53.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub fn random(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Draws as `Generator.uniform(low, high)`.
    #[inline]
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random()
    }

    /// Draws as `Generator.uniform(low, high, size=N)`.
    #[inline]
    pub fn uniform_array<const N: usize>(&mut self, low: f64, high: f64) -> [f64; N] {
        std::array::from_fn(|_| self.uniform(low, high))
    }

    /// Draws as `Generator.integers(low, high)`, dtype int64: from `low` up to but without `high`.
    ///
    /// # Panics
    ///
    /// If there is no such integer (`low >= high`).
    pub fn integers(&mut self, low: i64, high: i64) -> i64 {
        assert!(low < high, "integers({low}, {high}): low must be less than high");
        let last = high.wrapping_sub(low).wrapping_sub(1).cast_unsigned();
        low.wrapping_add(self.up_to(last).cast_signed())
    }

    /// Draws as `Generator.choice(n)`: an index from 0 up to but without `n`, all equally likely.
    /// `items[rng.choice(items.len())]` is `Generator.choice(items)`.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[expect(clippy::cast_possible_truncation, reason = "the draw is less than `n`, which is a usize")]
    pub fn choice(&mut self, n: usize) -> usize {
        assert!(n > 0, "choice from nothing");
        self.up_to(n as u64 - 1) as usize
    }

    /// Draws as Gymnasium's `categorical_sample`: the index of one of `weights`, which should sum to 1.
    ///
    /// Rounding may leave the sum below 1. A draw beyond the sum gives the index 0, as in Gymnasium.
    pub fn categorical(&mut self, weights: &[f64]) -> usize {
        let draw = self.random();
        let mut sum = 0.0;
        weights
            .iter()
            .position(|weight| {
                sum += weight;
                sum > draw
            })
            .unwrap_or(0)
    }

    /// Draws an integer from 0 to `last`, by Lemire's method, on 32 bits where they suffice: numpy's
    /// `random_bounded_uint64`.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of products are meant")]
    fn up_to(&mut self, last: u64) -> u64 {
        const LAST_32: u64 = u32::MAX as u64;
        match last {
            0 => 0,
            LAST_32 => u64::from(self.next_u32()),
            u64::MAX => self.next_u64(),
            1..LAST_32 => {
                let count = last as u32 + 1;
                let mut product = u64::from(self.next_u32()) * u64::from(count);
                if (product as u32) < count {
                    let threshold = count.wrapping_neg() % count;
                    while (product as u32) < threshold {
                        product = u64::from(self.next_u32()) * u64::from(count);
                    }
                }
                product >> 32
            }
            _ => {
                let count = last + 1;
                let mut product = u128::from(self.next_u64()) * u128::from(count);
                if (product as u64) < count {
                    let threshold = count.wrapping_neg() % count;
                    while (product as u64) < threshold {
                        product = u128::from(self.next_u64()) * u128::from(count);
                    }
                }
                (product >> 64) as u64
            }
        }
    }
}

/// The state of `numpy.random.SeedSequence(seed).generate_state(4, uint64)`, for a seed of one or two 32-bit words.
#[expect(clippy::cast_possible_truncation, reason = "the two words of a seed are meant")]
fn seed_sequence(seed: u64) -> [u64; 4] {
    const POOL: usize = 4;
    // The constants of M. E. O'Neill's `randutils::seed_seq_fe`, which numpy took over.
    const MULTIPLIER_IN: u32 = 0x931e_8875;
    const MULTIPLIER_OUT: u32 = 0x58f3_8ded;

    let mut constant: u32 = 0x43b0_d7e5;
    let mut hash = |value: u32| {
        let mixed = value ^ constant;
        constant = constant.wrapping_mul(MULTIPLIER_IN);
        let mixed = mixed.wrapping_mul(constant);
        mixed ^ mixed >> 16
    };
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(&mut hash);
    for source in 0..POOL {
        for target in (0..POOL).filter(|&target| target != source) {
            let mixed =
                pool[target].wrapping_mul(0xca01_f9dd).wrapping_sub(hash(pool[source]).wrapping_mul(0x4973_f715));
            pool[target] = mixed ^ mixed >> 16;
        }
    }

    let mut constant: u32 = 0x8b51_f9dd;
    let mut word = |index: usize| {
        let mixed = pool[index % POOL] ^ constant;
        constant = constant.wrapping_mul(MULTIPLIER_OUT);
        let mixed = mixed.wrapping_mul(constant);
        u64::from(mixed ^ mixed >> 16)
    };
    std::array::from_fn(|index| word(2 * index) | word(2 * index + 1) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What numpy 2.4 draws: seed, `random_raw(3)`, and from a fresh generator `integers(2**32)`, `integers(13)`,
    /// `random()`, `integers(-5, 6)`, `choice(13)`, `integers(2**40)`, `integers(3)`, `uniform(-0.05, 0.05)`,
    /// `integers(1000000007)`.
    #[expect(clippy::type_complexity, reason = "a table")]
    #[rustfmt::skip]
    const NUMPY: [(u64, [u64; 3], (i64, i64, f64, i64, usize, i64, i64, f64, i64)); 6] = [
        (0, [11749869230777074271, 4976686463289251617, 755828109848996024],
         (3653403231, 8, 0.2697867137638703, -2, 0, 18172327443, 0, 0.04127555772777218, 813270244)),
        (7, [11530976094092348043, 16550673365885938325, 14308875409591826786],
         (4058335883, 8, 0.8972138009695755, 1, 10, 247617924053, 0, 0.03735534453962619, 300166286)),
        (4294967295, [4647538520743280031, 4041050679407036418, 5299467714154781845],
         (819527071, 3, 0.21906579628685663, 5, 3, 680577139510, 2, -0.020403332027332823, 935012297)),
        (4294967296, [16412783775159424549, 10277383025879800780, 14774146505460541886],
         (2242647589, 11, 0.5571380502062263, -2, 10, 1051698064442, 2, -0.026359930470041915, 58615160)),
        (123456789012345678, [498569118454531373, 15057867900059626700, 11094240267628994210],
         (3245753645, 0, 0.8162886545122193, -2, 7, 1081499387392, 1, 0.02372240776513565, 77663053)),
        (18446744073709551615, [12544278110101001871, 15593249672699323225, 136562751618339402],
         (2353485455, 8, 0.8453117585624743, -2, 0, 983588056857, 1, -0.01811614897327126, 128965235)),
    ];

    #[test]
    fn draws_are_numpys() {
        for (seed, raw, mixed) in NUMPY {
            let mut rng = NumpyRng::new(seed);
            assert_eq!(std::array::from_fn(|_| rng.next_u64()), raw, "seed {seed}");
            let mut rng = NumpyRng::new(seed);
            let drawn = (
                rng.integers(0, 1 << 32),
                rng.integers(0, 13),
                rng.random(),
                rng.integers(-5, 6),
                rng.choice(13),
                rng.integers(0, 1 << 40),
                rng.integers(0, 3),
                rng.uniform(-0.05, 0.05),
                rng.integers(0, 1_000_000_007),
            );
            assert_eq!(drawn, mixed, "seed {seed}");
            let before = rng.clone().next_u64();
            assert_eq!(rng.integers(4, 5), 4);
            assert_eq!(rng.next_u64(), before, "an integer without a choice draws nothing");
        }
    }

    #[test]
    fn rejections_are_numpys() {
        let mut rng = NumpyRng::new(42);
        #[rustfmt::skip]
        let numpy = [2493086937, 2108522448, 1413726408, 2765737489, 276850281, 2246379658,
                     648978800, 303366471, 3142699569, 2370024276, 2451802595, 2532090362];
        assert_eq!(std::array::from_fn(|_| rng.integers(0, 3 << 30)), numpy);
        let mut rng = NumpyRng::new(42);
        #[rustfmt::skip]
        let numpy = [3035954346590650344, 5939376034059241549, 4824063583966999348,
                     6748895937462714196, 5265205982608349610, 3115557799033939721];
        assert_eq!(std::array::from_fn(|_| rng.integers(0, 3 << 61)), numpy);
    }

    #[test]
    fn categories_are_gymnasiums() {
        let draw = NumpyRng::new(7).random();
        assert!((0.6..0.7).contains(&draw));
        assert_eq!(NumpyRng::new(7).categorical(&[0.0, 0.6, 0.1, 0.3]), 2);
        assert_eq!(NumpyRng::new(7).categorical(&[0.1, 0.1]), 0, "past the sum: the first");
    }
}
