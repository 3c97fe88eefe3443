//! Which pods are asked for their metrics, and where: from the table of pods and from what is configured. Pure.
//!
//! A pod asks to be scraped by annotation (`prometheus.io/scrape`, `port`, `path`), or by naming a port of a container `metrics` or
//! `http-metrics`; a workload's own settings come before both. Only pods of workloads are asked: what others expose belongs to
//! no signal.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate_core::WorkloadId;

use super::table::{Pod, PodTable};
use crate::collect::scrape::{Objective, ScrapeTarget, SignalRule};

const SCRAPE: &str = "prometheus.io/scrape";
const PORT: &str = "prometheus.io/port";
const PATH: &str = "prometheus.io/path";
const SCHEME: &str = "prometheus.io/scheme";
/// Names of ports that serve metrics by convention.
const METRICS_PORTS: [&str; 2] = ["metrics", "http-metrics"];
const USUAL_PATH: &str = "/metrics";

/// A port, as settings name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By the name that a container gives it.
    Name(String),
}

/// How the pods of one workload are asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkloadScrape {
    /// Where; as the pod itself says when `None`.
    pub port: Option<PortRef>,
    /// Path; as the pod itself says when `None`.
    pub path: Option<String>,
    /// The user's own rules for what is found there.
    pub rules: Vec<SignalRule>,
    /// Labels that a series must bear with these values, if it bears them at all; for one of several models in a server.
    pub select: BTreeMap<String, String>,
    /// The workload's objective; with it, misses are told.
    pub objective: Option<Objective>,
    /// Whether the controller wants to know what each pod has in flight.
    pub tells_pods: bool,
}

/// What is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovery {
    /// By workload; one that is absent is asked as its pods say.
    pub workloads: BTreeMap<WorkloadId, WorkloadScrape>,
    /// How long a scrape may take.
    pub deadline: Duration,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { workloads: BTreeMap::new(), deadline: ScrapeTarget::DEADLINE_DEFAULT }
    }
}

/// The targets of this node, in an order that does not change with its pods' uids.
#[must_use]
pub fn targets(pods: &PodTable, discovery: &Discovery) -> Vec<ScrapeTarget> {
    let usual = WorkloadScrape::default();
    let of_pod = |pod: &Pod| {
        let workload = pod.workload.as_ref().filter(|_| !pod.ended)?;
        let of_policy = discovery.workloads.get(workload);
        let settings = of_policy.unwrap_or(&usual);
        let (address, path) = (SocketAddr::new(pod.ip?, port(pod, settings)?), path(pod, settings));
        Some(ScrapeTarget {
            workload: workload.clone(),
            name: format!("{}/{}:{}", pod.namespace, pod.name, address.port()),
            url: format!("http://{address}{path}"),
            rules: settings.rules.clone(),
            select: settings.select.clone(),
            objective: settings.objective,
            deadline: discovery.deadline,
            rarely: of_policy.is_none(),
        })
    };
    let mut targets: Vec<_> = pods.pods().filter_map(|pod| of_pod(pod)).collect();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    targets.dedup_by(|a, b| a.name == b.name);
    targets
}

fn port(pod: &Pod, settings: &WorkloadScrape) -> Option<u16> {
    let annotation = |name: &str| pod.annotations.get(name).map(|value| value.trim());
    let ports = || pod.containers.iter().flat_map(|container| &container.ports);
    let named =
        |names: &[&str]| ports().find(|port| names.contains(&port.name.as_str())).map(|port| port.number);
    match &settings.port {
        Some(PortRef::Number(number)) => return Some(*number),
        Some(PortRef::Name(name)) => return named(&[name]),
        None => {}
    }
    // What speaks only TLS cannot be asked.
    if annotation(SCHEME).is_some_and(|scheme| scheme != "http") {
        return None;
    }
    match annotation(SCRAPE) {
        Some("true") => match annotation(PORT) {
            Some(port) => port.parse().ok().filter(|port| *port > 0),
            None => named(&METRICS_PORTS).or_else(|| ports().next().map(|port| port.number)),
        },
        Some(_) => None,
        None => named(&METRICS_PORTS),
    }
}

