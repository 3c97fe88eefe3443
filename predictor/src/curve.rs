//! A curve: a model with a way of spreading its errors around its point. What the mix is made of.

use serde::{Deserialize, Serialize};

use crate::history::History;

/// How errors are measured, kept and put back around a later point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Spread {
    /// In the unit of the series. The last value with this spread is the reference of every score.
    Plain,
    /// On the transformed scale: errors grow with the level.
    Relative,
    /// On the transformed scale, over the volatility at the origin: errors grow with the unrest of late.
    Restless,
}

/// One model's point with one spread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// Index of the model in the league.
    pub(crate) model: usize,
    pub(crate) spread: Spread,
    /// Name in the league table.
    pub(crate) name: String,
}

/// All curves of models with these names; the first is the reference.
pub(crate) fn curves(names: &[String]) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (model, name) in names.iter().enumerate() {
        if model == 0 {
            curves.push(Curve { model, spread: Spread::Plain, name: name.clone() });
        } else {
            curves.push(Curve { model, spread: Spread::Relative, name: name.clone() });
        }
        // Seasonal errors have little to do with the unrest of the last minutes.
        if !is_seasonal(name) {
            curves.push(Curve { model, spread: Spread::Restless, name: format!("{name}, restless") });
        }
    }
    curves
}

fn is_seasonal(name: &str) -> bool {
    name.starts_with("seasonal naive")
}

impl Curve {
    /// Whether it repeats a season and does not look at the present.
    pub(crate) fn is_seasonal(&self) -> bool {
        is_seasonal(&self.name)
    }
}

impl Spread {
    /// How far `value` strayed from the point `z`, at an origin of this volatility.
    pub(crate) fn error(self, history: &History, z: f64, volatility: f64, value: f64) -> f64 {
        match self {
            Self::Plain => value - history.backward(z),
            Self::Relative => history.forward(value) - z,
            Self::Restless => (history.forward(value) - z) / volatility,
        }
    }

    /// The value that strays by `error` from the point `z`; never negative.
    pub(crate) fn value(self, history: &History, z: f64, volatility: f64, error: f64) -> f64 {
        match self {
            Self::Plain => (history.backward(z) + error).max(0.0),
            Self::Relative => history.backward(z + error),
            Self::Restless => history.backward(z + volatility * error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_put_back_gives_the_value() {
        let history = History::new(0, 7.0, 10);
        for spread in [Spread::Plain, Spread::Relative, Spread::Restless] {
            let error = spread.error(&history, 0.8, 0.3, 25.0);
            assert!((spread.value(&history, 0.8, 0.3, error) - 25.0).abs() < 1e-9, "{spread:?}");
        }
    }
}
