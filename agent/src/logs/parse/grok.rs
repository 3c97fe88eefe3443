//! Grok: named pieces of regular expressions put together as `%{NAME:field}`.
//!
//! The library has the names that users know from other shippers, written for an engine that never backtracks: no
//! look-around and no atomic groups, so that no line takes more than linear time.

use std::fmt::Write as _;

use regex::{CaptureLocations, Regex};

/// How deep patterns may name each other; the library needs six.
const DEPTH_MAX: usize = 16;

/// The library: each pattern by its usual name.
const LIBRARY: &[(&str, &str)] = &[
    ("WORD", r"\w+"),
    ("NOTSPACE", r"\S+"),
    ("SPACE", r"\s*"),
    ("DATA", r".*?"),
    ("GREEDYDATA", r".*"),
    ("INT", r"[+-]?\d+"),
    ("POSINT", r"[1-9]\d*"),
    ("NUMBER", r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)"),
    ("QUOTEDSTRING", r#""(?:[^"\\]|\\.)*""#),
    ("QS", "%{QUOTEDSTRING}"),
    ("USERNAME", r"[A-Za-z0-9._-]+"),
    ("USER", "%{USERNAME}"),
    ("EMAILADDRESS", r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@%{HOSTNAME}"),
    ("HTTPDUSER", "(?:%{EMAILADDRESS}|%{USER}|\"\")"),
    ("IPV4", r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"),
    ("IPV6", r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?:%\w+)?"),
    ("IP", "(?:%{IPV6}|%{IPV4})"),
    ("HOSTNAME", r"[0-9A-Za-z](?:[0-9A-Za-z_-]{0,62})(?:\.[0-9A-Za-z](?:[0-9A-Za-z_-]{0,62}))*\.?"),
    ("IPORHOST", "(?:%{IP}|%{HOSTNAME})"),
    ("MONTH", "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"),
    ("MONTHDAY", r"(?:0[1-9]|[12]\d|3[01]|[1-9])"),
    ("YEAR", r"\d{4}"),
    ("TIME", r"(?:2[0-3]|[01]\d):[0-5]\d:(?:[0-5]\d|60)"),
    ("HTTPDATE", "%{MONTHDAY}/%{MONTH}/%{YEAR}:%{TIME} %{INT}"),
    (
        "LOGLEVEL",
        r"(?i:trace|debug|info|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|fatal|severe|emerg(?:ency)?|alert)",
    ),
    (
        "COMMONAPACHELOG",
        concat!(
            r"%{IPORHOST:clientip} %{HTTPDUSER:ident} %{HTTPDUSER:auth} \[%{HTTPDATE:timestamp}\] ",
            r#""(?:%{WORD:verb} %{NOTSPACE:request}(?: HTTP/%{NUMBER:httpversion})?|%{DATA:rawrequest})" "#,
            r"%{INT:response} (?:%{INT:bytes}|-)",
        ),
    ),
    ("COMBINEDAPACHELOG", "%{COMMONAPACHELOG} %{QS:referrer} %{QS:agent}"),
];

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatternError {
    /// It names a pattern that the library does not have.
    #[error("no pattern is named {0:?}")]
    Unknown(String),
    /// Patterns name each other in a circle.
    #[error("patterns are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// What it expands to is no regular expression.
    #[error("not a regular expression")]
    Syntax(#[source] regex::Error),
}

/// A pattern ready to be matched against whole lines.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    fields: Vec<String>,
}

impl Pattern {
    /// Expands and compiles a pattern.
    ///
    /// # Errors
    /// When it names an unknown pattern, nests too deep, or is no regular expression.
    pub(super) fn new(pattern: &str) -> Result<Self, PatternError> {
        let mut expanded = String::from("^(?:");
        let mut fields = Vec::new();
        expand(pattern, &mut expanded, &mut fields, DEPTH_MAX)?;
        expanded.push_str(")$");
        let regex = Regex::new(&expanded).map_err(PatternError::Syntax)?;
        Ok(Self { regex, fields })
    }

    /// The named fields of a line that matches as a whole.
    pub(super) fn fields<'a>(&'a self, line: &'a str) -> Option<impl Iterator<Item = (&'a str, &'a str)>> {
        let mut places: CaptureLocations = self.regex.capture_locations();
        self.regex.captures_read(&mut places, line)?;
        Some(self.fields.iter().enumerate().filter_map(move |(index, name)| {
            let (from, to) = places.get(index + 1)?;
            Some((name.as_str(), &line[from..to]))
        }))
    }
}

fn expand(
    pattern: &str,
    out: &mut String,
    fields: &mut Vec<String>,
    depth: usize,
) -> Result<(), PatternError> {
    let depth = depth.checked_sub(1).ok_or(PatternError::TooDeep)?;
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once("%{") {
        out.push_str(before);
        let (inner, after) = after.split_once('}').ok_or_else(|| PatternError::Unknown(after.to_owned()))?;
        let (name, field) = inner.split_once(':').map_or((inner, None), |(name, field)| (name, Some(field)));
        let (_, piece) = LIBRARY
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| PatternError::Unknown(name.to_owned()))?;
        match field {
            Some(field) => {
                fields.push(field.to_owned());
                write!(out, "(?P<f{}>", fields.len()).expect("writing to a string cannot fail");
            }
            None => out.push_str("(?:"),
        }
        expand(piece, out, fields, depth)?;
        out.push(')');
        rest = after;
    }
    out.push_str(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_library_compiles() {
        for (name, _) in LIBRARY {
            Pattern::new(&format!("%{{{name}}}")).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn fields_come_by_name_and_only_where_the_line_has_them() {
        let pattern = Pattern::new(r"%{LOGLEVEL:level}(?: \[%{INT:thread}\])? %{GREEDYDATA:text}").unwrap();
        let fields: Vec<_> = pattern.fields("WARN low on disk").unwrap().collect();
        assert_eq!(fields, [("level", "WARN"), ("text", "low on disk")]);
        assert!(pattern.fields("hello").is_none());
    }

    #[test]
    fn addresses_are_told_from_what_is_none() {
        let pattern = Pattern::new("%{IP}").unwrap();
        for address in ["127.0.0.1", "::1", "2001:db8::8a2e:370:7334", "::ffff:10.0.0.1", "fe80::1%eth0"] {
            assert!(pattern.fields(address).is_some(), "{address}");
        }
        for other in ["256.0.0.1", "1.2.3", "host", "10:20"] {
            assert!(pattern.fields(other).is_none(), "{other}");
        }
    }

    #[test]
    fn wrong_patterns_are_refused() {
        assert!(matches!(Pattern::new("%{NOPE}"), Err(PatternError::Unknown(_))));
        assert!(matches!(Pattern::new("%{WORD"), Err(PatternError::Unknown(_))));
        assert!(matches!(Pattern::new("("), Err(PatternError::Syntax(_))));
    }
}
