//! Requests and their answers, by gRPC and by HTTP with protobuf or JSON. Listening, and who may send, are the server's.

use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use http::StatusCode;
use prost::Message;
use serde::de::DeserializeOwned;
use tidegate_core::{Label, Metric};
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response};

use super::inbox::Inbox;
use super::logs;
use super::messages::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use super::messages::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use super::messages::metrics_service_server::{MetricsService, MetricsServiceServer};
use super::messages::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse, Status,
};
use crate::clock;
use crate::export::Registry;
use crate::logs::{Spool, SpoolError};

/// Largest request, as sent and as unpacked: collectors send some thousand points, half a megabyte, at once.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// What is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Metrics.
    Metrics,
    /// Log records.
    Logs,
}

impl Pushed {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Metrics, Self::Logs];

    /// Path of the service by gRPC.
    #[must_use]
    pub const fn grpc_path(self) -> &'static str {
        match self {
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }

    /// Path by HTTP.
    #[must_use]
    pub const fn http_path(self) -> &'static str {
        match self {
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }
}

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// Takes requests, counts them, and answers.
#[derive(Debug, Clone)]
pub struct Receiver {
    inbox: Arc<Inbox>,
    spool: Option<Arc<Spool>>,
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

/// What of a request was not taken, for whoever sent it.
#[derive(Debug, Default)]
struct Rejected {
    count: u64,
    message: String,
}

/// Why a request is refused whole.
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
    #[error("no logs are taken here, for they would be shipped nowhere")]
    NoLogs,
    #[error("logs cannot be taken now: {0}")]
    Spool(#[source] SpoolError),
}

impl RefuseError {
    /// Status, the code of `google.rpc.Code`, and the value of the `outcome` label.
    const fn codes(&self) -> (StatusCode, i32, &'static str) {
        match self {
            Self::ContentType | Self::Encoding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, 3, "unsupported"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 8, "too_large"),
            Self::Gzip(_) | Self::Protobuf(_) | Self::Json(_) => (StatusCode::BAD_REQUEST, 3, "malformed"),
            Self::NoLogs => (StatusCode::NOT_FOUND, 12, "unsupported"),
            Self::Spool(SpoolError::Full { .. }) => (StatusCode::SERVICE_UNAVAILABLE, 14, "full"),
            Self::Spool(SpoolError::Write { .. }) => (StatusCode::SERVICE_UNAVAILABLE, 14, "unwritten"),
        }
    }
}

impl Receiver {
    /// Puts metrics into `inbox` and log records into `spool`, and counts in `registry`. Without a spool, log records are refused.
    #[must_use]
    pub const fn new(inbox: Arc<Inbox>, spool: Option<Arc<Spool>>, registry: Arc<Registry>) -> Self {
        Self { inbox, spool, registry }
    }

