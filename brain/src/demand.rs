//! Turns counts of arrivals into steps for the forecast, and into the demand of this moment.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{Reading, Timestamp};

use crate::event::Flow;
use crate::past::Past;

/// The demand of this moment is the larger of two means: over a short time, to see a rise, and over a longer one, so that chance
/// does not look like a fall. Each a part of a step, within these bounds. A rise that cannot be chance is seen sooner.
const SHORT: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(15)];
const LONG: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];
/// From here on requests come many at a time; below, it may be chance, or how the load moves within a step.
const ROUGH: f64 = 5.0;
/// A rise is seen before the short window is full of it when it is at least so much likelier than chance (natural logarithm), and
/// has brought so many requests.
const JUMP_LIKELIER: f64 = 10.0;
const JUMP_REQUESTS_MIN: f64 = 16.0;
/// Steps for which counts are kept, and most counts. Those that the present demand is not made of any more are joined to pieces of a
/// step.
const RECENT_STEPS: u32 = 4;
const RECENT_MAX: usize = 2048;
const PIECES_PER_STEP: u32 = 12;
/// A step is known when at least this share of it was counted.
const COVERED_MIN: f64 = 0.5;
/// Most steps closed at once; after a longer absence the rest are left out.
const CLOSED_MAX: usize = 5000;

/// The short and the long window of the present demand, for this step. Where requests come many at a time, the short one is longer
/// by as much, up to the long one: its mean then varies as it does where they are independent.
pub(crate) fn windows(step: Duration, roughness: f64) -> [Duration; 2] {
    let long = step.clamp(LONG[0], LONG[1]);
    [(step / 4).clamp(SHORT[0], SHORT[1]).mul_f64(roughness.clamp(1.0, 100.0)).min(long), long]
}

/// When a window ended, what arrived in it, and its seconds.
type Count = (Timestamp, f32, f32);

/// Counts of the step that is not over, and of the last seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Demand {
    step: Duration,
    open: Option<Open>,
    recent: VecDeque<Count>,
    /// What came before, joined.
    earlier: VecDeque<Count>,
    roughness: Roughness,
}

/// Counts are taken over pieces to tell how rough arrivals are within a step: as long as a load is felt, within these bounds.
const PIECE_S: [f64; 2] = [5.0, 15.0];
/// Pieces of a step from which on their variance says something.
const PIECES_MIN: f64 = 4.0;
/// Fades with this half-life.
const ROUGHNESS_HALF_LIFE: Duration = Duration::from_secs(6 * 3600);
/// Steps from which on it is believed.
const ROUGH_STEPS_MIN: f64 = 10.0;

/// The index of dispersion of counts within a step: variance over mean (Cox and Lewis, *The Statistical Analysis of Series of
/// Events*, 1966, §4.5). 1 where requests come independently of each other; `n` where they come `n` at a time. The variance is half
/// the mean square of differences between neighbours (von Neumann, *Annals of Mathematical Statistics* 12, 1941), which a rise or a
/// fall does not inflate; the largest of them is left out, so that a jump does not either.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Roughness {
    felt_s: f64,
    piece_s: f64,
    piece: f64,
    last: Option<f64>,
    /// Of the pieces of the open step: their number, their sum, and the sum and the largest of squared differences between neighbours.
    pieces: [f64; 4],
    /// Of steps: number, variances and means, fading.
    steps: [f64; 3],
}

impl Roughness {
    fn ingest(&mut self, window_s: f64, arrivals: f64) {
        self.piece_s += window_s;
        self.piece += arrivals;
        let whole_s = self.felt_s.clamp(PIECE_S[0], PIECE_S[1]);
        if self.piece_s >= whole_s {
            let count = self.piece * whole_s / self.piece_s;
            (self.piece_s, self.piece) = (0.0, 0.0);
            let change = self.last.replace(count).map_or(0.0, |last| count - last);
            let [n, sum, changes, largest] = self.pieces;
            let square = change * change;
            self.pieces = [n + 1.0, sum + count, changes + square, largest.max(square)];
        }
    }

    fn close_step(&mut self, step: Duration) {
        let [n, sum, changes, largest] = std::mem::take(&mut self.pieces);
        self.last = None;
        if n < PIECES_MIN {
            return;
        }
        let keep = (-step.as_secs_f64() / ROUGHNESS_HALF_LIFE.as_secs_f64()).exp2();
        let variance = (changes - largest) / 2.0 / (n - 2.0);
        self.steps =
            [self.steps[0] * keep + 1.0, self.steps[1] * keep + variance, self.steps[2] * keep + sum / n];
    }

