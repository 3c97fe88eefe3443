//! The state of a load at a moment, as numbers that mean the same at any level: logarithms of ratios to the present level, and
//! where in its cycles the clock stands.

use std::time::Duration;

use tidegate_core::Timestamp;
use tidegate_core::forecast::{LEVELS, Quantiles};

use super::PeakConfig;
use crate::empirical::Grid;
use crate::grid::steps;

/// Numbers that make up a state.
pub(super) const FEATURES: usize = 25;
/// A state.
pub(super) type State = [f32; FEATURES];

/// Windows of means, maxima and minima, in steps.
const MEANS: [usize; 4] = [5, 15, 60, 240];
const MAXIMA: [usize; 5] = [5, 15, 60, 180, 720];
const MINIMA: [usize; 2] = [15, 60];
/// Window of the size of recent changes, in steps.
const CHANGES: usize = 30;
/// Steps that an unknown value is carried over.
const CARRIED_MAX: usize = 15;
/// Past cycles of each season that are looked at: of an hour a day's, of a day a week's, of a week one.
const CYCLES: [usize; 3] = [24, 7, 1];
/// Jobs are started by the clock at full hours and parts of them.
const HOUR: Duration = Duration::from_secs(3600);
/// Logarithms of ratios are kept within these: e⁻⁶ to e⁸.
const RATIO_MIN: f64 = -6.0;
const RATIO_MAX: f64 = 8.0;
/// A demand may rise to this many times itself at once, wherever it stands.
const BEYOND_LARGEST: f64 = 1.5;

/// How states are read off a load.
#[derive(Debug, Clone)]
pub(super) struct Features {
    step_s: f64,
    window: usize,
    floor: f64,
    median: f64,
    /// The largest demand known.
    largest: f64,
    /// Seasons in steps, shortest first: the hour, where steps are shorter, and those configured.
    seasons: [Option<usize>; CYCLES.len()],
}

