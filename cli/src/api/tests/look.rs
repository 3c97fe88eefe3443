//! The page as a person sees it, with made-up figures that move.

use std::time::Duration;

use super::Service;
use super::fake::{Fake, SERVE};

/// With `TIDEGATE_LOOK_SECONDS=600` it stays for a browser to look at, at the address and with the token that it prints
/// under `--nocapture`; with `TIDEGATE_LOOK_EMPTY=1` without workloads, with `TIDEGATE_LOOK_TOKEN=1` asking for a token.
#[tokio::test(flavor = "multi_thread")]
async fn the_figures_that_the_page_reads_move() {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let mut fake = Fake::new(!is_set("TIDEGATE_LOOK_EMPTY"));
    fake.empty = is_set("TIDEGATE_LOOK_EMPTY");
    let service = Service::with(fake, |mut listen| {
        listen.token_always = is_set("TIDEGATE_LOOK_TOKEN");
        listen
    })
    .await;
    println!("look at {} with the token {}", service.url("/"), service.token);
    let seconds = std::env::var("TIDEGATE_LOOK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    for _ in 0..seconds {
        if !service.fake.empty {
            service.fake.tick();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if seconds == 0 {
        let path = format!("/api/v1/workloads/{SERVE}/series?signal={}", super::DEMAND.name());
        let first = service.json(&path).await;
        let moved = async {
            while service.json(&path).await == first {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // The default step over an hour is six seconds.
        tokio::time::timeout(Duration::from_secs(10), moved).await.unwrap();
    }
}
