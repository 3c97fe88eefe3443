//! One replica as the command line describes it, and what requests to it are like on average.

use std::time::Duration;

use tidegate_sim::{Generic, Llm, Service, ServiceTime, Sizes};

use super::args::{EngineArgs, Model, ServiceArgs};
use super::traffic::Traffic;
use crate::Usage;

/// Variation of service times, and the longest in means: as measured services have it.
const SERVICE_CV: f64 = 0.5;
const SERVICE_CUT: f64 = 3.2;
/// Prompts that take more than this share of the objective to read are cut: no size of the pool could hold it.
const READING_SHARE: f64 = 0.5;

/// What serves the load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replica {
    pub(super) service: Service,
    /// Of its requests; a generic service takes no notice.
    pub(super) sizes: Sizes,
}

impl Replica {
    /// From what was asked for, and what the load tells of its requests.
    ///
    /// # Errors
    /// When no request could be in time.
    pub(super) fn new(asked: &ServiceArgs, engine: &EngineArgs, traffic: &Traffic) -> Result<Self, Usage> {
        match asked.model {
            Model::Generic => generic(asked),
            Model::Llm => llm(asked, engine, traffic),
        }
    }

    /// Requests per second that keep it busy.
    pub(super) fn rps(&self) -> f64 {
        self.service.full_rps(self.sizes)
    }

    /// Requests in it when it is full.
    pub(super) fn concurrency(&self) -> f64 {
        self.service.concurrency(self.sizes)
    }
}

fn generic(asked: &ServiceArgs) -> Result<Replica, Usage> {
    let (mean, latency) = (asked.service_time.get(), asked.slo.get());
    if mean >= latency {
        return Err(Usage("--slo must be longer than --service-time: no request could be in time".into()));
    }
    let time = ServiceTime::Lognormal { mean_s: mean.as_secs_f64(), cv: SERVICE_CV, cut: SERVICE_CUT };
    let service = Service::Generic(Generic { concurrency: asked.concurrency, time, latency });
    Ok(Replica { service, sizes: Sizes::default() })
}

fn llm(asked: &ServiceArgs, engine: &EngineArgs, traffic: &Traffic) -> Result<Replica, Usage> {
    let llm = Llm {
        base_s: engine.iteration_ms / 1e3,
        per_running_s: engine.running_ms / 1e3,
        per_prefill_token_s: engine.prompt_token_ms / 1e3,
        chunk: engine.chunk,
        batch: engine.batch,
        kv_tokens: engine.kv_tokens,
        ttft: asked.slo.get(),
        tpot: engine.tpot.get(),
    };
    let mean = told(traffic).unwrap_or([engine.prompt_tokens, engine.output_tokens]);
    if Duration::from_secs_f64(llm.iteration_s(1, 0)) >= llm.tpot {
        return Err(Usage(
            "--tpot must be longer than an iteration with one request in it: no request could be in time"
                .into(),
        ));
    }
    let token_s = llm.per_prefill_token_s + llm.base_s / f64::from(llm.chunk);
    let slo_s = llm.ttft.as_secs_f64();
    if mean[0] * llm.per_prefill_token_s + llm.base_s >= slo_s {
        return Err(Usage(format!(
            "--slo must be longer than a prompt of {:.0} tokens is read for: no request could be in time",
            mean[0]
        )));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturating")]
    let prompt_max = (READING_SHARE * slo_s / token_s).max(mean[0]) as u32;
    let sizes = Sizes { prompt_mean: mean[0], output_mean: mean[1], prompt_max, ..Sizes::default() };
    Ok(Replica { service: Service::Llm(llm), sizes })
}

/// Mean tokens of a request, where the load tells: of the prompt, and of the answer.
fn told(traffic: &Traffic) -> Option<[f64; 2]> {
    let tokens = traffic.tokens.as_ref()?;
    let of_all = [&traffic.rates, &tokens.rates[0], &tokens.rates[1]];
    let known = |index: &usize| of_all.iter().all(|series| series.get(*index).is_some());
    let sum = |series: &tidegate_core::Series| -> f64 {
        (0..traffic.rates.len()).filter(known).filter_map(|index| series.get(index)).sum()
    };
    let requests = sum(&traffic.rates);
    (requests > 0.0).then(|| [0, 1].map(|which| (sum(&tokens.rates[which]) / requests).max(1.0)))
}
