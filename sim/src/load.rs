//! What arrives: at a rate, by chance, or request by request as recorded.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Exp1, StandardNormal};
use tidegate_core::{Series, Timestamp};

use crate::service::Service;
use crate::time::{Micros, SECOND, micros, micros_of};

/// Seconds around a time over which recorded requests are counted to give a rate.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Streams of the seed: each thing that is left to chance has its own, so that one more draw of one never moves another.
const ARRIVALS_STREAM: u64 = 1;
const SIZES_STREAM: u64 = 2;
pub(crate) const SERVICE_STREAM: u64 = 3;
pub(crate) const STARTUP_STREAM: u64 = 4;

pub(crate) fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

/// How large one request to a language model is. A generic service takes no notice of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Request {
    /// Tokens to be read.
    pub prompt_tokens: u32,
    /// Tokens to be written, at least one.
    pub output_tokens: u32,
}

/// Sizes of requests that are not recorded: lognormal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// Mean number of prompt tokens.
    pub prompt_mean: f64,
    /// Mean number of output tokens.
    pub output_mean: f64,
    /// Coefficient of variation of both.
    pub cv: f64,
    /// Longer prompts are cut to this: beyond, no size of the pool could hold a time to the first token.
    pub prompt_max: u32,
}

impl Default for Sizes {
    /// A chat service: 1,000 tokens in, 250 out, as variable as its mean.
    fn default() -> Self {
        Self { prompt_mean: 1000.0, output_mean: 250.0, cv: 1.0, prompt_max: 8192 }
    }
}

/// What arrives.
#[derive(Debug, Clone, PartialEq)]
pub struct Load(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Rate {
        start: Timestamp,
        step: Duration,
        rates: Vec<f64>,
        /// Tokens of prompts and of answers per second, by step; where they are not told, requests are of the same size at all times.
        tokens: Option<[Vec<f64>; 2]>,
        sizes: Sizes,
    },
    Requests(Vec<(Timestamp, Request)>),
}

impl Load {
    /// Requests by chance (a Poisson process) at this rate in requests per second. The rate is a line between the middles of the
    /// steps, across gaps too, and is held before the first known middle and after the last; it is constant within a second.
    /// Without a known value nothing arrives; negative rates count as none.
    #[must_use]
    pub fn rate(series: &Series, sizes: Sizes) -> Self {
        let rates = filled(series.values());
        Self(Kind::Rate { start: series.start(), step: series.step(), rates, tokens: None, sizes })
    }

    /// The same, where the mean size of requests changes over time: with the tokens of prompts and of answers per second, by the
    /// steps of `requests`. Where they are not known, the means of `sizes` hold.
    #[must_use]
    pub fn tokens(requests: &Series, [prompt, output]: [&Series; 2], sizes: Sizes) -> Self {
        let (start, step) = (requests.start(), requests.step());
        let rates = filled(requests.values());
        let of = |tokens: &Series, mean: f64| {
            let at = |(index, rate): (usize, &f64)| {
                tokens.at(requests.time(index)).map_or(mean * rate, |tokens| tokens.max(0.0))
            };
            rates.iter().enumerate().map(at).collect()
        };
        let tokens = Some([of(prompt, sizes.prompt_mean), of(output, sizes.output_mean)]);
        Self(Kind::Rate { start, step, rates, tokens, sizes })
    }

    /// A constant rate in requests per second.
    #[must_use]
    pub fn constant(rate_rps: f64, sizes: Sizes) -> Self {
        let step = Duration::from_secs(60);
        Self::rate(&Series::from_values(Timestamp::EPOCH, step, [Some(rate_rps)]), sizes)
    }

    /// Recorded requests, in any order.
    #[must_use]
    pub fn requests(mut requests: Vec<(Timestamp, Request)>) -> Self {
        requests.sort_by_key(|(at, _)| *at);
        Self(Kind::Requests(requests))
    }

    /// Requests per second expected at a time; of recorded requests, those within five seconds of it.
    #[must_use]
    pub fn rate_at(&self, at: Timestamp) -> f64 {
        match &self.0 {
            Kind::Rate { start, step, rates, .. } => interpolated(*start, *step, rates, at),
            Kind::Requests(requests) => within(requests, at).len() as f64 / RATE_WINDOW.as_secs_f64(),
        }
    }

