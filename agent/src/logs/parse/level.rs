//! How grave a line says it is, in one scale for every logger.

use serde::{Deserialize, Serialize};

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Finer than debug.
    Trace,
    /// For developers.
    Debug,
    /// A change of state.
    Info,
    /// Recovered, but worth a look.
    Warn,
    /// Something failed.
    Error,
    /// The program cannot go on.
    Fatal,
}

impl LogLevel {
    /// The word in the record and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// The level of a logger's word for it, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.trim();
        if word.len() > 13 {
            return None;
        }
        match word.to_ascii_lowercase().as_str() {
            "trace" | "finest" => Some(Self::Trace),
            "debug" | "dbg" | "fine" => Some(Self::Debug),
            "info" | "information" | "informational" | "notice" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" | "err" | "severe" => Some(Self::Error),
            "fatal" | "critical" | "crit" | "panic" | "alert" | "emerg" | "emergency" => Some(Self::Fatal),
            _ => None,
        }
    }

    /// The level of a number in tens, as Python's, bunyan's and pino's loggers write it.
    pub(super) fn from_number(number: f64) -> Option<Self> {
        // Python counts from debug = 10, the others from trace = 10: their infos differ by ten, and 20 as info is the more common.
        let tens = number / 10.0;
        (tens.fract() == 0.0).then_some(())?;
        [
            (1.0, Self::Debug),
            (2.0, Self::Info),
            (3.0, Self::Warn),
            (4.0, Self::Error),
            (5.0, Self::Fatal),
            (6.0, Self::Fatal),
        ]
        .into_iter()
        .find_map(|(at, level)| (at == tens).then_some(level))
    }
}

/// How far into a plain line its level may stand: behind a timestamp and a logger's name.
const SPOT_BYTES: usize = 80;

/// The level that a plain line names in capitals near its start.
pub(super) fn spotted(text: &str) -> Option<LogLevel> {
    let head = &text[..text.floor_char_boundary(SPOT_BYTES)];
    head.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() >= 4 && word.bytes().all(|byte| byte.is_ascii_uppercase()))
        .find_map(LogLevel::from_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_of_the_usual_loggers_are_known() {
        for (word, level) in
            [("WARNING", LogLevel::Warn), ("Err", LogLevel::Error), (" critical ", LogLevel::Fatal)]
        {
            assert_eq!(LogLevel::from_word(word), Some(level));
        }
        assert_eq!(LogLevel::from_number(40.0), Some(LogLevel::Error));
        assert_eq!(LogLevel::from_number(45.0), None);
        assert_eq!(LogLevel::from_word("loud"), None);
    }
}
