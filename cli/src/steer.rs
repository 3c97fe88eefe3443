//! The commands by which people steer policies of a cluster: `activate`, `shadow`, `pause`, `resume`, `release`, `restore` and `top`.
//! They speak to the API server alone, so that they work also while no controller runs.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tidegate_actuator::cluster::apply::{MANAGER, Order, write};
use tidegate_actuator::cluster::facts::{AutoscalerFacts, TargetFacts};
use tidegate_actuator::cluster::floor::{self, Raise};
use tidegate_actuator::cluster::tables::PAUSED_UNTIL;
use tidegate_actuator::cluster::targets::place;
use tidegate_actuator::cluster::way::AutoscalerKind;
use tidegate_actuator::crds::{GROUP, Target, VERSION};
use tidegate_core::Timestamp;

use crate::args::{Output, RestoreArgs, SteerArgs, TopArgs, Which};
use crate::{Usage, adopt, clock, controller, output};

/// Objects asked for at a time.
const PAGE: u32 = 500;
/// A pause that is longer than this is a decision to be written down as `mode: shadow`.
const PAUSE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Both kinds of policies.
const KINDS: [(&str, &str); 2] =
    [("ServingPolicy", "servingpolicies"), ("TrainingPolicy", "trainingpolicies")];

/// A policy, of either kind.
struct Found {
    resource: ApiResource,
    object: DynamicObject,
}

impl Found {
    fn namespace(&self) -> String {
        self.object.namespace().unwrap_or_default()
    }

    fn path(&self) -> String {
        format!("{}/{}", self.namespace(), self.object.name_any())
    }

    fn at(&self, pointer: &str) -> Option<&Value> {
        self.object.data.pointer(pointer).filter(|value| !value.is_null())
    }

    fn text(&self, pointer: &str) -> String {
        match self.at(pointer) {
            None => "–".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.as_f64().map_or_else(|| value.to_string(), plain),
        }
    }

    fn condition(&self, kind: &str) -> Option<&Value> {
        let all = self.at("/status/conditions")?.as_array()?;
        all.iter().find(|condition| condition["type"] == kind)
    }

    async fn patch(&self, client: &Client, patch: &Value) -> anyhow::Result<()> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &self.namespace(), &self.resource);
        // As the user's: what a person sets is not the controller's.
        let params = PatchParams { field_manager: Some("kubectl-tidegate".into()), ..PatchParams::default() };
        let patched = api.patch(&self.object.name_any(), &params, &Patch::Merge(patch)).await;
        patched.map(drop).with_context(|| format!("failed to change {}", self.path()))
    }
}

fn plain(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { output::number(value) }
}

