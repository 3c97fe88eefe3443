//! What is pushed, as signals.

use super::*;
use crate::collect::pods::Pod;
use crate::collect::scrape::Objective;
use crate::otlp::messages::ExportMetricsServiceRequest;
use tidegate_core::{Signal, Subject, Timestamp};

fn at(millis: u64) -> Moment {
    let wall = Timestamp::from_millis(i64::try_from(millis).unwrap());
    Moment { at: wall, steady: Duration::from_millis(millis) }
}

/// A server by the semantic conventions: so many requests answered, each within 0.2 s but `late`, and so many under way.
fn push(resource: &str, served: u64, late: u64, active: u64) -> ExportMetricsServiceRequest {
    let text = format!(
        r#"{{"resourceMetrics": [{{"resource": {{"attributes": [{resource}]}}, "scopeMetrics": [{{"metrics": [
            {{"name": "http.server.request.duration", "unit": "s", "histogram": {{"aggregationTemporality": 2, "dataPoints": [
                {{"count": "{}", "sum": 1, "bucketCounts": ["{served}", "{late}"], "explicitBounds": [0.2]}}]}}}},
            {{"name": "http.server.active_requests", "unit": "{{request}}", "sum": {{"aggregationTemporality": 2,
                "dataPoints": [{{"asInt": "{active}"}}]}}}}
        ]}}]}}]}}"#,
        served + late
    );
    serde_json::from_str(&text).unwrap()
}

fn named(key: &str, value: &str) -> String {
    format!(r#"{{"key": "{key}", "value": {{"stringValue": "{value}"}}}}"#)
}

struct Bench {
    inbox: Arc<Inbox>,
    source: PushedSource,
    _pods: watch::Sender<PodTable>,
    _discovery: watch::Sender<Discovery>,
}

impl Bench {
    fn new() -> Self {
        let pod = |uid: &str, name: &str| Pod {
            uid: uid.into(),
            namespace: "ml".into(),
            name: name.into(),
            workload: Some("ml/deployment/chat".parse().unwrap()),
            ..Pod::default()
        };
        let pods = [pod("u-1", "chat-1"), pod("u-2", "chat-2")];
        let table = PodTable::new(pods.into_iter().map(|pod| (pod.uid.clone(), Arc::new(pod))).collect());
        let objective = Some(Objective { latency_seconds: 0.2, per_output_token_seconds: None });
        let scrape = WorkloadScrape { objective, ..WorkloadScrape::default() };
        let workloads = [(WorkloadId::local("shop").unwrap(), scrape)].into();
        let (pods, table) = watch::channel(table);
        let (discovery, settings) = watch::channel(Discovery { workloads, ..Discovery::default() });
        let inbox = Arc::new(Inbox::new());
        let source = PushedSource::new(Arc::clone(&inbox), table, settings);
        Self { inbox, source, _pods: pods, _discovery: discovery }
    }

    fn push(&self, millis: u64, request: &ExportMetricsServiceRequest) {
        assert_eq!(self.inbox.take(request, at(millis)).rejected(), 0);
    }

    fn read(&mut self, millis: u64) -> BTreeMap<(String, Signal), f64> {
        let reading = self.source.read(at(millis));
        let of = |subject: &Subject| match subject {
            Subject::Workload(id) => id.to_string(),
            other => panic!("{other:?}"),
        };
        reading.samples.iter().map(|one| ((of(&one.subject), one.signal), one.value)).collect()
    }
}

#[test]
fn a_service_of_this_machine_is_known_by_its_name() {
    let mut bench = Bench::new();
    let shop = named("service.name", "shop");
    bench.push(0, &push(&shop, 100, 0, 2));
    assert_eq!(bench.read(30), BTreeMap::new(), "the push may go on");
    let first = bench.read(400);
    assert_eq!(first[&("local/process/shop".into(), Signal::InFlight)], 2.0);
    bench.push(10_000, &push(&shop, 180, 20, 4));
    let told = bench.read(10_500);
    let of = |signal| told[&("local/process/shop".to_owned(), signal)];
    assert_eq!(of(Signal::CompletionsPerSecond), 10.0);
    assert_eq!(of(Signal::SloMissesPerSecond), 2.0);
    assert_eq!(of(Signal::RequestsPerSecond), 10.2, "completions and what came to wait");
    assert_eq!(bench.read(15_000), told, "a rate holds until the next push");
    assert_eq!(bench.read(40_100), BTreeMap::new(), "and no longer than three intervals");
    bench.push(41_000, &push(&named("service.name", "unheard-of"), 1, 0, 0));
    assert_eq!(bench.read(42_000), BTreeMap::new(), "a name that is not configured is no workload");
}

#[test]
fn a_sender_that_never_rests_is_read_all_the_same() {
    let mut bench = Bench::new();
    let shop = named("service.name", "shop");
    let mut told = Vec::new();
    for at in 0..100u64 {
        bench.push(at * 40, &push(&shop, at, 0, 3));
        told.extend(
            bench.read(at * 40 + 10).remove(&("local/process/shop".into(), Signal::CompletionsPerSecond)),
        );
    }
    assert!(told.len() > 30 && told.iter().all(|rate| (rate - 25.0).abs() < 0.1), "{told:?}");
}

#[test]
fn pods_add_up_and_one_that_is_late_is_taken_to_be_like_the_other() {
    let mut bench = Bench::new();
    let first = named("k8s.pod.uid", "u-1");
    let second = [named("k8s.namespace.name", "ml"), named("k8s.pod.name", "chat-2")].join(",");
    bench.push(0, &push(&first, 0, 0, 1));
    bench.push(0, &push(&second, 0, 0, 1));
    bench.read(400);
    bench.push(5_000, &push(&first, 50, 0, 1));
    bench.push(5_000, &push(&second, 150, 0, 1));
    let key = ("ml/deployment/chat".to_owned(), Signal::CompletionsPerSecond);
    assert_eq!(bench.read(5_400)[&key], 40.0);
    for seconds in [10, 15] {
        bench.push(seconds * 1000, &push(&first, 50 + 50 * (seconds / 5 - 1), 0, 1));
        bench.read(seconds * 1000 + 400);
    }
    assert_eq!(bench.read(15_500)[&key], 20.0, "10/s of the one that answers, twice");
    bench.push(20_000, &push(&first, 200, 0, 1));
    assert_eq!(bench.read(20_400)[&key], 10.0, "the other has fallen silent");
}
