//! `tidegate adopt`: makes a policy of an autoscaler that is there, and says what changes by it.
//!
//! It begins in shadow, and once active raises the autoscaler's floor: the autoscaler stays. With `--replace`, once the policy acts,
//! the autoscaler is removed and the policy sets the size itself; what was removed is kept on the policy, and `tidegate release` puts
//! it back.

mod cron;
mod translate;

use anyhow::Context;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tidegate_actuator::cluster::floor::{self, ANNOTATION};
use tidegate_actuator::cluster::way::AutoscalerKind;
use tidegate_actuator::crds::ServingPolicy;
use tidegate_core::Mode;
use translate::{Adoption, Wish};

use crate::args::AdoptArgs;
use crate::{Usage, controller, crds, output};

/// Annotation of a policy: the autoscaler that it has replaced, as JSON.
const REPLACED: &str = "tidegate.io/replaced";
/// Written as the user's: what a person sets is not the controller's.
const MANAGER: &str = "kubectl-tidegate";

/// Makes the policy, or with `--replace` removes the autoscaler of one that acts.
pub(crate) async fn run(args: AdoptArgs) -> anyhow::Result<()> {
    let (kind, name) = named(&args.name)?;
    let client = controller::client(args.kubeconfig.as_deref()).await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let autoscalers: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind.resource());
    let found = autoscalers.get(name).await;
    let found = found.with_context(|| format!("failed to read {} {namespace}/{name}", kind.kind()))?;
    let policies: Api<ServingPolicy> = Api::namespaced(client, &namespace);
    let object = serde_json::to_value(&found).context("the autoscaler is no JSON")?;
    if args.replace {
        return replace(&policies, &autoscalers, kind, &object, args.dry_run).await;
    }
    let latency =
        args.latency.ok_or_else(|| Usage("--latency: no autoscaler says how fast answers must be".into()))?;
    let mut slo = json!({ "latency": latency, "target": args.target });
    if let Some(limit) = args.per_output_token {
        slo["perOutputToken"] = json!(limit);
    }
    let wish = Wish { name: args.policy, slo, requests_per_second: args.requests_per_second };
    let adoption = translate::adoption(kind, &object, &wish)
        .map_err(|why| Usage(format!("{} {namespace}/{name}: {why}", kind.kind())))?;
    let policy: ServingPolicy = serde_json::from_value(adoption.manifest.clone())
        .map_err(|why| Usage(format!("no policy can say this: {why}")))?;
    let others = policies.list(&Default::default()).await.context("failed to list servingpolicies")?;
    if let Some(other) = others.items.iter().find(|other| other.spec.target == policy.spec.target) {
        return Err(Usage(format!(
            "{namespace}/{} has this target already; it would hold",
            other.name_any()
        ))
        .into());
    }
    let text = written(kind, name, &adoption)?;
    output::say(text.trim_end())?;
    if args.dry_run {
        return Ok(());
    }
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let made = policies.create(&params, &policy).await;
    let made =
        made.with_context(|| format!("failed to make ServingPolicy {namespace}/{}", policy.name_any()))?;
    output::say(&format!("# made {namespace}/{}, in shadow", made.name_any()))
}

/// `hpa/NAME` or `scaledobject/NAME`, by the words that kubectl knows them by.
fn named(text: &str) -> anyhow::Result<(AutoscalerKind, &str)> {
    let wrong = || Usage(format!("{text:?}: say which, as in hpa/chat or scaledobject/chat"));
    let (kind, name) = text.split_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(wrong)?;
    match kind.to_ascii_lowercase().as_str() {
        "hpa" | "horizontalpodautoscaler" | "horizontalpodautoscalers" => Ok((AutoscalerKind::Hpa, name)),
        "so" | "scaledobject" | "scaledobjects" => Ok((AutoscalerKind::ScaledObject, name)),
        _ => Err(wrong().into()),
    }
}

/// The policy as a document, with what changes in comments before it.
fn written(kind: AutoscalerKind, name: &str, adoption: &Adoption) -> anyhow::Result<String> {
    let policy = adoption.manifest["metadata"]["name"].as_str().unwrap_or_default();
    let mut lines = vec![
        format!("# {} {name} → ServingPolicy {policy}", kind.kind()),
        "# In shadow it decides and shows, and changes nothing. Once active (kubectl tidegate activate):"
            .into(),
    ];
    lines.extend(adoption.changes.iter().map(|change| format!("#   ~ {change}")));
    if !adoption.stays.is_empty() {
        lines.push(format!("# Not part of the policy, and left to the {}:", kind.kind()));
        lines.extend(adoption.stays.iter().map(|stays| format!("#   = {stays}")));
    }
    Ok(format!("{}\n{}", lines.join("\n"), crds::document(&adoption.manifest)?))
}

