//! The HPA's formula against the cases of upstream's own tests: numbers in, numbers out. What upstream measures in milli-units is so
//! here too. Left out: errors of the API, and `Value` targets, which nobody here uses.
//!
//! Source: kubernetes/kubernetes, `pkg/controller/podautoscaler/replica_calculator_test.go`.

use tidegate_core::hpa::{Look, PodLook, recommend, recommend_pods};

/// Name of upstream's test after `TestReplicaCalc`; samples of ready pods; unready and missing pods; target; what a missing pod is
/// taken to carry (`Resource`: 1000, the request of a core; `Pods`: the target); present size; expected size.
type PodCase = (&'static str, &'static [f64], u32, u32, f64, f64, u32, u32);

const PODS: [PodCase; 21] = [
    ("ScaleUpHotCpuLessScale", &[500.0, 700.0], 1, 0, 300.0, 1000.0, 3, 4),
    ("ScaleUpUnreadyNoScale", &[400.0], 2, 0, 300.0, 1000.0, 3, 3),
    ("ScaleHotCpuNoScale", &[400.0], 2, 0, 300.0, 1000.0, 3, 3),
    ("ScaleUpIgnoresFailedPods", &[500.0, 700.0], 0, 0, 300.0, 1000.0, 2, 4),
    ("ScaleUpIgnoresDeletionPods", &[500.0, 700.0], 0, 0, 300.0, 1000.0, 2, 4),
    ("ScaleUpCM", &[20000.0, 10000.0, 30000.0], 0, 0, 15000.0, 15000.0, 3, 4),
    // Readiness says nothing to a `Pods` metric: a running pod with a sample counts.
    ("ScaleUpCMUnreadyHotCpuNoLessScale", &[50000.0, 10000.0, 30000.0], 0, 0, 15000.0, 15000.0, 3, 6),
    ("ScaleUpCMUnreadyHotCpuScaleWouldScaleDown", &[50000.0, 15000.0, 30000.0], 0, 0, 15000.0, 15000.0, 3, 7),
    ("ScaleDown", &[100.0, 300.0, 500.0, 250.0, 250.0], 0, 0, 500.0, 1000.0, 5, 3),
    ("ScaleDownCM", &[12000.0; 5], 0, 0, 20000.0, 20000.0, 5, 3),
    ("ScaleDownIncludeUnreadyPods", &[100.0, 300.0, 500.0], 2, 0, 500.0, 1000.0, 5, 2),
    ("ScaleDownExcludeUnscheduledPods", &[100.0], 4, 0, 500.0, 1000.0, 5, 1),
    ("ScaleDownIgnoreHotCpuPods", &[100.0, 300.0, 500.0], 2, 0, 500.0, 1000.0, 5, 2),
    ("ToleranceCM", &[20000.0, 21000.0, 21000.0], 0, 0, 20000.0, 20000.0, 3, 3),
    ("SuperfluousMetrics", &[4000.0, 9500.0, 3000.0, 7000.0], 0, 0, 1000.0, 1000.0, 4, 24),
    ("MissingMetrics", &[400.0, 95.0], 0, 2, 1000.0, 1000.0, 4, 3),
    ("MissingMetricsNoChangeEq", &[1000.0], 0, 1, 1000.0, 1000.0, 2, 2),
    ("MissingMetricsNoChangeGt", &[1900.0], 0, 1, 1000.0, 1000.0, 2, 2),
    ("MissingMetricsNoChangeLt", &[600.0], 0, 1, 1000.0, 1000.0, 2, 2),
    ("MissingMetricsUnreadyScaleUp", &[2000.0], 1, 1, 500.0, 1000.0, 3, 4),
    ("MissingMetricsUnreadyScaleDown", &[100.0, 100.0], 1, 1, 500.0, 1000.0, 4, 3),
];

#[test]
fn a_metric_by_pod() {
    for (name, samples, unready, missing, target, missing_carries, replicas, expected) in PODS {
        let total = samples.iter().sum();
        let ready = u32::try_from(samples.len()).unwrap();
        let look = PodLook { total, ready, unready, missing, target, missing_carries, replicas };
        assert_eq!(recommend_pods(look), expected, "{name}");
    }
}

#[test]
fn a_missing_pod_beyond_the_present_size_takes_nothing_away() {
    // TestReplicaCalcDuringRollingUpdateWithMaxSurge: three pods of two wanted, one of them without a sample.
    let look = PodLook {
        total: 200.0,
        ready: 2,
        unready: 0,
        missing: 1,
        target: 500.0,
        missing_carries: 1000.0,
        replicas: 2,
    };
    assert_eq!(recommend_pods(look), 2);
}

/// Name after `TestReplicaCalc`; the metric over all pods; `AverageValue`; present size; expected size.
const TOTALS: [(&str, f64, f64, u32, u32); 6] = [
    ("ScaleUpCMPerPodObject", 20000.0, 5000.0, 3, 4),
    ("ScaleUpPerPodCMExternal", 8600.0, 2150.0, 3, 4),
    ("ScaleDownPerPodCMObject", 6000.0, 2000.0, 5, 3),
    ("ScaleDownPerPodCMExternal", 8600.0, 2867.0, 5, 3),
    ("TolerancePerPodCMObject", 20166.0, 5000.0, 4, 4),
    ("TolerancePerPodCMExternal", 8600.0, 2900.0, 3, 3),
];

#[test]
fn a_metric_over_all_pods() {
    for (name, total, target, replicas, expected) in TOTALS {
        assert_eq!(recommend(Look { total: Some(total), target, replicas }), expected, "{name}");
    }
}

#[test]
fn the_tolerance_is_a_tenth_of_the_target() {
    // TestReplicaCalcComputedToleranceAlgImplementation: ten pods that use half of what they ask for, 300 each, by targets of
    // 56 % and of 55 %, whose ratios 0.893 and 0.909 lie on either side of the tolerance.
    for (target, expected) in [(0.56 * 300.0, 9), (0.55 * 300.0, 10)] {
        let look = PodLook {
            total: 1500.0,
            ready: 10,
            unready: 0,
            missing: 0,
            target,
            missing_carries: 300.0,
            replicas: 10,
        };
        assert_eq!(recommend_pods(look), expected);
    }
}
