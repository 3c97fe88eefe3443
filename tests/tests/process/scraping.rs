//! Scrape targets that misbehave: one that never answers, one that never stops. `up` stays as it was, and says the cause.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_core::{Label, Metric};
use tidegate_tests::servers::Tidegate;
use tidegate_tests::waiting;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::written::{folder, up_on};

const LIMIT: Duration = Duration::from_secs(30);
/// What a target sends in one answer: far more than the bound on a page.
const BODY_BYTES: usize = 100 * 1024 * 1024;
/// What such a page may cost in memory: the bound on a page is 16 MiB, and pages are not kept.
const GROWTH_KB_MAX: u64 = 48 * 1024;
/// An API that waits for a scrape would take as long as the scrape's deadline, two seconds.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// What a target does with a connection.
#[derive(Clone, Copy)]
enum Target {
    Hangs,
    Floods,
    Answers,
}

/// A target on the loopback; it ends with the test.
async fn target(kind: Target) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, kind));
        }
    });
    format!("http://{address}/metrics")
}

async fn serve(mut connection: TcpStream, kind: Target) -> std::io::Result<()> {
    let mut request = [0; 4096];
    while connection.read(&mut request).await? > 0 {
        match kind {
            Target::Hangs => std::future::pending().await,
            Target::Answers => connection.write_all(page("queued 3\n").as_bytes()).await?,
            Target::Floods => flood(&mut connection).await?,
        }
    }
    Ok(())
}

fn page(body: &str) -> String {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length:";
    format!("{head} {}\r\n\r\n{body}", body.len())
}

async fn flood(connection: &mut TcpStream) -> std::io::Result<()> {
    let head = page("").replace("Length: 0", &format!("Length: {BODY_BYTES}"));
    connection.write_all(head.as_bytes()).await?;
    let lines: String = (0..1000).map(|line| format!("junk{{line=\"{line:0>1000}\"}} 1\n")).collect();
    for _ in 0..BODY_BYTES / lines.len() {
        connection.write_all(lines.as_bytes()).await?;
    }
    Ok(())
}

fn watched(name: &str, url: &str) -> Value {
    let rule = json!({ "family": "queued", "signal": "queued_requests", "how": "gauge_sum" });
    json!({
        "name": name,
        "metrics": { "urls": [url], "rules": [rule] },
        "serving": { "replicas": { "min": 1, "max": 4 }, "slo": { "latency": "500ms", "target": 0.99 } },
    })
}

/// Waits until refused scrapes of the target are counted with this cause, while another target goes on being read.
async fn counted(server: &mut Tidegate, url: &str, cause: &str) {
    let (family, target, label) =
        (Metric::ScrapeErrors.family().name, Label::Target.name(), Label::Cause.name());
    let wanted = format!("{family}{{");
    let mut page = String::new();
    let found = waiting::within(LIMIT, async || {
        let answer = timeout(ANSWER_MAX, server.metrics()).await;
        page = answer.unwrap_or_else(|_| panic!("its metrics took more than {ANSWER_MAX:?}"));
        let bad = page.lines().filter(|line| line.starts_with(&wanted)).any(|line| {
            line.contains(&format!("{target}=\"{url}\"")) && line.contains(&format!("{label}=\"{cause}\""))
        });
        let detail = server.workload("good").await?;
        let read = detail["signals"].as_array()?.iter().any(|signal| signal["signal"] == "queued_requests");
        (bad && read).then_some(())
    });
    let found = found.await.is_some();
    assert!(found, "no {cause} of {url} in\n{page}\n{}", server.program().errors());
}

#[tokio::test]
async fn a_target_that_hangs_is_given_up_and_the_others_are_read() {
    let (bad, good) = (target(Target::Hangs).await, target(Target::Answers).await);
    let mut server = up_on(folder(), &[watched("bad", &bad), watched("good", &good)]).await;
    counted(&mut server, &bad, "timeout").await;
    assert_eq!(server.interrupt().code(), Some(0), "{}", server.program().errors());
}

/// The most memory that a process has held, in kilobytes.
fn peak_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("it is a number")
}

#[tokio::test]
async fn a_target_that_sends_100_mb_is_cut_off_and_costs_no_memory() {
    let (bad, good) = (target(Target::Floods).await, target(Target::Answers).await);
    let alone = up_on(folder(), &[watched("good", &good)]).await;
    let mut server = up_on(folder(), &[watched("bad", &bad), watched("good", &good)]).await;
    counted(&mut server, &bad, "too_large").await;
    let (peak, usual) = (peak_kb(server.program().id()), {
        let mut alone = alone;
        peak_kb(alone.program().id())
    });
    assert!(peak < usual + GROWTH_KB_MAX, "{peak} kB at most, {usual} kB without such a target");
    assert_eq!(server.interrupt().code(), Some(0), "{}", server.program().errors());
}
