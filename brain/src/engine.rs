//! An inference engine with continuous batching, as seen from outside (Yu et al., *Orca*, OSDI 2022; Agrawal et al., *Sarathi-Serve*,
//! OSDI 2024): each iteration makes one token for every running request and works on prompts beside, so it takes
//! `fixed + per_running · running + per_prompt_token · prompt tokens` seconds. The three are learned from means that any engine
//! tells: requests being served, tokens per second, seconds per output token. From them follows what a replica would carry at loads
//! that nobody has seen yet, and for requests of other sizes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::Timestamp;

/// Looks are joined to windows of at least this length, and of this many times as long as a request is served, within a bound:
/// tokens that are counted in a window are to be those that were made in it.
const WINDOW: Duration = Duration::from_secs(30);
const WINDOW_SERVICES: f64 = 2.0;
const WINDOW_MAX: Duration = Duration::from_secs(300);
/// Evidence on the engine fades with this half-life, that on sizes with the other.
const HALF_LIFE: Duration = Duration::from_secs(6 * 3600);
const SIZES_HALF_LIFE: Duration = Duration::from_secs(900);
/// Requests that must have been answered before anything is said.
const ANSWERED_MIN: f64 = 50.0;
/// Before loads have differed, a running request and a prompt's token are taken to cost these shares of what an iteration costs
/// anyway. Single tokens wait for the model's weights to be read, prompts for arithmetic; accelerators do some hundred operations in
/// the time that they read a byte (Williams et al., *Roofline*, CACM 52, 2009), and a running request has its own keys and values to read.
const PRIOR_COSTS: [f64; 2] = [1.0 / 100.0, 1.0 / 500.0];
/// The prior counts as much as this many windows.
const PRIOR_WINDOWS: f64 = 3.0;
/// Rounds of coordinate descent: three unknowns settle in a few.
const ROUNDS: usize = 60;
/// Answers' lengths, as multiples of their mean, that stand for a log-normal distribution with a coefficient of variation of one.
const LENGTHS: [f64; 6] = [0.224, 0.404, 0.594, 0.842, 1.239, 2.237];
/// Squared length of a prompt, as a multiple of the squared mean, for the same distribution.
const PROMPT_SQUARE: f64 = 2.0;

/// Mean tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sizes {
    pub(crate) prompt: f64,
    pub(crate) output: f64,
}

/// What an iteration takes, in seconds, and the tokens that one replica has room for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Engine {
    fixed_s: f64,
    per_running_s: f64,
    per_prompt_token_s: f64,
    /// Tokens of running requests; `None` where nobody tells how full the memory is.
    kv_tokens: Option<f64>,
}

/// A replica with all that it carries within its limits; see [`Engine::full`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Full {
    /// Requests per second.
    pub(crate) rate: f64,
    /// Seconds of an iteration.
    pub(crate) iteration_s: f64,
    /// Whether running requests fill the batch or the memory, so that others wait; else tokens come too slowly.
    pub(crate) waits: bool,
}

/// The limits under which a replica works.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// Requests served at a time.
    pub(crate) concurrency: f64,
    /// Seconds per output token.
    pub(crate) per_output_token_s: f64,
    /// Share of requests that chance may make too slow.
    pub(crate) chance: f64,
}

impl Engine {
    /// Seconds of an iteration at `rate` requests per second; `None` where it cannot keep up.
    fn iteration_s(&self, sizes: Sizes, rate: f64) -> Option<f64> {
        let busy = rate * self.work_s(sizes);
        (busy < 1.0).then(|| self.fixed_s / (1.0 - busy))
    }

    /// Seconds of a replica that a request takes, apart from what every iteration takes.
    pub(crate) fn work_s(&self, sizes: Sizes) -> f64 {
        self.per_running_s * sizes.output + self.per_prompt_token_s * sizes.prompt
    }

