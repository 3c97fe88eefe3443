//! `tidegate agent` ships what containers write, from folders as the kubelet keeps them, to a real Elasticsearch: each line once, through
//! rotation with compression under load and a kill in the middle.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tidegate_agent::logs::elasticsearch::{Auth, ElasticsearchConfig, STREAM, install};
use tidegate_core::Field;
use tidegate_tests::servers::{Account, Elasticsearch, Program, binary};
use tidegate_tests::waiting;

const PATIENCE: Duration = Duration::from_secs(120);
/// Lines between two rotations, and how many there are of those.
const LINES: usize = 2_000;
const ROTATIONS: usize = 6;

/// A container's folder, and what has been written there.
struct Container {
    folder: PathBuf,
    lines: usize,
    rotations: usize,
}

impl Container {
    fn new(root: &Path) -> Self {
        let folder = root.join("var/log/pods/ml_chat-0_0b7c2f1e/vllm");
        fs::create_dir_all(&folder).expect("the directory is writable");
        Self { folder, lines: 0, rotations: 0 }
    }

    /// Each line in two pieces; another one of the other stream between them.
    fn write(&mut self, lines: usize) {
        let mut text = String::new();
        for n in (self.lines..self.lines + lines).step_by(2) {
            let at = "2026-10-06T00:17:09.123456789Z";
            text += &format!("{at} stdout P line \n{at} stderr F line {}\n{at} stdout F {n}\n", n + 1);
        }
        self.lines += lines;
        let file = fs::File::options().create(true).append(true).open(self.folder.join("0.log"));
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("the directory is writable");
    }

    /// In the kubelet's order: what was rotated before is compressed, the file gets another name, the runtime makes a new one.
    fn rotate(&mut self) {
        let name = |rotation: usize| self.folder.join(format!("0.log.20261006-{rotation:06}"));
        if self.rotations > 0 {
            let plain = name(self.rotations);
            let packed = Command::new("gzip").arg(&plain).status().expect("gzip is there");
            assert!(packed.success());
        }
        self.rotations += 1;
        fs::rename(self.folder.join("0.log"), name(self.rotations)).expect("it is there");
        fs::write(self.folder.join("0.log"), "").expect("the directory is writable");
    }
}

fn agent(name: &str, root: &Path, server: &Elasticsearch, password: &Path) -> Program {
    let mut command = Command::new(binary());
    command.args(["agent", "--node", "node-a", "--listen", "127.0.0.1:0", "--root"]).arg(root);
    for source in ["node", "containers", "pods", "scrape", "gpu"] {
        command.args(["--without", source]);
    }
    command.arg("--logs-to").arg(server.url()).arg("--logs-state").arg(root.join("state"));
    command.args(["--logs-user", Account::SHIPPER.user]).arg("--logs-password").arg(password);
    if let Some(ca) = server.ca_file() {
        command.arg("--logs-ca").arg(ca);
    }
    Program::start(name, command.env("HOME", root), root)
}

async fn ask(server: &Elasticsearch, path: &str, body: &Value) -> Value {
    let request = server.request(Method::POST, path, Account::ADMIN).json(body);
    let answer = request.send().await.expect("Elasticsearch answers");
    answer.json().await.expect("the answer is JSON")
}

async fn messages(server: &Elasticsearch) -> Vec<Value> {
    ask(server, &format!("{STREAM}/_refresh"), &json!({})).await;
    let (mut found, mut after) = (Vec::new(), json!([""]));
    loop {
        let order = json!([{ Field::EventId.name(): "asc" }]);
        let query = json!({ "size": 5000, "sort": order, "search_after": after });
        let answer = ask(server, &format!("{STREAM}/_search"), &query).await;
        let hits = answer["hits"]["hits"].as_array().cloned().unwrap_or_default();
        let Some(last) = hits.last() else { return found };
        after = last["sort"].clone();
        found.extend(hits.iter().map(|hit| hit["_source"].clone()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_containers_write_is_in_the_index_once() {
    let server = Elasticsearch::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let root = dir.path();
    let password = |account: Account| {
        let path = root.join(account.user);
        fs::write(&path, account.password).expect("the directory is writable");
        path
    };
    let (user, password_file) = (Account::ADMIN.user.to_owned(), password(Account::ADMIN));
    let admin = ElasticsearchConfig {
        auth: Auth::Basic { user, password_file },
        ca_file: server.ca_file().map(Path::to_owned),
        ..ElasticsearchConfig::new(server.url())
    };
    assert!(install(&admin).await.expect("the configuration is right").passed());
    let password = password(Account::SHIPPER);
    let mut container = Container::new(root);
    container.write(LINES);
    let mut first = agent("first", root, &server, &password);
    let some = async || (!messages(&server).await.is_empty()).then_some(());
    waiting::until("the first lines", PATIENCE, some).await;
    for rotation in 0..ROTATIONS {
        container.rotate();
        container.write(LINES);
        // Killed in the middle; what is rotated meanwhile is compressed when the next one comes.
        if rotation == ROTATIONS / 2 {
            first.signal(Signal::SIGKILL);
            first.wait(PATIENCE).expect("nothing survives KILL");
        }
    }
    let _second = agent("second", root, &server, &password);
    let wanted = container.lines;
    let all = async || {
        let count = ask(&server, &format!("{STREAM}/_count"), &json!({})).await;
        (count["count"].as_u64()? >= wanted as u64).then_some(())
    };
    waiting::until("all lines", PATIENCE, all).await;
    let found = messages(&server).await;
    let texts: BTreeSet<_> = found.iter().filter_map(|line| line[Field::Message.name()].as_str()).collect();
    let expected: BTreeSet<_> = (0..container.lines).map(|n| format!("line {n}")).collect();
    assert_eq!(texts, expected.iter().map(String::as_str).collect());
    assert_eq!(found.len(), container.lines, "no line stands there twice");
    let line = &found[0];
    for (field, value) in [
        (Field::KubernetesNamespace, "ml"),
        (Field::KubernetesPod, "chat-0"),
        (Field::KubernetesPodUid, "0b7c2f1e"),
        (Field::KubernetesContainer, "vllm"),
        (Field::KubernetesNode, "node-a"),
    ] {
        assert_eq!(line[field.name()], value);
    }
}
