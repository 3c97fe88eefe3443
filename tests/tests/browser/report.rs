//! The page of `tidegate backtest --html`, opened from the disk: all of it is drawn, answers its reader, and asks for nothing.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::json;
use tidegate_tests::servers::{Browser, binary};

use crate::page::SOON;

/// A day of five minutes each, with a burst in the part that is scored.
fn load() -> String {
    let mut text = String::from("timestamp_s,value\n");
    for step in 0..288 {
        let value = if (260..264).contains(&step) { 90 } else { 12 + step % 3 };
        writeln!(text, "{},{value}", step * 300).expect("writing to a string succeeds");
    }
    text
}

#[tokio::test]
async fn the_report_opens_anywhere_and_answers_its_reader() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    std::fs::write(dir.path().join("load.csv"), load()).expect("the directory is writable");
    let arguments =
        ["backtest", "load.csv", "--days", "0.2", "--policies", "tidegate,hpa", "--html", "report.html"];
    let ended =
        Command::new(binary()).args(arguments).current_dir(dir.path()).output().expect("it was built");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));

    let browser = Browser::start(1280, 900).await;
    browser.prefer_dark(false).await;
    browser.open(&format!("file://{}", dir.path().join("report.html").display())).await;
    browser.wait_until("'drawn' in document.documentElement.dataset", SOON).await;
    holds(&browser, "performance.getEntriesByType('resource').length === 0").await;

    says_what_came_of_it(&browser).await;
    a_zoom_can_be_reset(&browser).await;
    light_and_dark_can_be_chosen(&browser).await;
    browser.resize(400, 800).await;
    browser.wait_until("document.scrollingElement.scrollWidth <= innerWidth", SOON).await;
    for chart in ["fronts", "timeline", "worst"] {
        let drawn =
            format!("document.querySelector('[data-testid={chart}] .main-svg').getBoundingClientRect()");
        browser.wait_until(&format!("(({{ left, right, height }}) => left >= 0 && right <= innerWidth && height > 200)({drawn})"), SOON).await;
    }
    assert_eq!(browser.console_errors().await, Vec::<String>::new());
}

async fn holds(browser: &Browser, expression: &str) {
    let held = browser.run(&format!("return {expression};")).await;
    assert_eq!(held, json!(true), "`{expression}` does not hold");
}

async fn says_what_came_of_it(browser: &Browser) {
    let text = |name: &str| format!("document.querySelector('[data-testid={name}]').innerText");
    holds(browser, &format!("{}.startsWith('With Tidegate, ')", text("summary"))).await;
    holds(browser, "document.querySelectorAll('[data-testid=policies] tbody tr').length === 3").await;
    let fronts = "document.querySelector('[data-testid=fronts] .chart').data.map(({ name, x }) => name + x.length).join()";
    assert_eq!(browser.run(&format!("return {fronts};")).await, json!("Tidegate4,HPA5,Oracle5"));
    holds(browser, &format!("{}.includes('arrivals went from')", text("worst"))).await;
    browser.click("[data-testid=worst] .decided .late summary").await;
    holds(browser, "document.querySelectorAll('[data-testid=worst] details[open] li').length > 1").await;
}

async fn a_zoom_can_be_reset(browser: &Browser) {
    let (x, y) = browser.centre_of("[data-testid=timeline] .chart").await;
    let range = "document.querySelector('[data-testid=timeline] .chart').layout.xaxis.range.join()";
    let whole = browser.run(&format!("return {range};")).await;
    browser.drag((x - 100.0, y - 100.0), (x + 100.0, y - 100.0)).await;
    browser.wait_until("!document.querySelector('[data-testid=reset-zoom]').hidden", SOON).await;
    holds(browser, &format!("{range} !== {whole}")).await;
    browser.click("[data-testid=reset-zoom]").await;
    browser.wait_until(&format!("{range} === {whole}"), SOON).await;
    holds(browser, "document.querySelector('[data-testid=reset-zoom]').hidden").await;
}

async fn light_and_dark_can_be_chosen(browser: &Browser) {
    let colours = "[getComputedStyle(document.body).backgroundColor, document.querySelector('[data-testid=fronts] .chart').layout.font.color]";
    let light = browser.run(&format!("return {colours};")).await;
    browser.click("[data-testid=theme-toggle]").await;
    browser.wait_until(&format!("{colours}.every((each) => !{light}.includes(each))"), SOON).await;
    browser.click("[data-testid=theme-toggle]").await;
    browser.wait_until(&format!("{colours}.join() === {light}.join()"), SOON).await;
    browser.prefer_dark(true).await;
    // What was chosen stays, whatever the reader's system prefers.
    holds(browser, &format!("{colours}.join() === {light}.join()")).await;
}
