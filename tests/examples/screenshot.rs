//! Makes the README's pictures of the page from a running demo, into the folder that is its argument. `benches/README.md` has the command.
//!
//! It starts `tidegate up --demo`, waits on the page until the morning's rise has moved replicas and training gave way, and pictures
//! what is there then. It prepares nothing and touches nothing up: what looks wrong on a picture is wrong on the page.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_tests::servers::{Browser, Tidegate};

/// Within it the first day of the demo goes by, and the start before it.
const DAY_LIMIT: Duration = Duration::from_secs(580);
/// For a redrawing after another size or colour.
const REDRAWN: Duration = Duration::from_secs(30);
/// As long after the start: morning, burst and plateau are past, training comes back, and the fan reaches into the next morning.
const PICTURED_AT: Duration = Duration::from_secs(380);

/// JavaScript that is true once serving holds most of the pool, training gave way, the fan is drawn and rivals are told of.
const STORY: &str = "(() => {
    const roles = [...document.querySelectorAll('[data-testid=pool-slot]')].map((slot) => slot.dataset.role);
    const count = (role) => roles.filter((each) => each === role).length;
    const names = (document.querySelector('[data-testid=chart]').data ?? []).map(({ name }) => name);
    const since = Date.now() - Date.parse(window.startedAt);
    return count('serving') > 4 && count('training') < 9 && names.includes('forecast, median') && since > window.pictureAfter
        && document.querySelectorAll('[data-testid=rival]').length >= 3 && document.querySelectorAll('[data-testid=pool-move]').length >= 2;
})()";

/// True once the chart was drawn again in the present width.
const REDRAWN_WIDTH: &str =
    "Math.abs(document.querySelector('[data-testid=chart] .main-svg').getBoundingClientRect().width
    - document.querySelector('[data-testid=chart]').clientWidth) < 16";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = PathBuf::from(env::args().nth(1).expect("the folder for the pictures is the one argument"));
    let demo = Tidegate::up(&["--demo"]).await;
    let browser = Browser::start(1280, 1560).await;
    browser.open(demo.url()).await;
    let started = "window.startedAt = (await (await fetch('/api/v1/about')).json()).started_at";
    browser.run(&format!("return (async () => {{ {started}; }})();")).await;
    browser.run(&format!("window.pictureAfter = {};", PICTURED_AT.as_millis())).await;
    browser.wait_until(STORY, DAY_LIMIT).await;

    picture(&browser, &folder, "page.png").await;
    browser.prefer_dark(true).await;
    browser.resize(400, 1800).await;
    picture(&browser, &folder, "page-dark-400.png").await;
}

/// Pictures the page after its next drawing, with the pointer out of the way.
async fn picture(browser: &Browser, folder: &Path, name: &str) {
    browser
        .run("window.scrollTo(0, 0); window.drawnAt = document.querySelector('[data-testid=chart]').layout;")
        .await;
    browser.hover((1.0, 1.0)).await;
    browser
        .wait_until("document.querySelector('[data-testid=chart]').layout !== window.drawnAt", REDRAWN)
        .await;
    browser.wait_until(REDRAWN_WIDTH, REDRAWN).await;
    browser.screenshot(&folder.join(name)).await;
}