    /// Requests that a replica has room for.
    pub(crate) fn room(&self, sizes: Sizes, concurrency: f64) -> f64 {
        let tokens = (sizes.prompt + sizes.output).max(1.0);
        self.kv_tokens.map_or(concurrency, |kv| (kv / tokens).min(concurrency)).max(1.0)
    }

    /// Seconds that a request is served.
    pub(crate) fn service_s(&self, sizes: Sizes, iteration_s: f64) -> f64 {
        (sizes.output + 1.0) * iteration_s + self.per_prompt_token_s * sizes.prompt
    }

    /// Share of requests whose tokens come too slowly at `rate`: prompts that arrive meanwhile, independent of each other, slow an
    /// answer down, and a short one has no time to make up for it.
    fn too_slow(&self, sizes: Sizes, rate: f64, limit_s: f64) -> f64 {
        let Some(iteration_s) = self.iteration_s(sizes, rate) else { return 1.0 };
        let share = |length: f64| {
            let output = (sizes.output * length).max(1.0);
            let prompts = PROMPT_SQUARE * rate * iteration_s / output;
            let deviation = self.per_prompt_token_s * sizes.prompt * prompts.sqrt();
            upper_tail((limit_s - iteration_s) / deviation.max(1e-9))
        };
        #[expect(clippy::cast_precision_loss, reason = "six")]
        let n = LENGTHS.len() as f64;
        LENGTHS.iter().map(|length| share(*length)).sum::<f64>() / n
    }

    /// What a replica carries of requests of these sizes.
    pub(crate) fn full(&self, sizes: Sizes, limits: Limits) -> Full {
        let room = self.room(sizes, limits.concurrency);
        let running = |rate: f64| {
            self.iteration_s(sizes, rate).map(|iteration_s| rate * self.service_s(sizes, iteration_s))
        };
        let fits = |rate: f64| running(rate).is_some_and(|running| running <= room);
        let fast = |rate: f64| self.too_slow(sizes, rate, limits.per_output_token_s) <= limits.chance;
        let most = 1.0 / self.work_s(sizes).max(1e-9);
        let (by_room, by_speed) = (largest(most, fits), largest(most, fast));
        let rate = by_room.min(by_speed).max(1e-9);
        let iteration_s = self.iteration_s(sizes, rate).unwrap_or(limits.per_output_token_s);
        Full { rate, iteration_s, waits: by_room < by_speed }
    }
}

/// The largest value up to `most` for which a condition holds that holds for all smaller ones.
fn largest(most: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, most);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// Chance that a standard normal variable exceeds `z` (Abramowitz and Stegun, *Handbook of Mathematical Functions*, 7.1.26; error
/// below 1e-7).
fn upper_tail(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let tail = series.iter().fold(0.0, |sum, c| (sum + c) * t) * (-x * x).exp() / 2.0;
    if z >= 0.0 { tail } else { 1.0 - tail }
}

/// One look at an engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) window: Duration,
    pub(crate) ready: u32,
    pub(crate) in_flight: f64,
    pub(crate) arrivals: f64,
    pub(crate) completed: f64,
    pub(crate) prompt: f64,
    pub(crate) output: f64,
    pub(crate) per_output_token_s: Option<f64>,
    pub(crate) kv_utilisation: Option<f64>,
}

/// Sums over the window that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Window {
    seconds: f64,
    running_s: f64,
    replica_s: f64,
    prompt: f64,
    completed: f64,
    /// Seconds per output token, times requests answered; and these.
    slow: f64,
    timed: f64,
    /// Taken share of the memory, times replicas and seconds.
    kv_s: f64,
}

/// What is known of an engine and of the requests that it serves; all fades.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct EngineModel {
    open: Window,
    faded_at: Option<Timestamp>,
    /// Of windows: their number, and sums of products of (1, running, prompt tokens per iteration) with each other and with the
    /// seconds per output token.
    windows: f64,
    products: [[f64; 3]; 3],
    targets: [f64; 3],
    answered: f64,
    /// Tokens of running requests, and shares of memory that they took.
    kv_tokens: f64,
    kv_shares: f64,
    sizes: SizeSums,
}