/// Removes the autoscaler of a policy that acts; keeps it on the policy.
async fn replace(
    policies: &Api<ServingPolicy>,
    autoscalers: &Api<DynamicObject>,
    kind: AutoscalerKind,
    object: &Value,
    dry_run: bool,
) -> anyhow::Result<()> {
    let at = |field: &str| object["spec"]["scaleTargetRef"][field].as_str();
    let (target_kind, target_name) = (at("kind").unwrap_or("Deployment"), at("name").unwrap_or_default());
    let all = policies.list(&Default::default()).await.context("failed to list servingpolicies")?;
    let policy =
        all.items.iter().find(|p| p.spec.target.kind == target_kind && p.spec.target.name == target_name);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let adopt = format!("{}/{name}", if kind == AutoscalerKind::Hpa { "hpa" } else { "scaledobject" });
    let Some(policy) = policy else {
        return Err(Usage(format!("no policy targets {target_kind} {target_name}; first: kubectl tidegate adopt {adopt} --latency 2s, then activate")).into());
    };
    let conditions = policy.status.iter().flat_map(|status| &status.conditions);
    let holds = |wanted: &str| conditions.clone().any(|c| c.type_ == wanted && c.status == "True");
    // An autoscaler is removed only where somebody else sizes at this moment.
    if policy.spec.policy.mode != Mode::Active || !holds("Active") {
        return Err(Usage(format!(
            "{} does not act; activate it first, or nobody sizes {target_name}",
            policy.name_any()
        ))
        .into());
    }
    let keeps = kept(kind, object);
    output::say(&format!(
        "- {} {name}; ServingPolicy {} sets the size of {target_kind} {target_name} itself; `kubectl tidegate release` puts it back as:",
        kind.kind(),
        policy.name_any()
    ))?;
    output::say(crds::document(&keeps)?.trim_end())?;
    if dry_run {
        return Ok(());
    }
    let note = json!({ "metadata": { "annotations": { REPLACED: keeps.to_string() } } });
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    policies
        .patch(&policy.name_any(), &params, &Patch::Merge(&note))
        .await
        .with_context(|| format!("failed to keep the {} on the policy", kind.kind()))?;
    let exactly =
        Preconditions { uid: object["metadata"]["uid"].as_str().map(str::to_owned), resource_version: None };
    let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
    autoscalers.delete(name, &params).await.map(drop).with_context(|| format!("failed to remove {adopt}"))
}

/// An autoscaler as it is to come back: what the user wrote, with the user's own floor.
fn kept(kind: AutoscalerKind, object: &Value) -> Value {
    let mut annotations = object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    let raise = annotations.remove(ANNOTATION);
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let mut spec = object["spec"].clone();
    let raise: Option<floor::Raise> =
        raise.as_ref().and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    if let Some(raise) = raise {
        let field = kind.floor_field();
        if spec[field].as_u64() == Some(u64::from(raise.raised)) {
            spec[field] = json!(raise.original);
        }
    }
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": {
            "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
            "labels": object["metadata"]["labels"], "annotations": annotations,
        },
        "spec": spec,
    })
}

/// Whether a policy has replaced an autoscaler.
pub(crate) fn has_replaced(policy: &DynamicObject) -> bool {
    policy.annotations().contains_key(REPLACED)
}

/// Puts back the autoscaler that a policy has replaced: what became of it, in words.
pub(crate) async fn put_back(
    client: &Client,
    policy: &DynamicObject,
    dry_run: bool,
) -> anyhow::Result<String> {
    let wrong = || format!("the annotation {REPLACED} of {} is not as it was written", policy.name_any());
    let text = policy.annotations().get(REPLACED).with_context(wrong)?;
    let object: DynamicObject = serde_json::from_str(text).with_context(wrong)?;
    let kind = object.types.as_ref().map(|types| types.kind.as_str());
    let kinds = [AutoscalerKind::Hpa, AutoscalerKind::ScaledObject];
    let kind = kinds.into_iter().find(|known| kind == Some(known.kind())).with_context(wrong)?;
    let namespace = policy.namespace().unwrap_or_default();
    anyhow::ensure!(object.namespace().as_deref() == Some(&*namespace), wrong());
    let said = format!("{} {namespace}/{}", kind.kind(), object.name_any());
    if dry_run {
        return Ok(format!("{said}: as it was"));
    }
    let autoscalers: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind.resource());
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    match autoscalers.create(&params, &object).await {
        Ok(_) => Ok(format!("{said}: as it was")),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Ok(format!("{said}: there is one again; it is left as it is"))
        }
        Err(error) => Err(error).with_context(|| format!("failed to put back {said}")),
    }
}

/// What is written to a policy so that it no longer keeps a replaced autoscaler.
pub(crate) fn forget() -> Value {
    json!({ "metadata": { "annotations": { REPLACED: null } } })
}

#[cfg(test)]
mod tests;
