//! Lines as services write them, and anything else.

use super::*;
use proptest::prelude::*;

fn auto(line: &str) -> Parsed {
    parse(line.as_bytes(), LogFormat::Auto)
}

#[test]
fn a_json_line_of_a_service_is_understood() {
    let line = r#"{"ts":"2026-01-31T08:00:00.250Z","level":"WARN","msg":"slow","method":"POST","path":"/predict","status":200,"duration_ms":12.5,"user":{"id":7,"tags":["a","b"]},"ok":true,"none":null}"#;
    let parsed = auto(line);
    assert_eq!(parsed.at, Some("2026-01-31T08:00:00.250Z".parse().unwrap()));
    assert_eq!(parsed.level, Some(LogLevel::Warn));
    assert_eq!(parsed.message, "slow");
    assert_eq!((parsed.method.as_deref(), parsed.path.as_deref()), (Some("POST"), Some("/predict")));
    assert_eq!((parsed.status, parsed.duration_s), (Some(200), Some(0.0125)));
    let expected = [("user_id", "7"), ("user_tags", r#"["a","b"]"#), ("ok", "true")];
    assert_eq!(parsed.labels, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert!(parsed.flags.is_empty());
}

#[test]
fn a_logfmt_line_of_a_training_job_is_understood() {
    let parsed = auto(
        r#"ts=1769846400.5 level=info msg="step done: \"x\"" step=40 loss=0.5 duration_ms=20 rank=0 final"#,
    );
    assert_eq!(parsed.at, Some(Timestamp::from_millis(1_769_846_400_500)));
    assert_eq!(parsed.message, r#"step done: "x""#);
    assert_eq!((parsed.step, parsed.loss, parsed.duration_s), (Some(40), Some(0.5), Some(0.02)));
    assert_eq!(parsed.labels, [("rank".to_owned(), "0".to_owned()), ("final".to_owned(), "true".to_owned())]);
}

#[test]
fn common_and_combined_access_lines_are_understood() {
    let common =
        r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif?x=1 HTTP/1.0" 200 2326"#;
    let parsed = auto(common);
    assert_eq!(parsed.at, Some("2000-10-10T20:55:36Z".parse().unwrap()));
    assert_eq!(parsed.client.as_deref(), Some("127.0.0.1"));
    assert_eq!((parsed.method.as_deref(), parsed.path.as_deref()), (Some("GET"), Some("/apache_pb.gif?x=1")));
    assert_eq!((parsed.status, parsed.response_bytes), (Some(200), Some(2326)));
    assert_eq!(parsed.message, "GET /apache_pb.gif?x=1 200");

    let combined = format!(r#"{common} "http://example.org/" "Mozilla/5.0 (\"quoted\")""#);
    let parsed = auto(&combined.replace("127.0.0.1", "2001:db8::1").replace("2326", "-"));
    assert_eq!((parsed.client.as_deref(), parsed.response_bytes), (Some("2001:db8::1"), None));
    assert!(parsed.labels.contains(&("user_agent".to_owned(), r#"Mozilla/5.0 (\"quoted\")"#.to_owned())));
}

#[test]
fn a_field_of_the_wrong_type_is_kept_as_a_label() {
    let parsed = auto(r#"{"msg":"m","status":"fine","step":1.5,"level":"loud","ts":"yesterday"}"#);
    assert_eq!((parsed.status, parsed.step, parsed.level, parsed.at), (None, None, None, None));
    assert_eq!(parsed.labels.len(), 4);
}

#[test]
fn what_does_not_parse_ships_raw_with_a_flag() {
    for (line, format) in [
        ("{\"msg\": \"torn", LogFormat::Json),
        ("[1, 2]", LogFormat::Json),
        ("just words", LogFormat::Auto),
        ("a=1 but then words", LogFormat::Auto),
        ("10.0.0.1 - - [now] \"GET\" x", LogFormat::Access),
    ] {
        let parsed = parse(line.as_bytes(), format);
        assert_eq!(parsed.message, line);
        assert_eq!(parsed.flags, [LogFlag::Unparsed], "{line}");
    }
    assert!(parse(b"just words", LogFormat::Raw).flags.is_empty());
}

#[test]
fn broken_utf8_is_replaced_and_flagged() {
    let parsed = parse(b"caf\xe9", LogFormat::Auto);
    assert_eq!(parsed.message, "caf\u{fffd}");
    assert_eq!(parsed.flags, [LogFlag::Unparsed, LogFlag::InvalidUtf8]);
}

#[test]
fn progress_and_colours_are_taken_out_and_the_original_kept() {
    let parsed = auto("10%\r50%\r\u{1b}[32m100%\u{1b}[0m done");
    assert_eq!(parsed.message, "100% done");
    assert_eq!(parsed.original.as_deref(), Some("10%\r50%\r\u{1b}[32m100%\u{1b}[0m done"));
}

#[test]
fn a_level_word_of_a_plain_line_counts() {
    assert_eq!(auto("2026-01-31 08:00:00,123 ERROR app: it broke").level, Some(LogLevel::Error));
    assert_eq!(auto("INFO:     127.0.0.1:5000 - \"GET / HTTP/1.1\" 200 OK").level, Some(LogLevel::Info));
    assert_eq!(auto("no error here").level, None);
}

#[test]
fn further_fields_are_bounded_in_number_and_length() {
    let mut fields: Vec<String> = (0..100).map(|n| format!(r#""k{n}":"{}""#, "é".repeat(2000))).collect();
    fields.push(r#""msg":"m""#.to_owned());
    let parsed = auto(&format!("{{{}}}", fields.join(",")));
    assert_eq!(parsed.labels.len(), LABELS_MAX);
    assert!(parsed.labels.iter().all(|(_, text)| text.len() <= LABEL_TEXT_BYTES_MAX));
    assert_eq!((parsed.message.as_str(), parsed.flags.as_slice()), ("m", &[LogFlag::Truncated][..]));
}

proptest! {
    #[test]
    fn any_bytes_give_a_record(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for format in [LogFormat::Auto, LogFormat::Json, LogFormat::Logfmt, LogFormat::Access, LogFormat::Raw] {
            let parsed = parse(&bytes, format);
            prop_assert!(parsed.labels.len() <= LABELS_MAX);
        }
    }

    #[test]
    fn any_text_that_looks_structured_gives_a_record(text in "[{}\\[\\]\"=\\\\:, a-c0-9.\\-]{0,120}") {
        parse(text.as_bytes(), LogFormat::Auto);
    }
}
