//! What the command line says of pushing metrics.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use tidegate_core::Span;

use crate::config::PushProtocol;

/// Pushing Tidegate's own metrics to a collector.
#[derive(Debug, ClapArgs)]
pub(crate) struct PushArgs {
    /// Collector that Tidegate's own metrics are pushed to (OTLP): `http://` or `https://` [default: none].
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_push: Option<String>,
    /// How it is spoken to.
    #[arg(long, value_enum, value_name = "PROTOCOL", default_value = "http", requires = "otlp_push")]
    pub(crate) otlp_push_protocol: PushProtocol,
    /// From one push to the next.
    #[arg(long, value_name = "DURATION", default_value = "15s", requires = "otlp_push")]
    pub(crate) otlp_push_every: Span,
    /// Certificates that the collector is trusted by, PEM [default: the system's].
    #[arg(long, value_name = "FILE", requires = "otlp_push")]
    pub(crate) otlp_push_ca: Option<PathBuf>,
    /// File of headers to send to it, one a line, `NAME: VALUE`.
    #[arg(long, value_name = "FILE", requires = "otlp_push")]
    pub(crate) otlp_push_headers: Option<PathBuf>,
}
