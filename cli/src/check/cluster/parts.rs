//! The parts of Tidegate that run in the cluster: controller, agents, the job that gives floors back, and who leads.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::jiff;
use kube::{Api, Client};
use tidegate_actuator::cluster::rights::Identity;

use super::super::finding::{Findings, Verdict, chain, is_forbidden};
use super::Asked;
use crate::clock;

/// A leader renews every two seconds; this much later it is looked at again before it counts as gone.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(4);
/// A renewal that is older than this, by this machine's clock, is doubted.
const RENEWED_WITHIN: i64 = 20;
/// The job runs every minute.
const RESTORED_WITHIN: i64 = 300;
const INSTALL: &str = "helm install tidegate deploy/helm/tidegate, or name its namespace with --namespace";

pub(super) async fn look(asked: &mut Asked, findings: &mut Findings) {
    controller(asked, findings).await;
    agents(asked, findings).await;
    restore(asked, findings).await;
    leader(asked, findings).await;
}

/// An object of Tidegate's, or why it is not known: already told.
async fn object<K>(asked: &Asked, subject: &str, name: &str, findings: &mut Findings) -> Option<Option<K>>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(asked.client.clone(), &asked.own);
    match api.get_opt(name).await {
        Ok(found) => Some(found),
        Err(error) if is_forbidden(&error) => {
            let kind = K::kind(&());
            findings.add(Verdict::Unknown, subject, format!("whoever asks may not read the {kind} {name}"));
            None
        }
        Err(error) => {
            findings.add(Verdict::Unknown, subject, chain(error));
            None
        }
    }
}

async fn controller(asked: &mut Asked, findings: &mut Findings) {
    const SUBJECT: &str = "controller";
    let name = Identity::Controller.account();
    let Some(found) = object::<StatefulSet>(asked, SUBJECT, name, findings).await else { return };
    let Some(set) = found else {
        let text = format!("there is no StatefulSet {name} in {}", asked.own);
        findings.ask(Verdict::Missing, SUBJECT, text, INSTALL);
        return;
    };
    if asked.watched.is_empty() {
        asked.watched = watched(&set);
    }
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = set.status.and_then(|status| status.ready_replicas).unwrap_or(0);
    counted(
        findings,
        SUBJECT,
        ready,
        wanted,
        &format!("kubectl describe statefulset {name} -n {}", asked.own),
    );
}

/// The namespaces that the running controller was told to follow.
fn watched(set: &StatefulSet) -> Vec<String> {
    let containers =
        set.spec.iter().filter_map(|spec| spec.template.spec.as_ref()).flat_map(|spec| &spec.containers);
    let arguments = containers.flat_map(|container| container.args.iter().flatten());
    arguments.filter_map(|argument| argument.strip_prefix("--namespace=")).map(str::to_owned).collect()
}

fn counted(findings: &mut Findings, subject: &str, ready: i32, wanted: i32, remedy: &str) {
    let text = format!("{ready} of {wanted} are ready");
    match ready {
        _ if ready >= wanted && wanted > 0 => findings.add(Verdict::Fine, subject, text),
        0 => findings.ask(Verdict::Missing, subject, text, remedy),
        _ => findings.ask(Verdict::Warning, subject, text, remedy),
    }
}

async fn agents(asked: &Asked, findings: &mut Findings) {
    const SUBJECT: &str = "agents";
    let name = Identity::Agent.account();
    let Some(found) = object::<DaemonSet>(asked, SUBJECT, name, findings).await else { return };
    let Some(status) = found.map(|set| set.status.unwrap_or_default()) else {
        let text =
            format!("there is no DaemonSet {name} in {}; demand is known by Prometheus alone", asked.own);
        findings.add(Verdict::Absent, SUBJECT, text);
        return;
    };
    let remedy = format!("kubectl describe daemonset {name} -n {}", asked.own);
    match status.desired_number_scheduled {
        0 => findings.ask(
            Verdict::Warning,
            SUBJECT,
            "no node is chosen for them",
            "see agent.nodeSelector and agent.tolerations",
        ),
        wanted => counted(findings, SUBJECT, status.number_ready, wanted, &remedy),
    }
}

