//! A line of `key=value` pairs; values may be quoted with `"`, and a key may stand alone, which means `true`.

use std::borrow::Cow;

use super::Parsed;
use super::words::{Word, assign};

/// Longest key believed to be one, in bytes: anything longer is prose or base64.
const KEY_BYTES_MAX: usize = 64;

/// Parses pairs; `None` when the line has fewer than two, or anything that is not a pair or a key.
pub(super) fn parse(text: &str) -> Option<Parsed> {
    let mut parsed = Parsed::default();
    let mut pairs = 0;
    let mut bare = 0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let key_end = rest.find(|c: char| c == '=' || c.is_ascii_whitespace()).unwrap_or(rest.len());
        let (key, after) = rest.split_at(key_end);
        if !is_key(key) {
            return None;
        }
        rest = match after.strip_prefix('=') {
            Some(after) => {
                pairs += 1;
                let (word, quoted, rest) = value(after)?;
                assign(&mut parsed, key, if quoted { Word::Text(&word) } else { Word::bare(&word) });
                rest
            }
            None => {
                bare += 1;
                assign(&mut parsed, key, Word::Text("true"));
                after
            }
        }
        .trim_start();
    }
    // Prose with a stray `a=1` in it has more lone words than pairs.
    if pairs < 2 || bare > pairs {
        return None;
    }
    if parsed.message.is_empty() {
        text.clone_into(&mut parsed.message);
    }
    Some(parsed)
}

fn is_key(key: &str) -> bool {
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '/');
    !key.is_empty() && key.len() <= KEY_BYTES_MAX && key.chars().all(right)
}

/// The value at the start of `text`, whether it was quoted, and what follows it.
fn value(text: &str) -> Option<(Cow<'_, str>, bool, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return (!word.contains('"')).then_some((Cow::Borrowed(word), false, rest));
    };
    let mut escaped = false;
    let end = inner.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    let (word, rest) = (&inner[..end], &inner[end + 1..]);
    if !(rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_whitespace())) {
        return None;
    }
    let word = if word.contains('\\') { Cow::Owned(unescape(word)) } else { Cow::Borrowed(word) };
    Some((word, true, rest))
}

fn unescape(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some('t')) => plain.push('\t'),
            ('\\', Some('r')) => plain.push('\r'),
            ('\\', Some(other)) => plain.push(other),
            (other, _) => plain.push(other),
        }
    }
    plain
}
