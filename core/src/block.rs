//! Sixty-four values in eighty bytes: how long pasts are kept in memory. Not a format for disks.
//!
//! A block holds the least of its values and the size of a step; a value is a number of steps. So it is off by a five-hundredth of what
//! the block spans at most, and values that are all alike are held as they are.

/// Values of a block.
pub const BLOCK: usize = 64;
/// Steps between the least and the largest value.
const STEPS: f32 = 255.0;

/// [`BLOCK`] values, each known or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    least: f32,
    step: f32,
    known: u64,
    steps: [u8; BLOCK],
}

impl Block {
    /// Of finite values; bit `i` of `known` says whether value `i` is. What is not known is held all the same, for whoever carries on.
    #[must_use]
    pub fn new(values: &[f32; BLOCK], known: u64) -> Self {
        let (least, largest) =
            values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        let step = (largest - least) / STEPS;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 255")]
        let steps =
            values.map(|v| if step > 0.0 { ((v - least) / step).round().min(STEPS) as u8 } else { 0 });
        Self { least, step, known, steps }
    }

    /// The value at a place below [`BLOCK`].
    #[must_use]
    pub fn get(&self, place: usize) -> f32 {
        self.least + self.step * f32::from(self.steps[place])
    }

    /// How many are known.
    #[must_use]
    pub const fn known_len(&self) -> usize {
        self.known.count_ones() as usize
    }

    /// Whether it is known.
    #[must_use]
    pub const fn is_known(&self, place: usize) -> bool {
        self.known >> place & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_ten_bits_a_value() {
        assert_eq!(size_of::<Block>(), 80);
    }

    #[test]
    fn the_least_the_largest_and_equal_values_come_back_as_they_were() {
        let mut values = [7.25; BLOCK];
        assert!((0..BLOCK).all(|at| Block::new(&values, u64::MAX).get(at) == 7.25));
        values[9] = -3.0;
        let block = Block::new(&values, !(1 << 9));
        assert_eq!((block.get(9), block.is_known(9), block.is_known(8)), (-3.0, false, true));
        assert!((block.get(8) - 7.25).abs() < 1e-5);
    }

    proptest! {
        #[test]
        fn no_value_is_off_by_more_than_half_a_step(values in prop::array::uniform32(-1e6f32..1e6)) {
            let values: [f32; BLOCK] = std::array::from_fn(|at| values[at % 32]);
            let block = Block::new(&values, 0);
            let span = values.iter().fold(f32::MIN, |a, b| a.max(*b)) - values.iter().fold(f32::MAX, |a, b| a.min(*b));
            for (at, value) in values.iter().enumerate() {
                prop_assert!((block.get(at) - value).abs() <= span * 0.002);
            }
        }
    }
}
