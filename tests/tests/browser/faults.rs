//! Faults that a reader tries from the page: it answers, and what they do is named where one looks.

use crate::page::{LATER, Page, SERVING, SOON, TRAINING};

pub(crate) async fn a_killed_replica_is_named_and_comes_back(page: &Page) {
    let (ready, wanted) =
        (format!("seen.cell('{SERVING}', 'Ready')"), format!("seen.cell('{SERVING}', 'Wanted')"));
    page.wait_until(&format!("Number({ready}) >= 1 && {ready} === {wanted}"), LATER).await;
    trigger(page, "kill_replica", SERVING).await;
    page.wait_until("seen.text('fault-said') === 'Asked: kill replica of digits-serve.'", SOON).await;

    let named = "seen.all('condition').some((each) => each.innerText.includes('replica lost') && each.innerText.includes('digits-serve'))";
    page.wait_until(named, SOON).await;
    page.wait_until(&format!("seen.cell('{SERVING}', 'Conditions').includes('replica lost')"), SOON).await;
    page.wait_until(&format!("Number({ready}) >= 1 && {ready} === {wanted}"), LATER).await;
    page.holds("seen.byId('connection').dataset.state === 'live'").await;
}

pub(crate) async fn a_lasting_fault_is_shown_until_it_is_cleared(page: &Page) {
    trigger(page, "stop_metrics", TRAINING).await;
    let running = "seen.all('fault-running').filter((each) => each.dataset.fault === 'stop_metrics' && seen.shown(each))";
    page.wait_until(
        &format!("{running}.length === 1 && {running}[0].innerText.includes('stop metrics, since')"),
        SOON,
    )
    .await;

    trigger(page, "clear", TRAINING).await;
    page.wait_until(&format!("{running}.length === 0"), SOON).await;
    page.wait_until("seen.text('fault-said') === 'Cleared for digits-train.'", SOON).await;
    page.holds("seen.all('fault-clear').length === 0").await;
}

async fn trigger(page: &Page, fault: &str, workload: &str) {
    let button = format!("[data-testid=fault-{fault}][data-workload='{workload}']");
    page.wait_until(&format!("seen.shown(document.querySelector(\"{button}\"))"), SOON).await;
    page.click(&button).await;
}
