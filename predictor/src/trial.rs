//! The trial: all models are fitted at a few points of the history and followed from there, and what each would have said
//! at origins that it had not seen is written down. It does not judge; see `judge`.

use crate::config::PredictorConfig;
use crate::course::Course;
use crate::grid::grid;
use crate::history::History;
use crate::models::{Distributions, Fitted, Model};

/// Most origins: enough for a 99 % quantile, and the cost of a fit grows with them.
const ORIGINS_MAX: usize = 500;
/// Shares of the history at which models are fitted anew, in percent; the rest up to the next is what they are judged on.
const CHECKPOINTS: [usize; 3] = [35, 55, 78];

/// What every model said at every origin, and every model fitted to the whole history.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) grid: Vec<usize>,
    pub(crate) origins: Vec<Origin>,
    pub(crate) fitted: Vec<Option<Fitted>>,
    /// By model: the deviation up to which the series is on its course; `None`: any.
    pub(crate) courses: Vec<Option<f64>>,
}

/// A step from which forecasts were made, knowing it and nothing later.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) at: usize,
    /// By model; `None`: no opinion.
    pub(crate) points: Vec<Option<Points>>,
}

/// A path at the grid's horizons.
#[derive(Debug)]
pub(crate) struct Points {
    pub(crate) steps: Vec<f64>,
    /// The largest of the path up to there.
    pub(crate) maxima: Vec<f64>,
    /// Of a model that has its own.
    pub(crate) distributions: Option<Distributions>,
    /// Whether the present was where the model, if it does not look at it, may expect it.
    pub(crate) on_course: bool,
}

/// Runs the trial over a whole history.
pub(crate) fn run(history: &History, models: &[Model], config: &PredictorConfig) -> Trial {
    let grid = grid(config.horizon(), config.lead());
    let end = history.end();
    let mut trial = Trial { grid, origins: Vec::new(), fitted: Vec::new(), courses: Vec::new() };
    let mut path = vec![0.0; config.horizon()];
    let mut fitted: Vec<Option<Fitted>> = models.iter().map(|_| None).collect();
    let mut courses: Vec<Course> = models.iter().map(|_| Course::default()).collect();
    let mut checkpoints = CHECKPOINTS.iter().map(|percent| end * percent / 100).peekable();
    for at in origins(end, config.seed).filter(|at| history.value(*at).is_some()) {
        while let Some(upto) = checkpoints.next_if(|upto| *upto <= at) {
            refit(&mut fitted, models, history, upto);
        }
        for (fitted, model) in fitted.iter_mut().zip(models).filter(|(_, m)| !m.has_parameters()) {
            *fitted = model.fit(history, at + 1);
        }
        let points = fitted
            .iter_mut()
            .zip(&mut courses)
            .map(|(model, course)| Some(trial.points(model.as_mut()?, course, history, at, &mut path)))
            .collect();
        trial.origins.push(Origin { at, points });
    }
    trial.courses = courses.iter().map(Course::tolerance).collect();
    trial.fitted = models.iter().map(|model| model.fit(history, end)).collect();
    trial
}

fn refit(fitted: &mut [Option<Fitted>], models: &[Model], history: &History, upto: usize) {
    for (fitted, model) in fitted.iter_mut().zip(models).filter(|(_, m)| m.has_parameters()) {
        *fitted = model.fit(history, upto);
    }
}

impl Trial {
    fn points(
        &self,
        model: &mut Fitted,
        course: &mut Course,
        history: &History,
        at: usize,
        path: &mut [f64],
    ) -> Points {
        model.advance(history, at);
        model.path(history, at, path);
        let steps = self.grid.iter().map(|h| path[h - 1]).collect();
        running_max(path);
        let maxima = self.grid.iter().map(|h| path[h - 1]).collect();
        let distributions = model.distributions(history, at);
        Points { steps, maxima, distributions, on_course: course.takes(model.deviation(history, at)) }
    }
}

/// Each entry becomes the largest up to it; after one that is unknown, none is known.
pub(crate) fn running_max(path: &mut [f64]) {
    path.iter_mut().fold(f64::NEG_INFINITY, |max, z| {
        *z = if max.is_nan() {
            max
        } else if *z > max || z.is_nan() {
            *z
        } else {
            max
        };
        *z
    });
}

/// One origin drawn from each of equal parts, so that no rhythm of the load falls in step with the draw.
fn origins(end: usize, seed: u64) -> impl Iterator<Item = usize> {
    let stride = end.div_ceil(ORIGINS_MAX).max(1);
    let draw = move |part: usize| {
        let part_seed = seed.wrapping_add(u64::try_from(part).unwrap_or(0));
        part * stride
            + usize::try_from(split_mix(part_seed) % u64::try_from(stride).unwrap_or(1)).unwrap_or(0)
    };
    (0..end.div_ceil(stride)).map(draw).filter(move |at| *at < end)
}

/// The output function of SplitMix64 (Steele, Lea, Flood, 2014).
const fn split_mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::league;

    #[test]
    fn origins_are_spread_bounded_and_repeatable() {
        let drawn: Vec<usize> = origins(20_160, 7).collect();
        assert!(drawn.is_sorted() && drawn.len() > 450 && drawn.len() <= ORIGINS_MAX);
        assert_eq!(drawn, origins(20_160, 7).collect::<Vec<_>>());
        assert_ne!(drawn, origins(20_160, 8).collect::<Vec<_>>());
        assert_eq!(origins(3, 1).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn no_model_reads_beyond_its_origin() {
        let value = |t: u32| 20.0 + 9.0 * (f64::from(t % 48) / 8.0).sin() + f64::from(t * 7919 % 13);
        let (mut whole, mut cut) = (History::new(5, 20.0), History::new(5, 20.0));
        (0..600).for_each(|t| whole.push(Some(value(t) * if t > 431 { 5.0 } else { 1.0 })));
        (0..432).for_each(|t| cut.push(Some(value(t))));
        for model in league(&[48], 60, 5) {
            let said = |history: &History| {
                let mut path = [0.0; 60];
                let mut fitted = model.fit(history, 400).unwrap();
                fitted.advance(history, 431);
                fitted.path(history, 431, &mut path);
                (path.map(f64::to_bits), fitted.distributions(history, 431))
            };
            assert_eq!(said(&whole), said(&cut), "{}", model.name());
        }
    }
}
