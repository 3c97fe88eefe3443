//! The collectors put together: which run, how often, and the handle by which the rest of the program asks them.

mod joins;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::{Signal, Subject, Timestamp};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;

use super::container::volume::VolumeSource;
use super::container::{ContainerPaths, ContainerSource};
use super::gpu::source::GpuSource;
use super::gpu::{GpuOptions, Gpus, Xids};
use super::kernel_log::KernelLogSource;
use super::latest::{Latest, LatestValues};
use super::node::NodeSource;
use super::node::filesystem::FilesystemSource;
use super::pods::targets::Discovery;
use super::pods::{Owners, PodSources, PodTable};
use super::process::{GroupProvider, ProcessGroup, ProcessSource};
use super::reading::{Batch, BlockingSource, SourceName};
use super::run::{Outlet, Pace, run, run_blocking};
use super::scrape::pushed::PushedSource;
use super::scrape::{ScrapeLimits, ScrapeSource, ScrapeTarget};
use super::status::{AgentStatus, StatusBoard};
use crate::export::Registry;
use crate::otlp::Inbox;
use joins::Joins;

/// Batches kept for a subscriber that lags; beyond them it loses the oldest and is told so. A minute of every source at their defaults.
const BATCHES_MAX: usize = 128;
/// How long a stopped source may take to end; a thread that hangs in the kernel is then left to itself.
const STOP_MAX: Duration = Duration::from_secs(2);

/// How often each source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paces {
    /// The machine.
    pub node: Duration,
    /// Its filesystems, which change slowly.
    pub filesystem: Duration,
    /// The workloads' processes.
    pub process: Duration,
    /// The workloads' own metrics.
    pub scrape: Duration,
    /// Containers.
    pub container: Duration,
    /// Their pods' volumes, which change slowly.
    pub volume: Duration,
    /// GPUs.
    pub gpu: Duration,
    /// The kernel log.
    pub kernel_log: Duration,
}

impl Default for Paces {
    /// 5 s each; containers, of which a node may have hundreds, 10 s, as the kubelet reads them; filesystems and volumes, 30 s.
    fn default() -> Self {
        Self {
            node: Duration::from_secs(5),
            filesystem: Duration::from_secs(30),
            process: Duration::from_secs(5),
            scrape: Duration::from_secs(5),
            container: Duration::from_secs(10),
            volume: Duration::from_secs(30),
            gpu: Duration::from_secs(5),
            kernel_log: Duration::from_secs(5),
        }
    }
}

/// The collectors of one machine.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Nothing switched on yet.
    #[must_use]
    pub fn builder() -> AgentBuilder {
        AgentBuilder {
            node_root: None,
            processes: None,
            targets: None,
            containers: None,
            pods: None,
            discovery: None,
            inbox: None,
            gpus: None,
            limits: ScrapeLimits::default(),
            paces: Paces::default(),
            registry: Arc::new(Registry::new()),
        }
    }
}

/// What is to be collected. A source that is not named stays off.
pub struct AgentBuilder {
    node_root: Option<PathBuf>,
    processes: Option<(PathBuf, GroupProvider)>,
    targets: Option<watch::Receiver<Vec<ScrapeTarget>>>,
    containers: Option<ContainerPaths>,
    pods: Option<PodSources>,
    discovery: Option<watch::Receiver<Discovery>>,
    inbox: Option<(Arc<Inbox>, watch::Receiver<Discovery>)>,
    gpus: Option<GpuOptions>,
    limits: ScrapeLimits,
    paces: Paces,
    registry: Arc<Registry>,
}

impl std::fmt::Debug for AgentBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentBuilder").field("paces", &self.paces).finish_non_exhaustive()
    }
}

impl AgentBuilder {
    /// Collects the machine and its filesystems, whose root is seen at `root`: `/`, or where a container has it mounted.
    #[must_use]
    pub fn node(mut self, root: impl Into<PathBuf>) -> Self {
        self.node_root = Some(root.into());
        self
    }

    /// Collects the process groups that `groups` names, looked up below `root` like [`AgentBuilder::node`].
    #[must_use]
    pub fn process(
        mut self,
        root: impl Into<PathBuf>,
        groups: impl Fn() -> Vec<ProcessGroup> + Send + Sync + 'static,
    ) -> Self {
        self.processes = Some((root.into(), Arc::new(groups)));
        self
    }

    /// Asks targets for their metrics; the list may change at any time.
    #[must_use]
    pub fn scrape(mut self, targets: watch::Receiver<Vec<ScrapeTarget>>) -> Self {
        self.targets = Some(targets);
        self
    }

