//! `tidegate check cluster`: whether a cluster has what Tidegate needs, and whether Tidegate itself is well there. Looks, and changes nothing.

mod kinds;
mod parts;
mod rights;

use kube::Client;
use tidegate_actuator::cluster::definitions;
use tidegate_actuator::cluster::versions::{KUBERNETES_OLDEST, KUBERNETES_TESTED, Support, support};

use super::finding::{Findings, Verdict, chain, is_forbidden};
use crate::args::CheckClusterArgs;
use crate::controller;

/// Who is asked, and about what.
struct Asked {
    client: Client,
    /// Namespace of Tidegate.
    own: String,
    /// Namespaces whose policies it follows; none: all.
    watched: Vec<String>,
    /// API groups that the server has.
    groups: Vec<String>,
}

pub(super) async fn run(args: CheckClusterArgs) -> anyhow::Result<()> {
    let client = controller::client(args.kubeconfig.as_deref()).await?;
    let mut findings = Findings::default();
    if server(&client, &mut findings).await {
        let groups = kinds::groups(&client, &mut findings).await;
        let mut asked = Asked { client, own: args.namespace, watched: args.watched, groups };
        of_definitions(&asked, &mut findings).await;
        parts::look(&mut asked, &mut findings).await;
        rights::look(&asked, &mut findings).await;
        kinds::look(&asked, &mut findings).await;
    }
    findings.tell(args.output, "cluster")
}

/// Whether the server answers at all.
async fn server(client: &Client, findings: &mut Findings) -> bool {
    let info = match client.apiserver_version().await {
        Ok(info) => info,
        Err(error) => {
            let text = format!("the API server does not answer: {}", chain(error));
            findings.ask(Verdict::Missing, "server", text, "check address and credentials of the kubeconfig");
            return false;
        }
    };
    let version = info.git_version;
    match support(&info.major, &info.minor) {
        Support::Supported => findings.add(Verdict::Fine, "server", format!("Kubernetes {version}")),
        Support::TooOld => {
            let text = format!("Kubernetes {version} is older than 1.{KUBERNETES_OLDEST}");
            findings.ask(Verdict::Missing, "server", text, "upgrade the cluster");
        }
        Support::Untested => {
            let tested = format!("newer than 1.{KUBERNETES_TESTED}, the newest that was tested");
            findings.add(Verdict::Warning, "server", format!("Kubernetes {version} is {tested}"));
        }
        Support::Unknown => {
            findings.add(
                Verdict::Warning,
                "server",
                format!("Kubernetes {version:?} is no version that is known"),
            );
        }
    }
    true
}

async fn of_definitions(asked: &Asked, findings: &mut Findings) {
    const SUBJECT: &str = "definitions";
    match definitions::lacking(&asked.client).await {
        Ok(lacking) if lacking.is_empty() => {
            findings.add(
                Verdict::Fine,
                SUBJECT,
                "ServingPolicy, TrainingPolicy and GpuPool are as this version has them",
            );
        }
        Ok(lacking) => {
            for (name, lacks) in lacking {
                let text = format!("{name} lacks {lacks}");
                let remedy = "tidegate crds | kubectl apply --server-side -f -";
                findings.ask(Verdict::Missing, SUBJECT, text, remedy);
            }
        }
        Err(error) if is_forbidden(&error) => {
            findings.add(Verdict::Unknown, SUBJECT, "whoever asks may not read customresourcedefinitions");
        }
        Err(error) => findings.add(Verdict::Unknown, SUBJECT, chain(error)),
    }
}