/// The policies that the command names.
async fn find(client: &Client, which: &Which) -> anyhow::Result<Vec<Found>> {
    let namespace = which.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let mut found = Vec::new();
    for (kind, plural) in KINDS {
        let resource = ApiResource {
            group: GROUP.into(),
            version: VERSION.into(),
            api_version: format!("{GROUP}/{VERSION}"),
            kind: kind.into(),
            plural: plural.into(),
        };
        let api: Api<DynamicObject> = match which.all_namespaces {
            true => Api::all_with(client.clone(), &resource),
            false => Api::namespaced_with(client.clone(), &namespace, &resource),
        };
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let list = api.list(&params).await.with_context(|| format!("failed to list {plural}"))?;
            let named = list.items.into_iter().filter(|object| is_named(object, which.name.as_deref()));
            found.extend(named.map(|object| Found { resource: resource.clone(), object }));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    match (&which.name, found.is_empty()) {
        (Some(name), true) => {
            Err(Usage(format!("no policy is called or targets {name} in {namespace}")).into())
        }
        _ => Ok(found),
    }
}

/// Whether a policy has this name, or its target has: `chat`, `deploy/chat`, `deployment/chat`.
fn is_named(object: &DynamicObject, name: Option<&str>) -> bool {
    let Some(name) = name else { return true };
    let target = |part: &str| object.data.pointer(&format!("/spec/target/{part}")).and_then(Value::as_str);
    match name.split_once('/') {
        None => object.name_any() == name,
        Some((kind, name)) => {
            let kind = match kind.to_ascii_lowercase().as_str() {
                "deploy" | "deployments" => "deployment".to_owned(),
                "sts" | "statefulsets" => "statefulset".to_owned(),
                other => other.trim_end_matches('s').to_owned(),
            };
            target("kind").is_some_and(|own| own.eq_ignore_ascii_case(&kind)) && target("name") == Some(name)
        }
    }
}

async fn chosen(client: &Client, args: &SteerArgs) -> anyhow::Result<Vec<Found>> {
    if args.which.name.is_none() && !args.all {
        return Err(Usage("name a policy or its target, as in deploy/chat; or say --all".into()).into());
    }
    find(client, &args.which).await
}

/// `tidegate activate`: shows what the policy has done in shadow, then puts it into effect.
pub(crate) async fn activate(args: SteerArgs) -> anyhow::Result<()> {
    let client = controller::client(args.which.kubeconfig.as_deref()).await?;
    for policy in chosen(&client, &args).await? {
        output::say(&evidence(&policy))?;
        if args.dry_run {
            continue;
        }
        if let Some(conflict) = policy.condition("Conflict").filter(|condition| condition["status"] == "True")
        {
            let why = conflict["message"].as_str().unwrap_or("somebody else sets the size");
            anyhow::bail!("{} would not act: {why}", policy.path());
        }
        policy
            .patch(
                &client,
                &json!({"spec": {"mode": "active"}, "metadata": {"annotations": {PAUSED_UNTIL: null}}}),
            )
            .await?;
        output::say(&format!("{}: active", policy.path()))?;
    }
    Ok(())
}

/// What is known of a policy before it acts.
fn evidence(policy: &Found) -> String {
    let target = format!("{} {}", policy.text("/spec/target/kind"), policy.text("/spec/target/name"));
    let mut lines = vec![format!("{} → {target}", policy.path())];
    let mut line = |what: &str, text: String| lines.push(format!("  {what:<12} {text}"));
    line("mode", policy.text("/spec/mode"));
    let (wanted, ready) = ("/status/replicas/wanted", "/status/replicas/ready");
    line("size", format!("{} ready, {} wanted", policy.text(ready), policy.text(wanted)));
    line("demand", format!("{} {}", policy.text("/status/demand/value"), policy.text("/status/demand/unit")));
    line("one carries", policy.text("/status/capacityPerReplica"));
    line("start-up", format!("{} s", policy.text("/status/leadTimeSeconds")));
    line(
        "forecast",
        format!(
            "median {}, 95 % below {}; largest until a new replica is ready, 95 %: {}",
            policy.text("/status/forecast/p50"),
            policy.text("/status/forecast/p95"),
            policy.text("/status/forecast/windowMax")
        ),
    );
    line(
        "objective",
        format!("{} of {}", policy.text("/status/slo/attained"), policy.text("/status/slo/target")),
    );
    line("acts by", policy.text("/status/via"));
    line(
        "last said",
        format!(
            "{} → {} at {}; an HPA would ask for {}",
            policy.text("/status/lastDecision/from"),
            policy.text("/status/lastDecision/to"),
            policy.text("/status/lastDecision/at"),
            policy.text("/status/lastDecision/hpa")
        ),
    );
    for reason in policy.at("/status/lastDecision/reasons").and_then(Value::as_array).into_iter().flatten() {
        line(
            "",
            format!("{}: {}", reason["code"].as_str().unwrap_or("?"), reason["text"].as_str().unwrap_or("")),
        );
    }
    for condition in policy.at("/status/conditions").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| condition[key].as_str().unwrap_or("?").to_owned();
        line(&text("type"), format!("{} ({}): {}", text("status"), text("reason"), text("message")));
    }
    lines.join("\n")
}

/// `tidegate explain KIND/NAME`: the same of a workload of the cluster, by its policy's status.
pub(crate) async fn explain(which: &Which, how: Output) -> anyhow::Result<()> {
    let client = controller::client(which.kubeconfig.as_deref()).await?;
    for policy in find(&client, which).await? {
        match how {
            Output::Table => output::say(&evidence(&policy))?,
            how => {
                let reasons = policy.at("/status/lastDecision/reasons").and_then(Value::as_array);
                let row = |reason: &Value| {
                    let text = |key: &str| reason[key].as_str().unwrap_or_default().to_owned();
                    vec![policy.path(), text("code"), text("text")]
                };
                let rows: Vec<_> = reasons.into_iter().flatten().map(row).collect();
                output::print(how, &["policy", "code", "text"], &rows, &policy.object.data)?;
            }
        }
    }
    Ok(())
}

