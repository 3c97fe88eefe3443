//! A headless Chromium, driven as a person would: real pointer moves, drags and clicks. Which page, and what it must show, is for the tests.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Program, free_port};
use crate::waiting;

mod webdriver;

use webdriver::{Pointer, Session};

const READY_LIMIT: Duration = Duration::from_secs(60);
/// No sandbox: it needs user namespaces, which build machines often refuse. All else keeps Chromium from talking to anything but the page.
/// Scroll bars lie over the page, as on a telephone: their width is the browser's matter, not the page's.
const FLAGS: [&str; 13] = [
    "--headless",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
];

/// One browser with one tab.
#[derive(Debug)]
pub struct Browser {
    session: Session,
    _driver: Program,
    _profile: TempDir,
}

impl Browser {
    /// Starts one whose page area is of this size, in pixels.
    ///
    /// # Panics
    /// When Chromium or its driver does not start.
    pub async fn start(width: u32, height: u32) -> Self {
        let profile = tempfile::Builder::new().prefix("tidegate-chromium-").tempdir();
        let profile = profile.expect("a temporary directory can be made");
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).env("HOME", profile.path());
        let mut driver = Program::start("chromedriver", &mut command, profile.path());
        let (url, wanted) = (format!("http://127.0.0.1:{port}"), capabilities(profile.path()));
        let mut refused = None;
        let session = waiting::within(READY_LIMIT, async || {
            assert!(driver.ended().is_none(), "chromedriver ended: {}{}", driver.output(), driver.errors());
            Session::start(&url, &wanted).await.map_err(|error| refused = Some(error)).ok()
        });
        let session = session.await.unwrap_or_else(|| panic!("Chromium did not start: {refused:?}"));
        let browser = Self { session, _driver: driver, _profile: profile };
        browser.resize(width, height).await;
        browser
    }

    /// Opens a page and waits until it is loaded.
    ///
    /// # Panics
    /// When it cannot be loaded.
    pub async fn open(&self, url: &str) {
        self.session.open(url).await.unwrap_or_else(|error| panic!("{url} did not open: {error}"));
    }

    /// Runs JavaScript in the page: the body of a function, so `return` gives the value.
    ///
    /// # Panics
    /// When it throws.
    pub async fn run(&self, script: &str) -> Value {
        let done = self.session.run(script, &[]).await;
        done.unwrap_or_else(|error| panic!("`{script}` threw: {error}"))
    }

    /// Waits until a JavaScript expression is true. One that throws is not true yet.
    ///
    /// # Panics
    /// When it did not become true within `limit`.
    pub async fn wait_until(&self, expression: &str, limit: Duration) {
        let script = format!("try {{ return Boolean({expression}); }} catch (_) {{ return false; }}");
        waiting::until(expression, limit, async || {
            let value = self.session.run(&script, &[]).await.ok()?;
            value.as_bool().filter(|held| *held)
        })
        .await;
    }

    /// Gives the page area another size, in pixels. Below 500 wide a window cannot go; the page area can.
    pub async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Makes the page believe that its reader prefers dark (or light) colours.
    pub async fn prefer_dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Writes what the page area shows to a PNG file.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub async fn screenshot(&self, path: &Path) {
        let picture = self.session.screenshot().await.expect("a page can be pictured");
        std::fs::write(path, picture)
            .unwrap_or_else(|error| panic!("{} was not written: {error}", path.display()));
    }

    /// Centre of the first element that matches a CSS selector, in pixels of the page area, after scrolling it into view.
    ///
    /// # Panics
    /// When there is none.
    pub async fn centre_of(&self, selector: &str) -> (f64, f64) {
        let script = "const found = document.querySelector(arguments[0]);
            if (!found) { return null; }
            found.scrollIntoView({ block: 'center', behavior: 'instant' });
            const box = found.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];";
        let place = self.session.run(script, &[json!(selector)]).await.expect("the script is valid");
        match (place[0].as_f64(), place[1].as_f64()) {
            (Some(x), Some(y)) => (x, y),
            _ => panic!("the page has no element {selector}"),
        }
    }

    /// Moves the pointer to a place and leaves it there.
    pub async fn hover(&self, at: (f64, f64)) {
        self.point(&[Pointer::Move(at.0, at.1)]).await;
    }

    /// Presses at one place, moves to another, lets go.
    pub async fn drag(&self, from: (f64, f64), to: (f64, f64)) {
        let halfway = Pointer::Move(f64::midpoint(from.0, to.0), f64::midpoint(from.1, to.1));
        let (start, end) = (Pointer::Move(from.0, from.1), Pointer::Move(to.0, to.1));
        self.point(&[start, Pointer::Press, halfway, end, Pointer::Release]).await;
    }

    /// Clicks a place.
    pub async fn click_at(&self, at: (f64, f64)) {
        self.point(&[Pointer::Move(at.0, at.1), Pointer::Press, Pointer::Release]).await;
    }

    /// Clicks the first element that matches a CSS selector, as a person would: it must be visible and not covered.
    ///
    /// # Panics
    /// When there is none, or something lies over it.
    pub async fn click(&self, selector: &str) {
        // To the middle of the page area: the driver is content with an edge, where what sticks there may lie over it.
        self.centre_of(selector).await;
        let clicked = self.session.click(selector).await;
        clicked.unwrap_or_else(|error| panic!("{selector} could not be clicked: {error}"));
    }

    /// What the page wrote to the console as errors since the last call, failed loads included.
    ///
    /// # Panics
    /// When the driver does not answer.
    pub async fn console_errors(&self) -> Vec<String> {
        let entries = self.session.console().await.expect("the driver keeps the console");
        let entries = entries.as_array().cloned().unwrap_or_default();
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        severe.filter_map(|entry| entry["message"].as_str().map(str::to_owned)).collect()
    }

    async fn point(&self, steps: &[Pointer]) {
        self.session.point(steps).await.expect("a pointer can be moved");
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        let sent = self.session.devtools(command, &parameters).await;
        sent.unwrap_or_else(|error| panic!("Chromium refused {command}: {error}"));
    }
}

fn capabilities(profile: &Path) -> Value {
    let mut flags: Vec<Value> = FLAGS.iter().map(|flag| json!(flag)).collect();
    flags.push(json!(format!("--user-data-dir={}", profile.join("profile").display())));
    json!({
        "goog:chromeOptions": { "args": flags },
        "goog:loggingPrefs": { "browser": "ALL" },
    })
}
