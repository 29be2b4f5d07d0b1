//! Drawing a value of a space, with Gymnasium's distributions.
//!
//! The draws are part of a seed's meaning: the same generator gives the same bytes on every machine and with every
//! release. So nothing here calls the platform's `ln` or `cos`, whose last bits differ, or a crate's distributions,
//! which change. Exponential and normal numbers are made by comparing uniform numbers.

use rand::Rng;

use super::dtype::Number;
use super::shape::count;
use super::{Dtype, Layout, LeafKind};

/// Characters of a sampled text whose space has no charset: Gymnasium's default charset.
const ALPHANUMERIC: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

impl Layout {
    /// Draws a value into `value` (one stride; all of it is written).
    ///
    /// `Box`: floats are uniform between two bounds, exponential from one bound, normal without bounds; integers and
    /// booleans are uniform, bounds included. (Gymnasium draws integers without bounds near 0; bytes cannot tell those
    /// from integers bounded by their type.) Discrete and MultiDiscrete: uniform among the choices that `mask` allows,
    /// or among all without a mask; the first choice if the mask allows none. MultiBinary: uniform. Text: a uniform
    /// length, then uniform characters of the charset, or ASCII letters and digits without a charset.
    ///
    /// # Panics
    ///
    /// When `value` is not of this layout's stride, or `mask` not of its [`Layout::mask_len`].
    pub fn sample(&self, rng: &mut (impl Rng + ?Sized), mask: Option<&[u8]>, value: &mut [u8]) {
        self.fill(mask, value, &mut Draw(rng));
    }

    /// Writes the zero of the space into `value`: 0 if the bounds allow it, otherwise the bound next to it; the first
    /// choice (that `mask` allows); the shortest text, of the charset's first character.
    ///
    /// # Panics
    ///
    /// As [`Layout::sample`].
    pub fn zero(&self, mask: Option<&[u8]>, value: &mut [u8]) {
        self.fill(mask, value, &mut Zero);
    }

    fn fill(&self, mask: Option<&[u8]>, value: &mut [u8], choose: &mut impl Choose) {
        assert_eq!(value.len(), self.stride, "the value must be of the layout's stride");
        assert!(mask.is_none_or(|mask| self.mask_len() == Ok(mask.len())), "the mask must be of the layout's mask_len");
        value.fill(0);
        for leaf in &self.leaves {
            let bytes = leaf.bytes_mut(value);
            match &leaf.kind {
                LeafKind::Box { dtype, shape, low, high } => {
                    for index in 0..count(shape) {
                        let number = choose.number(*dtype, dtype.bound(low, index), dtype.bound(high, index));
                        dtype.write(number, bytes, index);
                    }
                }
                LeafKind::Discrete { .. } | LeafKind::MultiDiscrete { .. } => {
                    let mut masks = mask.map(|mask| leaf.mask(mask));
                    for (index, n, start) in leaf.kind.choices() {
                        let choice = match &mut masks {
                            None => choose.below(n as u64),
                            Some(masks) => {
                                let (mask, rest) = masks.split_at(n);
                                *masks = rest;
                                let allowed = mask.iter().filter(|allowed| **allowed == 1).count();
                                let nth = if allowed == 0 { 0 } else { choose.below(allowed as u64) };
                                let is_nth = |(seen, (choice, _)): (u64, (usize, &u8))| (seen == nth).then_some(choice);
                                let choices = mask.iter().enumerate().filter(|(_, allowed)| **allowed == 1);
                                (0..).zip(choices).find_map(is_nth).unwrap_or(0) as u64
                            }
                        };
                        let value = start.wrapping_add_unsigned(choice);
                        bytes[8 * index..][..8].copy_from_slice(&value.to_le_bytes());
                    }
                }
                LeafKind::MultiBinary { .. } => {
                    for byte in bytes {
                        *byte = u8::from(choose.below(2) == 1);
                    }
                }
                LeafKind::Text { min_length, max_length, charset, .. } => {
                    let length = u64::from(*min_length) + choose.below(u64::from(max_length - min_length) + 1);
                    let mut end = 4;
                    for _ in 0..length {
                        let char = match charset {
                            Some(charset) => charset[choose.index(charset.len())],
                            None => char::from(ALPHANUMERIC[choose.index(ALPHANUMERIC.len())]),
                        };
                        end += char.encode_utf8(&mut bytes[end..]).len();
                    }
                    let len = u32::try_from(end - 4).unwrap_or(u32::MAX);
                    bytes[..4].copy_from_slice(&len.to_le_bytes());
                }
            }
        }
    }
}

