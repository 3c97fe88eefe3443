//! OpenMetrics 1.0, one line at a time: what differs from the text format. Seconds for time stamps, exemplars, `# UNIT`, `# EOF`.

use super::text::{self, Labels, Line};
use crate::collect::Cause;

/// Most characters that the labels of an exemplar may have together, by the standard.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Reads one line of OpenMetrics, without its newline.
///
/// # Errors
/// The cause for which the line is refused.
pub fn line(line: &str) -> Result<Line<'_>, Cause> {
    // The standard has no blank lines and no carriage returns; they harm nothing.
    let line = line.trim_ascii();
    match line.strip_prefix('#') {
        Some(comment) => comment_line(comment),
        None if line.is_empty() => Ok(Line::Nothing),
        None => series_line(line),
    }
}

fn comment_line(comment: &str) -> Result<Line<'_>, Cause> {
    let (word, rest) = text::token(comment);
    let (family, rest) = text::token(rest);
    match word {
        "EOF" if family.is_empty() => Ok(Line::Eof),
        "UNIT" if text::is_name(family) => Ok(Line::Unit { family, unit: rest }),
        "TYPE" | "HELP" => known(text::comment_line(comment)),
        _ => Err(Cause::BadComment),
    }
}

fn known(line: Line<'_>) -> Result<Line<'_>, Cause> {
    if line == Line::Nothing { Err(Cause::BadComment) } else { Ok(line) }
}

fn series_line(line: &str) -> Result<Line<'_>, Cause> {
    let (mut series, rest) = text::series(line)?;
    let (stamp, after) = text::token(rest);
    let rest = if stamp.starts_with('#') || stamp.is_empty() {
        rest
    } else {
        series.at_seconds = Some(seconds(stamp)?);
        after
    };
    check_exemplar(rest.trim_ascii_start())?;
    Ok(Line::Series(series))
}

fn seconds(stamp: &str) -> Result<f64, Cause> {
    let seconds: f64 = stamp.parse().map_err(|_| Cause::BadTimestamp)?;
    seconds.is_finite().then_some(seconds).ok_or(Cause::BadTimestamp)
}

/// `# {labels} value [time]`, or nothing at all. Exemplars are checked and left: no signal is made of them.
fn check_exemplar(rest: &str) -> Result<(), Cause> {
    if rest.is_empty() {
        return Ok(());
    }
    let inner = rest
        .strip_prefix('#')
        .and_then(|rest| rest.trim_ascii_start().strip_prefix('{'))
        .ok_or(Cause::BadTrailer)?;
    let (name, labels, after) = text::braces(inner).map_err(|_| Cause::BadTrailer)?;
    let (value, after) = text::token(after);
    let (stamp, after) = text::token(after);
    let right = name.is_none()
        && after.is_empty()
        && chars(labels) <= EXEMPLAR_CHARS_MAX
        && value.parse::<f64>().is_ok()
        && (stamp.is_empty() || seconds(stamp).is_ok());
    right.then_some(()).ok_or(Cause::BadTrailer)
}

fn chars(labels: Labels<'_>) -> usize {
    labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_openmetrics_adds() {
        for (text, value, at) in [
            ("a_total 17.0 1520879607.789", 17.0, Some(1_520_879_607.789)),
            ("b_bucket{le=\"0.01\"} 0 # {trace_id=\"KOO5S4vxi0o\"} 0.67", 0.0, None),
            ("b_bucket{le=\"+Inf\"} 17 5.5 # {} 9.8 1520879607.789", 17.0, Some(5.5)),
        ] {
            let Ok(Line::Series(series)) = line(text) else { panic!("{text:?}") };
            assert_eq!((series.value, series.at_seconds), (value, at), "{text:?}");
        }
        assert_eq!(line("# EOF"), Ok(Line::Eof));
        assert_eq!(line("# UNIT a_seconds seconds"), Ok(Line::Unit { family: "a_seconds", unit: "seconds" }));
        assert_eq!(line("# TYPE a counter"), Ok(Line::Type { family: "a", kind: "counter" }));
    }

    #[test]
    fn refuses_by_cause() {
        let long = format!("a_bucket 1 # {{t=\"{}\"}} 1", "x".repeat(128));
        for (text, cause) in [
            ("# a remark", Cause::BadComment),
            ("# TYPE", Cause::BadComment),
            ("a 1 noon", Cause::BadTimestamp),
            ("a 1 2 3", Cause::BadTrailer),
            ("a 1 # {b=\"c\"} x", Cause::BadTrailer),
            ("a 1 # b", Cause::BadTrailer),
            (long.as_str(), Cause::BadTrailer),
        ] {
            assert_eq!(line(text), Err(cause), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in r#"[a_# ]{0,3}[ {"]{0,2}([a="\\ ,é]{0,8})[}" ]{0,2}[-0-9.e# {}]{0,12}"#) {
            prop_assert!(!matches!(line(&text), Err(Cause::Timeout)));
        }
    }
}
