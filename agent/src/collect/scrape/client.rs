//! Asks one target for its page, within a deadline and within bounds. Plain HTTP only; redirects are not followed.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::page::{Dialect, PageEnd, PageReader, ScrapeLimits};
use super::text::Line;
use crate::collect::Cause;

/// OpenMetrics first, since it says when a page is whole.
const ACCEPTED: &str =
    "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
/// A connection is kept between scrapes, but not much longer than the longest usual interval.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// Asks targets. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub(super) struct ScrapeClient {
    http: Client<HttpConnector, Empty<Bytes>>,
}

impl ScrapeClient {
    pub(super) fn new() -> Self {
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(1)
            .build(HttpConnector::new());
        Self { http }
    }

    /// Reads the page at `url`, giving each line that says something to `take`. Ends at `deadline` whatever the target does.
    ///
    /// # Errors
    /// The cause for which there is no page. A page that came in part is no error: its end says so.
    pub(super) async fn read(
        &self,
        url: &str,
        limits: ScrapeLimits,
        deadline: Duration,
        take: &mut (impl FnMut(&Line<'_>) + Send),
    ) -> Result<PageEnd, Cause> {
        timeout(deadline, self.read_page(url, limits, take)).await.unwrap_or(Err(Cause::Timeout))
    }

    async fn read_page(
        &self,
        url: &str,
        limits: ScrapeLimits,
        take: &mut (impl FnMut(&Line<'_>) + Send),
    ) -> Result<PageEnd, Cause> {
        let uri: Uri = url.parse().map_err(|_| Cause::BadAddress)?;
        if uri.scheme_str() != Some("http") {
            return Err(Cause::BadAddress);
        }
        let request = Request::get(uri)
            .header(ACCEPT, ACCEPTED)
            .header(USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|_| Cause::BadAddress)?;
        let answer = self.http.request(request).await.map_err(|_| Cause::Unreachable)?;
        if answer.status() != StatusCode::OK {
            return Err(Cause::HttpStatus);
        }
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let dialect = Dialect::of_content_type(kind.unwrap_or_default());
        Ok(read_body(answer.into_body(), PageReader::new(dialect, limits), take).await)
    }
}

async fn read_body(
    mut body: Incoming,
    mut page: PageReader,
    take: &mut (impl FnMut(&Line<'_>) + Send),
) -> PageEnd {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            page.cut(Cause::BrokenOff);
            break;
        };
        if let Some(chunk) = frame.data_ref()
            && page.feed(chunk, take).is_break()
        {
            break;
        }
    }
    page.finish(take)
}
