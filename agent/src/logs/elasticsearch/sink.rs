//! Stores batches by `_bulk`, and finds out what became of a batch whose answer never came.

use std::collections::HashSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::bulk;
use super::client::{Answer, Client, ClientError};
use super::{ElasticsearchConfig, template};
use crate::logs::record::Entry;
use crate::logs::sink::{Cause, Failure, Outcome, Sink};

/// Ids asked for at once: keeps requests and answers well under a megabyte.
const IDS_AT_ONCE: usize = 1000;
/// Earlier backing indices that are looked into. A lost answer is minutes old, rarely a restart's length: more rollovers than
/// these do not fit in between.
const EARLIER_INDICES_MAX: usize = 8;

/// Writes to one data stream.
#[derive(Debug)]
pub(crate) struct Elasticsearch {
    client: Client,
    stream: String,
}

impl Elasticsearch {
    /// Reads certificates and secrets. Does not connect: a server that is away is waited for.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub(crate) fn new(config: &ElasticsearchConfig) -> Result<Self, ClientError> {
        template::check_stream_name(&config.stream).map_err(ClientError::Address)?;
        Ok(Self { client: Client::new(config)?, stream: config.stream.clone() })
    }

    /// Ids of the batch that are stored already, in an earlier backing index.
    ///
    /// A `create` of a known id conflicts only within one backing index, so this is asked where an answer got lost and the
    /// stream may have rolled over since. Asked by id and not by search, which would see only what was refreshed.
    async fn stored_earlier(&self, batch: &[Entry]) -> Result<HashSet<String>, Failure> {
        let backing = self.backing_indices().await?;
        let Some((_written, earlier)) = backing.split_last() else { return Ok(HashSet::new()) };
        let mut found = HashSet::new();
        for index in earlier.iter().rev().take(EARLIER_INDICES_MAX) {
            for part in batch.chunks(IDS_AT_ONCE) {
                let ids: Vec<String> = part.iter().map(|entry| entry.id.to_string()).collect();
                let path = format!("{index}/_mget?_source=false&filter_path=docs._id,docs.found");
                let answer = self.ask(Method::POST, &path, Some(&json!({ "ids": ids }))).await?;
                let documents = answer["docs"].as_array().into_iter().flatten();
                let documents = documents.filter(|document| document["found"] == true);
                found.extend(documents.filter_map(|document| Some(document["_id"].as_str()?.to_owned())));
            }
        }
        Ok(found)
    }

    /// The backing indices of the stream, the one that is written last; none while there is no such stream.
    async fn backing_indices(&self) -> Result<Vec<String>, Failure> {
        let resolved = self.ask(Method::GET, &format!("_resolve/index/{}", self.stream), None).await?;
        Ok(backing_indices(&resolved))
    }

    /// Asks about what is stored. `null` when there is nothing of that name, or when the account may not know.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        // Nothing is written by these requests, so nothing is uncertain when they fail.
        let certain = |failure| Failure { answer_lost: false, ..failure };
        let answer = self.client.json(method, path, body).await.map_err(|error| certain(lost(error)))?;
        match answer.status {
            status if status.is_success() => answer.json().map_err(|error| certain(lost(error))),
            StatusCode::NOT_FOUND => Ok(Value::Null),
            StatusCode::FORBIDDEN => {
                // Waiting would not help, and `check` names the missing right: go on as if nothing had rolled over.
                tracing::warn!(
                    "not allowed to look whether lines are stored already; a rollover may double some"
                );
                Ok(Value::Null)
            }
            _ => Err(certain(whole(&answer))),
        }
    }

    async fn create(&self, batch: &[Entry]) -> Result<Vec<Outcome>, Failure> {
        let path = format!("{}/_bulk?{}", self.stream, bulk::FILTER);
        let answer = self.client.lines(&path, &bulk::body(batch)).await.map_err(lost)?;
        if !answer.status.is_success() {
            return Err(whole(&answer));
        }
        let outcomes = bulk::read(&answer.body, batch.len());
        outcomes.ok_or(Failure { answer_lost: true, ..Failure::new(Cause::BadAnswer) })
    }
}

impl Sink for Elasticsearch {
    async fn store(&self, batch: &[Entry], uncertain: bool) -> Result<Vec<Outcome>, Failure> {
        let known = if uncertain { self.stored_earlier(batch).await? } else { HashSet::new() };
        if known.is_empty() {
            return self.create(batch).await;
        }
        let missing: Vec<Entry> =
            batch.iter().filter(|entry| !known.contains(&entry.id.to_string())).cloned().collect();
        let outcomes = if missing.is_empty() { Vec::new() } else { self.create(&missing).await? };
        let mut outcomes = outcomes.into_iter();
        let outcome = |entry: &Entry| {
            if known.contains(&entry.id.to_string()) {
                return Outcome::Stored;
            }
            outcomes.next().expect("the answer has an outcome for each line that was sent")
        };
        Ok(batch.iter().map(outcome).collect())
    }
}

/// The backing indices of the one data stream in the answer of `_resolve/index`, which gives a lone one without a list.
fn backing_indices(resolved: &Value) -> Vec<String> {
    let name = |index: &Value| index.as_str().map(str::to_owned);
    match resolved["data_streams"].get(0).map(|stream| &stream["backing_indices"]) {
        Some(Value::Array(all)) => all.iter().filter_map(name).collect(),
        Some(one) => name(one).into_iter().collect(),
        None => Vec::new(),
    }
}

/// What a request without an answer means.
fn lost(error: ClientError) -> Failure {
    let (cause, answer_lost) = match &error {
        ClientError::Request(error) if error.is_connect() => (Cause::Connect, false),
        ClientError::Request(error) if error.is_timeout() => (Cause::Timeout, true),
        ClientError::Request(_) => (Cause::Cut, true),
        _ => (Cause::BadAnswer, true),
    };
    Failure { answer_lost, source: Some(Box::new(error)), ..Failure::new(cause) }
}

/// What an answer that refuses a request as a whole means.
fn whole(answer: &Answer) -> Failure {
    let status = answer.status;
    let cause = match status.as_u16() {
        400 => Cause::Invalid,
        401 | 403 => Cause::Denied,
        404 => Cause::Missing,
        413 => Cause::TooLarge,
        429 => Cause::TooMany,
        500.. => Cause::Unavailable,
        _ => Cause::Refused,
    };
    let split = matches!(cause, Cause::Invalid | Cause::TooLarge);
    // A gateway that gave up may have passed the request on.
    let answer_lost = matches!(status.as_u16(), 408 | 500 | 502 | 503 | 504);
    let source = Some(format!("the server answered {status}").into());
    Failure { cause, split, answer_lost, retry_after: answer.retry_after, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backing_indices_are_read_as_a_list_or_alone() {
        let found = |indices: Value| {
            backing_indices(&json!({ "data_streams": [{ "name": "s", "backing_indices": indices }] }))
        };
        assert_eq!(found(json!(["i-1", "i-2"])), ["i-1", "i-2"]);
        assert_eq!(found(json!("i-1")), ["i-1"]);
        assert!(backing_indices(&json!({ "data_streams": [] })).is_empty());
    }

    #[test]
    fn only_what_smaller_batches_may_cure_is_split() {
        let answer = |status| Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            body: Vec::new(),
        };
        let failure = |status| whole(&answer(status));
        for (status, split, lost) in [
            (413, true, false),
            (400, true, false),
            (429, false, false),
            (503, false, true),
            (401, false, false),
            (302, false, false),
        ] {
            assert_eq!((failure(status).split, failure(status).answer_lost), (split, lost), "{status}");
        }
    }
}
