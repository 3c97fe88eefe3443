//! Pages of known runtimes, written as those write them, and what two of them say.

use super::*;
use crate::clock::Moment;
use crate::collect::scrape::map::Intake;
use crate::collect::scrape::merge;
use crate::collect::scrape::page::{Dialect, PageReader, ScrapeLimits};
use crate::collect::scrape::rules::{SignalRule, catalogue};
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::Timestamp;

fn snapshot(rules: &Arc<Rules>, seconds: u64, page: &str) -> Snapshot {
    cut_snapshot(rules, seconds, page, ScrapeLimits::default())
}

fn cut_snapshot(rules: &Arc<Rules>, seconds: u64, page: &str, limits: ScrapeLimits) -> Snapshot {
    let mut intake = Intake::new(Arc::clone(rules));
    let mut reader = PageReader::new(Dialect::Text, limits);
    let fed = reader.feed(page.as_bytes(), &mut |line| intake.take(line));
    let end = reader.finish(&mut |line| intake.take(line));
    assert_eq!(fed.is_break(), end.cut);
    let at = Moment { at: Timestamp::from_secs(0), steady: Duration::from_secs(seconds) };
    intake.finish(at, end.cut)
}

fn known() -> Arc<Rules> {
    Rules::new(&[], catalogue())
}

fn between(rules: &Arc<Rules>, before: &str, after: &str, limit: Option<f64>) -> Parts {
    let (before, after) = (snapshot(rules, 0, before), snapshot(rules, 10, after));
    parts(rules, Some(&before), &after, limit)
}

fn sum(parts: &Parts, signal: Signal) -> Option<f64> {
    match parts.parts.get(&signal) {
        Some(Part::Sum(sum)) => Some(*sum),
        _ => None,
    }
}

