//! Where a load goes and what is sent: an address on this machine unless told otherwise, and a body or a few.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::http::{HeaderValue, Method, Request, Uri, header};
use bytes::Bytes;
use http_body_util::Full;
use tidegate_digits::{glyphs, serve};

use crate::Usage;

/// Different images that are sent in turn.
const IMAGES: usize = 256;
/// Longest body that is taken from a file: it is sent over and over.
const BODY_BYTES_MAX: u64 = 16 << 20;

/// What is sent where.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    uri: Uri,
    /// Sent in turn; with none, the method is GET.
    bodies: Arc<[Bytes]>,
    content_type: HeaderValue,
}

impl Target {
    /// From a URL and what to send there: `digits`, a file, or nothing.
    ///
    /// # Errors
    /// When the URL is not an `http://` one, is on another machine without leave, or the file cannot be used.
    pub(crate) fn new(url: &str, body: Option<&str>, seed: u64, allow_remote: bool) -> anyhow::Result<Self> {
        let uri = checked(url, allow_remote)?;
        let (bodies, content_type) = match body {
            None => (Vec::new(), "text/plain"),
            Some("digits") => (digits(seed), "application/json"),
            Some(file) => (vec![content(Path::new(file))?], content_type(file)),
        };
        Ok(Self { uri, bodies: bodies.into(), content_type: HeaderValue::from_static(content_type) })
    }

    /// The sample service, or a gateway in front of it.
    pub(crate) fn digits(addr: SocketAddr, seed: u64) -> Self {
        let uri = format!("http://{addr}{}", serve::PREDICT)
            .parse()
            .expect("made of an address and a constant path");
        let content_type = HeaderValue::from_static("application/json");
        Self { uri, bodies: digits(seed).into(), content_type }
    }

    /// The request with number `number`.
    pub(super) fn request(&self, number: usize) -> Request<Full<Bytes>> {
        let body = match self.bodies.len() {
            0 => None,
            count => Some(self.bodies[number % count].clone()),
        };
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        if method == Method::POST {
            request.headers_mut().insert(header::CONTENT_TYPE, self.content_type.clone());
        }
        (*request.method_mut(), *request.uri_mut()) = (method, self.uri.clone());
        request
    }
}

fn checked(url: &str, allow_remote: bool) -> Result<Uri, Usage> {
    let wrong = || Usage(format!("expected a URL such as http://127.0.0.1:8000/predict, got {url:?}"));
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(wrong)?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    if here || allow_remote {
        Ok(uri)
    } else {
        Err(Usage(format!(
            "{host} is another machine: give --allow-remote to load it, if it is yours to load"
        )))
    }
}

fn digits(seed: u64) -> Vec<Bytes> {
    let body =
        |image: &glyphs::Image| serde_json::json!({ "pixels": image.pixels.as_slice() }).to_string().into();
    glyphs::images(seed, IMAGES).iter().map(body).collect()
}

fn content(file: &Path) -> anyhow::Result<Bytes> {
    let name = || format!("failed to read the body {}", file.display());
    let length = std::fs::metadata(file).with_context(name)?.len();
    anyhow::ensure!(length <= BODY_BYTES_MAX, "{}: expected at most {BODY_BYTES_MAX} bytes", file.display());
    Ok(std::fs::read(file).with_context(name)?.into())
}

fn content_type(file: &str) -> &'static str {
    match Path::new(file).extension().and_then(|extension| extension.to_str()) {
        Some("json") => "application/json",
        Some("txt") => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loaded_unless_told_otherwise() {
        for here in ["http://127.0.0.1:80/", "http://localhost", "http://[::1]:9/x", "http://127.9.9.9/"] {
            assert!(checked(here, false).is_ok(), "{here}");
        }
        for elsewhere in ["http://10.0.0.1/", "http://localhost.example/", "http://127.0.0.1.example:80/"] {
            assert!(checked(elsewhere, false).unwrap_err().0.contains("--allow-remote"), "{elsewhere}");
            assert!(checked(elsewhere, true).is_ok(), "{elsewhere}");
        }
        for wrong in ["127.0.0.1:80", "https://127.0.0.1/", "/predict", ""] {
            assert!(checked(wrong, true).unwrap_err().0.contains("expected a URL"), "{wrong}");
        }
    }

    #[test]
    fn bodies_are_sent_in_turn_and_without_one_it_is_a_get() {
        let digits = Target::digits(([127, 0, 0, 1], 80).into(), 1);
        assert_eq!(digits.request(0).method(), Method::POST);
        assert_eq!(digits.bodies.len(), IMAGES);
        let plain = Target::new("http://127.0.0.1/x", None, 1, false).unwrap();
        assert_eq!((plain.request(5).method(), plain.request(5).uri().path()), (&Method::GET, "/x"));
        assert!(Target::new("http://127.0.0.1/", Some("/nowhere"), 1, false).is_err());
    }
}
