//! The Prometheus text format 0.0.4, one line at a time, without copying. OpenMetrics shares the shape of a series line;
//! what is its own stands in [`super::openmetrics`].
//!
//! Lenient where exporters differ in practice (blanks around tokens, a comma after the last label, quoted metric names);
//! anything else is refused by cause, and the next line is read.

use std::borrow::Cow;

use memchr::memchr2;

use crate::collect::Cause;

/// One series with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesLine<'a> {
    /// The name, suffix (`_total`, `_bucket`…) included.
    pub name: Cow<'a, str>,
    /// The labels.
    pub labels: Labels<'a>,
    /// The value; NaN and infinities are values.
    pub value: f64,
    /// The time stamp, in seconds since the epoch, where the line has one.
    pub at_seconds: Option<f64>,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    /// A series.
    Series(SeriesLine<'a>),
    /// `# TYPE`.
    Type {
        /// Of which family.
        family: &'a str,
        /// The word for the type, as it stands.
        kind: &'a str,
    },
    /// `# HELP`, escapes undone.
    Help {
        /// Of which family.
        family: &'a str,
        /// The sentence.
        text: Cow<'a, str>,
    },
    /// `# UNIT`, OpenMetrics only.
    Unit {
        /// Of which family.
        family: &'a str,
        /// The word for the unit.
        unit: &'a str,
    },
    /// `# EOF`, OpenMetrics only.
    Eof,
    /// Nothing: a blank line or a comment for people.
    Nothing,
}

/// Labels as they stand between the braces, checked. Cheap to copy; values are unescaped when asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Labels<'a> {
    raw: &'a str,
}

impl<'a> Labels<'a> {
    /// Of a text that is known to be as it stands between braces.
    pub(crate) const fn of_checked(raw: &'a str) -> Self {
        Self { raw }
    }

    /// The text between the braces: the same for the same series of the same exporter.
    #[must_use]
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    /// Names and values in the order they stand, a quoted metric name left out.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
        let mut rest = self.raw;
        std::iter::from_fn(move || {
            loop {
                let (item, after) = label(rest).ok()??;
                rest = after;
                if let Item::Label(name, value) = item {
                    return Some((name, unescape(value)));
                }
            }
        })
    }

    /// The value of label `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.iter().find(|(label, _)| *label == name).map(|(_, value)| value)
    }
}

/// Longest label name or value that is accepted, in bytes: far above any real one, far below what would hurt.
pub const LABEL_BYTES_MAX: usize = 16 * 1024;

/// Reads one line of the text format 0.0.4, without its newline.
///
/// # Errors
/// The cause for which the line is refused.
pub fn line(line: &str) -> Result<Line<'_>, Cause> {
    let line = line.trim_ascii();
    match line.strip_prefix('#') {
        Some(comment) => Ok(comment_line(comment)),
        None if line.is_empty() => Ok(Line::Nothing),
        None => {
            let (mut series, rest) = series(line)?;
            let (stamp, rest) = token(rest);
            if !rest.is_empty() || stamp.starts_with('#') {
                return Err(Cause::BadTrailer);
            }
            series.at_seconds = millis(stamp)?;
            Ok(Line::Series(series))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit in 53 bits")]
fn millis(stamp: &str) -> Result<Option<f64>, Cause> {
    if stamp.is_empty() {
        return Ok(None);
    }
    let millis: i64 = stamp.parse().map_err(|_| Cause::BadTimestamp)?;
    Ok(Some(millis as f64 / 1000.0))
}

/// What follows `#`. A comment that is neither `HELP` nor `TYPE` is for people.
pub(super) fn comment_line(comment: &str) -> Line<'_> {
    let (word, rest) = token(comment);
    let (family, rest) = token(rest);
    match word {
        "TYPE" if is_name(family) => Line::Type { family, kind: rest.trim_ascii() },
        "HELP" if is_name(family) => Line::Help { family, text: unescape(rest) },
        _ => Line::Nothing,
    }
}

/// Name, labels and value of a series, and what follows them.
pub(super) fn series(line: &str) -> Result<(SeriesLine<'_>, &str), Cause> {
    let name_end = name_end(line);
    let after_name = line[name_end..].trim_ascii_start();
    let (quoted, labels, after) = match after_name.strip_prefix('{') {
        Some(inner) => braces(inner)?,
        None if after_name.len() == line.len() - name_end => return Err(Cause::BadName),
        None => (None, Labels::default(), after_name),
    };
    let name = match (name_end, quoted) {
        (0, Some(quoted)) => quoted,
        (0, None) | (1.., Some(_)) => return Err(Cause::BadName),
        (1.., None) => Cow::Borrowed(&line[..name_end]),
    };
    if name.len() > LABEL_BYTES_MAX {
        return Err(Cause::TooLong);
    }
    let (value, rest) = token(after);
    let value: f64 = value.parse().map_err(|_| Cause::BadValue)?;
    let series = SeriesLine { name, labels, value, at_seconds: None };
    Ok((series, rest))
}

type Braces<'a> = (Option<Cow<'a, str>>, Labels<'a>, &'a str);