/// `tidegate shadow`: decides and shows, but changes nothing any more. A raised floor is given back by the controller.
pub(crate) async fn shadow(args: SteerArgs) -> anyhow::Result<()> {
    let client = controller::client(args.which.kubeconfig.as_deref()).await?;
    for policy in chosen(&client, &args).await? {
        if !args.dry_run {
            policy.patch(&client, &json!({"spec": {"mode": "shadow"}})).await?;
        }
        output::say(&format!("{}: shadow", policy.path()))?;
    }
    Ok(())
}

/// `tidegate pause`: changes nothing for a while.
pub(crate) async fn pause(args: SteerArgs, lasting: Duration) -> anyhow::Result<()> {
    if lasting > PAUSE_MAX {
        return Err(Usage("a pause is seven days at most; `tidegate shadow` has no end".into()).into());
    }
    let until = Timestamp::from_millis(clock::now().as_millis()) + lasting;
    mark(args, Some(until)).await
}

/// `tidegate resume`: ends a pause.
pub(crate) async fn resume(args: SteerArgs) -> anyhow::Result<()> {
    mark(args, None).await
}

async fn mark(args: SteerArgs, until: Option<Timestamp>) -> anyhow::Result<()> {
    let client = controller::client(args.which.kubeconfig.as_deref()).await?;
    let text = until.map(|until| until.to_string());
    for policy in chosen(&client, &args).await? {
        if !args.dry_run {
            policy.patch(&client, &json!({"metadata": {"annotations": {PAUSED_UNTIL: text}}})).await?;
        }
        let state = text
            .as_ref()
            .map_or_else(|| "no longer paused".to_owned(), |until| format!("paused until {until}"));
        output::say(&format!("{}: {state}", policy.path()))?;
    }
    Ok(())
}

/// `tidegate release`: shadow, and every floor, size and autoscaler as it was before, at once and whether or not a controller runs.
pub(crate) async fn release(args: SteerArgs) -> anyhow::Result<()> {
    let client = controller::client(args.which.kubeconfig.as_deref()).await?;
    for policy in chosen(&client, &args).await? {
        if !args.dry_run {
            policy.patch(&client, &json!({"spec": {"mode": "shadow"}})).await?;
        }
        output::say(&format!("{}: shadow", policy.path()))?;
        let own = |raise: &Raise| raise.by == policy.path();
        give_back(&client, Some(&policy.namespace()), own, args.dry_run).await?;
        if adopt::has_replaced(&policy.object) {
            let back = adopt::put_back(&client, &policy.object, args.dry_run).await?;
            output::say(&back)?;
            if !args.dry_run {
                policy.patch(&client, &adopt::forget()).await?;
            }
        } else if let Some(said) = size_back(&client, &policy, args.dry_run).await? {
            output::say(&said)?;
        }
    }
    Ok(())
}

/// Sets the size again that the target had before the policy, and gives up the field, so that whoever applies manifests may have it. Where
/// no size is recorded, as of a policy that has been in shadow since, the size stays.
async fn size_back(client: &Client, policy: &Found, dry_run: bool) -> anyhow::Result<Option<String>> {
    let before = policy.at("/status/sizeBefore").and_then(Value::as_u64);
    let before = before.map(u32::try_from).transpose().context("status.sizeBefore is no size")?;
    let target: Target = serde_json::from_value(policy.at("/spec/target").cloned().unwrap_or_default())
        .context("spec.target is no target")?;
    let said = format!("{} {}/{}", target.kind, policy.namespace(), target.name);
    let key = (target.api_version().unwrap_or_default(), target.kind.clone());
    if before.is_none() && !may_own_size(policy) {
        return Ok(None);
    }
    let (resource, layout) = match place(client, &key).await {
        Err(_) if before.is_none() => return Ok(None),
        placed => placed.with_context(|| format!("the cluster has no kind {}", key.1))?,
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &policy.namespace(), &resource);
    let Some(object) = api.get_opt(&target.name).await.with_context(|| format!("failed to read {said}"))?
    else {
        return Ok(before.map(|_| format!("{said} is gone")));
    };
    let Some(before) = before else {
        return match owned(&object).next() {
            None => Ok(None),
            Some(_) if dry_run => Ok(Some(format!("{said}: its size would be given up as it is"))),
            Some(_) => {
                disown(&api, &target.name).await.with_context(|| given_up(&said))?;
                Ok(Some(format!("{said}: its size is given up as it is")))
            }
        };
    };
    let mut groups = TargetFacts::groups(&object, layout);
    let facts = groups.remove(&target.group).with_context(|| format!("{said} has no such group"))?;
    let from = facts.size;
    if !dry_run {
        if from != Some(before) {
            let (key, group_index) = ((policy.namespace(), target.name.clone()), facts.group_index);
            let order = Order::Size { resource, layout, key, group_index, from, to: before };
            write(client.clone(), &order).await.map_err(|refused| anyhow::anyhow!("{said}: {refused}"))?;
        }
        disown(&api, &target.name).await.with_context(|| given_up(&said))?;
    }
    let from = from.map_or_else(|| "none".to_owned(), |from| from.to_string());
    Ok(Some(format!("{said}: size {from} → {before}, as before")))
}

