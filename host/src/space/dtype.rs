//! Elements of a `Box`: their sizes, limits, bytes, and how numpy writes them.

use super::Dtype;

/// An exact element of any dtype. All elements of one dtype have the same variant.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) enum Number {
    /// An element of an integer or boolean dtype.
    Int(i128),
    /// An element of a float dtype.
    Float(f64),
}

impl Number {
    /// Whether the element is neither NaN nor infinite.
    pub(super) fn is_finite(self) -> bool {
        match self {
            Number::Int(_) => true,
            Number::Float(number) => number.is_finite(),
        }
    }
}

/// The first `N` of `bytes`.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

impl Dtype {
    /// Every dtype.
    pub(super) const ALL: [Dtype; 12] = [
        Dtype::Boolean,
        Dtype::Int8,
        Dtype::Int16,
        Dtype::Int32,
        Dtype::Int64,
        Dtype::Uint8,
        Dtype::Uint16,
        Dtype::Uint32,
        Dtype::Uint64,
        Dtype::Float16,
        Dtype::Float32,
        Dtype::Float64,
    ];

    /// Bytes of one element; also its alignment.
    pub fn size(self) -> usize {
        match self {
            Dtype::Boolean | Dtype::Int8 | Dtype::Uint8 => 1,
            Dtype::Int16 | Dtype::Uint16 | Dtype::Float16 => 2,
            Dtype::Int32 | Dtype::Uint32 | Dtype::Float32 => 4,
            Dtype::Int64 | Dtype::Uint64 | Dtype::Float64 => 8,
        }
    }

