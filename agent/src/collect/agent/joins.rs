//! What the sources are joined on: the table of the node's pods, who has which device, and the scrape targets that follow.

use std::sync::Arc;

use tidegate_core::Metric;
use tokio::sync::watch;

use super::super::pods::targets::{self, Discovery};
use super::super::pods::{self, Owners, PodSources, PodTable};
use super::super::run::Outlet;
use super::super::scrape::ScrapeTarget;
use super::Tasks;
use crate::clock::Moment;
use crate::export::Registry;

/// The node's pods and devices. Empty while nobody tells of them.
#[derive(Debug, Clone)]
pub(super) struct Joins {
    pub(super) pods: watch::Receiver<PodTable>,
    pub(super) owners: watch::Receiver<Arc<Owners>>,
}

impl Joins {
    /// Follows `sources`, if there are any.
    pub(super) fn start(sources: Option<PodSources>, tasks: &mut Tasks) -> Self {
        let (table, pods) = watch::channel(PodTable::default());
        let (devices, owners) = watch::channel(Arc::default());
        if let Some(sources) = sources {
            let Outlet { board, .. } = tasks.outlet.clone();
            let (kubelet, stopped) = (sources.kubelet.clone(), tasks.stopped.clone());
            let following = pods::follow_pods(sources, table, Arc::clone(&board), stopped.clone());
            tasks.running.push(tokio::spawn(following));
            let pace = pods::AskPace::default();
            let following = pods::follow_devices(kubelet, pace, pods.clone(), devices, board, stopped);
            tasks.running.push(tokio::spawn(following));
        }
        Self { pods, owners }
    }

    /// Sets what `/metrics` says of the table; nothing while there is none.
    pub(super) fn tell(&self, registry: &Registry, now: &Moment) {
        let table = self.pods.borrow();
        let age = table.age(now);
        registry.gauge(Metric::PodsAge, &[]).set(age.map(|age| age.as_secs_f64()));
        #[expect(clippy::cast_precision_loss, reason = "a bounded number of pods")]
        registry.gauge(Metric::Pods, &[]).set(age.map(|_| table.len() as f64));
    }

    /// The given targets and those that are discovered, for as long as anybody wants them.
    pub(super) fn targets(
        &self,
        given: Option<watch::Receiver<Vec<ScrapeTarget>>>,
        mut discovery: watch::Receiver<Discovery>,
        tasks: &mut Tasks,
    ) -> watch::Receiver<Vec<ScrapeTarget>> {
        let (out, all) = watch::channel(Vec::new());
        let mut pods = self.pods.clone();
        let mut given = given.unwrap_or_else(|| watch::channel(Vec::new()).1);
        let following = async move {
            loop {
                let mut now = given.borrow_and_update().clone();
                now.extend(targets::targets(&pods.borrow_and_update(), &discovery.borrow_and_update()));
                out.send_if_modified(|known| {
                    let differs = *known != now;
                    if differs {
                        *known = now;
                    }
                    differs
                });
                tokio::select! {
                    () = changed(&mut given) => {}
                    () = changed(&mut pods) => {}
                    () = changed(&mut discovery) => {}
                }
            }
        };
        let mut stopped = tasks.stopped.clone();
        tasks.running.push(tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => {}
                () = following => {}
            }
        }));
        all
    }
}

/// Returns on a change; what nobody changes any more never does.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
