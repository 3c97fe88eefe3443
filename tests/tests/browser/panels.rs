//! The panels beside the charts: pool, rivals, league, logs, this machine.

use crate::page::{LATER, Page, SOON};

pub(crate) async fn the_pool_has_a_slot_for_each_holder(page: &Page) {
    let roles = "seen.all('pool-slot').map((slot) => slot.dataset.role)";
    page.wait_until(&format!("['serving', 'training'].every((role) => {roles}.includes(role))"), SOON).await;
    page.holds("seen.all('pool-slot').every(seen.shown)").await;
    page.holds(&format!(
        "fetch('/api/v1/about').then((answer) => answer.json()).then(({{ pool }}) => pool.slots === {roles}.length)"
    ))
    .await;
    page.wait_until("seen.all('pool-move').some((move) => /\\d → \\d+\\n.{8}/.test(move.innerText))", SOON)
        .await;
}

pub(crate) async fn logs_flow_and_can_be_filtered(page: &Page) {
    page.wait_until("seen.lines().length > 5", SOON).await;
    for _ in 0..2 {
        page.keep("newest", "seen.lines()[0].at").await;
        page.wait_until("seen.lines()[0].at > seen.kept.newest", SOON).await;
    }

    page.set("log-workload", "local/process/digits-train").await;
    page.wait_until(
        "seen.lines().length > 0 && seen.lines().every((line) => line.workload === 'digits-train')",
        SOON,
    )
    .await;
    page.set("log-class", "training_step").await;
    page.wait_until(
        "seen.lines().length > 0 && seen.lines().every((line) => line.class === 'training_step')",
        SOON,
    )
    .await;
    page.set("log-workload", "").await;
    page.set("log-class", "access").await;
    page.wait_until("seen.lines().length > 0 && seen.lines().every((line) => line.class === 'access' && line.workload === 'digits-serve')", SOON)
        .await;
    page.set("log-q", "no line says this").await;
    page.wait_until(
        "seen.lines().length === 0 && seen.text('logs').includes('No line passes the filters.')",
        SOON,
    )
    .await;

    page.set("log-q", "").await;
    page.set("log-class", "").await;
    page.wait_until("new Set(seen.lines().map((line) => line.workload)).size === 2", SOON).await;
    page.wait_until("Number(seen.text('sink').match(/shipped\\n([\\d,]+)/)[1].replace(',', '')) > 0", SOON)
        .await;
}

pub(crate) async fn the_league_names_the_model_in_use(page: &Page) {
    page.wait_until("seen.all('model').length >= 3", SOON).await;
    page.holds("seen.all('model').filter((row) => row.dataset.inUse === 'true').length === 1").await;
    page.holds("seen.all('model').every((row) => /\\d\\.\\d\\d/.test(row.innerText))").await;
}

pub(crate) async fn this_machine_has_readings(page: &Page) {
    page.wait_until("seen.all('node-reading').length >= 3 && seen.all('node-reading').every((line) => /\\d/.test(line.innerText))", SOON)
        .await;
    page.wait_for_change("node", "seen.text('node')").await;
}

pub(crate) async fn rivals_stand_beside_tidegate(page: &Page) {
    let row = |policy: &str| format!("document.querySelector('[data-testid=rival][data-policy={policy}]')");
    for policy in ["tidegate", "reactive", "hpa"] {
        let figures = format!("/\\d\\.\\d+\\s+\\d+\\.\\d+ %/.test({}.innerText)", row(policy));
        page.wait_until(&figures, LATER).await;
    }
    page.wait_for_change("hours", &format!("{}.innerText", row("tidegate"))).await;
}
