//! Lengths of time as they are written on the command line: `150ms`, `5s`, `2m`.

use std::time::Duration;

/// Reads a number with one unit; an error is a sentence for the user.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a length of time such as 150ms, 5s or 2m, got {text:?}");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_needs_a_unit() {
        assert_eq!(parse("150ms"), Ok(Duration::from_millis(150)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        for wrong in
            ["", "5", "s", "-1s", "1.5s", "5 s", "5d", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
