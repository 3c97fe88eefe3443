//! Whole pages: as text, and read back with this crate's own parser.

use super::*;
use crate::collect::latest::Giver;
use crate::collect::scrape::page::{Dialect, PageEnd, PageReader, ScrapeLimits};
use crate::collect::scrape::text::Line;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use tidegate_core::{Sample, Timestamp, WorkloadId};

fn now(seconds: u64) -> Moment {
    Moment { at: Timestamp::from_secs(i64::try_from(seconds).unwrap()), steady: Duration::from_secs(seconds) }
}

fn exporter(samples: &[Sample]) -> Exporter {
    let latest = Arc::new(LatestValues::default());
    latest.replace(Giver::Part("test"), samples, |_| None);
    Exporter::new(Arc::new(Registry::new()), latest, Duration::from_secs(30))
}

fn sample(subject: Subject, signal: Signal, value: f64) -> Sample {
    Sample::new(subject, signal, Timestamp::from_secs(100), value).unwrap()
}

fn text(exporter: &Exporter, format: Format, seconds: u64) -> String {
    String::from_utf8(exporter.render(format, now(seconds))).unwrap()
}

type Series = (String, Vec<(String, String)>, f64);

fn read_back(page: &str, dialect: Dialect) -> (Vec<Series>, Vec<String>, PageEnd) {
    let (mut series, mut types) = (Vec::new(), Vec::new());
    let mut take = |line: &Line<'_>| match line {
        Line::Series(line) => {
            let labels =
                line.labels.iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
            series.push((line.name.to_string(), labels, line.value));
        }
        Line::Type { family, .. } => types.push((*family).to_owned()),
        _ => {}
    };
    let mut reader = PageReader::new(dialect, ScrapeLimits::default());
    assert!(reader.feed(page.as_bytes(), &mut take).is_continue());
    let end = reader.finish(&mut take);
    (series, types, end)
}

fn example() -> Exporter {
    let id = Subject::Workload(WorkloadId::local("chat").unwrap());
    let exporter = exporter(&[
        sample(id, Signal::RequestsPerSecond, 12.5),
        sample(Subject::NodePart("/a \"b\" \\c\n".into()), Signal::FilesystemAvailableBytes, 5e18),
        sample(Subject::Node, Signal::CpuBusyRatio, 0.25),
    ]);
    exporter.registry.counter(Metric::ProcessCpuSeconds, &[]).add(1.5);
    let seconds =
        exporter.registry.histogram(Metric::GatewaySeconds, &[(Label::Workload, "local/process/chat")]);
    [0.0, 0.002, 0.5, 100.0].into_iter().for_each(|value| seconds.observe(value));
    exporter
}

