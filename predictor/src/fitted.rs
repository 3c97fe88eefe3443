//! A fitted predictor: a bounded tail of history, the voice that was learned, and forecasts that wait to be judged.

use std::time::Duration;

use tidegate_core::forecast::{Forecast, LEVELS, Standing};
use tidegate_core::signals::Signal;
use tidegate_core::{Series, Timestamp};

use crate::config::PredictorConfig;
use crate::grid::steps;
use crate::history::History;
use crate::judge::Target;
use crate::prepare::{plausible, prepare};
use crate::voice::{Paths, Voice};

/// Fewest known steps for an opinion: the errors of the last value need 20 of them, and some to start from.
const KNOWN_STEPS_MIN: usize = 24;
/// Forecasts of one horizon that wait at a time; more overlap and tell nothing new.
const WAITING_PER_HORIZON: usize = 4;

/// A predictor that has learned from a history and follows the series since. What it knows follows from the history, so it is not
/// stored but learned again.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedPredictor {
    config: PredictorConfig,
    /// End of the last step.
    end: Timestamp,
    zero_is_outage: bool,
    history: Option<History>,
    voice: Option<Voice>,
    league: Vec<Standing>,
    waiting: Vec<Waiting>,
}

/// A forecast whose value has not come yet.
#[derive(Debug, Clone, PartialEq)]
struct Waiting {
    target: Target,
    origin: usize,
    h: usize,
    said: [f32; LEVELS.len()],
}

impl FittedPredictor {
    pub(crate) fn fit(config: &PredictorConfig, series: &Series) -> Self {
        let mut fitted = Self {
            config: config.clone(),
            end: series.end(),
            zero_is_outage: false,
            history: None,
            voice: None,
            league: Vec::new(),
            waiting: Vec::new(),
        };
        let known = series.known_len() >= KNOWN_STEPS_MIN && series.step() == config.step;
        let Some(prepared) = known.then(|| prepare(series, &config.season_steps())).flatten() else {
            return fitted;
        };
        let mut history = prepared.history;
        (fitted.voice, fitted.league) = Voice::fit(&history, config);
        // The rolling statistics and the staleness test read an hour of steps at most beyond the models.
        history.bound(fitted.voice.as_ref().map_or(1, Voice::reach).max(config.horizon()) + 64);
        fitted.history = Some(history);
        fitted.zero_is_outage = prepared.zero_is_outage;
        fitted
    }

    /// Appends the next step, `None` when it is unknown, and learns how well its own forecasts of that step covered it.
    /// Negative and absurd values count as unknown, and so does zero where zero means an outage.
    pub fn observe(&mut self, value: Option<f64>) {
        self.end = self.end + self.config.step;
        let Some(history) = self.history.as_mut() else { return };
        let value = value.and_then(plausible).filter(|v| !(self.zero_is_outage && *v == 0.0));
        history.push(value);
        if let Some(voice) = &mut self.voice {
            voice.advance(history);
        }
        self.settle();
        self.wait();
    }

    /// The distributions of the steps after the last one observed; `None`: no opinion, because the history is too short,
    /// or nothing was known for half a horizon.
    #[must_use]
    pub fn predict(&self, signal: Signal, now: Timestamp) -> Option<Forecast> {
        let (history, paths) = (self.history.as_ref()?, self.paths()?);
        let voice = self.voice.as_ref()?;
        let all =
            |target| (1..=self.config.horizon()).map(|h| voice.speak(history, &paths, target, h)).collect();
        let (steps, window_max): (Option<Vec<_>>, Option<Vec<_>>) = (all(Target::Step), all(Target::Max));
        let in_use = self.league.iter().find(|standing| standing.in_use)?;
        Some(Forecast {
            signal,
            issued_at: now,
            start: self.end,
            step: self.config.step,
            model: in_use.model.clone(),
            steps: steps?,
            window_max: window_max?,
            score: in_use.score,
        })
    }

    /// The league table, best first, as of the fit; empty when there was nothing to judge.
    #[must_use]
    pub fn league(&self) -> &[Standing] {
        &self.league
    }

    /// End of the last step seen, known or not.
    #[must_use]
    pub const fn end(&self) -> Timestamp {
        self.end
    }

    /// Length of a step.
    #[must_use]
    pub const fn step(&self) -> Duration {
        self.config.step
    }

    /// Bytes kept, of memory and not of text.
    #[must_use]
    pub fn size(&self) -> usize {
        let of_standing = |standing: &Standing| size_of::<Standing>() + standing.model.capacity();
        size_of::<Self>()
            + self.history.as_ref().map_or(0, History::size)
            + self.voice.as_ref().map_or(0, Voice::size)
            + self.league.iter().map(of_standing).sum::<usize>()
            + self.waiting.capacity() * size_of::<Waiting>()
    }

    fn paths(&self) -> Option<Paths> {
        let history = self.history.as_ref()?;
        let stale = history.staleness(history.end().checked_sub(1)?)?;
        // What is older says little about the steps ahead; whoever asks has rules for that case.
        let fresh = stale * 2 <= self.config.horizon();
        fresh.then(|| self.voice.as_ref()?.paths(history, self.config.horizon())).flatten()
    }

    fn settle(&mut self) {
        let (Some(history), Some(voice)) = (&self.history, &mut self.voice) else { return };
        let now = history.end() - 1;
        self.waiting.retain(|waiting| {
            let due = waiting.origin + waiting.h <= now;
            if let Some(value) =
                due.then(|| waiting.target.actual(history, waiting.origin, waiting.h)).flatten()
            {
                let weight = (steps(spacing(waiting.h)) / steps(waiting.h)).min(1.0);
                voice.learn(waiting.target, waiting.h, &waiting.said.map(f64::from), value, weight);
            }
            !due
        });
    }

    fn wait(&mut self) {
        let (Some(paths), Some(history), Some(voice)) = (self.paths(), &self.history, &self.voice) else {
            return;
        };
        let origin = history.end() - 1;
        for target in [Target::Step, Target::Max] {
            for h in voice.judged(target).filter(|h| origin.is_multiple_of(spacing(*h))) {
                let said = voice.speak(history, &paths, target, h).map(|said| said.values().map(narrow));
                self.waiting.extend(said.map(|said| Waiting { target, origin, h, said }));
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

/// Steps between forecasts of a horizon that are judged.
fn spacing(h: usize) -> usize {
    h.div_ceil(WAITING_PER_HORIZON)
}
