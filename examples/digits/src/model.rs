//! A small perceptron (64 → 32 → 10) in plain `f32`: what it answers, its loss and gradient. No file, no loop of training.

pub mod file;

use rand::RngExt;
use rand_distr::Normal;

use crate::glyphs::{DIGITS, Image, PIXELS, Pixels};
use crate::seeds;

/// Units of the hidden layer: enough for the shifts of the images, small enough that a step takes milliseconds.
const HIDDEN: usize = 32;
const CLASSES: usize = DIGITS as usize;

/// Where each part starts in the flat parameters.
const HIDDEN_BIAS: usize = HIDDEN * PIXELS;
const OUTPUT: usize = HIDDEN_BIAS + HIDDEN;
const OUTPUT_BIAS: usize = OUTPUT + CLASSES * HIDDEN;

/// Number of parameters.
pub const PARAMETERS: usize = OUTPUT_BIAS + CLASSES;

/// The classifier. Its parameters are always finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    parameters: Vec<f32>,
}

/// What the model says about an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The likeliest digit, 0 to 9.
    pub digit: u8,
    /// The probability that the model gives it, 0 to 1.
    pub confidence: f32,
}

/// A gradient of the mean loss over some samples, with that loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// One entry per parameter.
    pub values: Vec<f32>,
    /// Mean cross-entropy in nats.
    pub loss: f32,
    /// How many samples it is the mean of.
    pub samples: u32,
}

/// The hidden layer's output and the probabilities of the digits.
struct Activations {
    hidden: [f32; HIDDEN],
    probabilities: [f32; CLASSES],
}

impl Model {
    /// An untrained model.
    #[must_use]
    pub fn untrained(seed: u64) -> Self {
        let mut rng = seeds::stream(seed);
        let mut parameters = vec![0.0; PARAMETERS];
        // He's rule for a layer followed by a rectifier: variance 2 / inputs.
        for (range, inputs) in [(0..HIDDEN_BIAS, 64.0_f32), (OUTPUT..OUTPUT_BIAS, 32.0)] {
            let weights = Normal::new(0.0, (2.0 / inputs).sqrt()).expect("a constant, finite deviation");
            parameters[range].fill_with(|| rng.sample(weights));
        }
        Self { parameters }
    }

    /// The model of these parameters; `None` unless there are [`PARAMETERS`] finite ones.
    #[must_use]
    pub fn from_parameters(parameters: Vec<f32>) -> Option<Self> {
        let right = parameters.len() == PARAMETERS && parameters.iter().all(|value| value.is_finite());
        right.then_some(Self { parameters })
    }

    /// Its parameters, flat.
    #[must_use]
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// Tells what an image shows.
    #[must_use]
    pub fn predict(&self, pixels: &Pixels) -> Prediction {
        let probabilities = self.activations(pixels).probabilities;
        let mut best = Prediction { digit: 0, confidence: probabilities[0] };
        for (digit, confidence) in (0..DIGITS).zip(probabilities) {
            if confidence > best.confidence {
                best = Prediction { digit, confidence };
            }
        }
        best
    }

    /// Share of `images` that it tells right; `None` without images.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of images are small")]
    pub fn accuracy(&self, images: &[Image]) -> Option<f64> {
        let right = images.iter().filter(|image| self.predict(&image.pixels).digit == image.digit).count();
        (!images.is_empty()).then(|| right as f64 / images.len() as f64)
    }

    /// The gradient of the mean loss over `images`.
    ///
    /// # Panics
    /// Without images.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of images are small")]
    pub fn gradient(&self, images: &[Image]) -> Gradient {
        assert!(!images.is_empty(), "a mean needs samples");
        let mut values = vec![0.0; PARAMETERS];
        let mut loss = 0.0;
        for image in images {
            let activations = self.activations(&image.pixels);
            loss -= activations.probabilities[usize::from(image.digit)].max(f32::MIN_POSITIVE).ln();
            self.add_gradient(image, &activations, &mut values);
        }
        let scale = 1.0 / images.len() as f32;
        values.iter_mut().for_each(|value| *value *= scale);
        Gradient { values, loss: loss * scale, samples: u32::try_from(images.len()).unwrap_or(u32::MAX) }
    }

