//! The browser that the suite drives is a real one: pointer, console, sizes and colours behave as for a person. Tidegate's page is not in here.

use std::time::Duration;

use serde_json::json;
use tidegate_tests::servers::Browser;

const SOON: Duration = Duration::from_secs(10);

/// A page that notes what is done to it.
const PAGE: &str = "data:text/html,<!doctype html><style>body{margin:0} %23box{width:200px;height:100px;background:teal}\
@media (prefers-color-scheme: dark){%23box{background:black}}</style><div id=box></div><button id=late>late</button><script>\
window.seen=[];const box=document.getElementById('box');\
for(const kind of ['mouseenter','mousedown','mouseup','click'])box.addEventListener(kind,e=>seen.push(kind+'@'+e.clientX));\
document.getElementById('late').addEventListener('click',()=>setTimeout(()=>window.ready=true,200));</script>";

#[tokio::test]
async fn a_person_s_hand_and_eye_are_told_truly() {
    let browser = Browser::start(800, 600).await;
    browser.open(PAGE).await;
    assert_eq!(browser.run("return [innerWidth, innerHeight]").await, json!([800, 600]));

    assert_eq!(browser.centre_of("#box").await, (100.0, 50.0));
    browser.hover((50.0, 50.0)).await;
    browser.wait_until("seen[0] === 'mouseenter@50'", SOON).await;
    browser.drag((20.0, 20.0), (150.0, 60.0)).await;
    assert_eq!(
        browser.run("return seen.slice(1)").await,
        json!(["mousedown@20", "mouseup@150", "click@150"])
    );

    browser.click("#late").await;
    browser.wait_until("window.ready", SOON).await;

    let colour = "return getComputedStyle(document.getElementById('box')).backgroundColor";
    let light = browser.run(colour).await;
    browser.prefer_dark(true).await;
    assert_ne!(browser.run(colour).await, light, "the page does not follow the preference");

    browser.resize(400, 700).await;
    assert_eq!(browser.run("return innerWidth").await, json!(400));

    assert_eq!(browser.console_errors().await, Vec::<String>::new());
    browser.run("console.error('boom')").await;
    let errors = browser.console_errors().await;
    assert!(errors.len() == 1 && errors[0].contains("boom"), "{errors:?}");

    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let picture = dir.path().join("page.png");
    browser.screenshot(&picture).await;
    let bytes = std::fs::read(&picture).expect("the picture was written");
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 500, "{} bytes", bytes.len());
}
