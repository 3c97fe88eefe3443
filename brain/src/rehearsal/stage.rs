//! Where stances are played: arrivals of the past in short ticks, replicas that take their time to start, and one queue in which
//! whoever waits too long is late. A fluid, so that a week passes in a millisecond; chance within a tick is drawn, seeded.

use std::collections::VecDeque;
use std::time::Duration;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Poisson};
use tidegate_core::{Rehearsed, Series, Stance};

use super::Rehearsal;
use crate::demand::windows;
use crate::evidence::CAUSE_WINDOWS;

/// Ticks of a step.
const TICKS_PER_STEP: u32 = 4;
/// Bounds of a tick: finer than a second nothing is decided, coarser than this bursts would be seen too late.
const TICK_MIN: Duration = Duration::from_secs(1);
const TICK_MAX: Duration = Duration::from_secs(15);
/// Where requests come many at a time, ticks are at most so long, and the past that is played may be shorter.
const TICK_ROUGH: Duration = Duration::from_secs(5);
/// Most ticks played.
const TICKS_MAX: usize = 50_000;
/// Waiting requests are dropped after this.
const DROP_AFTER_S: f64 = 30.0;
/// Waiting requests are to be gone within this, as in the decision.
const DRAIN_S: f64 = 10.0;
/// Start-ups spread as a normal distribution of their logarithm does at these points, in an order without a pattern.
const SPREAD: [f64; 8] = [-0.49, 0.16, 1.53, -0.16, -1.53, 0.89, 0.49, -0.89];
/// One standard deviation up to the 90th percentile.
const P90: f64 = 1.2816;
/// Share of the past in which a play finds its feet before it is judged.
const WARM_SHARE: usize = 50;

