//! Each rule in both its languages: what the check refuses is what the API server refuses, for whatever a user may write.

use std::collections::BTreeSet;

use kube_cel::{CompiledSchema, Validator, apply_defaults, compile_schema};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_core::policy::Rule;
use tidegate_core::{Scope, Signal};

use super::super::target::Targeted;
use super::*;
use crate::cluster::kinds::TARGET_KINDS;

/// The spec of a resource, to be checked in both languages.
struct Both {
    schema: Value,
    compiled: CompiledSchema,
    validator: Validator,
}

impl Both {
    fn of(definition: &CustomResourceDefinition) -> Self {
        let schema = schema(definition)["properties"]["spec"].clone();
        let compiled = compile_schema(&schema);
        assert!(!compiled.has_errors(), "{:?}", compiled.compilation_errors());
        Self { compiled, schema, validator: Validator::new() }
    }

    /// Messages of the rules that the API server finds broken.
    fn refused(&self, spec: &Value, old: Option<&Value>) -> BTreeSet<String> {
        let broken = self.validator.validate_compiled(&self.compiled, spec, old).err();
        broken
            .map(|errors| errors.into_vec())
            .unwrap_or_default()
            .into_iter()
            .map(|error| error.message)
            .collect()
    }

    /// What is stored of `spec`: with the defaults of the schema.
    fn stored(&self, spec: &Value) -> Value {
        apply_defaults(&self.schema, spec)
    }
}

/// Messages of the rules that the check finds broken.
fn broken<T>(rules: &[Rule<T>], value: &T) -> BTreeSet<String> {
    let broken = rules.iter().filter(|rule| !rule.problems(value).is_empty());
    broken.map(|rule| format!("{} {}", rule.path.replace('/', "."), rule.text)).collect()
}

fn read<T: DeserializeOwned>(spec: &Value) -> T {
    serde_json::from_value(spec.clone()).unwrap_or_else(|error| panic!("{error}: {spec}"))
}

/// Without numbers written in another way: the server's 1 is the type's 1.0.
fn alike(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| alike(value, other)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        _ => left == right,
    }
}

fn stored_is_what_is_read<T: DeserializeOwned + Serialize>(both: &Both, spec: &Value) {
    let (stored, written) = (both.stored(spec), serde_json::to_value(read::<T>(spec)).unwrap());
    assert!(alike(&stored, &written), "stored {stored}\nwritten {written}");
}

