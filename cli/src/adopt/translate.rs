//! What an autoscaler says, as a policy: a pure function of its manifest. What cannot be said in a policy is named, never dropped in
//! silence.

use serde_json::{Value, json};
use tidegate_actuator::cluster::floor::ANNOTATION;
use tidegate_actuator::cluster::way::AutoscalerKind;
use tidegate_actuator::crds::{GROUP, ServingPolicySpec, VERSION};

use super::cron;

/// What the user wants that no autoscaler knows.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// Name of the policy; absent: the autoscaler's.
    pub(super) name: Option<String>,
    /// The objective, as it stands in a policy.
    pub(super) slo: Value,
    /// What one replica carries, where it is known.
    pub(super) requests_per_second: Option<f64>,
}

/// A policy made of an autoscaler.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Adoption {
    pub(super) manifest: Value,
    /// What changes once the policy is active.
    pub(super) changes: Vec<String>,
    /// What the autoscaler goes on doing, and no policy can.
    pub(super) stays: Vec<String>,
}

/// The parts of a manifest that both kinds have.
struct Source<'a> {
    kind: AutoscalerKind,
    object: &'a Value,
}

impl Source<'_> {
    fn at(&self, pointer: &str) -> Option<&Value> {
        self.object.pointer(pointer).filter(|value| !value.is_null())
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer)?.as_str()
    }

    fn count(&self, pointer: &str) -> Option<u64> {
        self.at(pointer)?.as_u64()
    }

    fn items(&self, pointer: &str) -> impl Iterator<Item = &Value> {
        self.at(pointer).and_then(Value::as_array).into_iter().flatten()
    }
}

/// Makes a policy of a HorizontalPodAutoscaler (autoscaling/v2) or a ScaledObject (keda.sh/v1alpha1).
///
/// # Errors
/// What is missing or wrong in the manifest.
pub(super) fn adoption(kind: AutoscalerKind, object: &Value, wish: &Wish) -> Result<Adoption, String> {
    let source = Source { kind, object };
    let (mut changes, mut stays) = (Vec::new(), Vec::new());
    let target = target(&source)?;
    let mut spec = json!({ "target": target, "mode": "shadow", "slo": wish.slo });
    match kind {
        AutoscalerKind::Hpa => {
            source.items("/spec/metrics").for_each(|metric| stays.push(of_metric(metric)));
            of_behavior(&source, "/spec/behavior", &mut spec, &mut stays);
        }
        AutoscalerKind::ScaledObject => {
            source.items("/spec/triggers").for_each(|trigger| of_trigger(trigger, &mut spec, &mut stays));
            let behavior = "/spec/advanced/horizontalPodAutoscalerConfig/behavior";
            of_behavior(&source, behavior, &mut spec, &mut stays);
        }
    }
    if let Some(rate) = wish.requests_per_second {
        spec["capacity"]["requestsPerSecond"] = json!(rate);
    }
    let (least, most) = bounds(&source, &spec, &mut stays)?;
    spec["replicas"] = json!({ "min": least, "max": most });
    let (field, name) = (kind.floor_field(), source.text("/metadata/name").unwrap_or_default());
    changes.push(format!(
        "{} {name}: {field} {} → what is needed, up to {most}; it comes back by itself",
        kind.kind(),
        own_floor(&source)
    ));
    let who = format!("{} {}", spec["target"]["kind"], spec["target"]["name"]).replace('"', "");
    changes.push(format!("{who}: nothing; the {} goes on setting its size", kind.kind()));
    let checked: ServingPolicySpec =
        serde_json::from_value(spec.clone()).map_err(|error| format!("no policy can say this: {error}"))?;
    if let Some(problem) = checked.problems().first() {
        return Err(format!("no policy can say this: {}: {}", problem.path, problem.text));
    }
    let manifest = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "ServingPolicy",
        "metadata": {
            "name": wish.name.as_deref().unwrap_or(name),
            "namespace": source.text("/metadata/namespace").unwrap_or("default"),
        },
        "spec": spec,
    });
    Ok(Adoption { manifest, changes, stays })
}

fn target(source: &Source<'_>) -> Result<Value, String> {
    let at = |field: &str| source.text(&format!("/spec/scaleTargetRef/{field}"));
    let name = at("name").ok_or("it names no target")?;
    let kind = at("kind").unwrap_or("Deployment");
    let mut target = json!({ "kind": kind, "name": name });
    let known = tidegate_actuator::cluster::kinds::TargetKind::named(kind).is_some();
    if let Some(version) = at("apiVersion").filter(|_| !known) {
        target["apiVersion"] = json!(version);
    }
    Ok(target)
}

/// The floor as the user has it: a raise of Tidegate's is not the user's.
fn own_floor(source: &Source<'_>) -> u64 {
    let recorded = source.at("/metadata/annotations").and_then(|all| all[ANNOTATION].as_str());
    let recorded: Option<Value> = recorded.and_then(|text| serde_json::from_str(text).ok());
    let default = u64::from(source.kind.floor_default());
    match recorded {
        Some(raise) => raise["original"].as_u64().unwrap_or(default),
        None => source.count(&format!("/spec/{}", source.kind.floor_field())).unwrap_or(default),
    }
}