/// The past, ready to be played.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    rehearsal: &'a Rehearsal,
    tick_s: f64,
    ticks_per_step: usize,
    /// Index in the series of the step in which the first tick lies.
    first_step: usize,
    /// Arrivals per second, by tick, as those being served feel them.
    rates: Vec<f32>,
    /// The load that made late what ended in a tick.
    felt: Vec<f32>,
    /// The present demand as it is known at the start of a tick.
    levels: Vec<f32>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(rehearsal: &'a Rehearsal, series: &Series, played: Duration) -> Self {
        let step = series.step();
        let longest = if rehearsal.roughness > 1.0 { TICK_ROUGH } else { TICK_MAX };
        let tick = (step / TICKS_PER_STEP).clamp(TICK_MIN, longest).min(step.max(TICK_MIN));
        let tick_s = tick.as_secs_f64();
        let ticks_per_step = whole((step.as_secs_f64() / tick_s).round()).max(1);
        let steps =
            whole(played.as_secs_f64() / step.as_secs_f64().max(1e-3)).min(TICKS_MAX / ticks_per_step);
        let first_step = series.len().saturating_sub(steps.max(1));
        let rates = arrivals(&series.values()[first_step..], ticks_per_step, tick_s, rehearsal.roughness);
        let ticks = |span: Duration| whole((span.as_secs_f64() / tick_s).round()).max(1);
        let levels = levels(&rates, windows(step, rehearsal.roughness).map(ticks));
        let (rates, felt) = felt(&rates, ticks(rehearsal.felt));
        Self { rehearsal, tick_s, ticks_per_step, first_step, rates, felt, levels }
    }

    /// The present demand at the start of a tick.
    pub(super) fn level(&self, tick: usize) -> f64 {
        f64::from(self.levels[tick])
    }

    /// Index in the series of the last step that was over at the start of a tick.
    pub(super) fn step_before(&self, tick: usize) -> Option<usize> {
        (self.first_step + tick / self.ticks_per_step).checked_sub(1)
    }

    /// Replicas for a demand at each tick.
    pub(super) fn needs(&self, demand: impl Fn(usize) -> f64) -> Vec<u32> {
        (0..self.rates.len()).map(|tick| self.rehearsal.capacity.replicas_for(demand(tick))).collect()
    }

    /// Plays a stance that has these needs.
    pub(super) fn play(&self, stance: Stance, needs: &[u32]) -> Rehearsed {
        let hold_ticks = whole((stance.hold.as_secs_f64() / self.tick_s).round());
        let capacity = self.rehearsal.capacity;
        let warm = needs.len() / WARM_SHARE;
        let mut held = Held::default();
        let mut size = Size::new(self.rehearsal, needs.first().copied().unwrap_or(1));
        let (mut waiting, mut cost, mut ended, mut missed) = (0.0f64, 0.0, 0.0, 0.0);
        let mut actions = 0u32;
        for (tick, need) in needs.iter().enumerate() {
            let mut need = *need;
            if waiting >= 1.0 && self.rehearsal.reactive {
                let rate = f64::from(self.rates[tick.saturating_sub(1)]);
                need = need.max(capacity.replicas_for(rate + waiting / DRAIN_S));
            }
            let wanted = self.rehearsal.bounds.clamp(held.highest(tick, need, hold_ticks));
            let changed = size.set(wanted, tick, self.tick_s);
            let ready = size.pass(tick);
            let arrived = f64::from(self.rates[tick]) * self.tick_s;
            let rate = f64::from(ready) * capacity.low;
            let late = match &self.rehearsal.lateness {
                Some(lateness) => lateness.share(f64::from(self.felt[tick]) / rate.max(1e-9)),
                None => self.queue(&mut waiting, arrived, rate),
            };
            if tick >= warm {
                ended += arrived;
                missed += arrived * late;
                cost += size.supply();
                actions += u32::from(changed);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "at most some ten thousands of ticks")]
        let ticks = (needs.len() - warm).max(1) as f64;
        Rehearsed {
            stance,
            replicas: cost / ticks,
            actions_per_hour: f64::from(actions) / (ticks * self.tick_s / 3600.0),
            missed: if ended > 0.0 { missed / ended } else { 0.0 },
        }
    }

    /// Lets a tick's arrivals pass through the queue; gives the share of them that waits too long.
    fn queue(&self, waiting: &mut f64, arrived: f64, rate: f64) -> f64 {
        let left = (*waiting + arrived - rate * self.tick_s).max(0.0);
        let (wait, wait_after) = (*waiting / rate.max(1e-9), left / rate.max(1e-9));
        let dropped = ((wait_after - DROP_AFTER_S) * rate).max(0.0).min(*waiting + arrived);
        *waiting = left - dropped;
        share_above(wait, wait_after, self.rehearsal.wait_max.as_secs_f64())
    }
}

/// The share of a tick in which the wait, moving evenly from one value to the other, is above the limit.
fn share_above(from: f64, to: f64, limit: f64) -> f64 {
    let (low, high) = (from.min(to), from.max(to));
    if low >= limit {
        1.0
    } else if high <= limit {
        0.0
    } else {
        (high - limit) / (high - low)
    }
}

/// Each known step's rate with the chance of arrivals that come so many at a time; an unknown step goes on as the one before.
fn arrivals(values: &[Option<f64>], ticks_per_step: usize, tick_s: f64, roughness: f64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut last = 0.0;
    let mut rates = Vec::with_capacity(values.len() * ticks_per_step);
    for value in values {
        last = value.filter(|v| v.is_finite() && *v >= 0.0).unwrap_or(last);
        let drawn = Poisson::new(last * tick_s / roughness).ok();
        for _ in 0..ticks_per_step {
            let rate = drawn.map_or(last, |drawn| drawn.sample(&mut random) * roughness / tick_s);
            rates.push(narrow(rate));
        }
    }
    rates
}

/// The larger of the means over a short and a long window, both of whole ticks that are over.
fn levels(rates: &[f32], [short, long]: [usize; 2]) -> Vec<f32> {
    let means = Means::new(rates);
    let level = |tick| match tick {
        0 => rates[0],
        _ => narrow(means.before(tick, short).max(means.before(tick, long))),
    };
    (0..rates.len()).map(level).collect()
}

