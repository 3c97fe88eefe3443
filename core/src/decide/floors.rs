//! Floors from outside the load: alerts and the schedule.

use super::Deciding;
use crate::plan::ReasonCode;
use crate::policy::{Day, ScheduleFloor};
use crate::time::Timestamp;

const MINUTES_PER_DAY: i64 = 1440;

impl Deciding<'_> {
    pub(super) fn raise_floors(&mut self) {
        let boost = self
            .state
            .boosts
            .highest(self.now)
            .map(|boost| (boost.floor, boost.until, boost.fingerprint.clone()));
        if let Some((floor, until, fingerprint)) = boost.filter(|(floor, ..)| *floor > self.n) {
            let left = until.since(self.now).as_secs_f64();
            let text = format!("alert {fingerprint} asks for {floor} for at most {left:.0} s more");
            self.say(ReasonCode::AlertBoost, text, &[("replicas", f64::from(floor)), ("left_s", left)]);
            self.n = floor;
        }
        let floor =
            self.inputs.policy.schedule.iter().filter(|floor| floor.covers(self.now)).map(|f| f.min).max();
        if let Some(floor) = floor.filter(|floor| *floor > self.n) {
            let text = format!("the schedule asks for {floor} at this hour");
            self.say(ReasonCode::ScheduleFloor, text, &[("replicas", f64::from(floor))]);
            self.n = floor;
        }
    }
}

impl ScheduleFloor {
    /// Whether `now` (UTC) is within the floor's hours; hours past midnight belong to the day they started on.
    #[must_use]
    pub fn covers(&self, now: Timestamp) -> bool {
        let minutes = now.as_millis().div_euclid(60_000);
        let minute = minutes.rem_euclid(MINUTES_PER_DAY);
        let (from, to) = (i64::from(self.from.minutes()), i64::from(self.to.minutes()));
        let day = minutes.div_euclid(MINUTES_PER_DAY);
        let on = |day: i64| self.days.is_empty() || self.days.contains(&weekday(day));
        if from < to {
            return on(day) && (from..to).contains(&minute);
        }
        (on(day) && minute >= from) || (on(day - 1) && minute < to)
    }
}

/// The weekday of a day counted from the epoch, which was a Thursday.
fn weekday(day: i64) -> Day {
    let index = usize::try_from((day + 3).rem_euclid(7)).expect("a remainder of seven fits");
    Day::ALL[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(text: &str) -> ScheduleFloor {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn hours_past_midnight_belong_to_the_day_they_started_on() {
        let friday_night = floor(r#"{"days":["fri"],"from":"22:00","to":"02:00","min":3}"#);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(friday_night.covers(at("2026-01-02T23:00:00Z")), "2026-01-02 is a Friday");
        assert!(friday_night.covers(at("2026-01-03T01:59:00Z")));
        assert!(!friday_night.covers(at("2026-01-03T02:00:00Z")));
        assert!(!friday_night.covers(at("2026-01-02T01:00:00Z")));
        let daily = floor(r#"{"from":"08:00","to":"18:00","min":3}"#);
        assert!(daily.covers(at("2026-01-05T08:00:00Z")) && !daily.covers(at("2026-01-05T18:00:00Z")));
    }
}