fn path(pod: &Pod, settings: &WorkloadScrape) -> String {
    let annotation = pod.annotations.get(PATH).map(String::as_str);
    let path = settings.path.as_deref().or(annotation).filter(|path| !path.is_empty()).unwrap_or(USUAL_PATH);
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::super::table::{PodContainer, Port};
    use super::*;
    use std::sync::Arc;

    fn pod(annotations: &[(&str, &str)], ports: &[(&str, u16)]) -> Pod {
        let ports = ports.iter().map(|(name, number)| Port { name: (*name).into(), number: *number });
        Pod {
            uid: "u-1".into(),
            namespace: "ml".into(),
            name: "chat-1".into(),
            annotations: annotations.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            workload: Some("ml/deployment/chat".parse().unwrap()),
            ip: Some([10, 0, 0, 7].into()),
            containers: vec![PodContainer { ports: ports.collect(), ..PodContainer::default() }],
            ..Pod::default()
        }
    }

    fn urls(pod: Pod, discovery: &Discovery) -> Vec<String> {
        let table = PodTable::new([(pod.uid.clone(), Arc::new(pod))].into());
        targets(&table, discovery).into_iter().map(|target| target.url).collect()
    }

    fn check(annotations: &[(&str, &str)], ports: &[(&str, u16)], expected: Option<&str>) {
        let found = urls(pod(annotations, ports), &Discovery::default());
        assert_eq!(found.first().map(String::as_str), expected, "{annotations:?} {ports:?}");
    }

    #[test]
    fn pods_say_where_they_are_asked() {
        let (metrics, http) = (("metrics", 9090), ("http", 8000));
        check(&[], &[http, metrics], Some("http://10.0.0.7:9090/metrics"));
        check(&[], &[("http-metrics", 9091)], Some("http://10.0.0.7:9091/metrics"));
        check(&[], &[http], None);
        check(&[(SCRAPE, "true")], &[http], Some("http://10.0.0.7:8000/metrics"));
        check(&[(SCRAPE, "true")], &[http, metrics], Some("http://10.0.0.7:9090/metrics"));
        check(&[(SCRAPE, "true")], &[], None);
        check(&[(SCRAPE, "true"), (PORT, " 8001 ")], &[], Some("http://10.0.0.7:8001/metrics"));
        check(&[(SCRAPE, "true"), (PORT, "8001"), (PATH, "m")], &[], Some("http://10.0.0.7:8001/m"));
        check(&[(SCRAPE, "true"), (PORT, "0")], &[http], None);
        check(&[(SCRAPE, "true"), (PORT, "http")], &[http], None);
        check(&[(SCRAPE, "false")], &[metrics], None);
        check(&[(SCRAPE, "true"), (PORT, "8001"), (SCHEME, "https")], &[], None);
        check(&[(PATH, "/prometheus")], &[metrics], Some("http://10.0.0.7:9090/prometheus"));
    }

    #[test]
    fn settings_come_before_what_pods_say() {
        let chat: WorkloadId = "ml/deployment/chat".parse().unwrap();
        let with = |port, path: Option<&str>| Discovery {
            workloads: [(
                chat.clone(),
                WorkloadScrape { port, path: path.map(Into::into), ..WorkloadScrape::default() },
            )]
            .into(),
            ..Discovery::default()
        };
        let pod = || pod(&[(SCRAPE, "false"), (PATH, "/a")], &[("http", 8000)]);
        assert_eq!(urls(pod(), &with(Some(PortRef::Number(1)), None)), ["http://10.0.0.7:1/a"]);
        let named = with(Some(PortRef::Name("http".into())), Some("/b"));
        assert_eq!(urls(pod(), &named), ["http://10.0.0.7:8000/b"]);
        assert!(urls(pod(), &with(Some(PortRef::Name("other".into())), None)).is_empty());
    }

    #[test]
    fn pods_that_cannot_be_asked_are_left_out() {
        let metrics: (&[_], &[_]) = (&[], &[("metrics", 9090)]);
        let whole = pod(metrics.0, metrics.1);
        let of = |pod: Pod| urls(pod, &Discovery::default());
        assert!(of(Pod { workload: None, ..whole.clone() }).is_empty());
        assert!(of(Pod { ip: None, ..whole.clone() }).is_empty());
        assert!(of(Pod { ended: true, ..whole.clone() }).is_empty());
        let v6 = Pod { ip: Some("fd00::7".parse().unwrap()), ..whole };
        assert_eq!(of(v6), ["http://[fd00::7]:9090/metrics"]);
    }
}
