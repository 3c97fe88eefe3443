//! Records that senders push, as they stand in the spool: one JSON object a line, so that they are read like any file. No I/O.

use serde::{Deserialize, Serialize};
use tidegate_core::Timestamp;

use super::identity::EventId;
use super::lines::LINE_BYTES_MAX;
use super::parse::{LogFlag, LogLevel, Parsed, parse};
use super::source::LogFormat;

/// Longest text kept of a record, in bytes; with what JSON adds to it, it mostly fits a line.
const BODY_BYTES_MAX: usize = LINE_BYTES_MAX / 2;
/// Longest text that fits a line whatever JSON makes of it: up to six bytes of one.
const BODY_BYTES_SURE: usize = LINE_BYTES_MAX / 16;

/// Who pushes: what its resource says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PushedBy {
    pub(crate) service: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) pod: Option<String>,
    pub(crate) pod_uid: Option<String>,
    pub(crate) container: Option<String>,
    pub(crate) restarts: Option<u32>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PushedLine {
    /// What it is stored under; without, the place in the spool makes it.
    pub(crate) id: Option<EventId>,
    pub(crate) by: PushedBy,
    pub(crate) at: Option<Timestamp>,
    pub(crate) level: Option<LogLevel>,
    pub(crate) body: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) logger: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) span: Option<String>,
    /// Whether something of it was cut off.
    pub(crate) truncated: bool,
}

impl PushedLine {
    /// The line, with its end; never longer than is read again.
    pub(crate) fn encode(mut self) -> Vec<u8> {
        self.cut(BODY_BYTES_MAX);
        let mut text = serde_json::to_vec(&self).expect("texts and numbers are JSON");
        if text.len() > LINE_BYTES_MAX {
            self.labels.clear();
            self.truncated = true;
            self.cut(BODY_BYTES_SURE);
            text = serde_json::to_vec(&self).expect("texts and numbers are JSON");
        }
        text.push(b'\n');
        text
    }

    fn cut(&mut self, bytes_max: usize) {
        if self.body.len() > bytes_max {
            self.body.truncate(self.body.floor_char_boundary(bytes_max));
            self.truncated = true;
        }
    }

    /// From a line; `None` when it is not one of these.
    pub(crate) fn decode(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// What it says. A text is looked at like a line of a file; what the sender says beside it comes first.
    pub(crate) fn parsed(self) -> Parsed {
        let mut parsed = parse(self.body.as_bytes(), LogFormat::Auto);
        parsed.flags.retain(|flag| *flag != LogFlag::Unparsed);
        if self.truncated {
            parsed.flag(LogFlag::Truncated);
        }
        parsed.at = self.at.or(parsed.at);
        parsed.level = self.level.or(parsed.level);
        parsed.trace = self.trace.or(parsed.trace);
        parsed.span = self.span.or(parsed.span);
        (parsed.service, parsed.logger) = (self.by.service, self.logger);
        for (name, text) in &self.labels {
            parsed.put(name, text);
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_sender_says_comes_before_what_the_text_says() {
        let at = Timestamp::from_secs(1_769_846_400);
        let line = PushedLine {
            at: Some(at),
            level: Some(LogLevel::Warn),
            body: r#"{"level":"error","msg":"out of pages","step":7,"user.name":"a"}"#.into(),
            labels: vec![("http.response.status_code".into(), "503".into()), ("gpu".into(), "0".into())],
            trace: Some("4bf9".into()),
            ..PushedLine::default()
        };
        let parsed = PushedLine::decode(&line.encode()).unwrap().parsed();
        assert_eq!((parsed.at, parsed.level), (Some(at), Some(LogLevel::Warn)));
        assert_eq!(
            (parsed.message.as_str(), parsed.step, parsed.status),
            ("out of pages", Some(7), Some(503))
        );
        assert_eq!(parsed.trace.as_deref(), Some("4bf9"));
        assert!(parsed.labels.contains(&("gpu".into(), "0".into())), "{:?}", parsed.labels);
        assert!(parsed.flags.is_empty());
    }

    #[test]
    fn plain_text_is_what_a_record_is_made_of_and_no_fault() {
        let line = PushedLine { body: "Traceback (most recent call last):".into(), ..PushedLine::default() };
        let parsed = line.parsed();
        assert!(parsed.flags.is_empty() && parsed.message.starts_with("Traceback"));
    }

    proptest! {
        #[test]
        fn every_record_is_one_line_that_is_read_again(
            body in prop_oneof!["\\PC{0,40}", "[\u{0}-\u{1f}\"]{0,40}"], times in prop::sample::select(vec![1_usize, 9000]),
            name in ".{0,20}", label in ".{0,1024}", labels in 0_usize..32,
        ) {
            let labels = (0..labels).map(|n| (format!("{name}{n}"), label.clone())).collect();
            let line = PushedLine { body: body.repeat(times), labels, ..PushedLine::default() };
            let encoded = line.clone().encode();
            prop_assert!(encoded.len() <= LINE_BYTES_MAX + 1);
            prop_assert_eq!(encoded.iter().filter(|byte| **byte == b'\n').count(), 1);
            let read = PushedLine::decode(&encoded).unwrap();
            prop_assert!(line.body.starts_with(&read.body));
            prop_assert_eq!(read.truncated, read.body != line.body || read.labels != line.labels);
        }
    }
}
