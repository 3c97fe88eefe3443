//! One running demo, looked at from the first figure to the last: each step is a function that says what a reader sees.

use tidegate_tests::servers::Tidegate;

use crate::page::{LATER, Page, SERVING, SOON, TRAINING};
use crate::{charts, decisions, faults, panels, sizes};

#[tokio::test]
async fn the_demo_lives_on_the_page_and_answers_its_reader() {
    let demo = Tidegate::up(&["--demo", "--seed", "1"]).await;
    let page = Page::open(&demo).await;

    says_what_is_not_real(&page).await;
    shows_both_samples_with_figures_that_move(&page).await;
    loaded_from_nowhere_else(&page).await;

    charts::demand_moves_on(&page).await;
    charts::the_fan_reaches_beyond_now(&page).await;
    charts::sizes_are_those_of_the_table(&page).await;
    charts::the_pool_is_drawn_without_making_up_what_is_unknown(&page).await;
    charts::hovering_tells_every_value_of_a_moment(&page).await;
    charts::a_zoom_stays_until_it_is_reset(&page).await;
    charts::another_range_shows_another_span(&page).await;
    charts::training_has_charts_of_its_own(&page).await;

    panels::the_pool_has_a_slot_for_each_holder(&page).await;
    panels::logs_flow_and_can_be_filtered(&page).await;
    panels::the_league_names_the_model_in_use(&page).await;
    panels::this_machine_has_readings(&page).await;

    faults::a_killed_replica_is_named_and_comes_back(&page).await;
    faults::a_lasting_fault_is_shown_until_it_is_cleared(&page).await;
    decisions::one_opens_with_its_reasons_and_the_hpa(&page).await;
    panels::rivals_stand_beside_tidegate(&page).await;

    sizes::light_and_dark_can_be_chosen(&page).await;
    sizes::nothing_overflows_on_a_narrow_page(&page).await;
    page.is_clean().await;
}

async fn says_what_is_not_real(page: &Page) {
    page.wait_until("seen.text('note-demo').includes('A day of load lasts 10 min')", SOON).await;
    page.wait_until("/2 days: .+/.test(seen.text('note-history'))", SOON).await;
    page.holds("seen.shown(seen.byId('note-demo')) && seen.shown(seen.byId('note-history'))").await;
}

async fn shows_both_samples_with_figures_that_move(page: &Page) {
    for workload in [SERVING, TRAINING] {
        page.wait_until(&format!("seen.shown(seen.row('{workload}'))"), SOON).await;
        page.wait_until(&format!("/^[1-9]/.test(seen.cell('{workload}', 'Ready'))"), LATER).await;
    }
    let demand = format!("seen.cell('{SERVING}', 'Demand')");
    page.wait_until(&format!("/^[0-9.,]+ req\\/s$/.test({demand})"), SOON).await;
    for _ in 0..3 {
        page.wait_for_change("demand", &demand).await;
    }
    // News changes figures and leaves the table standing: focus and a click under way survive.
    page.run(&format!("seen.row('{SERVING}').setAttribute('data-first', '')")).await;
    page.wait_for_change("demand", &demand).await;
    page.holds(&format!("seen.row('{SERVING}').hasAttribute('data-first')")).await;
}

/// Every file and every answer came from the same address as the page.
async fn loaded_from_nowhere_else(page: &Page) {
    let strangers = "performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => new URL(name).origin !== location.origin)";
    assert_eq!(page.value(strangers).await, serde_json::json!([]));
    page.holds(
        "performance.getEntriesByType('resource').some(({ name }) => name.endsWith('/assets/plotly.js'))",
    )
    .await;
    page.is_clean().await;
}
