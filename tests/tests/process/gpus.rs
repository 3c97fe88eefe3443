//! GPUs that are not there: the fake driver's library, named in `tidegate.yaml`, up to `/metrics`.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tidegate_core::{Dcgm, Metric, Signal};
use tidegate_tests::servers::{Program, Tidegate, http};
use tidegate_tests::waiting;

use super::written::{command, folder, run, write};

const LIMIT: Duration = Duration::from_secs(30);
/// The fake library as cargo built it for this test.
const BUILT: &str = "libtidegate_fake_nvml.so";
const SCRIPT: &str = "[[gpu]]\nuuid = \"GPU-a\"\nname = \"NVIDIA H100\"\npci = \"00000000:3B:00.0\"\nminor = 0\n\
    utilization = [97, 40]\npower = 650250\n";

const LABELS: &str = r#"{uuid="GPU-a",gpu="0",namespace="",pod="",pod_uid="",container="",workload=""}"#;

/// A directory with the fake library and its script; gives the library's path as text.
fn installed() -> (TempDir, String) {
    let dir = folder();
    let built = std::env::current_exe().expect("this program has a path").with_file_name(BUILT);
    let library = dir.path().join("libnvidia-ml.so.1");
    fs::copy(built, &library).expect("the fake library is built beside this test");
    write(dir.path(), "fake-nvml.toml", SCRIPT);
    (dir, library.to_str().expect("the path is UTF-8").to_owned())
}

/// Waits until the page has all of `wanted`, each in one line.
async fn shows(url: &str, wanted: &[String]) {
    let mut page = String::new();
    let found = waiting::within(LIMIT, async || {
        page = http().get(format!("{url}/metrics")).send().await.ok()?.text().await.ok()?;
        wanted.iter().all(|line| page.lines().any(|of_page| of_page == line)).then_some(())
    });
    assert!(found.await.is_some(), "{wanted:#?} is not in\n{page}");
}

#[tokio::test]
async fn gpus_are_shown_under_both_names_and_their_driver_may_hang() {
    let (dir, library) = installed();
    let config = json!({ "gpu": { "enabled": "always", "library": library, "compat": ["dcgm"] } });
    write(dir.path(), "tidegate.yaml", &config.to_string());
    let mut server = Tidegate::up_in(dir, &[]).await;
    let (power, info) = (Signal::GpuPowerWatts.metric_name(), Metric::GpuInfo.family().name);
    let described = r#"{uuid="GPU-a",gpu="0",pci_bus_id="00000000:3B:00.0",model_name="NVIDIA H100",driver_version="580.95.05",parent="",profile=""}"#;
    shows(server.url(), &[format!("{power}{LABELS} 650.25"), format!("{info}{described} 1")]).await;
    let page = server.metrics().await;
    assert!(page.contains(Dcgm::GpuUtil.family().name), "{page}");
    // Replaced in one step, as an editor does.
    write(server.dir(), "new.toml", &format!("hang = \"nvmlDeviceGetPowerUsage\"\n{SCRIPT}"));
    fs::rename(server.dir().join("new.toml"), server.dir().join("fake-nvml.toml")).expect("it is renamed");
    let up = Metric::SourceUp.family().name;
    shows(server.url(), &[format!("{up}{{source=\"gpu\"}} 0"), format!("{up}{{source=\"node\"}} 1")]).await;
    let page = server.metrics().await;
    assert!(!page.contains(power) && !page.contains(info), "what was told is gone:\n{page}");
    assert_eq!(server.interrupt().code(), Some(0), "a hanging driver does not hold up the end");
}

#[test]
fn a_library_that_is_wanted_and_missing_is_named_by_the_check() {
    let dir = folder();
    write(dir.path(), "tidegate.yaml", "gpu: {enabled: always, library: /nowhere/libnvidia-ml.so.1}\n");
    let ended = run(dir.path(), &["check", "config", "tidegate.yaml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(ended.output.contains("/nowhere/libnvidia-ml.so.1"), "{}", ended.output);
}

#[tokio::test]
async fn an_agent_of_a_node_shows_them_too() {
    let ((dir, library), said) = (installed(), folder());
    let arguments = ["agent", "--listen", "127.0.0.1:0", "--gpu-library", &library, "--gpu-compat", "dcgm"];
    let without = ["--without", "containers", "--without", "pods", "--without", "scrape"];
    let mut command = command(dir.path(), &[&arguments[..], &without[..]].concat());
    let agent = Program::start("agent", &mut command, said.path());
    let address =
        async || agent.output().lines().find_map(|l| Some(l.strip_prefix("listening on ")?.to_owned()));
    let url = waiting::until("its address", LIMIT, address).await;
    let power = Signal::GpuPowerWatts.metric_name();
    let present = Signal::GpusPresent.metric_name();
    shows(&url, &[format!("{power}{LABELS} 650.25"), format!("{present} 1")]).await;
}
