//! Telling the controller what this node's pods say of each workload, as soon as it was read, and every two seconds at least. The stream is opened
//! anew when it breaks; the agent never waits for it, and keeps nothing for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tidegate_core::{Label, Metric, Signal, Subject, Timestamp, WorkloadId};
use tidegate_digest::v1::digests_client::DigestsClient;
use tidegate_digest::{BOUNDS_MAX, PODS_MAX, Part, Parts, READINGS_MAX, SKETCHES_MAX, WORKLOADS_MAX, v1};
use tokio::sync::{broadcast, mpsc, watch};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::clock;
use crate::collect::pods::targets::{Discovery, WorkloadScrape};
use crate::collect::scrape::{How, Objective, SignalRule};
use crate::collect::{Batch, LatestValues, SourceName, StatusBoard, TargetStatus};
use crate::export::Registry;

/// Between two digests.
pub const EVERY: Duration = Duration::from_secs(2);
/// A reading of the pods that is expected by then is waited for a little longer, rather than told with the next digest.
const READ_WITHIN: Duration = Duration::from_millis(500);
/// Shortest time between two digests, however often pods are read.
const APART_MIN: Duration = Duration::from_millis(200);
/// A reading that is older says nothing of the present.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// Digests on their way; one that finds no room is dropped: the next one says more.
const ON_THEIR_WAY_MAX: usize = 4;
/// Before the stream is opened anew; doubled each time, up to the most.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often the controllers' name is looked up.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// Controllers that are told at once.
const CONTROLLERS_MAX: usize = 8;
/// Rules of one workload that are taken over; a policy has 64 at most.
const RULES_MAX: usize = 64;
/// The controller answers within this, or the connection is given up.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Where digests go, and who sends them.
#[derive(Debug, Clone)]
pub struct DigestOptions {
    /// The controller, `https://…` or, on loopback, `http://…`.
    pub url: String,
    /// Name of this node, as the API server has it.
    pub node: String,
    /// Certificates that the controller is trusted by, PEM.
    pub ca_file: Option<PathBuf>,
    /// Bearer token; read anew for each stream, for it is renewed in place.
    pub token_file: Option<PathBuf>,
    /// Between two digests.
    pub every: Duration,
}

/// What the agent reads.
#[derive(Debug)]
pub struct Seen {
    /// The latest values.
    pub latest: Arc<LatestValues>,
    /// How its targets fare.
    pub board: Arc<StatusBoard>,
    /// Every reading, as it comes.
    pub batches: broadcast::Receiver<Arc<Batch>>,
}

/// Why a stream could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("failed to read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the token is none that a header can bear")]
    Token,
    #[error("the controller's address is none")]
    Address,
    #[error("failed to find {host}")]
    Resolve { host: String, source: std::io::Error },
    #[error("failed to reach the controller")]
    Connect(#[from] tonic::transport::Error),
    #[error("the controller refused the stream: {}", .0.message())]
    Refused(Box<tonic::Status>),
    #[error("the controller ended the stream")]
    Ended,
    #[error("the controller gave no receipt in time")]
    Silent,
}

impl PushError {
    const fn cause(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Token => "token",
            Self::Address | Self::Resolve { .. } | Self::Connect(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Ended => "ended",
            Self::Silent => "timeout",
        }
    }
}

/// Tells every controller that the address stands for, until `stop`: one leads, the others watch and learn. What they say of how
/// workloads are to be read is put into `settings`.
pub async fn push(
    options: DigestOptions,
    seen: Seen,
    registry: Arc<Registry>,
    settings: watch::Sender<Discovery>,
    mut stop: watch::Receiver<bool>,
) {
    let shared = Shared { options, seen, registry, settings };
    let shared = Arc::new(shared);
    let mut streams: BTreeMap<SocketAddr, AbortOnDrop> = BTreeMap::new();
    let mut ticks = tokio::time::interval(RESOLVE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        match shared.addresses().await {
            Ok(addresses) => {
                // A name that stands for nobody for a moment ends no stream that works.
                if !addresses.is_empty() {
                    streams.retain(|address, _| addresses.contains(address));
                }
                for address in addresses {
                    streams.entry(address).or_insert_with(|| {
                        AbortOnDrop(tokio::spawn(keep_telling(Arc::clone(&shared), address)))
                    });
                }
            }
            Err(error) => shared.tell(&error),
        }
    }
}

