//! YAML with positions: a JSON value to validate, and where in the text each part of it stands.

use std::collections::HashMap;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Number, Value};

/// A place in the text; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A document with the place of every node, by JSON pointer.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    values: HashMap<String, Position>,
    keys: HashMap<String, Position>,
}

/// Deepest nesting read: a configuration has six levels.
const DEPTH_MAX: usize = 32;

impl Document {
    /// Reads one document. Empty text is an empty mapping.
    ///
    /// # Errors
    /// Where the text is not YAML, with the place and what was wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, (Position, String)> {
        let documents = MarkedYaml::load_from_str(text).map_err(|error| {
            let mark = error.marker();
            (Position { line: mark.line(), column: mark.col() + 1 }, error.info().to_owned())
        })?;
        let mut document =
            Self { value: Value::Object(Map::new()), values: HashMap::new(), keys: HashMap::new() };
        if documents.len() > 1 {
            let at = position(&documents[1]);
            return Err((at, "expected one document, found another".into()));
        }
        if let Some(root) = documents.first() {
            let value = document.convert(root, "", 0)?;
            if !value.is_null() {
                document.value = value;
            }
        }
        Ok(document)
    }

    fn convert(
        &mut self,
        node: &MarkedYaml<'_>,
        pointer: &str,
        depth: usize,
    ) -> Result<Value, (Position, String)> {
        let at = position(node);
        if depth > DEPTH_MAX {
            return Err((at, format!("nested more than {DEPTH_MAX} levels deep")));
        }
        self.values.insert(pointer.to_owned(), at);
        match &node.data {
            YamlData::Value(scalar) => Ok(scalar_value(scalar)),
            YamlData::Sequence(items) => {
                let items = items.iter().enumerate();
                items.map(|(i, item)| self.convert(item, &format!("{pointer}/{i}"), depth + 1)).collect()
            }
            YamlData::Mapping(entries) => {
                let mut map = Map::new();
                for (key, value) in entries.iter() {
                    let name = key_name(key)?;
                    let pointer = format!("{pointer}/{}", escape(&name));
                    self.keys.insert(pointer.clone(), position(key));
                    map.insert(name, self.convert(value, &pointer, depth + 1)?);
                }
                Ok(Value::Object(map))
            }
            _ => Err((at, "tags and aliases are not supported".into())),
        }
    }

    /// Where the node at `pointer` stands: its key where it has one, else its value, else its nearest ancestor.
    pub(crate) fn position(&self, pointer: &str) -> Position {
        let mut pointer = pointer;
        loop {
            if let Some(at) = self.keys.get(pointer).or_else(|| self.values.get(pointer)) {
                return *at;
            }
            match pointer.rfind('/') {
                Some(cut) => pointer = &pointer[..cut],
                None => return Position { line: 1, column: 1 },
            }
        }
    }
}

fn key_name(key: &MarkedYaml<'_>) -> Result<String, (Position, String)> {
    match &key.data {
        YamlData::Value(Scalar::String(name)) => Ok(name.to_string()),
        YamlData::Value(Scalar::Integer(number)) => Ok(number.to_string()),
        YamlData::Value(Scalar::Boolean(word)) => Ok(word.to_string()),
        _ => Err((position(key), "expected a name".into())),
    }
}

fn scalar_value(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(word) => Value::Bool(*word),
        Scalar::Integer(number) => Value::Number((*number).into()),
        Scalar::FloatingPoint(number) => Number::from_f64(number.into_inner())
            .map_or_else(|| Value::String(number.to_string()), Value::Number),
        Scalar::String(text) => Value::String(text.to_string()),
    }
}

fn position(node: &MarkedYaml<'_>) -> Position {
    Position { line: node.span.start.line(), column: node.span.start.col() + 1 }
}

/// A name as a token of a JSON pointer (RFC 6901, §3).
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_knows_its_place() {
        let document = Document::parse("a: 1\nb:\n  - x: true\n  - 2.5\n").unwrap();
        assert_eq!(document.value, serde_json::json!({"a": 1, "b": [{"x": true}, 2.5]}));
        assert_eq!(document.position("/b/0/x"), Position { line: 3, column: 5 });
        assert_eq!(document.position("/b/1"), Position { line: 4, column: 5 });
        assert_eq!(document.position("/b/9/y"), Position { line: 2, column: 1 });
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        assert_eq!(Document::parse("a: [1\nb: 2\n").unwrap_err().0.line, 2);
        assert_eq!(Document::parse("a: 1\na: 2\n").unwrap_err().0, Position { line: 2, column: 1 });
        assert!(Document::parse("a: *b").is_err());
        assert_eq!(Document::parse("").unwrap().value, serde_json::json!({}));
    }
}