/// An object of the fields that are there.
fn object(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn span() -> impl Strategy<Value = Value> {
    let few = select(vec![
        "0s", "0h0m", "1ms", "999ms", "1000ms", "1s", "0d01s", "4s", "3s999ms", "1m", "4m", "1h30m", "1d",
        "7d",
    ]);
    prop_oneof![3 => few.prop_map(Value::from), 1 => "([0-9]{1,4}(ms|s|m|h|d)){1,4}".prop_map(Value::from)]
}

fn small() -> impl Strategy<Value = Value> {
    prop_oneof![4 => 0..5u32, 1 => 9_999..10_002u32].prop_map(Value::from)
}

fn bounds() -> impl Strategy<Value = Value> {
    (small(), small()).prop_map(|(min, max)| json!({ "min": min, "max": max }))
}

fn target() -> impl Strategy<Value = Value> {
    let kinds: Vec<_> = TARGET_KINDS.iter().map(|known| known.kind).chain(["Rollout", "Deploymen"]).collect();
    let version = proptest::option::of(Just(json!("example.com/v1")));
    (select(kinds), version, proptest::option::of(Just(json!("a")))).prop_map(|(kind, version, group)| {
        object(vec![
            ("kind", Some(json!(kind))),
            ("name", Some(json!("chat"))),
            ("apiVersion", version),
            ("group", group),
        ])
    })
}

fn schedule() -> impl Strategy<Value = Value> {
    let time = || select(vec!["00:00", "08:30", "23:59"]);
    let floor =
        (time(), time(), small()).prop_map(|(from, to, min)| json!({ "from": from, "to": to, "min": min }));
    proptest::collection::vec(floor, 0..3).prop_map(Value::from)
}

fn alerts() -> impl Strategy<Value = Value> {
    let labels = subsequence(vec!["alertname", "model"], 0..=2);
    let optional = || proptest::option::of(small());
    let alert = (labels, optional(), optional()).prop_map(|(labels, add, floor)| {
        let labels: serde_json::Map<_, _> =
            labels.into_iter().map(|name| (name.to_owned(), json!("x"))).collect();
        object(vec![("match", Some(labels.into())), ("add", add), ("floor", floor)])
    });
    proptest::collection::vec(alert, 0..3).prop_map(Value::from)
}

fn signals() -> impl Strategy<Value = Value> {
    let names: Vec<_> = Signal::ALL.iter().filter(|signal| signal.scope() == Scope::Workload).collect();
    let hows =
        vec!["gauge_sum", "gauge_mean", "counter_rate", "counter_rate_mean", "counter_ratio", "histogram"];
    let scale = select(vec![json!(-1.0), json!(0.0), json!(0.001)]);
    let rule = (
        select(names),
        select(hows),
        maybe(Just(json!("b_total"))),
        maybe(scale),
        maybe(any::<bool>().prop_map(Value::from)),
    );
    let rule = rule.prop_map(|(signal, how, per, scale, adds)| {
        object(vec![
            ("family", Some(json!("a_total"))),
            ("signal", Some(json!(signal.name()))),
            ("how", Some(json!(how))),
            ("per", per),
            ("scale", scale),
            ("adds", adds),
        ])
    });
    proptest::collection::vec(rule, 0..3).prop_map(Value::from)
}

/// An optional field, there or not.
fn maybe<S: Strategy<Value = Value>>(of: S) -> impl Strategy<Value = Option<Value>> {
    proptest::option::of(of)
}

fn serving() -> impl Strategy<Value = Value> {
    let ratio = || select(vec![json!(0.0), json!(0.4999), json!(0.5), json!(0.99), json!(1.0)]);
    let rate = select(vec![json!(-1.0), json!(0.0), json!(0.001), json!(12.5)]);
    let slo = (span(), maybe(span()), ratio()).prop_map(|(latency, token, target)| {
        object(vec![("latency", Some(latency)), ("perOutputToken", token), ("target", Some(target))])
    });
    let capacity = (maybe(rate), maybe(small())).prop_map(|(rate, concurrency)| {
        object(vec![("requestsPerSecond", rate), ("concurrency", concurrency)])
    });
    let seasons = proptest::collection::vec(span(), 0..3).prop_map(Value::from);
    let forecast = (maybe(span()), maybe(seasons))
        .prop_map(|(step, seasons)| object(vec![("step", step), ("seasons", seasons)]));
    let scaling = (maybe(small()), maybe(small()))
        .prop_map(|(up, down)| object(vec![("stepUpMax", up), ("stepDownMax", down)]));
    let via = select(vec!["auto", "hpa_floor", "scaled_object_floor", "scale", "external_metric"]);
    let prometheus = Just(json!({ "query": "sum(rate(requests[1m]))" }));
    let demand = (maybe(prometheus), maybe(signals()))
        .prop_map(|(prometheus, signals)| object(vec![("prometheus", prometheus), ("signals", signals)]));
    let here = (target(), maybe(via.prop_map(|via| json!({ "via": via }))), maybe(demand));
    let policy = (bounds(), slo, maybe(capacity), maybe(forecast), maybe(scaling));
    (here, policy, maybe(schedule()), maybe(alerts()), maybe(small())).prop_map(
        |(
            (target, act, demand),
            (replicas, slo, capacity, forecast, scaling),
            schedule,
            alerts,
            fallback,
        )| {
            object(vec![
                ("target", Some(target)),
                ("act", act),
                ("demand", demand),
                ("replicas", Some(replicas)),
                ("slo", Some(slo)),
                ("capacity", capacity),
                ("forecast", forecast),
                ("scaling", scaling),
                ("schedule", schedule),
                ("alerts", alerts),
                ("fallback", fallback),
            ])
        },
    )
}

fn training() -> impl Strategy<Value = Value> {
    let way = |name, value: Value| maybe(Just(value)).prop_map(move |value| (name, value));
    let hook = (
        way("http", json!({ "path": "/save", "port": 80 })),
        way("signal", json!("SIGUSR1")),
        way("exec", json!({ "command": ["save"] })),
        way("container", json!("main")),
    );
    let hook = hook.prop_map(|(http, signal, exec, container)| object(vec![http, signal, exec, container]));
    (target(), bounds(), maybe(small()), maybe(hook)).prop_map(|(target, workers, gang, checkpoint)| {
        object(vec![
            ("target", Some(target)),
            ("workers", Some(workers)),
            ("gang", gang),
            ("checkpoint", checkpoint),
        ])
    })
}

fn pool() -> impl Strategy<Value = Value> {
    let selector = select(vec![json!({}), json!({ "gpu": "a100" })]);
    (maybe(small()), maybe(small()), maybe(selector)).prop_map(|(slots, most, selector)| {
        object(vec![("slots", slots), ("maxSlots", most), ("nodeSelector", selector)])
    })
}

#[test]
fn the_server_refuses_what_the_check_refuses() {
    let both: Vec<_> = definitions().iter().map(Both::of).collect();
    proptest!(ProptestConfig::with_cases(200), |(serving in serving(), training in training(), pool in pool())| {
        let spec: ServingPolicySpec = read(&serving);
        let mut refused = broken(ServingPolicySpec::TARGET_RULES, &spec);
        refused.extend(broken(ServingPolicySpec::RULES, &spec));
        refused.extend(broken(tidegate_core::ServingPolicy::RULES, &spec.policy));
        prop_assert_eq!(both[0].refused(&serving, None), refused, "{}", serving);

        let spec: TrainingPolicySpec = read(&training);
        let mut refused = broken(TrainingPolicySpec::TARGET_RULES, &spec);
        refused.extend(broken(TrainingPolicySpec::RULES, &spec));
        refused.extend(broken(tidegate_core::TrainingPolicy::RULES, &spec.policy));
        prop_assert_eq!(both[1].refused(&training, None), refused, "{}", training);

        let spec: GpuPoolSpec = read(&pool);
        prop_assert_eq!(both[2].refused(&pool, None), broken(GpuPoolSpec::RULES, &spec), "{}", pool);
    });
}

#[test]
fn what_the_server_stores_is_what_is_read() {
    let both: Vec<_> = definitions().iter().map(Both::of).collect();
    proptest!(ProptestConfig::with_cases(100), |(serving in serving(), training in training(), pool in pool())| {
        stored_is_what_is_read::<ServingPolicySpec>(&both[0], &plain(serving));
        stored_is_what_is_read::<TrainingPolicySpec>(&both[1], &plain(training));
        stored_is_what_is_read::<GpuPoolSpec>(&both[2], &plain(pool));
    });
}

/// Without what the types write in another form, or leave out when it is empty.
fn plain(mut spec: Value) -> Value {
    fn normal(value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Ok(span) = text.parse::<Span>() {
                    *text = span.to_string();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(normal),
            Value::Object(fields) => fields.values_mut().for_each(normal),
            _ => {}
        }
    }
    normal(&mut spec);
    let fields = spec.as_object_mut().expect("a spec is an object");
    for name in ["schedule", "alerts", "nodeSelector"] {
        let empty = fields.get(name).is_some_and(|value| *value == json!([]) || *value == json!({}));
        if empty {
            fields.remove(name);
        }
    }
    if let Some(demand) = fields.get_mut("demand").and_then(Value::as_object_mut) {
        demand.remove("signals");
    }
    spec
}

#[test]
fn the_target_of_a_policy_cannot_be_changed() {
    let both = Both::of(&definitions()[0]);
    let spec = |name: &str, max: u32| {
        json!({
            "target": { "kind": "Deployment", "name": name },
            "replicas": { "min": 1, "max": max },
            "slo": { "latency": "2s", "target": 0.99 },
        })
    };
    assert_eq!(both.refused(&spec("chat", 9), Some(&spec("chat", 8))), BTreeSet::new());
    let refused = both.refused(&spec("other", 8), Some(&spec("chat", 8)));
    assert_eq!(refused.len(), 1);
    assert!(refused.iter().all(|message| message.starts_with("target cannot be changed")), "{refused:?}");
}