    /// The service of log records for gRPC.
    #[must_use]
    pub fn logs(&self) -> LogsServiceServer<Self> {
        LogsServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// The service of metrics for gRPC.
    #[must_use]
    pub fn metrics(&self) -> MetricsServiceServer<Self> {
        MetricsServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// Answers a request by HTTP. In whatever form it came, it is answered.
    #[must_use]
    pub fn http(
        &self,
        pushed: Pushed,
        content_type: Option<&str>,
        encoding: Option<&str>,
        body: &[u8],
    ) -> Answer {
        let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let is_json = media.eq_ignore_ascii_case(JSON);
        let form = if is_json { JSON } else { PROTOBUF };
        let taken = match (is_json || media.eq_ignore_ascii_case(PROTOBUF), pushed) {
            (false, _) => Err(RefuseError::ContentType),
            (true, Pushed::Metrics) => read(is_json, encoding, body).map(|request| self.take(&request)),
            (true, Pushed::Logs) => read(is_json, encoding, body).and_then(|request| self.keep(&request)),
        };
        match taken {
            Ok(rejected) => {
                let body = if is_json {
                    as_json(pushed, &rejected)
                } else {
                    // Log records are answered in other words and the same bytes.
                    points(rejected).encode_to_vec()
                };
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
        let [metrics, logs] = Pushed::ALL.map(Pushed::http_path);
        let text = format!("only metrics and logs are received here, at {metrics} and {logs} or by gRPC");
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
    fn take(&self, request: &ExportMetricsServiceRequest) -> Rejected {
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
        Rejected { count: taken.rejected(), message: taken.message() }
    }

    /// Puts log records on disk.
    #[expect(clippy::cast_precision_loss, reason = "records of one request")]
    fn keep(&self, request: &ExportLogsServiceRequest) -> Result<Rejected, RefuseError> {
        let spool = self.spool.as_ref().ok_or(RefuseError::NoLogs)?;
        let (lines, empty) = logs::lines(request);
        let records = lines.len();
        spool.append(lines).map_err(RefuseError::Spool)?;
        self.registry.counter(Metric::OtlpLogRecords, &[]).add(records as f64);
        if empty == 0 {
            self.count("ok");
            return Ok(Rejected::default());
        }
        let label = [(Label::Cause, "empty")];
        self.registry.counter(Metric::OtlpLogRecordsRefused, &label).add(empty as f64);
        self.count("partial");
        Ok(Rejected { count: empty, message: format!("{empty} empty") })
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, tonic::Status> {
        Ok(Response::new(points(self.take(request.get_ref()))))
    }
}

#[tonic::async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, tonic::Status> {
        let (receiver, request) = (self.clone(), request.into_inner());
        // Waits for the disk.
        let kept = tokio::task::spawn_blocking(move || {
            receiver.keep(&request).inspect_err(|error| receiver.count(error.codes().2))
        });
        match kept.await {
            Ok(Ok(rejected)) => Ok(Response::new(records(rejected))),
            Ok(Err(error)) => Err(tonic::Status::new(error.codes().1.into(), error.to_string())),
            Err(error) => Err(tonic::Status::internal(error.to_string())),
        }
    }
}

impl Rejected {
    fn number(&self) -> i64 {
        i64::try_from(self.count).unwrap_or(i64::MAX)
    }
}

fn points(rejected: Rejected) -> ExportMetricsServiceResponse {
    let partial_success = (rejected.count > 0).then(|| ExportMetricsPartialSuccess {
        rejected_data_points: rejected.number(),
        error_message: rejected.message,
    });
    ExportMetricsServiceResponse { partial_success }
}

fn records(rejected: Rejected) -> ExportLogsServiceResponse {
    let partial_success = (rejected.count > 0).then(|| ExportLogsPartialSuccess {
        rejected_log_records: rejected.number(),
        error_message: rejected.message,
    });
    ExportLogsServiceResponse { partial_success }
}

fn read<T: Message + Default + DeserializeOwned>(
    is_json: bool,
    encoding: Option<&str>,
    body: &[u8],
) -> Result<T, RefuseError> {
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
        T::decode(body).map_err(RefuseError::Protobuf)
    }
}

/// Unpacks no more than may be.
fn unpack(body: &[u8]) -> Result<Vec<u8>, RefuseError> {
    let mut unpacked = Vec::new();
    let most = REQUEST_BYTES_MAX as u64 + 1;
    MultiGzDecoder::new(body).take(most).read_to_end(&mut unpacked).map_err(RefuseError::Gzip)?;
    Ok(unpacked)
}

fn as_json(pushed: Pushed, rejected: &Rejected) -> Vec<u8> {
    if rejected.count == 0 {
        return b"{}".to_vec();
    }
    let name = match pushed {
        Pushed::Metrics => "rejectedDataPoints",
        Pushed::Logs => "rejectedLogRecords",
    };
    // 64 bits are text.
    let (count, message) = (rejected.count.to_string(), &rejected.message);
    serde_json::json!({ "partialSuccess": { name: count, "errorMessage": message } }).to_string().into_bytes()
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
