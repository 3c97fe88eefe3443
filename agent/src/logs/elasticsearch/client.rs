//! HTTP to the server: TLS, credentials, compressed bodies, bounded answers. Knows no interface of it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Method, StatusCode, Url};
use serde_json::Value;

use super::{Auth, ElasticsearchConfig};

/// Largest answer that is read. A bulk answer takes a few hundred bytes a line, and batches have thousands of lines at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest secret that is read from a file.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// Why a request gave no usable answer. Never holds a secret or the address's credentials.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be used.
    #[error("the address of the Elasticsearch server is wrong: {0}")]
    Address(String),
    /// A file of secrets or certificates cannot be read.
    #[error("failed to read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A secret has bytes that no header may have.
    #[error("{path} holds no usable secret")]
    Secret {
        /// The file.
        path: PathBuf,
    },
    /// The certificate or the TLS settings cannot be used.
    #[error("failed to set up TLS")]
    Tls(#[source] reqwest::Error),
    /// The request failed before an answer came.
    #[error("the request failed")]
    Request(#[source] reqwest::Error),
    /// The answer is larger than any this client asks for.
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// The answer is not JSON.
    #[error("the answer is not JSON")]
    NotJson(#[source] serde_json::Error),
}

/// An answer of the server, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// How long the server asks to be left alone, where it says so in seconds.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Result<Value, ClientError> {
        serde_json::from_slice(&self.body).map_err(ClientError::NotJson)
    }
}

/// A connection pool to one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    auth: Auth,
    authorization: RwLock<Option<HeaderValue>>,
}

impl Client {
    /// Reads certificates and secrets. Does not connect.
    ///
    /// # Errors
    /// When the address, a file or the TLS settings are wrong.
    pub(super) fn new(config: &ElasticsearchConfig) -> Result<Self, ClientError> {
        crate::tls::install_provider();
        let base = base(&config.url)?;
        let mut builder = reqwest::Client::builder()
            .timeout(config.timeout)
            .connect_timeout(config.timeout.min(Duration::from_secs(10)))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(path) = &config.ca_file {
            let pem =
                std::fs::read(path).map_err(|source| ClientError::File { path: path.clone(), source })?;
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(&pem).map_err(ClientError::Tls)?);
        }
        let http = builder.build().map_err(ClientError::Tls)?;
        let authorization = RwLock::new(authorization(&config.auth)?);
        Ok(Self { http, base, auth: config.auth.clone(), authorization })
    }

    /// Asks for JSON, with a JSON body or none.
    pub(super) async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let body = body.map(|body| body.to_string().into_bytes());
        self.send(method, path, body.map(|body| (body, "application/json", None))).await
    }

    /// Sends lines of JSON, compressed.
    pub(super) async fn lines(&self, path: &str, lines: &[u8]) -> Result<Answer, ClientError> {
        let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 8), Compression::fast());
        let body =
            encoder.write_all(lines).and_then(|()| encoder.finish()).expect("writing to memory cannot fail");
        self.send(Method::POST, path, Some((body, "application/x-ndjson", Some("gzip")))).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(Vec<u8>, &'static str, Option<&'static str>)>,
    ) -> Result<Answer, ClientError> {
        let url = self.base.join(path).map_err(|error| ClientError::Address(error.to_string()))?;
        let mut request = self.http.request(method, url);
        let header = self.authorization.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        if let Some((bytes, kind, encoding)) = body {
            request = request.header(CONTENT_TYPE, kind).body(bytes);
            request = encoding
                .into_iter()
                .fold(request, |request, encoding| request.header(CONTENT_ENCODING, encoding));
        }
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            self.read_secret_again();
        }
        let retry_after = retry_after(response.headers());
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::TooLong);
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, retry_after, body })
    }

    /// A refused secret may have been replaced in its file.
    fn read_secret_again(&self) {
        if let Ok(header) = authorization(&self.auth) {
            *self.authorization.write().unwrap_or_else(PoisonError::into_inner) = header;
        }
    }
}

/// `Retry-After` in seconds (RFC 9110, §10.2.3). Its other form, a date, would need the two clocks to agree: it is left alone.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn failed(error: reqwest::Error) -> ClientError {
    ClientError::Request(error.without_url())
}

fn base(text: &str) -> Result<Url, ClientError> {
    let mut url = Url::parse(text).map_err(|error| ClientError::Address(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ClientError::Address("it holds credentials; give them in a file".to_owned()));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(ClientError::Address("expected http:// or https:// and a host".to_owned()));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn authorization(auth: &Auth) -> Result<Option<HeaderValue>, ClientError> {
    let (text, path) = match auth {
        Auth::None => return Ok(None),
        Auth::Basic { user, password_file } => {
            let pair = format!("{user}:{}", secret(password_file)?);
            (format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)), password_file)
        }
        Auth::ApiKey { key_file } => (format!("ApiKey {}", secret(key_file)?), key_file),
    };
    let mut header = HeaderValue::from_str(&text).map_err(|_| ClientError::Secret { path: path.clone() })?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn secret(path: &Path) -> Result<String, ClientError> {
    let failed = |source| ClientError::File { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > SECRET_BYTES_MAX {
        return Err(ClientError::Secret { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_credentials_is_refused_without_repeating_them() {
        let error = base("https://elastic:hunter2@localhost:9200").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        for wrong in ["localhost:9200", "ftp://localhost", ""] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
        assert_eq!(base("http://localhost:9200/es").unwrap().join("_bulk").unwrap().path(), "/es/_bulk");
    }

    #[test]
    fn patience_is_asked_for_in_seconds() {
        let asked = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]))
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(asked("-1"), None);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key");
        std::fs::write(&key_file, "c2VjcmV0\n").unwrap();
        let config = ElasticsearchConfig {
            auth: Auth::ApiKey { key_file },
            ..ElasticsearchConfig::new("http://localhost:9200")
        };
        let client = Client::new(&config).unwrap();
        assert_eq!(client.authorization.read().unwrap().as_ref().unwrap(), "ApiKey c2VjcmV0");
        assert!(!format!("{client:?}{config:?}").contains("c2VjcmV0"));
    }
}
