//! Scraping of real sockets on this machine: what answers, what hangs, what breaks off, what sends too much.

use super::*;
use crate::collect::reading::Coverage;
use crate::export::Registry;
use std::sync::Mutex;
use tidegate_core::{Label, Metric, Signal, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a test target does with a connection.
#[derive(Clone)]
enum Answer {
    /// Sends this page; may be changed while it runs.
    Page(Arc<Mutex<String>>),
    /// Takes the request and never answers.
    Hang,
    /// Sends the start of a page and closes, though it promised more.
    BreakOff(&'static str),
    /// Sends lines without end, or until the other side has had enough.
    Endless,
    /// Answers rightly, but after this time.
    Slow(Duration),
    /// Answers with this status.
    Status(u16),
}

async fn serve(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_one(stream, answer.clone()));
        }
    });
    url
}

async fn answer_one(mut stream: TcpStream, answer: Answer) -> Option<()> {
    let mut request = [0; 4096];
    // A request of this test is far below one packet of the loopback.
    let got = stream.read(&mut request).await.ok()?;
    assert!(request[..got].ends_with(b"\r\n\r\n"));
    let head = |status: u16, length: usize| {
        format!(
            "HTTP/1.1 {status} X\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let text = match answer {
        Answer::Hang => return std::future::pending().await,
        Answer::Page(page) => {
            let page = page.lock().unwrap().clone();
            head(200, page.len()) + &page
        }
        Answer::BreakOff(page) => head(200, page.len() + 1000) + page,
        Answer::Status(status) => head(status, 0),
        Answer::Slow(after) => {
            tokio::time::sleep(after).await;
            head(200, 19) + "digits_in_flight 9\n"
        }
        Answer::Endless => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndigits_in_flight 7\n")
                .await
                .ok()?;
            let chunk = "noise{a=\"b\"} 1\n".repeat(4096);
            loop {
                stream.write_all(chunk.as_bytes()).await.ok()?;
            }
        }
    };
    stream.write_all(text.as_bytes()).await.ok()
}

fn target(name: &str, url: String) -> ScrapeTarget {
    ScrapeTarget {
        workload: WorkloadId::local("chat").unwrap(),
        name: name.to_owned(),
        url,
        rules: Vec::new(),
        select: BTreeMap::new(),
        objective: None,
        deadline: Duration::from_secs(5),
        rarely: false,
    }
}

struct Bench {
    source: ScrapeSource,
    board: Arc<StatusBoard>,
    registry: Arc<Registry>,
    targets: watch::Sender<Vec<ScrapeTarget>>,
}

fn bench(targets: Vec<ScrapeTarget>) -> Bench {
    let (sender, receiver) = watch::channel(targets);
    let registry = Arc::new(Registry::new());
    let board = Arc::new(StatusBoard::new(Arc::clone(&registry)));
    let limits = ScrapeLimits { body_bytes_max: 1_000_000, ..ScrapeLimits::default() };
    Bench {
        source: ScrapeSource::new(receiver, limits, Arc::clone(&board)),
        board,
        registry,
        targets: sender,
    }
}

fn at(seconds: u64) -> Moment {
    Moment { at: Timestamp::from_secs(0), steady: Duration::from_secs(seconds) }
}

fn value(reading: &Reading, signal: Signal) -> Option<f64> {
    reading.samples.iter().find(|sample| sample.signal == signal).map(|sample| sample.value)
}

fn coverage(reading: &Reading, signal: Signal) -> Coverage {
    reading.coverage[&(WorkloadId::local("chat").unwrap(), signal)]
}

fn page(count: u32) -> Arc<Mutex<String>> {
    Arc::new(Mutex::new(digits(count)))
}

fn digits(count: u32) -> String {
    format!("digits_requests_total{{code=\"200\"}} {count}\ndigits_in_flight 3\n")
}

#[tokio::test]
async fn replicas_add_up() {
    let (first, second) = (page(100), page(500));
    let urls =
        [serve(Answer::Page(Arc::clone(&first))).await, serve(Answer::Page(Arc::clone(&second))).await];
    let [a, b] = urls;
    let mut bench = bench(vec![target("a", a), target("b", b)]);
    let before = bench.source.read(at(0)).await;
    assert_eq!(value(&before, Signal::InFlight), Some(6.0));
    assert_eq!(value(&before, Signal::CompletionsPerSecond), None, "one page has no rate");
    *first.lock().unwrap() = digits(200);
    *second.lock().unwrap() = digits(800);
    let after = bench.source.read(at(10)).await;
    assert_eq!(value(&after, Signal::CompletionsPerSecond), Some(40.0));
    assert_eq!(value(&after, Signal::RequestsPerSecond), Some(40.0));
    assert_eq!(coverage(&after, Signal::RequestsPerSecond), Coverage { answered: 2, of: 2 });
    assert_eq!(bench.board.get().targets[0].runtimes, ["digits"]);
}

