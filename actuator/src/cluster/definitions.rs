//! Whether the cluster knows Tidegate's kinds as this program does.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};

use crate::crds::{Lacks, definitions, lacks};

/// What the cluster's definitions lack, by the name of the definition; only of those that lack something.
///
/// # Errors
/// When the API server does not tell, for example since this identity may not ask.
pub async fn lacking(client: &Client) -> Result<Vec<(String, Lacks)>, kube::Error> {
    let installed = Api::<CustomResourceDefinition>::all(client.clone());
    let mut found = Vec::new();
    for wanted in definitions() {
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let lacks = match installed.get_opt(&name).await? {
            Some(there) => lacks(&there, &wanted),
            None => Lacks { version: true, ..Lacks::default() },
        };
        if !lacks.is_nothing() {
            found.push((name, lacks));
        }
    }
    Ok(found)
}
