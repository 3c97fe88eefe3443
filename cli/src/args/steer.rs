//! Arguments of the commands by which people steer policies of a cluster.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use tidegate_core::Span;

use super::Output;

/// Which policies.
#[derive(Debug, ClapArgs)]
pub(crate) struct Which {
    /// Name of the policy, or its target as in deploy/chat.
    pub(crate) name: Option<String>,
    /// Namespace [default: the context's].
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// In all namespaces.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Kubeconfig [default: $KUBECONFIG, ~/.kube/config, else the pod's ServiceAccount].
    #[arg(long, value_name = "FILE", env = "TIDEGATE_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Policies to be steered.
#[derive(Debug, ClapArgs)]
pub(crate) struct SteerArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Every policy of the namespace, or with -A of the cluster.
    #[arg(long)]
    pub(crate) all: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `tidegate top`.
#[derive(Debug, ClapArgs)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// `tidegate restore`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  tidegate restore               gives back floors that nobody has renewed in time; the chart runs this every minute
  tidegate restore --all         also those that still hold, before an uninstallation")]
pub(crate) struct RestoreArgs {
    /// Also raises that still hold.
    #[arg(long)]
    pub(crate) all: bool,
    /// Only in this namespace; may be given again [default: all].
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) namespace: Vec<String>,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Kubeconfig [default: $KUBECONFIG, ~/.kube/config, else the pod's ServiceAccount].
    #[arg(long, value_name = "FILE", env = "TIDEGATE_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// `tidegate adopt`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  kubectl tidegate adopt hpa/chat --latency 2s --dry-run    prints the policy, and what would change
  kubectl tidegate adopt scaledobject/chat --latency 2s     makes it; it begins in shadow
  kubectl tidegate adopt hpa/chat --replace                 once the policy acts: removes the autoscaler; release puts it back")]
pub(crate) struct AdoptArgs {
    /// The autoscaler: hpa/NAME or scaledobject/NAME.
    pub(crate) name: String,
    /// A request is in time when it is answered within this.
    #[arg(long, value_name = "DURATION", conflicts_with = "replace")]
    pub(crate) latency: Option<Span>,
    /// For language models: mean time between the tokens of an answer; --latency is then that of the first token.
    #[arg(long, value_name = "DURATION", requires = "latency")]
    pub(crate) per_output_token: Option<Span>,
    /// Share of requests that are to be in time.
    #[arg(long, value_name = "SHARE", default_value_t = 0.99)]
    pub(crate) target: f64,
    /// Requests per second that one replica carries within that, where it is known; else it is learned, or a trigger says it.
    #[arg(long, value_name = "NUMBER", conflicts_with = "replace")]
    pub(crate) requests_per_second: Option<f64>,
    /// Name of the policy [default: the autoscaler's].
    #[arg(long, value_name = "NAME", conflicts_with = "replace")]
    pub(crate) policy: Option<String>,
    /// Remove the autoscaler, now that its policy acts.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Namespace [default: the context's].
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Kubeconfig [default: $KUBECONFIG, ~/.kube/config, else the pod's ServiceAccount].
    #[arg(long, value_name = "FILE", env = "TIDEGATE_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
}
