//! Pushing by gRPC, packed.

use http::HeaderMap;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::{ANSWER_WITHIN, Ending, PushError};
use crate::otlp::messages::ExportMetricsServiceRequest;
use crate::otlp::messages::metrics_service_client::MetricsServiceClient;

/// A collector; the connection is made when it is first needed, and again when it breaks.
#[derive(Debug)]
pub(super) struct Way {
    client: MetricsServiceClient<Channel>,
    headers: MetadataMap,
}

impl Way {
    pub(super) fn new(url: &str, ca: Option<Vec<u8>>, headers: HeaderMap) -> Result<Self, PushError> {
        let failed = |error: tonic::transport::Error| PushError::Tls(error.into());
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(failed)?.connect_timeout(ANSWER_WITHIN);
        let tls = match ca {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_enabled_roots(),
        };
        let endpoint =
            if url.starts_with("https:") { endpoint.tls_config(tls).map_err(failed)? } else { endpoint };
        let client = MetricsServiceClient::new(endpoint.connect_lazy())
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
        Ok(Self { client, headers: MetadataMap::from_headers(headers) })
    }

    pub(super) async fn send(&self, request: &ExportMetricsServiceRequest) -> Ending {
        let mut request = tonic::Request::new(request.clone());
        *request.metadata_mut() = self.headers.clone();
        match self.client.clone().export(request).await {
            Ok(response) => Ending::of(response.into_inner()),
            Err(status) => Ending::of_grpc(&status),
        }
    }
}
