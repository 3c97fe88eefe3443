//! Values as text, four characters each: a week of minutes would take twice as much in digits. Not a format for others to
//! read; the text goes with the history that holds it.

/// Bits of a value that are dropped: 24 are left, which is sign, exponent and 16 significant bits.
const DROPPED: u32 = 8;
/// The first character of the alphabet; from the backslash on, which texts escape, it goes on one further.
const ZERO: u8 = b'0';

/// The nearest value that the text can hold; what is not finite becomes NaN.
pub(crate) fn narrowed(value: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "it is what the function is for")]
    let value = value as f32;
    let half = 1 << (DROPPED - 1);
    let kept = f32::from_bits(value.to_bits().saturating_add(half) >> DROPPED << DROPPED);
    if value.is_finite() && kept.is_finite() { kept } else { f32::NAN }
}

/// Values, each as [`narrowed`], as text.
pub(crate) fn text(values: &[f32]) -> String {
    let sixths = |value: &f32| [26u32, 20, 14, 8].map(|shift| sixth(value.to_bits() >> shift));
    values.iter().flat_map(sixths).collect()
}

/// The values of a text; whatever is no value is NaN.
pub(crate) fn values(text: &str) -> impl Iterator<Item = f32> {
    text.as_bytes().chunks(4).map(|chunk| {
        let bits = chunk.iter().try_fold(0, |bits, byte| Some(bits << 6 | digit(*byte)?));
        bits.filter(|_| chunk.len() == 4).map_or(f32::NAN, |bits| f32::from_bits(bits << DROPPED))
    })
}

/// Numbers of 16 bits as text, three characters each.
pub(crate) fn counts_text(counts: &[u16]) -> String {
    counts.iter().flat_map(|count| [12u32, 6, 0].map(|shift| sixth(u32::from(*count) >> shift))).collect()
}

/// The numbers of a text, up to what is none.
pub(crate) fn counts(text: &str) -> Vec<u16> {
    let count = |chunk: &[u8; 3]| {
        let bits = chunk.iter().try_fold(0, |bits, byte| Some(bits << 6 | digit(*byte)?));
        u16::try_from(bits?).ok()
    };
    text.as_bytes().as_chunks::<3>().0.iter().map_while(count).collect()
}

/// Arrays of values as text, for serde; missing ones are NaN, which speaks for nothing.
pub(crate) mod grid {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        values: &[f32; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::text(values))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[f32; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut values = super::values(&text);
        Ok(std::array::from_fn(|_| values.next().unwrap_or(f32::NAN)))
    }
}

fn sixth(bits: u32) -> char {
    let byte = ZERO + u8::try_from(bits & 63).unwrap_or(0);
    char::from(if byte < b'\\' { byte } else { byte + 1 })
}

fn digit(byte: u8) -> Option<u32> {
    let byte = if byte > b'\\' { byte - 1 } else { byte };
    byte.checked_sub(ZERO).filter(|digit| *digit < 64).map(u32::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let kept: Vec<f32> = [0.0, 1.0, 1.0 / 3.0, 65_535.0, 1e18, -7.25e-9].map(narrowed).to_vec();
        assert_eq!(values(&text(&kept)).collect::<Vec<_>>(), kept);
        assert!((kept[2] * 3.0 - 1.0).abs() < 1e-5 && kept[3] == 65_535.0);
        assert!(values(&text(&[f32::NAN])).all(f32::is_nan) && values("\"#~é").all(f32::is_nan));
        assert!(!text(&kept).contains('\\'));
        let numbers = [0, 1, 4095, u16::MAX];
        assert_eq!(counts(&counts_text(&numbers)), numbers);
        assert_eq!(counts("000é"), [0]);
    }
}
