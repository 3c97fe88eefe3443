//! A duel: whether one forecaster is clearly better than another at the origins where both spoke. A paired test on
//! blocks no shorter than the horizon, since the errors of forecasts that overlap are alike. It knows no model.

/// Fewest blocks from which a difference is believed.
const BLOCKS_MIN: usize = 3;
/// Shortest block in steps: neighbours share their luck even one step ahead.
const BLOCK_STEPS_MIN: usize = 12;
/// What a block still counts after each further one: a duel won long ago may be lost today.
const MEMORY: f64 = 1.0 - 1.0 / 100.0;
/// Deviations from zero that the mean difference must reach with many blocks, and what is added for one block. Between
/// them lie about the 99.5 % quantiles of Student's t: a league of a dozen is a dozen chances to be wrong.
const DEVIATIONS: (f64, f64) = (2.6, 6.0);
/// Share of the champion's loss that the challenger may have in all. Who wins often and loses much has not won, and where
/// the two are close, a mix of all is the safer choice.
const LOSS_SHARE_MAX: f64 = 0.75;

/// Losses so far, and how blocks of them went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Duel {
    start: Option<usize>,
    /// Of the champion and of the challenger in the block that is not over.
    open: (f64, f64),
    closed: (f64, f64),
    blocks: usize,
    weight: f64,
    sum: f64,
    squares: f64,
}

impl Duel {
    /// Takes in what both lost at the origin `at`, `h` steps ahead.
    pub(crate) fn learn(&mut self, at: usize, h: usize, champion: f64, challenger: f64) {
        let start = *self.start.get_or_insert(at);
        self.open = (self.open.0 + champion, self.open.1 + challenger);
        if at + 1 - start < h.max(BLOCK_STEPS_MIN) {
            return;
        }
        let both = self.open.0 + self.open.1;
        // Between -1 and 1 whatever the size of the losses, so that one jump of the load is one block and no more.
        let won = if both > 0.0 { (self.open.0 - self.open.1) / both } else { 0.0 };
        self.blocks += 1;
        self.weight = self.weight * MEMORY + 1.0;
        self.sum = self.sum * MEMORY + won;
        self.squares = self.squares * MEMORY + won * won;
        self.closed = (self.closed.0 * MEMORY + self.open.0, self.closed.1 * MEMORY + self.open.1);
        (self.start, self.open) = (None, (0.0, 0.0));
    }

    /// Whether there is too little yet to tell.
    const fn is_open(&self) -> bool {
        self.blocks < BLOCKS_MIN
    }

    /// Whether nothing speaks against a challenger that has won elsewhere: too little to tell, or clearly less lost here too,
    /// though in too few blocks for a proof of its own.
    pub(crate) fn agrees(&self) -> bool {
        self.is_open() || self.closed.1 < LOSS_SHARE_MAX * self.closed.0
    }

    /// The challenger's share of the champion's loss, when it is clearly the better one.
    pub(crate) fn won(&self) -> Option<f64> {
        if self.is_open() {
            return None;
        }
        let mean = self.sum / self.weight;
        let variance = (self.squares / self.weight - mean * mean).max(0.0) / (self.weight - 1.0);
        let share = self.closed.1 / self.closed.0;
        let clear = mean > variance.sqrt() * (DEVIATIONS.0 + DEVIATIONS.1 / self.weight);
        (clear && share < LOSS_SHARE_MAX).then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_won_by_a_steady_gain_and_not_by_chance_or_few_blocks() {
        let (mut steady, mut chance, mut few) = (Duel::default(), Duel::default(), Duel::default());
        for at in 0..600u32 {
            let noise = f64::from(at * 7919 % 13) - 6.0;
            steady.learn(at as usize, 20, 20.0 + noise, 10.0);
            chance.learn(at as usize, 20, if at % 100 < 50 { 20.0 } else { 5.0 } + noise / 2.0, 8.0);
            if at < 50 {
                few.learn(at as usize, 20, 5.0, 1.0);
            }
        }
        assert!((steady.won().unwrap() - 0.5).abs() < 0.05, "{steady:?}");
        assert_eq!((chance.won(), few.won(), few.agrees()), (None, None, true), "{chance:?}");
    }
}
