//! A kubelet and an API server of our own, over real sockets: they come, go, hang and lie.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use prost::Message as _;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::messages::core::{ContainerStatus, ObjectMeta, PodSpec, PodStatus};
use super::messages::podresources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use super::messages::podresources::{
    ContainerDevices, ContainerResources, ListPodResourcesRequest, ListPodResourcesResponse, PodResources,
};
use super::messages::pods::pods_server::{Pods, PodsServer};
use super::messages::pods::{EventType, WatchPodsEvent, WatchPodsRequest};
use super::messages::{self};
use super::*;
use crate::export::Registry;

/// Bound of every wait: far beyond what any of these takes.
const PATIENCE: Duration = Duration::from_secs(20);
const GPU: &str = "GPU-8f6c2f4e-0b5d-4c1e-9b5a-7f0d2c9e8b41";

fn message(uid: &str, name: &str) -> messages::core::Pod {
    let metadata =
        ObjectMeta { name: name.into(), namespace: "ml".into(), uid: uid.into(), ..ObjectMeta::default() };
    let container =
        ContainerStatus { name: "vllm".into(), ready: true, restart_count: 4, ..ContainerStatus::default() };
    let status = PodStatus { ephemeral_container_statuses: vec![container], ..PodStatus::default() };
    messages::core::Pod { metadata: Some(metadata), spec: Some(PodSpec::default()), status: Some(status) }
}