/// How to choose where a space leaves a choice.
trait Choose {
    /// A number of `0..n`; `n` is at least 1.
    fn below(&mut self, n: u64) -> u64;
    /// An element of a `Box`.
    fn number(&mut self, dtype: Dtype, low: Number, high: Number) -> Number;
    /// An index into `len` things.
    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}

struct Zero;

impl Choose for Zero {
    fn below(&mut self, _n: u64) -> u64 {
        0
    }

    fn number(&mut self, dtype: Dtype, low: Number, high: Number) -> Number {
        let zero = if dtype.is_float() { Number::Float(0.0) } else { Number::Int(0) };
        clip(zero, low, high)
    }
}

/// `number`, or the bound that it exceeds.
fn clip(number: Number, low: Number, high: Number) -> Number {
    if number < low {
        low
    } else if number > high {
        high
    } else {
        number
    }
}

struct Draw<'a, R: ?Sized>(&'a mut R);

impl<R: Rng + ?Sized> Choose for Draw<'_, R> {
    /// Lemire's multiplication with rejection, which is exactly uniform.
    fn below(&mut self, n: u64) -> u64 {
        loop {
            let (low, high) = self.0.next_u64().carrying_mul(n, 0);
            if low >= n || low >= n.wrapping_neg() % n {
                return high;
            }
        }
    }

    fn number(&mut self, dtype: Dtype, low: Number, high: Number) -> Number {
        match (low, high) {
            (Number::Float(from), Number::Float(to)) => {
                let drawn = match (from > f64::NEG_INFINITY, to < f64::INFINITY) {
                    (true, true) => self.uniform(from, to),
                    (true, false) => from + self.exponential(),
                    (false, true) => to - self.exponential(),
                    (false, false) => self.normal(),
                };
                // Rounding to a narrow dtype can exceed a bound, or reach infinity.
                let (least, greatest) = dtype.limits();
                let drawn = clip(Number::Float(dtype.round(drawn)), least, greatest);
                clip(drawn, low, high)
            }
            (Number::Int(from), Number::Int(to)) => {
                let drawn = match u64::try_from(to - from) {
                    Ok(u64::MAX) | Err(_) => self.0.next_u64(),
                    Ok(span) => self.below(span + 1),
                };
                Number::Int(from + i128::from(drawn))
            }
            // Both bounds are of the same dtype.
            _ => low,
        }
    }
}

