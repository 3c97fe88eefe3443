//! Asking the API server what an identity may: by one question for all of its own rules, which a controller can repeat all the time,
//! or by one question for each right, of any identity.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::{KUBE_SYSTEM, Permission, Place};

/// Whether rules of one's own, as the API server lists them, allow it.
#[must_use]
pub fn is_granted(rules: &[ResourceRule], wanted: &Permission) -> bool {
    let has = |list: &Option<Vec<String>>, wanted: &str| {
        list.iter().flatten().any(|entry| entry == "*" || entry == wanted)
    };
    let resource = match wanted.subresource {
        None => wanted.resource.to_owned(),
        Some(part) => format!("{}/{part}", wanted.resource),
    };
    // `*/scale` is the part of any kind.
    let any = wanted.subresource.map(|part| format!("*/{part}"));
    rules.iter().any(|rule| {
        let names = rule.resource_names.as_deref().unwrap_or_default();
        rule.verbs.iter().any(|verb| verb == "*" || verb == wanted.verb)
            && has(&rule.api_groups, wanted.group)
            && (has(&rule.resources, &resource) || any.as_ref().is_some_and(|any| has(&rule.resources, any)))
            && (names.is_empty() || wanted.name.is_some_and(|wanted| names.iter().any(|name| name == wanted)))
    })
}

/// Of these, the permissions that this client's account has not got in a namespace. One request, unless something seems to be
/// missing and an authoriser has not listed all its rules: then one for each of those.
///
/// # Errors
/// When the API server does not tell.
pub async fn own_lacks(
    client: &Client,
    namespace: &str,
    wanted: &[Permission],
) -> kube::Result<Vec<Permission>> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) },
        ..SelfSubjectRulesReview::default()
    };
    let api: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
    let seems: Vec<_> =
        wanted.iter().filter(|one| !is_granted(&status.resource_rules, one)).copied().collect();
    if !status.incomplete {
        return Ok(seems);
    }
    let mut lacks = Vec::new();
    for one in seems {
        if !own_may(client, attributes(&one, Some(namespace))).await? {
            lacks.push(one);
        }
    }
    Ok(lacks)
}

/// Whether this client's account may do it.
///
/// # Errors
/// When the API server does not tell.
pub async fn own_may(client: &Client, asked: ResourceAttributes) -> kube::Result<bool> {
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(asked),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Whether a ServiceAccount, `(namespace, name)`, may do it. Asking is a right of its own.
///
/// # Errors
/// When the API server does not tell.
pub async fn may(client: &Client, account: (&str, &str), asked: ResourceAttributes) -> kube::Result<bool> {
    let (namespace, name) = account;
    // As the API server itself knows a ServiceAccount (k8s.io/apiserver, serviceaccount/util.go).
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".to_owned(),
    ];
    let spec = SubjectAccessReviewSpec {
        user: Some(format!("system:serviceaccount:{namespace}:{name}")),
        groups: Some(groups.into()),
        resource_attributes: Some(asked),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// A permission as the API server is asked about it. `namespace`: where; `None` is everywhere.
#[must_use]
pub fn attributes(wanted: &Permission, namespace: Option<&str>) -> ResourceAttributes {
    ResourceAttributes {
        group: Some(wanted.group.to_owned()),
        resource: Some(wanted.resource.to_owned()),
        subresource: wanted.subresource.map(str::to_owned),
        verb: Some(wanted.verb.to_owned()),
        name: wanted.name.map(str::to_owned),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    }
}

/// Where a permission is to be asked about: its namespaces one by one, or `None` for the whole cluster.
#[must_use]
pub fn places(place: Place, own: &str, watched: &[String]) -> Vec<Option<String>> {
    match place {
        Place::Own => vec![Some(own.to_owned())],
        Place::KubeSystem => vec![Some(KUBE_SYSTEM.to_owned())],
        Place::Watched if !watched.is_empty() => watched.iter().cloned().map(Some).collect(),
        Place::Cluster | Place::Watched => vec![None],
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Identity, permissions};
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], verbs: &[&str], names: &[&str]) -> ResourceRule {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        ResourceRule {
            api_groups: Some(owned(groups)),
            resources: Some(owned(resources)),
            verbs: owned(verbs),
            resource_names: Some(owned(names)),
        }
    }

    fn wanted(text: &str) -> Permission {
        let all = permissions(Identity::Controller);
        *all.iter()
            .find(|one| one.to_string() == text)
            .unwrap_or_else(|| panic!("{text} is not in the table"))
    }

    #[test]
    fn a_rule_grants_what_it_says_and_no_more() {
        let size = wanted("patch deployments.apps/scale");
        let grants = |rule: ResourceRule, wanted: &Permission| is_granted(&[rule], wanted);
        assert!(grants(rule(&["apps"], &["deployments/scale"], &["patch"], &[]), &size));
        assert!(grants(rule(&["*"], &["*"], &["*"], &[]), &size));
        assert!(grants(rule(&["apps"], &["*/scale"], &["patch", "get"], &[]), &size));
        assert!(
            !grants(rule(&["apps"], &["deployments"], &["patch"], &[]), &size),
            "the whole is not its part"
        );
        assert!(!grants(rule(&["apps"], &["deployments/scale"], &["update"], &[]), &size));
        assert!(!grants(rule(&["batch"], &["deployments/scale"], &["patch"], &[]), &size));
        assert!(
            !grants(rule(&["apps"], &["deployments/scale"], &["patch"], &["chat"]), &size),
            "only one of them"
        );
        let secret = wanted("get secrets tidegate-tls");
        assert!(grants(rule(&[""], &["secrets"], &["get"], &["other", "tidegate-tls"]), &secret));
        assert!(!grants(rule(&[""], &["secrets"], &["get"], &["other"]), &secret));
        assert!(!is_granted(&[], &secret));
    }

    #[test]
    fn where_a_right_is_asked_about() {
        let some = |text: &str| Some(text.to_owned());
        let watched = ["ml".to_owned(), "batch".to_owned()];
        assert_eq!(places(Place::Own, "tidegate", &watched), [some("tidegate")]);
        assert_eq!(places(Place::Watched, "tidegate", &watched), [some("ml"), some("batch")]);
        assert_eq!(places(Place::Watched, "tidegate", &[]), [None]);
        assert_eq!(places(Place::Cluster, "tidegate", &watched), [None]);
    }
}
