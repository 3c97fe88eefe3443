//! The service over real connections on loopback.

use tokio::task::JoinHandle;

use super::*;
use crate::faults::Fault;
use crate::model::Model;
use crate::testing::{Lines, get, send, try_send, until};

struct Running {
    addr: SocketAddr,
    lines: Lines,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
    dir: tempfile::TempDir,
}

impl Running {
    async fn start(change: impl FnOnce(&mut ServeArgs)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model.bin");
        Saved { model: Model::untrained(1), steps: 5 }.write(&model).unwrap();
        let mut args = ServeArgs {
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 0,
            model,
            service_time: Duration::from_millis(20),
            concurrency: 2,
            queue: 8,
            load_time: Duration::ZERO,
            faults: Some(dir.path().join("faults")),
        };
        change(&mut args);
        std::fs::create_dir(dir.path().join("faults")).unwrap();
        let (lines, stop) = (Lines::default(), CancellationToken::new());
        let server = Server::bind(args, lines.log()).await.unwrap();
        let addr = server.addr();
        let task = tokio::spawn(server.run(stop.clone()));
        Self { addr, lines, stop, task, dir }
    }

    async fn ready(change: impl FnOnce(&mut ServeArgs)) -> Self {
        let running = Self::start(change).await;
        until("ready", async || get(running.addr, "/readyz").await.status == 200).await;
        running
    }

    fn fault(&self, fault: Fault) {
        std::fs::write(self.dir.path().join("faults").join(fault.file_name()), "").unwrap();
    }

    async fn metric(&self, name: &str) -> f64 {
        get(self.addr, "/metrics").await.metric(name).unwrap()
    }
}

fn blank() -> String {
    serde_json::json!({ "pixels": vec![0.5; 64] }).to_string()
}

#[tokio::test]
async fn is_alive_at_once_and_ready_when_the_model_is_loaded() {
    let running = Running::start(|args| args.load_time = Duration::from_millis(400)).await;
    assert_eq!(get(running.addr, "/healthz").await.status, 200);
    let early = get(running.addr, "/readyz").await;
    assert_eq!(early.status, 503);
    assert!(early.head.contains("application/problem+json"), "{}", early.head);
    assert_eq!(send(running.addr, "POST", "/predict", &blank()).await.status, 503);
    assert_eq!(running.metric("digits_ready").await, 0.0);
    until("ready", async || get(running.addr, "/readyz").await.status == 200).await;
    assert_eq!(running.metric("digits_ready").await, 1.0);
    let line = &running.lines.with("ready")[0];
    assert!(line["load_seconds"].as_f64().unwrap() >= 0.4, "{line}");
}

#[tokio::test]
async fn answers_count_in_metrics_and_leave_an_access_line_each() {
    let running = Running::ready(|_| {}).await;
    let answer = send(running.addr, "POST", "/predict", &blank()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    assert!(json["digit"].as_u64().unwrap() < 10);
    assert!((0.1..=1.0).contains(&json["confidence"].as_f64().unwrap()));
    assert!(json["model_version"].as_str().unwrap().starts_with("5-"));
    assert_eq!(running.metric("digits_requests_total{code=\"200\"}").await, 1.0);
    assert_eq!(running.metric("digits_request_duration_seconds_count").await, 1.0);
    let line = &running.lines.with("request")[0];
    assert_eq!(
        (&line["method"], &line["path"], &line["status"]),
        (&"POST".into(), &"/predict".into(), &200.into())
    );
    assert!(line["duration_ms"].as_f64().unwrap() > 1.0, "{line}");
    assert!(answer.head.contains(line["request_id"].as_str().unwrap()), "{}", answer.head);
}

#[tokio::test]
async fn bad_input_is_refused_with_what_was_expected() {
    let running = Running::ready(|_| {}).await;
    let mut bright = vec![0.5; 64];
    bright[3] = 7.0;
    let cases = [
        ("{".to_owned(), "expected"),
        (serde_json::json!({ "pixels": [1.0] }).to_string(), "64 pixels, got 1"),
        (serde_json::json!({ "pixels": bright }).to_string(), "got 7 as number 4"),
        (serde_json::json!({ "pixels": vec![0.5; 64], "label": 1 }).to_string(), "unknown field"),
        (" ".repeat(100_000), "at most 65536 bytes"),
    ];
    for (body, expected) in cases {
        let answer = send(running.addr, "POST", "/predict", &body).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.contains(expected), "{}", answer.body);
    }
    assert_eq!(get(running.addr, "/predict").await.status, 405);
    assert_eq!(get(running.addr, "/nothing").await.status, 404);
    assert_eq!(running.metric("digits_requests_total{code=\"400\"}").await, 5.0);
}

