//! `tidegate check`: what can be checked.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::Output;

pub(super) const EXAMPLES: &str = "\
Examples:
  tidegate check config
  tidegate check elasticsearch
  tidegate check elasticsearch --url https://127.0.0.1:9200 --user elastic --password-file password --dry-run
  tidegate check cluster
  tidegate check node --root /host";

/// `tidegate check`.
#[derive(Debug, ClapArgs)]
pub(crate) struct CheckArgs {
    #[command(subcommand)]
    pub(crate) what: CheckWhat,
}

/// What to check.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckWhat {
    /// Say everything that is wrong with a configuration.
    #[command(
        after_help = "Examples:\n  tidegate check config\n  tidegate check config deploy/tidegate.yaml"
    )]
    Config {
        /// The file; else the usual places.
        file: Option<PathBuf>,
    },
    /// Verify version and privileges; install the index template and the data stream's lifecycle. Changes nothing when all is there.
    #[command(after_help = EXAMPLES)]
    Elasticsearch {
        /// Configuration that names the server; else the usual places.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The server, instead of the configuration's.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// User name.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// File with the user's password.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Verify only; install nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Say whether a cluster has what Tidegate needs, and whether Tidegate is well there. Changes nothing.
    #[command(after_help = "\
Examples:
  tidegate check cluster                          with your own kubeconfig
  tidegate check cluster --watched ml             before an installation for one namespace
  kubectl exec -n tidegate tidegate-controller-0 -- tidegate check cluster")]
    Cluster(CheckClusterArgs),
    /// Say what an agent finds on this node, and what it has to do without. Changes nothing.
    #[command(after_help = "\
Examples:
  tidegate check node
  kubectl exec -n tidegate ds/tidegate-agent -- tidegate check node --root /host --output json")]
    Node(CheckNodeArgs),
}

/// `tidegate check cluster`.
#[derive(Debug, ClapArgs)]
pub(crate) struct CheckClusterArgs {
    /// Kubeconfig [default: $KUBECONFIG, ~/.kube/config, else the pod's ServiceAccount].
    #[arg(long, value_name = "FILE", env = "TIDEGATE_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Namespace that Tidegate runs in.
    #[arg(long, short = 'n', value_name = "NAME", env = "POD_NAMESPACE", default_value = "tidegate")]
    pub(crate) namespace: String,
    /// Namespace whose policies it follows; may be given again [default: as the controller there was told, else all].
    #[arg(long, value_name = "NAME")]
    pub(crate) watched: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// `tidegate check node`.
#[derive(Debug, ClapArgs)]
pub(crate) struct CheckNodeArgs {
    /// Where the machine's root is seen.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// The kubelet's directory, as the machine has it.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub(crate) kubelet: PathBuf,
    /// The GPU driver's library: a path, or a name that the loader finds [default: libnvidia-ml.so.1].
    #[arg(long, value_name = "FILE")]
    pub(crate) gpu_library: Option<PathBuf>,
    /// Whether a node without that library lacks something.
    #[arg(long)]
    pub(crate) gpu_required: bool,
    /// Kernel log that GPU errors are looked for in [default: /dev/kmsg below the root].
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel_log: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}
