//! `tidegate up` without a configuration: the machine's own readings and how to go on; and what the page says once Tidegate is gone.

use tidegate_tests::servers::Tidegate;

use crate::page::{Page, SOON};

#[tokio::test]
async fn without_a_configuration_it_shows_the_machine_and_how_to_go_on() {
    let mut alone = Tidegate::up(&[]).await;
    let page = Page::open(&alone).await;

    page.wait_until("seen.shown(seen.byId('no-workloads'))", SOON).await;
    for words in ["No workloads yet", "tidegate.yaml", "tidegate check config", "tidegate up --demo"] {
        page.holds(&format!("seen.text('no-workloads').includes('{words}')")).await;
    }
    page.holds("seen.text('note-note-0').endsWith('.') && !/\\.\\.|`/.test(seen.text('notes'))").await;
    for panel in ["decisions", "rivals", "pool", "league", "conditions", "faults"] {
        page.holds(&format!("!seen.shown(seen.byId('{panel}'))")).await;
    }

    page.wait_until(
        "['CPU busy', 'Load', 'Memory available'].every((name) => seen.text('node').includes(name))",
        SOON,
    )
    .await;
    page.wait_for_change("node", "seen.text('node')").await;
    page.wait_until("seen.last('CPU busy') >= 0 && seen.last('memory available') > 1e6", SOON).await;
    page.wait_for_change("newest", "seen.newest('CPU busy')").await;
    // Readings are further apart than the chart's steps: a line joins them all the same.
    let drawn = "Math.max(0, ...[...seen.chart().querySelectorAll('.scatterlayer path.js-line')].map((path) => path.getBBox().width))";
    page.wait_until(&format!("{drawn} > 10"), SOON).await;
    page.is_clean().await;

    alone.kill();
    page.wait_until("seen.byId('connection').dataset.state === 'lost'", SOON).await;
    page.wait_until("seen.shown(seen.byId('banner')) && /^Connection lost, retrying. What you see is from \\d\\d:/.test(seen.text('banner'))", SOON)
        .await;
}
