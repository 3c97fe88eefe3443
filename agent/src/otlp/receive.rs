//! Requests and their answers, by gRPC and by HTTP with protobuf or JSON. Listening, and who may send, are the server's.

use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use http::StatusCode;
use prost::Message;
use tidegate_core::{Label, Metric};
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response};

use super::inbox::{Inbox, Taken};
use super::messages::metrics_service_server::{MetricsService, MetricsServiceServer};
use super::messages::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse, Status,
};
use crate::clock;
use crate::export::Registry;

/// Largest request, as sent and as unpacked: collectors send some thousand points, half a megabyte, at once.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Path of the service by gRPC.
pub const GRPC_PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// Path of metrics by HTTP.
pub const HTTP_PATH: &str = "/v1/metrics";

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// Takes requests, counts them, and answers.
#[derive(Debug, Clone)]
pub struct Receiver {
    inbox: Arc<Inbox>,
    registry: Arc<Registry>,
}

/// An answer by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Body.
    pub body: Vec<u8>,
}

/// Why a request by HTTP is refused whole.
#[derive(Debug, thiserror::Error)]
enum RefuseError {
    #[error("the body must be application/x-protobuf or application/json")]
    ContentType,
    #[error("the body may be packed with gzip, with nothing else")]
    Encoding,
    #[error("the body is larger than {REQUEST_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the body is not what gzip makes")]
    Gzip(#[source] std::io::Error),
    #[error("the body is no request in protobuf: {0}")]
    Protobuf(#[source] prost::DecodeError),
    #[error("the body is no request in JSON: {0}")]
    Json(#[source] serde_json::Error),
}

impl RefuseError {
    /// Status, the code of `google.rpc.Code`, and the value of the `outcome` label.
    const fn codes(&self) -> (StatusCode, i32, &'static str) {
        match self {
            Self::ContentType | Self::Encoding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, 3, "unsupported"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 8, "too_large"),
            Self::Gzip(_) | Self::Protobuf(_) | Self::Json(_) => (StatusCode::BAD_REQUEST, 3, "malformed"),
        }
    }
}

impl Receiver {
    /// Puts what is sent into `inbox`, and counts in `registry`.
    #[must_use]
    pub const fn new(inbox: Arc<Inbox>, registry: Arc<Registry>) -> Self {
        Self { inbox, registry }
    }

    /// The service for gRPC.
    #[must_use]
    pub fn service(&self) -> MetricsServiceServer<Self> {
        MetricsServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// Answers a request by HTTP. In whatever form it came, it is answered.
    #[must_use]
    pub fn http(&self, content_type: Option<&str>, encoding: Option<&str>, body: &[u8]) -> Answer {
        let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let is_json = media.eq_ignore_ascii_case(JSON);
        let form = if is_json { JSON } else { PROTOBUF };
        let read = match is_json || media.eq_ignore_ascii_case(PROTOBUF) {
            true => read(is_json, encoding, body),
            false => Err(RefuseError::ContentType),
        };
        match read {
            Ok(request) => {
                let response = self.take(&request);
                let body = if is_json { as_json(&response) } else { response.encode_to_vec() };
                Answer { status: StatusCode::OK, content_type: form, body }
            }
            Err(error) => {
                let (status, code, outcome) = error.codes();
                self.count(outcome);
                Answer { status, ..problem(form, code, error.to_string()) }
            }
        }
    }

    /// The answer to a body that is larger than any may be.
    #[must_use]
    pub fn too_large(&self) -> Answer {
        let (status, code, outcome) = RefuseError::TooLarge.codes();
        self.count(outcome);
        Answer { status, ..problem(PROTOBUF, code, RefuseError::TooLarge.to_string()) }
    }

    /// The answer to what is not received here.
    #[must_use]
    pub fn not_here(&self) -> Answer {
        self.count("unsupported");
        let text = format!("only metrics are received here, at {HTTP_PATH} or by gRPC");
        Answer { status: StatusCode::NOT_FOUND, ..problem(PROTOBUF, 12, text) }
    }

    /// The answer while too many requests are being taken.
    #[must_use]
    pub fn busy(&self) -> Answer {
        self.count("busy");
        Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..problem(PROTOBUF, 14, "too many requests at once".into())
        }
    }

    fn count(&self, outcome: &str) {
        self.registry.counter(Metric::OtlpRequests, &[(Label::Outcome, outcome)]).inc();
    }

    #[expect(clippy::cast_precision_loss, reason = "points of one request")]
    fn take(&self, request: &ExportMetricsServiceRequest) -> ExportMetricsServiceResponse {
        let now = clock::now();
        let taken = self.inbox.take(request, now);
        self.registry.counter(Metric::OtlpPoints, &[]).add(taken.accepted as f64);
        for (cause, count) in &taken.refused {
            let label = [(Label::Cause, cause.as_str())];
            self.registry.counter(Metric::OtlpPointsRefused, &label).add(*count as f64);
        }
        let (senders, series) = self.inbox.size(now);
        self.registry.gauge(Metric::OtlpSenders, &[]).set(Some(senders as f64));
        self.registry.gauge(Metric::OtlpSeries, &[]).set(Some(series as f64));
        self.count(if taken.refused.is_empty() { "ok" } else { "partial" });
        response(&taken)
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, tonic::Status> {
        Ok(Response::new(self.take(request.get_ref())))
    }
}

fn response(taken: &Taken) -> ExportMetricsServiceResponse {
    let rejected = taken.rejected();
    let partial = (rejected > 0).then(|| ExportMetricsPartialSuccess {
        rejected_data_points: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: taken.message(),
    });
    ExportMetricsServiceResponse { partial_success: partial }
}

fn read(
    is_json: bool,
    encoding: Option<&str>,
    body: &[u8],
) -> Result<ExportMetricsServiceRequest, RefuseError> {
    let unpacked = match encoding.map(str::trim) {
        None | Some("" | "identity") => None,
        Some(packed) if packed.eq_ignore_ascii_case("gzip") => Some(unpack(body)?),
        Some(_) => return Err(RefuseError::Encoding),
    };
    let body = unpacked.as_deref().unwrap_or(body);
    if body.len() > REQUEST_BYTES_MAX {
        return Err(RefuseError::TooLarge);
    }
    if is_json {
        serde_json::from_slice(body).map_err(RefuseError::Json)
    } else {
        ExportMetricsServiceRequest::decode(body).map_err(RefuseError::Protobuf)
    }
}

/// Unpacks no more than may be.
fn unpack(body: &[u8]) -> Result<Vec<u8>, RefuseError> {
    let mut unpacked = Vec::new();
    let most = REQUEST_BYTES_MAX as u64 + 1;
    MultiGzDecoder::new(body).take(most).read_to_end(&mut unpacked).map_err(RefuseError::Gzip)?;
    Ok(unpacked)
}

fn as_json(response: &ExportMetricsServiceResponse) -> Vec<u8> {
    let body = response.partial_success.as_ref().map_or_else(
        || serde_json::json!({}),
        |partial| {
            // 64 bits are text.
            serde_json::json!({"partialSuccess": {
                "rejectedDataPoints": partial.rejected_data_points.to_string(),
                "errorMessage": partial.error_message,
            }})
        },
    );
    body.to_string().into_bytes()
}

/// A refusal as `google.rpc.Status`, in the form of the request.
fn problem(form: &'static str, code: i32, message: String) -> Answer {
    let body = if form == JSON {
        serde_json::json!({"code": code, "message": message}).to_string().into_bytes()
    } else {
        Status { code, message, details: Vec::new() }.encode_to_vec()
    };
    Answer { status: StatusCode::BAD_REQUEST, content_type: form, body }
}

#[cfg(test)]
mod tests;