#[tokio::test]
async fn one_more_than_may_wait_is_refused_and_the_others_are_served() {
    let running = Running::ready(|args| {
        (args.concurrency, args.queue, args.service_time) = (1, 1, Duration::from_secs(1));
    })
    .await;
    let ask = || {
        let addr = running.addr;
        tokio::spawn(async move { send(addr, "POST", "/predict", &blank()).await.status })
    };
    let first = ask();
    until("one is served", async || running.metric("digits_in_flight").await == 1.0).await;
    let second = ask();
    until("one waits", async || running.metric("digits_queue_depth").await == 1.0).await;
    assert_eq!(send(running.addr, "POST", "/predict", &blank()).await.status, 503);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (200, 200));
}

#[tokio::test]
async fn a_stop_answers_what_was_taken_and_nothing_more() {
    let running = Running::ready(|args| args.service_time = Duration::from_millis(500)).await;
    let addr = running.addr;
    let taken = tokio::spawn(async move { send(addr, "POST", "/predict", &blank()).await.status });
    until("taken", async || running.metric("digits_in_flight").await == 1.0).await;
    running.stop.cancel();
    assert_eq!(taken.await.unwrap(), 200);
    running.task.await.unwrap().unwrap();
    assert!(try_send(addr, "GET", "/healthz", "").await.is_none(), "it still listens");
    assert_eq!(running.lines.with("stopped")[0]["unfinished"], 0);
}

#[tokio::test]
async fn a_caller_that_goes_away_is_recorded_and_frees_its_place() {
    let running = Running::ready(|args| args.service_time = Duration::from_secs(60)).await;
    let addr = running.addr;
    let gone = tokio::spawn(async move { send(addr, "POST", "/predict", &blank()).await });
    until("taken", async || running.metric("digits_in_flight").await == 1.0).await;
    gone.abort();
    until("place is free", async || running.metric("digits_in_flight").await == 0.0).await;
    assert_eq!(running.lines.with("request")[0]["status"], 499);
}

#[tokio::test]
async fn faults_hide_the_metrics_slow_the_service_and_end_the_process() {
    let running = Running::ready(|args| args.service_time = Duration::from_millis(100)).await;
    running.fault(Fault::NoMetrics);
    assert_eq!(get(running.addr, "/metrics").await.status, 503);
    running.fault(Fault::Slow);
    let started = Instant::now();
    assert_eq!(send(running.addr, "POST", "/predict", &blank()).await.status, 200);
    // Five times a lognormal draw of mean 100 ms: below 230 ms in fewer than one of a million.
    assert!(started.elapsed() > Duration::from_millis(230), "{:?}", started.elapsed());
    running.fault(Fault::Crash);
    let error = running.task.await.unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Crashed));
    assert_eq!(running.lines.with("crashed").len(), 1);
}

#[tokio::test]
async fn a_wrong_model_or_a_taken_port_is_an_error() {
    let running = Running::start(|_| {}).await;
    let args = |model: PathBuf, port| ServeArgs {
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        port,
        model,
        service_time: Duration::ZERO,
        concurrency: 1,
        queue: 0,
        load_time: Duration::ZERO,
        faults: None,
    };
    let model = running.dir.path().join("model.bin");
    let taken = Server::bind(args(model, running.addr.port()), Lines::default().log()).await;
    assert!(matches!(taken, Err(ServeError::Listen { .. })));
    let wrong = running.dir.path().join("wrong.bin");
    std::fs::write(&wrong, "not a model").unwrap();
    let wrong = Server::bind(args(wrong, 0), Lines::default().log()).await;
    assert!(matches!(wrong, Err(ServeError::Model(FileError::Wrong { .. }))));
}
