//! A headless Chromium, driven as a person would: real pointer moves, drags and clicks. Which page, and what it must show, is for the tests.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fantoccini::actions::{InputSource, MouseActions, PointerAction};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::Method;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use url::{ParseError, Url};

use super::{Program, free_port};
use crate::waiting;

const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a pointer takes to get somewhere: a jump would skip the events between.
const POINTER_MOVE: Duration = Duration::from_millis(150);
const LEFT_BUTTON: u64 = 0;

/// No sandbox: it needs user namespaces, which build machines often refuse. All else keeps Chromium from talking to anything but the page.
const FLAGS: [&str; 12] = [
    "--headless",
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
    client: Client,
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
        let session =
            ClientBuilder::new(HttpConnector::new()).capabilities(capabilities(profile.path())).to_owned();
        let url = format!("http://127.0.0.1:{port}");
        let mut refused = None;
        let client = waiting::within(READY_LIMIT, async || {
            assert!(driver.ended().is_none(), "chromedriver ended: {}{}", driver.output(), driver.errors());
            session.connect(&url).await.map_err(|error| refused = Some(error)).ok()
        });
        let client = client.await.unwrap_or_else(|| panic!("Chromium did not start: {refused:?}"));
        let browser = Self { client, _driver: driver, _profile: profile };
        browser.resize(width, height).await;
        browser
    }

    /// Opens a page and waits until it is loaded.
    ///
    /// # Panics
    /// When it cannot be loaded.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap_or_else(|error| panic!("{url} did not open: {error}"));
    }

    /// Runs JavaScript in the page: the body of a function, so `return` gives the value.
    ///
    /// # Panics
    /// When it throws.
    pub async fn run(&self, script: &str) -> Value {
        let done = self.client.execute(script, Vec::new()).await;
        done.unwrap_or_else(|error| panic!("`{script}` threw: {error}"))
    }

    /// Waits until a JavaScript expression is true. One that throws is not true yet.
    ///
    /// # Panics
    /// When it did not become true within `limit`.
    pub async fn wait_until(&self, expression: &str, limit: Duration) {
        let script = format!("try {{ return Boolean({expression}); }} catch (_) {{ return false; }}");
        waiting::until(expression, limit, async || {
            let value = self.client.execute(&script, Vec::new()).await.ok()?;
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
        let picture = self.client.screenshot().await.expect("a page can be pictured");
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
        let place = self.client.execute(script, vec![json!(selector)]).await.expect("the script is valid");
        match (place[0].as_f64(), place[1].as_f64()) {
            (Some(x), Some(y)) => (x, y),
            _ => panic!("the page has no element {selector}"),
        }
    }

    /// Moves the pointer to a place and leaves it there.
    pub async fn hover(&self, at: (f64, f64)) {
        self.act(mouse().then(move_to(at))).await;
    }

    /// Presses at one place, moves to another, lets go.
    pub async fn drag(&self, from: (f64, f64), to: (f64, f64)) {
        let press = PointerAction::Down { button: LEFT_BUTTON };
        let release = PointerAction::Up { button: LEFT_BUTTON };
        let halfway = ((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0);
        self.act(
            mouse().then(move_to(from)).then(press).then(move_to(halfway)).then(move_to(to)).then(release),
        )
        .await;
    }

    /// Clicks a place.
    pub async fn click_at(&self, at: (f64, f64)) {
        let press = PointerAction::Down { button: LEFT_BUTTON };
        let release = PointerAction::Up { button: LEFT_BUTTON };
        self.act(mouse().then(move_to(at)).then(press).then(release)).await;
    }

    /// Clicks the first element that matches a CSS selector, as a person would: it must be visible and not covered.
    ///
    /// # Panics
    /// When there is none, or something lies over it.
    pub async fn click(&self, selector: &str) {
        let found = self.client.find(Locator::Css(selector)).await;
        let found = found.unwrap_or_else(|error| panic!("the page has no element {selector}: {error}"));
        found.click().await.unwrap_or_else(|error| panic!("{selector} could not be clicked: {error}"));
    }

    /// What the page wrote to the console as errors since the last call, failed loads included.
    ///
    /// # Panics
    /// When the driver does not answer.
    pub async fn console_errors(&self) -> Vec<String> {
        let entries =
            self.client.issue_cmd(Extension::ConsoleLog).await.expect("the driver keeps the console");
        let entries = entries.as_array().cloned().unwrap_or_default();
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        severe.filter_map(|entry| entry["message"].as_str().map(str::to_owned)).collect()
    }

    /// The raw client, for what has no shorthand here.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    async fn act(&self, actions: MouseActions) {
        self.client.perform_actions(actions).await.expect("a pointer can be moved");
    }

    async fn devtools(&self, command: &'static str, parameters: Value) {
        let sent = self.client.issue_cmd(Extension::DevTools { command, parameters }).await;
        sent.unwrap_or_else(|error| panic!("Chromium refused {command}: {error}"));
    }
}

fn mouse() -> MouseActions {
    MouseActions::new("mouse".to_owned())
}

fn move_to((x, y): (f64, f64)) -> PointerAction {
    PointerAction::MoveTo { duration: Some(POINTER_MOVE), x, y }
}

fn capabilities(profile: &Path) -> Map<String, Value> {
    let mut flags: Vec<Value> = FLAGS.iter().map(|flag| json!(flag)).collect();
    flags.push(json!(format!("--user-data-dir={}", profile.join("profile").display())));
    let wanted = json!({
        "goog:chromeOptions": { "args": flags },
        "goog:loggingPrefs": { "browser": "ALL" },
    });
    wanted.as_object().cloned().expect("it is written as an object")
}

/// Commands that chromedriver has beyond the standard.
#[derive(Debug)]
enum Extension {
    DevTools { command: &'static str, parameters: Value },
    ConsoleLog,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base_url: &Url, session_id: Option<&str>) -> Result<Url, ParseError> {
        let session = session_id.expect("only sent within a session");
        let path = match self {
            Self::DevTools { .. } => "goog/cdp/execute",
            Self::ConsoleLog => "se/log",
        };
        base_url.join(&format!("session/{session}/{path}"))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = match self {
            Self::DevTools { command, parameters } => json!({ "cmd": command, "params": parameters }),
            Self::ConsoleLog => json!({ "type": "browser" }),
        };
        (Method::POST, Some(body.to_string()))
    }
}