async fn restore(asked: &Asked, findings: &mut Findings) {
    const SUBJECT: &str = "restore";
    let name = Identity::Restore.account();
    let Some(found) = object::<CronJob>(asked, SUBJECT, name, findings).await else { return };
    let Some(job) = found else {
        let text = "there is no job that gives floors back while no controller runs";
        findings.ask(Verdict::Warning, SUBJECT, text, "set restore.enabled");
        return;
    };
    if job.spec.suspend == Some(true) {
        findings.ask(Verdict::Warning, SUBJECT, "it is suspended", format!("resume the CronJob {name}"));
        return;
    }
    let made = job.metadata.creation_timestamp.as_ref().map(|time| seconds_since(time.0));
    let ended = job.status.and_then(|status| status.last_successful_time).map(|time| seconds_since(time.0));
    match (ended, made) {
        (Some(seconds), _) if seconds < RESTORED_WITHIN => {
            findings.add(Verdict::Fine, SUBJECT, format!("ran {seconds} s ago"));
        }
        (None, Some(seconds)) if seconds < RESTORED_WITHIN => {
            findings.add(Verdict::Fine, SUBJECT, "has not run yet");
        }
        (ended, _) => {
            let when = ended.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s ago"));
            let remedy = format!("kubectl get jobs -n {}", asked.own);
            findings.ask(Verdict::Warning, SUBJECT, format!("last ended well: {when}"), remedy);
        }
    }
}

fn seconds_since(at: jiff::Timestamp) -> i64 {
    clock::now().as_millis().saturating_sub(at.as_millisecond()).div_euclid(1000)
}

async fn leader(asked: &Asked, findings: &mut Findings) {
    const SUBJECT: &str = "leader";
    let name = Identity::Controller.account();
    let Some(found) = object::<Lease>(asked, SUBJECT, name, findings).await else { return };
    let held = |lease: &LeaseSpec| lease.holder_identity.clone().filter(|holder| !holder.is_empty());
    let spec = found.and_then(|lease| lease.spec);
    let Some((spec, holder)) = spec.and_then(|spec| Some((spec.clone(), held(&spec)?))) else {
        let text = "no controller leads, so nothing is written";
        findings.ask(Verdict::Missing, SUBJECT, text, "see the controllers' logs");
        return;
    };
    let age = spec.renew_time.as_ref().map(|time| seconds_since(time.0));
    if age.is_some_and(|seconds| (-RENEWED_WITHIN..RENEWED_WITHIN).contains(&seconds)) {
        findings.add(Verdict::Fine, SUBJECT, holder);
        return;
    }
    // The clock of this machine may differ from the leader's: what counts is whether it goes on renewing.
    if renews(&asked.client, &asked.own, name, &spec).await {
        let text = format!(
            "{holder} leads; this machine's clock and the leader's are {} s apart",
            age.unwrap_or(0).abs()
        );
        findings.ask(Verdict::Warning, SUBJECT, text, "set the clocks");
    } else {
        let since = age.map_or_else(|| "ever".to_owned(), |seconds| format!("{seconds} s"));
        let text = format!("{holder} has not renewed its lease for {since}");
        findings.ask(Verdict::Missing, SUBJECT, text, "see the controllers' logs");
    }
}

async fn renews(client: &Client, namespace: &str, name: &str, before: &LeaseSpec) -> bool {
    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let now = api.get_opt(name).await.ok().flatten().and_then(|lease| lease.spec);
    now.is_some_and(|now| now.renew_time != before.renew_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_namespaces_are_those_that_the_controller_was_told() {
        let container = json!({"name": "controller", "args": ["controller", "--namespace=ml", "--namespace=batch", "--listen=:1"]});
        let set = json!({
            "metadata": {"name": "tidegate-controller"},
            "spec": {"selector": {}, "serviceName": "x", "template": {"spec": {"containers": [container]}}},
        });
        assert_eq!(watched(&serde_json::from_value(set).unwrap()), ["ml", "batch"]);
    }

    #[test]
    fn some_ready_is_a_warning_and_none_is_a_lack() {
        let verdict = |ready, wanted| {
            let mut findings = Findings::default();
            counted(&mut findings, "controller", ready, wanted, "look");
            findings.findings[0].verdict
        };
        assert_eq!(verdict(2, 2), Verdict::Fine);
        assert_eq!(verdict(1, 2), Verdict::Warning);
        assert_eq!(verdict(0, 2), Verdict::Missing);
        assert_eq!(verdict(0, 0), Verdict::Missing);
    }
}