/// Checks the labels up to the closing brace: a quoted metric name if there is one, the labels, what follows the brace.
pub(super) fn braces(inner: &str) -> Result<Braces<'_>, Cause> {
    let mut rest = inner;
    let mut quoted = None;
    while let Some((item, after)) = label(rest)? {
        match item {
            Item::Label(name, value) if name.len().max(value.len()) > LABEL_BYTES_MAX => {
                return Err(Cause::TooLong);
            }
            Item::Label(..) => {}
            // The name stands first, and once.
            Item::Name(name) if rest.len() == inner.len() && !name.is_empty() => {
                quoted = Some(unescape(name))
            }
            Item::Name(_) => return Err(Cause::BadName),
        }
        rest = after;
    }
    let close = rest.trim_ascii_start();
    let after = close.strip_prefix('}').ok_or(Cause::BadLabels)?;
    let raw = &inner[..inner.len() - close.len()];
    Ok((quoted, Labels { raw }, after))
}

/// What may stand between the braces; values still escaped.
enum Item<'a> {
    Label(&'a str, &'a str),
    Name(&'a str),
}

/// The next label of `rest` and what follows it and its comma; `None` at the closing brace or the end.
fn label(rest: &str) -> Result<Option<(Item<'_>, &str)>, Cause> {
    let rest = rest.trim_ascii_start();
    if rest.is_empty() || rest.starts_with('}') {
        return Ok(None);
    }
    let (first, after) = match rest.strip_prefix('"') {
        Some(open) => {
            let (text, after) = quoted(open)?;
            (Some(text), after)
        }
        None => (None, rest),
    };
    let end = if first.is_some() { 0 } else { name_end(after) };
    let name = first.unwrap_or(&after[..end]);
    let after = after[end..].trim_ascii_start();
    match after.strip_prefix('=') {
        Some(after) if !name.is_empty() => {
            let open = after.trim_ascii_start().strip_prefix('"').ok_or(Cause::BadLabels)?;
            let (value, after) = quoted(open)?;
            Ok(Some((Item::Label(name, value), comma(after)?)))
        }
        Some(_) => Err(Cause::BadName),
        None if first.is_some() => Ok(Some((Item::Name(name), comma(after)?))),
        None if name.is_empty() => Err(Cause::BadName),
        None => Err(Cause::BadLabels),
    }
}

/// What follows the comma after a label; the last label needs none.
fn comma(rest: &str) -> Result<&str, Cause> {
    let rest = rest.trim_ascii_start();
    match rest.strip_prefix(',') {
        Some(after) => Ok(after),
        None if rest.is_empty() || rest.starts_with('}') => Ok(rest),
        None => Err(Cause::BadLabels),
    }
}

/// The text up to the closing quote, still escaped, and what follows the quote.
fn quoted(open: &str) -> Result<(&str, &str), Cause> {
    let bytes = open.as_bytes();
    let mut at = 0;
    while let Some(found) = memchr2(b'"', b'\\', &bytes[at..]) {
        at += found;
        if bytes[at] == b'"' {
            return Ok((&open[..at], &open[at + 1..]));
        }
        // A backslash takes the next character with it; one at the end leaves the quote open.
        at = (at + 2).min(bytes.len());
    }
    Err(Cause::BadLabels)
}

/// Undoes `\\`, `\"` and `\n`; any other backslash stands for itself.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(c @ ('\\' | '"')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

/// The next word and what follows it and the blanks after it.
pub(super) fn token(text: &str) -> (&str, &str) {
    let text = text.trim_ascii_start();
    let end = memchr2(b' ', b'\t', text.as_bytes()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_ascii_start())
}

/// Whether `text` may be a metric name.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && name_end(text) == text.len()
}

/// Bytes that a name is made of; a digit not at its start.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut c = 0u8;
    while c.is_ascii() {
        table[c as usize] = c.is_ascii_alphanumeric() || c == b'_' || c == b':';
        c += 1;
    }
    table
};

