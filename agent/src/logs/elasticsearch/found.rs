//! Looks lines up by their ids: whether what was acknowledged can be found.

use reqwest::Method;
use serde_json::json;

use super::client::{Client, ClientError};
use super::{ElasticsearchConfig, template};

/// Most ids asked for at once: far below the server's own bound on terms.
pub const IDS_MAX: usize = 1000;

/// A standing question to one server.
#[derive(Debug)]
pub struct Finder {
    client: Client,
    path: String,
}

impl Finder {
    /// For the data stream of `config`. Does not connect.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(config: &ElasticsearchConfig) -> Result<Self, ClientError> {
        template::check_stream_name(&config.stream).map_err(ClientError::Address)?;
        Ok(Self { client: Client::new(config)?, path: format!("{}/_count", config.stream) })
    }

    /// How many of these ids a search finds, of the first [`IDS_MAX`]; `None` when the server does not say. A line can be searched
    /// for a second after it was stored.
    pub async fn count(&self, ids: &[String]) -> Option<u64> {
        let ids = &ids[..ids.len().min(IDS_MAX)];
        let body = json!({ "query": { "ids": { "values": ids } } });
        let answer = self.client.json(Method::POST, &self.path, Some(&body)).await.ok()?;
        answer.json().ok()?["count"].as_u64()
    }
}
