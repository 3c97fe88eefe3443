//! KEDA's cron trigger as a floor by the clock: those that say the same minute of the same days.

use serde_json::{Value, json};

const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A `schedule` entry of a policy.
///
/// # Errors
/// Why it cannot be said by one.
pub(super) fn floor(metadata: &Value) -> Result<Value, String> {
    let text = |key: &str| metadata[key].as_str().ok_or_else(|| format!("it has no {key}"));
    let zone = text("timezone")?;
    if !matches!(zone, "UTC" | "Etc/UTC" | "GMT" | "Etc/GMT") {
        return Err(format!("a policy's clock is UTC, not {zone}"));
    }
    let (from, days) = moment(text("start")?)?;
    let (to, until) = moment(text("end")?)?;
    // One that ends after midnight may name the next days at its end.
    if days != until && (from < to || days.is_empty() != until.is_empty()) {
        return Err("it starts and ends on different days".into());
    }
    let replicas: u32 = text("desiredReplicas")?.parse().map_err(|_| "desiredReplicas is no number")?;
    let mut floor = json!({ "from": from, "to": to, "min": replicas });
    if !days.is_empty() {
        floor["days"] = json!(days);
    }
    Ok(floor)
}

/// `HH:MM`, and the days of the week, none for all of them.
fn moment(expression: &str) -> Result<(String, Vec<&'static str>), String> {
    let cannot = || format!("{expression:?} is more than a time of day and days of the week");
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let [minute, hour, "*", "*", week] = fields.as_slice() else { return Err(cannot()) };
    let number = |text: &str, most: u32| text.parse::<u32>().ok().filter(|n| *n <= most).ok_or_else(cannot);
    let time = format!("{:02}:{:02}", number(hour, 23)?, number(minute, 59)?);
    if *week == "*" {
        return Ok((time, Vec::new()));
    }
    let day = |text: &str| -> Result<usize, String> {
        let named = DAYS.iter().position(|day| text.eq_ignore_ascii_case(day));
        // 7 is Sunday, too.
        named
            .or_else(|| text.parse::<usize>().ok().filter(|day| *day <= 7).map(|day| day % 7))
            .ok_or_else(cannot)
    };
    let mut days = Vec::new();
    for part in week.split(',') {
        match part.split_once('-') {
            None => days.push(DAYS[day(part)?]),
            Some((first, last)) => {
                let (first, last) = (day(first)?, day(last)?);
                let last = if last < first { last + 7 } else { last };
                days.extend((first..=last).map(|day| DAYS[day % 7]));
            }
        }
    }
    Ok((time, days))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(zone: &str, start: &str, end: &str) -> Result<Value, String> {
        floor(&json!({ "timezone": zone, "start": start, "end": end, "desiredReplicas": "10" }))
    }

    #[test]
    fn a_time_of_day_is_a_floor_by_the_clock() {
        let daily = json!({ "from": "06:30", "to": "20:00", "min": 10 });
        assert_eq!(trigger("Etc/UTC", "30 6 * * *", "0 20 * * *"), Ok(daily));
        let weekdays =
            json!({ "from": "08:00", "to": "18:00", "min": 10, "days": ["mon", "tue", "wed", "thu", "fri"] });
        assert_eq!(trigger("UTC", "0 8 * * 1-5", "0 18 * * mon-fri"), Ok(weekdays));
        let weekend = json!({ "from": "22:00", "to": "04:00", "min": 10, "days": ["sat", "sun"] });
        assert_eq!(trigger("UTC", "0 22 * * 6,7", "0 4 * * sun,mon"), Ok(weekend));
    }

    #[test]
    fn what_a_clock_cannot_say_is_told() {
        let cases = [
            trigger("Europe/Berlin", "0 8 * * *", "0 18 * * *"),
            trigger("UTC", "*/5 8 * * *", "0 18 * * *"),
            trigger("UTC", "0 8 1 * *", "0 18 1 * *"),
            trigger("UTC", "0 8 * * 1", "0 18 * * 2"),
            trigger("UTC", "0 8 * * 9", "0 18 * * 9"),
            trigger("UTC", "0 24 * * *", "0 18 * * *"),
        ];
        for case in cases {
            assert!(case.is_err(), "{case:?}");
        }
    }
}