/// Tokens and requests, fading.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct SizeSums {
    arrived: f64,
    prompt: f64,
    answered: f64,
    output: f64,
}

impl EngineModel {
    /// Takes in a look. What is absurd, or without replicas, changes nothing.
    pub(crate) fn ingest(&mut self, at: Timestamp, look: Look) {
        let all = [look.in_flight, look.arrivals, look.completed, look.prompt, look.output];
        let sound = |value: f64| value.is_finite() && value >= 0.0;
        if !all.into_iter().all(sound) || look.ready == 0 || look.window.is_zero() {
            return;
        }
        let seconds = look.window.as_secs_f64();
        let sizes = &mut self.sizes;
        let keep = (-seconds / SIZES_HALF_LIFE.as_secs_f64()).exp2();
        *sizes = SizeSums {
            arrived: sizes.arrived * keep + look.arrivals,
            prompt: sizes.prompt * keep + look.prompt,
            answered: sizes.answered * keep + look.completed,
            output: sizes.output * keep + look.output,
        };
        let open = &mut self.open;
        let replica_s = f64::from(look.ready) * seconds;
        open.seconds += seconds;
        open.running_s += look.in_flight * seconds;
        open.replica_s += replica_s;
        open.prompt += look.prompt;
        open.completed += look.completed;
        // Where nobody tells: each running request makes a token in an iteration.
        let told = look
            .per_output_token_s
            .or_else(|| (look.output > 0.0).then(|| look.in_flight * seconds / look.output));
        if let Some(slow) = told.filter(|slow| sound(*slow)) {
            open.slow += slow * look.completed;
            open.timed += look.completed;
        }
        open.kv_s += look.kv_utilisation.filter(|share| sound(*share)).unwrap_or(0.0) * replica_s;
        let service_s = if open.completed > 0.0 { open.running_s / open.completed } else { 0.0 };
        let needed_s = (WINDOW_SERVICES * service_s).clamp(WINDOW.as_secs_f64(), WINDOW_MAX.as_secs_f64());
        if open.seconds >= needed_s {
            self.close(at);
        }
    }