impl Features {
    pub(super) fn new(config: &PeakConfig, floor: f64, median: f64, largest: f64) -> Self {
        let step_s = config.step.as_secs_f64().max(1e-3);
        let in_steps = |season: &Duration| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive, and saturating"
            )]
            let length = (season.as_secs_f64() / step_s).round() as usize;
            Some(length).filter(|length| *length >= 4)
        };
        let mut given: Vec<usize> = config.seasons.iter().filter_map(in_steps).collect();
        given.sort_unstable();
        given.dedup();
        // An hour is a cycle of its own only below the shortest of those given.
        let hour = in_steps(&HOUR).filter(|hour| given.first().is_none_or(|first| hour * 2 <= *first));
        let mut given = given.into_iter();
        Self {
            step_s,
            window: config.window_steps.max(1),
            floor,
            median,
            largest,
            seasons: [hour, given.next(), given.next()],
        }
    }

    /// The state in which `past` steps lie behind, the present level is `level`, and the clock says `now`.
    pub(super) fn state(&self, past: impl Fn(usize) -> Option<f64>, level: f64, now: Timestamp) -> State {
        let known = |ago: usize| (ago..=ago + CARRIED_MAX).find_map(&past);
        let here = self.log(level);
        let ratio = |value: f64| self.log(value) - here;
        let mut row = Writer::default();
        for lag in 1..=3 {
            row.push(known(lag).map_or(0.0, ratio));
        }
        let mut folded = Folded { upto: 0, count: 0, sum: 0.0, max: level, min: level };
        let mut windows: Vec<(usize, What)> = Vec::with_capacity(MEANS.len() + MAXIMA.len() + MINIMA.len());
        windows.extend(MEANS.map(|w| (w, What::Mean)));
        windows.extend(MAXIMA.map(|w| (w, What::Max)));
        windows.extend(MINIMA.map(|w| (w, What::Min)));
        windows.sort_by_key(|(window, _)| *window);
        for (window, what) in windows {
            folded.extend(window, &past);
            row.push(ratio(folded.read(what, level)));
        }
        row.push(here - self.log(self.median));
        for (season, cycles) in self.seasons.iter().zip(CYCLES) {
            let [mean, max] = season.map_or([None; 2], |season| self.envelope(&past, season, cycles));
            row.push(mean.map_or(0.0, ratio));
            row.push(max.map_or(0.0, ratio));
        }
        for part in [1.0, 0.5] {
            row.push(self.phase(now, self.seasons[0], part));
        }
        row.push(self.phase(now, self.seasons[1], 1.0));
        let changes =
            (0..CHANGES).filter_map(|ago| Some((self.log(past(ago)?) - self.log(past(ago + 1)?)).powi(2)));
        let (sum, count) = changes.fold((0.0, 0usize), |(sum, count), square| (sum + square, count + 1));
        row.push((sum / steps(count.max(1))).sqrt());
        row.done()
    }

    /// Mean and maximum, over past cycles, of the largest value of the steps that lie ahead now.
    fn envelope(
        &self,
        past: &impl Fn(usize) -> Option<f64>,
        season: usize,
        cycles: usize,
    ) -> [Option<f64>; 2] {
        let (mut count, mut sum, mut max) = (0usize, 0.0, f64::NEG_INFINITY);
        for cycle in 1..=cycles {
            // The step that ends `ahead` steps from now lies `cycle · season − ahead` steps ago, a cycle earlier.
            let of = (1..=self.window).filter_map(|ahead| past((cycle * season).checked_sub(ahead)?));
            if let Some(peak) = of.reduce(f64::max) {
                count += 1;
                sum += peak;
                max = max.max(peak);
            }
        }
        if count == 0 { [None; 2] } else { [Some(sum / steps(count)), Some(max)] }
    }

    /// Where in a part of a season the clock stands, 0 to 1; 0 where there is no such season.
    fn phase(&self, now: Timestamp, season: Option<usize>, part: f64) -> f64 {
        let Some(season) = season else { return 0.0 };
        let length = steps(season) * self.step_s * part;
        (now.as_secs_f64() / length).rem_euclid(1.0)
    }

    fn log(&self, value: f64) -> f64 {
        (value.max(0.0) + self.floor).ln()
    }

    /// The logarithm of the ratio of a peak to a level.
    pub(super) fn ratio(&self, peak: f64, level: f64) -> f64 {
        (self.log(peak) - self.log(level)).clamp(RATIO_MIN, RATIO_MAX)
    }

    /// Peaks from the ratios' quantiles. A ratio of small demands says nothing of large ones, so none is beyond all that was ever
    /// seen, unless the demand is about there already.
    pub(super) fn peaks(&self, ratios: &Grid, level: f64) -> Quantiles {
        let here = self.log(level);
        let most = self.largest.max(level * BEYOND_LARGEST);
        let mut values = [0.0; LEVELS.len()];
        for (value, ratio) in values.iter_mut().zip(ratios) {
            *value = ((here + ratio).exp() - self.floor).clamp(0.0, most);
        }
        Quantiles::new(values).expect("exponentials of bounded numbers are finite")
    }
}

/// What is read off a window.
#[derive(Debug, Clone, Copy)]
enum What {
    Mean,
    Max,
    Min,
}

/// The known values of the last `upto` steps.
struct Folded {
    upto: usize,
    count: usize,
    sum: f64,
    max: f64,
    min: f64,
}

impl Folded {
    fn extend(&mut self, window: usize, past: &impl Fn(usize) -> Option<f64>) {
        for value in (self.upto..window).filter_map(past) {
            self.count += 1;
            self.sum += value;
            self.max = self.max.max(value);
            self.min = self.min.min(value);
        }
        self.upto = window;
    }

    fn read(&self, what: What, level: f64) -> f64 {
        match what {
            What::Mean if self.count == 0 => level,
            What::Mean => self.sum / steps(self.count),
            What::Max => self.max,
            What::Min => self.min,
        }
    }
}

#[derive(Default)]
struct Writer {
    row: State,
    at: usize,
}

impl Writer {
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough to split by")]
    fn push(&mut self, value: f64) {
        self.row[self.at] = if value.is_finite() { value as f32 } else { 0.0 };
        self.at += 1;
    }

    fn done(self) -> State {
        debug_assert_eq!(self.at, FEATURES);
        self.row
    }
}
