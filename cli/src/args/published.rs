//! Where autoscalers ask the controller for sizes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args as ClapArgs;

/// `tidegate controller`, for policies with `act.via: external_metric`.
#[derive(Debug, ClapArgs)]
pub(crate) struct PublishedArgs {
    /// Address of the External Metrics API, for the API server alone; port 0 takes a free one [default: none].
    #[arg(long, value_name = "ADDR")]
    pub(crate) external_metrics: Option<SocketAddr>,
    /// Service by which the API server reaches it: the APIService that names this Service is told what to trust.
    #[arg(long, value_name = "NAMESPACE/NAME", requires_all = ["external_metrics", "tls_secret"])]
    pub(crate) external_metrics_service: Option<String>,
    /// Address of the external scaler, for KEDA alone; port 0 takes a free one [default: none].
    #[arg(long, value_name = "ADDR")]
    pub(crate) keda: Option<SocketAddr>,
    /// File with the authority that signed KEDA's certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "keda", conflicts_with = "keda_secret")]
    pub(crate) keda_client_ca: Option<PathBuf>,
    /// Secret of the pod's namespace with the certificate that KEDA shows; made, and renewed at a start, where it is not there.
    #[arg(long, value_name = "NAME", requires_all = ["keda", "tls_secret"])]
    pub(crate) keda_secret: Option<String>,
}
