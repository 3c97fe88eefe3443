//! As much of the W3C WebDriver protocol as the tests need: one session, and commands that are JSON over HTTP. It knows nothing of pages.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::servers::http;

/// How long a pointer takes to get somewhere: a jump would skip the events between.
const POINTER_MOVE: Duration = Duration::from_millis(150);
const LEFT_BUTTON: u32 = 0;
/// The key under which the protocol gives an element's reference.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A command that the driver or the page refused, in its words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(String);

/// One step of a pointer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pointer {
    /// To a place, in pixels of the page area.
    Move(f64, f64),
    /// The left button down.
    Press,
    /// The left button up.
    Release,
}

/// A session: one browser.
#[derive(Debug, Clone)]
pub(super) struct Session {
    client: reqwest::Client,
    url: String,
}

impl Session {
    /// Has the driver start a browser with these capabilities.
    pub(super) async fn start(driver: &str, capabilities: &Value) -> Result<Self, Refused> {
        let client = http();
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let made = answer(client.post(format!("{driver}/session")).json(&wanted)).await?;
        let id =
            made["sessionId"].as_str().ok_or_else(|| Refused("the driver named no session".to_owned()))?;
        Ok(Self { client, url: format!("{driver}/session/{id}") })
    }

    /// Opens a page and waits until it is loaded.
    pub(super) async fn open(&self, url: &str) -> Result<(), Refused> {
        self.post("url", &json!({ "url": url })).await.map(drop)
    }

    /// Runs the body of a JavaScript function; `arguments` are its.
    pub(super) async fn run(&self, script: &str, arguments: &[Value]) -> Result<Value, Refused> {
        self.post("execute/sync", &json!({ "script": script, "args": arguments })).await
    }

    /// A PNG of what the page area shows.
    pub(super) async fn screenshot(&self) -> Result<Vec<u8>, Refused> {
        let picture = answer(self.client.get(format!("{}/screenshot", self.url))).await?;
        STANDARD.decode(picture.as_str().unwrap_or_default()).map_err(|error| Refused(error.to_string()))
    }

    /// Clicks the first element that matches a CSS selector; refused when there is none or something lies over it.
    pub(super) async fn click(&self, selector: &str) -> Result<(), Refused> {
        let found = self.post("element", &json!({ "using": "css selector", "value": selector })).await?;
        let id = found[ELEMENT].as_str().ok_or_else(|| Refused("the driver gave no element".to_owned()))?;
        self.post(&format!("element/{id}/click"), &json!({})).await.map(drop)
    }

    /// Has the mouse do these steps, one after the other.
    pub(super) async fn point(&self, steps: &[Pointer]) -> Result<(), Refused> {
        let steps: Vec<Value> = steps.iter().copied().map(Pointer::to_json).collect();
        let mouse = json!({ "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" }, "actions": steps });
        self.post("actions", &json!({ "actions": [mouse] })).await.map(drop)
    }

    /// A command of Chromium's own `DevTools` protocol.
    pub(super) async fn devtools(&self, command: &str, parameters: &Value) -> Result<Value, Refused> {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    /// What was written to the console since the last call.
    pub(super) async fn console(&self) -> Result<Value, Refused> {
        self.post("se/log", &json!({ "type": "browser" })).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Refused> {
        answer(self.client.post(format!("{}/{path}", self.url)).json(body)).await
    }
}

impl Pointer {
    fn to_json(self) -> Value {
        let whole_milliseconds =
            u64::try_from(POINTER_MOVE.as_millis()).expect("it is a fraction of a second");
        match self {
            Self::Move(x, y) => {
                json!({ "type": "pointerMove", "duration": whole_milliseconds, "origin": "viewport", "x": x.round(), "y": y.round() })
            }
            Self::Press => json!({ "type": "pointerDown", "button": LEFT_BUTTON }),
            Self::Release => json!({ "type": "pointerUp", "button": LEFT_BUTTON }),
        }
    }
}

/// The `value` of an answer; an error in it, or none at all, is a refusal.
async fn answer(request: reqwest::RequestBuilder) -> Result<Value, Refused> {
    let refused = |error: reqwest::Error| Refused(error.to_string());
    let mut body: Value = request.send().await.map_err(refused)?.json().await.map_err(refused)?;
    let value = body["value"].take();
    match value["error"].as_str() {
        Some(error) => Err(Refused(format!("{error}: {}", value["message"].as_str().unwrap_or_default()))),
        None => Ok(value),
    }
}
