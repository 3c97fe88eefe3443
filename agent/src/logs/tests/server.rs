//! A scripted server on loopback that speaks enough of the interface, keeps what it is given by id, and fails on purpose.
//!
//! Like the true one, it knows a conflict only within one backing index, and may store what it then does not acknowledge.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tidegate_core::Field;
use tokio::net::TcpListener;

use super::STREAM;

/// Which faults may happen, in parts of a hundred requests or lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Faults {
    /// The request is refused as a whole with 429 or 503.
    busy: u32,
    /// It is stored, and the answer is 503, cut off, or never comes.
    lost: u32,
    /// It is refused as too large when it has more lines than this.
    lines_max: usize,
    /// A line is answered with 429 or 503.
    line_busy: u32,
}

impl Faults {
    pub(super) const fn none() -> Self {
        Self { busy: 0, lost: 0, lines_max: usize::MAX, line_busy: 0 }
    }

    pub(super) const fn every() -> Self {
        Self { busy: 15, lost: 15, lines_max: 40, line_busy: 10 }
    }
}

#[derive(Debug)]
struct State {
    random: ChaCha8Rng,
    faults: Faults,
    /// Backing indices, each with its documents by id; the last is written.
    indices: Vec<BTreeMap<String, Value>>,
    templates: BTreeMap<String, Value>,
    roll_over_behind_lost_answer: bool,
}

/// The server; it ends with the test's runtime.
#[derive(Debug, Clone)]
pub(super) struct FaultyServer {
    port: u16,
    state: Arc<Mutex<State>>,
}

/// What becomes of one request.
enum Fate {
    Answer(u16, Value),
    /// The connection ends without an answer.
    Cut,
    /// Nothing ever comes.
    Silence,
}

impl FaultyServer {
    pub(super) async fn start(seed: u64, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            random: ChaCha8Rng::seed_from_u64(seed),
            faults,
            indices: vec![BTreeMap::new()],
            templates: BTreeMap::new(),
            roll_over_behind_lost_answer: false,
        };
        let server = Self { port, state: Arc::new(Mutex::new(state)) };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| server.clone().serve(request));
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends all faults.
    pub(super) fn heal(&self) {
        self.state.lock().unwrap().faults = Faults::none();
    }

    /// The next bulk request is stored, its answer never comes, and a new backing index is begun.
    pub(super) fn lose_next_answer_and_roll_over(&self) {
        self.state.lock().unwrap().roll_over_behind_lost_answer = true;
    }

    /// Every document of every backing index; one that was stored twice is here twice.
    pub(super) fn documents(&self) -> Vec<Value> {
        self.state.lock().unwrap().indices.iter().flat_map(|index| index.values().cloned()).collect()
    }

    pub(super) fn templates(&self) -> Vec<(String, Value)> {
        self.state.lock().unwrap().templates.clone().into_iter().collect()
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let fate = self.state.lock().unwrap().fate(parts.method.as_str(), parts.uri.path(), &bytes);
        match fate {
            Fate::Answer(status, body) => {
                let answer = Response::builder().status(status).body(Full::from(body.to_string()));
                Ok(answer.unwrap())
            }
            Fate::Cut => Err(std::io::Error::other("cut on purpose")),
            Fate::Silence => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Err(std::io::Error::other("nobody waited"))
            }
        }
    }
}

impl State {
    fn fate(&mut self, method: &str, path: &str, body: &[u8]) -> Fate {
        let stream = path.strip_prefix(&format!("/{STREAM}/"));
        match (method, path, stream) {
            (_, _, Some("_bulk")) => self.bulk(body),
            _ if path.ends_with("/_mget") => self.get_many(path, &serde_json::from_slice(body).unwrap()),
            ("GET", "/", _) => Fate::Answer(200, json!({ "version": { "number": "8.19.21" } })),
            ("POST", "/_security/user/_has_privileges", _) => Fate::Answer(405, json!({})),
            _ if path == format!("/_resolve/index/{STREAM}") => {
                let names: Vec<String> = (0..self.indices.len()).map(name).collect();
                Fate::Answer(200, json!({ "data_streams": [{ "name": STREAM, "backing_indices": names }] }))
            }
            _ if path.starts_with("/_data_stream/tidegate-none") => {
                Fate::Answer(200, json!({ "data_streams": [] }))
            }
            ("GET", _, _) => self.template(path),
            ("PUT", _, _) => {
                self.templates.insert(path.to_owned(), serde_json::from_slice(body).unwrap());
                Fate::Answer(200, json!({ "acknowledged": true }))
            }
            _ => Fate::Answer(404, json!({})),
        }
    }

    fn template(&self, path: &str) -> Fate {
        let Some(body) = self.templates.get(path) else { return Fate::Answer(404, json!({})) };
        let kind = path.split('/').nth(1).unwrap().trim_start_matches('_');
        Fate::Answer(200, json!({ format!("{kind}s"): [{ kind: body }] }))
    }

    fn bulk(&mut self, body: &[u8]) -> Fate {
        let mut text = String::new();
        GzDecoder::new(body).read_to_string(&mut text).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.len() / 2 > self.faults.lines_max {
            return Fate::Answer(413, json!({}));
        }
        if self.happens(self.faults.busy) {
            return Fate::Answer(if self.happens(50) { 429 } else { 503 }, json!({}));
        }
        let items: Vec<Value> = lines.chunks(2).map(|pair| self.create(&pair[0], &pair[1])).collect();
        if std::mem::take(&mut self.roll_over_behind_lost_answer) {
            self.indices.push(BTreeMap::new());
            return Fate::Cut;
        }
        if self.happens(self.faults.lost) {
            return match self.random.random_range(0..3) {
                0 => Fate::Answer(503, json!({})),
                1 => Fate::Cut,
                _ => Fate::Silence,
            };
        }
        Fate::Answer(200, json!({ "items": items }))
    }

    fn create(&mut self, action: &Value, document: &Value) -> Value {
        if self.happens(self.faults.line_busy) {
            return json!({ "create": { "status": if self.happens(50) { 429 } else { 503 } } });
        }
        let id = action["create"]["_id"].as_str().unwrap().to_owned();
        let number = self.indices.len() - 1;
        let index = self.indices.last_mut().unwrap();
        if let Some(known) = index.get(&id) {
            let message = Field::Message.name();
            assert_eq!(known[message], document[message], "two lines have one id");
            return json!({ "create": { "status": 409, "error": { "type": "version_conflict_engine_exception" } } });
        }
        index.insert(id, document.clone());
        json!({ "create": { "status": 201, "_index": name(number) } })
    }

    fn get_many(&self, path: &str, query: &Value) -> Fate {
        let named = |number: &usize| path == format!("/{}/_mget", name(*number));
        let Some(number) = (0..self.indices.len()).find(named) else { return Fate::Answer(404, json!({})) };
        let document = |id: &Value| json!({ "_id": id, "found": self.indices[number].contains_key(id.as_str().unwrap()) });
        let documents: Vec<Value> = query["ids"].as_array().unwrap().iter().map(document).collect();
        Fate::Answer(200, json!({ "docs": documents }))
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }
}

fn name(number: usize) -> String {
    format!(".ds-{STREAM}-2026.01.31-{:06}", number + 1)
}
