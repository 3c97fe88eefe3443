//! The kinds that policies target, and the APIs of others that Tidegate uses where they are there.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::discovery::oneshot::pinned_kind;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tidegate_actuator::cluster::kinds::{TARGET_KINDS, TargetKind};
use tidegate_actuator::cluster::rights::review::{attributes, may};
use tidegate_actuator::cluster::rights::{Identity, optional};
use tidegate_actuator::crds::{GROUP, VERSION};

use super::super::finding::{Findings, Verdict, chain, is_forbidden};
use super::Asked;

/// Objects asked for at a time.
const PAGE: u32 = 500;
/// Kinds that are asked about; a cluster has a handful that can be resized.
const KINDS_MAX: usize = 64;
/// Groups of others, besides those of targets, and what Tidegate does with them.
const OTHERS: [(&str, &str, &str); 3] = [
    ("keda.sh", "KEDA", "floors of ScaledObjects"),
    ("kueue.x-k8s.io", "Kueue", "jobs that it admits are left to it"),
    ("monitoring.coreos.com", "Prometheus operator", "podMonitor.enabled of the chart"),
];

impl Asked {
    /// Whether the server has an API group. Where they could not be listed, it may.
    pub(super) fn has_group(&self, group: &str) -> bool {
        group.is_empty() || self.groups.is_empty() || self.groups.iter().any(|known| known == group)
    }
}

/// The server's API groups.
pub(super) async fn groups(client: &Client, findings: &mut Findings) -> Vec<String> {
    match client.list_api_groups().await {
        Ok(list) => list.groups.into_iter().map(|group| group.name).collect(),
        Err(error) => {
            findings.add(Verdict::Unknown, "APIs", chain(error));
            Vec::new()
        }
    }
}

pub(super) async fn look(asked: &Asked, findings: &mut Findings) {
    targets(asked, findings).await;
    others(asked, findings);
}

/// What policies ask for.
#[derive(Default)]
struct Targeted {
    /// Kinds as policies name them, each with one of the policies that do.
    kinds: BTreeMap<(String, String), String>,
    /// One of the policies that ask for a checkpoint by a command or a signal.
    commands: Option<String>,
}

async fn targets(asked: &Asked, findings: &mut Findings) {
    const SUBJECT: &str = "targets";
    let mut targeted = Targeted::default();
    let mut policies = 0;
    for (kind, plural) in [("ServingPolicy", "servingpolicies"), ("TrainingPolicy", "trainingpolicies")] {
        match list(asked, kind, plural, &mut targeted).await {
            Ok(count) => policies += count,
            Err(error) if is_forbidden(&error) => {
                findings.add(Verdict::Unknown, SUBJECT, format!("whoever asks may not list {plural}"));
            }
            // The definition is not there: told already.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => findings.add(Verdict::Unknown, SUBJECT, chain(error)),
        }
    }
    if let Some(policy) = &targeted.commands {
        may_command(asked, policy, findings).await;
    }
    let asking = futures::stream::iter(targeted.kinds.into_iter().take(KINDS_MAX));
    let answers: Vec<_> = asking
        .map(|((api_version, kind), policy)| async move {
            let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
            let found = pinned_kind(&asked.client, &GroupVersionKind::gvk(group, version, &kind)).await;
            (api_version.clone(), kind, policy, found.ok().map(|(resource, _)| resource))
        })
        .buffered(8)
        .collect()
        .await;
    let mut fine = BTreeSet::new();
    for (api_version, kind, policy, found) in answers {
        let Some(resource) = found else {
            let text = format!("the cluster has no {kind} of {api_version}, which {policy} targets");
            findings.ask(Verdict::Missing, SUBJECT, text, "install it, or delete the policy");
            continue;
        };
        if may_size(asked, &resource, findings).await {
            fine.insert(kind);
        }
    }
    let kinds: Vec<_> = fine.into_iter().collect();
    match (policies, kinds.is_empty()) {
        (0, _) => findings.add(Verdict::Absent, SUBJECT, "there is no policy yet"),
        (_, true) => {}
        (count, false) => {
            findings.add(Verdict::Fine, SUBJECT, format!("policies: {count}; kinds: {}", kinds.join(", ")))
        }
    }
}

