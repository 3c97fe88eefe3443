//! Who may call what: tokens and scopes, names of this machine, pages of other origins, TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::fake::{ELSEWHERE, Fake, SERVE};
use super::{Service, addr_of, client, serve};
use crate::api::listen::ListenError;
use crate::api::{Asked, Denied, Listen, Reviewer, TlsFiles, Verdict};

const ALERT: &str = "/api/v1/alerts";
const FAULTS: &str = "/api/v1/demo/faults";

fn alert() -> Value {
    json!({
        "version": "4", "groupKey": "{}", "status": "firing", "receiver": "tidegate", "groupLabels": {}, "commonLabels": {},
        "commonAnnotations": {}, "externalURL": "http://localhost:9093", "truncatedAlerts": 0,
        "alerts": [{
            "status": "firing", "labels": { "alertname": "QueueGrows", "workload": SERVE }, "annotations": {},
            "startsAt": "2026-01-31T08:00:00.123456789Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "aa11",
        }],
    })
}

fn clear() -> Value {
    json!({ "workload": SERVE, "fault": "clear" })
}

#[tokio::test]
async fn alerts_always_need_a_token() {
    let service = Service::start(Fake::new(true)).await;
    let send = |token: Option<String>| {
        let request = service.client.post(service.url(ALERT)).json(&alert());
        token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth).send()
    };
    let missing = send(None).await.unwrap();
    assert_eq!(missing.status(), 401);
    assert_eq!(missing.headers()["www-authenticate"], "Bearer realm=\"tidegate\", scope=\"alerts\"");
    let wrong = send(Some("tg_wrong_wrong_wrong".into())).await.unwrap();
    assert_eq!(wrong.status(), 401);
    assert!(wrong.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    let right = send(Some(service.token.clone())).await.unwrap();
    assert_eq!(right.status(), 200);
    let report: Value = right.json().await.unwrap();
    assert_eq!(report["results"][0]["fingerprint"], "aa11");
    assert_eq!(report["results"][0]["outcome"], "applied");
    assert_eq!(*service.fake.denied.lock().unwrap(), [Denied::Missing, Denied::Invalid]);
}

#[tokio::test]
async fn an_alert_of_another_version_is_refused() {
    let service = Service::start(Fake::new(true)).await;
    let mut batch = alert();
    batch["version"] = json!("3");
    let sent = service
        .client
        .post(service.url(ALERT))
        .json(&batch)
        .bearer_auth(&service.token)
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 400);
}

#[tokio::test]
async fn a_name_that_is_not_this_machines_is_refused() {
    let service = Service::with(Fake::new(true), |mut listen| {
        listen.hosts = vec!["gpu-box".into()];
        listen
    })
    .await;
    let with = |host: &str| service.client.get(service.url("/api/v1/workloads")).header("host", host).send();
    for (host, status) in [
        ("evil.example", 403),
        ("localhost:1", 200),
        ("gpu-box:8080", 200),
        ("127.0.0.1", 200),
        ("10.1.2.3", 403),
    ] {
        assert_eq!(with(host).await.unwrap().status(), status, "{host}");
    }
    // Whoever has a token is no page that was tricked.
    let known = service
        .client
        .get(service.url("/api/v1/workloads"))
        .header("host", "evil.example")
        .bearer_auth(&service.token);
    assert_eq!(known.send().await.unwrap().status(), 200);
    assert_eq!(*service.fake.denied.lock().unwrap(), [Denied::Host, Denied::Host]);
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let service = Service::start(Fake::new(true)).await;
    let own = format!("http://{}", service.addr);
    let send = |headers: &[(&'static str, &str)]| {
        let request = service.client.post(service.url(FAULTS)).json(&clear());
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send()
    };
    let refused: [&[(&str, &str)]; 4] = [
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("origin", &own), ("sec-fetch-site", "same-site")],
    ];
    for headers in refused {
        assert_eq!(send(headers).await.unwrap().status(), 403, "{headers:?}");
    }
    let passed: [&[(&str, &str)]; 3] =
        [&[], &[("origin", &own)], &[("origin", &own), ("sec-fetch-site", "same-origin")]];
    for headers in passed {
        assert_eq!(send(headers).await.unwrap().status(), 200, "{headers:?}");
    }
    assert_eq!(*service.fake.denied.lock().unwrap(), [Denied::Origin; 4]);
}

