//! The rows of a forest's leaves, in about a byte each: sorted, as distances from one to the next.

/// Most rows of a leaf; of more, an even choice is kept. So many of up to 30,000 rows take no more than 255 bytes.
const ROWS_MAX: usize = 128;
/// A distance of this size stands for itself and has no row at its end.
const FAR: u8 = u8::MAX;

/// Rows by leaf; both are counted in 16 bits.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Leaves {
    /// Bytes of each leaf.
    lengths: Vec<u8>,
    bytes: Vec<u8>,
}

impl Leaves {
    /// Adds the next leaf.
    pub(super) fn push(&mut self, rows: &mut [u16]) {
        rows.sort_unstable();
        let kept = rows.len().min(ROWS_MAX);
        let (before, mut last) = (self.bytes.len(), 0);
        // The middle of each of as many equal parts.
        for row in (0..kept).map(|part| rows[(2 * part + 1) * rows.len() / (2 * kept)]) {
            let mut distance = row - last;
            while distance >= u16::from(FAR) {
                self.bytes.push(FAR);
                distance -= u16::from(FAR);
            }
            self.bytes.push(u8::try_from(distance).unwrap_or(FAR - 1));
            last = row;
        }
        let bytes = self.bytes.len() - before;
        self.lengths.push(u8::try_from(bytes).expect("so many rows of so few take no more"));
    }

    pub(super) fn shrink(&mut self) {
        self.lengths.shrink_to_fit();
        self.bytes.shrink_to_fit();
    }

    /// The bytes of some leaves, by rising number.
    fn find(&self, leaves: impl Iterator<Item = usize>) -> impl Iterator<Item = &[u8]> {
        let (mut leaf, mut from) = (0, 0);
        leaves.map(move |next| {
            from += self.lengths[leaf..next].iter().map(|length| usize::from(*length)).sum::<usize>();
            leaf = next;
            &self.bytes[from..from + usize::from(self.lengths[next])]
        })
    }

    /// The weight of each of `rows` rows: leaves, by rising number, weigh alike, and so do the rows of one.
    pub(super) fn weights(&self, leaves: impl Iterator<Item = usize>, rows: usize) -> Vec<f32> {
        let mut weights = vec![0.0f32; rows];
        for bytes in self.find(leaves) {
            let count = bytes.iter().filter(|byte| **byte != FAR).count();
            #[expect(clippy::cast_precision_loss, reason = "at most 128")]
            let share = 1.0 / count as f32;
            let mut row = 0;
            for byte in bytes {
                row += usize::from(*byte);
                if *byte != FAR {
                    weights[row] += share;
                }
            }
        }
        weights
    }

    /// Bytes kept.
    pub(super) fn size(&self) -> usize {
        self.lengths.capacity() + self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_with_their_share() {
        let mut leaves = Leaves::default();
        for rows in [&mut [7, 3, 999][..], &mut [0], &mut [255, 510, 254]] {
            leaves.push(rows);
        }
        let weights = leaves.weights([0, 2].into_iter(), 1000);
        let heard: Vec<usize> = (0..1000).filter(|row| weights[*row] > 0.0).collect();
        assert_eq!(heard, [3, 7, 254, 255, 510, 999]);
        assert!(heard.iter().all(|row| (weights[*row] - 1.0 / 3.0).abs() < 1e-6));
        assert_eq!(leaves.weights([1].into_iter(), 2), [1.0, 0.0]);
    }

    #[test]
    fn of_too_many_rows_an_even_choice_is_kept() {
        let mut leaves = Leaves::default();
        leaves.push(&mut (0..1000).collect::<Vec<u16>>());
        let weights = leaves.weights([0].into_iter(), 1000);
        let heard = |from: usize| weights[from..from + 250].iter().filter(|weight| **weight > 0.0).count();
        assert_eq!([0, 250, 500, 750].map(heard), [32; 4]);
    }
}