#[tokio::test]
async fn a_target_that_hangs_is_taken_to_be_like_the_others() {
    let good = serve(Answer::Page(page(1))).await;
    let stuck =
        ScrapeTarget { deadline: Duration::from_millis(200), ..target("stuck", serve(Answer::Hang).await) };
    let mut bench = bench(vec![target("good", good), stuck]);
    let reading = bench.source.read(at(0)).await;
    assert_eq!(value(&reading, Signal::InFlight), Some(6.0), "3 would be as if it served nothing");
    assert_eq!(coverage(&reading, Signal::InFlight), Coverage { answered: 1, of: 2 });
    assert!(!coverage(&reading, Signal::InFlight).is_whole());
    let status = &bench.board.get().targets[1];
    assert!(!status.up && status.causes.contains_key(&Cause::Timeout));
}

#[tokio::test]
async fn a_slow_target_is_taken_up_in_the_next_round() {
    let slow = serve(Answer::Slow(ROUND_MAX * 3 / 2)).await;
    let mut bench = bench(vec![target("slow", slow)]);
    assert!(bench.source.read(at(0)).await.samples.is_empty(), "the round does not wait for it");
    let next = bench.source.read(at(5)).await;
    assert_eq!(value(&next, Signal::InFlight), Some(9.0));
    assert_eq!(coverage(&next, Signal::InFlight), Coverage { answered: 1, of: 1 });
}

#[tokio::test]
async fn where_nobody_decides_a_target_is_asked_in_one_round_of_some_and_its_word_holds_meanwhile() {
    let count = page(0);
    let url = serve(Answer::Page(Arc::clone(&count))).await;
    let mut bench = bench(vec![ScrapeTarget { rarely: true, ..target("a", url) }]);
    let mut told = Vec::new();
    for second in 1..=2 * RARELY {
        *count.lock().unwrap() = digits(u32::try_from(second * 10).unwrap());
        let now = Moment { at: Timestamp::from_secs(i64::try_from(second).unwrap()), ..at(second) };
        let reading = bench.source.read(now).await;
        assert_eq!(value(&reading, Signal::InFlight), Some(3.0), "it is told in every round");
        let rate = reading.samples.iter().find(|sample| sample.signal == Signal::CompletionsPerSecond);
        told.push(rate.map(|sample| (sample.value, sample.at)));
    }
    // At once where it was never asked, then by turns: a rate over all seconds since, of the time at which it was asked.
    told.dedup();
    let turns: Vec<_> = told.into_iter().flatten().collect();
    assert!((1..=2).contains(&turns.len()), "{turns:?}");
    assert!(turns.iter().all(|(rate, _)| (rate - 10.0).abs() < 1e-9), "{turns:?}");
    assert!(turns.windows(2).all(|pair| pair[1].1.since(pair[0].1) == Duration::from_secs(RARELY)));
}

#[tokio::test]
async fn when_none_answers_nothing_is_told() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut bench = bench(vec![
        target("closed", format!("http://{closed}/metrics")),
        target("refusing", serve(Answer::Status(503)).await),
        target("https", "https://127.0.0.1/metrics".into()),
    ]);
    let reading = bench.source.read(at(0)).await;
    assert!(reading.samples.is_empty());
    let status = bench.board.get();
    let causes: Vec<_> = status.targets.iter().flat_map(|target| target.causes.keys().copied()).collect();
    assert_eq!(causes, [Cause::Unreachable, Cause::HttpStatus, Cause::BadAddress]);
}

#[tokio::test]
async fn a_page_without_end_is_cut_and_its_good_lines_kept() {
    let mut bench = bench(vec![target("endless", serve(Answer::Endless).await)]);
    let reading = bench.source.read(at(0)).await;
    assert_eq!(value(&reading, Signal::InFlight), Some(7.0));
    let causes = bench.board.get().targets[0].causes.clone();
    assert!(
        causes.contains_key(&Cause::TooLarge) || causes.contains_key(&Cause::TooManySeries),
        "{causes:?}"
    );
}

#[tokio::test]
async fn a_page_that_breaks_off_keeps_what_is_whole() {
    let broken = Answer::BreakOff("digits_queue_depth 4\ndigits_in_flight 3\ndigits_in_fl");
    let mut bench = bench(vec![target("broken", serve(broken).await)]);
    let reading = bench.source.read(at(0)).await;
    assert_eq!(value(&reading, Signal::Queued), Some(4.0));
    assert_eq!(value(&reading, Signal::InFlight), None, "more of it may have been to come");
    assert!(bench.board.get().targets[0].causes.contains_key(&Cause::BrokenOff));
}

#[tokio::test]
async fn targets_may_come_and_go() {
    let counted = page(100);
    let url = serve(Answer::Page(Arc::clone(&counted))).await;
    let mut bench = bench(vec![]);
    assert!(bench.source.read(at(0)).await.samples.is_empty());
    bench.targets.send_replace(vec![target("a", url.clone())]);
    bench.source.read(at(10)).await;
    *counted.lock().unwrap() = digits(150);
    bench.targets.send_replace(vec![target("new", url.clone()), target("a", url)]);
    let reading = bench.source.read(at(20)).await;
    assert_eq!(value(&reading, Signal::CompletionsPerSecond), Some(5.0), "what is known of `a` is kept");
    let whole = Coverage { answered: 1, of: 1 };
    assert_eq!(coverage(&reading, Signal::CompletionsPerSecond), whole, "the new one has served nothing yet");
    assert_eq!(coverage(&reading, Signal::InFlight), Coverage { answered: 2, of: 2 });
    bench.targets.send_replace(vec![]);
    bench.source.read(at(30)).await;
    assert!(bench.board.get().targets.is_empty());
}