/// The page without the buckets of the histogram, which have a test of their own.
fn without_buckets(page: &str) -> String {
    page.lines().filter(|line| !line.contains("_bucket{")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_text_page_is_as_prometheus_reads_it() {
    let page = text(&example(), Format::Text, 100);
    assert_eq!(
        without_buckets(&page),
        r#"# HELP tidegate_workload_requests_per_second Arriving requests per second, whether served or not.
# TYPE tidegate_workload_requests_per_second gauge
tidegate_workload_requests_per_second{workload="local/process/chat"} 12.5
# HELP tidegate_node_cpu_busy_ratio Share of CPU time not idle, all cores together.
# TYPE tidegate_node_cpu_busy_ratio gauge
tidegate_node_cpu_busy_ratio 0.25
# HELP tidegate_node_filesystem_available_bytes Bytes that an ordinary user may still write.
# TYPE tidegate_node_filesystem_available_bytes gauge
tidegate_node_filesystem_available_bytes{mountpoint="/a \"b\" \\c\n"} 5e18
# HELP tidegate_build_info Always 1; the version is in the label.
# TYPE tidegate_build_info gauge
tidegate_build_info{version="0.1.0"} 1
# HELP process_cpu_seconds_total CPU time used by Tidegate itself.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.5
# HELP tidegate_metrics_series_refused_total Series left off this page because their family holds the most it may.
# TYPE tidegate_metrics_series_refused_total counter
tidegate_metrics_series_refused_total 0
# HELP tidegate_gateway_request_seconds Time from arrival to answer at the local gateway.
# TYPE tidegate_gateway_request_seconds histogram
tidegate_gateway_request_seconds_sum{workload="local/process/chat"} 100.502
tidegate_gateway_request_seconds_count{workload="local/process/chat"} 4
"#
    );
}

#[test]
fn a_container_is_shown_by_the_names_that_its_source_knows() {
    let latest = Arc::new(LatestValues::default());
    let subject = |name: &str| Subject::Container { pod: "c9a5".into(), name: name.into() };
    let samples = [
        sample(subject("vllm"), Signal::ContainerCpuCores, 1.5),
        sample(subject("4f1d"), Signal::ContainerCpuCores, 0.5),
        sample(Subject::Volume { pod: "c9a5".into(), name: "cache".into() }, Signal::PodVolumeSizeBytes, 8.0),
        sample(Subject::Pod("c9a5".into()), Signal::PodVolumeSizeBytes, 9.0),
    ];
    let names = vec![(Label::Namespace, "ml".into()), (Label::Pod, "chat-0".into())];
    let names = HashMap::from([(subject("vllm"), names)]);
    latest.replace_named(Giver::Part("test"), &samples, |_| None, names);
    let page = text(&Exporter::new(Arc::default(), latest, Duration::from_secs(30)), Format::Text, 100);
    let (cores, size) = (Signal::ContainerCpuCores.metric_name(), Signal::PodVolumeSizeBytes.metric_name());
    for (name, rest) in [
        (cores, r#"{namespace="ml",pod="chat-0",pod_uid="c9a5",container="vllm",workload=""} 1.5"#),
        (cores, r#"{namespace="",pod="",pod_uid="c9a5",container="4f1d",workload=""} 0.5"#),
        (size, r#"{namespace="",pod="",pod_uid="c9a5",volume="cache",workload=""} 8"#),
    ] {
        assert!(page.contains(&format!("\n{name}{rest}\n")), "{name}{rest} is not in\n{page}");
    }
    assert!(!page.contains("} 9\n"), "a pod has no size, its volumes have");
}

#[test]
fn the_openmetrics_page_names_counters_units_and_its_end() {
    let page = text(&example(), Format::OpenMetrics, 100);
    for expected in [
        "# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\nprocess_cpu_seconds_total 1.5\n",
        "# TYPE tidegate_node_cpu_busy_ratio gauge\n# UNIT tidegate_node_cpu_busy_ratio ratio\n",
        "# TYPE tidegate_workload_requests_per_second gauge\ntidegate_workload",
        "# UNIT tidegate_gateway_request_seconds seconds\n",
    ] {
        assert!(page.contains(expected), "{expected:?} is not in\n{page}");
    }
    assert!(page.ends_with("\n# EOF\n"));
}

#[test]
fn buckets_are_cumulative_and_exact() {
    let (series, _, _) = read_back(&text(&example(), Format::Text, 100), Dialect::Text);
    let buckets: Vec<(f64, f64)> = series
        .iter()
        .filter(|(name, ..)| *name == format!("{}_bucket", Metric::GatewaySeconds.family().name))
        .map(|(_, labels, count)| (labels[1].1.parse().unwrap(), *count))
        .collect();
    assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{buckets:?}");
    let at = |bound: f64| buckets.iter().find(|bucket| bucket.0 == bound).unwrap().1;
    assert_eq!((at(0.000_976_562_5), at(0.003_906_25), at(0.5), at(64.0)), (1.0, 2.0, 3.0, 3.0));
    assert_eq!(at(f64::INFINITY), 4.0);
}

#[test]
fn every_family_is_announced_once_and_the_page_reads_back() {
    for (format, dialect) in [(Format::Text, Dialect::Text), (Format::OpenMetrics, Dialect::OpenMetrics)] {
        let (series, types, end) = read_back(&text(&example(), format, 100), dialect);
        assert_eq!(end.causes, BTreeMap::new(), "our own page is without fault");
        assert!(!end.cut);
        assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len());
        let mountpoint =
            series.iter().find(|(name, ..)| name == Signal::FilesystemAvailableBytes.metric_name()).unwrap();
        assert_eq!(mountpoint.1, [("mountpoint".to_owned(), "/a \"b\" \\c\n".to_owned())]);
        assert_eq!(mountpoint.2, 5e18);
    }
}

#[test]
fn stale_signals_vanish() {
    let exporter = exporter(&[sample(Subject::Node, Signal::Load1, 1.0)]);
    let shows = |seconds| text(&exporter, Format::Text, seconds).contains(Signal::Load1.metric_name());
    assert!(shows(130));
    assert!(!shows(131));
}

#[test]
fn a_page_is_made_at_most_once_a_second() {
    let exporter = exporter(&[]);
    let first = exporter.page_at(Format::Text, now(10));
    exporter.registry.counter(Metric::ProcessCpuSeconds, &[]).add(9.0);
    let soon = Moment { steady: Duration::from_millis(10_999), ..now(10) };
    assert_eq!(exporter.page_at(Format::Text, soon), first);
    assert_ne!(exporter.page_at(Format::Text, now(11)), first);
}

#[test]
fn a_signal_of_another_kind_of_subject_is_not_shown() {
    let id = Subject::Workload(WorkloadId::local("chat").unwrap());
    let page = text(&exporter(&[sample(id, Signal::Load1, 1.0)]), Format::Text, 100);
    assert!(!page.contains(Signal::Load1.metric_name()));
}

proptest! {
    #[test]
    fn any_label_and_value_read_back(part in "\\PC{0,12}", odd in "[\\\\\"\n{},= ]{0,6}", value in any::<f64>()) {
        let part = format!("{part}{odd}");
        let given = Sample::new(Subject::NodePart(part.clone()), Signal::DiskReadBytesPerSecond, Timestamp::from_secs(100), value);
        let exporter = exporter(&given.clone().into_iter().collect::<Vec<_>>());
        for (format, dialect) in [(Format::Text, Dialect::Text), (Format::OpenMetrics, Dialect::OpenMetrics)] {
            let (series, _, end) = read_back(&text(&exporter, format, 100), dialect);
            prop_assert!(end.causes.is_empty());
            let found = series.into_iter().find(|(name, ..)| name == Signal::DiskReadBytesPerSecond.metric_name());
            let expected = given.as_ref().map(|_| (vec![("device".to_owned(), part.clone())], value));
            prop_assert_eq!(found.map(|(_, labels, value)| (labels, value)), expected);
        }
    }
}

/// What an SDK pushes, and what would break the page: our own name, and a sender that nothing tells from another.
const PUSHED: &str = r#"{"resourceMetrics": [
    {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "chat"}}, {"key": "pid", "value": {"intValue": 1}}]},
     "scopeMetrics": [{"metrics": [
        {"name": "answers", "unit": "1", "description": "Answers \\ all\nof them.", "sum": {"aggregationTemporality": 2,
            "isMonotonic": true, "dataPoints": [{"asInt": "7", "attributes": [{"key": "code", "value": {"stringValue": "2\"0\"0"}}]}]}},
        {"name": "took", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"count": "3", "sum": 1.5, "bucketCounts": ["1", "2"], "explicitBounds": [0.5]}]}},
        {"name": "native", "unit": "s", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
            {"count": 2, "sum": 3, "scale": 3, "positive": {"offset": 7, "bucketCounts": ["1", "1"]}}]}},
        {"name": "old", "summary": {"dataPoints": [{"count": "4", "sum": 8, "quantileValues": [{"quantile": 0.5, "value": 2}]}]}},
        {"name": "tidegate.otlp.points", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{"asInt": 1}]}}
     ]}]},
    {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "chat"}}, {"key": "pid", "value": {"intValue": 2}}]},
     "scopeMetrics": [{"metrics": [{"name": "queue", "gauge": {"dataPoints": [{"asDouble": 1}]}},
        {"name": "took", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [{"count": "1", "bucketCounts": ["1"]}]}}]}]}
]}"#;

