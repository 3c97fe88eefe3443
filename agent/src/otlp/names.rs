//! OpenTelemetry's names as Prometheus has them, by the rules of both projects ("Prometheus and OpenMetrics Compatibility"): so that
//! what is pushed is found by the same rules as what is scraped. No I/O.

use super::messages::{AnyValue, KeyValue, any_value::Value};
use super::points::Kind;

/// Longest name that is accepted, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 255;
/// Longest label value that is accepted, in bytes.
pub(super) const VALUE_BYTES_MAX: usize = 1024;
/// Most labels of one series.
pub(super) const LABELS_MAX: usize = 48;

/// Units of UCUM, and the words that names end in.
const UNITS: [(&str, &str); 22] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];
/// Units of time after a stroke.
const PER: [(&str, &str); 5] = [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week")];

/// The name of a family; `None` when nothing is left of it, or too much.
pub(super) fn family(name: &str, unit: &str, kind: Kind) -> Option<String> {
    let mut words: Vec<&str> = name
        .split(|c: char| !c.is_ascii_alphanumeric() && c != ':')
        .filter(|word| !word.is_empty())
        .collect();
    for word in unit_words(unit, kind) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if kind == Kind::Counter {
        words.retain(|word| *word != "total");
        words.push("total");
    }
    let mut made = words.join("_");
    if made.starts_with(|c: char| c.is_ascii_digit()) {
        made.insert(0, '_');
    }
    (!made.is_empty() && made.len() <= NAME_BYTES_MAX && name.len() <= NAME_BYTES_MAX).then_some(made)
}

/// The words that a unit adds to a name: `By/s` is `bytes`, `per`, `second`. What stands in braces is a remark.
fn unit_words(unit: &str, kind: Kind) -> Vec<&'static str> {
    if unit == "1" {
        return if kind == Kind::Gauge { vec!["ratio"] } else { Vec::new() };
    }
    let find = |table: &[(&str, &'static str)], unit: &str| {
        table.iter().find(|(known, _)| *known == unit).map(|(_, word)| *word)
    };
    let (over, per) = unit.split_once('/').unwrap_or((unit, ""));
    let mut words: Vec<_> = find(&UNITS, over).into_iter().collect();
    words.extend(find(&PER, per).into_iter().flat_map(|per| ["per", per]));
    words
}

/// A label's name: whatever none may have becomes `_`.
fn label(key: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let made: String = key.chars().map(clean).collect();
    if made.starts_with(|c: char| c.is_ascii_digit()) { format!("key_{made}") } else { made }
}

/// A value as text. Of lists, maps and bytes, which are no labels in practice, only that they are there.
pub(super) fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(is)) => is.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(_)) => "[…]".into(),
        Some(Value::KvlistValue(_)) => "{…}".into(),
        Some(Value::BytesValue(_)) => "<…>".into(),
        None => String::new(),
    }
}

/// The attribute `key`, if it is there and not empty.
pub(super) fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(text(found.value.as_ref())).filter(|text| !text.is_empty())
}

/// Labels as they stand between the braces of a text page, in the order of their names: those of the point, and of `origin` those
/// that it lacks. `None` when there are too many, one is too long, or one is called as the format itself calls one.
pub(super) fn labels(attributes: &[KeyValue], origin: &[(&str, String)]) -> Option<String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if attributes.len() > LABELS_MAX {
        return None;
    }
    for attribute in attributes.iter().filter(|attribute| !attribute.key.is_empty()) {
        let (name, value) = (label(&attribute.key), text(attribute.value.as_ref()));
        match pairs.iter_mut().find(|(known, _)| *known == name) {
            // Two keys that become one label: both values, as the projects have agreed.
            Some((_, known)) => *known = format!("{known};{value}"),
            None => pairs.push((name, value)),
        }
    }
    for (name, value) in origin {
        if !value.is_empty() && !pairs.iter().any(|(known, _)| known == name) {
            pairs.push(((*name).to_owned(), value.clone()));
        }
    }
    let is_sound = |(name, value): &(String, String)| {
        name.len() <= NAME_BYTES_MAX && value.len() <= VALUE_BYTES_MAX && name != "le" && name != "quantile"
    };
    if !pairs.iter().all(is_sound) {
        return None;
    }
    pairs.sort();
    let mut raw = String::new();
    for (name, value) in pairs {
        if !raw.is_empty() {
            raw.push(',');
        }
        raw.push_str(&name);
        raw.push_str("=\"");
        crate::export::escape(&mut raw, &value, true);
        raw.push('"');
    }
    Some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_what_a_collector_would_show() {
        for (name, unit, kind, expected) in [
            ("http.server.request.duration", "s", Kind::Histogram, "http_server_request_duration_seconds"),
            (
                "gen_ai.server.time_to_first_token",
                "s",
                Kind::Histogram,
                "gen_ai_server_time_to_first_token_seconds",
            ),
            ("http.server.active_requests", "{request}", Kind::Gauge, "http_server_active_requests"),
            ("http.server.duration", "ms", Kind::Histogram, "http_server_duration_milliseconds"),
            ("vllm:num_requests_running", "", Kind::Gauge, "vllm:num_requests_running"),
            ("vllm:prompt_tokens_total", "", Kind::Counter, "vllm:prompt_tokens_total"),
            ("served", "1", Kind::Counter, "served_total"),
            ("cache.use", "1", Kind::Gauge, "cache_use_ratio"),
            ("net.io", "By/s", Kind::Gauge, "net_io_bytes_per_second"),
            ("io_bytes", "By", Kind::Counter, "io_bytes_total"),
            ("2x", "", Kind::Gauge, "_2x"),
        ] {
            assert_eq!(family(name, unit, kind).as_deref(), Some(expected));
        }
        assert_eq!(family("…", "", Kind::Gauge), None);
        assert_eq!(family(&"a".repeat(300), "", Kind::Gauge), None);
    }

    #[test]
    fn labels_are_in_order_and_escaped() {
        let of = |pairs: &[(&str, &str)]| -> Vec<KeyValue> {
            let value = |text: &str| AnyValue { value: Some(Value::StringValue(text.to_owned())) };
            pairs
                .iter()
                .map(|(key, text)| KeyValue { key: (*key).into(), value: Some(value(text)) })
                .collect()
        };
        let origin = [("job", "shop/chat".to_owned()), ("pod", String::new())];
        let raw = labels(&of(&[("url.scheme", "https"), ("a b", "\"x\"\n"), ("a.b", "y")]), &origin);
        assert_eq!(raw.as_deref(), Some(r#"a_b="\"x\"\n;y",job="shop/chat",url_scheme="https""#));
        assert_eq!(labels(&of(&[("le", "1")]), &[]), None);
        assert_eq!(labels(&of(&[("a", &"x".repeat(VALUE_BYTES_MAX + 1))]), &[]), None);
    }
}
