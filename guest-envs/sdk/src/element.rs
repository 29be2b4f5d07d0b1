//! The numbers that a Box is made of, and the Rust types that hold many of them.

use std::cmp::Ordering;

use crate::raw::Dtype;

mod sealed {
    pub trait Sealed {}
}

/// A number that may be an element of a [`BoxSpace`](crate::space::BoxSpace): numpy's dtypes, from `bool` to [`F16`].
pub trait Element: Copy + PartialOrd + std::fmt::Debug + sealed::Sealed + 'static {
    #[doc(hidden)]
    const DTYPE: Dtype;
    #[doc(hidden)]
    const SIZE: usize;
    #[doc(hidden)]
    const ZERO: Self;
    /// The least value: `-inf` for floats.
    const MIN: Self;
    /// The greatest value: `inf` for floats.
    const MAX: Self;

    /// Appends the elements, little-endian.
    #[doc(hidden)]
    fn write(elements: &[Self], to: &mut Vec<u8>);

    /// Writes the elements over as many bytes, little-endian.
    #[doc(hidden)]
    fn put(elements: &[Self], to: &mut [u8]);

    /// Fills `elements` from as many bytes; false if the bytes of one are not a value.
    #[doc(hidden)]
    fn read(bytes: &[u8], elements: &mut [Self]) -> bool;
}

/// A value of a Box, MultiDiscrete or MultiBinary: an [`Element`], an array of tensors, or a `Vec` of elements.
pub trait Tensor: Clone + PartialEq + std::fmt::Debug + 'static {
    /// The type of the numbers.
    type Element: Element;
    /// Whether values of the type differ in length.
    #[doc(hidden)]
    const FLEXIBLE: bool = false;

    /// The shape that all values of the type have; `None` for a `Vec`.
    fn shape() -> Option<Vec<u32>>;

    /// The elements in C order.
    fn elements(&self) -> &[Self::Element];

    /// A value of `count` elements (which an array has anyway), set by `fill`.
    #[doc(hidden)]
    fn filled(count: usize, fill: impl FnOnce(&mut [Self::Element])) -> Self;
}

/// A tensor that can be an array's item: of one length, side by side without a gap.
pub trait FixedTensor: Tensor + Copy {
    #[doc(hidden)]
    const ZEROS: Self;

    #[doc(hidden)]
    fn flat(items: &[Self]) -> &[Self::Element];

    #[doc(hidden)]
    fn flat_mut(items: &mut [Self]) -> &mut [Self::Element];
}

macro_rules! elements {
    ($($type:ty: $dtype:ident, $zero:expr, $min:expr, $max:expr, |$bytes:ident| $read:expr, |$each:ident| $write:expr;)+) => {$(
        impl sealed::Sealed for $type {}

        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            const SIZE: usize = size_of::<Self>();
            const ZERO: Self = $zero;
            const MIN: Self = $min;
            const MAX: Self = $max;

            #[inline]
            fn write(elements: &[Self], to: &mut Vec<u8>) {
                let start = to.len();
                to.resize(start + size_of_val(elements), 0);
                Self::put(elements, &mut to[start..]);
            }

            #[inline]
            fn put(elements: &[Self], to: &mut [u8]) {
                for (bytes, &$each) in to.as_chunks_mut().0.iter_mut().zip(elements) {
                    *bytes = $write;
                }
            }

            #[inline]
            fn read(bytes: &[u8], elements: &mut [Self]) -> bool {
                let mut well_formed = true;
                for ($bytes, element) in bytes.as_chunks().0.iter().zip(elements) {
                    let read: Option<Self> = $read;
                    well_formed &= read.is_some();
                    *element = read.unwrap_or(Self::ZERO);
                }
                well_formed
            }
        }

        impl Tensor for $type {
            type Element = Self;

            fn shape() -> Option<Vec<u32>> {
                Some(Vec::new())
            }

            #[inline]
            fn elements(&self) -> &[Self] {
                std::slice::from_ref(self)
            }

            #[inline]
            fn filled(_count: usize, fill: impl FnOnce(&mut [Self])) -> Self {
                let mut value = Self::ZERO;
                fill(std::slice::from_mut(&mut value));
                value
            }
        }

        impl FixedTensor for $type {
            const ZEROS: Self = Self::ZERO;

            #[inline]
            fn flat(items: &[Self]) -> &[Self] {
                items
            }

            #[inline]
            fn flat_mut(items: &mut [Self]) -> &mut [Self] {
                items
            }
        }
    )+};
}

macro_rules! numbers {
    ($($type:ident $dtype:ident $zero:literal $min:ident $max:ident;)+) => {
        elements! {
            bool: Boolean, false, false, true,
                |bytes| match bytes { [0] => Some(false), [1] => Some(true), _ => None }, |each| [u8::from(each)];
            F16: Float16, Self(0), Self(0xfc00), Self(0x7c00),
                |bytes| Some(Self(u16::from_le_bytes(*bytes))), |each| each.0.to_le_bytes();
            $($type: $dtype, $zero, $type::$min, $type::$max,
                |bytes| Some(Self::from_le_bytes(*bytes)), |each| each.to_le_bytes();)+
        }
    };
}

