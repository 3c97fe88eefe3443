//! What senders have pushed, out of the spool: whose it is stands in each line, not in the file's name.

use std::collections::BTreeSet;

use tidegate_core::WorkloadId;

use super::*;
use crate::collect::pods::Pod;
use crate::logs::cri::Run;
use crate::logs::pushed::{PushedBy, PushedLine};

/// By what a sender is known.
#[derive(Debug)]
pub(super) struct Senders {
    pub(super) host: Arc<str>,
    /// The node's pods; `None` where there are none.
    pub(super) pods: Option<watch::Receiver<PodTable>>,
    /// Workloads of this machine, of which a service may bear the name.
    pub(super) workloads: BTreeSet<WorkloadId>,
}

impl Senders {
    /// Learns the workloads of these sources.
    pub(super) fn learn(&mut self, sources: &[LogSource]) {
        self.workloads = sources.iter().filter_map(|source| source.workload.clone()).collect();
    }

    /// Whose records they are: those of its pod, by uid, else by name; without a pod, of the workload that the service is called as.
    fn origin(&self, by: &PushedBy) -> Origin {
        let pod = self.pods.as_ref().and_then(|pods| pod(by, &pods.borrow()));
        let local = || {
            let local = WorkloadId::local(by.service.as_deref()?).ok()?;
            self.workloads.contains(&local).then_some(local)
        };
        let container = run(by, pod.as_deref()).map(Container::of).map(|container| match &pod {
            Some(pod) => container.known(pod),
            None => container,
        });
        let name = pod.as_ref().map(|pod| pod.name.clone()).or_else(|| by.pod.clone());
        Origin {
            host: Arc::clone(&self.host),
            workload: match &pod {
                Some(pod) => pod.workload.clone(),
                None => local(),
            },
            replica: name.or_else(|| by.instance.clone()),
            path: String::new(),
            container,
        }
    }
}

fn pod(by: &PushedBy, pods: &PodTable) -> Option<Arc<Pod>> {
    let by_uid = by.pod_uid.as_deref().and_then(|uid| pods.pod(uid));
    let by_name = || pods.named(by.namespace.as_deref()?, by.pod.as_deref()?);
    by_uid.or_else(by_name).cloned()
}

/// Which container; of a pod that is known, a sender that does not say which may still say which pod.
fn run(by: &PushedBy, pod: Option<&Pod>) -> Option<Run> {
    let text = |known: Option<&String>, said: &Option<String>| -> Box<str> {
        known.or(said.as_ref()).map(String::as_str).unwrap_or_default().into()
    };
    let namespace = text(pod.map(|pod| &pod.namespace), &by.namespace);
    let name = text(pod.map(|pod| &pod.name), &by.pod);
    if namespace.is_empty() || name.is_empty() {
        return None;
    }
    Some(Run {
        namespace,
        pod: name,
        uid: text(pod.map(|pod| &pod.uid), &by.pod_uid),
        container: text(None, &by.container),
        restart: by.restarts.unwrap_or_default(),
    })
}

impl Records {
    /// Takes lines of the spool, notes them as read, and makes entries of them.
    pub(super) fn take_pushed(
        &self,
        tailed: &Tailed,
        lines: Vec<RawLine>,
        now: Moment,
        senders: &Senders,
        entries: &mut Vec<Entry>,
    ) {
        let mut last: Option<(PushedBy, Origin)> = None;
        for line in lines {
            let (place, mark) = self.note(tailed, &line, now);
            // What cannot be read was not written here, and is shipped as it is.
            let pushed = PushedLine::decode(&line.bytes).unwrap_or_else(|| PushedLine {
                body: String::from_utf8_lossy(&line.bytes).into_owned(),
                ..PushedLine::default()
            });
            let origin = match last.take() {
                Some((by, origin)) if by == pushed.by => origin,
                _ => senders.origin(&pushed.by),
            };
            let (by, id) = (pushed.by.clone(), pushed.id.unwrap_or(place));
            let (document, shown) = record(pushed.parsed(), &origin, (id, line.start), None, now.at);
            self.recent.keep(shown, now);
            self.ledger.read(origin.workload.as_ref(), 1);
            let resumed = line.start < tailed.resumed_until;
            entries.push(Entry { id, document, marks: vec![mark], resumed });
            last = Some((by, origin));
        }
        self.note_head(tailed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_sender_is_its_pod_or_else_a_workload_of_its_name() {
        let chat = WorkloadId::local("chat").unwrap();
        let of = |workload: Option<WorkloadId>| Pod {
            uid: "u1".into(),
            namespace: "shop".into(),
            name: "chat-0".into(),
            labels: BTreeMap::from([("app.kubernetes.io/name".into(), "chat".into())]),
            workload,
            ..Pod::default()
        };
        let elsewhere = WorkloadId::local("of-the-pod").unwrap();
        let table = PodTable::new(BTreeMap::from([("u1".into(), Arc::new(of(Some(elsewhere.clone()))))]));
        let (_pods, known) = watch::channel(table);
        let senders =
            Senders { host: "node-a".into(), pods: Some(known), workloads: BTreeSet::from([chat.clone()]) };
        let by = |pod_uid: Option<&str>, pod: Option<&str>| PushedBy {
            service: Some("chat".into()),
            instance: Some("i".into()),
            namespace: Some("shop".into()),
            pod: pod.map(str::to_owned),
            pod_uid: pod_uid.map(str::to_owned),
            container: Some("server".into()),
            restarts: Some(2),
        };
        for by in [by(Some("u1"), None), by(None, Some("chat-0"))] {
            let origin = senders.origin(&by);
            assert_eq!(
                (origin.workload, origin.replica.as_deref()),
                (Some(elsewhere.clone()), Some("chat-0"))
            );
            let container = origin.container.unwrap();
            assert_eq!((&*container.pod_uid, &*container.run.container), ("u1", "server"));
            assert_eq!(container.labels.unwrap()[0].0, "app_kubernetes_io/name");
        }
        let stranger = senders.origin(&by(Some("u2"), Some("other")));
        assert_eq!(stranger.workload, Some(chat), "no pod of this node");
        assert!(stranger.container.unwrap().labels.is_none());
        let service = senders.origin(&by(None, None));
        assert_eq!((service.replica.as_deref(), service.container), (Some("i"), None));
        let unknown = senders.origin(&PushedBy { service: Some("other".into()), ..PushedBy::default() });
        assert_eq!((unknown.workload, unknown.replica), (None, None));
    }
}
