//! Tells what kind of event a line speaks of, by substrings. Not parsing: values are taken only where a kind promises them.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::parse::Parsed;

/// What a line tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogClass {
    /// The head of a Python traceback or of a Rust panic.
    Traceback,
    /// A GPU had no memory left.
    CudaOom,
    /// A collective operation between GPUs timed out.
    NcclTimeout,
    /// Training state was written.
    CheckpointSaved,
    /// A training step, or a round of them, was done.
    TrainingStep,
    /// A request was answered.
    Access,
}

impl LogClass {
    /// Every class.
    pub const ALL: &'static [Self] = &[
        Self::Traceback,
        Self::CudaOom,
        Self::NcclTimeout,
        Self::CheckpointSaved,
        Self::TrainingStep,
        Self::Access,
    ];

    /// The word in the record and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traceback => "traceback",
            Self::CudaOom => "cuda_oom",
            Self::NcclTimeout => "nccl_timeout",
            Self::CheckpointSaved => "checkpoint_saved",
            Self::TrainingStep => "training_step",
            Self::Access => "access",
        }
    }

    /// The class of this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.as_str() == name)
    }
}

/// How much of a line is looked at: what names an event stands at its start.
const LOOK_BYTES: usize = 4096;

/// Classifies a line, and fills in step and loss where a plain training line names them.
pub(crate) fn classify(parsed: &mut Parsed) -> Option<LogClass> {
    let text = head(&parsed.message);
    if let Some(fault) = fault(text) {
        return Some(fault);
    }
    if parsed.status.is_some() && (parsed.method.is_some() || parsed.path.is_some()) {
        return Some(LogClass::Access);
    }
    if is_checkpoint(text) {
        return Some(LogClass::CheckpointSaved);
    }
    if parsed.step.is_none() || parsed.loss.is_none() {
        let (step, loss) = step_and_loss(text);
        parsed.step = parsed.step.or(step);
        parsed.loss = parsed.loss.or(loss);
    }
    (parsed.step.is_some() && parsed.loss.is_some()).then_some(LogClass::TrainingStep)
}

fn fault(text: &str) -> Option<LogClass> {
    let has = |needle: &str| memchr::memmem::find(text.as_bytes(), needle.as_bytes()).is_some();
    if has("CUDA out of memory") || has("CUDA_ERROR_OUT_OF_MEMORY") || has("torch.OutOfMemoryError") {
        Some(LogClass::CudaOom)
    } else if has("Watchdog caught collective operation timeout")
        || (has("NCCL") && (has("timeout") || has("timed out")))
    {
        Some(LogClass::NcclTimeout)
    } else if has("Traceback (most recent call last)") || (has("thread '") && has("panicked at")) {
        Some(LogClass::Traceback)
    } else {
        None
    }
}

fn is_checkpoint(text: &str) -> bool {
    static SAVED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)\b(?:sav(?:ed|ing)|wrote)\b.{0,40}\bcheckpoint|\bcheckpoint\b.{0,40}\b(?:saved|written)\b",
        )
        .expect("the pattern is a constant")
    });
    SAVED.is_match(text)
}

fn step_and_loss(text: &str) -> (Option<i64>, Option<f64>) {
    static STEP: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i)\b(?:global_)?step["']?\s*[=:# ]\s*(\d{1,15})\b"#)
            .expect("the pattern is a constant")
    });
    static LOSS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i)\b(?:train_|training_)?loss["']?\s*[=: ]\s*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"#)
            .expect("the pattern is a constant")
    });
    // Most lines name neither: one cheap search spares two expensive ones.
    if memchr::memmem::find(text.as_bytes(), b"oss").is_none() {
        return (None, None);
    }
    let number = |regex: &Regex| regex.captures(text).map(|found| found[1].to_owned());
    let loss = number(&LOSS).and_then(|text| text.parse::<f64>().ok()).filter(|loss| loss.is_finite());
    (number(&STEP).and_then(|text| text.parse().ok()), loss)
}

fn head(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOOK_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> Option<LogClass> {
        classify(&mut Parsed { message: text.to_owned(), ..Parsed::default() })
    }

    #[test]
    fn known_events_are_named() {
        let table = [
            (
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
                Some(LogClass::CudaOom),
            ),
            ("[rank0]: Traceback (most recent call last):", Some(LogClass::Traceback)),
            ("thread 'main' panicked at src/main.rs:3:5:", Some(LogClass::Traceback)),
            (
                "[Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)",
                Some(LogClass::NcclTimeout),
            ),
            ("Saving model checkpoint to out/checkpoint-500", Some(LogClass::CheckpointSaved)),
            ("checkpoint written step=40", Some(LogClass::CheckpointSaved)),
            ("step 12/900 | loss: 1.25e-1 | lr 0.001", Some(LogClass::TrainingStep)),
            ("{'loss': 0.4, 'grad_norm': 2.0, 'step': 10}", Some(LogClass::TrainingStep)),
            ("a glossy sidestep", None),
            ("listening on http://127.0.0.1:8000", None),
        ];
        for (text, expected) in table {
            assert_eq!(class(text), expected, "{text}");
        }
    }

    #[test]
    fn a_plain_training_line_gives_its_numbers() {
        let mut parsed = Parsed { message: "step 12/900 | loss: 1.25e-1".to_owned(), ..Parsed::default() };
        assert_eq!(classify(&mut parsed), Some(LogClass::TrainingStep));
        assert_eq!((parsed.step, parsed.loss), (Some(12), Some(0.125)));
    }

    #[test]
    fn the_words_are_read_back() {
        for class in LogClass::ALL {
            assert_eq!(LogClass::from_name(class.as_str()), Some(*class));
        }
    }
}
