//! The bulk request and its answer. Pure: bytes in, one outcome per line out, by position.

use serde::Deserialize;

use super::super::record::Entry;
use super::super::sink::{Cause, Outcome};

/// Asks for no more of the answer than is read.
pub(super) const FILTER: &str =
    "filter_path=items.*.status,items.*.failure_store,items.*.error.type,items.*.error.reason";
/// Longest reason kept of a refusal, in bytes.
const REASON_BYTES_MAX: usize = 2048;

/// The body of a bulk request: an action and a document for each line.
pub(super) fn body(batch: &[Entry]) -> Vec<u8> {
    let mut body = Vec::with_capacity(batch.iter().map(|entry| entry.document.len() + 48).sum());
    for entry in batch {
        body.extend_from_slice(format!("{{\"create\":{{\"_id\":\"{}\"}}}}\n", entry.id).as_bytes());
        body.extend_from_slice(entry.document.as_bytes());
        body.push(b'\n');
    }
    body
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    failure_store: Option<String>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(rename = "type")]
    kind: Option<String>,
    reason: Option<String>,
}

/// Reads the answer to a request of `lines` lines; `None` when it is not the answer to such a request.
pub(super) fn read(answer: &[u8], lines: usize) -> Option<Vec<Outcome>> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let fits = answer.items.len() == lines;
    fits.then(|| answer.items.into_iter().map(|item| item.create.outcome()).collect())
}

impl Created {
    fn is_stored(&self) -> bool {
        (200..300).contains(&self.status) && self.failure_store.as_deref() != Some("used")
    }

    fn outcome(self) -> Outcome {
        match self.status {
            _ if self.is_stored() => Outcome::Stored,
            200..300 => self.refused(Cause::FailureStore),
            // The id is ours and made from the line, so what is stored under it is this line.
            409 => Outcome::Stored,
            429 => Outcome::Again(Cause::TooMany),
            408 | 500.. => Outcome::Again(Cause::Unavailable),
            // Rights and targets are set up by people, and may be again: no fault of the line.
            401 | 403 => Outcome::Again(Cause::Denied),
            404 => Outcome::Again(Cause::Missing),
            413 => self.refused(Cause::TooLarge),
            400 => self.refused(Cause::Invalid),
            _ => self.refused(Cause::Refused),
        }
    }

    fn refused(self, cause: Cause) -> Outcome {
        let fault = self
            .error
            .map(|fault| [fault.kind, fault.reason].into_iter().flatten().collect::<Vec<_>>().join(": "));
        let mut reason =
            fault.filter(|text| !text.is_empty()).unwrap_or_else(|| format!("status {}", self.status));
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Outcome::Refused { cause, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(item: &str) -> Option<Outcome> {
        let answer = format!(r#"{{"items":[{{"create":{item}}}]}}"#);
        Some(read(answer.as_bytes(), 1)?.remove(0))
    }

    #[test]
    fn each_status_has_its_outcome() {
        use Cause::{Denied, FailureStore, Invalid, Missing, Refused, TooLarge, TooMany, Unavailable};
        let stored = Some(Outcome::Stored);
        let again = |cause| Some(Outcome::Again(cause));
        let refused = |cause, reason: &str| Some(Outcome::Refused { cause, reason: reason.to_owned() });
        let table = [
            (r#"{"status":201,"_index":"a"}"#, stored.clone()),
            (r#"{"status":201,"failure_store":"not_enabled"}"#, stored.clone()),
            (r#"{"status":409,"error":{"type":"version_conflict_engine_exception"}}"#, stored),
            (r#"{"status":201,"failure_store":"used"}"#, refused(FailureStore, "status 201")),
            (r#"{"status":429,"error":{"type":"es_rejected_execution_exception"}}"#, again(TooMany)),
            (r#"{"status":503}"#, again(Unavailable)),
            (r#"{"status":500}"#, again(Unavailable)),
            (r#"{"status":403}"#, again(Denied)),
            (r#"{"status":404}"#, again(Missing)),
            (r#"{"status":413}"#, refused(TooLarge, "status 413")),
            (
                r#"{"status":400,"error":{"type":"document_parsing_exception","reason":"no"}}"#,
                refused(Invalid, "document_parsing_exception: no"),
            ),
            (r#"{"status":422,"error":{}}"#, refused(Refused, "status 422")),
        ];
        for (item, expected) in table {
            assert_eq!(one(item), expected, "{item}");
        }
    }

    #[test]
    fn outcomes_are_by_position() {
        let answer =
            br#"{"items":[{"create":{"status":201}},{"create":{"status":429}},{"create":{"status":409}}]}"#;
        let expected = [Outcome::Stored, Outcome::Again(Cause::TooMany), Outcome::Stored];
        assert_eq!(read(answer, 3).unwrap(), expected);
    }

    #[test]
    fn an_answer_that_does_not_fit_the_request_is_none() {
        let one = r#"{"items":[{"create":{"status":201}}]}"#;
        assert!(read(one.as_bytes(), 2).is_none());
        for wrong in
            ["", "{}", "<html>", r#"{"items":[{"index":{"status":201}}]}"#, r#"{"items":[{"create":{}}]}"#]
        {
            assert!(read(wrong.as_bytes(), 1).is_none(), "{wrong}");
        }
    }
}
