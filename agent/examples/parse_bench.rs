//! Prints how fast a page is parsed and made: `cargo run --release -p tidegate-agent --example parse_bench`.
//! Figures, not a test: they depend on the machine.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use tidegate_agent::clock;
use tidegate_agent::collect::LatestValues;
use tidegate_agent::collect::latest::Giver;
use tidegate_agent::collect::reading::Names;
use tidegate_agent::collect::scrape::page::{Dialect, PageReader, ScrapeLimits};
use tidegate_agent::export::{Exporter, Format, Registry};
use tidegate_core::{Label, Sample, Scope, Signal, Subject, WorkloadId};

/// Long enough for a steady figure.
const PARSE_FOR: Duration = Duration::from_secs(3);
/// Pages made, of which the slowest in a hundred is told.
const PAGES: usize = 300;
/// Workloads with nine signals each, and a hundred disks with two: 5,000 series with the node's own.
const WORKLOADS: usize = 533;
/// Of a large node; the kubelet's own bound is 110.
const PODS: usize = 200;

#[expect(clippy::print_stdout, reason = "its figures are what this program is for")]
fn main() {
    for (name, page) in [("vLLM-like", vllm(200)), ("node_exporter-like", plain(20_000))] {
        let (rate, series) = parse_rate(page.as_bytes());
        println!("parse {name}: {rate:.0} MB/s ({series} series, {} KB a page)", page.len() / 1000);
    }
    for (name, exporter) in [("workloads", workloads()), ("200 pods", pods())] {
        for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
            let (p99, bytes) = encode_p99(&exporter, format);
            println!(
                "encode {name}, {format:?}: p99 {:.2} ms ({} series, {} KB a page)",
                p99.as_secs_f64() * 1e3,
                series(&exporter),
                bytes / 1000
            );
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a few seconds fit in 53 bits")]
fn parse_rate(page: &[u8]) -> (f64, u64) {
    let limits = ScrapeLimits { body_bytes_max: u64::MAX, series_max: u64::MAX, ..ScrapeLimits::default() };
    let (start, mut bytes, mut series) = (clock::steady(), 0, 0);
    while clock::steady() - start < PARSE_FOR {
        let mut reader = PageReader::new(Dialect::Text, limits);
        // Chunks of the size that a socket gives.
        for chunk in page.chunks(16 * 1024) {
            assert!(reader.feed(chunk, &mut |line| drop(black_box(line.clone()))).is_continue());
        }
        let end = reader.finish(&mut |_| {});
        assert!(end.causes.is_empty());
        series = end.series;
        bytes += page.len();
    }
    (bytes as f64 / (clock::steady() - start).as_secs_f64() / 1e6, series)
}

/// The slowest of a hundred pages, and the last page's bytes.
fn encode_p99(exporter: &Exporter, format: Format) -> (Duration, usize) {
    let (mut took, mut page) = (Vec::new(), Vec::new());
    for _ in 0..PAGES {
        let now = clock::now();
        page = exporter.render(format, now);
        took.push(clock::steady() - now.steady);
    }
    took.sort_unstable();
    (took[PAGES * 99 / 100], page.len())
}

fn series(exporter: &Exporter) -> usize {
    let page = exporter.render(Format::Text, clock::now());
    page.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#').count()
}

/// Everything that is told of pods and containers, of 200 pods with two containers and a volume each.
fn pods() -> Exporter {
    let now = clock::now().at;
    let (mut samples, mut names) = (Vec::new(), Names::new());
    for at in 0..PODS {
        let pod = format!("0b7c2f1e-6a54-4c1d-9f0e-{at:012}");
        let container =
            |name: &str| (Scope::Container, Subject::Container { pod: pod.clone(), name: name.to_owned() });
        let volume = Subject::Volume { pod: pod.clone(), name: "models".into() };
        let of_pod = (Scope::Pod, Subject::Pod(pod.clone()));
        for (scope, subject) in [of_pod, container("vllm"), container("proxy"), (Scope::Pod, volume)] {
            let told = Signal::ALL.iter().filter(|signal| signal.scope() == scope);
            samples.extend(told.filter_map(|of| Sample::new(subject.clone(), *of, now, 1e6 + at_f64(at))));
            let named = [
                (Label::Namespace, "ml".to_owned()),
                (Label::Pod, format!("chat-7d9f8c6b5-{at:05}")),
                (Label::Workload, "ml/deployment/chat".to_owned()),
            ];
            names.insert(subject, named.map(|(label, name)| (label, name.into())).into());
        }
    }
    let latest = Arc::new(LatestValues::default());
    latest.replace_named(Giver::Part("bench"), &samples, |_| None, names);
    Exporter::new(Arc::new(Registry::new()), latest, Duration::from_secs(600))
}

fn workloads() -> Exporter {
    let now = clock::now().at;
    let of_workload: Vec<Signal> = Signal::ALL
        .iter()
        .copied()
        .filter(|signal| signal.name().contains("second"))
        .filter(|signal| signal.scope() == Scope::Workload)
        .take(9)
        .collect();
    let mut samples = Vec::new();
    for at in 0..WORKLOADS {
        let id: WorkloadId = format!("ml/deployment/chat-{at}").parse().expect("a valid id");
        for signal in &of_workload {
            samples.extend(Sample::new(Subject::Workload(id.clone()), *signal, now, 12.345_678 * at_f64(at)));
        }
    }
    for at in 0..100 {
        let part = Subject::NodePart(format!("nvme{at}n1"));
        for signal in [Signal::DiskReadBytesPerSecond, Signal::DiskWrittenBytesPerSecond] {
            samples.extend(Sample::new(part.clone(), signal, now, 1e6 + at_f64(at)));
        }
    }
    let latest = Arc::new(LatestValues::default());
    latest.replace(Giver::Part("bench"), &samples, |_| None);
    Exporter::new(Arc::new(Registry::new()), latest, Duration::from_secs(600))
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn at_f64(at: usize) -> f64 {
    at as f64
}

/// Histograms with long label sets, as serving runtimes write them.
fn vllm(copies: usize) -> String {
    let mut page = String::new();
    for engine in 0..copies {
        page += "# HELP vllm:e2e_request_latency_seconds Histogram of e2e request latency in seconds.\n";
        page += "# TYPE vllm:e2e_request_latency_seconds histogram\n";
        for le in ["0.3", "0.5", "0.8", "1.0", "1.5", "2.5", "5.0", "10.0", "20.0", "40.0", "+Inf"] {
            page += &format!(
                "vllm:e2e_request_latency_seconds_bucket{{engine=\"{engine}\",le=\"{le}\",model_name=\"meta-llama/Llama-3.1-8B-Instruct\"}} {}.0\n",
                engine * 31
            );
        }
    }
    page
}

/// Short lines.
fn plain(series: usize) -> String {
    (0..series)
        .map(|at| format!("node_cpu_seconds_total{{cpu=\"{}\",mode=\"idle\"}} {at}.37\n", at % 64))
        .collect()
}
