//! The charts of the selected workload: they move, they reach ahead, they answer the pointer.

use crate::page::{Page, SERVING, SOON, TRAINING};

pub(crate) async fn demand_moves_on(page: &Page) {
    page.wait_until("seen.last('demand') > 0", SOON).await;
    for _ in 0..2 {
        page.wait_for_change("newest", "seen.newest('demand')").await;
        page.holds("seen.newest('demand') > seen.kept.newest").await;
    }
    // Not only the axis: the last points are of the last seconds, and they differ.
    page.wait_until("Date.now() - seen.newest('demand') < 10000", SOON).await;
    page.holds("new Set(seen.trace('demand').y.filter((value) => value !== null).slice(-20)).size > 3").await;
}

pub(crate) async fn the_fan_reaches_beyond_now(page: &Page) {
    page.wait_until(
        "seen.trace('forecast, median') && seen.trace('band 0.05') && seen.trace('band 0.95')",
        SOON,
    )
    .await;
    page.holds("seen.newest('forecast, median') > Date.now() + 60000").await;
    page.holds(
        "seen.trace('band 0.05').y.every((low, i) => low <= seen.trace('forecast, median').y[i] && seen.trace('forecast, median').y[i] <= seen.trace('band 0.95').y[i])",
    )
    .await;
    page.holds("seen.trace('band 0.95').y.some((high, i) => high > seen.trace('band 0.05').y[i] + 1)").await;
    // The bands are on the page, not only in the figure's data.
    let drawn = "[...seen.chart().querySelectorAll('.scatterlayer path.js-fill')].filter((path) => path.getBBox().width > 20).length";
    page.wait_until(&format!("{drawn} >= 2"), SOON).await;
    page.holds("/^Forecast by \\w+/.test(seen.text('detail').split('\\n').find((line) => line.startsWith('Forecast')))").await;
}

/// The chart reads again every few seconds, the table with each event: they agree as soon as the size rests.
pub(crate) async fn sizes_are_those_of_the_table(page: &Page) {
    for (line, column) in [("ready", "Ready"), ("wanted", "Wanted")] {
        page.wait_until(&format!("seen.last('{line}') === Number(seen.cell('{SERVING}', '{column}'))"), SOON)
            .await;
        page.holds(&format!("seen.last('{line}') >= 1")).await;
    }
    page.wait_until("seen.last('capacity ready') > seen.last('ready')", SOON).await;
}

/// Before the start there were no replicas to know of: the chart has gaps there, and no zeros.
pub(crate) async fn the_pool_is_drawn_without_making_up_what_is_unknown(page: &Page) {
    let edges = "['digits-serve', 'digits-train'].map((name) => [seen.trace(name).y[0], seen.last(name)])";
    page.wait_until(&format!("{edges}.every(([first, last]) => first === null && last >= 1)"), SOON).await;
    page.holds("seen.last('digits-train') > seen.last('digits-serve')").await;
}

pub(crate) async fn hovering_tells_every_value_of_a_moment(page: &Page) {
    page.keep("place", "(seen.chart().scrollIntoView({ block: 'center', behavior: 'instant' }), seen.placeOf(Date.now() - 8000))").await;
    page.hover(kept_place(page).await).await;
    let hovered =
        "[...seen.chart().querySelectorAll('.hoverlayer text')].map((text) => text.textContent).join(' ')";
    for name in ["demand", "ready", "wanted", "latency p95"] {
        page.wait_until(&format!("/\\d/.test({hovered}) && {hovered}.includes('{name}')"), SOON).await;
    }
    page.holds(&format!("/\\d\\d:\\d\\d:\\d\\d/.test({hovered})")).await;
}

pub(crate) async fn a_zoom_stays_until_it_is_reset(page: &Page) {
    page.keep("span", "seen.range()[1] - seen.range()[0]").await;
    page.holds("!seen.shown(seen.byId('reset-zoom'))").await;
    drag_over(page, 60_000, 4_000).await;
    page.wait_until("seen.shown(seen.byId('reset-zoom'))", SOON).await;
    page.holds("seen.range()[1] - seen.range()[0] < seen.kept.span / 3").await;
    page.keep("zoomed", "seen.range().join()").await;
    for _ in 0..2 {
        page.wait_for_change("newest", "seen.newest('demand')").await;
        page.holds("seen.range().join() === seen.kept.zoomed").await;
    }

    page.click("[data-testid=reset-zoom]").await;
    page.wait_until("seen.range()[1] - seen.range()[0] > seen.kept.span * 0.9", SOON).await;
    page.holds("!seen.shown(seen.byId('reset-zoom'))").await;
    // It follows the clock again.
    page.wait_for_change("end", "seen.range()[1]").await;
}

pub(crate) async fn another_range_shows_another_span(page: &Page) {
    page.keep("span", "seen.range()[1] - seen.range()[0]").await;
    page.click("[data-testid=range][data-span='150']").await;
    page.wait_until("seen.range()[1] - seen.range()[0] < seen.kept.span / 3", SOON).await;
    page.holds("seen.byId('range').getAttribute('aria-pressed') === 'true'").await;
    page.click("[data-testid=range][data-span='600']").await;
    page.wait_until("seen.range()[1] - seen.range()[0] > seen.kept.span * 0.9", SOON).await;
}

pub(crate) async fn training_has_charts_of_its_own(page: &Page) {
    page.select(TRAINING, "samples/s").await;
    page.wait_for_change("newest", "seen.newest('samples/s')").await;
    page.holds("seen.text('detail').startsWith('digits-train') && seen.last('loss') > 0").await;
    page.holds("location.hash.endsWith('digits-train')").await;
    page.select(SERVING, "demand").await;
}

/// Drags over the charts from one moment of the past to another, given as milliseconds ago.
async fn drag_over(page: &Page, from_ago: u32, to_ago: u32) {
    let place = |ago: u32| format!("seen.placeOf(Date.now() - {ago})");
    page.keep("place", &place(from_ago)).await;
    let from = kept_place(page).await;
    page.keep("place", &place(to_ago)).await;
    page.drag(from, kept_place(page).await).await;
}

async fn kept_place(page: &Page) -> (f64, f64) {
    let place = page.value("seen.kept.place").await;
    let axis = |i: usize| place[i].as_f64().expect("a place is two numbers");
    (axis(0), axis(1))
}
