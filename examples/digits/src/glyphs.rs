//! Made-up digit images: a template for each digit, shifted, worn, blurred and noisy. Pure and seeded; no data set is read.

use rand::RngExt;
use rand_distr::Normal;

use crate::seeds::{self, Stream};

/// Pixels on a side.
pub const SIDE: usize = 8;
/// Pixels of an image.
pub const PIXELS: usize = SIDE * SIDE;
/// Number of different digits.
pub const DIGITS: u8 = 10;

/// Rows and columns of a template. What is left of the image's side is room to shift.
const ROWS: usize = 7;
const COLUMNS: usize = 5;

/// One row per line, the leftmost column in the highest of five bits.
const TEMPLATES: [[u8; ROWS]; DIGITS as usize] = [
    [0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110],
    [0b00100, 0b01100, 0b10100, 0b00100, 0b00100, 0b00100, 0b11111],
    [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
    [0b11110, 0b00001, 0b00001, 0b01110, 0b00001, 0b00001, 0b11110],
    [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
    [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
    [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
    [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
    [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
    [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
];

/// Share of a stroke's pixels that stay blank.
const WORN: f64 = 0.04;
/// Standard deviation of the noise on each pixel; black is 0 and white 1.
const NOISE: f32 = 0.08;

/// Grey levels row by row, 0 (paper) to 1 (ink).
pub type Pixels = [f32; PIXELS];

/// An image and what it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Its grey levels.
    pub pixels: Pixels,
    /// The digit that it shows, 0 to 9.
    pub digit: u8,
}

/// `count` images of random digits; the same seed gives the same images.
#[must_use]
pub fn images(seed: u64, count: usize) -> Vec<Image> {
    let mut rng = seeds::stream(seed);
    (0..count).map(|_| image(&mut rng)).collect()
}

fn image(rng: &mut Stream) -> Image {
    let digit = rng.random_range(0..DIGITS);
    let inked = ink(digit, rng);
    let blurred = blur(&inked, rng.random_range(0.0..0.5));
    Image { pixels: speckle(blurred, rng), digit }
}

/// Puts the template somewhere into the frame, with uneven ink.
fn ink(digit: u8, rng: &mut Stream) -> Pixels {
    let (down, right) = (rng.random_range(0..=SIDE - ROWS), rng.random_range(0..=SIDE - COLUMNS));
    let mut pixels = [0.0; PIXELS];
    for (row, bits) in TEMPLATES[usize::from(digit)].iter().enumerate() {
        for column in (0..COLUMNS).filter(|column| bits >> (COLUMNS - 1 - column) & 1 == 1) {
            if !rng.random_bool(WORN) {
                pixels[(row + down) * SIDE + column + right] = rng.random_range(0.7..1.0);
            }
        }
    }
    pixels
}

/// Mixes each pixel with the mean of its four neighbours; `strength` 0 changes nothing.
fn blur(pixels: &Pixels, strength: f32) -> Pixels {
    let at = |row: usize, column: usize| {
        let inside = row < SIDE && column < SIDE;
        if inside { pixels[row * SIDE + column] } else { 0.0 }
    };
    std::array::from_fn(|index| {
        let (row, column) = (index / SIDE, index % SIDE);
        let around = at(row.wrapping_sub(1), column) + at(row + 1, column);
        let around = around + at(row, column.wrapping_sub(1)) + at(row, column + 1);
        (1.0 - strength) * pixels[index] + strength * around / 4.0
    })
}

fn speckle(pixels: Pixels, rng: &mut Stream) -> Pixels {
    let noise = Normal::new(0.0, NOISE).expect("a constant, finite deviation");
    pixels.map(|level| (level + rng.sample(noise)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_images_and_another_seed_others() {
        assert_eq!(images(1, 20), images(1, 20));
        assert_ne!(images(1, 20), images(2, 20));
    }

    #[test]
    fn every_digit_turns_up_and_every_level_is_a_grey() {
        let images = images(3, 500);
        for digit in 0..DIGITS {
            let share = images.iter().filter(|image| image.digit == digit).count();
            assert!((20..=90).contains(&share), "{share} of 500 show {digit}");
        }
        assert!(images.iter().flat_map(|image| image.pixels).all(|level| (0.0..=1.0).contains(&level)));
    }
}
