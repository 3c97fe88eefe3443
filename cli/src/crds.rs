//! `tidegate crds`: the definitions of the custom resources, as an API server takes them.

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;
use tidegate_actuator::crds::definitions;

const MADE: &str = "# Made by `tidegate crds`; a test keeps it equal to the code.\n";

/// How objects of a cluster are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Manifest {
    /// Documents, one after the other.
    #[default]
    Yaml,
    /// One list.
    Json,
}

/// All definitions.
pub(crate) fn print(output: Manifest) -> anyhow::Result<String> {
    match output {
        Manifest::Json => {
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": definitions() });
            serde_json::to_string_pretty(&list).context("failed to write the definitions")
        }
        Manifest::Yaml => {
            let documents: Vec<_> = definitions().iter().map(document).collect::<anyhow::Result<_>>()?;
            Ok(format!("{MADE}{}", documents.join("---\n")))
        }
    }
}

/// One document of YAML.
pub(crate) fn document(object: &impl Serialize) -> anyhow::Result<String> {
    serde_saphyr::to_string(object).context("failed to write YAML")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;
    use tidegate_actuator::crds::{GpuPool, ServingPolicy, TrainingPolicy};
    use tidegate_core::policy::Problem;

    use super::*;
    use crate::config::yaml;

    #[test]
    fn the_committed_definitions_are_what_the_code_says() {
        for definition in definitions() {
            let file = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds").join(&file);
            let made = format!("{MADE}{}", document(&definition).unwrap());
            if std::env::var_os("TIDEGATE_UPDATE").is_some() {
                std::fs::write(&path, &made).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                kept == made,
                "deploy/crds/{file} is not what the code says; run the test with TIDEGATE_UPDATE=1"
            );
        }
        let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds")).unwrap();
        assert_eq!(files.count(), definitions().len(), "a file of no definition");
    }

    #[test]
    fn yaml_says_what_json_says() {
        for definition in definitions() {
            let text = document(&definition).unwrap();
            let read = yaml::Document::parse(&text).unwrap().value;
            assert_eq!(read, serde_json::to_value(&definition).unwrap(), "{}", definition.spec.names.plural);
        }
    }

    /// Paths of `value` that `schema` does not know.
    fn unknown(value: &Value, schema: &Value, path: &str) -> Vec<String> {
        let items =
            value.as_array().into_iter().flatten().flat_map(|item| unknown(item, &schema["items"], path));
        let fields = value.as_object().into_iter().flatten().flat_map(|(name, field)| {
            let path = format!("{path}.{name}");
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Null) => vec![path],
                (Value::Null, inner) => unknown(field, inner, &path),
                (inner, _) => unknown(field, inner, &path),
            }
        });
        items.chain(fields).collect()
    }

    /// The problems of a policy of this kind.
    fn problems(kind: &str, object: Value) -> serde_json::Result<Vec<Problem>> {
        Ok(match kind {
            "ServingPolicy" => serde_json::from_value::<ServingPolicy>(object)?.spec.problems(),
            "TrainingPolicy" => serde_json::from_value::<TrainingPolicy>(object)?.spec.problems(),
            "GpuPool" => serde_json::from_value::<GpuPool>(object)?.spec.problems(),
            other => panic!("{other} is no kind of ours"),
        })
    }

    #[test]
    fn the_example_policies_are_admitted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
        let mut kinds = std::collections::BTreeSet::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            // Objects of others that stand beside a policy have a folder of their own.
            if path.is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let object = yaml::Document::parse(&text).unwrap().value;
            let kind = object["kind"].as_str().unwrap().to_owned();
            let definition = definitions().into_iter().find(|made| made.spec.names.kind == kind).unwrap();
            let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
            let spec = &schema["openAPIV3Schema"]["properties"]["spec"];
            assert_eq!(unknown(&object["spec"], spec, "spec"), Vec::<String>::new(), "{}", path.display());
            let problems =
                problems(&kind, object).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(problems, [], "{}", path.display());
            kinds.insert(kind);
        }
        assert_eq!(kinds.len(), definitions().len(), "a kind has no example");
    }
}