    fn close(&mut self, at: Timestamp) {
        let window = std::mem::take(&mut self.open);
        let elapsed = at.since(*self.faded_at.get_or_insert(at));
        self.faded_at = Some(at);
        let keep = (-elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
        self.windows *= keep;
        self.answered = self.answered * keep + window.completed;
        self.products.iter_mut().flatten().chain(&mut self.targets).for_each(|sum| *sum *= keep);
        self.kv_tokens *= keep;
        self.kv_shares *= keep;
        if let Some(sizes) = self.sizes().filter(|_| window.kv_s > 0.0) {
            self.kv_tokens += window.running_s * (sizes.prompt + sizes.output);
            self.kv_shares += window.kv_s;
        }
        if window.timed <= 0.0 {
            return;
        }
        let iteration_s = window.slow / window.timed;
        let row = [1.0, window.running_s / window.replica_s, window.prompt / window.replica_s * iteration_s];
        self.windows += 1.0;
        for (i, x) in row.iter().enumerate() {
            self.targets[i] += x * iteration_s;
            for (j, y) in row.iter().enumerate() {
                self.products[i][j] += x * y;
            }
        }
    }

    /// What was seen is of another variant of the workload: it counts as little as still says something. Sizes are the requests' own.
    pub(crate) fn doubt(&mut self) {
        self.open = Window::default();
        let least = (2.0 * ANSWERED_MIN / self.answered.max(1.0)).max(1.0 / self.windows.max(1.0));
        let keep = least.min(1.0);
        self.windows *= keep;
        self.answered *= keep;
        self.products.iter_mut().flatten().chain(&mut self.targets).for_each(|sum| *sum *= keep);
        self.kv_tokens *= keep;
        self.kv_shares *= keep;
    }

    /// Mean sizes lately; `None` while nothing was answered.
    pub(crate) fn sizes(&self) -> Option<Sizes> {
        let SizeSums { arrived, prompt, answered, output } = self.sizes;
        (arrived > 0.0 && answered > 0.0)
            .then(|| Sizes { prompt: prompt / arrived, output: output / answered })
    }

    /// The engine: least squares without negative terms, drawn to the prior where loads did not differ. `None` while too little
    /// was seen.
    pub(crate) fn engine(&self) -> Option<Engine> {
        if self.answered < ANSWERED_MIN || self.windows < 0.5 {
            return None;
        }
        let mean = |sum: f64| sum / self.windows;
        let iteration_s = mean(self.targets[0]);
        if iteration_s <= 0.0 {
            return None;
        }
        // In units of the means, so that the terms are shares of an iteration at the loads seen.
        let unit = [1.0, mean(self.products[0][1]), mean(self.products[0][2])];
        let costs = [1.0, PRIOR_COSTS[0] * unit[1], PRIOR_COSTS[1] * unit[2]];
        let prior = costs.map(|cost| cost / costs.iter().sum::<f64>());
        let mut shares = [0.0; 3];
        for _ in 0..ROUNDS {
            for i in 0..3 {
                if unit[i] <= 0.0 {
                    continue;
                }
                let others: f64 = (0..3)
                    .filter(|j| *j != i && unit[*j] > 0.0)
                    .map(|j| self.products[i][j] / (unit[i] * unit[j]) * shares[j])
                    .sum();
                let target = self.targets[i] / (unit[i] * iteration_s) + PRIOR_WINDOWS * prior[i];
                let square = self.products[i][i] / (unit[i] * unit[i]) + PRIOR_WINDOWS;
                shares[i] = ((target - others) / square).max(0.0);
            }
        }
        let term = |i: usize| if unit[i] > 0.0 { shares[i] * iteration_s / unit[i] } else { 0.0 };
        Some(Engine {
            fixed_s: term(0).max(1e-6),
            per_running_s: term(1),
            per_prompt_token_s: term(2),
            kv_tokens: (self.kv_shares > 0.0).then(|| self.kv_tokens / self.kv_shares),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: Engine = Engine {
        fixed_s: 0.02,
        per_running_s: 0.000_4,
        per_prompt_token_s: 0.000_03,
        kv_tokens: Some(150_000.0),
    };
    const SIZES: Sizes = Sizes { prompt: 1000.0, output: 250.0 };
    const LIMITS: Limits = Limits { concurrency: 64.0, per_output_token_s: 0.06, chance: 0.002 };

    /// The means that an engine shows at `rate` requests per second and replica.
    fn look(rate: f64, sizes: Sizes) -> Look {
        let iteration_s = ENGINE.iteration_s(sizes, rate).unwrap();
        let in_flight = 2.0 * rate * sizes.output * iteration_s;
        Look {
            window: Duration::from_secs(60),
            ready: 2,
            in_flight,
            arrivals: 120.0 * rate,
            completed: 120.0 * rate,
            prompt: 120.0 * rate * sizes.prompt,
            output: 120.0 * rate * sizes.output,
            per_output_token_s: Some(iteration_s),
            kv_utilisation: Some(in_flight / 2.0 * (sizes.prompt + sizes.output) / 150_000.0),
        }
    }

    #[test]
    fn the_three_terms_and_the_room_are_found_again() {
        let mut model = EngineModel::default();
        for minute in 0..240u32 {
            let rate = 1.0 + f64::from(minute * 7 % 11) / 3.0;
            let sizes = Sizes { prompt: 500.0 + f64::from(minute * 31 % 17) * 100.0, output: 250.0 };
            model.ingest(Timestamp::from_secs(i64::from(minute) * 60), look(rate, sizes));
        }
        let engine = model.engine().unwrap();
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 0.15;
        assert!(close(engine.fixed_s, 0.02) && close(engine.per_running_s, 0.000_4), "{engine:?}");
        assert!(close(engine.per_prompt_token_s, 0.000_03), "{engine:?}");
        assert!(close(engine.kv_tokens.unwrap(), 150_000.0), "{engine:?}");
    }

    #[test]
    fn where_nobody_tells_the_time_of_a_token_it_follows_from_those_made() {
        let (mut told, mut untold) = (EngineModel::default(), EngineModel::default());
        for minute in 0..60u32 {
            let look = look(1.0 + f64::from(minute * 7 % 11) / 3.0, SIZES);
            told.ingest(Timestamp::from_secs(i64::from(minute) * 60), look);
            untold.ingest(
                Timestamp::from_secs(i64::from(minute) * 60),
                Look { per_output_token_s: None, ..look },
            );
        }
        let rate = |model: &EngineModel| model.engine().unwrap().full(SIZES, LIMITS).rate;
        assert!((rate(&untold) / rate(&told) - 1.0).abs() < 0.02, "{} {}", rate(&untold), rate(&told));
    }

    #[test]
    fn one_load_alone_leaves_most_of_an_iteration_fixed_and_foresees_no_miracle() {
        let mut model = EngineModel::default();
        assert_eq!(model.engine(), None);
        (0..30).for_each(|minute| model.ingest(Timestamp::from_secs(minute * 60), look(2.0, SIZES)));
        let engine = model.engine().unwrap();
        let rate = engine.full(SIZES, LIMITS).rate;
        let truth = ENGINE.full(SIZES, LIMITS).rate;
        assert!((0.5..1.5).contains(&(rate / truth)), "{rate} {truth} {engine:?}");
    }

    #[test]
    fn what_binds_depends_on_the_sizes() {
        let code = ENGINE.full(Sizes { prompt: 2000.0, output: 30.0 }, LIMITS);
        let chat = ENGINE.full(Sizes { prompt: 8000.0, output: 400.0 }, LIMITS);
        assert!(!code.waits && chat.waits, "{code:?} {chat:?}");
        // Half of an iteration at the limit is not enough for a short answer beside long prompts.
        assert!(code.rate * ENGINE.work_s(Sizes { prompt: 2000.0, output: 30.0 }) < 0.5, "{code:?}");
        assert!(
            chat.rate * ENGINE.service_s(Sizes { prompt: 8000.0, output: 400.0 }, chat.iteration_s) <= 17.9
        );
    }

    #[test]
    fn more_work_is_never_carried_at_a_higher_rate() {
        let rate = |prompt, output| ENGINE.full(Sizes { prompt, output }, LIMITS).rate;
        for prompt in [10.0, 300.0, 3000.0] {
            for output in [100.0, 600.0] {
                assert!(rate(prompt, output) >= rate(prompt * 1.5, output) * 0.999);
                assert!(rate(prompt, output) >= rate(prompt, output * 1.5) * 0.999, "{prompt} {output}");
            }
        }
    }

    #[test]
    fn absurd_looks_change_nothing() {
        let mut model = EngineModel::default();
        let fine = look(2.0, SIZES);
        for wrong in [
            Look { in_flight: f64::NAN, ..fine },
            Look { prompt: -1.0, ..fine },
            Look { ready: 0, ..fine },
            Look { window: Duration::ZERO, ..fine },
        ] {
            model.ingest(Timestamp::EPOCH, wrong);
        }
        assert_eq!(model, EngineModel::default());
    }

    #[test]
    fn the_tail_is_that_of_the_normal_distribution() {
        for (z, p) in [(0.0, 0.5), (1.644_854, 0.05), (2.326_348, 0.01), (-1.0, 0.841_345)] {
            assert!((upper_tail(z) - p).abs() < 1e-6);
        }
    }
}
