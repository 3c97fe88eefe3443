//! The index template of the log stream, made from the field catalogue. Pure.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tidegate_core::{Field, Mapping};

use super::ElasticsearchConfig;

/// Name of the component template with the mappings.
pub(super) const COMPONENT: &str = "tidegate-logs-mappings";
/// Name of the index template.
pub(super) const INDEX: &str = "tidegate-logs";
/// Above the 100 of the templates that the server brings along for `logs-*-*`, below the 500 where users put their own.
const PRIORITY: u32 = 200;
/// Longest text that is indexed as a keyword; Lucene refuses terms of more than 32,766 bytes, which four bytes a letter stay below.
const KEYWORD_LETTERS_MAX: u32 = 8191;
/// First version that ignores fields past the limit instead of refusing the document.
const IGNORES_SURPLUS_FIELDS: (u64, u64) = (8, 14);

/// What the server can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Major and minor version.
    pub(super) version: (u64, u64),
    /// Whether it deletes old data of a stream by itself.
    pub(super) lifecycle: bool,
}

/// The component template.
pub(super) fn component(abilities: Abilities) -> Value {
    let properties: Map<String, Value> =
        Field::ALL.iter().map(|field| (field.name().to_owned(), mapping(*field))).collect();
    let labels = format!("{}.*", Field::Labels.name());
    let dynamic =
        json!([{ "labels": { "path_match": labels, "match_mapping_type": "*", "mapping": keyword() } }]);
    let mut body = json!({
        "template": {
            "settings": settings(abilities),
            "mappings": { "dynamic": false, "dynamic_templates": dynamic, "properties": nested(properties) },
        },
    });
    stamp(&mut body);
    body
}

/// The index template.
pub(super) fn index(config: &ElasticsearchConfig, abilities: Abilities) -> Value {
    let mut body = json!({
        "index_patterns": [config.stream],
        "composed_of": [COMPONENT],
        "priority": PRIORITY,
        "data_stream": {},
    });
    if let (Some(days), true) = (config.retention_days, abilities.lifecycle) {
        body["template"] = json!({ "lifecycle": { "data_retention": format!("{days}d") } });
    }
    stamp(&mut body);
    body
}

/// The mark by which a later run knows that a template is the one it would make.
pub(super) fn stamp_of(body: &Value) -> Option<&str> {
    body["_meta"]["tidegate"].as_str()
}

/// Whether a name may be that of a data stream, and cannot be mistaken for a pattern or a path.
pub(super) fn check_stream_name(name: &str) -> Result<(), String> {
    let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts && name.len() <= 255 && name.chars().all(right) {
        return Ok(());
    }
    Err(format!("a data stream is named by lower-case letters, digits, '-', '_' and '.', not {name:?}"))
}

fn stamp(body: &mut Value) {
    let digest = Sha256::digest(body.to_string());
    let text: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    body["_meta"] = json!({ "managed_by": "tidegate", "tidegate": text });
}

fn settings(abilities: Abilities) -> Value {
    let mut limit = json!({ "limit": 1000 });
    if abilities.version >= IGNORES_SURPLUS_FIELDS {
        limit["ignore_dynamic_beyond_limit"] = true.into();
    }
    json!({ "index": { "mapping": { "total_fields": limit } } })
}

fn keyword() -> Value {
    json!({ "type": Mapping::Keyword.as_str(), "ignore_above": KEYWORD_LETTERS_MAX })
}

fn mapping(field: Field) -> Value {
    match field.mapping() {
        Mapping::Keyword if field == Field::EventOriginal => {
            // Kept to be read, not to be searched.
            json!({ "type": Mapping::Keyword.as_str(), "index": false, "doc_values": false })
        }
        Mapping::Keyword => keyword(),
        Mapping::Object => json!({ "type": Mapping::Object.as_str(), "dynamic": true }),
        other => json!({ "type": other.as_str() }),
    }
}

/// Dotted names as the nested objects that the server makes of them.
fn nested(flat: Map<String, Value>) -> Map<String, Value> {
    let mut tree = Map::new();
    for (name, mapping) in flat {
        let mut parts: Vec<&str> = name.split('.').collect();
        let leaf = parts.pop().expect("splitting gives at least one part");
        let mut place = &mut tree;
        for part in parts {
            let object = place.entry(part).or_insert_with(|| json!({ "properties": {} }));
            place = object["properties"].as_object_mut().expect("no field is a parent of another");
        }
        place.insert(leaf.to_owned(), mapping);
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABILITIES: Abilities = Abilities { version: (8, 19), lifecycle: true };

    #[test]
    fn every_catalogue_field_is_mapped_at_its_place() {
        let component = component(ABILITIES);
        for field in Field::ALL {
            let mut place = &component["template"]["mappings"];
            for part in field.name().split('.') {
                place = &place["properties"][part];
            }
            assert_eq!(place["type"], field.mapping().as_str(), "{}", field.name());
        }
    }

    #[test]
    fn what_the_server_cannot_do_is_not_asked_for() {
        let config = ElasticsearchConfig::new("http://localhost:9200");
        assert_eq!(index(&config, ABILITIES)["template"]["lifecycle"]["data_retention"], "30d");
        let old = Abilities { version: (8, 9), lifecycle: false };
        assert!(index(&config, old).get("template").is_none());
        assert!(!component(old).to_string().contains("ignore_dynamic_beyond_limit"));
    }

    #[test]
    fn the_stamp_changes_with_the_content() {
        let config = ElasticsearchConfig::new("http://localhost:9200");
        let other = ElasticsearchConfig { retention_days: Some(7), ..config.clone() };
        let stamp = |config: &ElasticsearchConfig| stamp_of(&index(config, ABILITIES)).unwrap().to_owned();
        assert_eq!(stamp(&config), stamp(&config.clone()));
        assert_ne!(stamp(&config), stamp(&other));
    }

    #[test]
    fn stream_names_are_names() {
        assert!(check_stream_name(super::super::STREAM).is_ok());
        for wrong in ["", "Logs", "logs-*", "_all", "-x", ".ds-x", "a/b", "a,b"] {
            assert!(check_stream_name(wrong).is_err(), "{wrong}");
        }
    }
}
