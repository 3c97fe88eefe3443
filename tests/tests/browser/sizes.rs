//! Colours and widths: light and dark, and a page as narrow as a telephone.

use crate::page::{Page, SOON};

pub(crate) async fn light_and_dark_can_be_chosen(page: &Page) {
    let colours = "[getComputedStyle(document.body).backgroundColor, seen.chart().layout.font.color].join()";
    page.prefer_dark(false).await;
    page.keep("light", colours).await;
    page.click("[data-testid=theme-toggle]").await;
    // The charts have their colours from the figure, not from the style sheet: both must follow.
    let differs = "[getComputedStyle(document.body).backgroundColor, seen.chart().layout.font.color].every((each) => !seen.kept.light.includes(each))";
    page.wait_until(differs, SOON).await;
    page.click("[data-testid=theme-toggle]").await;
    page.wait_until(&format!("{colours} === seen.kept.light"), SOON).await;
}

pub(crate) async fn nothing_overflows_on_a_narrow_page(page: &Page) {
    page.resize(400, 800).await;
    page.wait_until(
        "seen.chart().querySelector('.main-svg').getBoundingClientRect().width <= innerWidth",
        SOON,
    )
    .await;
    page.wait_until("document.scrollingElement.scrollWidth <= innerWidth", SOON).await;
    for panel in [
        "workloads",
        "detail",
        "decisions",
        "rivals",
        "pool",
        "league",
        "logs",
        "conditions",
        "faults",
        "sinks",
        "node",
    ] {
        let (x, y) = page.centre_of(&format!("[data-testid={panel}]")).await;
        assert!(
            (0.0..400.0).contains(&x) && (0.0..800.0).contains(&y),
            "{panel} cannot be scrolled to: its centre is at {x}, {y}"
        );
        page.holds(&format!(
            "(({{ left, right, height }}) => left >= 0 && right <= innerWidth && height > 40)(seen.byId('{panel}').getBoundingClientRect())"
        ))
        .await;
    }
    page.wait_for_change("newest", "seen.newest('demand')").await;
    page.resize(1280, 900).await;
}
