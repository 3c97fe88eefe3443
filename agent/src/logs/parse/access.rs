//! The access logs of web servers, in their common and combined form.

use std::sync::LazyLock;

use super::grok::Pattern;
use super::words::{Word, assign};
use super::{Parsed, moment};

static LINE: LazyLock<Pattern> = LazyLock::new(|| {
    let both = "%{COMMONAPACHELOG}(?: %{QS:referrer} %{QS:agent})?";
    Pattern::new(both).expect("the library holds its own patterns")
});

/// Parses an access line; `None` when it is none.
pub(super) fn parse(text: &str) -> Option<Parsed> {
    let fields = LINE.fields(text.trim_end())?;
    let mut parsed = Parsed::default();
    for (name, value) in fields.filter(|(_, value)| !value.is_empty() && *value != "-") {
        match name {
            "timestamp" => parsed.at = moment::from_access(value),
            "verb" => parsed.method = Some(value.to_owned()),
            "rawrequest" => parsed.label("request", value),
            "referrer" => labelled(&mut parsed, "referrer", value),
            "agent" => labelled(&mut parsed, "user_agent", value),
            "httpversion" => parsed.label("http_version", value),
            "auth" => parsed.label("user", value),
            name => assign(&mut parsed, name, Word::bare(value)),
        }
    }
    parsed.message = summary(&parsed).unwrap_or_else(|| text.to_owned());
    Some(parsed)
}

fn labelled(parsed: &mut Parsed, name: &str, quoted: &str) {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
    if inner != "-" {
        parsed.label(name, inner);
    }
}

fn summary(parsed: &Parsed) -> Option<String> {
    Some(format!("{} {} {}", parsed.method.as_ref()?, parsed.path.as_ref()?, parsed.status?))
}