numbers! {
    i8 Int8 0 MIN MAX;
    i16 Int16 0 MIN MAX;
    i32 Int32 0 MIN MAX;
    i64 Int64 0 MIN MAX;
    u8 Uint8 0 MIN MAX;
    u16 Uint16 0 MIN MAX;
    u32 Uint32 0 MIN MAX;
    u64 Uint64 0 MIN MAX;
    f32 Float32 0.0 NEG_INFINITY INFINITY;
    f64 Float64 0.0 NEG_INFINITY INFINITY;
}

impl<V: FixedTensor, const N: usize> Tensor for [V; N] {
    type Element = V::Element;

    fn shape() -> Option<Vec<u32>> {
        let mut shape = vec![u32::try_from(N).expect("a side of at most 2^32 - 1 elements")];
        shape.extend(V::shape()?);
        Some(shape)
    }

    #[inline]
    fn elements(&self) -> &[V::Element] {
        V::flat(self)
    }

    #[inline]
    fn filled(_count: usize, fill: impl FnOnce(&mut [V::Element])) -> Self {
        let mut value = Self::ZEROS;
        fill(V::flat_mut(&mut value));
        value
    }
}

impl<V: FixedTensor, const N: usize> FixedTensor for [V; N] {
    const ZEROS: Self = [V::ZEROS; N];

    #[inline]
    fn flat(items: &[Self]) -> &[V::Element] {
        V::flat(items.as_flattened())
    }

    #[inline]
    fn flat_mut(items: &mut [Self]) -> &mut [V::Element] {
        V::flat_mut(items.as_flattened_mut())
    }
}

impl<T: Element> Tensor for Vec<T> {
    type Element = T;
    const FLEXIBLE: bool = true;

    fn shape() -> Option<Vec<u32>> {
        None
    }

    #[inline]
    fn elements(&self) -> &[T] {
        self
    }

    fn filled(count: usize, fill: impl FnOnce(&mut [T])) -> Self {
        let mut value = vec![T::ZERO; count];
        fill(&mut value);
        value
    }
}

/// A `float16` of numpy as its bits, since Rust has no such type yet.
#[derive(Clone, Copy, Default)]
pub struct F16(pub u16);

impl F16 {
    /// The nearest half-precision number, ties to even.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "every part is masked or bounded to its bits")]
    pub fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let sign = (bits >> 16) as u16 & 0x8000;
        let magnitude = bits & 0x7fff_ffff;
        let half = match magnitude {
            // NaN stays one, quiet; what rounds past 65504 is infinite.
            0x7f80_0001.. => 0x7e00,
            0x477f_f000.. => 0x7c00,
            // Normal: drop 13 bits of fraction, move the exponent's bias from 127 to 15.
            0x3880_0000.. => (round_shift(magnitude, 13) - (112 << 10)) as u16,
            // Subnormal: the fraction counts units of 2^-24.
            0x3300_0000.. => round_shift((magnitude & 0x007f_ffff) | 0x0080_0000, 126 - (magnitude >> 23)) as u16,
            _ => 0,
        };
        Self(sign | half)
    }

    /// The same number in single precision.
    #[must_use]
    pub fn to_f32(self) -> f32 {
        let (exponent, fraction) = (u32::from(self.0 >> 10 & 0x1f), u32::from(self.0 & 0x3ff));
        let magnitude = match (exponent, fraction) {
            (0, _) => f32::from(self.0 & 0x3ff) * 2_f32.powi(-24),
            (0x1f, _) => f32::from_bits(0x7f80_0000 | fraction << 13),
            _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
        };
        if self.0 & 0x8000 == 0 { magnitude } else { -magnitude }
    }
}

/// Divides: `value / 2^bits`, to the nearest integer, ties to even.
fn round_shift(value: u32, bits: u32) -> u32 {
    let (quotient, rest, half) = (value >> bits, value & ((1 << bits) - 1), 1 << (bits - 1));
    quotient + u32::from(rest > half || (rest == half && quotient & 1 == 1))
}

impl PartialEq for F16 {
    fn eq(&self, other: &Self) -> bool {
        self.to_f32() == other.to_f32()
    }
}

impl PartialOrd for F16 {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.to_f32().partial_cmp(&other.to_f32())
    }
}

impl std::fmt::Debug for F16 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_f32().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_there_and_back() {
        for bits in 0..=u16::MAX {
            let half = F16(bits);
            let back = F16::from_f32(half.to_f32());
            assert!(back.0 == bits || half.to_f32().is_nan() && back.to_f32().is_nan(), "{bits:#06x}");
        }
        assert_eq!(F16::MIN.to_f32(), f32::NEG_INFINITY);
    }

    #[test]
    fn halves_round_to_the_nearest_even() {
        // What numpy's `np.float32(x).astype(np.float16)` gives.
        for (single, half) in [
            (1.0, 0x3c00),
            (0.1, 0x2e66),
            (65504.0, 0x7bff),
            (65519.99, 0x7bff),
            (65520.0, 0x7c00),
            (2049.0, 0x6800),
            (2051.0, 0x6802),
            (5.960_464_5e-8, 0x0001),
            (2.980_232_2e-8, 0x0000),
            (2.980_233e-8, 0x0001),
            (6.1e-5, 0x03ff),
            (-6.103_5e-5, 0x8400),
        ] {
            assert_eq!(F16::from_f32(single).0, half, "{single}");
        }
    }
}
