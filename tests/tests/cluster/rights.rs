//! Rights in a real cluster: the chart's identities have every one that the table names and none besides, and a controller that one is
//! taken from says so, goes on with the rest, and acts again when it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tidegate_actuator::cluster::rights::review::{attributes, may, places};
use tidegate_actuator::cluster::rights::{Identity, Permission, Place, optional, permissions};
use tidegate_actuator::crds::ServingPolicy;
use tidegate_core::{Label, Metric};
use tidegate_tests::servers::kubernetes::{ControlPlane, FakeNode, Kwok, Options};
use tidegate_tests::servers::{Agent, Controller};
use tidegate_tests::waiting;

use crate::chart::{self, NAMESPACE};
use crate::controller::{CHAT, load, metric};
use crate::objects::{SOON, deploy, object, wait_for_ready};

/// An account, where it may (`None`: in the whole cluster), and what.
pub(crate) type Granted = BTreeSet<(String, Option<String>, String)>;

/// What a rule allows, word by word as [`Permission`] says it.
fn words(rule: &PolicyRule) -> Vec<String> {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let mut words = Vec::new();
    for (group, resource) in list(&rule.api_groups)
        .iter()
        .flat_map(|group| list(&rule.resources).into_iter().map(move |r| (group.clone(), r)))
    {
        let (resource, part) =
            resource.split_once('/').map_or((resource.as_str(), None), |(r, part)| (r, Some(part)));
        let group = if group.is_empty() { String::new() } else { format!(".{group}") };
        let part = part.map(|part| format!("/{part}")).unwrap_or_default();
        let names = list(&rule.resource_names).into_iter().map(|name| format!(" {name}")).collect::<Vec<_>>();
        let names = if names.is_empty() { vec![String::new()] } else { names };
        for verb in &rule.verbs {
            words.extend(names.iter().map(|name| format!("{verb} {resource}{group}{part}{name}")));
        }
    }
    words
}

/// Everything that roles give to the accounts of Tidegate's namespace.
pub(crate) async fn granted(client: &Client) -> Granted {
    let everything = ListParams::default();
    let cluster_roles =
        Api::<ClusterRole>::all(client.clone()).list(&everything).await.expect("they can be listed");
    let roles = Api::<Role>::all(client.clone()).list(&everything).await.expect("they can be listed");
    let mut rules: BTreeMap<(Option<String>, String), Vec<PolicyRule>> = BTreeMap::new();
    for role in cluster_roles {
        rules.insert((None, role.metadata.name.unwrap_or_default()), role.rules.unwrap_or_default());
    }
    for role in roles {
        let key = (role.metadata.namespace, role.metadata.name.unwrap_or_default());
        rules.insert(key, role.rules.unwrap_or_default());
    }
    let mut bindings = Vec::new();
    for binding in
        Api::<ClusterRoleBinding>::all(client.clone()).list(&everything).await.expect("they can be listed")
    {
        bindings.push((None, binding.role_ref, binding.subjects));
    }
    for binding in
        Api::<RoleBinding>::all(client.clone()).list(&everything).await.expect("they can be listed")
    {
        bindings.push((binding.metadata.namespace, binding.role_ref, binding.subjects));
    }
    let mut granted = Granted::new();
    for (place, role, subjects) in bindings {
        let ours =
            subjects.into_iter().flatten().filter(|subject| subject.namespace.as_deref() == Some(NAMESPACE));
        for account in ours.map(|subject| subject.name).collect::<Vec<_>>() {
            let of = if role.kind == "ClusterRole" { None } else { place.clone() };
            let rules =
                rules.get(&(of, role.name.clone())).unwrap_or_else(|| panic!("there is no role {role:?}"));
            let all = rules.iter().flat_map(words);
            granted.extend(all.map(|word| (account.clone(), place.clone(), word)));
        }
    }
    granted
}

/// Everything that the table asks for.
pub(crate) fn needed(watched: &[String]) -> Granted {
    let of = |identity: Identity| {
        permissions(identity).into_iter().flat_map(move |one| {
            let places = places(one.place, NAMESPACE, watched);
            places.into_iter().map(move |place| (identity.account().to_owned(), place, one.to_string()))
        })
    };
    Identity::ALL.into_iter().flat_map(of).collect()
}

