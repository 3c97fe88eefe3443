//! KEDA's activation and fallback against the cases of upstream's own tests: numbers in, numbers out. Left out: idle replicas and
//! pausing, which nothing here uses.
//!
//! Source: kedacore/keda, `pkg/scaling/executor/scale_scaledobjects_test.go` and `pkg/fallback/fallback_test.go`.

use std::time::Duration;

use tidegate_core::{Bounds, Timestamp};
use tidegate_sim::scalers::{Check, Fallback, KedaSettings, Metric, activation, reported};

fn settings(min: u32, target: f64) -> KedaSettings {
    KedaSettings::new(Metric::Requests, target, Bounds { min, max: 100 })
}

/// Name of upstream's test; `minReplicaCount`; whether a trigger is active; present size; expected size, `None`: left alone.
const ACTIVATION: [(&str, u32, bool, u32, Option<u32>); 5] = [
    ("TestScaleToMinReplicasWhenNotActive", 0, false, 10, Some(0)),
    ("TestScaleToMinReplicasFromLowerInitialReplicaCount", 5, false, 1, Some(5)),
    ("TestScaleFromMinReplicasWhenActive", 0, true, 0, Some(1)),
    ("TestScaleFromIdleToMinReplicasWhenActive", 5, true, 0, Some(5)),
    // Documented: between one and the maximum the HPA decides.
    ("docs: 1 to N", 0, true, 3, None),
];

#[test]
fn activation_sets_the_first_and_takes_the_last() {
    for (name, min, is_active, replicas, expected) in ACTIVATION {
        let check = Check {
            now: Timestamp::from_secs(1000),
            is_active,
            is_failing: false,
            replicas,
            last_active: None,
        };
        assert_eq!(activation(&settings(min, 1.0), check), expected, "{name}");
    }
}

#[test]
fn none_is_reached_after_the_cooldown_and_never_while_the_trigger_fails() {
    let settings = KedaSettings { cooldown: Duration::from_secs(300), ..settings(0, 1.0) };
    let check = |now, is_failing| {
        let (now, last_active) = (Timestamp::from_secs(now), Some(Timestamp::from_secs(0)));
        activation(&settings, Check { now, is_active: false, is_failing, replicas: 10, last_active })
    };
    assert_eq!(check(300, false), None);
    assert_eq!(check(301, false), Some(0), "from any size in one step");
    assert_eq!(check(301, true), None);
}

/// What upstream calls the case; target; threshold and replicas of the fallback; value; failures so far; expected report.
type FallbackCase = (&'static str, f64, Option<(u32, u32)>, Option<f64>, u32, Option<f64>);

const FALLBACK: [FallbackCase; 4] = [
    ("reset the health status when a metric is returned", 3.0, Some((3, 10)), Some(5.0), 0, Some(5.0)),
    ("propagate the error when fallback is disabled", 3.0, None, None, 1, None),
    ("bump the number of failures when the call fails", 10.0, Some((3, 10)), None, 1, None),
    ("normalised metric when failures are beyond the threshold", 10.0, Some((3, 10)), None, 4, Some(100.0)),
];

#[test]
fn fallback_reports_what_gives_its_size() {
    for (name, target, fallback, value, failures, expected) in FALLBACK {
        let fallback = fallback.map(|(failure_threshold, replicas)| Fallback { failure_threshold, replicas });
        let settings = KedaSettings { fallback, ..settings(0, target) };
        assert_eq!(reported(&settings, value, failures), expected, "{name}");
    }
}
