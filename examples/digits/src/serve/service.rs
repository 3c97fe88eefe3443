//! What `digits-serve` answers, path by path.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use rand::RngExt;
use rand_distr::LogNormal;
use serde::{Deserialize, Serialize};

use super::figures::{Figures, Present};
use super::gate::{Full, Gate};
use super::{ServeArgs, access};
use crate::faults::Faults;
use crate::glyphs::{PIXELS, Pixels};
use crate::http::{self, Problem};
use crate::log::Log;
use crate::model::file::Saved;
use crate::seeds::{self, Stream};

/// The path that does the work.
pub const PREDICT: &str = "/predict";
/// 64 numbers take about a kilobyte.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A caller that sends no body in this time is not going to.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// Spread of the service time over its mean.
const SPREAD: f64 = 0.2;

/// A request's body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    pixels: Vec<f32>,
}

/// An answer's body.
#[derive(Debug, Serialize)]
struct Answer {
    digit: u8,
    confidence: f32,
    model_version: String,
}

/// The service behind the router.
#[derive(Debug)]
pub(super) struct Service {
    saved: Saved,
    version: String,
    loaded: AtomicBool,
    stopping: AtomicBool,
    gate: Gate,
    service_time: ServiceTime,
    figures: Figures,
    faults: Faults,
    log: Log,
    port: u16,
    ids: AtomicU64,
}

/// Draws the wait that stands for the accelerator.
#[derive(Debug)]
struct ServiceTime {
    seconds: Option<LogNormal<f64>>,
    rng: Mutex<Stream>,
}

impl ServiceTime {
    fn new(mean: Duration, seed: u64) -> Self {
        // None for no wait: a lognormal has no mean of zero.
        let seconds = LogNormal::from_mean_cv(mean.as_secs_f64(), SPREAD).ok().filter(|_| !mean.is_zero());
        Self { seconds, rng: Mutex::new(seeds::stream(seed)) }
    }

    fn draw(&self) -> Duration {
        let Some(seconds) = self.seconds else { return Duration::ZERO };
        let drawn = self.rng.lock().unwrap_or_else(PoisonError::into_inner).sample(seconds);
        Duration::try_from_secs_f64(drawn).unwrap_or_default()
    }
}

impl Service {
    pub(super) fn new(args: &ServeArgs, saved: Saved, port: u16, faults: Faults, log: Log) -> Self {
        Self {
            version: saved.version(),
            saved,
            loaded: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            gate: Gate::new(args.concurrency.into(), args.queue.into()),
            service_time: ServiceTime::new(args.service_time, port.into()),
            figures: Figures::new(),
            faults,
            log,
            port,
            ids: AtomicU64::new(0),
        }
    }

    /// From now on requests are taken.
    pub(super) fn load(&self) {
        self.loaded.store(true, Relaxed);
    }

    /// From now on it says that it is not ready; requests that still come in are answered.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    pub(super) fn unfinished(&self) -> usize {
        self.gate.taken() + self.gate.waiting()
    }

    pub(super) fn model_version(&self) -> &str {
        &self.version
    }

    pub(super) const fn figures(&self) -> &Figures {
        &self.figures
    }

    pub(super) const fn log(&self) -> &Log {
        &self.log
    }

    /// An id for a request that came without one: unique among the replicas of one start.
    pub(super) fn next_id(&self) -> String {
        format!("{}-{}", self.port, self.ids.fetch_add(1, Relaxed))
    }

    fn ready(&self) -> bool {
        self.loaded.load(Relaxed) && !self.stopping.load(Relaxed)
    }

    async fn answer(&self, body: Body) -> Result<Answer, Problem> {
        if !self.loaded.load(Relaxed) {
            return Err(Problem::unavailable("not ready", "the model is still being loaded"));
        }
        let pixels = pixels(&read(body).await?).map_err(bad)?;
        let full =
            |Full| Problem::unavailable("queue full", "as many requests wait as may wait; try again later");
        let _place = self.gate.enter().await.map_err(full)?;
        tokio::time::sleep(self.faults.stretch(self.service_time.draw())).await;
        let prediction = self.saved.model.predict(&pixels);
        Ok(Answer {
            digit: prediction.digit,
            confidence: prediction.confidence,
            model_version: self.version.clone(),
        })
    }
}

/// Every path. Probes and scrapes leave no access line: there is one of each per second and replica.
pub(super) fn router(service: &Arc<Service>) -> Router {
    let recorded = Router::new()
        .route(PREDICT, post(predict))
        .fallback(http::not_found)
        .method_not_allowed_fallback(http::wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(service), access::record));
    let probes = Router::new()
        .route("/healthz", get(http::alive))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics));
    recorded.merge(probes).with_state(Arc::clone(service))
}

async fn predict(State(service): State<Arc<Service>>, body: Body) -> Result<Json<Answer>, Problem> {
    service.answer(body).await.map(Json)
}

async fn readyz(State(service): State<Arc<Service>>) -> Result<&'static str, Problem> {
    let detail = "the model is still being loaded, or the service is stopping";
    if service.ready() { Ok("ready\n") } else { Err(Problem::unavailable("not ready", detail)) }
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let present =
        Present { in_flight: service.gate.taken(), waiting: service.gate.waiting(), ready: service.ready() };
    http::metrics(&service.faults, service.figures.page(present))
}

async fn read(body: Body) -> Result<bytes::Bytes, Problem> {
    let slow =
        |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "slow body", "the body did not arrive within 10 s");
    let whole =
        tokio::time::timeout(BODY_WAIT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await.map_err(slow)?;
    whole.map_err(|_| bad(format!("expected a body of at most {BODY_BYTES_MAX} bytes, sent whole")))
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad input", detail)
}

/// The image in a body, or what was expected instead.
fn pixels(body: &[u8]) -> Result<Pixels, String> {
    let question: Question = serde_json::from_slice(body)
        .map_err(|error| format!("expected {{\"pixels\":[{PIXELS} numbers]}}: {error}"))?;
    let count = question.pixels.len();
    let pixels: Pixels =
        question.pixels.try_into().map_err(|_| format!("expected {PIXELS} pixels, got {count}"))?;
    match pixels.iter().position(|level| !(0.0..=1.0).contains(level)) {
        Some(index) => Err(format!(
            "expected every pixel between 0 and 1, got {} as number {}",
            pixels[index],
            index + 1
        )),
        None => Ok(pixels),
    }
}