    /// Collects the containers of the node's pods, their networks and volumes.
    #[must_use]
    pub fn containers(mut self, paths: ContainerPaths) -> Self {
        self.containers = Some(paths);
        self
    }

    /// Keeps the table of the node's pods, and of who has which device.
    #[must_use]
    pub fn pods(mut self, sources: PodSources) -> Self {
        self.pods = Some(sources);
        self
    }

    /// Asks pods of the table for their metrics too, by what they say and what is configured, which may change at any time.
    #[must_use]
    pub fn discover(mut self, discovery: watch::Receiver<Discovery>) -> Self {
        self.discovery = Some(discovery);
        self
    }

    /// Reads what is pushed into `inbox`, by what is configured, which may change at any time.
    #[must_use]
    pub fn pushed(mut self, inbox: Arc<Inbox>, discovery: watch::Receiver<Discovery>) -> Self {
        self.inbox = Some((inbox, discovery));
        self
    }

    /// Collects the GPUs, and their errors from the driver's events and the kernel log.
    #[must_use]
    pub fn gpu(mut self, options: GpuOptions) -> Self {
        self.gpus = Some(options);
        self
    }

    /// Bounds on what one target may send.
    #[must_use]
    pub const fn scrape_limits(mut self, limits: ScrapeLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How often each source is read. Zero is taken as a millisecond.
    #[must_use]
    pub const fn paces(mut self, paces: Paces) -> Self {
        self.paces = paces;
        self
    }

    /// Where the collectors tell of themselves.
    #[must_use]
    pub fn registry(mut self, registry: Arc<Registry>) -> Self {
        self.registry = registry;
        self
    }

    /// Starts one task per source. Needs a Tokio runtime.
    #[must_use]
    pub fn start(self) -> AgentHandle {
        let (batches, _) = broadcast::channel(BATCHES_MAX);
        let outlet = Outlet {
            batches,
            latest: Arc::new(LatestValues::default()),
            board: Arc::new(StatusBoard::new(Arc::clone(&self.registry))),
            gpus: watch::channel(None).0,
        };
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Tasks { outlet: outlet.clone(), stopped: stopped.clone(), running: Vec::new() };
        let paces = self.paces;
        if let Some(root) = self.node_root {
            let node = root.clone();
            tasks.start(SourceName::Node, paces.node, move || NodeSource::new(node.clone()));
            tasks
                .start(SourceName::Filesystem, paces.filesystem, move || FilesystemSource::new(root.clone()));
        }
        if let Some((root, groups)) = self.processes {
            let make = move || ProcessSource::new(root.clone(), Arc::clone(&groups));
            tasks.start(SourceName::Process, paces.process, make);
        }
        let joins = Joins::start(self.pods, &mut tasks);
        if let Some(paths) = self.containers {
            let (of_volumes, pods, pods_of_volumes) = (paths.clone(), joins.pods.clone(), joins.pods.clone());
            let make = move || ContainerSource::new(paths.clone(), pods.clone());
            tasks.start(SourceName::Container, paces.container, make);
            let make = move || VolumeSource::new(of_volumes.clone(), pods_of_volumes.clone());
            tasks.start(SourceName::Volume, paces.volume, make);
        }
        if let Some((inbox, discovery)) = self.inbox {
            let pods = joins.pods.clone();
            let make = move || PushedSource::new(Arc::clone(&inbox), pods.clone(), discovery.clone());
            tasks.start(SourceName::Otlp, paces.scrape, make);
        }
        let targets = match self.discovery {
            Some(discovery) => Some(joins.targets(self.targets, discovery, &mut tasks)),
            None => self.targets,
        };
        let xids = Xids::default();
        if let Some(options) = self.gpus {
            tasks.start_gpus(options, joins.owners.clone(), paces, &xids);
        }
        let mut tasks = tasks.running;
        if let Some(targets) = targets {
            let scraping = scrape(targets, self.limits, self.paces.scrape, outlet.clone(), stopped.clone());
            tasks.push(tokio::spawn(scraping));
        }
        tasks.push(tokio::spawn(watch_own(self.registry, joins.clone(), stopped)));
        AgentHandle { outlet, joins, xids, stop, tasks }
    }
}

/// The tasks of the sources, as they are started.
#[derive(Debug)]
struct Tasks {
    outlet: Outlet,
    stopped: watch::Receiver<bool>,
    running: Vec<JoinHandle<()>>,
}

impl Tasks {
    fn start<S: BlockingSource>(
        &mut self,
        name: SourceName,
        every: Duration,
        make: impl Fn() -> S + Send + 'static,
    ) {
        let (outlet, stopped) = (self.outlet.clone(), self.stopped.clone());
        self.running.push(tokio::spawn(run_blocking(name, pace(every), make, outlet, stopped)));
    }