/// Whether the size of a policy's target, if it is Tidegate's, is this policy's: no other policy and no autoscaler has the target.
fn may_own_size(policy: &Found) -> bool {
    let conditions = policy.at("/status/conditions").and_then(Value::as_array);
    let alone = |condition: &Value| condition["type"] == "Conflict" && condition["status"] == "False";
    let via = policy.at("/status/via").and_then(Value::as_str);
    conditions.is_some_and(|conditions| conditions.iter().any(alone)) && via.is_none_or(|via| via == "scale")
}

fn given_up(said: &str) -> String {
    format!("failed to give up the size of {said}")
}

/// Places of Tidegate's entries among the managers of an object's fields.
fn owned(object: &DynamicObject) -> impl DoubleEndedIterator<Item = usize> {
    let managed = object.managed_fields().iter().enumerate();
    managed.filter(|(_, entry)| entry.manager.as_deref() == Some(MANAGER)).map(|(at, _)| at)
}

/// Takes Tidegate out of the managers of an object's fields: a field that it owns would be a conflict for whoever applies manifests.
async fn disown(api: &Api<DynamicObject>, name: &str) -> kube::Result<()> {
    let object = api.get(name).await?;
    // From the last to the first: what is removed moves what follows.
    let operations: Vec<Value> = owned(&object)
        .rev()
        .flat_map(|at| {
            let path = format!("/metadata/managedFields/{at}");
            let test = json!({"op": "test", "path": format!("{path}/manager"), "value": MANAGER});
            [test, json!({"op": "remove", "path": path})]
        })
        .collect();
    if operations.is_empty() {
        return Ok(());
    }
    let patch = serde_json::from_value(Value::Array(operations)).expect("valid operations");
    let params = PatchParams { field_manager: Some("kubectl-tidegate".into()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::<()>::Json(patch)).await.map(drop)
}

/// `tidegate restore`: gives back raised floors from what the autoscalers themselves record: those whose raise is over, or all.
pub(crate) async fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let client = controller::client(args.kubeconfig.as_deref()).await?;
    let now = clock::now();
    let meant = |raise: &Raise| args.all || raise.is_over(now);
    if args.namespace.is_empty() {
        return give_back(&client, None, meant, args.dry_run).await;
    }
    for namespace in &args.namespace {
        give_back(&client, Some(namespace), meant, args.dry_run).await?;
    }
    Ok(())
}

async fn give_back(
    client: &Client,
    namespace: Option<&str>,
    meant: impl Fn(&Raise) -> bool,
    dry_run: bool,
) -> anyhow::Result<()> {
    let now = clock::now();
    for (kind, key, facts) in raised(client, namespace).await? {
        let Some(raise) = Raise::of(&facts).filter(&meant) else { continue };
        let Some(written) = floor::step(&facts, None, "", now) else { continue };
        let to = written.min.map_or_else(|| "none".to_owned(), |min| min.to_string());
        if !dry_run {
            let order = Order::Floor { kind, key: key.clone(), write: written };
            write(client.clone(), &order)
                .await
                .map_err(|refused| anyhow::anyhow!("{} {}/{}: {refused}", kind.kind(), key.0, key.1))?;
        }
        output::say(&format!("{} {}/{}: floor {} → {to}", kind.kind(), key.0, key.1, raise.raised))?;
    }
    Ok(())
}

