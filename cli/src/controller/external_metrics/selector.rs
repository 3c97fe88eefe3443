//! Label selectors as text: what a client writes into `labelSelector`. Syntax: `k8s.io/apimachinery/pkg/labels`.

use kube::core::{Expression, Selector};

/// Requirements of one selector.
const REQUIREMENTS_MAX: usize = 64;

/// Text that is no selector.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no requirement of a label selector; expected such as key=value, key!=value, key in (a,b), key, !key"
)]
pub(super) struct NoSelector(String);

/// The selector that a text means; an empty one selects everything.
///
/// # Errors
/// Which part is none.
pub(super) fn parse(text: &str) -> Result<Selector, NoSelector> {
    if text.trim().is_empty() {
        return Ok(Selector::default());
    }
    let parts: Vec<_> = split(text).collect();
    if parts.len() > REQUIREMENTS_MAX {
        return Err(NoSelector(format!("one of more than {REQUIREMENTS_MAX}")));
    }
    parts.into_iter().map(|part| requirement(part).ok_or_else(|| NoSelector(part.to_owned()))).collect()
}

/// The parts between commas that stand outside parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let between = move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(between)
}

fn requirement(part: &str) -> Option<Expression> {
    let part = part.trim();
    if let Some((key, value)) = part.split_once("!=") {
        return Some(Expression::NotEqual(name(key)?, value_of(value)?));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Expression::Equal(name(key)?, value_of(value)?));
    }
    if let Some(key) = part.strip_prefix('!') {
        return Some(Expression::DoesNotExist(name(key)?));
    }
    let Some((left, values)) = part.split_once('(') else { return Some(Expression::Exists(name(part)?)) };
    let values = values.strip_suffix(')')?.split(',').map(value_of).collect::<Option<_>>()?;
    let (key, operator) = left.trim().split_once(char::is_whitespace)?;
    match operator.trim() {
        "in" => Some(Expression::In(name(key)?, values)),
        "notin" => Some(Expression::NotIn(name(key)?, values)),
        _ => None,
    }
}

/// A key: there is one, and it has no spaces within.
fn name(text: &str) -> Option<String> {
    let text = value_of(text)?;
    (!text.is_empty()).then_some(text)
}

/// A value, which may be empty.
fn value_of(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    text.chars().all(plain).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use kube::core::SelectorExt;
    use proptest::prelude::*;

    use super::*;

    fn matches(selector: &str) -> bool {
        let labels = [("policy", "chat"), ("kind", "Deployment")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        parse(selector).unwrap().matches(&labels)
    }

    #[test]
    fn every_operator_means_what_it_means_to_the_api_server() {
        let true_ones = [
            "",
            " ",
            "policy=chat",
            "policy==chat",
            "policy = chat , kind=Deployment",
            "policy!=tts",
            "other!=x",
            "policy in (tts,chat)",
            "policy in ( chat )",
            "policy notin (tts),kind",
            "other notin (x)",
            "policy",
            "!other",
        ];
        for selector in true_ones {
            assert!(matches(selector), "{selector}");
        }
        let false_ones =
            ["policy=tts", "policy=", "policy in (tts)", "policy notin (chat)", "other", "!policy"];
        for selector in false_ones {
            assert!(!matches(selector), "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_and_never_selects_everything() {
        for text in
            [",", "=chat", "policy=a b", "policy in chat", "policy in (a", "policy of (a)", "!", "a,,b"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&vec!["a"; REQUIREMENTS_MAX + 1].join(",")).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            key in "[a-z]{1,8}",
            values in proptest::collection::btree_set("[a-zA-Z0-9][-a-zA-Z0-9_.]{0,8}", 1..4),
            shape in 0..6_u8,
        ) {
            let first = values.first().cloned().unwrap_or_default();
            let expression = match shape {
                0 => Expression::In(key, values),
                1 => Expression::NotIn(key, values),
                2 => Expression::Equal(key, first),
                3 => Expression::NotEqual(key, first),
                4 => Expression::Exists(key),
                _ => Expression::DoesNotExist(key),
            };
            let selector = Selector::from(expression);
            prop_assert_eq!(parse(&selector.to_string()), Ok(selector));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            drop(parse(&text));
        }
    }
}
