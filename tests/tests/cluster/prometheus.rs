//! Demand by PromQL from a real Prometheus, which scrapes as seldom as most do: it arrives late, and must not flicker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tidegate_core::Metric;
use tidegate_tests::servers::{Controller, Prometheus};
use tidegate_tests::waiting;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::controller::{CHAT, Scene, metric};
use crate::objects::SOON;

/// Prometheus' own default is a minute; operators' charts set 15 s or 30 s.
const SCRAPES: Duration = Duration::from_secs(15);
/// Longer than from one scrape to the next but one.
const WATCHED: Duration = Duration::from_secs(40);

/// An ingress that counts requests, as many a second as it was told.
pub(crate) struct Ingress {
    counted: Arc<Mutex<Counted>>,
    pub(crate) address: String,
}

struct Counted {
    requests: f64,
    per_second: f64,
    until: Instant,
}

impl Counted {
    fn now(&mut self) -> f64 {
        let now = Instant::now();
        self.requests += self.per_second * now.duration_since(self.until).as_secs_f64();
        self.until = now;
        self.requests
    }
}

impl Ingress {
    pub(crate) async fn start(per_second: f64) -> Self {
        let counted = Counted { requests: 0.0, per_second, until: Instant::now() };
        let counted = Arc::new(Mutex::new(counted));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shown = Arc::clone(&counted);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, Arc::clone(&shown)));
            }
        });
        Self { counted, address }
    }

    pub(crate) fn load(&self, per_second: f64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.now();
        counted.per_second = per_second;
    }
}

async fn answer(mut connection: TcpStream, counted: Arc<Mutex<Counted>>) -> std::io::Result<()> {
    let mut request = [0; 4096];
    while connection.read(&mut request).await? > 0 {
        let requests = counted.lock().unwrap_or_else(PoisonError::into_inner).now();
        let body = format!("# TYPE ingress_requests_total counter\ningress_requests_total {requests}\n");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length:";
        connection.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    }
    Ok(())
}

/// Age of the demand that decisions go by.
async fn age(controller: &Controller) -> Option<f64> {
    metric(controller, Metric::DemandAge, &format!("workload=\"{CHAT}\"")).await
}

#[tokio::test]
async fn demand_by_a_query_is_followed_its_age_is_shown_and_it_holds_between_scrapes() {
    let scene = Scene::set().await;
    let ingress = Ingress::start(2.0).await;
    let prometheus = Prometheus::scraping(std::slice::from_ref(&ingress.address), SCRAPES).await;
    let controller = scene.controller_with("one", &["--prometheus", prometheus.url()]).await;
    let query = json!({ "demand": { "prometheus": { "query": "sum(rate(ingress_requests_total[30s]))" } } });
    scene.policy("active", query).await;
    let two_scrapes_and_some = SCRAPES * 4;
    waiting::until("demand that is known", SOON + two_scrapes_and_some, async || age(&controller).await)
        .await;
    scene.condition("DemandKnown", "True", "Fresh").await;
    ingress.load(45.0);
    scene.sized("a size for 45 requests a second", |size| size >= 5).await;
    let (mut oldest, begun) = (0.0_f64, Instant::now());
    waiting::until("some scrapes to pass", WATCHED * 2, async || {
        let age = age(&controller).await.expect("demand stays known");
        oldest = oldest.max(age);
        let conditions = scene.policies().get("chat").await.ok()?.status?.conditions;
        let known = conditions.into_iter().find(|condition| condition.type_ == "DemandKnown")?;
        assert_eq!(known.reason, "Fresh", "{age} s old: {}", known.message);
        (begun.elapsed() > WATCHED).then_some(())
    })
    .await;
    let most = (SCRAPES * 2).as_secs_f64();
    assert!((5.0..most).contains(&oldest), "a scrape is up to 15 s old, and was shown as {oldest} s");
    assert!(scene.size().await >= 5);
}

#[tokio::test]
async fn a_server_that_is_away_is_told_and_nothing_is_made_smaller() {
    let scene = Scene::set().await;
    let ingress = Ingress::start(45.0).await;
    let prometheus = Prometheus::start(std::slice::from_ref(&ingress.address), &[]).await;
    let controller = scene.controller_with("one", &["--prometheus", prometheus.url()]).await;
    let query = json!({ "demand": { "prometheus": { "query": "sum(rate(ingress_requests_total[10s]))" } } });
    scene.policy("active", query).await;
    let size = scene.sized("a size for 45 requests a second", |size| size >= 5).await;
    drop(prometheus);
    scene.condition("DemandKnown", "False", "Stale").await;
    assert_eq!(scene.size().await, size);
    waiting::until("the log to say so", SOON, async || {
        controller.errors().contains("Prometheus gave no demand").then_some(())
    })
    .await;
}
