//! What two pages of one target say, and what they must not say. Pages as runtimes write them are in `runtimes`.

use super::*;
use crate::clock::Moment;
use crate::collect::scrape::map::Intake;
use crate::collect::scrape::merge;
use crate::collect::scrape::page::{Dialect, PageReader, ScrapeLimits};
use crate::collect::scrape::{SignalRule, catalogue};
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::Timestamp;

pub(super) fn snapshot(rules: &Arc<Rules>, seconds: u64, page: &str) -> Snapshot {
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
    Rules::new(&[], &BTreeMap::new(), catalogue())
}

fn between(rules: &Arc<Rules>, before: &str, after: &str, limit: Option<f64>) -> Parts {
    let (before, after) = (snapshot(rules, 0, before), snapshot(rules, 10, after));
    let objective =
        limit.map(|latency_seconds| Objective { latency_seconds, per_output_token_seconds: None });
    parts(rules, Some(&before), &after, objective)
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
    let answers = [(&id, Some((Timestamp::EPOCH, worker()))), (&id, Some((Timestamp::EPOCH, worker())))];
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

#[test]
fn a_counter_that_went_back_tells_nothing_once() {
    let parts = between(&known(), &digits(300, 10, 4, 0), &digits(20, 0, 1, 0), Some(0.3));
    assert_eq!(sum(&parts, Signal::CompletionsPerSecond), None);
    assert_eq!(sum(&parts, Signal::RequestsPerSecond), None);
    assert_eq!(parts.parts.get(&LATENCY.key()), None);
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
fn errors_that_a_page_did_not_have_before_are_new_and_other_families_may_have_a_past() {
    let told = "vllm:num_requests_running 1\n";
    let errors = "vllm:admission_rejections_total 20\n";
    let parts = between(&known(), told, &format!("{told}{errors}"), None);
    assert_eq!(sum(&parts, Signal::ErrorsPerSecond), Some(2.0));
    let done = "vllm:request_success_total 5000\n";
    let parts = between(&known(), told, &format!("{told}{done}"), None);
    assert_eq!(sum(&parts, Signal::CompletionsPerSecond), None);
    let nothing = between(&known(), "", &format!("{told}{errors}"), None);
    assert_eq!(sum(&nothing, Signal::ErrorsPerSecond), None, "it was not known to be this runtime's page");
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
    let rules = Rules::new(&[own], &BTreeMap::new(), catalogue());
    let page = |count: u32| {
        format!(
            "ray_serve_deployment_processing_latency_ms_bucket{{route=\"/chat/a\",le=\"200\"}} {count}\n\
             ray_serve_deployment_processing_latency_ms_bucket{{route=\"/chat/a\",le=\"+Inf\"}} {count}\n\
             ray_serve_deployment_processing_latency_ms_bucket{{route=\"/other\",le=\"+Inf\"}} 5000\n{}",
            digits(count, 0, 0, 0)
        )
    };
    let parts = between(&rules, &page(0), &page(100), None);
    let Some(Part::Spread(latency)) = parts.parts.get(&LATENCY.key()) else { panic!("no latency") };
    assert_eq!(latency.quantile(0.5), Some(0.1));
    assert_eq!(parts.runtimes, ["digits"], "the rest is the catalogue's");
}

#[test]
fn a_family_of_the_name_without_its_ending_is_another() {
    let page = |count: u32| {
        format!(
            "# TYPE digits_requests counter\ndigits_requests {count}\n# TYPE digits_in_flight gauge\ndigits_in_flight 1\n"
        )
    };
    let told = between(&known(), &page(10), &page(20), None);
    assert_eq!(sum(&told, Signal::CompletionsPerSecond), None, "0 would be a lie");
    let announced = "# TYPE digits_requests gauge\ndigits_in_flight 1\n";
    let told = between(&known(), announced, announced, None);
    assert_eq!(sum(&told, Signal::CompletionsPerSecond), None);
}

#[test]
fn without_bounds_nothing_is_in_time() {
    let page = |count: u32| {
        format!(
            "# TYPE digits_request_duration_seconds summary\ndigits_request_duration_seconds_sum {count}\ndigits_request_duration_seconds_count {count}\n"
        )
    };
    let told = between(&known(), &page(10), &page(20), Some(0.3));
    assert_eq!(sum(&told, Signal::SloMissesPerSecond), None, "neither 0 nor all");
}

#[test]
fn a_gauge_that_was_not_there_before_is_no_change() {
    let rules = known();
    let page = |count: u32, rest: &str| format!("digits_requests_total{{code=\"200\"}} {count}\n{rest}");
    let told = between(
        &rules,
        &page(10, "digits_in_flight 4\n"),
        &page(20, "digits_in_flight 4\ndigits_queue_depth 90\n"),
        None,
    );
    assert_eq!(sum(&told, Signal::RequestsPerSecond), None);
}

#[test]
fn requests_of_another_runtime_are_no_backlog() {
    let page = |count: u32, running: u32| {
        format!(
            "flask_http_request_total{{method=\"POST\",status=\"200\"}} {count}\nvllm:num_requests_running {running}\n"
        )
    };
    let told = between(&known(), &page(10, 1), &page(60, 9), None);
    assert_eq!(told.runtimes, ["vllm", "flask"]);
    assert_eq!(sum(&told, Signal::CompletionsPerSecond), Some(5.0));
    assert_eq!(sum(&told, Signal::RequestsPerSecond), None, "what runs in vLLM did not come through Flask");
    let own: SignalRule =
        toml::from_str("family = 'running'\nsignal = 'in_flight_requests'\nhow = 'gauge_sum'").unwrap();
    let rules = Rules::new(&[own], &BTreeMap::new(), catalogue());
    let told = between(&rules, &(page(10, 0) + "running 1\n"), &(page(60, 0) + "running 11\n"), None);
    assert_eq!(sum(&told, Signal::RequestsPerSecond), Some(6.0), "what the user says goes with any");
}

#[test]
fn a_sum_with_an_unknown_part_is_unknown() {
    let page = |good: u32, failed: u32| {
        format!("nv_inference_request_success {good}\nnv_inference_request_failure {failed}\n")
    };
    let told = between(&known(), &page(10, 5), &page(60, 2), None);
    assert_eq!(sum(&told, Signal::CompletionsPerSecond), None, "the failures went back");
}

#[test]
fn late_in_two_ways_is_counted_at_most_once_for_each_request() {
    let histogram = |name: &str, fast: u32, all: u32| {
        format!("vllm:{name}_bucket{{le=\"0.1\"}} {fast}\nvllm:{name}_bucket{{le=\"+Inf\"}} {all}\n")
    };
    let page = |fast: u32, all: u32| {
        histogram("time_to_first_token_seconds", fast, all)
            + &histogram("request_time_per_output_token_seconds", fast, all)
    };
    let rules = known();
    let misses = |fast: u32, limit: Option<f64>| {
        let (before, after) = (snapshot(&rules, 0, &page(0, 0)), snapshot(&rules, 10, &page(fast, 100)));
        let objective = Objective { latency_seconds: 0.1, per_output_token_seconds: limit };
        sum(&parts(&rules, Some(&before), &after, Some(objective)), Signal::SloMissesPerSecond)
    };
    assert_eq!(misses(90, Some(0.1)), Some(2.0));
    assert_eq!(misses(10, Some(0.1)), Some(10.0), "not more than there were");
    assert_eq!(misses(90, None), None, "vLLM's whole latency is not on the page");
}
