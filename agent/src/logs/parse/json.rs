//! A line that is one JSON object.

use serde_json::{Map, Value};

use super::words::{Word, assign};
use super::{LABELS_MAX, Parsed};

/// How deep objects are opened into `outer_inner` labels; what lies deeper is kept as JSON text.
const DEPTH_MAX: usize = 3;

/// Parses an object; `None` when the line is anything else.
pub(super) fn parse(text: &str) -> Option<Parsed> {
    let fields: Map<String, Value> = serde_json::from_str(text).ok()?;
    let mut parsed = Parsed::default();
    for (name, value) in &fields {
        spread(&mut parsed, name, value, DEPTH_MAX);
    }
    if parsed.message.is_empty() {
        text.clone_into(&mut parsed.message);
    }
    Some(parsed)
}

fn spread(parsed: &mut Parsed, name: &str, value: &Value, depth: usize) {
    match value {
        Value::Null => {}
        Value::String(text) => assign(parsed, name, Word::Text(text)),
        Value::Number(number) => match number.as_f64() {
            Some(float) => assign(parsed, name, Word::Number(float, &number.to_string())),
            None => assign(parsed, name, Word::Text(&number.to_string())),
        },
        Value::Object(fields) if depth > 1 => {
            for (inner, value) in fields.iter().take(LABELS_MAX + 1) {
                spread(parsed, &format!("{name}.{inner}"), value, depth - 1);
            }
        }
        other => assign(parsed, name, Word::Text(&other.to_string())),
    }
}
