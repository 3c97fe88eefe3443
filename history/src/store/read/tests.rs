//! Grids of steps, and what is read on them.

use super::*;

fn grid(from: i64, to: i64, step: u64) -> Grid {
    Grid::new(Timestamp::from_secs(from), Timestamp::from_secs(to), Duration::from_secs(step), 1000).unwrap()
}

#[test]
fn the_coarsest_tier_that_fits_the_steps_answers() {
    assert_eq!(grid(0, 3600, 60).tier(), Tier::Minute);
    assert_eq!(grid(0, 3600, 900).tier(), Tier::FiveMinutes);
    assert_eq!(grid(0, 3600, 90).tier(), Tier::TenSeconds);
    assert_eq!(grid(0, 3600, 7).tier(), Tier::Second);
}

#[test]
fn a_bucket_longer_than_a_step_is_shared_out_over_what_it_covers() {
    let mut shares = Vec::new();
    grid(60, 300, 120).spread(0, 300, true, |index, share| shares.push((index, share)));
    assert_eq!(shares, [(0, 0.4), (1, 0.4), (2, 0.2)]);
}

#[test]
fn a_range_becomes_whole_steps() {
    let grid = grid(65, 121, 60);
    assert_eq!((grid.start, grid.steps, grid.end()), (60_000, 2, 180_000));
    assert_eq!((grid.as_one_step().step, grid.as_one_step().steps), (120_000, 1));
    assert_eq!(self::grid(10, 10, 60).steps, 0);
}
