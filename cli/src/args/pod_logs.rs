//! What the command line says of shipping what the node's containers write.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Shipping what the node's containers write.
#[derive(Debug, ClapArgs)]
pub(crate) struct PodLogArgs {
    /// Elasticsearch that what the node's containers write, and what is pushed by OTLP, is shipped to: `https://HOST:9200` [default: not shipped].
    #[arg(long, value_name = "URL")]
    pub(crate) logs_to: Option<String>,
    /// Where the kubelet keeps it, as the machine has it.
    #[arg(long, value_name = "DIR", default_value = "/var/log/pods", requires = "logs_to")]
    pub(crate) logs_dir: PathBuf,
    /// Where it is kept how far it has been shipped, and what was pushed until it is; must outlast a restart.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tidegate/logs", requires = "logs_to")]
    pub(crate) logs_state: PathBuf,
    /// Data stream.
    #[arg(long, value_name = "NAME", default_value = "logs-tidegate-default", requires = "logs_to")]
    pub(crate) logs_data_stream: String,
    /// File with an API key, base64 as Kibana gives it.
    #[arg(long, value_name = "FILE", requires = "logs_to")]
    pub(crate) logs_api_key: Option<PathBuf>,
    /// User; with --logs-password.
    #[arg(long, value_name = "NAME", requires = "logs_password")]
    pub(crate) logs_user: Option<String>,
    /// File with that user's password.
    #[arg(long, value_name = "FILE", requires = "logs_user")]
    pub(crate) logs_password: Option<PathBuf>,
    /// Certificates that it is trusted by, PEM [default: the system's].
    #[arg(long, value_name = "FILE", requires = "logs_to")]
    pub(crate) logs_ca: Option<PathBuf>,
}