#[tokio::test]
async fn a_scope_allows_its_own_and_no_more() {
    let service = Service::with(Fake::new(true), |mut listen| {
        let path = listen.tokens.clone().unwrap();
        let lines = "reader-reader-01 read\nalerts-alerts-01 alerts\nactor-actor-0001 act\n";
        std::fs::write(path, lines).unwrap();
        listen.token_always = true;
        listen.metrics_open = false;
        listen
    })
    .await;
    let get = |path: &str, token: Option<&str>| {
        let request = service.client.get(service.url(path));
        token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth).send()
    };
    let post = |path: &str, body: Value, token: Option<&str>| {
        let request = service.client.post(service.url(path)).json(&body);
        token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth).send()
    };
    let (reader, alerts, actor) =
        (Some("reader-reader-01"), Some("alerts-alerts-01"), Some("actor-actor-0001"));
    for (token, read, send, act) in
        [(None, 401, 401, 401), (reader, 200, 403, 403), (alerts, 403, 200, 403), (actor, 200, 200, 200)]
    {
        assert_eq!(get("/api/v1/workloads", token).await.unwrap().status(), read, "{token:?}");
        assert_eq!(get("/metrics", token).await.unwrap().status(), read, "{token:?}");
        assert_eq!(post(ALERT, alert(), token).await.unwrap().status(), send, "{token:?}");
        assert_eq!(post(FAULTS, clear(), token).await.unwrap().status(), act, "{token:?}");
    }
    let forbidden = post(FAULTS, clear(), reader).await.unwrap();
    let challenge = "Bearer realm=\"tidegate\", error=\"insufficient_scope\", scope=\"act\"";
    assert_eq!(forbidden.headers()["www-authenticate"], challenge);
    // What tells nothing needs nothing: the page must load before it can ask for a token.
    for path in ["/", "/assets/app.js", "/healthz", "/readyz"] {
        assert_eq!(get(path, None).await.unwrap().status(), 200, "{path}");
    }
}

fn exposed(tls: Option<TlsFiles>, tokens: Option<&Path>) -> Listen {
    Listen {
        reviewer: None,
        addr: ([0, 0, 0, 0], 0).into(),
        tls,
        tokens: tokens.map(Path::to_owned),
        token_always: false,
        metrics_open: false,
        hosts: Vec::new(),
    }
}

#[test]
fn beyond_loopback_it_refuses_without_tls_and_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    let message = |listen: Listen| listen.bind().unwrap_err().to_string();
    assert!(message(exposed(None, None)).ends_with("without TLS (certificate and key) and tokens"));
    assert!(message(exposed(None, Some(&tokens))).ends_with("without TLS (certificate and key)"));
    let absent = TlsFiles { cert: dir.path().join("cert"), key: dir.path().join("key") };
    assert!(message(exposed(Some(absent.clone()), None)).ends_with("without tokens"));
    // No token is made up where strangers can reach it.
    assert!(matches!(exposed(Some(absent.clone()), Some(&tokens)).bind(), Err(ListenError::Tokens(_))));
    assert!(!tokens.exists());
    std::fs::write(&tokens, "reader-reader-01 read\n").unwrap();
    assert!(matches!(exposed(Some(absent), Some(&tokens)).bind(), Err(ListenError::ReadPem { .. })));
}

#[tokio::test]
async fn over_tls_every_question_needs_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "reader-reader-01 read\n").unwrap();
    // Loopback, asked to be as strict as beyond it: a test opens no port to the outside.
    let mut listen = exposed(Some(files), Some(&tokens));
    listen.addr = ([127, 0, 0, 1], 0).into();
    listen.token_always = true;
    let bound = listen.bind().unwrap();
    assert!(bound.url().starts_with("https://127.0.0.1:"));
    let port = addr_of(&bound).port();
    let _stop = serve(bound, Arc::new(Fake::new(true)));
    drop(client());
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let secure = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
    let url = format!("https://localhost:{port}/api/v1/workloads");
    assert_eq!(secure.get(&url).send().await.unwrap().status(), 401);
    let read = secure.get(&url).bearer_auth("reader-reader-01").send().await.unwrap();
    assert_eq!((read.status().as_u16(), read.version()), (200, reqwest::Version::HTTP_2));
    assert!(client().get(format!("http://127.0.0.1:{port}/healthz")).send().await.is_err());
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_go_on() {
    let service = Service::start(Fake::new(true)).await;
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push(tokio::net::TcpStream::connect(service.addr).await.unwrap());
    }
    let refused = async {
        loop {
            let extra = reqwest::Client::builder().no_proxy().build().unwrap();
            if extra.get(service.url("/healthz")).send().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused).await.unwrap();
    held.truncate(200);
    let served = async { while service.client.get(service.url("/healthz")).send().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(5), served).await.unwrap();
}

