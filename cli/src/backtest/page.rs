//! The report as one page that works anywhere, without a network: its style, its script, the chart library and the figures are inside.

use super::report::Report;
use crate::api::plotly_source;

const PAGE: &str = include_str!("page/report.html");
const SCRIPT: &str = include_str!("page/report.js");
const FRAME: &str = include_str!("../page/style.css");
const STYLE: &str = include_str!("page/report.css");

/// The page.
///
/// # Errors
/// When the report cannot be written as JSON.
pub(super) fn html(report: &Report) -> Result<String, serde_json::Error> {
    // Within a script element only `<` could end it.
    let figures = serde_json::to_string(report)?.replace('<', "\\u003c");
    let parts = [
        ("style", format!("{FRAME}{STYLE}")),
        ("report", figures),
        ("plotly", plotly_source()),
        ("script", SCRIPT.to_owned()),
    ];
    let mut page = String::new();
    let mut rest = PAGE;
    // In their order, each once: what a part holds is never searched for the next.
    for (name, text) in parts {
        let mark = format!("{{{{{name}}}}}");
        let (before, after) = rest.split_once(&mark).expect("the page has all of its parts, in order");
        page += before;
        page += &text;
        rest = after;
    }
    Ok(page + rest)
}
