//! Stores batches by `_bulk`, and finds out what became of a batch whose answer never came.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::bulk;
use super::client::{Answer, Client, ClientError};
use super::{ElasticsearchConfig, template};
use crate::logs::record::Entry;
use crate::logs::sink::{Cause, Failure, Outcome, Sink};

/// Ids searched for at once: the most hits that a search gives by default is 10,000.
const SEARCHED_IDS_MAX: usize = 1000;

/// Writes to one data stream.
#[derive(Debug)]
pub(crate) struct Elasticsearch {
    client: Client,
    stream: String,
    /// Backing index that the last lines went to; `None` until an answer named one.
    written: Mutex<Option<String>>,
}

impl Elasticsearch {
    /// Reads certificates and secrets. Does not connect: a server that is away is waited for.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub(crate) fn new(config: &ElasticsearchConfig) -> Result<Self, ClientError> {
        template::check_stream_name(&config.stream).map_err(ClientError::Address)?;
        Ok(Self { client: Client::new(config)?, stream: config.stream.clone(), written: Mutex::new(None) })
    }

    /// Ids of the batch that are stored already, in whichever backing index.
    ///
    /// A `create` of a known id conflicts only within one backing index, so this is asked where an answer got lost and the
    /// stream may have rolled over since.
    async fn stored_elsewhere(&self, batch: &[Entry]) -> Result<HashSet<String>, Failure> {
        let Some(write_index) = self.write_index().await? else { return Ok(HashSet::new()) };
        let known = self.written.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if write_index.alone || known.as_deref() == Some(write_index.name.as_str()) {
            return Ok(HashSet::new());
        }
        let refresh = self.ask(Method::POST, &format!("{}/_refresh", self.stream), None).await?;
        if !refresh.status.is_success() {
            return Err(whole(&refresh));
        }
        let mut found = HashSet::new();
        for part in batch.chunks(SEARCHED_IDS_MAX) {
            let ids: Vec<String> = part.iter().map(|entry| entry.id.to_string()).collect();
            let query =
                json!({ "size": part.len(), "_source": false, "query": { "ids": { "values": ids } } });
            let path = format!("{}/_search?filter_path=hits.hits._id", self.stream);
            let answer = self.ask(Method::POST, &path, Some(&query)).await?;
            if !answer.status.is_success() {
                return Err(whole(&answer));
            }
            let hits = answer.json().map_err(lost)?;
            let hits = hits["hits"]["hits"].as_array().into_iter().flatten();
            found.extend(hits.filter_map(|hit| Some(hit["_id"].as_str()?.to_owned())));
        }
        Ok(found)
    }

    /// The backing index that is written now; `None` while there is no such stream.
    async fn write_index(&self) -> Result<Option<WriteIndex>, Failure> {
        let answer = self.ask(Method::GET, &format!("_resolve/index/{}", self.stream), None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !answer.status.is_success() {
            return Err(whole(&answer));
        }
        Ok(write_index(&answer.json().map_err(lost)?))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        // Nothing is written by these requests, so nothing is uncertain when they fail.
        self.client
            .json(method, path, body)
            .await
            .map_err(|error| Failure { answer_lost: false, ..lost(error) })
    }

    async fn create(&self, batch: &[Entry]) -> Result<Vec<Outcome>, Failure> {
        let path = format!("{}/_bulk?{}", self.stream, bulk::FILTER);
        let answer = self.client.lines(&path, &bulk::body(batch)).await.map_err(lost)?;
        if !answer.status.is_success() {
            return Err(whole(&answer));
        }
        let read = bulk::read(&answer.body, batch.len());
        let read = read.ok_or(Failure { answer_lost: true, ..Failure::new(Cause::BadAnswer) })?;
        if read.index.is_some() {
            *self.written.lock().unwrap_or_else(PoisonError::into_inner) = read.index;
        }
        Ok(read.outcomes)
    }
}

impl Sink for Elasticsearch {
    async fn store(&self, batch: &[Entry], uncertain: bool) -> Result<Vec<Outcome>, Failure> {
        let known = if uncertain { self.stored_elsewhere(batch).await? } else { HashSet::new() };
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

#[derive(Debug, PartialEq, Eq)]
struct WriteIndex {
    name: String,
    /// Whether the stream has no other backing index.
    alone: bool,
}

/// The last backing index of the one data stream in the answer of `_resolve/index`.
fn write_index(resolved: &Value) -> Option<WriteIndex> {
    let indices = resolved["data_streams"].get(0)?.get("backing_indices")?;
    let name = |index: &Value| index.as_str().map(str::to_owned);
    match indices {
        Value::Array(all) => Some(WriteIndex { name: name(all.last()?)?, alone: all.len() == 1 }),
        one => Some(WriteIndex { name: name(one)?, alone: true }),
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
    Failure { cause, split, answer_lost, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_backing_index_is_the_one_that_is_written() {
        let resolved =
            |indices: Value| json!({ "data_streams": [{ "name": "s", "backing_indices": indices }] });
        let found = |indices| write_index(&resolved(indices)).map(|index| (index.name, index.alone));
        assert_eq!(found(json!(["i-1", "i-2"])), Some(("i-2".to_owned(), false)));
        assert_eq!(found(json!("i-1")), Some(("i-1".to_owned(), true)));
        assert_eq!(write_index(&json!({ "data_streams": [] })), None);
    }

    #[test]
    fn only_what_smaller_batches_may_cure_is_split() {
        let failure =
            |status| whole(&Answer { status: StatusCode::from_u16(status).unwrap(), body: Vec::new() });
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