    /// Goes against `gradient` by `rate`. A gradient of the wrong length or with a value that is not finite changes nothing and is `false`.
    #[must_use]
    pub fn descend(&mut self, gradient: &[f32], rate: f32) -> bool {
        if gradient.len() != PARAMETERS || gradient.iter().any(|value| !value.is_finite()) {
            return false;
        }
        for (parameter, slope) in self.parameters.iter_mut().zip(gradient) {
            *parameter = (*parameter - rate * slope).clamp(f32::MIN, f32::MAX);
        }
        true
    }

    fn activations(&self, pixels: &Pixels) -> Activations {
        let hidden = std::array::from_fn(|unit| {
            let weights = &self.parameters[unit * PIXELS..(unit + 1) * PIXELS];
            (dot(weights, pixels) + self.parameters[HIDDEN_BIAS + unit]).max(0.0)
        });
        let scores: [f32; CLASSES] = std::array::from_fn(|class| {
            let start = OUTPUT + class * HIDDEN;
            dot(&self.parameters[start..start + HIDDEN], &hidden) + self.parameters[OUTPUT_BIAS + class]
        });
        Activations { hidden, probabilities: softmax(scores) }
    }

    fn add_gradient(&self, image: &Image, activations: &Activations, into: &mut [f32]) {
        let mut wrong = activations.probabilities;
        wrong[usize::from(image.digit)] -= 1.0;
        let mut back = [0.0; HIDDEN];
        for (class, slope) in wrong.into_iter().enumerate() {
            let start = OUTPUT + class * HIDDEN;
            for unit in 0..HIDDEN {
                into[start + unit] += slope * activations.hidden[unit];
                back[unit] += slope * self.parameters[start + unit];
            }
            into[OUTPUT_BIAS + class] += slope;
        }
        for (unit, slope) in back.into_iter().enumerate().filter(|(unit, _)| activations.hidden[*unit] > 0.0)
        {
            for (sum, level) in into[unit * PIXELS..(unit + 1) * PIXELS].iter_mut().zip(image.pixels) {
                *sum += slope * level;
            }
            into[HIDDEN_BIAS + unit] += slope;
        }
    }
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}

fn softmax(scores: [f32; CLASSES]) -> [f32; CLASSES] {
    let highest = scores.into_iter().fold(f32::MIN, f32::max);
    let powers = scores.map(|score| (score - highest).exp());
    let sum: f32 = powers.iter().sum();
    powers.map(|power| power / sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::glyphs::images;

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let (model, batch) = (Model::untrained(1), images(2, 8));
        let gradient = model.gradient(&batch).values;
        for index in [3, 700, HIDDEN_BIAS + 5, OUTPUT + 40, OUTPUT_BIAS + 9] {
            let loss_at = |change: f32| {
                let mut parameters = model.parameters.clone();
                parameters[index] += change;
                Model::from_parameters(parameters).unwrap().gradient(&batch).loss
            };
            let slope = (loss_at(1e-3) - loss_at(-1e-3)) / 2e-3;
            // Single precision and the rectifier's corners leave about two digits of a difference quotient.
            assert!((slope - gradient[index]).abs() < 5e-3, "{index}: {slope} against {}", gradient[index]);
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let mut model = Model::untrained(1);
        let before = model.clone();
        let mut gradient = vec![0.0; PARAMETERS];
        gradient[7] = f32::NAN;
        assert!(!model.descend(&gradient, 0.1));
        assert!(!model.descend(&[1.0], 0.1));
        assert_eq!(model, before);
        assert_eq!(Model::from_parameters(gradient), None);
    }
}
