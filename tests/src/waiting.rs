//! Waiting for a condition, with a bound. Tests never sleep for a time instead.

use std::time::Duration;

use tidegate_core::Timestamp;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Asks `probe` until it gives a value.
///
/// # Panics
/// When it gave none within `limit`; the message names `what`.
pub async fn until<T>(what: &str, limit: Duration, probe: impl AsyncFnMut() -> Option<T>) -> T {
    within(limit, probe).await.unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Asks `probe` until it gives a value, for callers who can say more than a panic; `None` when it gave none within `limit`.
pub async fn within<T>(limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let polling = async {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(value) = probe().await {
                return value;
            }
        }
    };
    timeout(limit, polling).await.ok()
}

/// The present time, for whoever plays an agent or compares it with a server's.
#[expect(clippy::disallowed_methods, reason = "tests play programs that have a clock")]
#[must_use]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_the_value_once_it_is_there() {
        let mut asked = 0;
        let value = until("the third time", Duration::from_secs(10), async || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(value.await, 3);
    }

    #[tokio::test]
    async fn gives_up_at_the_limit_even_when_the_probe_hangs() {
        let never = async || std::future::pending::<Option<()>>().await;
        assert_eq!(within(Duration::from_millis(50), never).await, None);
    }
}