#[tokio::test]
async fn the_charts_roles_are_the_table_in_both_directions() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let client = control_plane.client();
    chart::install(&control_plane, &[]);
    assert_eq!(granted(&client).await, needed(&[]));
    allowed(&client, &[]).await;
    nothing_else_is_allowed(&client).await;

    let watched = ["ml".to_owned(), "batch".to_owned()];
    for name in &watched {
        let namespace = object(json!({ "metadata": { "name": name } }));
        let made = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await;
        made.expect("it is new");
    }
    chart::install(&control_plane, &["namespaces={ml,batch}"]);
    assert_eq!(granted(&client).await, needed(&watched));
    allowed(&client, &watched).await;
    // What is granted by values alone: with them, and with nothing else.
    let more: Vec<_> = Identity::ALL.into_iter().flat_map(optional).collect();
    let values: BTreeSet<_> = more.iter().filter_map(|one| Some(format!("{}=true", one.option?))).collect();
    chart::install(&control_plane, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let with = more.into_iter().flat_map(|one| {
        let places = places(one.place, NAMESPACE, &[]);
        places.into_iter().map(move |place| (one.identity.account().to_owned(), place, one.to_string()))
    });
    assert_eq!(granted(&client).await, needed(&[]).into_iter().chain(with).collect());
}

/// The API server's own authorisers say the same.
async fn allowed(client: &Client, watched: &[String]) {
    for identity in Identity::ALL {
        for one in permissions(identity) {
            for place in places(one.place, NAMESPACE, watched) {
                let asked = attributes(&one, place.as_deref());
                let allowed = may(client, (NAMESPACE, identity.account()), asked).await.expect("an answer");
                assert!(allowed, "{} may not {one} in {place:?}", identity.account());
            }
        }
    }
}

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Every resource that the server serves, with its group.
async fn resources(client: &Client) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let core = client.list_core_api_resources("v1").await.expect("the server lists its resources");
    found.extend(core.resources.into_iter().map(|resource| (String::new(), resource.name)));
    for group in client.list_api_groups().await.expect("the server lists its groups").groups {
        let version =
            group.preferred_version.map(|version| version.group_version).expect("a group has a version");
        let listed = client.list_api_group_resources(&version).await.expect("the server lists its resources");
        found.extend(listed.resources.into_iter().map(|resource| (group.name.clone(), resource.name)));
    }
    found
}

