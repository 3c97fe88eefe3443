//! The ports as senders meet them.

use std::path::{Path, PathBuf};

use super::*;
use http::StatusCode;

const BODY: &str = r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [
    {"name": "queue", "gauge": {"dataPoints": [{"asDouble": 2}, {"asDouble": "NaN"}]}}]}]}]}"#;

struct Up {
    urls: Vec<String>,
    inbox: Arc<Inbox>,
    registry: Arc<Registry>,
    stop: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

fn start(listen: &Listen) -> Up {
    let any = "127.0.0.1:0".parse().unwrap();
    let ports = bind(Some(any), Some(any), listen).unwrap().unwrap();
    let (registry, stop) = (Arc::new(Registry::new()), CancellationToken::new());
    let (urls, inbox) = (ports.urls(), ports.inbox());
    let serving = ports.serve(None, &registry, &stop);
    Up { urls, inbox, registry, stop, serving }
}

impl Up {
    async fn post(&self, path: &str, kind: &str, body: &str) -> (StatusCode, String) {
        let request = client().post(format!("{}{path}", self.urls[1])).header("content-type", kind);
        let response = request.body(body.to_owned()).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

fn client() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn local() -> Listen {
    Listen::loopback("127.0.0.1:0".parse().unwrap(), PathBuf::new())
}

#[tokio::test]
async fn what_is_posted_is_kept_and_what_is_wrong_is_told() {
    let up = start(&local());
    let (status, body) = up.post("/v1/metrics", "application/json", BODY).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains(r#""rejectedDataPoints":"1""#), "{body}");
    assert_eq!(up.inbox.size(tidegate_agent::clock::now()), (1, 1));
    for (path, kind, body, status) in [
        ("/v1/metrics", "application/json", "{", 400),
        ("/v1/metrics", "text/html", "{}", 415),
        ("/v1/logs", "application/json", "{}", 404),
        ("/v1/traces", "application/json", "{}", 404),
    ] {
        assert_eq!(up.post(path, kind, body).await.0, status, "{path} {kind}");
    }
    let (status, _) = up.post("/v1/metrics", "application/json", &" ".repeat(REQUEST_BYTES_MAX + 1)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let counted = |outcome| up.registry.counter(Metric::OtlpRequests, &[(Label::Outcome, outcome)]).get();
    assert_eq!(["partial", "malformed", "unsupported", "too_large"].map(counted), [1.0, 1.0, 3.0, 1.0]);
    up.end().await;
}

#[tokio::test]
async fn a_page_of_another_name_may_not_push() {
    let up = start(&local());
    let request = client().post(format!("{}/v1/metrics", up.urls[1])).header("host", "attacker.example");
    let answer = request.header("content-type", "application/json").body("{}").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(up.registry.counter(Metric::AuthDenied, &[(Label::Cause, "host")]).get(), 1.0);
    up.end().await;
}

#[test]
fn beyond_loopback_tls_and_tokens_are_needed() {
    let beyond = Some("0.0.0.0:0".parse().unwrap());
    let without = Listen { tokens: None, ..local() };
    let error = bind(beyond, None, &without).err().unwrap().to_string();
    assert!(error.contains("TLS") && error.contains("tokens"), "{error}");
    assert!(bind(None, None, &without).unwrap().is_none());
}

#[tokio::test]
async fn a_token_that_may_push_is_let_in_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "pusher-pusher-01 push\nreader-reader-01 read\n").unwrap();
    let listen = Listen { token_always: true, ..local() };
    let up = start_beyond(&listen, &tokens);
    for (token, status) in [(None, 401), (Some("reader-reader-01"), 403), (Some("pusher-pusher-01"), 200)] {
        let request =
            client().post(format!("{}/v1/metrics", up.urls[0])).header("content-type", "application/json");
        let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
        assert_eq!(request.body("{}").send().await.unwrap().status(), status, "{token:?}");
    }
    up.end().await;
}

/// As beyond loopback, where it needs no certificate.
fn start_beyond(listen: &Listen, tokens: &Path) -> Up {
    let bound = Listen { tokens: Some(tokens.to_owned()), ..listen.clone() }.bind().unwrap();
    let ports = Ports { bound: vec![bound], inbox: Arc::default() };
    let (registry, stop) = (Arc::new(Registry::new()), CancellationToken::new());
    let (urls, inbox) = (ports.urls(), ports.inbox());
    let serving = ports.serve(None, &registry, &stop);
    Up { urls, inbox, registry, stop, serving }
}