/// Length of the name at the start of `text`; 0 when there is none.
fn name_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes.first().is_none_or(u8::is_ascii_digit) {
        return 0;
    }
    bytes.iter().position(|byte| !NAME_BYTES[usize::from(*byte)]).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> SeriesLine<'_> {
        match line(text) {
            Ok(Line::Series(series)) => series,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    fn pairs(series: &SeriesLine<'_>) -> Vec<(String, String)> {
        series.labels.iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect()
    }

    #[test]
    fn reads_series_as_exporters_write_them() {
        let plain = one("up 1");
        assert_eq!((plain.name.as_ref(), plain.value, plain.at_seconds), ("up", 1.0, None));
        let vllm = one(r#"vllm:num_requests_running{engine="0",model_name="meta/llama"} 3.0"#);
        assert_eq!(vllm.name, "vllm:num_requests_running");
        assert_eq!(vllm.labels.get("model_name").unwrap(), "meta/llama");
        let spaced = one("http_requests_total { code = \"200\" , method=\"post\", }\t1027  1395066363000 ");
        assert_eq!(pairs(&spaced), [("code".into(), "200".into()), ("method".into(), "post".into())]);
        assert_eq!(spaced.at_seconds, Some(1_395_066_363.0));
        let escaped = one(r#"msdos{path="C:\\DIR\\",error="said: \"no\"\n}"} +Inf -3"#);
        assert_eq!(escaped.labels.get("path").unwrap(), "C:\\DIR\\");
        assert_eq!(escaped.labels.get("error").unwrap(), "said: \"no\"\n}");
        assert_eq!(escaped.value, f64::INFINITY);
        assert!(one("gone NaN").value.is_nan());
        assert_eq!(one("empty{} 1e-3").labels.iter().count(), 0);
        let tf = one(":tensorflow:serving:request_count{status=\"OK\"} 7");
        assert_eq!(tf.name, ":tensorflow:serving:request_count");
    }

    #[test]
    fn reads_quoted_names() {
        let series = one(r#"{"my.metric é", "a.b"="c", d="e"} 4"#);
        assert_eq!(series.name, "my.metric é");
        assert_eq!(pairs(&series), [("a.b".into(), "c".into()), ("d".into(), "e".into())]);
    }

    #[test]
    fn refuses_by_cause() {
        for (text, cause) in [
            ("0abc 1", Cause::BadName),
            ("{} 1", Cause::BadName),
            (r#"a{"b"} 1"#, Cause::BadName),
            ("a-b 1", Cause::BadName),
            (r#"a{b="c" 1"#, Cause::BadLabels),
            (r#"a{b="c} 1"#, Cause::BadLabels),
            (r#"a{b="c\"#, Cause::BadLabels),
            (r#"a{b=c} 1"#, Cause::BadLabels),
            (r#"a{b="1"c="2"} 1"#, Cause::BadLabels),
            (r#"a{="1"} 1"#, Cause::BadName),
            ("a", Cause::BadName),
            ("a ", Cause::BadName),
            ("a{}", Cause::BadValue),
            ("a one", Cause::BadValue),
            ("a 1 noon", Cause::BadTimestamp),
            ("a 1 2 3", Cause::BadTrailer),
            ("a 1 # {b=\"c\"} 1", Cause::BadTrailer),
        ] {
            assert_eq!(line(text), Err(cause), "{text:?}");
        }
    }

    #[test]
    fn reads_comments() {
        assert_eq!(line("# TYPE a counter").unwrap(), Line::Type { family: "a", kind: "counter" });
        let help = Line::Help { family: "a", text: "One \\ two\nthree.".into() };
        assert_eq!(line(r"# HELP a One \\ two\nthree.").unwrap(), help);
        for text in ["", "  ", "# hello", "#", "# TYPE", "# EOF"] {
            assert_eq!(line(text).unwrap(), Line::Nothing, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            prop_assert!(!matches!(line(&text), Err(Cause::Timeout)));
        }

        #[test]
        fn never_panics_near_the_grammar(text in r#"[a_0]{0,3}[ {"]{0,2}([a="\\ ,]{0,8})[}" ]{0,2}[-0-9.e# ]{0,8}"#) {
            if let Ok(Line::Series(series)) = line(&text) {
                prop_assert!(!series.name.is_empty());
                prop_assert!(series.labels.iter().count() <= text.len());
            }
        }
    }
}
