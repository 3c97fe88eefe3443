//! The page as the tests look at it: opened, with `page.js` in it, and no fault in the console. What it must show is for the tests.

use std::ops::Deref;
use std::time::Duration;

use serde_json::Value;
use tidegate_tests::servers::{Browser, Tidegate};

/// The answer to what a reader does, and the next news: the page reads again every few seconds, on a busy two-core machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// What takes the demo a while: replicas that start, replays that need traffic.
pub(crate) const LATER: Duration = Duration::from_secs(120);

pub(crate) const SERVING: &str = "local/process/digits-serve";
pub(crate) const TRAINING: &str = "local/process/digits-train";

/// An opened page.
#[derive(Debug)]
pub(crate) struct Page {
    browser: Browser,
}

impl Deref for Page {
    type Target = Browser;

    fn deref(&self) -> &Browser {
        &self.browser
    }
}

impl Page {
    /// Opens the page of a running Tidegate and waits until it is live.
    pub(crate) async fn open(tidegate: &Tidegate) -> Self {
        let browser = Browser::start(1280, 900).await;
        browser.open(tidegate.url()).await;
        browser.run(include_str!("page.js")).await;
        let page = Self { browser };
        page.wait_until("seen.byId('connection').dataset.state === 'live'", SOON).await;
        page
    }

    /// Fails unless a JavaScript expression is true now.
    pub(crate) async fn holds(&self, expression: &str) {
        let held = self.value(expression).await;
        assert_eq!(held, Value::Bool(true), "`{expression}` does not hold");
    }

    /// The value of a JavaScript expression.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression};")).await
    }

    /// Keeps the present value of an expression as `seen.kept.NAME`, to compare a later one with.
    pub(crate) async fn keep(&self, name: &str, expression: &str) {
        self.run(&format!("seen.kept.{name} = {expression};")).await;
    }

    /// Waits until an expression has another value than now.
    pub(crate) async fn wait_for_change(&self, name: &str, expression: &str) {
        self.keep(name, expression).await;
        self.wait_until(&format!("{expression} !== seen.kept.{name}"), SOON).await;
    }

    /// Gives a field of a form this value, as typing or choosing does.
    pub(crate) async fn set(&self, field: &str, value: &str) {
        self.run(&format!(
            "const field = seen.byId('{field}'); field.value = '{value}';
             field.dispatchEvent(new Event('input', {{ bubbles: true }}));"
        ))
        .await;
    }

    /// Selects a workload and waits until its charts are drawn, known by one of their lines.
    pub(crate) async fn select(&self, workload: &str, line: &str) {
        self.click(&format!(
            "[data-testid=workload][data-workload='{workload}'] [data-testid=select-workload]"
        ))
        .await;
        self.wait_until(&format!("seen.trace('{line}').y.some((value) => value !== null)"), SOON).await;
    }

    /// Fails when the console has an error: a script's, a file that did not load, a breach of the content security policy.
    pub(crate) async fn is_clean(&self) {
        assert_eq!(self.console_errors().await, Vec::<String>::new());
    }
}