    /// numpy's name of the dtype: `float32`, and `bool` for [`Dtype::Boolean`].
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Boolean => "bool",
            Dtype::Int8 => "int8",
            Dtype::Int16 => "int16",
            Dtype::Int32 => "int32",
            Dtype::Int64 => "int64",
            Dtype::Uint8 => "uint8",
            Dtype::Uint16 => "uint16",
            Dtype::Uint32 => "uint32",
            Dtype::Uint64 => "uint64",
            Dtype::Float16 => "float16",
            Dtype::Float32 => "float32",
            Dtype::Float64 => "float64",
        }
    }

    /// The dtype that numpy calls by this name.
    pub(super) fn named(name: &str) -> Option<Dtype> {
        Dtype::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Whether elements are floats, which can be infinite or NaN.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::Float16 | Dtype::Float32 | Dtype::Float64)
    }

    /// The least and the greatest finite element.
    pub(super) fn limits(self) -> (Number, Number) {
        let int = |low, high| (Number::Int(low), Number::Int(high));
        let float = |high: f64| (Number::Float(-high), Number::Float(high));
        match self {
            Dtype::Boolean => int(0, 1),
            Dtype::Int8 => int(i8::MIN.into(), i8::MAX.into()),
            Dtype::Int16 => int(i16::MIN.into(), i16::MAX.into()),
            Dtype::Int32 => int(i32::MIN.into(), i32::MAX.into()),
            Dtype::Int64 => int(i64::MIN.into(), i64::MAX.into()),
            Dtype::Uint8 => int(0, u8::MAX.into()),
            Dtype::Uint16 => int(0, u16::MAX.into()),
            Dtype::Uint32 => int(0, u32::MAX.into()),
            Dtype::Uint64 => int(0, u64::MAX.into()),
            Dtype::Float16 => float(half::f16::MAX.to_f64()),
            Dtype::Float32 => float(f32::MAX.into()),
            Dtype::Float64 => float(f64::MAX),
        }
    }

    /// Element `index` of `bytes`.
    pub(super) fn read(self, bytes: &[u8], index: usize) -> Number {
        let bytes = &bytes[index * self.size()..];
        match self {
            Dtype::Boolean | Dtype::Uint8 => Number::Int(bytes[0].into()),
            Dtype::Int8 => Number::Int(i8::from_le_bytes(array(bytes)).into()),
            Dtype::Int16 => Number::Int(i16::from_le_bytes(array(bytes)).into()),
            Dtype::Int32 => Number::Int(i32::from_le_bytes(array(bytes)).into()),
            Dtype::Int64 => Number::Int(i64::from_le_bytes(array(bytes)).into()),
            Dtype::Uint16 => Number::Int(u16::from_le_bytes(array(bytes)).into()),
            Dtype::Uint32 => Number::Int(u32::from_le_bytes(array(bytes)).into()),
            Dtype::Uint64 => Number::Int(u64::from_le_bytes(array(bytes)).into()),
            Dtype::Float16 => Number::Float(half::f16::from_le_bytes(array(bytes)).to_f64()),
            Dtype::Float32 => Number::Float(f32::from_le_bytes(array(bytes)).into()),
            Dtype::Float64 => Number::Float(f64::from_le_bytes(array(bytes))),
        }
    }

    /// Element `index` of bounds, which hold one element for all elements of a value, or one for each.
    pub(super) fn bound(self, bounds: &[u8], index: usize) -> Number {
        self.read(bounds, if bounds.len() == self.size() { 0 } else { index })
    }

    /// Writes element `index` of `bytes`. An integer is within the dtype's limits; a float is rounded to the dtype.
    pub(super) fn write(self, number: Number, bytes: &mut [u8], index: usize) {
        let size = self.size();
        let bytes = &mut bytes[index * size..][..size];
        match number {
            // Two's complement: the low bytes of the wider number are the narrow number.
            Number::Int(number) => bytes.copy_from_slice(&number.to_le_bytes()[..size]),
            Number::Float(number) => match self {
                Dtype::Float16 => bytes.copy_from_slice(&half::f16::from_f64(number).to_le_bytes()),
                Dtype::Float32 => bytes.copy_from_slice(&to_f32(number).to_le_bytes()),
                _ => bytes.copy_from_slice(&number.to_le_bytes()),
            },
        }
    }

    /// Rounds `number` to what an element of this dtype can hold.
    pub(super) fn round(self, number: f64) -> f64 {
        match self {
            Dtype::Float16 => half::f16::from_f64(number).to_f64(),
            Dtype::Float32 => to_f32(number).into(),
            _ => number,
        }
    }

    /// The unit in the last place of a finite float of this dtype: its distance to the next float away from zero.
    pub(super) fn ulp(self, number: f64) -> f64 {
        // The binary digits of the fraction, and the least exponent.
        let (digits, least) = match self {
            Dtype::Float16 => (10, -14),
            Dtype::Float32 => (23, -126),
            _ => (52, -1022),
        };
        let exponent = (number.to_bits() >> 52 & 0x7ff).cast_signed() - 1023;
        let exponent = exponent.max(least) - digits;
        // 2 to that power. The result is below the normal numbers only for the smallest floats of f64.
        match u64::try_from(exponent + 1023) {
            Ok(biased) if biased > 0 => f64::from_bits(biased << 52),
            _ => f64::from_bits(1 << (exponent + 1074)),
        }
    }

    /// The float with the fewest decimal digits that this dtype rounds to `number`: 0.1 for `0.1f32`, which is
    /// 0.10000000149 as an f64. The result rounds back to `number`.
    pub(super) fn shortest(self, number: f64) -> f64 {
        let decimal = match self {
            Dtype::Float16 => (0..5)
                .map(|digits| format!("{number:.digits$e}"))
                .find(|decimal| decimal.parse().is_ok_and(|decimal| self.round(decimal).to_bits() == number.to_bits())),
            Dtype::Float32 => Some(to_f32(number).to_string()),
            _ => None,
        };
        let decimal = decimal.and_then(|decimal| decimal.parse().ok()).unwrap_or(number);
        // The decimal rounds twice on its way through an f64. If the result does not round back, the exact number does.
        if self.round(decimal) == number { decimal } else { number }
    }

    /// The number as numpy prints a scalar of this dtype.
    pub(super) fn show(self, number: Number) -> String {
        match number {
            Number::Int(number) if self == Dtype::Boolean => if number == 0 { "False" } else { "True" }.to_owned(),
            Number::Int(number) => number.to_string(),
            Number::Float(number) if number.is_nan() => "nan".to_owned(),
            Number::Float(number) if number.is_infinite() => if number < 0.0 { "-inf" } else { "inf" }.to_owned(),
            Number::Float(number) => {
                // The size from which numpy (2.4) prints powers of ten.
                let positional = match self {
                    Dtype::Float16 => 1e3,
                    Dtype::Float32 => 1e6,
                    _ => 1e16,
                };
                let shortest = self.shortest(number);
                if number == 0.0 || (1e-4..positional).contains(&number.abs()) {
                    return format!("{shortest:?}");
                }
                let scientific = format!("{shortest:e}");
                let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
                match exponent.strip_prefix('-') {
                    Some(exponent) => format!("{digits}e-{exponent:0>2}"),
                    None => format!("{digits}e+{exponent:0>2}"),
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
fn to_f32(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_numpy_writes_them() {
        let float = |dtype: Dtype, number| dtype.show(Number::Float(dtype.round(number)));
        for (dtype, number, expected) in [
            (Dtype::Float32, 4.8, "4.8"),
            (Dtype::Float32, 1e8, "1e+08"),
            (Dtype::Float32, 12_345_678.0, "1.2345678e+07"),
            (Dtype::Float32, 999_999.9, "999999.9"),
            (Dtype::Float32, 1e-4, "1e-04"),
            (Dtype::Float32, f64::from(f32::MAX), "3.4028235e+38"),
            (Dtype::Float32, f64::INFINITY, "inf"),
            (Dtype::Float32, f64::NAN, "nan"),
            (Dtype::Float32, -0.0, "-0.0"),
            (Dtype::Float32, 0.00001, "1e-05"),
            (Dtype::Float32, -0.41887903, "-0.41887903"),
            (Dtype::Float64, 0.0001, "0.0001"),
            (Dtype::Float64, 1e15, "1000000000000000.0"),
            (Dtype::Float64, 1e16, "1e+16"),
            (Dtype::Float64, 1.0, "1.0"),
            (Dtype::Float16, 0.1, "0.1"),
            (Dtype::Float16, 1e4, "1e+04"),
            (Dtype::Float16, 2048.0, "2.048e+03"),
            (Dtype::Float16, 999.0, "999.0"),
            (Dtype::Float16, 1e-4, "0.0001"),
            (Dtype::Float16, 65504.0, "6.55e+04"),
        ] {
            assert_eq!(float(dtype, number), expected, "{} {number}", dtype.name());
        }
        assert_eq!(Dtype::Boolean.show(Number::Int(1)), "True");
    }

    #[test]
    fn a_unit_in_the_last_place_leads_to_the_next_number() {
        for number in [0.0f32, 1e-45, 1e-38, 0.1, 0.99, 1.0, 2.0, 3.5, 1e30] {
            let expected = f64::from(number.next_up()) - f64::from(number);
            assert_eq!(Dtype::Float32.ulp(number.into()), expected, "{number}");
        }
        for number in [0.0f64, 5e-324, 2.3e-308, 4e-300, 1e-290, 0.1, 1.0, 2.0, 1e300] {
            assert_eq!(Dtype::Float64.ulp(number), number.next_up() - number, "{number}");
        }
        for bits in 0..half::f16::MAX.to_bits() {
            let (number, next) = (half::f16::from_bits(bits).to_f64(), half::f16::from_bits(bits + 1).to_f64());
            assert_eq!(Dtype::Float16.ulp(number), next - number, "{number}");
        }
    }

    #[test]
    fn limits_survive_writing_and_reading() {
        for dtype in Dtype::ALL {
            let mut bytes = vec![0; 2 * dtype.size()];
            let (low, high) = dtype.limits();
            dtype.write(low, &mut bytes, 0);
            dtype.write(high, &mut bytes, 1);
            assert_eq!((dtype.read(&bytes, 0), dtype.read(&bytes, 1)), (low, high), "{}", dtype.name());
        }
    }

    #[test]
    fn shortest_decimals_lead_back() {
        let mut bits = 1u32;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = f32::from_bits(bits);
            if number.is_finite() {
                let number = f64::from(number);
                assert_eq!(Dtype::Float32.round(Dtype::Float32.shortest(number)), number);
            }
        }
        for bits in 0..=u16::MAX {
            let number = half::f16::from_bits(bits).to_f64();
            if number.is_finite() {
                assert_eq!(Dtype::Float16.round(Dtype::Float16.shortest(number)), number);
            }
        }
    }
}