/// Knows a token that may look everywhere and act in `ml` alone, one that may look into `ml` alone, and one that may do nothing.
struct OneUser;

impl Reviewer for OneUser {
    fn review<'a>(&'a self, token: &'a str, asked: Asked) -> futures::future::BoxFuture<'a, Verdict> {
        let verdict = match token {
            "of-the-cluster" if !asked.acts || asked.namespace.as_deref() == Some("ml") => Verdict::Allowed,
            "of-the-cluster" => Verdict::Refused,
            "of-a-namespace" if !asked.acts && asked.namespace.as_deref() == Some("ml") => Verdict::Allowed,
            "of-a-namespace" | "of-no-namespace" => Verdict::Refused,
            "nobody-answers" => Verdict::NoAnswer,
            _ => Verdict::Unknown,
        };
        Box::pin(std::future::ready(verdict))
    }
}

#[tokio::test]
async fn tokens_that_are_not_in_the_file_are_reviewed() {
    let dir = tempfile::tempdir().unwrap();
    let listen = Listen {
        reviewer: Some(Arc::new(OneUser)),
        ..Listen::loopback(([127, 0, 0, 1], 0).into(), dir.path().join("tokens"))
    };
    let bound = listen.bind().unwrap();
    let url = bound.url();
    let _stop = serve(bound, Arc::new(Fake::new(true)));
    let get = |token: &str| client().get(format!("{url}/api/v1/workloads")).bearer_auth(token).send();
    assert_eq!(get("of-the-cluster").await.unwrap().status(), 200);
    assert_eq!(get("of-somebody-else").await.unwrap().status(), 401);
    assert_eq!(get("nobody-answers").await.unwrap().status(), 503);
    let act = client().post(format!("{url}{ALERT}")).bearer_auth("of-the-cluster").json(&alert());
    assert_eq!(act.send().await.unwrap().status(), 403, "it may not act in all namespaces");
}

#[tokio::test]
async fn who_may_look_into_one_namespace_sees_its_workloads_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let listen = Listen {
        reviewer: Some(Arc::new(OneUser)),
        metrics_open: false,
        ..Listen::loopback(([127, 0, 0, 1], 0).into(), dir.path().join("tokens"))
    };
    let bound = listen.bind().unwrap();
    let url = bound.url();
    let mut fake = Fake::new(false);
    fake.elsewhere = true;
    let _stop = serve(bound, Arc::new(fake));
    let get = async |path: &str, token: &str| {
        let answer = client().get(format!("{url}{path}")).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default())
    };
    let ids = |answer: &Value| -> Vec<String> {
        let all = answer["workloads"].as_array().unwrap();
        all.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let (status, all) = get("/api/v1/workloads", "of-the-cluster").await;
    assert_eq!((status, ids(&all).len()), (200, 3));
    let (status, some) = get("/api/v1/workloads", "of-a-namespace").await;
    assert_eq!((status, ids(&some)), (200, vec![ELSEWHERE.to_owned()]));
    let (_, summary) = get("/api/v1/summary", "of-a-namespace").await;
    assert_eq!(summary["workloads"], json!([]), "it has none of that namespace");
    let (_, pool) = get("/api/v1/pool", "of-a-namespace").await;
    assert_eq!((&pool["held"], &pool["notes"]), (&json!([]), &json!([])));
    assert_eq!(get("/api/v1/node", "of-a-namespace").await.1["readings"], json!([]));
    assert_eq!(get("/api/v1/logs", "of-a-namespace").await.1["logs"], json!([]));
    for path in ["/metrics", "/api/v1/node/series?signal=load1", &format!("/api/v1/workloads/{SERVE}")] {
        assert_eq!(get(path, "of-a-namespace").await.0, 403, "{path}");
    }
    assert_eq!(get("/api/v1/workloads", "of-no-namespace").await.0, 403);
    assert_eq!(get("/api/v1/workloads", "of-somebody-else").await.0, 401);
}
