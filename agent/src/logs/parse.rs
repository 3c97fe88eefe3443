//! One line of bytes to what it says. Pure and total: what cannot be parsed comes back raw, with a flag.

mod access;
mod grok;
mod json;
mod level;
mod logfmt;
mod moment;
mod words;

use std::borrow::Cow;

use tidegate_core::Timestamp;

pub use level::LogLevel;

use super::source::LogFormat;

/// Most further fields kept of one line; each may become a field of the index, and those are few.
const LABELS_MAX: usize = 32;
/// Longest name of a further field, in bytes.
const LABEL_NAME_BYTES_MAX: usize = 64;
/// Longest text of a further field, in bytes.
const LABEL_TEXT_BYTES_MAX: usize = 1024;

/// What was done to a line. The words stand in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFlag {
    /// It is in no known format, or not in the one it should be in.
    Unparsed,
    /// It, or one of its fields, was longer than the bound and was cut.
    Truncated,
    /// It held bytes that are not UTF-8; they were replaced.
    InvalidUtf8,
}

impl LogFlag {
    /// The word in the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unparsed => "unparsed",
            Self::Truncated => "truncated",
            Self::InvalidUtf8 => "invalid_utf8",
        }
    }
}

/// What a line says. `None` is what it does not say.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Parsed {
    pub(crate) at: Option<Timestamp>,
    pub(crate) level: Option<LogLevel>,
    pub(crate) message: String,
    /// The line as it was, where `message` is only what could be saved of it.
    pub(crate) original: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) status: Option<i64>,
    pub(crate) response_bytes: Option<i64>,
    pub(crate) client: Option<String>,
    pub(crate) duration_s: Option<f64>,
    pub(crate) step: Option<i64>,
    pub(crate) loss: Option<f64>,
    pub(crate) service: Option<String>,
    pub(crate) logger: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) span: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) flags: Vec<LogFlag>,
}

impl Parsed {
    pub(crate) fn flag(&mut self, flag: LogFlag) {
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }

    /// Puts a named text where it belongs.
    pub(crate) fn put(&mut self, name: &str, text: &str) {
        words::assign(self, name, words::Word::bare(text));
    }

    /// Keeps a field that has no place of its own. Dots would make objects of it, and so become underscores.
    fn label(&mut self, name: &str, text: &str) {
        if self.labels.len() >= LABELS_MAX {
            return self.flag(LogFlag::Truncated);
        }
        let short = cut(name, LABEL_NAME_BYTES_MAX).trim_matches('.').replace('.', "_");
        let (name, text) = (short, cut(text, LABEL_TEXT_BYTES_MAX));
        if name.trim().is_empty() || self.labels.iter().any(|(known, _)| *known == name) {
            return;
        }
        self.labels.push((name, text.to_owned()));
    }
}

/// Parses one line.
pub(crate) fn parse(bytes: &[u8], format: LogFormat) -> Parsed {
    let text = String::from_utf8_lossy(bytes);
    let mut parsed = match format {
        LogFormat::Raw => None,
        LogFormat::Json => json::parse(&text),
        LogFormat::Logfmt => logfmt::parse(&text),
        LogFormat::Access => access::parse(&text),
        LogFormat::Auto | LogFormat::Cri | LogFormat::Pushed => detect(&text),
    }
    .unwrap_or_else(|| raw(&text, format));
    if matches!(text, Cow::Owned(_)) {
        parsed.flag(LogFlag::InvalidUtf8);
    }
    parsed
}

/// The first byte, or the first word, tells the formats apart; each parser then decides for itself.
fn detect(text: &str) -> Option<Parsed> {
    let text = text.trim_start();
    if text.starts_with('{') {
        return json::parse(text);
    }
    let first = text.split_ascii_whitespace().next()?;
    if first.contains('=') {
        return logfmt::parse(text);
    }
    if text.contains("] \"") { access::parse(text) } else { None }
}

fn raw(text: &str, format: LogFormat) -> Parsed {
    let clean = readable(text);
    let mut parsed = Parsed {
        level: level::spotted(&clean),
        original: (clean != text).then(|| text.to_owned()),
        message: clean.into_owned(),
        ..Parsed::default()
    };
    if format != LogFormat::Raw {
        parsed.flag(LogFlag::Unparsed);
    }
    parsed
}

/// Drops what a terminal would not show: overwritten progress before the last `\r`, and colour sequences.
fn readable(text: &str) -> Cow<'_, str> {
    let shown = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or(text);
    if !shown.contains('\u{1b}') {
        return Cow::Borrowed(shown);
    }
    let mut clean = String::with_capacity(shown.len());
    let mut rest = shown;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        clean.push_str(before);
        rest = match after.strip_prefix('[') {
            Some(sequence) => {
                let end =
                    sequence.find(|c: char| c.is_ascii_alphabetic()).map_or(sequence.len(), |at| at + 1);
                &sequence[end..]
            }
            None => after,
        };
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests;
