//! Who competes.

use tidegate_brain::{History, Ingredients};
use tidegate_core::{Ratio, decide::HPA_TARGET_SHARE};
use tidegate_sim::scalers::{Hpa, Keda, KedaSettings, Kpa, KpaSettings, Metric, Oracle, Tidegate};
use tidegate_sim::{Run, Sizes, simulate};

use crate::traces::Scene;

/// Share of its requests' limit that Knative aims at (`container-concurrency-target-percentage`).
const KPA_TARGET_SHARE: f64 = 0.7;
const TARGET: f64 = 0.99;

const ALL: Ingredients =
    Ingredients { peak: true, rehearsal: true, calibration: true, capacity: true, reactive: true };

#[derive(Debug, Clone, Copy)]
pub(crate) enum Entrant {
    Oracle,
    Tidegate(Ingredients),
    /// Forecasts switched off in the policy.
    Unforeseeing,
    /// What a replica carries is not learned: the policy has it wrong by this factor.
    Hinted(f64),
    Hpa,
    Keda,
    Kpa,
}

/// In the order of the table. The oracle comes first: it is what the others are measured by.
pub(crate) const ENTRANTS: [(&str, Entrant); 12] = [
    ("oracle", Entrant::Oracle),
    ("Tidegate", Entrant::Tidegate(ALL)),
    ("no forecast: reactive alone", Entrant::Unforeseeing),
    ("no forecast of the peak", Entrant::Tidegate(Ingredients { peak: false, ..ALL })),
    ("no rehearsal", Entrant::Tidegate(Ingredients { rehearsal: false, ..ALL })),
    ("no calibration", Entrant::Tidegate(Ingredients { calibration: false, ..ALL })),
    ("no capacity learning, hint 20 % high", Entrant::Hinted(1.2)),
    ("no capacity learning, hint 20 % low", Entrant::Hinted(0.8)),
    ("no reactive part", Entrant::Tidegate(Ingredients { reactive: false, ..ALL })),
    ("HPA, 80 % of utilisation", Entrant::Hpa),
    ("KEDA, 80 % of requests per second", Entrant::Keda),
    ("KPA, 70 % of concurrency", Entrant::Kpa),
];

/// Index of the oracle and of Tidegate as it is in [`ENTRANTS`].
pub(crate) const ORACLE: usize = 0;
pub(crate) const TIDEGATE: usize = 1;

pub(crate) fn compete(scene: &Scene, entrant: Entrant) -> Run {
    let world = &scene.world;
    let target = Ratio::new(TARGET).expect("it is a share");
    let full_rps = world.service.full_rps(Sizes::default());
    let slots = world.service.concurrency(Sizes::default());
    let mut policy = Tidegate::policy(world, target);
    let history = || History { demand: Some(scene.history.clone()), ..History::default() };
    match entrant {
        Entrant::Oracle => simulate(world, &mut Oracle::new(world, target, 1.5)),
        Entrant::Tidegate(ingredients) => {
            simulate(world, &mut Tidegate::of(ingredients, policy, history(), Tidegate::PIPELINE))
        }
        Entrant::Unforeseeing => {
            policy.forecast.enabled = false;
            simulate(world, &mut Tidegate::new(policy, history(), Tidegate::PIPELINE))
        }
        Entrant::Hinted(factor) => {
            policy.capacity.requests_per_second = Some(full_rps * factor);
            let ingredients = Ingredients { capacity: false, ..ALL };
            simulate(world, &mut Tidegate::of(ingredients, policy, history(), Tidegate::PIPELINE))
        }
        Entrant::Hpa => {
            simulate(world, &mut Hpa::new(Metric::Utilisation, HPA_TARGET_SHARE * slots, world.bounds))
        }
        Entrant::Keda => {
            let settings = KedaSettings::new(Metric::Requests, HPA_TARGET_SHARE * full_rps, world.bounds);
            simulate(world, &mut Keda::new(settings))
        }
        Entrant::Kpa => simulate(world, &mut Kpa::new(KpaSettings::new(KPA_TARGET_SHARE * slots))),
    }
}