/// Whatever else the server serves, none of the identities may do: asked of each verb on each resource, in the whole cluster and in
/// Tidegate's own namespace.
async fn nothing_else_is_allowed(client: &Client) {
    let known: BTreeSet<_> = needed(&[])
        .into_iter()
        // In a namespace one may do what one may everywhere.
        .flat_map(|(account, place, word)| {
            [(account.clone(), place, word.clone()), (account, Some(NAMESPACE.to_owned()), word)]
        })
        .collect();
    let mut questions = Vec::new();
    for (group, resource) in resources(client).await {
        // What every authenticated user may: to ask about itself.
        if resource.starts_with("self") {
            continue;
        }
        for (identity, verb, place) in Identity::ALL
            .iter()
            .flat_map(|identity| VERBS.iter().map(move |verb| (*identity, *verb)))
            .flat_map(|(identity, verb)| [None, Some(NAMESPACE)].map(|place| (identity, verb, place)))
        {
            questions.push((group.clone(), resource.clone(), identity, verb, place));
        }
    }
    assert!(questions.len() > 2000, "the server serves more than {} questions can be about", questions.len());
    let ask = |(group, resource, identity, verb, place): (
        String,
        String,
        Identity,
        &'static str,
        Option<&'static str>,
    )| async move {
        let (name, part) =
            resource.split_once('/').map_or((resource.as_str(), None), |(name, part)| (name, Some(part)));
        let asked = ResourceAttributes {
            group: Some(group.clone()),
            resource: Some(name.to_owned()),
            subresource: part.map(str::to_owned),
            verb: Some(verb.to_owned()),
            namespace: place.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        let allowed = may(client, (NAMESPACE, identity.account()), asked).await.expect("an answer");
        let group = if group.is_empty() { String::new() } else { format!(".{group}") };
        let part = part.map(|part| format!("/{part}")).unwrap_or_default();
        allowed.then(|| {
            (identity.account().to_owned(), place.map(str::to_owned), format!("{verb} {name}{group}{part}"))
        })
    };
    let answers: Vec<_> = futures::stream::iter(questions).map(ask).buffered(16).collect().await;
    let beyond: Vec<_> = answers.into_iter().flatten().filter(|one| !known.contains(one)).collect();
    assert_eq!(beyond, Vec::new(), "granted and not in the table");
}

/// A cluster with the chart's identities, and a controller that runs as the chart's.
struct Scene {
    control_plane: ControlPlane,
    client: Client,
    controller: Controller,
    agent: Agent,
    _kwok: Kwok,
}

impl Scene {
    async fn set() -> Self {
        let control_plane = ControlPlane::start(&Options::default()).await;
        let kwok = Kwok::start(&control_plane, &[FakeNode::with_cpus("node-a", 64)], Duration::ZERO).await;
        let client = control_plane.client();
        // Its own pods have no program behind them here, and must not be what leads.
        chart::install(&control_plane, &["controller.nodeSelector.none=such", "restore.enabled=false"]);
        deploy(&client, "chat", 1, json!({ "cpu": "1" }), json!({})).await;
        wait_for_ready(&client, "chat", 1).await;
        let kubeconfig = control_plane.kubeconfig_of(NAMESPACE, Identity::Controller.account()).await;
        let controller = Controller::start_in(NAMESPACE, &kubeconfig, "one", &[]).await;
        let agent = Agent::start(controller.digests(), "node-a");
        Self { control_plane, client, controller, agent, _kwok: kwok }
    }

    /// What the controller does as it was started here: with no certificate of its own.
    fn used() -> Vec<Permission> {
        let all = permissions(Identity::Controller);
        all.into_iter().filter(|one| !["secrets", "configmaps"].contains(&one.resource)).collect()
    }

    /// Leaves the controller's roles with all but these.
    async fn take_away(&self, taken: &[Permission]) {
        let rules = |own: bool| -> Vec<Value> {
            let left = permissions(Identity::Controller).into_iter();
            let left = left.filter(|one| (one.place == Place::Own) == own && !taken.contains(one));
            left.map(|one| rule(&one)).collect()
        };
        let patch = |own| Patch::Merge(json!({ "rules": rules(own) }));
        let (whole, own) = (
            Api::<ClusterRole>::all(self.client.clone()),
            Api::<Role>::namespaced(self.client.clone(), NAMESPACE),
        );
        let params = PatchParams::default();
        whole.patch(Identity::Controller.account(), &params, &patch(false)).await.expect("the role is there");
        own.patch("tidegate-controller-own", &params, &patch(true)).await.expect("the role is there");
    }

    /// What the controller says that it lacks.
    async fn lacking(&self) -> BTreeSet<String> {
        let prefix = format!("{}{{{}=\"", Metric::ClusterRightMissing.family().name, Label::Right.name());
        let page = self.controller.metrics().await;
        let right = |line: &str| Some(line.strip_prefix(&prefix)?.strip_suffix("\"} 1")?.to_owned());
        page.lines().filter_map(right).collect()
    }

    async fn lacks(&self, taken: &[Permission]) {
        let wanted: BTreeSet<_> = taken.iter().map(ToString::to_string).collect();
        let what = format!("the controller to say that it lacks {wanted:?}");
        waiting::until(&what, SOON, async || (self.lacking().await == wanted).then_some(())).await;
    }

    async fn policy(&self) {
        let policy = object::<ServingPolicy>(json!({
            "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy", "metadata": { "name": "chat" },
            "spec": {
                "target": { "kind": "Deployment", "name": "chat" }, "mode": "active",
                "replicas": { "min": 1, "max": 12 }, "slo": { "latency": "2s", "target": 0.99 },
                "capacity": { "requestsPerSecond": 10.0, "concurrency": 4 },
            },
        }));
        let policies = Api::<ServingPolicy>::default_namespaced(self.client.clone());
        policies.create(&PostParams::default(), &policy).await.expect("the policy is right");
    }

    async fn condition(&self, kind: &str, reason: &str) -> String {
        let policies = Api::<ServingPolicy>::default_namespaced(self.client.clone());
        waiting::until(&format!("the condition {kind} ({reason})"), SOON, async || {
            let conditions = policies.get("chat").await.ok()?.status?.conditions;
            let found = conditions.into_iter().find(|condition| condition.type_ == kind)?;
            (found.reason == reason).then_some(found.message)
        })
        .await
    }
}

/// A rule for one permission alone.
fn rule(one: &Permission) -> Value {
    let resource =
        one.subresource.map_or_else(|| one.resource.to_owned(), |part| format!("{}/{part}", one.resource));
    let mut rule = json!({ "apiGroups": [one.group], "resources": [resource], "verbs": [one.verb] });
    if let Some(name) = one.name {
        rule["resourceNames"] = json!([name]);
    }
    rule
}

fn some(taken: impl Fn(&Permission) -> bool) -> Vec<Permission> {
    Scene::used().into_iter().filter(taken).collect()
}

#[tokio::test]
async fn each_right_that_is_taken_away_is_named_and_is_not_when_it_is_back() {
    let mut scene = Scene::set().await;
    scene.lacks(&[]).await;
    // Every right is once among those that are taken and once among those that are not.
    let (even, odd): (Vec<_>, Vec<_>) = Scene::used().into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
    for half in [even, odd] {
        let taken: Vec<_> = half.into_iter().map(|(_, one)| one).collect();
        scene.take_away(&taken).await;
        scene.lacks(&taken).await;
    }
    let about = scene.controller.get("/api/v1/about").await.expect("it answers");
    assert!(about["notes"].to_string().contains("It may not"), "{about}");
    scene.take_away(&[]).await;
    scene.lacks(&[]).await;
    let log = scene.controller.errors();
    assert!(log.contains("a right is missing") && log.contains("a right is back"), "{log}");
    assert!(scene.controller.stop().success(), "it has run on: {}", scene.controller.errors());
    drop(scene.control_plane);
}

#[tokio::test]
async fn a_size_that_may_not_be_written_any_more_is_told_and_written_when_it_may() {
    let scene = Scene::set().await;
    scene.policy().await;
    scene.agent.tell(CHAT, &load(2.0));
    scene.condition("Active", "Acting").await;
    let taken = some(|one| one.verb == "patch" && one.resource == "deployments");
    assert_eq!(taken.len(), 1);
    scene.take_away(&taken).await;
    scene.agent.tell(CHAT, &load(45.0));
    let message = scene.condition("Ready", "Refused").await;
    assert!(message.contains("deployments/scale") && message.contains("forbidden"), "{message}");
    let refused = format!("workload=\"{CHAT}\",outcome=\"forbidden\"");
    assert!(
        metric(&scene.controller, Metric::ClusterWrites, &refused).await.is_some_and(|count| count >= 1.0)
    );
    scene.lacks(&taken).await;
    scene.take_away(&[]).await;
    waiting::until("the size once it may be written", 2 * SOON, async || {
        let deployments =
            Api::<k8s_openapi::api::apps::v1::Deployment>::default_namespaced(scene.client.clone());
        deployments.get("chat").await.ok()?.spec?.replicas.filter(|size| *size >= 5)
    })
    .await;
}

#[tokio::test]
async fn without_the_right_to_tell_it_still_acts_and_without_the_lease_it_does_not() {
    let scene = Scene::set().await;
    scene.policy().await;
    scene.agent.tell(CHAT, &load(2.0));
    scene.condition("Active", "Acting").await;
    let telling = some(|one| one.subresource == Some("status") || one.resource == "events");
    scene.take_away(&telling).await;
    scene.lacks(&telling).await;
    scene.agent.tell(CHAT, &load(45.0));
    let deployments = Api::<k8s_openapi::api::apps::v1::Deployment>::default_namespaced(scene.client.clone());
    let size = async || deployments.get("chat").await.ok()?.spec?.replicas;
    waiting::until("the size for the load", SOON, async || size().await.filter(|size| *size >= 5)).await;
    let log = scene.controller.errors();
    assert!(log.contains("a status could not be written"), "{log}");

    let lease = some(|one| one.resource == "leases");
    scene.take_away(&lease).await;
    let leads = async |leads: f64| {
        waiting::until(&format!("a controller that leads or not ({leads})"), SOON, async || {
            (metric(&scene.controller, Metric::ControllerLeads, "").await == Some(leads)).then_some(())
        })
        .await;
    };
    leads(0.0).await;
    scene.lacks(&lease).await;
    scene.take_away(&[]).await;
    leads(1.0).await;
    scene.condition("Ready", "AsPlanned").await;
}
