//! The collectors at work on this machine, and sources that hang or panic.

use super::*;
use crate::clock::Moment;
use crate::collect::reading::{Cause, Reading};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use tidegate_core::{Label, Metric, Sample, WorkloadId};

/// Bound of every wait: far beyond what any of these takes.
const PATIENCE: Duration = Duration::from_secs(20);

const FAST: Paces = Paces {
    node: Duration::from_millis(50),
    filesystem: Duration::from_millis(50),
    process: Duration::from_millis(50),
    scrape: Duration::from_millis(50),
    container: Duration::from_millis(50),
    volume: Duration::from_millis(50),
    gpu: Duration::from_millis(50),
    kernel_log: Duration::from_millis(50),
};

/// Waits until `holds`, looking again after every batch or a short while.
async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never held");
}

#[tokio::test]
async fn tells_of_this_machine_and_this_process() {
    let id = WorkloadId::local("tests").unwrap();
    let group = ProcessGroup { workload: id.clone(), leaders: vec![std::process::id()] };
    let registry = Arc::new(Registry::new());
    let agent = Agent::builder()
        .node("/")
        .process("/", move || vec![group.clone()])
        .paces(FAST)
        .registry(Arc::clone(&registry))
        .start();
    let mut batches = agent.subscribe();
    let batch = tokio::time::timeout(PATIENCE, batches.recv()).await.unwrap().unwrap();
    assert!(!batch.samples.is_empty());
    let subject = Subject::Workload(id);
    until(|| agent.latest(&subject, Signal::CpuCores).is_some()).await;
    until(|| agent.latest(&Subject::Node, Signal::CpuBusyRatio).is_some()).await;
    let (memory, _) = agent.latest(&subject, Signal::MemoryBytes).unwrap();
    assert!(memory > 100_000.0, "{memory}");
    let status = agent.status();
    assert_eq!(status.sources[&SourceName::Node].up, Some(true));
    assert!(!status.sources.contains_key(&SourceName::Scrape), "a source that is off is absent");
    assert_eq!(registry.gauge(Metric::SourceUp, &[(Label::Source, "node")]).get(), Some(1.0));
    agent.shutdown().await;
}

/// Hangs in its second reading until it is let go, and gives the number of its reading otherwise.
struct Hanging {
    readings: usize,
    gate: Arc<std::sync::Mutex<mpsc::Receiver<()>>>,
}

impl BlockingSource for Hanging {
    fn read(&mut self, now: Moment) -> Reading {
        self.readings += 1;
        if self.readings == 2 {
            self.gate.lock().unwrap().recv().ok();
        }
        let value = f64::from(u32::try_from(self.readings).unwrap());
        Reading::of(Sample::new(Subject::Node, Signal::Load1, now.at, value).into_iter().collect())
    }
}

fn outlet() -> Outlet {
    Outlet {
        batches: broadcast::channel(BATCHES_MAX).0,
        latest: Arc::new(LatestValues::default()),
        board: Arc::new(StatusBoard::new(Arc::new(Registry::new()))),
        gpus: watch::channel(None).0,
    }
}

const PACE: Pace = Pace { every: Duration::from_millis(10), deadline: Duration::from_millis(100) };