    /// Requests per second expected at a time, a request counted by the work that it is for a replica of `service` against one of
    /// `mean` size. For a generic service that is [`Load::rate_at`].
    pub(crate) fn work_at(&self, at: Timestamp, service: &Service, mean: Sizes) -> f64 {
        if matches!(service, Service::Generic(_)) {
            return self.rate_at(at);
        }
        let work = |sizes: Sizes| service.full_rps(mean) / service.full_rps(sizes);
        match &self.0 {
            Kind::Rate { .. } => {
                let rate = self.rate_at(at);
                if rate > 0.0 { rate * work(self.0.sizes_at(at, rate)) } else { 0.0 }
            }
            Kind::Requests(requests) => {
                let of = |(_, request): &(Timestamp, Request)| {
                    work(Sizes {
                        prompt_mean: f64::from(request.prompt_tokens),
                        output_mean: f64::from(request.output_tokens),
                        ..mean
                    })
                };
                requests[within(requests, at)].iter().map(of).sum::<f64>() / RATE_WINDOW.as_secs_f64()
            }
        }
    }

    /// What a request is like on average; `None` where nothing arrives.
    #[must_use]
    pub fn sizes(&self) -> Option<Sizes> {
        match &self.0 {
            Kind::Rate { rates, tokens: Some([prompt, output]), sizes, .. } => {
                let requests: f64 = rates.iter().sum();
                let mean = |tokens: &[f64]| tokens.iter().sum::<f64>() / requests;
                (requests > 0.0).then(|| Sizes {
                    prompt_mean: mean(prompt),
                    output_mean: mean(output),
                    ..*sizes
                })
            }
            Kind::Rate { sizes, .. } => Some(*sizes),
            Kind::Requests(requests) => {
                let mean = |tokens: fn(&Request) -> u32| {
                    let sum: f64 = requests.iter().map(|(_, r)| f64::from(tokens(r))).sum();
                    sum / requests.len() as f64
                };
                let (prompt_mean, output_mean) = (mean(|r| r.prompt_tokens), mean(|r| r.output_tokens));
                (!requests.is_empty()).then(|| Sizes { prompt_mean, output_mean, ..Sizes::default() })
            }
        }
    }

    /// The requests from `start` up to `end`, in order.
    /// `sized`: whether anybody asks how large they are.
    pub(crate) fn arrivals(&self, start: Timestamp, end: Timestamp, seed: u64, sized: bool) -> Arrivals<'_> {
        let mut rng = stream(seed, ARRIVALS_STREAM);
        let position = match &self.0 {
            Kind::Rate { .. } => 0,
            Kind::Requests(requests) => requests.partition_point(|(at, _)| *at < start),
        };
        let owed = rng.sample(Exp1);
        let mut arrivals = Arrivals {
            load: &self.0,
            start,
            end: micros(end - start),
            rng,
            sizes: stream(seed, SIZES_STREAM),
            sized,
            position,
            second: 0,
            offset_s: 0.0,
            rate: 0.0,
            rate_inverse: 0.0,
            mean: Sizes::default(),
            owed,
        };
        arrivals.set_rate();
        arrivals
    }
}

impl Kind {
    /// The mean sizes of the requests that arrive at a time, at this rate.
    fn sizes_at(&self, at: Timestamp, rate: f64) -> Sizes {
        match self {
            Self::Rate { start, step, tokens: Some([prompt, output]), sizes, .. } => {
                let mean = |tokens: &[f64]| (interpolated(*start, *step, tokens, at) / rate).max(1.0);
                Sizes { prompt_mean: mean(prompt), output_mean: mean(output), ..*sizes }
            }
            Self::Rate { sizes, .. } => *sizes,
            Self::Requests(_) => Sizes::default(),
        }
    }
}

/// Which of the recorded requests arrive around a time.
fn within(requests: &[(Timestamp, Request)], at: Timestamp) -> std::ops::Range<usize> {
    let from = at.before(RATE_WINDOW / 2);
    let first = requests.partition_point(|(t, _)| *t < from);
    first..requests.partition_point(|(t, _)| *t < from + RATE_WINDOW)
}

