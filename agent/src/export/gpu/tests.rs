//! Pages of GPUs: under Tidegate's names and under DCGM's.

use super::*;
use crate::clock::Moment;
use crate::collect::SourceName;
use crate::collect::gpu::GpuCause;
use crate::collect::gpu::reading::{GpuIdentity, GpuInstance, GpuMemory, GpuValues};
use crate::collect::gpu::samples::samples;
use crate::collect::gpu::xid::Xid;
use crate::collect::latest::Giver;
use crate::export::{Exporter, Format, Registry};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate_core::{Timestamp, WorkloadId};

fn identity(uuid: &str, index: u32) -> GpuIdentity {
    GpuIdentity {
        uuid: uuid.into(),
        index,
        model: Some("NVIDIA H100".into()),
        pci: Some(format!("0000:{index:02x}:00.0").parse().unwrap()),
        minor: Some(index),
        instance: None,
    }
}

fn gpus() -> Gpus {
    let values = GpuValues {
        busy_percent: Some(97),
        memory: Some(GpuMemory { used: 3 << 20, free: 5 << 20, reserved: 1 << 20, size: 9 << 20 }),
        power_milliwatts: Some(650_250),
        energy_millijoules: Some(5_000),
        sm_clock_mhz: Some(1980),
        throttle_bits: Some(0x44),
        throttled_ns: BTreeMap::from([(ThrottleReason::Power, 2_500_000_000)]),
        ecc_corrected_lifetime: Some(30),
        ..GpuValues::default()
    };
    let reading = |gpu, values| GpuReading { gpu: Arc::new(gpu), values, ..GpuReading::default() };
    let part = GpuInstance {
        parent: "GPU-a".into(),
        gpu_instance: Some(9),
        compute_instance: Some(0),
        profile: Some("1g.10gb".into()),
    };
    let instance = GpuIdentity { uuid: "MIG-b".into(), instance: Some(part), ..identity("GPU-a", 0) };
    let memory = Some(GpuMemory { used: 1 << 20, free: 1 << 20, reserved: 0, size: 2 << 20 });
    let mut lost = reading(identity("GPU-c", 1), GpuValues::default());
    lost.down = Some(GpuCause::Lost);
    let readings = vec![
        reading(identity("GPU-a", 0), values),
        reading(instance, GpuValues { memory, ..GpuValues::default() }),
        lost,
    ];
    Gpus { driver_version: Some("580.95.05".into()), expected: 2, readings, ..Gpus::default() }
}

fn owner(container: &str) -> Owner {
    Owner {
        namespace: "ml".into(),
        pod: "chat-0".into(),
        pod_uid: Some("c9a5".into()),
        container: container.into(),
        workload: WorkloadId::local("chat").ok(),
        shared: false,
        part: 1.0,
    }
}

fn page(uuid: &str, owners: Vec<Owner>, dcgm: Option<String>) -> String {
    let now = Moment { at: Timestamp::from_secs(100), steady: Duration::from_secs(100) };
    let (mut gpus, xids) = (gpus(), Xids::default());
    gpus.readings
        .iter_mut()
        .filter(|reading| reading.gpu.uuid == uuid)
        .for_each(|r| r.owners.clone_from(&owners));
    xids.learn("GPU-c", "0000:01:00.0".parse().unwrap());
    xids.note_driver("GPU-c", Xid::of(79), Timestamp::from_secs(99));
    xids.note_driver("GPU-a", Xid::of(31), Timestamp::from_secs(98));
    let latest = Arc::new(LatestValues::default());
    latest.replace(Giver::Source(SourceName::Gpu), &samples(None, &gpus, &now), |_| None);
    let gpus = watch::channel(Some(Arc::new(gpus))).1;
    let exporter = Exporter::new(Arc::new(Registry::new()), latest, Duration::from_secs(30));
    let exporter = exporter.with_gpus(GpuPage { gpus, xids, dcgm });
    String::from_utf8(exporter.render(Format::Text, now)).unwrap()
}

/// A name in the catalogue with these labels.
fn series(family: Family, rest: &str) -> String {
    format!("\n{}{rest}\n", family.name)
}