#[test]
fn what_is_pushed_stands_on_the_page_as_it_came() {
    let inbox = Arc::new(Inbox::new());
    let taken = inbox.take(&serde_json::from_str(PUSHED).unwrap(), now(100));
    assert_eq!((taken.accepted, taken.rejected()), (7, 0));
    let exporter = example().with_pushed(Some(inbox));
    exporter.registry.counter(Metric::OtlpPoints, &[]).inc();
    for format in [Format::Text, Format::OpenMetrics] {
        let page = text(&exporter, format, 100);
        let dialect = if format == Format::Text { Dialect::Text } else { Dialect::OpenMetrics };
        let (series, types, end) = read_back(&page, dialect);
        assert_eq!(end.causes, Default::default(), "{page}");
        assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len(), "no family stands twice");
        let value = |name: &str, label: &str, of: &str| {
            let found = series.iter().find(|(series, labels, _)| {
                series == name && labels.iter().any(|(known, value)| known == label && value == of)
            });
            found.map(|(.., value)| *value)
        };
        assert_eq!(value("answers_total", "code", "2\"0\"0"), Some(7.0));
        assert_eq!(value("took_seconds_bucket", "le", "0.5"), Some(1.0));
        assert_eq!(value("took_seconds_sum", "job", "chat"), Some(1.5));
        assert_eq!(value("native_seconds_bucket", "le", "2"), Some(1.0));
        assert_eq!(value("old", "quantile", "0.5"), Some(2.0));
        assert_eq!(value("queue", "job", "chat"), Some(1.0));
        assert!(
            page.contains("# TYPE took_seconds histogram") && page.contains("Answers \\\\ all\\nof them.")
        );
        assert_eq!(page.ends_with("# EOF\n"), format == Format::OpenMetrics);
    }
    let left_off = text(&exporter, Format::Text, 100);
    assert!(
        left_off.contains(&format!("{} 4", Metric::SeriesRefused.family().name)),
        "our own name, and a double, twice so far"
    );
    let protobuf = exporter.render(Format::Protobuf, now(100));
    assert!(protobuf.windows(13).any(|part| part == b"answers_total"));
}