#[tokio::test]
async fn a_stuck_source_is_reported_and_its_values_vanish() {
    let (let_go, gate) = mpsc::channel();
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let (outlet, (stop, stopped)) = (outlet(), watch::channel(false));
    let make = move || Hanging { readings: 0, gate: Arc::clone(&gate) };
    let task = tokio::spawn(run_blocking(SourceName::Node, PACE, make, outlet.clone(), stopped));
    let load = || outlet.latest.get(&Subject::Node, Signal::Load1).map(|latest| latest.value);
    until(|| load() == Some(1.0)).await;
    until(|| load().is_none()).await;
    let status = outlet.board.get().sources[&SourceName::Node].clone();
    assert!(status.stuck);
    assert_eq!((status.up, status.cause), (Some(false), Some(Cause::Timeout)));
    let_go.send(()).unwrap();
    until(|| load() >= Some(3.0)).await;
    assert!(!outlet.board.get().sources[&SourceName::Node].stuck, "it has come back");
    stop.send_replace(true);
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_hanging_source_does_not_hold_up_the_end() {
    let (_let_go, gate) = mpsc::channel();
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let (outlet, (stop, stopped)) = (outlet(), watch::channel(false));
    let make = move || Hanging { readings: 1, gate: Arc::clone(&gate) };
    let task = tokio::spawn(run_blocking(SourceName::Node, PACE, make, outlet.clone(), stopped));
    until(|| outlet.board.get().sources.get(&SourceName::Node).is_some_and(|source| source.stuck)).await;
    drop(stop);
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
}

/// Panics in its first life.
struct Panicking {
    life: usize,
}

impl BlockingSource for Panicking {
    fn read(&mut self, now: Moment) -> Reading {
        assert!(self.life > 0, "this panic is part of the test");
        Reading::of(Sample::new(Subject::Node, Signal::Load1, now.at, 7.0).into_iter().collect())
    }
}

#[tokio::test]
async fn a_source_that_panics_is_made_anew() {
    let (outlet, (stop, stopped)) = (outlet(), watch::channel(false));
    let lives = Arc::new(AtomicUsize::new(0));
    let make = move || Panicking { life: lives.fetch_add(1, Ordering::Relaxed) };
    let task = tokio::spawn(run_blocking(SourceName::Node, PACE, make, outlet.clone(), stopped));
    until(|| outlet.latest.get(&Subject::Node, Signal::Load1).is_some()).await;
    stop.send_replace(true);
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
}

fn chat_pod() -> PodTable {
    let chat = crate::collect::pods::Pod {
        uid: "u-1".into(),
        namespace: "ml".into(),
        name: "chat-1".into(),
        workload: Some("ml/deployment/chat".parse().unwrap()),
        annotations: [("prometheus.io/scrape".to_owned(), "true".to_owned())].into(),
        ip: Some([10, 0, 0, 7].into()),
        containers: vec![crate::collect::pods::PodContainer {
            ports: vec![crate::collect::pods::table::Port { name: String::new(), number: 8000 }],
            ..Default::default()
        }],
        ..Default::default()
    };
    PodTable::new([("u-1".to_owned(), Arc::new(chat))].into())
}

#[tokio::test]
async fn targets_follow_the_pods_and_what_is_given() {
    let (table, pods) = watch::channel(PodTable::default());
    let joins = Joins { pods, owners: watch::channel(Arc::default()).1 };
    let (stop, stopped) = watch::channel(false);
    let mut tasks = Tasks { outlet: outlet(), stopped, running: Vec::new() };
    let given = ScrapeTarget {
        workload: WorkloadId::local("own").unwrap(),
        name: "own".into(),
        url: "http://127.0.0.1:1/metrics".into(),
        rules: Vec::new(),
        select: std::collections::BTreeMap::new(),
        objective: None,
        deadline: ScrapeTarget::DEADLINE_DEFAULT,
        rarely: false,
    };
    let (discovery, settings) = watch::channel(Discovery::default());
    let mut targets = joins.targets(Some(watch::channel(vec![given]).1), settings, &mut tasks);
    let mut until = async |expected: &[&str]| {
        let is = |targets: &Vec<ScrapeTarget>| {
            targets.iter().map(|target| target.url.as_str()).eq(expected.iter().copied())
        };
        tokio::time::timeout(PATIENCE, targets.wait_for(is)).await.expect("it never held").unwrap();
    };
    until(&["http://127.0.0.1:1/metrics"]).await;
    table.send_replace(chat_pod());
    until(&["http://127.0.0.1:1/metrics", "http://10.0.0.7:8000/metrics"]).await;
    discovery.send_modify(|settings| {
        let of_chat = crate::collect::WorkloadScrape { path: Some("/m".into()), ..Default::default() };
        settings.workloads.insert("ml/deployment/chat".parse().unwrap(), of_chat);
    });
    until(&["http://127.0.0.1:1/metrics", "http://10.0.0.7:8000/m"]).await;
    table.send_replace(PodTable::default());
    until(&["http://127.0.0.1:1/metrics"]).await;
    stop.send_replace(true);
    for task in tasks.running {
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    }
}

#[test]
fn the_age_of_the_pods_is_told_from_the_first_table_on() {
    let at = |seconds| Moment { at: Timestamp::EPOCH, steady: Duration::from_secs(seconds) };
    let (table, pods) = watch::channel(PodTable::default());
    let joins = Joins { pods, owners: watch::channel(Arc::default()).1 };
    let registry = Registry::new();
    joins.tell(&registry, &at(50));
    let age = || registry.gauge(Metric::PodsAge, &[]).get();
    let count = || registry.gauge(Metric::Pods, &[]).get();
    assert_eq!((age(), count()), (None, None));
    table.send_replace(chat_pod());
    joins.tell(&registry, &at(50));
    assert_eq!((age(), count()), (Some(0.0), Some(1.0)));
    table.send_modify(|table| *table = table.clone().lost(at(60)));
    joins.tell(&registry, &at(65));
    assert_eq!((age(), count()), (Some(5.0), Some(1.0)));
}
