//! What the tests of this suite have in common: commands that end, configurations, and looks at a workload. No test is in here.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_tests::servers::{Program, Tidegate, binary};
use tidegate_tests::waiting;

/// A command that is to end by itself has by then, on a busy machine.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// A directory of one test.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// The command, away from the configuration and the settings of whoever runs the tests.
pub(crate) fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(dir);
    command.env("HOME", dir).env_remove("XDG_CONFIG_HOME").env_remove("TIDEGATE_LOG");
    command.env_remove("TIDEGATE_SERVER").env_remove("TIDEGATE_TOKEN_FILE");
    command
}

/// Runs a command in `dir` to its end.
pub(crate) fn run(dir: &Path, arguments: &[&str]) -> Ended {
    let said = folder();
    let mut program = Program::start("command", &mut command(dir, arguments), said.path());
    let ended = program.wait(END_LIMIT);
    let (output, errors) = (program.output(), program.errors());
    let status = ended.unwrap_or_else(|| panic!("{arguments:?} did not end: {errors}"));
    Ended { code: status.code(), output, errors }
}

/// Writes a file of the test's directory and gives its path as text.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).expect("the directory is writable");
    path.to_str().expect("the path is UTF-8").to_owned()
}

/// A configuration of these workloads: JSON is YAML.
pub(crate) fn configuration(workloads: &[Value]) -> String {
    json!({ "workloads": workloads }).to_string()
}

/// A serving workload that is sized for real, with short limits.
pub(crate) fn serving(name: &str, command: &[&str]) -> Value {
    json!({
        "name": name,
        "process": { "command": command, "startDeadline": "2s", "stopGrace": "1s" },
        "serving": {
            "mode": "active",
            "replicas": { "min": 1, "max": 4 },
            "slo": { "latency": "500ms", "target": 0.99 },
            "scaling": { "leadTime": "1s", "scaleDownHold": "2s", "flapWindow": "2s" },
        },
    })
}

/// A serving workload of the sample service, whose model it makes first; ready at once.
pub(crate) fn digits(dir: &Path, name: &str, service_time: &str) -> Value {
    let model = dir.join("model.bin");
    let model = model.to_str().expect("the path is UTF-8");
    let made = run(dir, &["sample", "digits-train", "--once", "--steps", "20", "--out", model]);
    assert_eq!(made.code, Some(0), "{}", made.errors);
    let program = binary();
    let program = program.to_str().expect("the path is UTF-8");
    let command = [program, "sample", "digits-serve", "--port", "{port}", "--model", model];
    let options = ["--load-time", "0s", "--service-time", service_time];
    let mut workload = serving(name, &[&command[..], &options[..]].concat());
    workload["process"]["readyPath"] = "/readyz".into();
    workload["process"]["startDeadline"] = "15s".into();
    workload["gateway"] = json!({ "listen": "127.0.0.1:0" });
    workload["metrics"] = json!({});
    workload
}

/// `tidegate up` on this configuration.
pub(crate) async fn up_on(dir: TempDir, workloads: &[Value]) -> Tidegate {
    write(dir.path(), "tidegate.yaml", &configuration(workloads));
    Tidegate::up_in(dir, &[]).await
}

/// The text of a condition that holds for a workload.
pub(crate) fn condition(workload: &Value, name: &str) -> Option<String> {
    let conditions = workload["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["name"] == name)?;
    Some(found["text"].as_str()?.to_owned())
}

/// Codes of a decision's reasons, in order.
pub(crate) fn codes(decision: &Value) -> Vec<&str> {
    let reasons = decision["reasons"].as_array().map_or(&[][..], Vec::as_slice);
    reasons.iter().filter_map(|reason| reason["code"].as_str()).collect()
}

/// Waits until a workload is as `wanted`; says how it was when it never is.
pub(crate) async fn workload_until<T>(
    server: &mut Tidegate,
    name: &str,
    what: &str,
    limit: Duration,
    wanted: impl Fn(&Value) -> Option<T>,
) -> T {
    let mut last = Value::Null;
    let found = waiting::within(limit, async || {
        last = server.workload(name).await?;
        wanted(&last)
    })
    .await;
    found.unwrap_or_else(|| {
        panic!("waited {limit:?} in vain for {what} of {name}; it is {last:#}\n{}", server.program().errors())
    })
}

/// Replicas that are ready.
pub(crate) fn ready(workload: &Value) -> u64 {
    workload["replicas"]["ready"].as_u64().unwrap_or(0)
}
