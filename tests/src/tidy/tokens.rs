//! Rust source as a flat list of tokens with their lines: no comments, and on demand no test code. It does not parse further than that.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its text; `::` is one token, a literal keeps its quotes.
    pub text: String,
    /// The line it stands on, from 1.
    pub line: usize,
}

/// Which code is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// All but items under `#[cfg(test)]`.
    WithoutTests,
}

/// The tokens of a source text.
///
/// # Errors
/// When the text is not Rust, with the reason.
pub fn tokens(source: &str, scope: Scope) -> Result<Vec<Token>, String> {
    let stream: TokenStream = source.parse().map_err(|error| format!("is not Rust: {error}"))?;
    let mut flat = Vec::new();
    flatten(stream, scope, &mut flat);
    Ok(flat)
}

/// Depth is that of the brackets in the source; the lexer has bounded it already.
fn flatten(stream: TokenStream, scope: Scope, flat: &mut Vec<Token>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while at < trees.len() {
        if scope == Scope::WithoutTests && is_test_attribute(&trees[at..]) {
            at += 2 + item_length(&trees[at + 2..]);
            continue;
        }
        at += push(&trees[at..], scope, flat);
    }
}

/// Adds the first tree; how many trees that took.
fn push(trees: &[TokenTree], scope: Scope, flat: &mut Vec<Token>) -> usize {
    let line = trees[0].span().start().line;
    match &trees[0] {
        TokenTree::Group(group) => push_group(group, scope, flat),
        TokenTree::Punct(colon) if colon.as_char() == ':' && is_colon(trees.get(1)) => {
            flat.push(Token { text: "::".to_owned(), line });
            return 2;
        }
        other => flat.push(Token { text: other.to_string(), line }),
    }
    1
}

fn push_group(group: &Group, scope: Scope, flat: &mut Vec<Token>) {
    let (open, close) = match group.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    };
    flat.push(Token { text: open.to_owned(), line: group.span_open().start().line });
    flatten(group.stream(), scope, flat);
    flat.push(Token { text: close.to_owned(), line: group.span_close().start().line });
}

fn is_colon(tree: Option<&TokenTree>) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

/// `#[cfg(test)]`, or a `cfg` of several conditions of which `test` must hold.
fn is_test_attribute(trees: &[TokenTree]) -> bool {
    let (Some(TokenTree::Punct(hash)), Some(TokenTree::Group(group))) = (trees.first(), trees.get(1)) else {
        return false;
    };
    let inner = group.stream().to_string().replace(' ', "");
    hash.as_char() == '#' && (inner == "cfg(test)" || inner.starts_with("cfg(all(test,"))
}

/// Trees up to the end of the item that an attribute stands before: its body in braces, or its semicolon.
fn item_length(trees: &[TokenTree]) -> usize {
    let ends = |tree: &TokenTree| match tree {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    trees.iter().position(ends).map_or(trees.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str, scope: Scope) -> Vec<String> {
        tokens(source, scope).unwrap().into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn comments_vanish_and_paths_keep_together() {
        assert_eq!(texts("// std::fs\na::b(1)", Scope::All), ["a", "::", "b", "(", "1", ")"]);
    }

    #[test]
    fn test_items_are_left_out_on_demand() {
        let source = "fn a() {}\n#[cfg(test)]\n#[rustfmt::skip]\nmod tests { use std::fs; }\n#[cfg(test)] mod more;\nfn b() {}";
        assert!(texts(source, Scope::All).contains(&"fs".to_owned()));
        let kept = texts(source, Scope::WithoutTests).join(" ");
        assert_eq!(kept, "fn a ( ) { } fn b ( ) { }");
    }

    #[test]
    fn knows_the_line_of_a_token() {
        assert_eq!(tokens("a\n\nb", Scope::All).unwrap()[1].line, 3);
        assert!(tokens("fn (", Scope::All).is_err());
    }
}