fn bounds(source: &Source<'_>, spec: &Value, stays: &mut Vec<String>) -> Result<(u64, u64), String> {
    let most = match source.kind {
        AutoscalerKind::Hpa => source.count("/spec/maxReplicas").ok_or("it has no maxReplicas")?,
        // KEDA's own default.
        AutoscalerKind::ScaledObject => source.count("/spec/maxReplicaCount").unwrap_or(100),
    };
    let least = own_floor(source);
    // Whoever sees requests before there is a replica may begin at none.
    if least == 0 && spec.pointer("/demand/prometheus").is_none() {
        stays.push(
            "going down to no replica: a policy needs `demand.prometheus` for that, to see demand".into(),
        );
        return Ok((1, most.max(1)));
    }
    Ok((least, most.max(least)))
}

/// In words, what an HPA's metric asks for.
fn of_metric(metric: &Value) -> String {
    let kind = metric["type"].as_str().unwrap_or("?");
    let part = match kind {
        "Resource" => &metric["resource"],
        "ContainerResource" => &metric["containerResource"],
        "Pods" => &metric["pods"],
        "Object" => &metric["object"],
        _ => &metric["external"],
    };
    let name = part["name"].as_str().or_else(|| part["metric"]["name"].as_str()).unwrap_or("?");
    let target = &part["target"];
    if let Some(percent) = target["averageUtilization"].as_u64() {
        return format!("{name} at {percent} % of what pods request");
    }
    let each = target["averageValue"].as_str();
    let value = each.or_else(|| target["value"].as_str()).unwrap_or("?");
    let hint = match (kind, each) {
        ("Pods" | "Object" | "External", Some(value)) => {
            format!(
                "; if it counts requests per second, `capacity: {{requestsPerSecond: {value}}}` says the same"
            )
        }
        _ => String::new(),
    };
    let per = if each.is_some() { " a replica" } else { "" };
    format!("{kind} metric {name} at {value}{per}{hint}")
}

/// How fast an autoscaler may move, as far as a policy can say it.
fn of_behavior(source: &Source<'_>, pointer: &str, spec: &mut Value, stays: &mut Vec<String>) {
    for (direction, field) in [("scaleUp", "stepUpMax"), ("scaleDown", "stepDownMax")] {
        let rules = format!("{pointer}/{direction}");
        let hold = source.count(&format!("{rules}/stabilizationWindowSeconds"));
        match (direction, hold) {
            ("scaleDown", Some(seconds)) => spec["scaling"]["scaleDownHold"] = json!(format!("{seconds}s")),
            (_, Some(seconds)) if seconds > 0 => stays.push(format!("scaleUp held back for {seconds} s")),
            _ => {}
        }
        let policies: Vec<&Value> = source.items(&format!("{rules}/policies")).collect();
        match policies.as_slice() {
            [] => {}
            [only] if only["type"] == "Pods" => {
                let (pods, seconds) =
                    (only["value"].as_u64().unwrap_or(1), only["periodSeconds"].as_u64().unwrap_or(15));
                // A policy counts over 15 s: no faster than was asked for.
                spec["scaling"][field] = json!((pods * 15 / seconds.max(1)).max(1));
            }
            _ => stays.push(format!("{direction} policies: a percentage, or several, cannot be said")),
        }
    }
}

/// A trigger of KEDA's, as far as a policy can say it.
fn of_trigger(trigger: &Value, spec: &mut Value, stays: &mut Vec<String>) {
    let metadata = &trigger["metadata"];
    let text = |key: &str| metadata[key].as_str().map(str::to_owned);
    match trigger["type"].as_str().unwrap_or("?") {
        "prometheus" if spec.pointer("/demand/prometheus").is_none() => {
            let Some(query) = text("query") else { return };
            if !query.contains("rate(") {
                stays.push(format!("prometheus {query}: it is no rate of requests"));
                return;
            }
            spec["demand"]["prometheus"] = json!({ "query": query });
            if let Some(url) = text("serverAddress") {
                spec["demand"]["prometheus"]["url"] = json!(url);
            }
            if trigger["authenticationRef"].is_object() {
                stays.push("authenticationRef: the server that a policy names is asked without credentials; give it to the controller (--prometheus) instead".into());
            }
            let threshold = text("threshold").and_then(|value| value.parse::<f64>().ok());
            let each = trigger["metricType"].as_str().unwrap_or("AverageValue") == "AverageValue";
            if let Some(threshold) = threshold.filter(|value| each && *value > 0.0) {
                spec["capacity"]["requestsPerSecond"] = json!(threshold);
            }
        }
        "cron" => match cron::floor(metadata) {
            Ok(floor) => match spec["schedule"].as_array_mut() {
                Some(all) => all.push(floor),
                None => spec["schedule"] = json!([floor]),
            },
            Err(why) => stays.push(format!("cron: {why}")),
        },
        other => stays.push(format!("trigger {other}")),
    }
}