/// Unknown values as lines between known ones.
fn filled(values: &[Option<f64>]) -> Vec<f64> {
    let known: Vec<(usize, f64)> =
        values.iter().enumerate().filter_map(|(i, v)| v.map(|v| (i, v.max(0.0)))).collect();
    let mut rates = Vec::with_capacity(values.len());
    let mut next = 0;
    for i in 0..values.len() {
        while known.get(next).is_some_and(|(at, _)| *at < i) {
            next += 1;
        }
        let after = known.get(next).copied();
        let before = next.checked_sub(1).map(|at| known[at]);
        rates.push(match (before, after) {
            (_, Some((at, value))) if at == i => value,
            (Some((a, x)), Some((b, y))) => x + (y - x) * (i - a) as f64 / (b - a) as f64,
            (Some((_, value)), None) | (None, Some((_, value))) => value,
            (None, None) => 0.0,
        });
    }
    rates
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the indices in the same expression"
)]
fn interpolated(start: Timestamp, step: Duration, rates: &[f64], at: Timestamp) -> f64 {
    let Some(last) = rates.len().checked_sub(1) else { return 0.0 };
    let place = (at.as_secs_f64() - start.as_secs_f64()) / step.as_secs_f64() - 0.5;
    let place = place.clamp(0.0, last as f64);
    let left = place as usize;
    let right = (left + 1).min(last);
    rates[left] + (rates[right] - rates[left]) * (place - left as f64)
}

/// A number of tokens, at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
fn whole(tokens: f64) -> u32 {
    tokens.ceil().max(1.0) as u32
}

/// Requests in the order of their arrival.
#[derive(Debug)]
pub(crate) struct Arrivals<'a> {
    load: &'a Kind,
    start: Timestamp,
    end: Micros,
    rng: ChaCha8Rng,
    sizes: ChaCha8Rng,
    sized: bool,
    /// The next of the recorded requests.
    position: usize,
    second: Micros,
    offset_s: f64,
    rate: f64,
    rate_inverse: f64,
    /// Sizes in the second that has begun.
    mean: Sizes,
    /// Expected arrivals that must pass before the next one: exponential with mean one.
    owed: f64,
}

impl Arrivals<'_> {
    /// The rate of the second that has begun.
    fn set_rate(&mut self) {
        let middle = self.start + Duration::from_micros(self.second * SECOND + SECOND / 2);
        self.rate = match self.load {
            Kind::Rate { start, step, rates, .. } => interpolated(*start, *step, rates, middle),
            Kind::Requests(_) => 0.0,
        };
        self.rate_inverse = self.rate.recip();
        if self.sized && self.rate > 0.0 {
            self.mean = self.load.sizes_at(middle, self.rate);
        }
    }

    fn by_chance(&mut self) -> Option<(Micros, Request)> {
        while self.second * SECOND < self.end {
            let left = (1.0 - self.offset_s) * self.rate;
            if self.owed >= left {
                self.owed -= left;
                self.second += 1;
                self.offset_s = 0.0;
                self.set_rate();
                continue;
            }
            self.offset_s += self.owed * self.rate_inverse;
            self.owed = self.rng.sample(Exp1);
            let at = self.second * SECOND + micros_of(self.offset_s);
            return (at < self.end).then(|| (at, self.size(self.mean)));
        }
        None
    }

    fn size(&mut self, sizes: Sizes) -> Request {
        if !self.sized {
            return Request::default();
        }
        let sigma = (1.0 + sizes.cv * sizes.cv).ln().sqrt();
        let mut tokens = |mean: f64| {
            let normal: f64 = self.sizes.sample(StandardNormal);
            whole(mean * (sigma * normal - sigma * sigma / 2.0).exp())
        };
        let prompt_tokens = tokens(sizes.prompt_mean).min(sizes.prompt_max);
        Request { prompt_tokens, output_tokens: tokens(sizes.output_mean) }
    }
}

impl Iterator for Arrivals<'_> {
    type Item = (Micros, Request);

    fn next(&mut self) -> Option<Self::Item> {
        match self.load {
            Kind::Rate { .. } => self.by_chance(),
            Kind::Requests(requests) => {
                let (at, request) = requests.get(self.position)?;
                self.position += 1;
                let at = micros(*at - self.start);
                (at < self.end).then_some((at, *request))
            }
        }
    }
}
