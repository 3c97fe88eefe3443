//! GPUs that are not there: the fake driver's library, named in `tidegate.yaml`, up to `/metrics`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tidegate_core::{Dcgm, Metric, Signal};
use tidegate_tests::servers::Tidegate;
use tidegate_tests::waiting;

use super::written::{folder, run, write};

const LIMIT: Duration = Duration::from_secs(30);
/// The fake library as cargo built it for this test.
const BUILT: &str = "libtidegate_fake_nvml.so";
const SCRIPT: &str = "[[gpu]]\nuuid = \"GPU-a\"\nname = \"NVIDIA H100\"\npci = \"00000000:3B:00.0\"\nminor = 0\n\
    utilization = [97, 40]\npower = 650250\n";

fn built() -> PathBuf {
    std::env::current_exe().expect("this program has a path").with_file_name(BUILT)
}

/// Waits until the page has all of `wanted`, each in one line.
async fn shows(server: &Tidegate, wanted: &[String]) {
    let mut page = String::new();
    let found = waiting::within(LIMIT, async || {
        page = server.metrics().await;
        wanted.iter().all(|line| page.lines().any(|of_page| of_page == line)).then_some(())
    });
    assert!(found.await.is_some(), "{wanted:#?} is not in\n{page}");
}

#[tokio::test]
async fn gpus_are_shown_under_both_names_and_their_driver_may_hang() {
    let dir = folder();
    fs::copy(built(), dir.path().join("libnvidia-ml.so.1"))
        .expect("the fake library is built beside this test");
    write(dir.path(), "fake-nvml.toml", SCRIPT);
    let library = dir.path().join("libnvidia-ml.so.1");
    let config = json!({ "gpu": { "enabled": "always", "library": library, "compat": ["dcgm"] } });
    write(dir.path(), "tidegate.yaml", &config.to_string());
    let mut server = Tidegate::up_in(dir, &[]).await;
    let power = Signal::GpuPowerWatts.metric_name();
    let info = Metric::GpuInfo.family().name;
    let labels = r#"{uuid="GPU-a",gpu="0",namespace="",pod="",pod_uid="",container="",workload=""}"#;
    let described = r#"{uuid="GPU-a",gpu="0",pci_bus_id="00000000:3B:00.0",model_name="NVIDIA H100",driver_version="580.95.05",parent="",profile=""}"#;
    shows(&server, &[format!("{power}{labels} 650.25"), format!("{info}{described} 1")]).await;
    let page = server.metrics().await;
    assert!(page.contains(Dcgm::GpuUtil.family().name), "{page}");
    // Replaced in one step, as an editor does.
    write(server.dir(), "new.toml", &format!("hang = \"nvmlDeviceGetPowerUsage\"\n{SCRIPT}"));
    fs::rename(server.dir().join("new.toml"), server.dir().join("fake-nvml.toml")).expect("it is renamed");
    let up = Metric::SourceUp.family().name;
    shows(&server, &[format!("{up}{{source=\"gpu\"}} 0"), format!("{up}{{source=\"node\"}} 1")]).await;
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
