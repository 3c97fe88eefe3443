//! Reads the queries out of Grafana dashboard files, so that each can be executed. Whether the files fit Grafana's schema is checked elsewhere.

use serde_json::Value;

/// One query of one panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Title of the panel.
    pub panel: String,
    /// `PromQL`, as it stands in the file.
    pub expression: String,
}

/// Every query of a dashboard: those of its panels, of panels inside rows, and of its variables.
#[must_use]
pub fn queries(dashboard: &Value) -> Vec<Query> {
    let mut found = Vec::new();
    let mut open: Vec<&Value> = list(&dashboard["panels"]);
    while let Some(panel) = open.pop() {
        open.extend(list(&panel["panels"]));
        let title = panel["title"].as_str().unwrap_or("untitled");
        let expressions = list(&panel["targets"]).into_iter().filter_map(|target| target["expr"].as_str());
        found.extend(expressions.map(|e| Query { panel: title.to_owned(), expression: e.to_owned() }));
    }
    found
}

/// The metric that each `label_values(METRIC, LABEL)` variable is filled from.
#[must_use]
pub fn variable_metrics(dashboard: &Value) -> Vec<String> {
    let variables = list(&dashboard["templating"]["list"]);
    let texts = variables.into_iter().filter_map(|v| v["query"]["query"].as_str().or(v["query"].as_str()));
    let inner =
        texts.filter_map(|text| text.strip_prefix("label_values(")?.split([',', '{']).next().map(str::trim));
    inner.map(str::to_owned).collect()
}

/// The expression with the dashboard's variables filled in as Grafana does for "All" and a short range.
#[must_use]
pub fn filled(expression: &str, variables: &[(&str, &str)]) -> String {
    let built_in = [("__rate_interval", "30s"), ("__interval", "15s"), ("__range", "5m")];
    let mut text = expression.to_owned();
    for (name, value) in built_in.iter().chain(variables) {
        text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
    }
    text
}

/// Names in an expression that start with one of the prefixes: the metrics that it reads.
#[must_use]
pub fn metric_names(expression: &str, prefixes: &[&str]) -> Vec<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
}

/// Label names that an expression matches, groups or joins on: those in `{…}` and after `by`, `without`, `on`, `group_left`.
#[must_use]
pub fn label_names(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in expression.split('{').skip(1) {
        // No label value of ours holds a brace or a comma.
        let matchers = part.split('}').next().unwrap_or_default();
        found.extend(matchers.split(',').filter_map(|m| m.split(['=', '!', '~']).next()).map(str::to_owned));
    }
    for keyword in ["by", "without", "on", "ignoring", "group_left", "group_right"] {
        for part in expression.split(&format!("{keyword} (")).skip(1) {
            found.extend(part.split(')').next().unwrap_or_default().split(',').map(str::to_owned));
        }
    }
    found.into_iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().map(|values| values.iter().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_queries_inside_rows_too() {
        let dashboard = json!({"panels": [
            {"title": "a", "targets": [{"expr": "up"}]},
            {"title": "row", "panels": [{"title": "b", "targets": [{"expr": "down"}]}]},
        ]});
        let mut found: Vec<_> = queries(&dashboard).into_iter().map(|q| (q.panel, q.expression)).collect();
        found.sort();
        assert_eq!(found, [("a".to_owned(), "up".to_owned()), ("b".to_owned(), "down".to_owned())]);
    }

    #[test]
    fn fills_variables_in_both_notations() {
        let text = filled("rate(x{w=~\"$w\"}[$__rate_interval]) + y{w=~\"${w}\"}", &[("w", ".*")]);
        assert_eq!(text, "rate(x{w=~\".*\"}[30s]) + y{w=~\".*\"}");
    }

    #[test]
    fn reads_the_labels_of_an_expression() {
        let expression =
            "sum by (sink, cause) (rate(m{workload=~\"$w\", code!=\"5xx\"}[1m])) * on (job) group_left () n";
        assert_eq!(label_names(expression), ["workload", "code", "sink", "cause", "job"]);
    }

    #[test]
    fn reads_the_metric_of_a_variable_and_of_an_expression() {
        let dashboard = json!({"templating": {"list": [{"query": "label_values(m_a{x=\"1\"}, workload)"}]}});
        assert_eq!(variable_metrics(&dashboard), ["m_a"]);
        assert_eq!(metric_names("sum by (m_x) (m_a) / other", &["m_"]), ["m_x", "m_a"]);
    }
}
