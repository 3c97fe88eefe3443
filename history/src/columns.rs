//! Columns of numbers as bytes: each is its length and what `pco` made of it. Not what the columns mean.

use pco::ChunkConfig;
use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress};

/// Bytes are not what this crate writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

/// Appends a number in seven bits a byte, lowest first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Takes a number from the front.
pub(crate) fn take_number(from: &mut &[u8]) -> Result<u64, Damaged> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(Damaged)?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

/// Takes a number that counts things in memory, at most `max`.
pub(crate) fn take_count(from: &mut &[u8], max: usize) -> Result<usize, Damaged> {
    usize::try_from(take_number(from)?).ok().filter(|count| *count <= max).ok_or(Damaged)
}

/// Appends a column. `level` is that of `pco`, 0 to 12.
pub(crate) fn put_column<T: Number>(out: &mut Vec<u8>, numbers: &[T], level: usize) {
    let config = ChunkConfig::default().with_compression_level(level);
    let bytes = simple_compress(numbers, &config).expect("the level is in range and memory takes all bytes");
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(&bytes);
}

/// A column that has been found and not been read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column<'a>(&'a [u8]);

impl<'a> Column<'a> {
    /// Takes a column from the front, unread.
    pub(crate) fn take(from: &mut &'a [u8]) -> Result<Self, Damaged> {
        let length = take_count(from, from.len())?;
        let (bytes, rest) = from.split_at_checked(length).ok_or(Damaged)?;
        *from = rest;
        Ok(Self(bytes))
    }

    /// Reads it; it must have `length` numbers.
    pub(crate) fn read<T: Number>(self, length: usize) -> Result<Vec<T>, Damaged> {
        let numbers = simple_decompress(self.0).map_err(|_| Damaged)?;
        if numbers.len() == length { Ok(numbers) } else { Err(Damaged) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_column_reads_what_was_put(numbers in prop::collection::vec(any::<f64>(), 0..300), more in any::<u64>()) {
            let mut bytes = Vec::new();
            put_column(&mut bytes, &numbers, 8);
            put_number(&mut bytes, more);
            let mut from = bytes.as_slice();
            let back: Vec<f64> = Column::take(&mut from).unwrap().read(numbers.len()).unwrap();
            prop_assert_eq!(back.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            prop_assert_eq!(take_number(&mut from), Ok(more));
            prop_assert!(from.is_empty());
        }

        #[test]
        fn garbage_is_damage_and_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut from = bytes.as_slice();
            if let Ok(column) = Column::take(&mut from) {
                prop_assert!(column.read::<f64>(7).is_err() || bytes.len() > 7);
            }
        }
    }
}
