//! What the API server reads to know of this API: discovery documents, old and aggregated, and OpenAPI, versions 2 and 3.

use axum::Json;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidegate_core::metrics::external;

use super::{GROUP, VERSION};

const KIND: &str = "ExternalMetricValueList";
/// One document instead of one per group and version, since Kubernetes 1.30.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

fn group_version() -> String {
    format!("{GROUP}/{VERSION}")
}

/// `GET /apis`: the groups; in the aggregated form where that is asked for.
pub(super) async fn groups(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let media = |part: &str| part.trim().replace("; ", ";") == AGGREGATED;
    if accept.is_some_and(|accept| accept.split(',').any(media)) {
        return ([(header::CONTENT_TYPE, AGGREGATED)], Json(aggregated())).into_response();
    }
    Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]})).into_response()
}

fn aggregated() -> Value {
    let resource = json!({
        "resource": external::REPLICAS,
        "responseKind": {"group": GROUP, "version": VERSION, "kind": KIND},
        "scope": "Namespaced",
        "singularResource": "",
        "verbs": ["get"],
    });
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{
            "metadata": {"name": GROUP},
            "versions": [{"version": VERSION, "resources": [resource], "freshness": "Current"}],
        }],
    })
}

/// `GET /apis/external.metrics.k8s.io`.
pub(super) fn group() -> Value {
    let version = json!({"groupVersion": group_version(), "version": VERSION});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": GROUP,
        "versions": [version], "preferredVersion": version,
    })
}

/// `GET /apis/external.metrics.k8s.io/v1beta1`: a metric is a resource that has no objects, only a list of values.
pub(super) fn resources() -> Value {
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(),
        "resources": [{
            "name": external::REPLICAS, "singularName": "", "namespaced": true, "kind": KIND, "verbs": ["get"],
        }],
    })
}

fn info() -> Value {
    json!({"title": "Tidegate external metrics", "version": VERSION})
}

fn path() -> String {
    format!("/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/{}", external::REPLICAS)
}

/// `reference`: where the schema of the answer stands.
fn operation(answer: Value, text: impl Fn(Value) -> Value) -> Value {
    let parameter = |name: &str, place: &str, about: &str| {
        let mut parameter = text(json!({"type": "string"}));
        parameter["name"] = name.into();
        parameter["in"] = place.into();
        parameter["required"] = (place == "path").into();
        parameter["description"] = about.into();
        parameter
    };
    json!({"get": {
        "description": "The size that a policy has in force.",
        "operationId": "readExternalMetricReplicas",
        "parameters": [
            parameter("namespace", "path", "Namespace of the policy."),
            parameter("labelSelector", "query", "Selects one policy by its labels `policy`, `kind`, `name`."),
        ],
        "responses": {"200": answer},
        "x-kubernetes-group-version-kind": {"group": GROUP, "version": VERSION, "kind": KIND},
    }})
}

fn schemas() -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    json!({KIND: {
        "type": "object",
        "required": ["items"],
        "properties": {
            "kind": text("Kind of this document."),
            "apiVersion": text("Version of this document."),
            "items": {"type": "array", "items": {
                "type": "object",
                "required": ["metricName", "metricLabels", "timestamp", "value"],
                "properties": {
                    "metricName": text("Name of the metric."),
                    "metricLabels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "timestamp": {"type": "string", "format": "date-time"},
                    "windowSeconds": {"type": "integer", "format": "int64"},
                    "value": text("The value, as a quantity."),
                },
            }},
        },
        "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": KIND}],
    }})
}

/// `GET /openapi/v2`.
pub(super) fn openapi_v2() -> Value {
    let answer = json!({"description": "OK", "schema": {"$ref": format!("#/definitions/{KIND}")}});
    let path_item = operation(answer, |plain| plain);
    json!({"swagger": "2.0", "info": info(), "paths": {path(): path_item}, "definitions": schemas()})
}

/// `GET /openapi/v3`: where the documents are.
pub(super) fn openapi_v3_root() -> Value {
    let at = format!("apis/{GROUP}/{VERSION}");
    // The hash is a name for the document as it is: it changes only with the program.
    let url = format!("/openapi/v3/{at}?hash={}", env!("CARGO_PKG_VERSION"));
    json!({"paths": {at: {"serverRelativeURL": url}}})
}

/// `GET /openapi/v3/apis/external.metrics.k8s.io/v1beta1`.
pub(super) fn openapi_v3() -> Value {
    let content = json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{KIND}")}}});
    let path_item =
        operation(json!({"description": "OK", "content": content}), |schema| json!({"schema": schema}));
    json!({
        "openapi": "3.0.0", "info": info(), "paths": {path(): path_item}, "components": {"schemas": schemas()},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn groups_come_in_the_form_that_is_asked_for() {
        let kind = async |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            let answer = groups(headers).await;
            let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            body["kind"].as_str().unwrap().to_owned()
        };
        // As the API server's aggregator asks (Kubernetes 1.36).
        let both =
            format!("{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList");
        assert_eq!(kind(&both).await, "APIGroupDiscoveryList");
        assert_eq!(kind("application/json").await, "APIGroupList");
        assert_eq!(kind("*/*").await, "APIGroupList");
    }

    #[test]
    fn references_of_the_openapi_documents_lead_somewhere() {
        let two = openapi_v2();
        assert!(two["definitions"][KIND].is_object());
        assert_eq!(two["paths"][path()]["get"]["parameters"][0]["type"], "string");
        let three = openapi_v3();
        assert!(three["components"]["schemas"][KIND].is_object());
        assert_eq!(three["paths"][path()]["get"]["parameters"][0]["schema"]["type"], "string");
    }
}
