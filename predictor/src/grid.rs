//! The sparse grid of horizons at which models are fitted and judged, and how steps between are read from it.

/// Horizons in steps: dense where a forecast changes fast, sparse beyond.
const HORIZONS: [usize; 10] = [1, 2, 3, 5, 8, 12, 20, 40, 60, 120];

/// The grid up to `horizon`, which it always holds, with `lead`.
pub(crate) fn grid(horizon: usize, lead: usize) -> Vec<usize> {
    let mut grid: Vec<usize> = HORIZONS.into_iter().chain([lead, horizon]).collect();
    // Beyond two hours of minutes, every doubling is enough.
    grid.extend((8..40).map(|power| 1usize << power).take_while(|h| *h < horizon));
    grid.retain(|h| (1..=horizon).contains(h));
    grid.sort_unstable();
    grid.dedup();
    grid
}

/// Where step `h` (1 is the next) stands among `points`, rising: neighbours, and the share of the upper one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub(crate) below: usize,
    pub(crate) above: usize,
    pub(crate) share: f64,
    /// How far beyond the last point, as the factor by which a random walk would have widened since; 1 within.
    pub(crate) stretch: f64,
}

/// Finds `h` among `points`; outside them the nearest point stands alone. `None` when there is no point.
pub(crate) fn place(points: &[usize], h: usize) -> Option<Place> {
    let last = points.len().checked_sub(1)?;
    let above = points.partition_point(|p| *p < h).min(last);
    let below = if points[above] <= h { above } else { above.saturating_sub(1) };
    let (from, to) = (steps(points[below]), steps(points[above]));
    let share = if above == below { 0.0 } else { (steps(h) - from) / (to - from) };
    let stretch = (steps(h) / to).sqrt().max(1.0);
    Some(Place { below, above, share, stretch })
}

#[expect(clippy::cast_precision_loss, reason = "counts of steps are far below 2^53")]
pub(crate) const fn steps(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_lead_and_the_horizon() {
        assert_eq!(grid(30, 7), [1, 2, 3, 5, 7, 8, 12, 20, 30]);
        assert_eq!(grid(1, 1), [1]);
        assert_eq!(grid(1000, 5)[9..], [120, 256, 512, 1000]);
    }

    #[test]
    fn reads_between_and_beyond() {
        let at = |h| place(&[2, 4, 8], h).unwrap();
        assert_eq!((at(3).below, at(3).above, at(3).share), (0, 1, 0.5));
        assert_eq!((at(4).below, at(4).share, at(4).stretch), (1, 0.0, 1.0));
        assert_eq!((at(32).below, at(32).stretch), (2, 2.0));
        assert_eq!((at(1).below, at(1).share, at(1).stretch), (0, 0.0, 1.0));
        assert_eq!(place(&[], 1), None);
    }
}
