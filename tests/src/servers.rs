//! Real servers for a test: each starts on a free loopback port in a directory of its own and ends with the test, also when it panics.
//! How they are built is no matter of this module: `cargo xtask test` does it and tells where they are.

use std::env;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

mod certificates;
mod chromium;
mod collector;
mod controller;
mod elasticsearch;
pub mod kubernetes;
mod program;
mod prometheus;
mod runtime;
mod tidegate;

pub use chromium::Browser;
pub use collector::Collector;
pub use controller::{Agent, Controller};
pub use elasticsearch::{Account, Elasticsearch};
pub use program::Program;
pub use prometheus::{PROMETHEUS_PASSWORD, PROMETHEUS_USER, Prometheus, promtool};
pub use runtime::Runtime;
pub use tidegate::Tidegate;

/// A request to a server on this machine that takes longer than this hangs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The directory in which `cargo xtask` built a server.
///
/// # Panics
/// When the suite was not started by `cargo xtask test`.
#[must_use]
pub fn directory(server: &str, suite: &str) -> PathBuf {
    let variable = format!("TIDEGATE_SERVER_{}", server.to_uppercase().replace('-', "_"));
    env::var_os(&variable)
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test --suite {suite}`"))
}

/// The release binary of Tidegate.
///
/// # Panics
/// When the suite was not started by `cargo xtask test`.
#[must_use]
pub fn binary() -> PathBuf {
    env::var_os("TIDEGATE_BIN").map(PathBuf::from).unwrap_or_else(|| {
        panic!("TIDEGATE_BIN is not set: run `cargo xtask test`, or `--suite NAME` for one suite")
    })
}

/// A port of the loopback that was free a moment ago.
///
/// # Panics
/// When the loopback has none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// An HTTP client for servers on this machine: no proxy, a bound on each request.
///
/// # Panics
/// When it cannot be made, which would be a fault of its options.
#[must_use]
pub fn http() -> reqwest::Client {
    http_options().build().expect("the options are valid")
}

/// The same, for servers whose certificate `ca` signed, in PEM.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn https(ca: &[u8]) -> reqwest::Client {
    let trusted = reqwest::Certificate::from_pem_bundle(ca).expect("the certificate is right");
    http_options().tls_certs_only(trusted).build().expect("the options are valid")
}

fn http_options() -> reqwest::ClientBuilder {
    crypto();
    reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT)
}

/// Says once with what TLS works in this process.
fn crypto() {
    static SAID: OnceLock<()> = OnceLock::new();
    SAID.get_or_init(|| {
        // Somebody else in this process may have installed the same one before.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "run `cargo xtask test --suite prometheus`")]
    fn says_what_to_run_when_a_server_is_not_there() {
        drop(directory("no-such-server", "prometheus"));
    }
}
