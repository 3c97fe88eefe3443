//! Pushing by HTTP, in protobuf, packed.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, Uri};
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};

use super::{ANSWER_WITHIN, Ending, PushError};
use crate::otlp::messages::ExportMetricsServiceRequest;
use crate::otlp::receive::Pushed;

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A collector.
#[derive(Debug)]
pub(super) struct Way {
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
}

impl Way {
    pub(super) fn new(url: &Uri, ca: Option<Vec<u8>>, headers: HeaderMap) -> Result<Self, PushError> {
        crate::tls::install_provider();
        let failed = |error: reqwest::Error| PushError::Tls(error.into());
        let mut builder = reqwest::Client::builder()
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(pem) = ca {
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).map_err(failed)?);
        }
        let bare = url.path().is_empty() || url.path() == "/";
        let url = if bare {
            format!("{}{}", url.to_string().trim_end_matches('/'), Pushed::Metrics.http_path())
        } else {
            url.to_string()
        };
        Ok(Self { client: builder.build().map_err(failed)?, url, headers })
    }

    pub(super) async fn send(&self, request: &ExportMetricsServiceRequest) -> Ending {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let packed = encoder.write_all(&request.encode_to_vec()).and_then(|()| encoder.finish());
        let packed = packed.expect("writing to memory cannot fail");
        let request = self.client.post(&self.url).headers(self.headers.clone());
        let request = request.header(CONTENT_TYPE, "application/x-protobuf").header(CONTENT_ENCODING, "gzip");
        let mut answer = match request.body(packed).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let cause = if error.is_timeout() { "timeout" } else { "unreachable" };
                return Ending::Again { cause, after: None };
            }
        };
        let after =
            answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while body.len() < ANSWER_BYTES_MAX
            && let Ok(Some(more)) = answer.chunk().await
        {
            body.extend_from_slice(&more);
        }
        Ending::of_http(answer.status().as_u16(), after.as_deref(), &body)
    }
}