    fn index(&self) -> f64 {
        let index = self.dispersion();
        if index < ROUGH { 1.0 } else { index }
    }

    fn dispersion(&self) -> f64 {
        let [steps, variances, means] = self.steps;
        if steps < ROUGH_STEPS_MIN || means <= 0.0 { 1.0 } else { (variances / means).max(1.0) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Open {
    start: Timestamp,
    arrivals: f64,
    covered_s: f64,
}

impl Demand {
    pub(crate) fn new(step: Duration) -> Self {
        Self {
            step,
            open: None,
            recent: VecDeque::new(),
            earlier: VecDeque::new(),
            roughness: Roughness::default(),
        }
    }

    /// Takes in what arrived in the window before `at`, and gives the steps that are over by then: their start and mean rate.
    pub(crate) fn ingest(&mut self, at: Timestamp, flow: Option<Flow>) -> Vec<(Timestamp, Option<f64>)> {
        let closed = self.close_until(at);
        let counted =
            flow.filter(|flow| flow.arrivals.is_finite() && flow.arrivals >= 0.0 && !flow.window.is_zero());
        if let Some(flow) = counted {
            let window_s = flow.window.as_secs_f64();
            if let Some(open) = &mut self.open {
                // A window that began before the step is counted in it whole: it is a second or so, and the rate stays right.
                open.arrivals += flow.arrivals;
                open.covered_s += window_s;
            }
            self.roughness.ingest(window_s, flow.arrivals);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "seven digits of a count are more than is known"
            )]
            self.recent.push_back((at.before(flow.age), flow.arrivals as f32, window_s as f32));
            self.join(at);
        }
        closed
    }

    /// Joins the counts that are older than the long window, and forgets those that are too old.
    fn join(&mut self, now: Timestamp) {
        let [_, long] = windows(self.step, 1.0);
        let piece = (self.step / PIECES_PER_STEP).as_secs_f32();
        let Some((newest, ..)) = self.recent.back().copied() else { return };
        let is_long_ago = |count: &Count| newest.since(count.0) > long;
        while self.recent.len() > RECENT_MAX || self.recent.front().is_some_and(is_long_ago) {
            let Some((at, arrivals, window_s)) = self.recent.pop_front() else { break };
            match self.earlier.back_mut().filter(|last| last.2 + window_s <= piece) {
                Some(last) => *last = (at, last.1 + arrivals, last.2 + window_s),
                None => self.earlier.push_back((at, arrivals, window_s)),
            }
        }
        let is_too_old = |count: &Count| now.since(count.0) >= self.step * RECENT_STEPS;
        while self.recent.front().is_some_and(is_too_old) {
            self.recent.pop_front();
        }
        while self.earlier.len() > RECENT_MAX || self.earlier.front().is_some_and(is_too_old) {
            self.earlier.pop_front();
        }
    }

    fn close_until(&mut self, at: Timestamp) -> Vec<(Timestamp, Option<f64>)> {
        let current = at.floor_to(self.step);
        let mut closed = Vec::new();
        let mut open = *self.open.get_or_insert(Open { start: current, arrivals: 0.0, covered_s: 0.0 });
        while open.start + self.step <= at && closed.len() < CLOSED_MAX {
            self.roughness.close_step(self.step);
            let known = open.covered_s >= COVERED_MIN * self.step.as_secs_f64();
            closed.push((open.start, known.then(|| open.arrivals / open.covered_s)));
            open = Open { start: open.start + self.step, arrivals: 0.0, covered_s: 0.0 };
        }
        if open.start + self.step <= at {
            open.start = current;
        }
        self.open = Some(open);
        closed
    }

    /// Takes how long a load is felt.
    pub(crate) fn feel(&mut self, felt: Duration) {
        self.roughness.felt_s = felt.as_secs_f64();
    }

    /// How many requests come at a time, so to speak: 1 where they are independent of each other.
    pub(crate) fn roughness(&self) -> f64 {
        self.roughness.index()
    }

    /// The demand of this moment, with the age of the newest count.
    pub(crate) fn reading(&self, now: Timestamp) -> Option<Reading> {
        let (newest, ..) = *self.recent.back()?;
        let means = windows(self.step, self.roughness())
            .map(|window| self.mean(newest.before(window), newest).map(|(rate, _)| rate));
        Reading::new(
            means.into_iter().chain([self.jumped(newest)]).flatten().reduce(f64::max)?,
            now.since(newest),
        )
    }

    /// The rate since a rise within the short window, less its standard error; `None` where chance may have made it. Of all moments at
    /// which the rate may have changed the likeliest, by the generalized likelihood ratio of counts before and since (Siegmund and
    /// Venkatraman, *Annals of Statistics* 23, 1995), divided by how many requests come at a time.
    fn jumped(&self, newest: Timestamp) -> Option<f64> {
        let dispersion = self.roughness.dispersion();
        let [short, long] = windows(self.step, 1.0);
        let counts = || self.recent.iter().rev().take_while(|(at, ..)| *at > newest.before(long));
        let (all, all_s) = counts().fold((0.0, 0.0), add);
        let usual = all / all_s;
        let (mut since, mut since_s) = (0.0, 0.0);
        let mut likeliest = (JUMP_LIKELIER * dispersion, None);
        for count in counts() {
            (since, since_s) = add((since, since_s), count);
            let (before, before_s) = (all - since, all_s - since_s);
            if since_s >= short.as_secs_f64() || before_s < short.as_secs_f64() {
                break;
            }
            let rate = since / since_s;
            if rate <= usual || since < JUMP_REQUESTS_MIN * dispersion {
                continue;
            }
            let fell = if before > 0.0 { before * (before / before_s / usual).ln() } else { 0.0 };
            let likelier = since * (rate / usual).ln() + fell;
            if likelier > likeliest.0 {
                likeliest = (likelier, Some(rate - (since * dispersion).sqrt() / since_s));
            }
        }
        likeliest.1
    }

    /// How far apart counts come: the longest window lately.
    pub(crate) fn every(&self) -> Duration {
        let longest = self.recent.iter().map(|(.., window_s)| *window_s).fold(0.0, f32::max);
        Duration::try_from_secs_f32(longest).unwrap_or_default()
    }

    /// The mean rate over the step that ended `ago` steps before the newest count; `None` when too little of it is known.
    pub(crate) fn rolling(&self, ago: usize) -> Option<f64> {
        let (newest, ..) = *self.recent.back()?;
        let ago = u32::try_from(ago).ok().filter(|ago| *ago < RECENT_STEPS)?;
        let to = newest.before(self.step * ago);
        let (rate, covered_s) = self.mean(to.before(self.step), to)?;
        (covered_s >= COVERED_MIN * self.step.as_secs_f64()).then_some(rate)
    }

    /// The mean rate of the counts that ended after `from` and not after `to`, and the seconds that they cover.
    fn mean(&self, from: Timestamp, to: Timestamp) -> Option<(f64, f64)> {
        let newest_first = self.recent.iter().rev().chain(self.earlier.iter().rev());
        let within = newest_first.skip_while(|(at, ..)| *at > to).take_while(|(at, ..)| *at > from);
        let (arrivals, covered_s) = within.fold((0.0, 0.0), add);
        (covered_s > 0.0).then(|| (arrivals / covered_s, covered_s))
    }
}

/// A sum of arrivals and seconds with one count more.
fn add(sum: (f64, f64), (_, arrivals, window_s): &Count) -> (f64, f64) {
    (sum.0 + f64::from(*arrivals), sum.1 + f64::from(*window_s))
}

/// Appends one step, after gaps for those that nobody saw; what lies before the end is known already.
pub(crate) fn append(past: &mut Past, start: Timestamp, rate: Option<f64>, steps_max: usize) -> usize {
    let step = past.step();
    if past.is_empty() {
        *past = Past::new(start, step);
    }
    let absent = start.since(past.end()).as_millis() / step.as_millis().max(1);
    let absent = usize::try_from(absent).unwrap_or(steps_max).min(steps_max);
    (0..absent).for_each(|_| past.push(None));
    let fresh = start >= past.end();
    if fresh {
        past.push(rate);
    }
    past.keep_last(steps_max);
    absent + usize::from(fresh)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_distr::Distribution as _;

    use super::*;

    fn flow(arrivals: f64) -> Option<Flow> {
        let (window, age) = (Duration::from_secs(1), Duration::ZERO);
        Some(Flow { window, age, arrivals, completed: arrivals, ended: None, missed: None, tokens: None })
    }

    #[test]
    fn a_step_is_the_mean_rate_of_what_was_counted_in_it() {
        let mut demand = Demand::new(Duration::from_secs(5));
        let mut closed = Vec::new();
        for second in 0..12 {
            let seen = if (5..9).contains(&second) { None } else { flow(10.0) };
            closed.extend(demand.ingest(Timestamp::from_secs(second), seen));
        }
        let at = Timestamp::from_secs;
        assert_eq!(
            closed,
            [(at(0), Some(10.0)), (at(5), None)],
            "one second of five is not enough to know a step"
        );
    }

    #[test]
    fn the_present_demand_ages_when_counts_stop() {
        let mut demand = Demand::new(Duration::from_secs(60));
        for second in 0..10 {
            demand.ingest(Timestamp::from_secs(second), flow(20.0));
        }
        demand.ingest(Timestamp::from_secs(30), None);
        let reading = demand.reading(Timestamp::from_secs(39)).unwrap();
        assert_eq!((reading.value(), reading.age()), (20.0, Duration::from_secs(30)));
    }

    #[test]
    fn a_rise_is_seen_at_once_and_a_fall_only_when_it_lasts() {
        let mut demand = Demand::new(Duration::from_secs(60));
        let at = Timestamp::from_secs;
        (0..120).for_each(|second| drop(demand.ingest(at(second), flow(20.0))));
        (120..135).for_each(|second| drop(demand.ingest(at(second), flow(80.0))));
        assert_eq!(demand.reading(at(135)).unwrap().value(), 80.0);
        assert_eq!((demand.rolling(1), demand.rolling(4)), (Some(20.0), None));
        (135..155).for_each(|second| drop(demand.ingest(at(second), flow(20.0))));
        assert_eq!(demand.reading(at(155)).unwrap().value(), 35.0, "the mean of a minute");
    }

    #[test]
    fn a_jump_is_seen_within_two_seconds_and_chance_is_none() {
        let at = Timestamp::from_secs;
        let mut demand = Demand::new(Duration::from_secs(60));
        (0..120).for_each(|second| drop(demand.ingest(at(second), flow(8.0))));
        (120..122).for_each(|second| drop(demand.ingest(at(second), flow(45.0))));
        let seen = demand.reading(at(122)).unwrap().value();
        assert!((40.0..45.0).contains(&seen), "its standard error below what came: {seen}");

        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let counts = rand_distr::Poisson::new(20.0).unwrap();
        let mut demand = Demand::new(Duration::from_secs(60));
        let mut seen = 0;
        for second in 0..86_400 {
            demand.ingest(at(second), flow(counts.sample(&mut random)));
            let jumped = demand.jumped(at(second));
            seen += u32::from(jumped.is_some());
            assert!(jumped.is_none_or(|rate| rate < 40.0), "{jumped:?}");
        }
        assert!(seen < 20, "{seen} seconds of a day");
    }

    #[test]
    fn a_few_requests_after_silence_are_no_jump() {
        let mut demand = Demand::new(Duration::from_secs(60));
        (0..120).for_each(|second| drop(demand.ingest(Timestamp::from_secs(second), flow(0.0))));
        demand.ingest(Timestamp::from_secs(120), flow(6.0));
        assert_eq!(demand.jumped(Timestamp::from_secs(120)), None);
    }

    #[test]
    fn roughness_is_how_many_come_at_a_time_and_not_how_the_load_rises() {
        let roughness = |arrivals: &dyn Fn(i64) -> f64| {
            let mut demand = Demand::new(Duration::from_secs(60));
            (1..=3600).for_each(|second| {
                drop(demand.ingest(Timestamp::from_secs(second), flow(arrivals(second))));
            });
            demand.roughness()
        };
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let rise = roughness(&|second| 10.0 + second as f64 / 10.0);
        // In each piece of five seconds either forty at once or none, without a pattern that neighbours share.
        let batches =
            roughness(&|second| if second % 5 == 1 && (second / 5 * 7919 % 101) < 50 { 40.0 } else { 0.0 });
        assert!((1.0..1.1).contains(&rise), "{rise}");
        assert!((8.0..35.0).contains(&batches), "a variance of 400 at a mean of 20: {batches}");
    }

    #[test]
    fn a_long_absence_closes_a_bounded_number_of_steps() {
        let mut demand = Demand::new(Duration::from_secs(1));
        demand.ingest(Timestamp::from_secs(0), flow(1.0));
        assert_eq!(demand.ingest(Timestamp::from_secs(1_000_000), flow(1.0)).len(), CLOSED_MAX);
        assert_eq!(demand.ingest(Timestamp::from_secs(1_000_001), flow(1.0)).len(), 1);
    }
}
