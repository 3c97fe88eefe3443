//! Iterations of a language model, worked by hand: 20 ms, 0.35 ms for each request that is being written, 0.03 ms for each prompt token.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_core::{Bounds, Ratio, Series};
use tidegate_sim::scalers::{Oracle, Static};
use tidegate_sim::{Llm, Load, Request, Run, Service, Sizes, StartUp, World, simulate};

use crate::{START, world};

/// Requests at milliseconds after the start, with prompt and output tokens, on so many replicas.
fn run_on(replicas: u32, llm: Llm, requests: &[(u64, u32, u32)]) -> Run {
    let load = requests.iter().map(|(ms, prompt_tokens, output_tokens)| {
        let request = Request { prompt_tokens: *prompt_tokens, output_tokens: *output_tokens };
        (START + Duration::from_millis(*ms), request)
    });
    let load = Load::requests(load.collect());
    simulate(&World { load, service: Service::Llm(llm), replicas, ..world(0.0, 60) }, &mut Static(replicas))
}

fn run(requests: &[(u64, u32, u32)]) -> Run {
    run_on(1, Llm::default(), requests)
}

fn assert_latencies(run: &Run, sum_s: f64) {
    assert!((run.latency.sum() - sum_s).abs() < 5e-6, "{} instead of {sum_s}", run.latency.sum());
}

#[test]
fn one_request_is_read_and_then_written() {
    // Reading: 20 + 30 ms gives the first token; two more iterations of 20.35 ms.
    assert_latencies(&run(&[(1000, 1000, 3)]), 0.0907);
    assert_latencies(&run(&[(1000, 1000, 1)]), 0.05);
    assert_latencies(&run(&[(1000, 1000, 1000)]), 0.05 + 999.0 * 0.02035);
}

#[test]
fn a_long_prompt_is_read_in_chunks() {
    // 2048, 2048 and 904 tokens.
    assert_latencies(&run(&[(0, 5000, 1)]), 0.06 + 0.15);
}

#[test]
fn a_request_that_comes_in_between_waits_for_the_iteration_under_way() {
    // The first has its first token at 1.05 and is in its second iteration until 1.07035. Then 500 tokens are read beside it:
    // 35.35 ms, until 1.1057, which ends the first; the second ends with one more iteration at 1.12605.
    assert_latencies(&run(&[(1000, 1000, 3), (1060, 500, 2)]), 0.1057 + 0.06605);
}

#[test]
fn requests_go_to_the_replica_with_less_to_read() {
    let pair = [(1000, 1000, 3), (1010, 1000, 3)];
    assert_latencies(&run_on(2, Llm::default(), &pair), 2.0 * 0.0907);
    assert!(run_on(1, Llm::default(), &pair).latency.sum() > 2.0 * 0.0907);
}

#[test]
fn what_does_not_fit_waits_for_memory() {
    // Memory for one at a time: the second is read when the first has ended, at 0.0907.
    let llm = Llm { kv_tokens: 1500, ..Llm::default() };
    assert_latencies(&run_on(1, llm, &[(0, 1000, 3), (0, 1000, 3)]), 3.0 * 0.0907);
    let one = Llm { batch: 1, ..Llm::default() };
    assert_latencies(&run_on(1, one, &[(0, 1000, 3), (0, 1000, 3)]), 3.0 * 0.0907);
}

#[test]
fn the_objective_holds_for_the_first_token_and_for_those_after() {
    let missed = |ttft, tpot| {
        let llm =
            Llm { ttft: Duration::from_micros(ttft), tpot: Duration::from_micros(tpot), ..Llm::default() };
        run_on(1, llm, &[(0, 1000, 3)]).totals.missed
    };
    assert_eq!(missed(50_000, 20_350), 0);
    assert_eq!(missed(49_999, 20_350), 1);
    assert_eq!(missed(50_000, 20_349), 1);
}

#[test]
fn a_full_replica_makes_what_it_is_said_to() {
    // Twice what one replica carries: it is never idle, and what it completes is its capacity.
    let sizes = Sizes { prompt_mean: 500.0, output_mean: 100.0, cv: 0.5, ..Sizes::default() };
    let service = Service::Llm(Llm::default());
    let full = service.full_rps(sizes);
    let world = World { load: Load::constant(2.0 * full, sizes), service, replicas: 1, ..world(0.0, 1200) };
    let done = simulate(&world, &mut Static(1)).totals.completed as f64 / 1200.0;
    assert!((done / full - 1.0).abs() < 0.1, "{done} instead of {full}");
}

#[test]
fn sizes_follow_the_tokens_of_the_load_and_the_oracle_follows_the_work() {
    let minute = Duration::from_secs(60);
    let series = |value: fn(u32) -> f64| Series::from_values(START, minute, (0..120).map(|k| Some(value(k))));
    // In the second hour prompts are eight times as long, and requests come as often as before.
    let (requests, output) = (series(|_| 4.0), series(|_| 400.0));
    let prompt = series(|k| if k < 60 { 2000.0 } else { 16_000.0 });
    let load = Load::tokens(&requests, [&prompt, &output], Sizes { cv: 0.3, ..Sizes::default() });
    let mean = load.sizes().unwrap();
    assert_eq!((mean.prompt_mean, mean.output_mean), (2250.0, 100.0));
    let world = World {
        load,
        service: Service::Llm(Llm::default()),
        replicas: 4,
        bounds: Bounds { min: 1, max: 16 },
        start_up: StartUp { median: Duration::from_secs(10), sigma: 0.0 },
        ..world(0.0, 7200)
    };
    let mut oracle = Oracle::new(&world, Ratio::new(0.99).unwrap(), 1.5);
    let run = simulate(&world, &mut oracle);
    let size = |minutes: std::ops::Range<usize>| run.minutes[minutes].iter().map(|m| m.wanted).max().unwrap();
    assert!(size(70..115) > size(10..50), "{} and {}", size(10..50), size(70..115));
    assert!(run.totals.miss_fraction().unwrap() < 0.03, "{:?}", run.totals);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_request_has_one_end(
        requests in prop::collection::vec((0u64..40_000, 1u32..20_000, 1u32..500), 0..80),
        replicas in 0u32..4,
    ) {
        let totals = run_on(replicas, Llm { kv_tokens: 8000, ..Llm::default() }, &requests).totals;
        prop_assert_eq!(totals.arrived, requests.len() as u64);
        prop_assert_eq!(totals.arrived, totals.completed + totals.dropped);
    }
}
