//! What one replica of a target asks for of the devices that nodes have, by its pod template.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kinds::{SizePath, TargetKind};

/// Units of each extended resource, such as `nvidia.com/gpu`.
pub type Devices = BTreeMap<String, u32>;

/// Of a replica of this object: of its pod, or of all pods where a replica is several. `entry`: the group's own, where the kind has
/// groups. What is not said, or said otherwise than by the kinds' references, is not counted.
#[must_use]
pub fn per_replica(kind: &TargetKind, data: &Value, entry: Option<&Value>) -> Devices {
    match kind.kind {
        "LeaderWorkerSet" => group(&data["spec"]["leaderWorkerTemplate"]),
        "TrainJob" => limits(&data["spec"]["trainer"]["resourcesPerNode"]),
        "InferenceService" => predictor(&data["spec"]["predictor"]),
        _ => {
            let (from, path) = match kind.size {
                SizePath::Scale(path) | SizePath::Field(path) => (Some(data), path),
                SizePath::Group { size, .. } => (entry, size),
            };
            // The template stands beside the size.
            let beside = path.split_last().map(|(_, above)| above).unwrap_or_default();
            let found = from.and_then(|from| beside.iter().try_fold(from, |value, key| value.get(key)));
            found.map(|found| pod(&found["template"]["spec"])).unwrap_or_default()
        }
    }
}

/// A leader, which is as the others where it has no template of its own, and the others.
fn group(template: &Value) -> Devices {
    let others = pod(&template["workerTemplate"]["spec"]);
    let leader = match template.get("leaderTemplate") {
        Some(leader) => pod(&leader["spec"]),
        None => others.clone(),
    };
    let size = template["size"].as_u64().and_then(|size| u32::try_from(size).ok()).unwrap_or(1).max(1);
    let mut all = leader;
    for (name, units) in others {
        let sum = all.entry(name).or_default();
        *sum = sum.saturating_add(units.saturating_mul(size - 1));
    }
    all
}

fn predictor(predictor: &Value) -> Devices {
    let mut all = pod(predictor);
    add(&mut all, limits(&predictor["model"]["resources"]));
    all
}

fn pod(spec: &Value) -> Devices {
    let mut all = Devices::new();
    for container in spec["containers"].as_array().into_iter().flatten() {
        add(&mut all, limits(&container["resources"]));
    }
    all
}

fn add(all: &mut Devices, more: Devices) {
    for (name, units) in more {
        let sum = all.entry(name).or_default();
        *sum = sum.saturating_add(units);
    }
}

/// Of extended resources the limit is what counts: the request is the same, or absent. They have a domain, and are whole numbers.
fn limits(resources: &Value) -> Devices {
    let all = resources["limits"].as_object().into_iter().flatten();
    let units = |value: &Value| match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|units| u32::try_from(units).ok()),
    };
    all.filter(|(name, _)| name.contains('/'))
        .filter_map(|(name, n)| Some((name.clone(), units(n)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(kind: &str, data: &Value, entry: Option<&Value>) -> u32 {
        let kind = TargetKind::named(kind).unwrap();
        per_replica(kind, data, entry).get("nvidia.com/gpu").copied().unwrap_or(0)
    }

    fn template(gpus: &Value) -> Value {
        json!({ "spec": { "containers": [
            { "name": "server", "resources": { "limits": { "cpu": "8", "nvidia.com/gpu": gpus } } },
            { "name": "proxy" },
        ] } })
    }

    #[test]
    fn gpus_of_a_replica_are_its_pods() {
        let deployment = json!({ "spec": { "replicas": 2, "template": template(&json!("4")) } });
        assert_eq!(of("Deployment", &deployment, None), 4);
        let worker = json!({ "replicas": 2, "template": template(&json!(8)) });
        let pytorch = json!({ "spec": { "pytorchReplicaSpecs": { "Worker": worker } } });
        assert_eq!(of("PyTorchJob", &pytorch, None), 8);
        let jobs = json!({ "name": "train", "template": { "spec": { "parallelism": 4, "template": template(&json!("2")) } } });
        assert_eq!(of("JobSet", &json!({}), Some(&jobs)), 2);
        assert_eq!(of("RayCluster", &json!({}), Some(&worker)), 8);
        let trainer = json!({ "spec": { "trainer": { "numNodes": 2, "resourcesPerNode": { "limits": { "nvidia.com/gpu": "3" } } } } });
        assert_eq!(of("TrainJob", &trainer, None), 3);
        let model = json!({ "spec": { "predictor": { "model": { "resources": { "limits": { "nvidia.com/gpu": "1" } } } } } });
        assert_eq!(of("InferenceService", &model, None), 1);
    }

    #[test]
    fn a_group_of_pods_is_one_replica() {
        let of_group = |template: Value| {
            of(
                "LeaderWorkerSet",
                &json!({ "spec": { "replicas": 2, "leaderWorkerTemplate": template } }),
                None,
            )
        };
        assert_eq!(of_group(json!({ "size": 4, "workerTemplate": template(&json!("8")) })), 32);
        let no_gpu = json!({ "spec": { "containers": [] } });
        let template =
            json!({ "size": 4, "leaderTemplate": no_gpu, "workerTemplate": template(&json!("8")) });
        assert_eq!(of_group(template), 24);
    }

    #[test]
    fn what_is_not_said_is_not_counted() {
        assert_eq!(of("Deployment", &json!({ "spec": {} }), None), 0);
        let odd = json!({ "spec": { "template": template(&json!("1500m")) } });
        assert_eq!(of("Deployment", &odd, None), 0);
        assert_eq!(of("JobSet", &json!({}), None), 0);
    }
}
