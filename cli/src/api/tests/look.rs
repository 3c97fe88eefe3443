//! Not a test of anything: serves the page with made-up figures, for looking at it.

use std::time::Duration;

use super::{Service, fake::Fake};

/// `TIDEGATE_LOOK=127.0.0.1:8899 cargo test -p tidegate serves_the_page_for_looking_at_it -- --ignored`, for ten minutes.
/// With `TIDEGATE_LOOK_EMPTY=1`, as without workloads.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "serves for looking at"]
async fn serves_the_page_for_looking_at_it() {
    let addr = std::env::var("TIDEGATE_LOOK").unwrap_or_else(|_| "127.0.0.1:8899".into()).parse().unwrap();
    let is_empty = std::env::var_os("TIDEGATE_LOOK_EMPTY").is_some();
    let mut fake = Fake::new(!is_empty);
    fake.empty = is_empty;
    let service = Service::with(fake, |mut listen| {
        listen.addr = addr;
        listen
    })
    .await;
    for _ in 0..600 {
        if !is_empty {
            service.fake.tick();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
