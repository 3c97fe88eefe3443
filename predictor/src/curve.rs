//! A curve: a model with a way of spreading its errors around its point. What the mix is made of, one for each model.

use crate::history::History;
use crate::models::Model;

/// How errors are measured, kept and put back around a later point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// In the unit of the series. The last value with this spread is the reference of every score.
    Plain,
    /// On the transformed scale: errors grow with the level.
    Relative,
    /// None: the model has a distribution of its own.
    Own,
}

/// What must be known of a model to hear it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    pub(crate) spread: Spread,
    /// Whether it repeats a season and does not look at the present.
    pub(crate) is_seasonal: bool,
}

impl Curve {
    pub(crate) const fn of(model: &Model) -> Self {
        Self { spread: model.spread(), is_seasonal: model.is_seasonal() }
    }

    /// Whether it errs by as much at every horizon, or has no errors apart.
    pub(crate) fn is_lasting(&self) -> bool {
        self.is_seasonal || self.spread == Spread::Own
    }
}

impl Spread {
    /// How far `value` strayed from the point `z`.
    pub(crate) fn error(self, history: &History, z: f64, value: f64) -> f64 {
        match self {
            Self::Plain | Self::Own => value - history.backward(z),
            Self::Relative => history.forward(value) - z,
        }
    }

    /// The value that strays by `error` from the point `z`; never negative.
    pub(crate) fn value(self, history: &History, z: f64, error: f64) -> f64 {
        match self {
            Self::Plain | Self::Own => (history.backward(z) + error).max(0.0),
            Self::Relative => history.backward(z + error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_put_back_gives_the_value() {
        let history = History::new(0, 7.0);
        for spread in [Spread::Plain, Spread::Relative] {
            let error = spread.error(&history, 0.8, 25.0);
            assert!((spread.value(&history, 0.8, error) - 25.0).abs() < 1e-9, "{spread:?}");
        }
    }
}
