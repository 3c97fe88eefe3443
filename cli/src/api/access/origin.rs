//! Requests without a token, on loopback: the `Host` must name this machine (against DNS rebinding), and a change must not
//! be asked for by a page of another origin (against request forgery).

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};

use crate::api::Denied;

/// Whether the request names this machine, and does not come from a page of another origin where it would change something.
///
/// # Errors
/// When it does not, or does.
pub(super) fn is_this_machine(request: &Request, hosts: &[String]) -> Result<(), Denied> {
    let authority = authority(request).ok_or(Denied::Host)?;
    if !names_this_machine(&authority, hosts) {
        return Err(Denied::Host);
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads || is_same_origin(request.headers(), &authority) { Ok(()) } else { Err(Denied::Origin) }
}

/// `Host`, or the authority of the request line, which HTTP/2 has instead.
fn authority(request: &Request) -> Option<String> {
    let of_line = request.uri().authority().map(ToString::to_string);
    of_line.or_else(|| text(request.headers(), header::HOST.as_str()).map(str::to_owned))
}

fn names_this_machine(authority: &str, hosts: &[String]) -> bool {
    let name = without_port(authority).to_ascii_lowercase();
    let is_loopback = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_loopback || name == "localhost" || hosts.iter().any(|host| host.eq_ignore_ascii_case(&name))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => authority,
    }
}

/// Browsers send `Origin` with every request that changes something, and `Sec-Fetch-Site` with all; other programs send neither.
fn is_same_origin(headers: &HeaderMap, authority: &str) -> bool {
    let site = text(headers, "sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let origin = headers.get(header::ORIGIN).is_none_or(|origin| {
        let host = origin
            .to_str()
            .ok()
            .and_then(|o| o.strip_prefix("http://").or_else(|| o.strip_prefix("https://")));
        host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
    });
    site && origin
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_accepted() {
        let hosts = ["gpu-box".to_owned()];
        for right in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.9.9.9", "[::1]:8080", "[::1]", "gpu-box:80"]
        {
            assert!(names_this_machine(right, &hosts), "{right}");
        }
        for wrong in
            ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost.evil.example:80", "[::2]:1"]
        {
            assert!(!names_this_machine(wrong, &hosts), "{wrong}");
        }
    }
}
