//! The same load steps for Tidegate and for a HorizontalPodAutoscaler that reads Prometheus, beside each other in one cluster: how long
//! until the size is written. The autoscaler, Prometheus and the adapter between them are the real ones, as most clusters have them:
//! scrapes every 15 s, a rate over a minute, a look every 15 s.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;
use tidegate_tests::servers::kubernetes::{ControlPlane, FakeNode, Kwok, Options, PrometheusAdapter};
use tidegate_tests::servers::{Agent, Controller, Prometheus};
use tidegate_tests::waiting;
use tokio::time::Instant;

use crate::controller::{CHAT, SOON, install, load, policy};
use crate::objects::{deploy, object};

const SCRAPES: Duration = Duration::from_secs(15);
const FAMILY: &str = "front_requests_total";
const METRIC: &str = "front_requests_per_second";
/// Requests per second that a replica carries, by the policy and by the autoscaler's target.
const PER_REPLICA: f64 = 10.0;
/// Who carries a load but for a tenth of it has followed: a rate over scrapes is a little off, and so is the last replica.
const TOLERANCE: f64 = 1.1;
/// Load before and after each step; the gaps keep a step above what stands idle.
const STEPS: [f64; 4] = [8.0, 45.0, 95.0, 190.0];
/// A step is to be answered within this, and so many times as soon.
const ANSWERED: Duration = Duration::from_secs(5);
const SOONER: f64 = 5.0;
/// A rate over a minute, scrapes and looks of 15 s each: no autoscaler needs longer.
const FOLLOWED: Duration = Duration::from_secs(180);

/// A counter that grows at a rate which a test sets, on a metrics page.
#[derive(Clone)]
struct Front(Arc<Mutex<(f64, f64, Instant)>>);

impl Front {
    fn listen() -> (Self, String) {
        let front = Self(Arc::new(Mutex::new((0.0, 0.0, Instant::now()))));
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let address = listener.local_addr().expect("it has an address").to_string();
        let served = front.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let reader = BufReader::new(&stream);
                let mut head =
                    reader.lines().take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
                while head.next().is_some() {}
                let body = format!("# TYPE {FAMILY} counter\n{FAMILY} {}\n", served.set(None));
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}", body.len());
                drop(write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}"));
            }
        });
        (front, address)
    }

    /// Sets the rate, if one is given; gives the count.
    fn set(&self, rate: Option<f64>) -> f64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, before, at) = *state;
        let now = Instant::now();
        let count = count + before * (now - at).as_secs_f64();
        *state = (count, rate.unwrap_or(before), now);
        count
    }
}

/// An autoscaler on `rival`, with no patience and no limit of its own: as fast as it can be.
async fn rival(control_plane: &ControlPlane, client: &Client, prometheus: &str) -> PrometheusAdapter {
    let query = format!("sum(rate({FAMILY}[1m]))");
    let adapter = PrometheusAdapter::start(control_plane, prometheus, METRIC, FAMILY, &query);
    let service = object::<Service>(json!({
        "metadata": { "name": "prometheus-adapter" },
        "spec": { "type": "ExternalName", "externalName": "localhost" },
    }));
    Api::default_namespaced(client.clone())
        .create(&PostParams::default(), &service)
        .await
        .expect("it is right");
    let api_service = object::<APIService>(json!({
        "metadata": { "name": "v1beta1.external.metrics.k8s.io" },
        "spec": {
            "group": "external.metrics.k8s.io", "version": "v1beta1", "insecureSkipTLSVerify": true,
            "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": { "namespace": "default", "name": "prometheus-adapter", "port": adapter.port() },
        },
    }));
    Api::<APIService>::all(client.clone())
        .create(&PostParams::default(), &api_service)
        .await
        .expect("it is right");
    let autoscaler = object::<HorizontalPodAutoscaler>(json!({
        "metadata": { "name": "rival" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "rival" },
            "minReplicas": 1, "maxReplicas": 40,
            "metrics": [{ "type": "External", "external": {
                "metric": { "name": METRIC },
                "target": { "type": "AverageValue", "averageValue": PER_REPLICA.to_string() },
            }}],
            "behavior": { "scaleUp": {
                "tolerance": "0", "policies": [{ "type": "Pods", "value": 40, "periodSeconds": 15 }],
            }},
        },
    }));
    Api::default_namespaced(client.clone())
        .create(&PostParams::default(), &autoscaler)
        .await
        .expect("it is right");
    waiting::until("an autoscaler that reads its metric", FOLLOWED, async || {
        let found =
            Api::<HorizontalPodAutoscaler>::default_namespaced(client.clone()).get("rival").await.ok()?;
        let conditions = found.status?.conditions?;
        conditions.iter().any(|c| c.type_ == "ScalingActive" && c.status == "True").then_some(())
    })
    .await;
    adapter
}

/// When a deployment has at least so many replicas, after `since`.
async fn sized(client: Client, name: &str, wanted: i32, since: Instant) -> Duration {
    let deployments = Api::<Deployment>::default_namespaced(client);
    waiting::until(&format!("{wanted} replicas of {name}"), FOLLOWED, async || {
        let size = deployments.get(name).await.ok()?.spec?.replicas?;
        (size >= wanted).then(|| since.elapsed())
    })
    .await
}

#[tokio::test]
async fn a_load_step_is_answered_sooner_than_by_an_autoscaler_that_reads_prometheus() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let _kwok = Kwok::start(&control_plane, &[FakeNode::with_cpus("node-a", 128)], Duration::ZERO).await;
    let client = control_plane.client();
    install(&client).await;
    for name in ["chat", "rival"] {
        deploy(&client, name, 1, json!({ "cpu": "1" }), json!({})).await;
    }
    let (front, address) = Front::listen();
    let prometheus = Prometheus::scraping(&[address], SCRAPES).await;
    let controller = Controller::start(&control_plane.kubeconfig(), "one", &[]).await;
    let agent = Agent::start(controller.digests(), "node-a");
    front.set(Some(STEPS[0]));
    agent.tell(CHAT, &load(STEPS[0]));
    policy(&client, "active", json!({ "replicas": { "min": 1, "max": 40 } })).await;
    let _adapter = rival(&control_plane, &client, prometheus.url()).await;
    waiting::until("a controller that acts", SOON, async || {
        let status = Api::<tidegate_actuator::crds::ServingPolicy>::default_namespaced(client.clone());
        let conditions = status.get("chat").await.ok()?.status?.conditions;
        conditions.iter().any(|c| c.type_ == "Active" && c.status == "True").then_some(())
    })
    .await;

    for step in STEPS.windows(2) {
        let [from, to] = *step else { unreachable!("windows of two") };
        #[expect(clippy::cast_possible_truncation, reason = "a few replicas")]
        let wanted = (to / (PER_REPLICA * TOLERANCE)).ceil() as i32;
        let since = Instant::now();
        front.set(Some(to));
        agent.tell(CHAT, &load(to));
        let (ours, theirs) = tokio::join!(
            sized(client.clone(), "chat", wanted, since),
            sized(client.clone(), "rival", wanted, since)
        );
        let times = theirs.as_secs_f64() / ours.as_secs_f64();
        println!(
            "{from} → {to} requests/s, {wanted} replicas written: Tidegate {:.1} s, autoscaler {:.1} s ({times:.0} times)",
            ours.as_secs_f64(),
            theirs.as_secs_f64()
        );
        assert!(ours <= ANSWERED && times >= SOONER, "step to {to}: {ours:?}, the autoscaler {theirs:?}");
    }
}