/// Ends the task with itself.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the streams to all controllers share.
struct Shared {
    options: DigestOptions,
    seen: Seen,
    registry: Arc<Registry>,
    settings: watch::Sender<Discovery>,
}

impl Shared {
    /// The addresses that the controllers' name stands for.
    async fn addresses(&self) -> Result<BTreeSet<SocketAddr>, PushError> {
        let (host, port) = self.host().ok_or(PushError::Address)?;
        let found = tokio::net::lookup_host((host.as_str(), port))
            .await
            .map(|found| found.take(CONTROLLERS_MAX).collect());
        found.map_err(|source| PushError::Resolve { host, source })
    }

    fn host(&self) -> Option<(String, u16)> {
        let uri: http::Uri = self.options.url.parse().ok()?;
        let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        Some((uri.host()?.trim_matches(['[', ']']).to_owned(), uri.port_u16().unwrap_or(usual)))
    }

    fn tell(&self, error: &PushError) {
        self.registry.counter(Metric::DigestErrors, &[(Label::Cause, error.cause())]).inc();
        tracing::warn!(error = error_chain(error), "digests do not reach the controller");
    }
}

/// Keeps a stream to one controller.
async fn keep_telling(shared: Arc<Shared>, address: SocketAddr) {
    let mut pause = PAUSE_FIRST;
    let mut sequence = 0;
    loop {
        let begun = clock::now().steady;
        let Err(error) = stream(&shared, address, &mut sequence).await;
        shared.tell(&error);
        // A stream that held for a while had nothing wrong with it.
        if clock::now().steady.saturating_sub(begun) > PAUSE_MAX {
            pause = PAUSE_FIRST;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// One stream; ends only by an error.
async fn stream(
    shared: &Shared,
    address: SocketAddr,
    sequence: &mut u64,
) -> Result<std::convert::Infallible, PushError> {
    let Shared { options, seen: Seen { latest, board, batches }, registry, settings } = shared;
    let host = shared.host().ok_or(PushError::Address)?.0;
    let mut client = DigestsClient::new(endpoint(options, &host, address)?.connect().await?);
    let (digests, waiting) = mpsc::channel(ON_THEIR_WAY_MAX);
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(waiting));
    if let Some(token) = token(options)? {
        request.metadata_mut().insert("authorization", token);
    }
    let answer = client.send(request).await.map_err(|status| PushError::Refused(Box::new(status)))?;
    let mut receipts = answer.into_inner();
    let mut due = Due { batches: batches.resubscribe(), last: None, is_read: false };
    let mut heard = clock::now().steady;
    loop {
        tokio::select! {
            receipt = receipts.next() => match receipt {
                Some(Ok(receipt)) => {
                    heard = clock::now().steady;
                    registry.counter(Metric::DigestsSent, &[]).inc();
                    if let Some(told) = receipt.settings {
                        settings.send_if_modified(|known| adopt(known, &told));
                    }
                }
                Some(Err(status)) => return Err(PushError::Refused(Box::new(status))),
                None => return Err(PushError::Ended),
            },
            () = due.wait(options.every) => {
                due.told();
                if clock::now().steady.saturating_sub(heard) > ANSWERS_WITHIN {
                    return Err(PushError::Silent);
                }
                *sequence += 1;
                let mut parts = parts(&options.node, *sequence, latest, clock::now().at);
                add_pods(&mut parts, &board.get().targets, &settings.borrow());
                match digests.try_send(v1::Digest::from(&parts)) {
                    // Dropped, as it is said above.
                    Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                    Err(mpsc::error::TrySendError::Closed(_)) => return Err(PushError::Ended),
                }
            }
        }
    }
}

/// When the next digest is due: as soon as the pods have been read anew, or a little after its time. Nothing is lost where a wait is given
/// up and begun again.
struct Due {
    batches: broadcast::Receiver<Arc<Batch>>,
    /// When the last one went, by the steady clock; `None`: the first is due at once.
    last: Option<Duration>,
    is_read: bool,
}

impl Due {
    async fn wait(&mut self, every: Duration) {
        let Some(last) = self.last else { return };
        let until = |after: Duration| (last + after).saturating_sub(clock::now().steady);
        while !self.is_read {
            tokio::select! {
                () = tokio::time::sleep(until(every + READ_WITHIN)) => return,
                batch = self.batches.recv() => match batch {
                    // A node whose pods say nothing has nothing to tell sooner.
                    Ok(batch) => {
                        let of_pods = matches!(batch.source, SourceName::Scrape | SourceName::Otlp);
                        self.is_read = of_pods && !batch.samples.is_empty();
                    }
                    // Of what was missed, the last reading is what counts.
                    Err(broadcast::error::RecvError::Lagged(_)) => self.is_read = true,
                    Err(broadcast::error::RecvError::Closed) => return tokio::time::sleep(until(every)).await,
                },
            }
        }
        tokio::time::sleep(until(APART_MIN)).await;
    }

    fn told(&mut self) {
        (self.last, self.is_read) = (Some(clock::now().steady), false);
    }
}

/// By its address, but known by the name that its certificate is for.
fn endpoint(options: &DigestOptions, host: &str, address: SocketAddr) -> Result<Endpoint, PushError> {
    let scheme = options.url.split_once("://").map_or("http", |(scheme, _)| scheme);
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
        .connect_timeout(ANSWERS_WITHIN)
        .http2_keep_alive_interval(ANSWERS_WITHIN)
        .keep_alive_timeout(ANSWERS_WITHIN)
        .keep_alive_while_idle(true);
    let Some(path) = &options.ca_file else { return Ok(endpoint) };
    let pem = std::fs::read(path).map_err(|source| PushError::Read { path: path.clone(), source })?;
    Ok(endpoint
        .tls_config(ClientTlsConfig::new().domain_name(host).ca_certificate(Certificate::from_pem(pem)))?)
}

fn token(options: &DigestOptions) -> Result<Option<MetadataValue<Ascii>>, PushError> {
    let Some(path) = &options.token_file else { return Ok(None) };
    let token =
        std::fs::read_to_string(path).map_err(|source| PushError::Read { path: path.clone(), source })?;
    format!("Bearer {}", token.trim()).parse().map(Some).map_err(|_| PushError::Token)
}

/// Takes over what the controller says of how workloads are to be read; tells whether anything is new. What is not sound is left out.
fn adopt(known: &mut Discovery, told: &v1::Settings) -> bool {
    let mut workloads = BTreeMap::new();
    for one in told.workloads.iter().take(WORKLOADS_MAX) {
        let Ok(id) = one.id.parse::<WorkloadId>() else { continue };
        let sound = |limit: &f64| limit.is_finite() && *limit > 0.0;
        let objective = one.latency_limit_seconds.filter(sound).map(|latency_seconds| Objective {
            latency_seconds,
            per_output_token_seconds: one.per_output_token_seconds.filter(sound),
        });
        let rules = one.rules.iter().take(RULES_MAX).filter_map(rule).collect();
        let tells_pods = one.tells_pods;
        let scrape = WorkloadScrape { objective, rules, tells_pods, ..WorkloadScrape::default() };
        workloads.insert(id, scrape);
    }
    let new = known.workloads != workloads;
    known.workloads = workloads;
    new
}

fn rule(told: &v1::Rule) -> Option<SignalRule> {
    let labels = |told: &HashMap<String, String>| {
        told.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    let rule = SignalRule {
        family: told.family.clone(),
        labels: labels(&told.labels),
        except: labels(&told.except),
        signal: Signal::from_name(&told.signal)?,
        how: How::from_word(&told.how)?,
        per: told.per.clone(),
        scale: told.scale.unwrap_or(1.0),
        adds: told.adds,
    };
    rule.check().is_ok().then_some(rule)
}

/// What is known now of each workload.
fn parts(node: &str, sequence: u64, latest: &LatestValues, now: Timestamp) -> Parts {
    let mut workloads: BTreeMap<WorkloadId, Part> = BTreeMap::new();
    let known = latest.fresh(now, FRESH_FOR, |fresh| match fresh.subject {
        Subject::Workload(id) if told(fresh.signal) => Some((id.clone(), fresh.signal, fresh.latest)),
        _ => None,
    });
    for (id, signal, value) in known.into_iter().flatten() {
        if workloads.len() >= WORKLOADS_MAX && !workloads.contains_key(&id) {
            continue;
        }
        let part = workloads.entry(id).or_default();
        if let Some(coverage) = value.coverage {
            part.answered = part.answered.max(coverage.answered);
            part.targets = part.targets.max(coverage.of);
        }
        if part.readings.len() < READINGS_MAX {
            part.readings.insert(signal, (value.value, now.since(value.at)));
        }
    }
    for (id, key, at, spread) in latest.spreads(now, FRESH_FOR) {
        let Some(part) = workloads.get_mut(&id) else { continue };
        if part.spreads.len() < SKETCHES_MAX && spread.bounds().len() <= BOUNDS_MAX {
            // What the distribution tells need not be told twice.
            for (signal, value) in spread.told(key) {
                value.and_then(|_| part.readings.remove(&signal));
            }
            part.spreads.entry(key).or_insert((spread, now.since(at)));
        }
    }
    Parts { node: node.to_owned(), sequence, at: now, workloads }
}

/// Adds what each pod has in flight, of the workloads whose policies ask for it.
fn add_pods(parts: &mut Parts, targets: &[TargetStatus], settings: &Discovery) {
    for target in targets {
        let asked = settings.workloads.get(&target.workload).is_some_and(|workload| workload.tells_pods);
        let Some(in_flight) = target.in_flight.filter(|_| asked) else { continue };
        let pod = target.name.split_once('/').and_then(|(_, rest)| rest.rsplit_once(':'));
        let part = parts.workloads.get_mut(&target.workload);
        let (Some((pod, _)), Some(part)) = (pod, part) else { continue };
        if part.in_flight.len() < PODS_MAX {
            *part.in_flight.entry(pod.to_owned()).or_default() += in_flight;
        }
    }
}

/// Whether the controller does not know a signal better than any agent.
const fn told(signal: Signal) -> bool {
    !matches!(
        signal,
        Signal::ReplicasWanted
            | Signal::ReplicasReady
            | Signal::ReplicasStarting
            | Signal::ReplicasDraining
            | Signal::CapacityPerReplica
            | Signal::LeadSeconds
    )
}

#[cfg(test)]
mod tests {
    use tidegate_core::{Sample, Spread};

    use super::*;
    use crate::collect::latest::Giver;

    #[test]
    fn a_distribution_is_told_in_place_of_its_quantiles_while_it_is_fresh() {
        let (id, at) =
            ("ml/deployment/chat".parse::<WorkloadId>().unwrap(), Timestamp::from_secs(1_800_000_000));
        let giver = Giver::Source(SourceName::Scrape);
        let latest = LatestValues::default();
        let spread = Spread::new(vec![(0.1, 3.0), (1.0, 4.0)], 4.0, None);
        let told =
            [(Signal::CompletionsPerSecond, 4.0), (Signal::LatencyP95, 0.82), (Signal::LatencyMean, 0.2)];
        let sample = |(signal, value)| Sample::new(Subject::Workload(id.clone()), signal, at, value).unwrap();
        let samples: Vec<_> = told.into_iter().map(sample).collect();
        latest.replace(giver, &samples, |_| None);
        let spreads = BTreeMap::from([(Signal::LatencyP95, spread.clone())]);
        latest.put_spreads(giver, at, HashMap::from([(id.clone(), spreads)]));
        let part = |now| parts("a", 1, &latest, now).workloads.remove(&id);
        let fresh = part(at + Duration::from_secs(2)).unwrap();
        assert_eq!(fresh.spreads, BTreeMap::from([(Signal::LatencyP95, (spread, Duration::from_secs(2)))]));
        // The distribution has no sum, so that it does not tell the mean.
        let left: Vec<_> = fresh.readings.into_keys().collect();
        assert_eq!(left, [Signal::CompletionsPerSecond, Signal::LatencyMean]);
        assert!(part(at + Duration::from_secs(11)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_digest_is_due_once_the_pods_were_read_and_else_after_its_time() {
        let (batches, receiver) = broadcast::channel(8);
        let mut due = Due { batches: receiver, last: None, is_read: false };
        let took = async |due: &mut Due| {
            let begun = tokio::time::Instant::now();
            due.wait(EVERY).await;
            begun.elapsed()
        };
        assert_eq!(took(&mut due).await, Duration::ZERO, "the first at once");
        due.told();
        let batch = |source, samples| {
            Arc::new(Batch { source, at: Timestamp::EPOCH, samples, coverage: HashMap::new() })
        };
        let id: WorkloadId = "ml/deployment/chat".parse().unwrap();
        let sample = || Sample::new(Subject::Workload(id.clone()), Signal::InFlight, Timestamp::EPOCH, 1.0);
        batches.send(batch(SourceName::Node, sample().into_iter().collect())).unwrap();
        batches.send(batch(SourceName::Scrape, Vec::new())).unwrap();
        assert!(took(&mut due).await > EVERY, "the node's own readings and empty ones are no reason");
        due.told();
        batches.send(batch(SourceName::Scrape, sample().into_iter().collect())).unwrap();
        assert!(took(&mut due).await <= APART_MIN, "pods were read");
        due.told();
        drop(batches);
        assert!(took(&mut due).await >= EVERY - APART_MIN, "nobody reads any more");
    }

    #[test]
    fn settings_are_taken_over_whole_and_what_is_not_sound_is_left_out() {
        let rule = |signal: &str, how: &str| v1::Rule {
            family: "served_total".into(),
            labels: [("code".to_owned(), "200".to_owned())].into(),
            signal: signal.into(),
            how: how.into(),
            ..v1::Rule::default()
        };
        let one = |id: &str, limit| v1::WorkloadSettings {
            id: id.into(),
            latency_limit_seconds: Some(limit),
            per_output_token_seconds: None,
            tells_pods: false,
            rules: vec![
                rule("completions_per_second", "counter_rate"),
                rule("completions_per_second", "guess"),
                rule("load1", "gauge_sum"),
            ],
        };
        let told = v1::Settings { workloads: vec![one("ml/deployment/chat", 2.0), one("chat", 1.0)] };
        let mut known = Discovery::default();
        assert!(adopt(&mut known, &told));
        assert!(!adopt(&mut known, &told), "nothing is new");
        let (id, scrape) = known.workloads.first_key_value().unwrap();
        assert_eq!((known.workloads.len(), id.as_str()), (1, "ml/deployment/chat"));
        let limit = scrape.objective.map(|objective| objective.latency_seconds);
        assert_eq!((limit, scrape.rules.len()), (Some(2.0), 1));
        assert!(adopt(&mut known, &v1::Settings::default()), "a policy that is gone is forgotten");
        assert!(known.workloads.is_empty());
    }
}
