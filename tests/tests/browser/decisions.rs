//! The decisions of the selected workload: one opens, and shows what the API knows of it.

use serde_json::Value;
use tidegate_tests::waiting;

use crate::page::{LATER, Page, SERVING, SOON};

/// Marks the newest decision that names the HPA's figure, so that it stays the one looked at while others come.
const MARK: &str = "const found = seen.all('decision').find((each) => /HPA \\d/.test(each.querySelector('summary').innerText));
if (!found) { return false; }
found.setAttribute('data-chosen', '');
return true;";

pub(crate) async fn one_opens_with_its_reasons_and_the_hpa(page: &Page) {
    waiting::until("a decision beside which the HPA stands", LATER, async || {
        (page.run(MARK).await == true).then_some(())
    })
    .await;
    page.click("[data-chosen] summary").await;
    page.wait_until("document.querySelector('[data-chosen]').open && document.querySelector('[data-chosen] [data-testid=hpa]')", SOON)
        .await;

    let decision = as_the_api_tells_it(page).await;
    let told = decision["reasons"].as_array().expect("a decision has reasons");
    assert!(told.len() >= 3, "{decision}");
    let shown = page.value("[...document.querySelectorAll('[data-chosen] [data-testid=reason]')].map((each) => [each.dataset.code, each.querySelector('.text').innerText, each.querySelectorAll('dt').length])").await;
    let expected: Vec<_> =
        told.iter().map(|reason| (reason["code"].clone(), reason["text"].clone(), values(reason))).collect();
    assert_eq!(shown, serde_json::json!(expected));
    page.holds("document.querySelectorAll('[data-chosen] .decisive').length === 1").await;

    let hpa = page.value("document.querySelector('[data-chosen] [data-testid=hpa]').innerText").await;
    let expected =
        format!("A Kubernetes HPA with default settings would ask for {}.", decision["baseline"]["hpa"]);
    assert_eq!(hpa, expected.as_str());
}

/// The opened decision, by its time.
async fn as_the_api_tells_it(page: &Page) -> Value {
    let script = format!(
        "const at = document.querySelector('[data-chosen] time').dateTime;
         const answer = await fetch('/api/v1/workloads/{SERVING}/decisions');
         return (await answer.json()).decisions.find((each) => each.at === at);"
    );
    page.run(&format!("return (async () => {{ {script} }})();")).await
}

fn values(reason: &Value) -> usize {
    reason["values"].as_object().map_or(0, serde_json::Map::len)
}