fn digits(ok: u32, failed: u32, running: u32, waiting: u32) -> String {
    format!(
        "# TYPE digits_requests_total counter
digits_requests_total{{code=\"200\"}} {ok}
digits_requests_total{{code=\"503\"}} {failed}
# TYPE digits_in_flight gauge
digits_in_flight {running}
digits_queue_depth {waiting}
# TYPE digits_request_duration_seconds histogram
digits_request_duration_seconds_bucket{{le=\"0.1\"}} {}
digits_request_duration_seconds_bucket{{le=\"0.5\"}} {ok}
digits_request_duration_seconds_bucket{{le=\"+Inf\"}} {ok}
digits_request_duration_seconds_sum {}
digits_request_duration_seconds_count {ok}
",
        ok / 2,
        f64::from(ok) * 0.1,
    )
}

#[test]
fn tells_the_digits_sample() {
    let parts = between(&known(), &digits(100, 0, 2, 0), &digits(300, 10, 4, 28), Some(0.3));
    assert_eq!(parts.runtime.as_deref(), Some("digits"));
    assert_eq!(sum(&parts, Signal::CompletionsPerSecond), Some(21.0));
    assert_eq!(sum(&parts, Signal::ErrorsPerSecond), Some(1.0));
    assert_eq!(sum(&parts, Signal::InFlight), Some(4.0));
    assert_eq!(sum(&parts, Signal::Queued), Some(28.0));
    assert_eq!(
        sum(&parts, Signal::RequestsPerSecond),
        Some(24.0),
        "21 completed and 3 more waiting or running"
    );
    assert_eq!(
        sum(&parts, Signal::SloMissesPerSecond),
        Some(5.0),
        "half of the upper bucket is above the limit"
    );
    let Some(Part::Spread(latency)) = parts.parts.get(&LATENCY) else { panic!("no latency") };
    assert_eq!(latency.quantile(0.5), Some(0.1));
    assert_eq!(latency.rate, 20.0);
}

#[test]
fn tells_training_of_several_workers() {
    let page = |steps: u32| {
        format!(
            "# TYPE digits_train_steps_total counter\ndigits_train_steps_total {steps}\ndigits_train_samples_total {}\n\
             digits_train_loss 0.25\ndigits_train_workers 2\n\
             digits_train_step_seconds_bucket{{le=\"+Inf\"}} {steps}\ndigits_train_step_seconds_sum {}\ndigits_train_step_seconds_count {steps}\n",
            steps * 64,
            f64::from(steps) * 0.5,
        )
    };
    let id = tidegate_core::WorkloadId::local("train").unwrap();
    let worker = || between(&known(), &page(10), &page(30), None);
    let answers = [(&id, Some(worker())), (&id, Some(worker()))];
    let reading = merge::reading(Timestamp::EPOCH, answers.into_iter());
    let value =
        |signal| reading.samples.iter().find(|sample| sample.signal == signal).map(|sample| sample.value);
    assert_eq!(value(Signal::StepsPerSecond), Some(2.0), "both took part in the same steps");
    assert_eq!(value(Signal::SamplesPerSecond), Some(256.0), "each on samples of its own");
    assert_eq!(value(Signal::StepSeconds), Some(0.5));
    assert_eq!(value(Signal::Loss), Some(0.25));
    assert_eq!(value(Signal::ReplicasReady), Some(2.0));
    assert_eq!(value(Signal::RequestsPerSecond), None);
}

fn vllm(finished: u32, running: u32, waiting: u32) -> String {
    format!(
        r#"# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="m"}} {running}.0
vllm:num_requests_running{{engine="1",model_name="m"}} {running}.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="m"}} {waiting}.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} 0.5
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{{engine="0",model_name="m"}} {}.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{engine="0",model_name="m"}} {}.0
# TYPE vllm:request_success_total counter
vllm:request_success_total{{engine="0",finished_reason="stop",model_name="m"}} {finished}.0
vllm:request_success_total{{engine="0",finished_reason="length",model_name="m"}} {finished}.0
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_sum{{engine="0",model_name="m"}} {finished}.0
vllm:e2e_request_latency_seconds_bucket{{engine="0",le="0.3",model_name="m"}} 0.0
vllm:e2e_request_latency_seconds_bucket{{engine="0",le="2.5",model_name="m"}} {finished}.0
vllm:e2e_request_latency_seconds_bucket{{engine="0",le="+Inf",model_name="m"}} {finished}.0
vllm:e2e_request_latency_seconds_count{{engine="0",model_name="m"}} {finished}.0
"#,
        finished * 1000,
        finished * 200,
    )
}

#[test]
fn tells_vllm() {
    let parts = between(&known(), &vllm(50, 8, 0), &vllm(100, 8, 20), None);
    assert_eq!(parts.runtime.as_deref(), Some("vllm"));
    assert_eq!(sum(&parts, Signal::CompletionsPerSecond), Some(10.0));
    assert_eq!(sum(&parts, Signal::InFlight), Some(16.0), "engines add up");
    assert_eq!(sum(&parts, Signal::RequestsPerSecond), Some(12.0));
    assert_eq!(sum(&parts, Signal::PromptTokensPerSecond), Some(5000.0));
    assert_eq!(sum(&parts, Signal::OutputTokensPerSecond), Some(1000.0));
    assert_eq!(sum(&parts, Signal::SloMissesPerSecond), None, "no limit, no misses");
}

#[test]
fn tells_flask_without_inventing_demand() {
    let page = |count: u32| {
        format!(
            r#"# TYPE flask_http_request_duration_seconds histogram
flask_http_request_duration_seconds_bucket{{le="0.1",method="POST",path="/predict",status="200"}} {count}.0
flask_http_request_duration_seconds_bucket{{le="+Inf",method="POST",path="/predict",status="200"}} {count}.0
flask_http_request_duration_seconds_count{{method="POST",path="/predict",status="200"}} {count}.0
flask_http_request_duration_seconds_bucket{{le="0.1",method="GET",path="/metrics",status="200"}} 999.0
flask_http_request_total{{method="POST",status="200"}} {count}.0
"#
        )
    };
    let parts = between(&known(), &page(10), &page(60), None);
    assert_eq!(parts.runtime.as_deref(), Some("flask"));
    assert_eq!(sum(&parts, Signal::CompletionsPerSecond), Some(5.0));
    assert_eq!(
        sum(&parts, Signal::ErrorsPerSecond),
        Some(0.0),
        "the family is there and has no failure: a true zero"
    );
    assert_eq!(sum(&parts, Signal::RequestsPerSecond), None, "completions alone hide demand");
}

#[test]
fn tells_fastapi() {
    let page = |count: u32, running: u32| {
        format!(
            r#"# TYPE http_requests_total counter
http_requests_total{{handler="/predict",method="POST",status="2xx"}} {count}.0
http_requests_total{{handler="/predict",method="POST",status="5xx"}} {}.0
http_requests_total{{handler="/metrics",method="GET",status="2xx"}} 77.0
http_requests_inprogress {running}.0
# TYPE http_request_duration_highr_seconds histogram
http_request_duration_highr_seconds_bucket{{le="0.1"}} {count}.0
http_request_duration_highr_seconds_bucket{{le="+Inf"}} {count}.0
"#,
            count / 10
        )
    };
    let parts = between(&known(), &page(0, 1), &page(100, 11), None);
    assert_eq!(parts.runtime.as_deref(), Some("fastapi"));
    assert_eq!(sum(&parts, Signal::CompletionsPerSecond), Some(11.0));
    assert_eq!(sum(&parts, Signal::ErrorsPerSecond), Some(1.0));
    assert_eq!(sum(&parts, Signal::RequestsPerSecond), Some(12.0));
}

#[test]
fn a_counter_that_went_back_tells_nothing_once() {
    let parts = between(&known(), &digits(300, 10, 4, 0), &digits(20, 0, 1, 0), Some(0.3));
    assert_eq!(sum(&parts, Signal::CompletionsPerSecond), None);
    assert_eq!(sum(&parts, Signal::RequestsPerSecond), None);
    assert_eq!(parts.parts.get(&LATENCY), None);
    assert_eq!(sum(&parts, Signal::InFlight), Some(1.0), "gauges need no past");
}

#[test]
fn a_family_without_series_counts_nothing_so_far() {
    let before = "# TYPE digits_requests_total counter\ndigits_in_flight 0\n";
    let parts = between(&known(), before, before, None);
    assert_eq!(sum(&parts, Signal::CompletionsPerSecond), Some(0.0));
    assert_eq!(sum(&parts, Signal::RequestsPerSecond), Some(0.0));
    let first =
        "# TYPE digits_requests_total counter\ndigits_requests_total{code=\"200\"} 30\ndigits_in_flight 0\n";
    let parts = between(&known(), before, first, None);
    assert_eq!(sum(&parts, Signal::CompletionsPerSecond), Some(3.0), "a new series began at zero");
}

#[test]
fn a_value_that_is_no_number_spoils_its_sum_alone() {
    let before = "digits_in_flight{pool=\"a\"} 1\ndigits_in_flight{pool=\"b\"} NaN\ndigits_queue_depth 2\n";
    let parts = between(&known(), before, before, None);
    assert_eq!(sum(&parts, Signal::InFlight), None, "1 would be a lie");
    assert_eq!(sum(&parts, Signal::Queued), Some(2.0));
}

#[test]
fn where_a_page_is_cut_its_last_family_is_not_trusted() {
    let rules = known();
    let page = "digits_queue_depth 2\ndigits_in_flight{pool=\"a\"} 1\ndigits_in_flight{pool=\"b\"} 1\n";
    let limits = ScrapeLimits { series_max: 2, ..ScrapeLimits::default() };
    let cut = cut_snapshot(&rules, 0, page, limits);
    let parts = parts(&rules, None, &cut, None);
    assert_eq!(sum(&parts, Signal::Queued), Some(2.0));
    assert_eq!(sum(&parts, Signal::InFlight), None, "half of it is missing");
}

#[test]
fn the_users_rules_come_first_and_scale() {
    let own: SignalRule = toml::from_str(
        "family = 'ray_serve_deployment_processing_latency_ms'\nlabels = { route = '/chat*' }\nsignal = 'latency_p50_seconds'\nhow = 'histogram'\nscale = 0.001",
    )
    .unwrap();
    let rules = Rules::new(&[own], catalogue());
    let page = |count: u32| {
        format!(
            "ray_serve_deployment_processing_latency_ms_bucket{{route=\"/chat/a\",le=\"200\"}} {count}\n\
             ray_serve_deployment_processing_latency_ms_bucket{{route=\"/chat/a\",le=\"+Inf\"}} {count}\n\
             ray_serve_deployment_processing_latency_ms_bucket{{route=\"/other\",le=\"+Inf\"}} 5000\n{}",
            digits(count, 0, 0, 0)
        )
    };
    let parts = between(&rules, &page(0), &page(100), None);
    let Some(Part::Spread(latency)) = parts.parts.get(&LATENCY) else { panic!("no latency") };
    assert_eq!(latency.quantile(0.5), Some(0.1));
    assert_eq!(parts.runtime.as_deref(), Some("digits"), "the rest is the catalogue's");
}