#[tokio::test]
async fn a_page_of_something_else_says_so() {
    let other = Arc::new(Mutex::new("go_goroutines 7\n".to_owned()));
    let mut bench = bench(vec![target("other", serve(Answer::Page(other)).await)]);
    assert!(bench.source.read(at(0)).await.samples.is_empty());
    let status = &bench.board.get().targets[0];
    assert!(status.up && status.causes.contains_key(&Cause::NothingKnown));
}

#[tokio::test]
async fn a_target_that_restarts_or_goes_takes_no_demand_with_it() {
    let pages = [page(100), page(100)];
    let [a, b] =
        [serve(Answer::Page(Arc::clone(&pages[0]))).await, serve(Answer::Page(Arc::clone(&pages[1]))).await];
    let mut bench = bench(vec![target("a", a.clone()), target("b", b)]);
    let mut round = async |seconds: u64, counts: [u32; 2], keep: usize| {
        for (page, count) in pages.iter().zip(counts) {
            *page.lock().unwrap() = digits(count);
        }
        let targets = bench.targets.borrow()[..keep].to_vec();
        bench.targets.send_replace(targets);
        value(&bench.source.read(at(seconds)).await, Signal::RequestsPerSecond)
    };
    assert_eq!(round(0, [100, 100], 2).await, None, "one look has no rate");
    assert_eq!(round(10, [150, 200], 2).await, Some(15.0));
    assert_eq!(round(20, [200, 3], 2).await, Some(10.0), "what the restarted one had is unknown, not 0");
    assert_eq!(round(30, [250, 103], 2).await, Some(15.0));
    assert_eq!(
        round(40, [300, 0], 1).await,
        Some(5.0),
        "its requests in flight are not taken off the other's"
    );
}

#[tokio::test]
async fn one_of_several_models_in_a_server_is_selected() {
    let of = |count: u32| {
        format!(
            "vllm:request_success_total{{model_name=\"a\"}} {count}\nvllm:request_success_total{{model_name=\"b\"}} 0\n\
             vllm:num_requests_running{{model_name=\"a\"}} 3\nvllm:num_requests_running{{model_name=\"b\"}} 40\n"
        )
    };
    let both = Arc::new(Mutex::new(of(0)));
    let url = serve(Answer::Page(Arc::clone(&both))).await;
    let select = |name: &str| BTreeMap::from([("model_name".to_owned(), name.to_owned())]);
    let workload = |name: &str| ScrapeTarget {
        workload: WorkloadId::local(name).unwrap(),
        select: select(name),
        ..target(name, url.clone())
    };
    let mut bench = bench(vec![workload("a"), workload("b")]);
    bench.source.read(at(0)).await;
    *both.lock().unwrap() = of(50);
    let reading = bench.source.read(at(10)).await;
    let of = |name: &str, signal| {
        let subject = tidegate_core::Subject::Workload(WorkloadId::local(name).unwrap());
        reading.samples.iter().find(|s| s.subject == subject && s.signal == signal).map(|s| s.value)
    };
    assert_eq!(of("a", Signal::RequestsPerSecond), Some(5.0));
    assert_eq!(of("b", Signal::RequestsPerSecond), Some(0.0));
    assert_eq!((of("a", Signal::InFlight), of("b", Signal::InFlight)), (Some(3.0), Some(40.0)));
}

#[tokio::test]
async fn the_runtimes_of_a_page_are_told_as_long_as_they_are_on_it() {
    let nested = "vllm:num_requests_running 1\nray_serve_replica_processing_queries 1\n".to_owned();
    let page = Arc::new(Mutex::new(nested));
    let mut bench = bench(vec![target("a", serve(Answer::Page(Arc::clone(&page))).await)]);
    let told = |bench: &Bench| {
        let shown = |runtime| {
            let labels = [(Label::Target, "a"), (Label::Runtime, runtime)];
            bench.registry.gauge(Metric::ScrapeTargetRuntime, &labels).get()
        };
        (bench.board.get().targets[0].runtimes.clone(), shown("vllm"), shown("ray-serve"))
    };
    bench.source.read(at(0)).await;
    assert_eq!(told(&bench), (vec!["vllm".to_owned(), "ray-serve".to_owned()], Some(1.0), Some(1.0)));
    *page.lock().unwrap() = "ray_serve_replica_processing_queries 1\n".to_owned();
    bench.source.read(at(10)).await;
    assert_eq!(told(&bench), (vec!["ray-serve".to_owned()], None, Some(1.0)));
}
