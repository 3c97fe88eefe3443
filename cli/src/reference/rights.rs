//! The page of the rights that Tidegate's identities have in a cluster, made from their table.

use std::fmt::Write as _;

use tidegate_actuator::cluster::rights::{Identity, Place, Right, rights};
use tidegate_core::Metric;

use super::row;

const INTRO: &str = "\
# Rights in a cluster

What each of Tidegate's identities may do, and what for. The chart grants this and nothing more: a test compares its roles with this table in
both directions. `tidegate check cluster` puts every line to the API server. A controller that runs asks for itself every few seconds; what it
lacks stands in its log, on its page and in the metric `METRIC`, and it goes on with what it may.

\"Watched\" is every namespace; with `namespaces: [...]` of the chart, these alone, by Roles there. Kinds of your own with a `scale` subresource
are added with `controller.extraTargets`.
";

/// The page as Markdown.
pub(super) fn page() -> String {
    let mut text = INTRO.replace("METRIC", Metric::ClusterRightMissing.family().name);
    for identity in Identity::ALL {
        write!(text, "\n## `{}`\n\n{}\n\n", identity.account(), about(identity))
            .expect("writing to a string cannot fail");
        text.push_str("| May | On | Where | For |\n|---|---|---|---|\n");
        let own: Vec<_> = rights().into_iter().filter(|right| right.identity == identity).collect();
        own.iter().for_each(|right| line(&mut text, right));
    }
    text
}

fn about(identity: Identity) -> &'static str {
    match identity {
        Identity::Controller => "The controller: not root, read-only root filesystem.",
        Identity::Agent => {
            "The agent on each node: root, with `DAC_READ_SEARCH` and no other capability, but `SYSLOG` where `agent.syslog` is on."
        }
        Identity::Restore => {
            "The job that runs every minute and gives back floors that no controller has renewed."
        }
    }
}

fn line(text: &mut String, right: &Right) {
    let group = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
    let part = right.subresource.map(|part| format!("/{part}")).unwrap_or_default();
    let mut on = format!("`{}{group}{part}`", right.resource);
    if !right.names.is_empty() {
        write!(on, " {}", right.names.join(", ")).expect("writing to a string cannot fail");
    }
    let place = match right.place {
        Place::Cluster => "cluster",
        Place::Watched => "watched",
        Place::Own => "its own namespace",
        Place::KubeSystem => "`kube-system`",
    };
    let option = right.option.map(|option| format!("; only with `{option}`")).unwrap_or_default();
    row(text, &[&right.verbs.join(", "), &on, place, &format!("{}{option}", right.why)]);
}
