//! What a serving workload's decisions are made of, each to be left out by itself.

/// Which parts a brain uses. All, unless a measurement of what one of them buys leaves it out: no policy can, because no workload
/// is served better without. That forecasts are made at all is the policy's to say (`forecast.enabled`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingredients {
    /// The forecast of the peak until a replica ordered now could be ready. Without it the rehearsal has only standing headroom
    /// to try.
    pub peak: bool,
    /// Playing the past to choose how to provide. Without it the forecast's own quantile at the risk level is provided for.
    pub rehearsal: bool,
    /// Following the account of the budget: what may be missed, by what was. Without it that is always the objective's.
    pub calibration: bool,
    /// Learning what a replica carries. Without it the policy's hint is taken at its word; without a hint, nothing is known.
    pub capacity: bool,
    /// Looking at the present demand and at what waits. Without it a decision goes by what is forecast alone.
    pub reactive: bool,
}

impl Default for Ingredients {
    fn default() -> Self {
        Self { peak: true, rehearsal: true, calibration: true, capacity: true, reactive: true }
    }
}
