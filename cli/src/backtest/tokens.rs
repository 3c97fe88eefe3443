//! The load of a language model from a file: by steps, with the tokens of each where they are counted, or request by request.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tidegate_core::{Series, Timestamp};
use tidegate_sim::Request;

use super::traffic::{HISTORY_MAX, Tokens, Traffic, regular, usual_gap};
use crate::Usage;
use crate::trace::{self, Point, Times, Unit};

/// Columns of a file; of the middle two kinds one must be there.
const COLUMNS: [&str; 4] = ["timestamp_s", "value", "prompt_tokens", "output_tokens"];
const EXPECTED: &str = "a column timestamp_s, and value or prompt_tokens and output_tokens or all three";
/// Requests that are recorded one by one are counted by this.
const STEP: Duration = Duration::from_secs(60);

/// Reads the load.
///
/// # Errors
/// When the file cannot be read, is malformed, or its times are none.
pub(super) fn from_file(path: &Path, unit: Unit) -> anyhow::Result<Traffic> {
    let needed = |[_, value, prompt, output]: [bool; 4]| match (value, prompt, output) {
        (true, both, other) if both == other => Ok(Times::Rise),
        (false, true, true) => Ok(Times::DoNotFall),
        _ => Err(EXPECTED),
    };
    let ([_, by_steps, with_tokens, _], mut rows) = trace::columns(path, COLUMNS, needed)?;
    let source = path.display().to_string();
    if !by_steps {
        return one_by_one(source, &rows);
    }
    trace::per_second(&mut rows, unit);
    let points = |column: usize| -> Vec<Point> {
        rows.iter().map(|row| Point { timestamp_s: row[0], value: row[column] }).collect()
    };
    let requests = points(1);
    let usual = usual_gap(&requests).context("a load needs at least two points")?;
    let rates = regular(&requests, usual)?;
    let tokens = with_tokens.then(|| -> anyhow::Result<Tokens> {
        let rates = [regular(&points(2), usual)?, regular(&points(3), usual)?];
        Ok(Tokens { rates, requests: Vec::new() })
    });
    Ok(Traffic { source, rates, tokens: tokens.transpose()?, notes: Vec::new() })
}

/// Requests with their tokens. What lies longer ago than could be used is left out.
fn one_by_one(source: String, rows: &[[f64; 4]]) -> anyhow::Result<Traffic> {
    let time =
        |s: f64| Timestamp::from_secs_f64(s).with_context(|| Usage(format!("{s} is no time in seconds")));
    let (first, last) = rows.first().zip(rows.last()).context("the load is empty")?;
    let end = time(last[0])?.floor_to(STEP) + STEP;
    let start = time(first[0])?.floor_to(STEP).max(end.before(HISTORY_MAX * 3));
    let mut requests = Vec::with_capacity(rows.len());
    for [at, _, prompt, output] in rows {
        let at = time(*at)?;
        if at >= start {
            requests.push((at, Request { prompt_tokens: whole(*prompt), output_tokens: whole(*output) }));
        }
    }
    let minutes = usize::try_from(end.since(start).as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
    let mut sums = vec![[0.0; 3]; minutes];
    for (at, request) in &requests {
        let minute = usize::try_from(at.since(start).as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
        let Some(sum) = sums.get_mut(minute) else { continue };
        sum[0] += 1.0;
        sum[1] += f64::from(request.prompt_tokens);
        sum[2] += f64::from(request.output_tokens);
    }
    let [rates, prompt, output] = [0, 1, 2].map(|which| {
        let values = sums.iter().map(|sum| Some(sum[which] / STEP.as_secs_f64()));
        Series::from_values(start, STEP, values)
    });
    let tokens = Some(Tokens { rates: [prompt, output], requests });
    Ok(Traffic { source, rates, tokens, notes: Vec::new() })
}

/// Tokens of a request: at least one is read, and one written.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
fn whole(tokens: f64) -> u32 {
    tokens.round().max(1.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn read(text: &str, unit: Unit) -> anyhow::Result<Traffic> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        from_file(file.path(), unit)
    }

    #[test]
    fn tokens_by_steps_are_in_the_unit_of_the_requests() {
        let text =
            "timestamp_s,value,prompt_tokens,output_tokens\n0,60,60000,6000\n60,120,120000,0\n120,0,0,0\n";
        let traffic = read(text, Unit::PerMinute).unwrap();
        let tokens = traffic.tokens.unwrap();
        assert_eq!(traffic.rates.values(), [Some(1.0), Some(2.0), Some(0.0)]);
        assert_eq!(tokens.rates[0].values(), [Some(1000.0), Some(2000.0), Some(0.0)]);
        assert_eq!((tokens.rates[1].get(0), tokens.requests.len()), (Some(100.0), 0));
        assert!(read("timestamp_s,value\n0,1\n60,2\n", Unit::PerSecond).unwrap().tokens.is_none());
    }

    #[test]
    fn requests_one_by_one_are_counted_by_the_minute_and_kept() {
        let text = "prompt_tokens,timestamp_s,output_tokens\n100,30,10\n300,30,0\n50,61.5,7\n20,250,1\n";
        let traffic = read(text, Unit::PerSecond).unwrap();
        let rate = |requests: f64| Some(requests / 60.0);
        assert_eq!(traffic.rates.values(), [rate(2.0), rate(1.0), rate(0.0), rate(0.0), rate(1.0)]);
        let tokens = traffic.tokens.unwrap();
        assert_eq!((tokens.rates[0].get(0), tokens.rates[1].get(1)), (rate(400.0), rate(7.0)));
        assert_eq!(tokens.requests.len(), 4);
        assert_eq!(tokens.requests[1].1, Request { prompt_tokens: 300, output_tokens: 1 });
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_expected() {
        for (text, expected) in [
            ("timestamp_s,tokens\n0,1\n", "prompt_tokens and output_tokens"),
            ("timestamp_s,prompt_tokens\n0,1\n", "prompt_tokens and output_tokens"),
            ("timestamp_s,value,prompt_tokens\n0,1,1\n", "prompt_tokens and output_tokens"),
            ("timestamp_s,prompt_tokens,output_tokens\n5,1,1\n4,1,1\n", "of at least 5"),
            ("timestamp_s,prompt_tokens,output_tokens\n5,1,1\n6,-1,1\n", "not negative"),
            ("timestamp_s,prompt_tokens,output_tokens\n5,1,1\n1e300,1,1\n", "no time"),
        ] {
            let error = format!("{:#}", read(text, Unit::PerSecond).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
