//! Whether the definition that a cluster has is good enough for this program: one of an older version silently drops fields
//! that it does not know, and admits what its rules do not forbid.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};

use super::VERSION;

/// What a cluster's definition lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lacks {
    /// The version itself is not there or not served.
    pub version: bool,
    /// Fields that the API server would drop, such as `spec.act.via`.
    pub fields: Vec<String>,
    /// Rules that it would not hold, by their message.
    pub rules: Vec<String>,
}

impl Lacks {
    /// Whether it lacks nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.version && self.fields.is_empty() && self.rules.is_empty()
    }
}

impl std::fmt::Display for Lacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.version {
            return write!(f, "version {VERSION} is not served");
        }
        if self.is_nothing() {
            return f.write_str("nothing");
        }
        let (fields, rules) = (self.fields.join(", "), self.rules.join("; "));
        match (fields.is_empty(), rules.is_empty()) {
            (false, false) => write!(f, "fields {fields}; rules: {rules}"),
            (false, true) => write!(f, "fields {fields}"),
            _ => write!(f, "rules: {rules}"),
        }
    }
}

/// What `installed` lacks of `wanted`. A newer one may have more.
#[must_use]
pub fn lacks(installed: &CustomResourceDefinition, wanted: &CustomResourceDefinition) -> Lacks {
    let (Some(installed), Some(wanted)) = (served(installed), served(wanted)) else {
        return Lacks { version: true, ..Lacks::default() };
    };
    let missing = |what: fn(&JSONSchemaProps, &str, &mut BTreeSet<String>)| {
        let (mut here, mut there) = (BTreeSet::new(), BTreeSet::new());
        for (version, found) in [(wanted, &mut here), (installed, &mut there)] {
            if let Some(root) = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref())
            {
                what(root, "", found);
            }
        }
        here.difference(&there).cloned().collect::<Vec<_>>()
    };
    Lacks { version: false, fields: missing(fields), rules: missing(rules) }
}

fn served(definition: &CustomResourceDefinition) -> Option<&CustomResourceDefinitionVersion> {
    definition.spec.versions.iter().find(|version| version.name == VERSION && version.served)
}

fn fields(schema: &JSONSchemaProps, path: &str, found: &mut BTreeSet<String>) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        fields(field, &path, found);
        found.insert(path);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        fields(items, &format!("{path}[]"), found);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        fields(values, &format!("{path}{{}}"), found);
    }
}

/// All rules stand at the spec.
fn rules(schema: &JSONSchemaProps, _: &str, found: &mut BTreeSet<String>) {
    let spec = schema.properties.as_ref().and_then(|properties| properties.get("spec"));
    let rules = spec.and_then(|spec| spec.x_kubernetes_validations.as_ref());
    // A rule that was reworded is another rule: what counts is what it holds.
    found.extend(
        rules.into_iter().flatten().map(|rule| rule.message.clone().unwrap_or_else(|| rule.rule.clone())),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_definition_lacks_is_named() {
        let [serving, training, pool] = super::super::definitions().try_into().unwrap();
        for definition in [&serving, &training, &pool] {
            assert_eq!(lacks(definition, definition).to_string(), "nothing");
        }
        let mut older = serving.clone();
        let schema = older.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
        spec.properties.as_mut().unwrap().remove("act");
        spec.x_kubernetes_validations.as_mut().unwrap().retain(|rule| !rule.rule.contains("fallback"));
        let found = lacks(&older, &serving);
        assert_eq!(found.fields, ["spec.act", "spec.act.via"]);
        assert_eq!(
            found.to_string(),
            "fields spec.act, spec.act.via; rules: fallback must be within replicas"
        );
        assert!(lacks(&serving, &older).is_nothing(), "a newer one may have more");
        older.spec.versions[0].served = false;
        assert!(lacks(&older, &serving).version);
    }
}
