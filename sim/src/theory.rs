//! What queueing theory says of a pool of constant size: for the oracle, and to hold the simulation against.

use std::time::Duration;

use crate::service::{Generic, ServiceTime};

/// Steps of the sums over service times.
const STEPS: u32 = 160;

/// Probability that a request must wait in an M/M/c queue (Erlang C), for `servers` and an offered load in erlangs; 1 when the load
/// is as large as the number of servers. By the recursion of Erlang B, which does not overflow.
#[must_use]
pub fn erlang_c(servers: u32, offered: f64) -> f64 {
    if servers == 0 || offered >= f64::from(servers) {
        return 1.0;
    }
    let blocked = (1..=servers).fold(1.0, |b, n| offered * b / (f64::from(n) + offered * b));
    let busy = offered / f64::from(servers);
    blocked / (1.0 - busy + busy * blocked)
}

/// Probability that a request waits longer than `wait`, with `servers` places and `rate_rps` arrivals. Exact for exponential
/// service; else the decay is scaled as Allen and Cunneen scale the mean wait.
#[must_use]
pub fn waits_longer(time: ServiceTime, servers: u32, rate_rps: f64, wait: Duration) -> f64 {
    let offered = rate_rps * time.mean_s();
    if offered >= f64::from(servers) {
        return 1.0;
    }
    let decay = (f64::from(servers) - offered) / time.mean_s() * 2.0 / (1.0 + time.variation());
    erlang_c(servers, offered) * (-decay * wait.as_secs_f64()).exp()
}

/// Share of requests outside the objective with `replicas` that all are ready.
#[must_use]
pub fn late_share(service: &Generic, replicas: u32, rate_rps: f64) -> f64 {
    let servers = replicas.saturating_mul(service.concurrency);
    let latency = service.latency.as_secs_f64();
    let late = |served: f64| match latency - served {
        slack if slack >= 0.0 => {
            waits_longer(service.time, servers, rate_rps, Duration::from_secs_f64(slack))
        }
        _ => 1.0,
    };
    match service.time {
        ServiceTime::Lognormal { mean_s, cv, cut } => {
            let sigma = (1.0 + cv * cv).ln().sqrt();
            let terms = (0..STEPS).map(|i| {
                // The standard normal from −4 to 4.
                let z = (f64::from(i) + 0.5) / f64::from(STEPS) * 8.0 - 4.0;
                let served = mean_s * (sigma * z - sigma * sigma / 2.0).exp();
                ((-z * z / 2.0).exp(), late(served.min(cut * mean_s)))
            });
            let (weights, sum) =
                terms.fold((0.0, 0.0), |(w, s), (weight, late)| (w + weight, s + weight * late));
            sum / weights
        }
        ServiceTime::Exponential { mean_s } => {
            let terms = (0..STEPS).map(|i| {
                let share = (f64::from(i) + 0.5) / f64::from(STEPS);
                late(-(1.0 - share).ln() * mean_s)
            });
            terms.sum::<f64>() / f64::from(STEPS)
        }
    }
}
