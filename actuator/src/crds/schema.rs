//! From a Rust type to the definition of its custom resource: a schema in the form that an API server calls structural, with
//! the rules that types cannot say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceValidation,
};
use kube::CustomResourceExt;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use tidegate_core::policy::Rule;

/// A column of what `kubectl get` prints.
#[derive(Debug)]
pub(super) struct Column {
    name: &'static str,
    kind: &'static str,
    path: &'static str,
    about: &'static str,
    wide: bool,
}

impl Column {
    /// One that is always shown.
    pub(super) const fn new(
        name: &'static str,
        kind: &'static str,
        path: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, kind, path, about, wide: false }
    }

    /// One that is shown on demand (`--output wide`).
    pub(super) const fn wide(
        name: &'static str,
        kind: &'static str,
        path: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, kind, path, about, wide: true }
    }

    fn definition(&self) -> CustomResourceColumnDefinition {
        CustomResourceColumnDefinition {
            name: self.name.into(),
            type_: self.kind.into(),
            json_path: self.path.into(),
            description: Some(self.about.into()),
            priority: self.wide.then_some(1),
            ..CustomResourceColumnDefinition::default()
        }
    }
}

/// The definition of `K`, whose spec is `Spec` and whose status is `Status`.
pub(super) fn definition<K, Spec, Status>(
    about: &str,
    columns: &[Column],
    rules: Vec<Value>,
) -> CustomResourceDefinition
where
    K: CustomResourceExt,
    Spec: JsonSchema,
    Status: JsonSchema,
{
    let (mut spec, status) = (structural::<Spec>(), structural::<Status>());
    spec["x-kubernetes-validations"] = Value::Array(rules);
    let root = json!({
        "description": about,
        "type": "object",
        "required": ["spec"],
        "properties": { "spec": spec, "status": status },
    });
    let mut definition = K::crd();
    for version in &mut definition.spec.versions {
        let schema =
            serde_json::from_value(root.clone()).expect("a structural schema is one that the API knows");
        version.additional_printer_columns = Some(columns.iter().map(Column::definition).collect());
        version.schema = Some(CustomResourceValidation { open_api_v3_schema: Some(schema) });
    }
    definition
}

/// Rules as the API server reads them. An entry of a list cannot be pointed at, so the list is.
pub(super) fn validations<T>(rules: &[Rule<T>]) -> impl Iterator<Item = Value> {
    rules.iter().map(|rule| {
        let parts = rule.path.split('/').take_while(|part| *part != "*");
        let field_path: String = parts.map(|part| format!(".{part}")).collect();
        let (message, text) = (rule.path.replace('/', "."), rule.text);
        json!({ "rule": rule.cel, "message": format!("{message} {text}"), "fieldPath": field_path })
    })
}

/// The rule that a field keeps the value that it was created with.
pub(super) fn immutable(field: &str) -> Value {
    json!({
        "rule": format!("self.{field} == oldSelf.{field}"),
        "message": format!("{field} cannot be changed; delete the policy and make another"),
        "fieldPath": format!(".{field}"),
    })
}

fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    restructure(&mut schema);
    schema
}

/// Rewrites a schema, and all within it, into the structural form.
fn restructure(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("title");
    unwrap_lines(object);
    drop_null(object);
    join_words(object);
    bound_integer(object);
    // Unknown fields are refused by the API server's own field validation, or pruned: it allows no word of this beside `properties`.
    if object.contains_key("properties") {
        object.remove("additionalProperties");
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    for field in object.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        restructure(field.1);
    }
    for inner in ["items", "additionalProperties"] {
        object.get_mut(inner).map(restructure);
    }
}

/// A description is wrapped where it is shown, not where the source is.
fn unwrap_lines(object: &mut Map<String, Value>) {
    if let Some(Value::String(about)) = object.get_mut("description") {
        *about = about.replace('\n', " ");
    }
}

/// An optional field is one that may be absent, not one that may be null.
fn drop_null(object: &mut Map<String, Value>) {
    let null = json!({ "type": "null" });
    if let Some(types) = object.get("type").and_then(Value::as_array) {
        let named = types.iter().find(|name| name.as_str() != Some("null")).cloned();
        object.insert("type".into(), named.unwrap_or_default());
    }
    let one = object.get("anyOf").and_then(Value::as_array).and_then(|choices| match choices.as_slice() {
        [one, other] if *other == null => one.as_object().cloned(),
        _ => None,
    });
    if let Some(one) = one {
        object.remove("anyOf");
        for (key, value) in one {
            // What the field says of itself goes before what its type says.
            object.entry(key).or_insert(value);
        }
    }
}

/// A choice of words, each with its meaning, becomes an enumeration whose description says them all.
fn join_words(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get("oneOf") else { return };
    let words: Option<Vec<Value>> = choices.iter().map(|choice| choice.get("const").cloned()).collect();
    let Some(words) = words else { return };
    let meanings = choices.iter().filter_map(|choice| {
        let meaning = choice["description"].as_str()?.replace('\n', " ");
        Some(format!("`{}`: {meaning}", choice["const"].as_str()?))
    });
    let about = object.get("description").and_then(Value::as_str).unwrap_or_default();
    let about = std::iter::once(about.to_owned()).chain(meanings).collect::<Vec<_>>().join("\n");
    object.remove("oneOf");
    object.insert("type".into(), "string".into());
    object.insert("enum".into(), Value::Array(words));
    object.insert("description".into(), about.into());
}

/// The API server knows no unsigned integers, and what it admits must be readable: the range goes into the schema.
fn bound_integer(object: &mut Map<String, Value>) {
    let (low, high) = match object.get("format").and_then(Value::as_str) {
        Some("uint16") => (0, i64::from(u16::MAX)),
        Some("uint32") => (0, i64::from(u32::MAX)),
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("uint64") => (0, i64::MAX),
        _ => return,
    };
    object.insert("format".into(), "int64".into());
    for (word, limit) in [("minimum", low), ("maximum", high)] {
        if !object.contains_key(word) {
            object.insert(word.into(), limit.into());
        }
    }
}