fn event(kind: EventType, pod: Option<messages::core::Pod>) -> WatchPodsEvent {
    WatchPodsEvent { r#type: kind.into(), pod: pod.map(|pod| pod.encode_to_vec()).unwrap_or_default() }
}

/// Tells its first events to everybody who asks, and then those that come.
#[derive(Clone)]
struct Kubelet {
    first: Arc<Mutex<Vec<WatchPodsEvent>>>,
    then: broadcast::Sender<WatchPodsEvent>,
    devices: Arc<Mutex<ListPodResourcesResponse>>,
    asked: Arc<AtomicUsize>,
    /// So many answers more without any pod, as just after a start.
    forgets: Arc<AtomicUsize>,
}

impl Kubelet {
    fn with(pods: &[(&str, &str)]) -> Self {
        let mut first: Vec<_> =
            pods.iter().map(|(uid, name)| event(EventType::Added, Some(message(uid, name)))).collect();
        first.push(event(EventType::InitialSyncComplete, None));
        Self {
            first: Arc::new(Mutex::new(first)),
            then: broadcast::channel(16).0,
            devices: Arc::default(),
            asked: Arc::default(),
            forgets: Arc::default(),
        }
    }

    fn tell(&self, kind: EventType, uid: &str, name: &str) {
        self.then.send(event(kind, Some(message(uid, name)))).unwrap();
    }

    /// Listens below `dir` while the result lives.
    fn serve(&self, dir: &Path) -> Serving {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let _entered = runtime.enter();
        let listen = |path: &str| {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::remove_file(&path).ok();
            UnixListenerStream::new(UnixListener::bind(path).unwrap())
        };
        let (pods, devices) = (listen(PODS_SOCKET), listen("pod-resources/kubelet.sock"));
        let of_pods = Server::builder().serve_with_incoming(PodsServer::new(self.clone()), pods);
        let of_devices =
            Server::builder().serve_with_incoming(PodResourcesListerServer::new(self.clone()), devices);
        runtime.spawn(async { of_pods.await.unwrap() });
        runtime.spawn(async { of_devices.await.unwrap() });
        Serving(Some(runtime))
    }
}

/// A kubelet at work in threads of its own. Its end breaks off every connection and leaves the sockets' files behind, as a kill does.
struct Serving(Option<tokio::runtime::Runtime>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

#[tonic::async_trait]
impl Pods for Kubelet {
    type WatchPodsStream = ReceiverStream<Result<WatchPodsEvent, Status>>;

    async fn watch_pods(
        &self,
        _: Request<WatchPodsRequest>,
    ) -> Result<Response<Self::WatchPodsStream>, Status> {
        let mut events = self.then.subscribe();
        let first = self.first.lock().unwrap().clone();
        let (out, stream) = mpsc::channel(16);
        tokio::spawn(async move {
            for event in first {
                out.send(Ok(event)).await.ok();
            }
            loop {
                tokio::select! {
                    () = out.closed() => return,
                    event = events.recv() => match event {
                        Ok(event) => drop(out.send(Ok(event)).await),
                        Err(_) => return,
                    },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Kubelet {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let forgets =
            self.forgets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let known = || self.devices.lock().unwrap().clone();
        Ok(Response::new(if forgets.is_ok() { ListPodResourcesResponse::default() } else { known() }))
    }
}

/// A follower at work, ended with the test.
struct Following {
    table: watch::Receiver<PodTable>,
    board: Arc<StatusBoard>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Following {
    fn start(sources: PodSources) -> Self {
        let (sender, table) = watch::channel(PodTable::default());
        let (stop, stopped) = watch::channel(false);
        let board = Arc::new(StatusBoard::new(Arc::new(Registry::new())));
        let task = tokio::spawn(follow_pods(sources, sender, Arc::clone(&board), stopped));
        Self { table, board, stop, task }
    }

    fn of_kubelet(dir: &Path) -> Self {
        Self::start(PodSources { kubelet: dir.to_owned(), api_server: None })
    }

    async fn until(&mut self, holds: impl FnMut(&PodTable) -> bool) -> PodTable {
        let waiting = self.table.wait_for(holds);
        timeout(PATIENCE, waiting).await.expect("it never held").unwrap().clone()
    }

    async fn end(self) {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

fn names(table: &PodTable) -> Vec<&str> {
    table.pods().map(|pod| pod.name.as_str()).collect()
}

#[tokio::test]
async fn the_kubelet_tells_and_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::with(&[("u-1", "chat-1"), ("u-2", "chat-2")]);
    let serving = kubelet.serve(dir.path());
    let mut following = Following::of_kubelet(dir.path());
    let table = following.until(PodTable::is_in_step).await;
    assert_eq!(names(&table), ["chat-1", "chat-2"]);
    assert_eq!(table.pod("u-1").unwrap().containers[0].restarts, Some(4));
    assert_eq!(following.board.get().sources[&SourceName::Pods].up, Some(true));
    kubelet.then.send(WatchPodsEvent { r#type: 99, pod: vec![1] }).unwrap();
    kubelet.then.send(WatchPodsEvent { r#type: EventType::Added.into(), pod: vec![0xff; 9] }).unwrap();
    kubelet.tell(EventType::Deleted, "u-1", "chat-1");
    kubelet.tell(EventType::Added, "u-3", "chat-3");
    kubelet.tell(EventType::Modified, "u-2", "renamed");
    let table = following.until(|table| names(table) == ["renamed", "chat-3"]).await;
    assert!(table.is_in_step(), "an event of a later version and a broken pod are passed over");
    drop(serving);
    following.end().await;
}

#[tokio::test]
async fn the_last_table_stays_while_the_kubelet_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut following = Following::of_kubelet(dir.path());
    let kubelet = Kubelet::with(&[("u-1", "chat-1")]);
    let serving = kubelet.serve(dir.path());
    following.until(PodTable::is_in_step).await;
    drop(serving);
    let table = following.until(|table| !table.is_in_step()).await;
    assert_eq!(names(&table), ["chat-1"]);
    assert!(table.age(&clock::now()).is_some_and(|age| age < PATIENCE));
    let kubelet = Kubelet::with(&[("u-4", "chat-4")]);
    let serving = kubelet.serve(dir.path());
    let table = following.until(PodTable::is_in_step).await;
    assert_eq!(names(&table), ["chat-4"], "it has come back with other pods");
    drop(serving);
    following.end().await;
}

#[tokio::test]
async fn nobody_to_ask_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let following = Following::of_kubelet(dir.path());
    let told = async {
        while following.board.get().sources.get(&SourceName::Pods).is_none_or(|pods| pods.up != Some(false)) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    assert_eq!(following.board.get().sources[&SourceName::Pods].cause, Some(Cause::Unreachable));
    assert_eq!(following.table.borrow().age(&clock::now()), None);
    following.end().await;
}

/// An API server that lists one pod for a node, and then tells that it is gone.
async fn api_server(requests: Arc<Mutex<Vec<String>>>) -> kube::Client {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |request: hyper::Request<hyper::body::Incoming>| {
        let query = request.uri().to_string();
        requests.lock().unwrap().push(query.clone());
        let pod = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"chat-1","namespace":"ml","uid":"u-1","resourceVersion":"7"},"spec":{"nodeName":"node-a","containers":[]},"status":{}}"#;
        let text = if query.contains("watch=") {
            format!("{{\"type\":\"DELETED\",\"object\":{pod}}}\n")
        } else {
            format!(
                r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"7"}},"items":[{pod}]}}"#
            )
        };
        let is_watch = query.contains("watch=");
        async move {
            let (out, chunks) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
            tokio::spawn(async move {
                out.send(Ok(Frame::data(text.into()))).await.ok();
                // A watch stays open until its client goes.
                if is_watch {
                    out.closed().await;
                }
            });
            let body = BodyExt::boxed(StreamBody::new(ReceiverStream::new(chunks)));
            let response = hyper::Response::builder().header("content-type", "application/json").body(body);
            Ok::<_, Infallible>(response.unwrap())
        }
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(answer.clone());
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
        }
    });
    kube::Client::try_from(kube::Config::new(format!("http://{address}").parse().unwrap())).unwrap()
}

#[tokio::test]
async fn the_api_server_is_asked_for_this_node_where_the_kubelet_has_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let client = api_server(Arc::clone(&requests)).await;
    let server = ApiServer { client, node: "node-a".into() };
    let mut following = Following::start(PodSources { kubelet: dir.path().into(), api_server: Some(server) });
    let table = following.until(PodTable::is_in_step).await;
    assert!(table.len() <= 1, "one pod, or already gone");
    let table = following.until(|table| table.is_in_step() && table.is_empty()).await;
    assert_eq!(names(&table), [""; 0]);
    for request in requests.lock().unwrap().iter() {
        assert!(request.contains("fieldSelector=spec.nodeName%3Dnode-a"), "{request}");
    }
    following.end().await;
}

#[tokio::test]
async fn a_kubelet_that_tells_no_pods_is_left_for_the_api_server() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join(PODS_SOCKET);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    // Listens, and breaks off whatever comes.
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let client = api_server(Arc::default()).await;
    let server = ApiServer { client, node: "node-a".into() };
    let mut following = Following::start(PodSources { kubelet: dir.path().into(), api_server: Some(server) });
    following.until(PodTable::is_in_step).await;
    following.end().await;
}

const FAST: AskPace = AskPace { min: Duration::from_millis(50), max: Duration::from_millis(200) };

#[tokio::test]
async fn devices_are_joined_with_the_pods_and_outlive_the_kubelet() {
    let dir = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::with(&[]);
    let devices = vec![ContainerDevices {
        resource_name: "nvidia.com/gpu".into(),
        device_ids: vec![format!("{GPU}::1")],
    }];
    let container = ContainerResources { name: "vllm".into(), devices, ..ContainerResources::default() };
    *kubelet.devices.lock().unwrap() = ListPodResourcesResponse {
        pod_resources: vec![PodResources {
            name: "chat-1".into(),
            namespace: "ml".into(),
            containers: vec![container],
        }],
    };
    let serving = kubelet.serve(dir.path());
    let (table, pods) = watch::channel(PodTable::default());
    let (sender, mut owners) = watch::channel(Arc::<Owners>::default());
    let (stop, stopped) = watch::channel(false);
    let board = Arc::new(StatusBoard::new(Arc::new(Registry::new())));
    let task =
        tokio::spawn(follow_devices(dir.path().into(), FAST, pods, sender, Arc::clone(&board), stopped));
    let uid = |owners: &Arc<Owners>| owners.of_gpu(GPU, None).first().map(|owner| owner.pod_uid.clone());
    timeout(PATIENCE, owners.wait_for(|owners| uid(owners) == Some(None))).await.unwrap().unwrap();
    let pod = Pod { uid: "u-1".into(), namespace: "ml".into(), name: "chat-1".into(), ..Pod::default() };
    table.send_replace(PodTable::new([("u-1".to_owned(), Arc::new(pod))].into()));
    let joined = owners.wait_for(|owners| uid(owners) == Some(Some("u-1".into())));
    let joined = timeout(PATIENCE, joined).await.unwrap().unwrap().clone();
    assert!(joined.of_gpu(GPU, None)[0].shared);
    let (forgets, asked) = (Arc::clone(&kubelet.forgets), Arc::clone(&kubelet.asked));
    forgets.store(1, Ordering::Relaxed);
    let said_again = async {
        while forgets.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        let then = asked.load(Ordering::Relaxed);
        while asked.load(Ordering::Relaxed) == then {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, said_again).await.unwrap();
    assert!(
        !owners.has_changed().unwrap(),
        "what a kubelet that has just started does not know is not believed"
    );
    drop(serving);
    let lost = async {
        while board.get().sources[&SourceName::Devices].up != Some(false) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, lost).await.unwrap();
    assert_eq!(**owners.borrow(), *joined, "the last answer stays");
    let again = kubelet.serve(dir.path());
    kubelet.devices.lock().unwrap().pod_resources.clear();
    timeout(PATIENCE, owners.wait_for(|owners| owners.by_device().is_empty())).await.unwrap().unwrap();
    drop(again);
    stop.send_replace(true);
    timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_kubelet_is_not_asked_more_often_than_it_likes() {
    let dir = tempfile::tempdir().unwrap();
    let (table, pods) = watch::channel(PodTable::default());
    let (sender, _owners) = watch::channel(Arc::<Owners>::default());
    let (_stop, stopped) = watch::channel(false);
    let registry = Arc::new(Registry::new());
    let board = Arc::new(StatusBoard::new(Arc::clone(&registry)));
    // No socket: each try fails at once, and is counted.
    tokio::spawn(follow_devices(dir.path().into(), AskPace::default(), pods, sender, board, stopped));
    let labels = [
        (tidegate_core::Label::Source, "devices"),
        (tidegate_core::Label::Cause, Cause::Unreachable.as_str()),
    ];
    let asked = || registry.counter(tidegate_core::Metric::SourceErrors, &labels).get();
    for _ in 0..200 {
        sleep(Duration::from_millis(100)).await;
        table.send_replace(PodTable::default());
    }
    assert!((2.0..=3.0).contains(&asked()), "{} times in 20 s of constant change", asked());
    let before = asked();
    sleep(Duration::from_secs(130)).await;
    assert!((2.0..=3.0).contains(&(asked() - before)), "every minute when nothing changes");
}