impl<R: Rng + ?Sized> Draw<'_, R> {
    /// A number from 0 to below 1, in steps of 2^-53.
    fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.0.next_u64() >> 11) as f64 * STEP
    }

    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        let part = self.unit();
        let span = high - low;
        if span.is_finite() { low + span * part } else { low * (1.0 - part) + high * part }
    }

    /// An exponential number with mean 1, by von Neumann's comparison: in uniform numbers `first > second > …`, the
    /// fall ends at an even place with probability e^-first. It takes 4.3 numbers on average.
    fn exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let first = self.unit();
            let (mut last, mut even) = (first, true);
            loop {
                let next = self.unit();
                if next >= last {
                    break;
                }
                (last, even) = (next, !even);
            }
            if even {
                return whole + first;
            }
            whole += 1.0;
        }
    }

    /// A normal number with mean 0 and deviation 1: an exponential number, kept with probability e^(-(x-1)²/2), is half
    /// of it.
    fn normal(&mut self) -> f64 {
        loop {
            let (x, threshold) = (self.exponential(), self.exponential());
            if threshold >= (x - 1.0) * (x - 1.0) / 2.0 {
                return if self.below(2) == 0 { x } else { -x };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::super::dtype::array;
    use super::super::examples::{all, multi, number_box, text};
    use super::super::{Space, layout::decode_text};
    use super::*;

    const DRAWS: usize = 100_000;

    fn rng() -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(7)
    }

    #[test]
    fn samples_and_zeros_are_in_the_space() {
        let mut rng = rng();
        for space in all() {
            let layout = space.layout();
            let mut value = vec![0xff; layout.stride];
            layout.zero(None, &mut value);
            assert_eq!(layout.contains(&value), Ok(()), "{space}");
            for _ in 0..300 {
                value.fill(0xff);
                layout.sample(&mut rng, None, &mut value);
                assert_eq!(layout.contains(&value), Ok(()), "{space}");
            }
        }
    }

    #[test]
    fn masked_samples_are_allowed() {
        let mut rng = rng();
        for space in all() {
            let layout = space.layout();
            let Ok(len) = layout.mask_len() else { continue };
            let mut value = vec![0; layout.stride];
            for _ in 0..300 {
                let mask: Vec<u8> = (0..len).map(|_| u8::from(rng.next_u32().is_multiple_of(3))).collect();
                layout.sample(&mut rng, Some(&mask), &mut value);
                assert_eq!(layout.check(&value), Ok(()), "{space}");
                assert_eq!(layout.check_unmasked(&value, &mask), Ok(()), "{space}");
                layout.zero(Some(&mask), &mut value);
                assert_eq!(layout.check_unmasked(&value, &mask), Ok(()), "{space}");
            }
        }
    }

    #[test]
    fn a_mask_that_allows_nothing_gives_the_first_choice() {
        let layout = multi().layout();
        let mut value = vec![0; layout.stride];
        layout.sample(&mut rng(), Some(&[0; 11]), &mut value);
        assert_eq!(layout.to_json(&value).to_string(), format!("[[-2,0],[7,{}]]", i64::MAX - 1));
    }

    /// Mean and variance of draws from a float64 `Box` between two bounds.
    fn moments(low: f64, high: f64) -> (f64, f64) {
        let layout = number_box(Dtype::Float64, &[], Number::Float(low), Number::Float(high)).layout();
        let (mut rng, mut value) = (rng(), [0; 8]);
        let mut draw = || {
            layout.sample(&mut rng, None, &mut value);
            f64::from_le_bytes(value)
        };
        let draws: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
        let mean = draws.iter().sum::<f64>() / DRAWS as f64;
        (mean, draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / DRAWS as f64)
    }

    #[test]
    fn floats_have_gymnasiums_distributions() {
        let infinity = f64::INFINITY;
        for (low, high, mean, variance) in [
            (-infinity, infinity, 0.0, 1.0),
            (3.0, infinity, 4.0, 1.0),
            (-infinity, 3.0, 2.0, 1.0),
            (2.0, 4.0, 3.0, 1.0 / 3.0),
        ] {
            let found = moments(low, high);
            let near = |found: f64, expected: f64| (found - expected).abs() < 0.02;
            assert!(near(found.0, mean) && near(found.1, variance), "{low} to {high}: {found:?}");
        }
    }

    /// This checks more than mean and variance: the share of draws in each part of the line, against the exact share.
    #[test]
    fn exponential_and_normal_have_the_right_shape() {
        let mut rng = rng();
        let mut draw = Draw(&mut rng);
        let exponential: Vec<f64> = (0..DRAWS).map(|_| draw.exponential()).collect();
        let normal: Vec<f64> = (0..DRAWS).map(|_| draw.normal()).collect();
        let below = |draws: &[f64], x: f64| draws.iter().filter(|draw| **draw < x).count() as f64 / DRAWS as f64;
        for (x, share) in [(0.1, 0.095_163), (0.5, 0.393_469), (1.0, 0.632_121), (2.5, 0.917_915), (5.0, 0.993_262)] {
            assert!((below(&exponential, x) - share).abs() < 0.004, "exponential below {x}");
        }
        for (x, share) in [(-2.0, 0.022_750), (-1.0, 0.158_655), (0.0, 0.5), (0.5, 0.691_462), (1.5, 0.933_193)] {
            assert!((below(&normal, x) - share).abs() < 0.004, "normal below {x}");
        }
    }

    #[test]
    fn every_choice_is_as_likely() {
        let mut rng = rng();
        let spaces = [
            Space::Discrete { n: 5, start: -2 },
            number_box(Dtype::Int8, &[], Number::Int(-2), Number::Int(2)),
            number_box(Dtype::Int64, &[], Number::Int(-2), Number::Int(2)),
        ];
        for space in spaces {
            let layout = space.layout();
            let (mut value, mut seen) = ([0; 8], [0; 5]);
            for _ in 0..DRAWS {
                layout.sample(&mut rng, None, &mut value);
                let number = layout.to_json(&value).as_i64().unwrap_or(i64::MAX);
                seen[usize::try_from(number + 2).unwrap_or(usize::MAX)] += 1;
            }
            for count in seen {
                assert!((f64::from(count) / DRAWS as f64 - 0.2).abs() < 0.01, "{space}: {seen:?}");
            }
        }
    }

    #[test]
    fn texts_are_of_every_length() {
        let layout = text(1, 3, Some("xyz")).layout();
        let (mut rng, mut value, mut lengths) = (rng(), [0; 16], [0; 4]);
        for _ in 0..30_000 {
            layout.sample(&mut rng, None, &mut value);
            lengths[decode_text(&value).map_or(0, str::len)] += 1;
        }
        assert!(lengths[0] == 0 && lengths[1..].iter().all(|count| (9_500..10_500).contains(count)), "{lengths:?}");
    }

    /// The draws of a seed are part of recorded runs: these values never change.
    #[test]
    fn draws_are_frozen() {
        let infinity = f64::INFINITY;
        let floats = |low, high| number_box(Dtype::Float32, &[], Number::Float(low), Number::Float(high));
        let mut found = Vec::new();
        let mut rng = rng();
        for space in [
            Space::Discrete { n: 1000, start: 0 },
            floats(-1.0, 1.0),
            floats(0.0, infinity),
            floats(-infinity, 0.0),
            floats(-infinity, infinity),
            multi(),
            Space::MultiBinary { shape: vec![4] },
            text(0, 5, None),
        ] {
            let layout = space.layout();
            let mut value = vec![0; layout.stride];
            layout.sample(&mut rng, None, &mut value);
            found.push(layout.to_json(&value).to_string());
        }
        let expected = [
            "30",
            "-0.38582742",
            "0.14264216",
            "-0.27249727",
            "-1.3738928",
            "[[0,0],[8,9223372036854775806]]",
            "[0,1,0,0]",
            "\"3b5zC\"",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn zeros_are_next_to_zero() {
        for (low, high, expected) in [(-1.0, 1.0, 0.0), (0.5, 1.0, 0.5), (-3.0, -2.0, -2.0)] {
            let layout = number_box(Dtype::Float64, &[], Number::Float(low), Number::Float(high)).layout();
            let mut value = [0; 8];
            layout.zero(None, &mut value);
            assert_eq!(f64::from_le_bytes(value), expected);
        }
        let layout = text(2, 5, Some("xyz")).layout();
        let mut value = vec![0; layout.stride];
        layout.zero(None, &mut value);
        assert_eq!(decode_text(&value[..24]), Ok("xx"));
        let layout = Space::Discrete { n: 5, start: -2 }.layout();
        let mut value = [0; 8];
        layout.zero(Some(&[0, 0, 0, 1, 1]), &mut value);
        assert_eq!(i64::from_le_bytes(array(&value)), 1);
    }
}
