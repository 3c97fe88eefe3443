//! Knative's pod autoscaler (KPA). Source: `pkg/autoscaler/scaling/autoscaler.go` of knative/serving, with the defaults of
//! `pkg/autoscaler/config`.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_core::Timestamp;
use tidegate_core::units::replicas_ceil;

use crate::scaler::{Look, Pipeline, Scaler};

/// Looks remembered, at most: an hour of two-second ticks, the longest delay that upstream allows.
const WISHES_MAX: usize = 1800;

/// Settings; the default is upstream's, but for the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KpaSettings {
    /// Requests that one replica is to have, waiting ones included: the container's concurrency times the target utilisation.
    pub target: f64,
    /// Window of the stable mode, and how long a panic lasts at least.
    pub stable_window: Duration,
    /// Window of the panic mode.
    pub panic_window: Duration,
    /// Panic begins when the panic window asks for this many times the ready replicas.
    pub panic_threshold: f64,
    /// Most times the ready replicas in one step.
    pub up_rate_max: f64,
    /// Fewest: the ready replicas by this.
    pub down_rate_max: f64,
    /// A smaller size must have been wanted for this long; at most an hour.
    pub down_delay: Duration,
}

impl KpaSettings {
    /// Upstream's defaults for this target.
    #[must_use]
    pub const fn new(target: f64) -> Self {
        Self {
            target,
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            panic_threshold: 2.0,
            up_rate_max: 1000.0,
            down_rate_max: 2.0,
            down_delay: Duration::ZERO,
        }
    }
}

/// What the autoscaler remembers between ticks.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KpaState {
    panic_since: Option<Timestamp>,
    panic_max: u32,
    wishes: VecDeque<(Timestamp, u32)>,
}

impl KpaState {
    /// As after a start of the autoscaler itself: with more than one replica it begins in panic, so that it takes none away blindly.
    #[must_use]
    pub fn started(ready: u32, now: Timestamp) -> Self {
        Self { panic_since: (ready > 1).then_some(now), panic_max: ready, wishes: VecDeque::new() }
    }

    /// When the present panic began or was last renewed.
    #[must_use]
    pub const fn panic_since(&self) -> Option<Timestamp> {
        self.panic_since
    }

    /// One tick: requests in the system, averaged over the stable and over the panic window.
    pub fn scale(
        &mut self,
        settings: &KpaSettings,
        now: Timestamp,
        ready: u32,
        stable: f64,
        panic: f64,
    ) -> u32 {
        let ready = f64::from(ready.max(1));
        let most = replicas_ceil(settings.up_rate_max * ready);
        let fewest = replicas_ceil((ready / settings.down_rate_max).floor());
        let (stable, panic) =
            (replicas_ceil(stable / settings.target), replicas_ceil(panic / settings.target));
        let is_over = f64::from(panic) / ready >= settings.panic_threshold;
        if is_over {
            self.panic_since = Some(now);
        } else if self.panic_since.is_some_and(|since| since + settings.stable_window < now) {
            self.panic_since = None;
            self.panic_max = 0;
        }
        let limited = |wanted: u32| wanted.max(fewest).min(most);
        let mut wanted = limited(stable);
        if self.panic_since.is_some() {
            self.panic_max = self.panic_max.max(wanted).max(limited(panic));
            wanted = self.panic_max;
        }
        if settings.down_delay.is_zero() { wanted } else { self.delayed(settings.down_delay, now, wanted) }
    }

    fn delayed(&mut self, delay: Duration, now: Timestamp, wanted: u32) -> u32 {
        self.wishes.push_back((now, wanted));
        let is_old = |wish: &(Timestamp, u32)| now.since(wish.0) >= delay;
        while self.wishes.len() > WISHES_MAX || self.wishes.front().is_some_and(is_old) {
            self.wishes.pop_front();
        }
        self.wishes.iter().map(|wish| wish.1).max().unwrap_or(wanted)
    }
}

/// A KPA at work: a tick every two seconds, on concurrency that its own queue proxies report each second.
#[derive(Debug, Clone)]
pub struct Kpa {
    settings: KpaSettings,
    state: Option<KpaState>,
    /// Requests in the system in each tick's window, newest last.
    seen: VecDeque<(Timestamp, f64)>,
}

impl Kpa {
    /// One with these settings.
    #[must_use]
    pub const fn new(settings: KpaSettings) -> Self {
        Self { settings, state: None, seen: VecDeque::new() }
    }

    fn mean(&self, window: Duration, now: Timestamp) -> f64 {
        let recent = self.seen.iter().filter(|(at, _)| now.since(*at) < window).map(|seen| seen.1);
        let (sum, count) = recent.fold((0.0, 0u32), |(sum, n), value| (sum + value, n + 1));
        sum / f64::from(count.max(1))
    }
}

impl Scaler for Kpa {
    fn pipeline(&self) -> Pipeline {
        Pipeline::from_secs(1, 2, 2)
    }

    fn decide(&mut self, look: &Look) -> u32 {
        let now = look.now;
        let value = look.figures.map(|figures| figures.in_flight + figures.queued).filter(|v| v.is_finite());
        self.seen.extend(value.map(|value| (now, value)));
        let window = self.settings.stable_window;
        while self.seen.front().is_some_and(|(at, _)| now.since(*at) >= window) {
            self.seen.pop_front();
        }
        if self.seen.is_empty() {
            // No data is an invalid result: nothing is changed.
            return look.replicas.wanted;
        }
        let (stable, panic) = (self.mean(window, now), self.mean(self.settings.panic_window, now));
        let ready = look.replicas.ready;
        let state = self.state.get_or_insert_with(|| KpaState::started(ready, now));
        state.scale(&self.settings, now, ready, stable, panic)
    }
}
