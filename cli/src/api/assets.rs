//! The page and its files, all in the binary: it works without any network beyond this program.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tidegate_core::Signal;

use super::problem::Problem;
use super::router::Api;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const INDEX: &str = include_str!("../page/index.html");

/// The files of the page by name.
const FILES: &[(&str, &str, &str)] = &[
    ("style.css", CSS, include_str!("../page/style.css")),
    ("panels.css", CSS, include_str!("../page/panels.css")),
    ("icon.svg", SVG, include_str!("../page/icon.svg")),
    ("app.js", JS, include_str!("../page/js/app.js")),
    ("chart.js", JS, include_str!("../page/js/chart.js")),
    ("charts.js", JS, include_str!("../page/js/charts.js")),
    ("decisions.js", JS, include_str!("../page/js/decisions.js")),
    ("dom.js", JS, include_str!("../page/js/dom.js")),
    ("faults.js", JS, include_str!("../page/js/faults.js")),
    ("format.js", JS, include_str!("../page/js/format.js")),
    ("header.js", JS, include_str!("../page/js/header.js")),
    ("logs.js", JS, include_str!("../page/js/logs.js")),
    ("net.js", JS, include_str!("../page/js/net.js")),
    ("node.js", JS, include_str!("../page/js/node.js")),
    ("panels.js", JS, include_str!("../page/js/panels.js")),
    ("theme.js", JS, include_str!("../page/js/theme.js")),
    ("workloads.js", JS, include_str!("../page/js/workloads.js")),
];

/// Name of the chart library's file.
const PLOTLY: &str = "plotly.js";
/// Name of the file that gives the page the catalogue of signals, so that it writes no name of its own.
const SIGNALS: &str = "signals.js";

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| answer(&headers, HTML, INDEX)))
        .route("/assets/{name}", get(asset))
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    if name == PLOTLY {
        return plotly(&headers).await;
    }
    if name == SIGNALS {
        static TEXT: OnceLock<String> = OnceLock::new();
        return Ok(answer(&headers, JS, TEXT.get_or_init(signals)));
    }
    let found = FILES.iter().find(|(file, ..)| *file == name);
    let (_, kind, text) =
        found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such file"))?;
    Ok(answer(&headers, kind, text))
}

/// A text that a browser keeps but asks about each time: it changes with the program alone.
fn answer(headers: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let etag = etag(text.as_bytes());
    if is_known(headers, &etag) {
        return not_modified(etag);
    }
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache"), (header::ETAG, &etag)], text)
        .into_response()
}

fn etag(bytes: &[u8]) -> String {
    // Eight bytes tell apart the few versions of a file that a browser ever meets.
    let head: String = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{head}\"")
}

fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag))
}

fn not_modified(etag: String) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, etag), (header::CACHE_CONTROL, "no-cache".to_owned())])
        .into_response()
}

/// `export const Signal = {RequestsPerSecond: {name, unit, help}, …}` for the page.
fn signals() -> String {
    let rows = Signal::ALL.iter().map(|signal| {
        let row = serde_json::json!({ "name": signal.name(), "unit": signal.unit().symbol(), "help": signal.help() });
        format!("  {signal:?}: {row},\n")
    });
    format!("export const Signal = {{\n{}}};\n", rows.collect::<String>())
}

/// The chart library, packed once.
struct Packed {
    etag: String,
    gzip: Bytes,
}

async fn plotly(headers: &HeaderMap) -> Result<Response, Problem> {
    static PACKED: OnceLock<Packed> = OnceLock::new();
    let failed = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the chart library could not be packed");
    let packed = tokio::task::spawn_blocking(|| PACKED.get_or_init(|| pack(&plotly_source())))
        .await
        .map_err(failed)?;
    if is_known(headers, &packed.etag) {
        return Ok(not_modified(packed.etag.clone()));
    }
    let accepts =
        headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let gzip = accepts
        .split(',')
        .any(|coding| matches!(coding.split(';').next(), Some(name) if name.trim() == "gzip"));
    let body = if gzip {
        Body::from(packed.gzip.clone())
    } else {
        Body::from(tokio::task::spawn_blocking(plotly_source).await.map_err(failed)?)
    };
    let mut response = Response::new(body);
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(JS));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    out.insert(header::ETAG, HeaderValue::from_str(&packed.etag).expect("made of hexadecimal digits"));
    if gzip {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// The script out of the tags that the crate wraps it in; what follows it there sets formulas, which the page has none of.
pub(crate) fn plotly_source() -> String {
    let all = plotly::Plot::offline_js_sources();
    let script = all.split_once('>').map_or("", |(_, rest)| rest);
    let end = script.find("</script>\n").unwrap_or(script.len());
    script[..end].to_owned()
}

fn pack(source: &str) -> Packed {
    // Level 6: a fifth of the size of the source; more costs a second and gains two percent.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    let packed = encoder.write_all(source.as_bytes()).and_then(|()| encoder.finish());
    let gzip = packed.expect("writing to memory does not fail").into();
    Packed { etag: etag(source.as_bytes()), gzip }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_library_is_whole_and_alone() {
        let source = plotly_source();
        assert!(source.contains("plotly.js v"));
        assert!(source.trim_end().ends_with("}));"), "{:?}", &source[source.len() - 40..]);
        assert!(!source.contains("MathJax.loader"));
    }

    #[test]
    fn every_file_of_the_page_is_known_and_asks_for_nothing_outside() {
        for (name, _, text) in FILES.iter().filter(|(name, ..)| name.ends_with(".js")) {
            for import in text.lines().filter_map(|line| line.split_once(" from \"./").map(|(_, rest)| rest))
            {
                let file = import.split('"').next().unwrap();
                assert!(
                    file == SIGNALS || FILES.iter().any(|(known, ..)| *known == file),
                    "{name} asks for {file}"
                );
            }
        }
        for (name, _, text) in FILES.iter().chain([&("index.html", HTML, INDEX)]) {
            let outside = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!outside.contains("http://") && !outside.contains("https://"), "{name} names an address");
        }
    }

    #[test]
    fn the_catalogue_for_the_page_names_every_signal() {
        let text = signals();
        for signal in Signal::ALL {
            assert!(
                text.contains(&format!("  {signal:?}: {{\"name\":\"{}\"", signal.name())),
                "{}",
                signal.name()
            );
        }
    }
}
