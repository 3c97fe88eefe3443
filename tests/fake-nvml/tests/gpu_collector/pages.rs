//! `/metrics`, whole, from the library to the page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::fake::{Fake, Rig, gpu, gpus, until, uuid};
use tidegate_agent::collect::gpu::GpuOptions;
use tidegate_agent::collect::pods::{Owner, Owners};
use tidegate_agent::export::{Exporter, Format, GpuPage};
use tidegate_core::{Dcgm, Metric, Signal};
use tokio::sync::watch;

fn owned(uuid: &str, containers: &[&str]) -> Arc<Owners> {
    let owners = containers.iter().map(|container| owner(container)).collect();
    Arc::new(Owners::new(BTreeMap::from([(uuid.to_owned(), owners)])))
}

fn owner(container: &str) -> Owner {
    Owner {
        namespace: "ml".into(),
        pod: "chat-0".into(),
        pod_uid: Some("c9a5".into()),
        container: container.into(),
        workload: None,
        shared: false,
        part: 1.0,
    }
}

#[tokio::test]
async fn whose_a_gpu_is_stands_in_its_labels_and_a_shared_one_is_nobodys() {
    let (tell, owners) = watch::channel(owned(&uuid(0), &["vllm"]));
    let fake = Fake::new(&gpus(2));
    let options = GpuOptions { owners: Some(owners), ..fake.options() };
    let rig = Rig::with(fake, options);
    let page = GpuPage { gpus: rig.agent.gpus(), xids: rig.agent.xids(), dcgm: Some("node-1".into()) };
    let exporter =
        Exporter::new(Arc::clone(&rig.registry), rig.agent.latest_values(), Duration::from_secs(30));
    let exporter = exporter.with_gpus(page);
    let text = || String::from_utf8(exporter.render(Format::Text, tidegate_agent::clock::now())).unwrap();
    let has = |name: &str, of: &str, owner: &str| {
        let mut lines = text().lines().map(str::to_owned).collect::<Vec<_>>();
        lines.retain(|line| line.starts_with(name) && line.contains(of) && line.contains(owner));
        !lines.is_empty()
    };
    let power = Signal::GpuPowerWatts.metric_name();
    until("its owner", || {
        has(power, &uuid(0), r#"namespace="ml",pod="chat-0",pod_uid="c9a5",container="vllm""#)
    })
    .await;
    assert!(has(power, &uuid(1), r#"gpu="1",namespace="",pod="""#));
    assert!(has(Dcgm::PowerUsage.family().name, &uuid(0), r#"container="vllm",namespace="ml",pod="chat-0""#));
    tell.send_replace(owned(&uuid(0), &["vllm", "other"]));
    until("nobody's", || has(power, &uuid(0), r#"namespace="",pod="""#)).await;
    assert!(has(Metric::GpuOwner.family().name, &uuid(0), r#"container="other""#));
    rig.fake.says(&gpu(0, "errors = { nvmlDeviceGetTemperature = 15 }"));
    until("it is down", || has(Metric::GpuFailed.family().name, &uuid(0), r#"cause="gpu_lost""#)).await;
    assert!(!has(Dcgm::PowerUsage.family().name, &uuid(0), ""), "its values are gone");
    rig.fake.says(&format!("hang = \"nvmlDeviceGetTemperature\"\n{}", gpus(1)));
    until("it is stuck", || rig.status().is_some_and(|status| status.stuck)).await;
    assert!(!has(Metric::GpuInfo.family().name, "", ""), "what was told is gone");
    rig.fake.says(&gpus(1));
    until("it is back", || has(Metric::GpuInfo.family().name, &uuid(0), "")).await;
    rig.agent.shutdown().await;
}
