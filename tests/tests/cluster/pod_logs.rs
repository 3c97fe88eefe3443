//! The chart's agent ships what containers write only where it is told where to, and then writes to nothing but its own state.

use std::process::Command;

use serde_json::Value;
use tidegate_tests::repository::root;
use tidegate_tests::servers::directory;

/// The DaemonSet that the chart makes with these values.
fn agent(values: &[&str]) -> Value {
    let mut command = Command::new(directory("helm", "cluster").join("bin/helm"));
    command.args(["template", "tidegate"]).arg(root().join("deploy/helm/tidegate"));
    command.args(["--show-only", "templates/agent.yaml"]);
    command.args(values.iter().flat_map(|value| ["--set", value]));
    let output = command.output().expect("helm was built by cargo xtask");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_str(&String::from_utf8_lossy(&output.stdout)).expect("it is YAML")
}

fn arguments(agent: &Value) -> Vec<&str> {
    let of = agent["spec"]["template"]["spec"]["containers"][0]["args"].as_array();
    of.into_iter().flatten().filter_map(Value::as_str).filter(|one| one.starts_with("--logs")).collect()
}

/// Names of volumes of the node, with whether they are written to.
fn of_node(agent: &Value) -> Vec<(String, bool)> {
    let spec = &agent["spec"]["template"]["spec"];
    let mounts = spec["containers"][0]["volumeMounts"].as_array().expect("it has mounts");
    let volumes = spec["volumes"].as_array().expect("it has volumes");
    let of_node = volumes.iter().filter(|volume| volume["hostPath"].is_object());
    let names = of_node.map(|volume| volume["name"].as_str().expect("a volume has a name").to_owned());
    let is_written =
        |name: &String| mounts.iter().any(|mount| mount["name"] == *name && mount["readOnly"] != true);
    names.map(|name| (name.clone(), is_written(&name))).collect()
}

#[test]
fn logs_are_shipped_only_where_a_server_is_named() {
    let off = agent(&[]);
    assert_eq!(arguments(&off), Vec::<&str>::new());
    assert_eq!(of_node(&off), [("host".to_owned(), false)]);
    let on = agent(&["agent.logs.url=https://es:9200", "agent.logs.secretName=es", "agent.logs.ca=true"]);
    assert_eq!(
        arguments(&on),
        [
            "--logs-to=https://es:9200",
            "--logs-data-stream=logs-tidegate-default",
            "--logs-state=/var/lib/tidegate-logs",
            "--logs-api-key=/etc/tidegate/logs/api-key",
            "--logs-ca=/etc/tidegate/logs/ca.crt",
        ]
    );
    assert_eq!(of_node(&on), [("host".to_owned(), false), ("logs-state".to_owned(), true)]);
}
