//! The pure crates touch no clock, file, socket, thread, environment, log or unseeded randomness. Test code may.

use super::tokens::{Scope, Token, tokens};

/// Modules of the standard library that reach outside.
const STD_MODULES: [&str; 6] = ["env", "fs", "net", "os", "process", "thread"];
/// Crates that reach outside.
const CRATES: [&str; 9] =
    ["axum", "hyper", "log", "nix", "reqwest", "socket2", "tokio", "tokio_util", "tracing"];
/// Words that stand for a clock or a source of randomness that nobody seeded.
const WORDS: [&str; 8] =
    ["Instant", "OsRng", "SystemTime", "ThreadRng", "from_entropy", "from_os_rng", "getrandom", "thread_rng"];
/// Macros that print.
const MACROS: [&str; 5] = ["dbg", "eprint", "eprintln", "print", "println"];

/// What in a source text of a pure crate reaches outside, as `LINE: WHAT`.
#[must_use]
pub fn impurities(source: &str) -> Vec<String> {
    let tokens = match tokens(source, Scope::WithoutTests) {
        Ok(tokens) => tokens,
        Err(reason) => return vec![reason],
    };
    let at = |index: usize| tokens.get(index).map_or("", |token: &Token| token.text.as_str());
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let word = token.text.as_str();
        let is_path_start = at(index + 1) == "::" && (index == 0 || at(index - 1) != "::");
        let mut add = |what: String| found.push(format!("{}: {what}", token.line));
        if WORDS.contains(&word) {
            add(word.to_owned());
        }
        if MACROS.contains(&word) && at(index + 1) == "!" {
            add(format!("{word}!"));
        }
        if word == "now" && index > 0 && at(index - 1) == "::" {
            add(format!("{}::now", at(index.saturating_sub(2))));
        }
        if is_path_start && CRATES.contains(&word) {
            add(word.to_owned());
        }
        if is_path_start && (word == "std" || word == "core") {
            named_after(&tokens, index + 2)
                .into_iter()
                .filter(|m| STD_MODULES.contains(m))
                .for_each(|m| add(format!("std::{m}")));
        }
    }
    found
}

/// The names that follow a `std::`: one, or the first of each path of a group in braces.
fn named_after(tokens: &[Token], start: usize) -> Vec<&str> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    if text(start) != "{" {
        return vec![text(start)];
    }
    let mut names = Vec::new();
    let mut depth = 0_u32;
    for index in start..tokens.len() {
        match text(index) {
            "{" => depth += 1,
            "}" => depth -= 1,
            name if depth == 1 && matches!(text(index - 1), "{" | ",") => names.push(name),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(source: &str, what: &str) {
        let found = impurities(source);
        assert!(found.iter().any(|f| f.ends_with(what)), "{what} not found in `{source}`: {found:?}");
    }

    #[test]
    fn each_way_outside_is_found() {
        finds("use std::fs;", "std::fs");
        finds("use std::{collections::BTreeMap, net::{IpAddr, Ipv4Addr}};", "std::net");
        finds("fn f() { std::thread::sleep(d) }", "std::thread");
        finds("fn f() { std::env::var(\"X\") }", "std::env");
        finds("use std::time::{Duration, SystemTime};", "SystemTime");
        finds("fn f() { jiff::Timestamp::now() }", "Timestamp::now");
        finds("async fn f() { tokio::time::sleep(d).await }", "tokio");
        finds("fn f() { tracing::info!(\"x\") }", "tracing");
        finds("fn f() { println!(\"x\") }", "println!");
        finds("fn f() { rand::thread_rng() }", "thread_rng");
        assert!(impurities("fn (")[0].starts_with("is not Rust"));
    }

    #[test]
    fn what_only_looks_like_it_is_let_pass() {
        let source = "//! Not std::fs.\n// tokio::spawn\nuse std::{fmt, collections::BTreeMap};\nfn f(now: Timestamp, log: f64) -> f64 { g(now, \"std::fs\") }
            #[cfg(test)]\nmod tests { use std::fs; fn f() { println!(\"x\") } }";
        assert_eq!(impurities(source), Vec::<String>::new());
    }
}