/// Lists one kind of policy; how many there are.
async fn list(asked: &Asked, kind: &str, plural: &str, targeted: &mut Targeted) -> kube::Result<usize> {
    let gvk = GroupVersionKind::gvk(GROUP, VERSION, kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let namespaces: Vec<_> = match asked.watched.as_slice() {
        [] => vec![None],
        names => names.iter().map(Some).collect(),
    };
    let mut count = 0;
    for namespace in namespaces {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(asked.client.clone(), namespace, &resource),
            None => Api::all_with(asked.client.clone(), &resource),
        };
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = api.list(&params).await?;
            for policy in &page.items {
                count += 1;
                let path = format!("{}/{}", policy.namespace().unwrap_or_default(), policy.name_any());
                let hook = |name: &str| policy.data.pointer(&format!("/spec/checkpoint/{name}")).is_some();
                if hook("exec") || hook("signal") {
                    targeted.commands.get_or_insert_with(|| path.clone());
                }
                targeted.kinds.entry(target(&policy.data)).or_insert(path);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(count)
}

/// `apiVersion` and kind of a policy's target.
fn target(policy: &Value) -> (String, String) {
    let text = |field: &str| policy.pointer(&format!("/spec/target/{field}")).and_then(Value::as_str);
    let kind = text("kind").unwrap_or_default();
    let usual = || TargetKind::named(kind).map(TargetKind::api_version).unwrap_or_default();
    (text("apiVersion").map_or_else(usual, str::to_owned), kind.to_owned())
}

/// Whether the controller may run commands in pods, which it needs for the checkpoints of this policy.
async fn may_command(asked: &Asked, policy: &str, findings: &mut Findings) {
    let namespace = policy.split('/').next();
    for one in optional(Identity::Controller).into_iter().filter(|one| one.resource == "pods") {
        let (account, question) = (one.identity.account(), attributes(&one, namespace));
        if let (Some(option), Ok(false)) =
            (one.option, may(&asked.client, (&asked.own, account), question).await)
        {
            let text = format!(
                "{account} may not {one}, and {policy} asks for a checkpoint by a command or a signal"
            );
            findings.ask(Verdict::Missing, "targets", text, format!("set {option} of the chart"));
            return;
        }
    }
}

/// Whether the controller may size a kind that is not in its table: those rights are the user's to grant.
async fn may_size(asked: &Asked, resource: &ApiResource, findings: &mut Findings) -> bool {
    let known = |kind: &TargetKind| kind.group == resource.group && kind.plural == resource.plural;
    if TARGET_KINDS.iter().any(known) {
        return true;
    }
    let account = Identity::Controller.account();
    let place = asked.watched.first();
    for (verb, part) in [("list", None), ("watch", None), ("patch", Some("scale"))] {
        let question = ResourceAttributes {
            group: Some(resource.group.clone()),
            resource: Some(resource.plural.clone()),
            subresource: part.map(str::to_owned),
            verb: Some(verb.to_owned()),
            namespace: place.cloned(),
            ..ResourceAttributes::default()
        };
        if matches!(may(&asked.client, (&asked.own, account), question).await, Ok(false)) {
            let part = part.map(|part| format!("/{part}")).unwrap_or_default();
            let text = format!(
                "{account} may not {verb} {}.{}{part}, which a policy targets",
                resource.plural, resource.group
            );
            findings.ask(Verdict::Missing, "targets", text, "add it to controller.extraTargets of the chart");
            return false;
        }
    }
    true
}

/// What of others is there.
fn others(asked: &Asked, findings: &mut Findings) {
    if asked.groups.is_empty() {
        return;
    }
    let built_in = |group: &str| matches!(group, "apps" | "batch");
    let of_targets = TARGET_KINDS.iter().filter(|kind| !built_in(kind.group));
    let of_targets = of_targets.map(|kind| (kind.group, kind.kind, "can be a target"));
    for (group, name, what) in of_targets.chain(OTHERS) {
        if asked.has_group(group) {
            findings.add(Verdict::Fine, name, format!("{group} is there: {what}"));
        } else {
            findings.add(Verdict::Absent, name, format!("{group} is not installed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_target_without_a_version_has_the_one_of_the_table() {
        let spec = |target: Value| json!({"spec": {"target": target}});
        let of = |own| target(&spec(own));
        assert_eq!(of(json!({"kind": "Deployment", "name": "x"})), ("apps/v1".into(), "Deployment".into()));
        let own = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "x"});
        assert_eq!(of(own), ("argoproj.io/v1alpha1".into(), "Rollout".into()));
    }
}
