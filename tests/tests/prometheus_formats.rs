//! A real Prometheus takes what Tidegate tells in every form: scraped in protobuf, with native histograms; pushed by OTLP.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_agent::collect::LatestValues;
use tidegate_agent::export::{Exporter, Registry};
use tidegate_agent::otlp::{Protocol, PushOptions, Pusher};
use tidegate_core::{Kind, Label, Metric};
use tidegate_tests::servers::{Prometheus, Tidegate};
use tidegate_tests::waiting;
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(60);
/// Buckets of schema 3 are 9 % wide, classic ones two per doubling; interpolation keeps a quantile within the wider of the two.
const WIDTH: f64 = 1.42;

fn number(element: &Value) -> Option<f64> {
    element["value"][1].as_str()?.parse().ok().filter(|value: &f64| value.is_finite())
}

async fn only(server: &Prometheus, expression: &str) -> Option<f64> {
    let found = server.query(expression).await.expect("the query is valid");
    assert!(found.len() <= 1, "{expression}: {found:?}");
    number(found.first()?)
}

#[tokio::test]
async fn native_histograms_have_the_quantiles_of_classic_ones() {
    let tidegate = Tidegate::up(&["--demo"]).await;
    let server = Prometheus::native(&[tidegate.address()]).await;
    let native = "histogram_quantile(0.9, sum(rate(tidegate_gateway_request_seconds[30s])))";
    let classic = "histogram_quantile(0.9, sum by (le) (rate(tidegate_gateway_request_seconds_bucket[30s])))";
    let (native, classic) = waiting::until("quantiles", PATIENCE, async || {
        only(&server, native).await.zip(only(&server, classic).await)
    })
    .await;
    let ratio = native / classic;
    assert!(
        (1.0 / WIDTH..WIDTH).contains(&ratio),
        "{native} s of native buckets, {classic} s of classic ones"
    );
    let counted = "histogram_count(sum(tidegate_gateway_request_seconds))";
    assert!(only(&server, counted).await.is_some_and(|count| count > 0.0));
}

/// One series of every family of the catalogue, with labels as the family has them.
fn everything() -> Arc<Registry> {
    let registry = Arc::new(Registry::new());
    // The exporter itself tells the version.
    for metric in Metric::ALL.iter().filter(|metric| **metric != Metric::BuildInfo) {
        let family = metric.family();
        let labels: Vec<(Label, &str)> = family.labels.iter().map(|label| (*label, "x")).collect();
        match family.kind {
            Kind::Gauge => registry.gauge(*metric, &labels).set(Some(2.5)),
            Kind::Counter => registry.counter(*metric, &labels).add(2.5),
            Kind::Histogram => (1..=100).for_each(|at| {
                registry.histogram(*metric, &labels).observe(f64::from(at) / 100.0);
            }),
        }
    }
    registry
}

#[tokio::test]
async fn what_is_pushed_stands_under_the_names_of_the_page() {
    let server = Prometheus::receiving().await;
    let registry = everything();
    let exporter =
        Exporter::new(Arc::clone(&registry), Arc::<LatestValues>::default(), Duration::from_secs(30));
    let options = PushOptions {
        url: format!("{}/api/v1/otlp/v1/metrics", server.url()),
        protocol: Protocol::Http,
        every: Duration::from_secs(1),
        ca_file: None,
        headers_file: None,
    };
    let told = Arc::new(Registry::new());
    let pusher = Pusher::new(options, Arc::clone(&told)).expect("the options are right");
    let (stop, stopped) = watch::channel(false);
    let resource = [("service.name", "tidegate".to_owned()), ("service.instance.id", "node-a".to_owned())];
    let pushing = tokio::spawn(pusher.run(move || exporter.requests(&resource), stopped));
    for metric in Metric::ALL {
        let family = metric.family();
        let expression = match family.kind {
            Kind::Histogram => format!("histogram_quantile(0.5, {}{{job=\"tidegate\"}})", family.name),
            _ => format!("{}{{job=\"tidegate\", instance=\"node-a\"}}", family.name),
        };
        let found = waiting::until(family.name, PATIENCE, async || {
            let found = server.query(&expression).await.expect("the query is valid");
            number(found.first()?)
        })
        .await;
        match family.kind {
            Kind::Histogram => assert!((found - 0.5).abs() < 0.05, "{}: {found}", family.name),
            _ if matches!(metric, Metric::BuildInfo) => assert_eq!(found, 1.0),
            _ if matches!(metric, Metric::SeriesRefused) => assert_eq!(found, 0.0),
            _ => assert_eq!(found, 2.5, "{}", family.name),
        }
    }
    stop.send_replace(true);
    pushing.await.expect("it ends");
    let outcome = |outcome| told.counter(Metric::OtlpPushed, &[(Label::Outcome, outcome)]).get();
    assert!(outcome("ok") >= 1.0);
    assert_eq!((outcome("partial"), outcome("refused"), outcome("dropped")), (0.0, 0.0, 0.0));
}