#[test]
fn what_gpus_are_and_whose_stands_beside_their_signals() {
    let sliced = Owner { shared: true, part: 0.5, ..owner("sidecar") };
    let page = page("GPU-a", vec![owner("vllm"), sliced], None);
    for (metric, rest) in [
        (
            Metric::GpuInfo,
            r#"{uuid="GPU-a",gpu="0",pci_bus_id="00000000:00:00.0",model_name="NVIDIA H100",driver_version="580.95.05",parent="",profile=""} 1"#,
        ),
        (
            Metric::GpuInfo,
            r#"{uuid="MIG-b",gpu="0",pci_bus_id="00000000:00:00.0",model_name="NVIDIA H100",driver_version="580.95.05",parent="GPU-a",profile="1g.10gb"} 1"#,
        ),
        (
            Metric::GpuOwner,
            r#"{uuid="GPU-a",namespace="ml",pod="chat-0",pod_uid="c9a5",container="sidecar",workload="local/process/chat"} 1"#,
        ),
        (
            Metric::GpuOwnerPart,
            r#"{uuid="GPU-a",namespace="ml",pod="chat-0",pod_uid="c9a5",container="vllm",workload="local/process/chat",estimated="false"} 1"#,
        ),
        (
            Metric::GpuOwnerPart,
            r#"{uuid="GPU-a",namespace="ml",pod="chat-0",pod_uid="c9a5",container="sidecar",workload="local/process/chat",estimated="true"} 0.5"#,
        ),
        (Metric::GpuFailed, r#"{uuid="GPU-c",cause="gpu_lost"} 1"#),
        (Metric::GpuThrottled, r#"{uuid="GPU-a",reason="power"} 1"#),
        (Metric::GpuThrottled, r#"{uuid="GPU-a",reason="hardware_thermal"} 1"#),
        (Metric::GpuThrottled, r#"{uuid="GPU-a",reason="power_brake"} 0"#),
        (Metric::GpuThrottledSeconds, r#"{uuid="GPU-a",reason="power"} 2.5"#),
        (Metric::GpuXidErrors, r#"{uuid="GPU-c",pci_bus_id="00000000:01:00.0",xid="79",class="reset"} 1"#),
        (Metric::GpuXidLast, r#"{uuid="GPU-a",pci_bus_id="",xid="31",class="application"} 98"#),
    ] {
        let wanted = series(metric.family(), rest);
        assert!(page.contains(&wanted), "{wanted} is not in\n{page}");
    }
    let counter = format!("# TYPE {} counter", Signal::GpuEnergyJoules.metric_name());
    assert!(page.contains(&counter) && !page.contains("DCGM"), "{page}");
}

#[test]
fn under_dcgms_names_units_and_labels_are_dcgms() {
    let page = page("MIG-b", vec![owner("vllm")], Some("node-1".into()));
    let labels = |uuid: &str, profile: &str, id: &str, of_owner: [&str; 3]| {
        let [container, namespace, pod] = of_owner;
        format!(
            r#"{{gpu="0",UUID="{uuid}",pci_bus_id="00000000:00:00.0",device="nvidia0",modelName="NVIDIA H100",GPU_I_PROFILE="{profile}",GPU_I_ID="{id}",Hostname="node-1",hostname="node-1",DCGM_FI_DRIVER_VERSION="580.95.05",container="{container}",namespace="{namespace}",pod="{pod}"}}"#
        )
    };
    let whole = labels("GPU-a", "", "", ["", "", ""]);
    for (name, value) in [
        (Dcgm::GpuUtil, 97.0),
        (Dcgm::FbUsed, 3.0),
        (Dcgm::FbFree, 5.0),
        (Dcgm::FbReserved, 1.0),
        (Dcgm::PowerUsage, 650.25),
        (Dcgm::TotalEnergy, 5_000.0),
        (Dcgm::SmClock, 1_980.0),
        (Dcgm::PowerViolation, 2_500_000.0),
        (Dcgm::EccSbeAggregate, 30.0),
        (Dcgm::XidErrors, 31.0),
    ] {
        let wanted = series(name.family(), &format!("{whole} {value}"));
        assert!(page.contains(&wanted), "{wanted} is not in\n{page}");
    }
    let of_instance = labels("GPU-a", "1g.10gb", "9", ["vllm", "ml", "chat-0"]);
    assert!(page.contains(&series(Dcgm::FbUsed.family(), &format!("{of_instance} 1"))), "{page}");
    let dcgm: Vec<_> =
        page.lines().filter(|line| line.contains("DCGM_FI_DEV") && line.contains("GPU-c")).collect();
    assert!(dcgm.is_empty(), "a GPU that is down has no values: {dcgm:?}");
    assert!(!page.contains(Dcgm::MemoryTemp.family().name), "what nobody has is not announced");
}
