//! What an answer of a collector means, by the protocol: taken, to be sent again, or refused for good. No I/O.

use std::time::Duration;

use prost::Message;
use tonic::Code;

use crate::otlp::messages::{ExportMetricsServiceResponse, RetryInfo, Status};

/// What came of sending a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was taken; some points may have been left out, and there may be something to say.
    Taken { rejected: i64, message: String },
    /// It may be sent again, after what the collector asks for.
    Again { cause: &'static str, after: Option<Duration> },
    /// Sending it again would not help.
    Refused { message: String },
}

impl Ending {
    /// Of the message that a request that was taken is answered with.
    pub(super) fn of(response: ExportMetricsServiceResponse) -> Self {
        let partial = response.partial_success.unwrap_or_default();
        Self::Taken { rejected: partial.rejected_data_points, message: partial.error_message }
    }

    /// Of an answer by HTTP: 429, 502, 503 and 504 may be tried again, other refusals not.
    pub(super) fn of_http(status: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        let after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        match status {
            200..=299 => Self::of(ExportMetricsServiceResponse::decode(body).unwrap_or_default()),
            429 => Self::Again { cause: "too_many", after },
            502..=504 => Self::Again { cause: "unavailable", after },
            _ => {
                let said = Status::decode(body).map(|status| status.message).unwrap_or_default();
                Self::Refused { message: format!("HTTP {status} {said}").trim().to_owned() }
            }
        }
    }

    /// Of an error by gRPC. That a resource is exhausted is for a while only if the collector says for how long.
    pub(super) fn of_grpc(status: &tonic::Status) -> Self {
        let after = retry_delay(status.details());
        match status.code() {
            Code::ResourceExhausted if after.is_some() => Self::Again { cause: "too_many", after },
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Self::Again { cause: "unavailable", after },
            code => Self::Refused { message: format!("{code:?}: {}", status.message()) },
        }
    }
}

/// How long to wait, where `grpc-status-details-bin` says it.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = Status::decode(details).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay.unwrap_or_default();
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::messages::{Detail, ExportMetricsPartialSuccess, retry_info::Delay};

    fn again(cause: &'static str, seconds: Option<u64>) -> Ending {
        Ending::Again { cause, after: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn by_http_only_four_answers_may_be_tried_again() {
        assert_eq!(Ending::of_http(429, Some("7"), b""), again("too_many", Some(7)));
        assert_eq!(
            Ending::of_http(503, Some("Wed, 21 Oct 2026 07:28:00 GMT"), b""),
            again("unavailable", None)
        );
        for status in [502, 504] {
            assert_eq!(Ending::of_http(status, None, b""), again("unavailable", None));
        }
        let said = Status { message: "no such tenant".into(), ..Status::default() }.encode_to_vec();
        for status in [400, 401, 404, 413, 500, 501] {
            let message = format!("HTTP {status} no such tenant");
            assert_eq!(Ending::of_http(status, Some("1"), &said), Ending::Refused { message });
        }
        let partial = ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "late".into() };
        let body = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(Ending::of_http(200, None, &body), Ending::Taken { rejected: 3, message: "late".into() });
    }

    #[test]
    fn by_grpc_an_exhausted_resource_may_be_tried_again_when_it_says_so() {
        let of = |code| Ending::of_grpc(&tonic::Status::new(code, "x"));
        for code in [Code::Unavailable, Code::Aborted, Code::DataLoss, Code::DeadlineExceeded] {
            assert_eq!(of(code), again("unavailable", None));
        }
        for code in [Code::ResourceExhausted, Code::InvalidArgument, Code::Unauthenticated, Code::Internal] {
            assert_eq!(of(code), Ending::Refused { message: format!("{code:?}: x") });
        }
        let info = RetryInfo { retry_delay: Some(Delay { seconds: 4, nanos: 0 }) }.encode_to_vec();
        let detail = Detail { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: info };
        let details = Status { details: vec![detail], ..Status::default() }.encode_to_vec();
        let status = tonic::Status::with_details(Code::ResourceExhausted, "x", details.into());
        assert_eq!(Ending::of_grpc(&status), again("too_many", Some(4)));
    }
}