/// The mean over a window that ends with each tick, and the highest of this and the windows before it that may have made late what
/// ends in it.
fn felt(rates: &[f32], window: usize) -> (Vec<f32>, Vec<f32>) {
    let means = Means::new(rates);
    let felt: Vec<f32> = (1..=rates.len()).map(|end| narrow(means.before(end, window))).collect();
    let before = |tick: usize| (1..CAUSE_WINDOWS).filter_map(move |k| tick.checked_sub(k * window));
    let cause = |tick: usize| before(tick).fold(felt[tick], |highest, at| highest.max(felt[at]));
    let causes = (0..felt.len()).map(cause).collect();
    (felt, causes)
}

/// Means of ticks, from running sums.
struct Means(Vec<f64>);

impl Means {
    fn new(rates: &[f32]) -> Self {
        let mut sums = vec![0.0f64];
        for rate in rates {
            sums.push(sums[sums.len() - 1] + f64::from(*rate));
        }
        Self(sums)
    }

    /// Over the `window` ticks before `tick`, or as many as there are.
    fn before(&self, tick: usize, window: usize) -> f64 {
        let from = tick.saturating_sub(window);
        #[expect(clippy::cast_precision_loss, reason = "a few ticks")]
        let ticks = (tick - from).max(1) as f64;
        (self.0[tick] - self.0[from]) / ticks
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits are enough to play with")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "non-negative, and saturating")]
fn whole(value: f64) -> usize {
    value as usize
}

/// The highest need of a sliding window.
#[derive(Default)]
struct Held(VecDeque<(usize, u32)>);

impl Held {
    fn highest(&mut self, tick: usize, need: u32, window: usize) -> u32 {
        while self.0.back().is_some_and(|(_, n)| *n <= need) {
            self.0.pop_back();
        }
        self.0.push_back((tick, need));
        while self.0.front().is_some_and(|(at, _)| at + window < tick) {
            self.0.pop_front();
        }
        self.0.front().map_or(need, |(_, n)| *n)
    }
}

/// Replicas by state, on the clock of ticks.
struct Size {
    ready: u32,
    /// Ticks at which starting replicas become ready, in the order in which they were ordered.
    starting: VecDeque<f64>,
    p50_s: f64,
    spread: f64,
    ordered: usize,
}

impl Size {
    fn new(rehearsal: &Rehearsal, ready: u32) -> Self {
        let p50_s = rehearsal.lead.p50.as_secs_f64().max(1e-3);
        let spread = (rehearsal.lead.p90.as_secs_f64() / p50_s).max(1.0).ln() / P90;
        let ready = rehearsal.bounds.clamp(ready);
        Self { ready, starting: VecDeque::new(), p50_s, spread, ordered: 0 }
    }

    fn supply(&self) -> f64 {
        f64::from(self.ready) + f64::from(u32::try_from(self.starting.len()).unwrap_or(u32::MAX))
    }

    /// Orders or gives up what is missing or too much; says whether that changed anything.
    fn set(&mut self, wanted: u32, tick: usize, tick_s: f64) -> bool {
        let mut supply = self.ready + u32::try_from(self.starting.len()).unwrap_or(u32::MAX);
        #[expect(clippy::cast_precision_loss, reason = "at most some ten thousands of ticks")]
        let now = tick as f64;
        let changed = supply != wanted;
        while supply < wanted {
            let start_s = self.p50_s * (self.spread * SPREAD[self.ordered % SPREAD.len()]).exp();
            self.starting.push_back(now + start_s / tick_s);
            self.ordered += 1;
            supply += 1;
        }
        while supply > wanted {
            if self.starting.pop_back().is_none() {
                self.ready -= 1;
            }
            supply -= 1;
        }
        changed
    }

    /// Lets a tick pass; gives how many are ready at its end.
    fn pass(&mut self, tick: usize) -> u32 {
        if !self.starting.is_empty() {
            #[expect(clippy::cast_precision_loss, reason = "at most some ten thousands of ticks")]
            let now = tick as f64;
            let before = self.starting.len();
            self.starting.retain(|at| *at > now);
            self.ready += u32::try_from(before - self.starting.len()).unwrap_or(0);
        }
        self.ready
    }
}