type Raised = (AutoscalerKind, (String, String), AutoscalerFacts);

/// Autoscalers that have a record of a raise.
async fn raised(client: &Client, namespace: Option<&str>) -> anyhow::Result<Vec<Raised>> {
    let mut found = Vec::new();
    let hpas: Api<HorizontalPodAutoscaler> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let list = hpas.list(&ListParams::default()).await.context("failed to list HorizontalPodAutoscalers")?;
    for hpa in list.items {
        let key = (hpa.namespace().unwrap_or_default(), hpa.name_any());
        found.extend(AutoscalerFacts::of_hpa(&hpa).map(|facts| (AutoscalerKind::Hpa, key, facts)));
    }
    let kind = AutoscalerKind::ScaledObject.resource();
    let scaled: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    };
    match scaled.list(&ListParams::default()).await {
        Ok(list) => found.extend(list.items.iter().filter_map(|object| {
            let key = (object.namespace().unwrap_or_default(), object.name_any());
            Some((AutoscalerKind::ScaledObject, key, AutoscalerFacts::of_scaled_object(object)?))
        })),
        // KEDA is not installed.
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error).context("failed to list ScaledObjects"),
    }
    found.retain(|(.., facts)| facts.raised.is_some());
    Ok(found)
}

/// `tidegate top`: every policy in a line.
pub(crate) async fn top(args: TopArgs) -> anyhow::Result<()> {
    let client = controller::client(args.which.kubeconfig.as_deref()).await?;
    let found = find(&client, &args.which).await?;
    let header =
        ["policy", "target", "mode", "wanted", "ready", "demand", "forecast p95", "slo", "acts by", "ready?"];
    let row = |policy: &Found| {
        let ready = policy.condition("Ready").and_then(|c| c["reason"].as_str()).unwrap_or("–").to_owned();
        let target = format!("{}/{}", policy.text("/spec/target/kind"), policy.text("/spec/target/name"));
        let sizes = if policy.resource.kind == KINDS[0].0 { "replicas" } else { "workers" };
        vec![
            policy.path(),
            target,
            policy.text("/spec/mode"),
            policy.text(&format!("/status/{sizes}/wanted")),
            policy.text(&format!("/status/{sizes}/ready")),
            policy.text("/status/demand/value"),
            policy.text("/status/forecast/p95"),
            policy.text("/status/slo/attained"),
            policy.text("/status/via"),
            ready,
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    let value: Vec<_> = found.iter().map(|policy| json!({"policy": policy.path(), "spec": policy.at("/spec"), "status": policy.at("/status")})).collect();
    if rows.is_empty() && args.output == Output::Table {
        return output::say("no policies");
    }
    output::print(args.output, &header, &rows, &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy",
            "metadata": {"name": "chat-policy", "namespace": "ml"},
            "spec": {"target": {"kind": "Deployment", "name": "chat"}, "mode": "shadow"},
            "status": {"replicas": {"wanted": 4, "ready": 2}, "demand": {"value": 12.34, "unit": "req/s"},
                "lastDecision": {"from": 2, "to": 4, "at": "2026-01-01T00:00:00Z",
                    "reasons": [{"code": "predicted", "text": "4 for 40 req/s"}]}},
        }))
        .unwrap()
    }

    #[test]
    fn a_policy_is_found_by_its_name_or_its_target() {
        for name in ["chat-policy", "deploy/chat", "deployment/chat", "Deployments/chat"] {
            assert!(is_named(&policy(), Some(name)), "{name}");
        }
        for name in ["chat", "sts/chat", "deploy/other"] {
            assert!(!is_named(&policy(), Some(name)), "{name}");
        }
    }

    #[test]
    fn the_evidence_says_what_is_known_and_what_is_not() {
        let resource = ApiResource {
            group: GROUP.into(),
            version: VERSION.into(),
            api_version: String::new(),
            kind: KINDS[0].0.into(),
            plural: KINDS[0].1.into(),
        };
        let text = evidence(&Found { resource, object: policy() });
        assert!(text.contains("2 ready, 4 wanted") && text.contains("predicted: 4 for 40 req/s"), "{text}");
        assert!(text.contains("an HPA would ask for –"), "{text}");
    }
}
