//! Which of a record's fields an application's own name for it means: `msg`, `message`, `levelname`, `duration_ms` and their kin.
//! These are names of other people's fields; Tidegate's own are in the catalogue.

use super::{LogLevel, Parsed, moment};

/// A value as the line gives it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word<'a> {
    /// Text, or anything that is shown as such.
    Text(&'a str),
    /// A number, with how it was written.
    Number(f64, &'a str),
}

impl<'a> Word<'a> {
    /// A bare value: a number where it looks like one.
    pub(super) fn bare(text: &'a str) -> Self {
        let digits = text.as_bytes().last().is_some_and(u8::is_ascii_digit);
        match text.parse::<f64>() {
            Ok(number) if digits && number.is_finite() => Self::Number(number, text),
            _ => Self::Text(text),
        }
    }

    const fn text(self) -> &'a str {
        match self {
            Self::Text(text) | Self::Number(_, text) => text,
        }
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Number(number, _) => Some(number),
            Self::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        }
    }

    /// A whole number that a double holds exactly.
    fn whole(self) -> Option<i64> {
        let number = self.number().filter(|number| number.fract() == 0.0 && number.abs() < 9.0e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and in range, checked in the line before")]
        Some(number as i64)
    }
}

/// Puts a named value where it belongs; what has no place, or not the right type for it, becomes a label.
pub(super) fn assign(parsed: &mut Parsed, name: &str, word: Word<'_>) {
    if !place(parsed, name, word) {
        parsed.label(name, word.text());
    }
}

fn place(parsed: &mut Parsed, name: &str, word: Word<'_>) -> bool {
    match name {
        "ts" | "time" | "timestamp" | "@timestamp" | "asctime" | "datetime" => {
            let at = match word {
                Word::Number(number, _) => moment::from_epoch(number),
                Word::Text(text) => moment::from_text(text),
            };
            fill(&mut parsed.at, at)
        }
        "level" | "lvl" | "severity" | "levelname" | "loglevel" | "log.level" => {
            let level = match word {
                Word::Number(number, _) => LogLevel::from_number(number),
                Word::Text(text) => LogLevel::from_word(text),
            };
            fill(&mut parsed.level, level)
        }
        "msg" | "message" | "event" if parsed.message.is_empty() => {
            word.text().clone_into(&mut parsed.message);
            true
        }
        "method" | "verb" | "http.method" | "http.request.method" => fill(&mut parsed.method, text(word)),
        "path" | "uri" | "request" | "http.path" | "url.path" | "http.target" => {
            fill(&mut parsed.path, text(word))
        }
        "client" | "clientip" | "client_ip" | "client.address" | "remote_addr" => {
            fill(&mut parsed.client, text(word))
        }
        "status" | "status_code" | "response" | "http.status_code" | "http.response.status_code" => {
            fill(&mut parsed.status, word.whole().filter(|status| (100..600).contains(status)))
        }
        "bytes" | "bytes_sent" | "response_bytes" => fill(&mut parsed.response_bytes, word.whole()),
        "duration_ms" | "latency_ms" | "elapsed_ms" => {
            fill(&mut parsed.duration_s, word.number().map(|ms| ms / 1000.0))
        }
        "duration_s" | "latency_s" | "elapsed_s" | "duration_seconds" => {
            fill(&mut parsed.duration_s, word.number())
        }
        "step" | "global_step" => fill(&mut parsed.step, word.whole()),
        "trace_id" | "traceId" | "trace.id" | "otelTraceID" => fill(&mut parsed.trace, id(word)),
        "span_id" | "spanId" | "span.id" | "otelSpanID" => fill(&mut parsed.span, id(word)),
        "loss" | "train_loss" | "training_loss" => fill(&mut parsed.loss, word.number()),
        _ => false,
    }
}

fn text(word: Word<'_>) -> Option<String> {
    let text = word.text();
    (!text.is_empty() && text.len() <= super::LABEL_TEXT_BYTES_MAX).then(|| text.to_owned())
}

/// An id of a trace or a span; loggers write zeros where there is none.
fn id(word: Word<'_>) -> Option<String> {
    text(word).filter(|id| id.bytes().any(|byte| byte != b'0'))
}

/// Fills an empty place; says whether it took the value.
fn fill<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    if place.is_some() || value.is_none() {
        return false;
    }
    *place = value;
    true
}