    fn start_gpus(
        &mut self,
        mut options: GpuOptions,
        owners: watch::Receiver<Arc<Owners>>,
        paces: Paces,
        xids: &Xids,
    ) {
        options.owners.get_or_insert(owners);
        if let Some(path) = options.kernel_log.clone() {
            let (root, xids) = (options.root.clone(), xids.clone());
            let make = move || KernelLogSource::new(path.clone(), root.clone(), xids.clone());
            self.start(SourceName::KernelLog, paces.kernel_log, make);
        }
        let xids = xids.clone();
        let make = move || GpuSource::new(options.clone(), xids.clone());
        let (outlet, stopped) = (self.outlet.clone(), self.stopped.clone());
        self.running.push(tokio::spawn(run(
            SourceName::Gpu,
            pace(paces.gpu),
            make,
            GpuSource::begin,
            outlet,
            stopped,
        )));
    }
}

/// A reading has as long as its interval, and two seconds at least: twice what a round of scrapes may take.
fn pace(every: Duration) -> Pace {
    let every = every.max(Duration::from_millis(1));
    Pace { every, deadline: every.max(Duration::from_secs(2)) }
}

async fn scrape(
    targets: watch::Receiver<Vec<ScrapeTarget>>,
    limits: ScrapeLimits,
    every: Duration,
    outlet: Outlet,
    stop: watch::Receiver<bool>,
) {
    let pace = pace(every);
    let board = Arc::clone(&outlet.board);
    let make = move || ScrapeSource::new(targets.clone(), limits, Arc::clone(&board));
    let begin = |mut source: ScrapeSource, now| {
        let (done, pending) = oneshot::channel();
        tokio::spawn(async move {
            let reading = source.read(now).await;
            // Nobody waits any more when the program is ending.
            drop(done.send((source, reading)));
        });
        pending
    };
    run(SourceName::Scrape, pace, make, begin, outlet, stop).await;
}

/// How often Tidegate reads its own CPU and memory.
const OWN_EVERY: Duration = Duration::from_secs(5);

async fn watch_own(registry: Arc<Registry>, joins: Joins, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(OWN_EVERY);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {
                super::process::own::note(&registry);
                joins.tell(&registry, &crate::clock::now());
            }
        }
    }
}

/// The running collectors. Dropping it stops them without waiting.
#[derive(Debug)]
pub struct AgentHandle {
    outlet: Outlet,
    joins: Joins,
    xids: Xids,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl AgentHandle {
    /// Every batch from now on. A subscriber that lags loses the oldest and is told how many.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.outlet.batches.subscribe()
    }

    /// The latest value of a signal and when it was read; `None` when no source tells it now.
    #[must_use]
    pub fn latest(&self, subject: &Subject, signal: Signal) -> Option<(f64, Timestamp)> {
        self.outlet.latest.get(subject, signal).map(|Latest { value, at, .. }| (value, at))
    }

    /// All latest values, to read with their coverage, to show, and for other parts of the program to add theirs.
    #[must_use]
    pub fn latest_values(&self) -> Arc<LatestValues> {
        Arc::clone(&self.outlet.latest)
    }

    /// Where how they fare is read, also by other parts of the program.
    #[must_use]
    pub fn status_board(&self) -> Arc<StatusBoard> {
        Arc::clone(&self.outlet.board)
    }

    /// How the sources and targets fare.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        self.outlet.board.get()
    }

    /// The pods of this node, as last told.
    #[must_use]
    pub fn pods(&self) -> watch::Receiver<PodTable> {
        self.joins.pods.clone()
    }

    /// Who has which device, as last told.
    #[must_use]
    pub fn owners(&self) -> watch::Receiver<Arc<Owners>> {
        self.joins.owners.clone()
    }

    /// The GPUs as last read; nothing while they cannot be read, and where there are none to read.
    #[must_use]
    pub fn gpus(&self) -> watch::Receiver<Option<Arc<Gpus>>> {
        self.outlet.gpus.subscribe()
    }

    /// Every GPU error that was told of; it outlives the GPU.
    #[must_use]
    pub fn xids(&self) -> Xids {
        self.xids.clone()
    }

    /// Stops every source; waits for each a bounded while.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        for mut task in self.tasks {
            if tokio::time::timeout(STOP_MAX, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

#[cfg(test)]
mod tests;
