//! The service over real HTTP on loopback, in front of a made-up backend.

mod fake;
mod guarded;
mod look;
mod served;
mod shapes;

use std::net::SocketAddr;
use std::sync::Arc;

use self::fake::Fake;
use super::Listen;
use super::listen::Bound;

/// The demand of the made-up serving workload.
const DEMAND: tidegate_core::Signal = tidegate_core::Signal::RequestsPerSecond;

/// A service that ends with the test.
struct Service {
    addr: SocketAddr,
    fake: Arc<Fake>,
    token: String,
    client: reqwest::Client,
    // Dropped last: its end stops the service.
    _stop: tokio::sync::oneshot::Sender<()>,
    _dir: tempfile::TempDir,
}

impl Service {
    async fn start(fake: Fake) -> Self {
        Self::with(fake, |listen| listen).await
    }

    async fn with(fake: Fake, change: impl FnOnce(Listen) -> Listen) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let listen = change(Listen::loopback(([127, 0, 0, 1], 0).into(), path.clone()));
        let bound = listen.bind().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let token = text.lines().last().unwrap().split(' ').next().unwrap().to_owned();
        let (addr, fake) = (addr_of(&bound), Arc::new(fake));
        let stop = serve(bound, Arc::clone(&fake));
        Self { addr, fake, token, client: client(), _stop: stop, _dir: dir }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    async fn json(&self, path: &str) -> serde_json::Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "application/json", "{path}");
        response.json().await.unwrap()
    }
}

fn addr_of(bound: &Bound) -> SocketAddr {
    bound.url().split_once("://").unwrap().1.parse().unwrap()
}

fn client() -> reqwest::Client {
    // Twice by two tests is as good as once.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn serve(bound: Bound, fake: Arc<Fake>) -> tokio::sync::oneshot::Sender<()> {
    let (stop, stopped) = tokio::sync::oneshot::channel();
    tokio::spawn(bound.serve(fake, async move {
        // A sender that is dropped stops as well as one that sends.
        drop(stopped.await);
    }));
    stop
}
