//! The head of the OpenAPI document, and those routes below a workload's id that one wildcard serves.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::problem::Problem;
use super::routes::workloads;
use super::views::{ConditionChange, Severity};

/// The head of the document; the routes that are not named here add themselves.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Watches ML workloads, forecasts their load and sizes them. Times are RFC 3339 UTC, durations are in \
            seconds, what is unknown is null. Errors are application/problem+json (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(workloads::one, workloads::forecast, workloads::series, workloads::decisions),
    components(schemas(Problem, ConditionChange, Severity)),
    modifiers(&Bearer),
    security((), ("token" = []))
)]
pub(super) struct Document;

/// Bearer tokens: needed beyond loopback, and for alerts always.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        http.description =
            Some("Scopes: read, act (which includes the others), alerts. Not needed on loopback except for alerts.".into());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(http));
    }
}
