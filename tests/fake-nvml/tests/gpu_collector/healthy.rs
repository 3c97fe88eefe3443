//! GPUs that are well: what is told of them, and how they are asked.

use crate::fake::{Fake, Rig, gpu, gpus, until, uuid};
use tidegate_agent::collect::Cause;
use tidegate_agent::collect::gpu::reading::{GpuProcess, ThrottleReason};
use tidegate_core::{Scope, Signal};

#[tokio::test]
async fn eight_gpus_tell_everything_through_one_handle() {
    let rig = Rig::new(&format!("journal = true\n{}", gpus(8)));
    // The performance monitor and rates need two readings.
    until("rates", || rig.value(7, Signal::GpuSmActiveRatio).is_some()).await;
    for signal in Signal::ALL.iter().filter(|signal| signal.scope() == Scope::Gpu) {
        for index in 0..8 {
            assert!(rig.value(index, *signal).is_some(), "{} of {index}", signal.name());
        }
    }
    for (signal, wanted) in [
        (Signal::GpuUp, 1.0),
        (Signal::GpuBusyRatio, 0.97),
        (Signal::GpuMemoryUsedBytes, 64_424_509_440.0),
        (Signal::GpuPowerWatts, 650.25),
        (Signal::GpuEnergyJoules, 1_234.5),
        (Signal::GpuMemoryTemperature, 70.0),
        (Signal::GpuSmClock, 1.98e9),
        (Signal::GpuEccCorrectedErrors, 5.0),
        (Signal::GpuRowsRemappedUncorrectable, 2.0),
        (Signal::GpuPcieReplays, 9.0),
        (Signal::GpuSmActiveRatio, 0.88),
        (Signal::GpuPcieSentBytesPerSecond, 10_485_760.0),
        (Signal::GpuNvlinkReceivedBytesPerSecond, 31_457_280.0),
        (Signal::GpuProcesses, 2.0),
    ] {
        assert_eq!(rig.value(3, signal), Some(wanted), "{}", signal.name());
    }
    assert_eq!((rig.node(Signal::GpusExpected), rig.node(Signal::GpusPresent)), (Some(8.0), Some(8.0)));
    assert_eq!(rig.fake.calls("nvmlInit_v2"), 1, "one handle for all");
    assert_eq!(rig.fake.calls("nvmlDeviceGetPcieThroughput"), 0, "it takes 20 ms per direction");
    let status = rig.status().unwrap();
    assert_eq!((status.up, status.cause), (Some(true), None));
    let gpus = rig.gpus().unwrap();
    let first = &gpus.readings[0];
    assert!(first.causes.is_empty(), "{:?}", first.causes);
    assert_eq!(gpus.driver_version.as_deref(), Some("580.95.05"));
    assert_eq!(first.gpu.pci.unwrap().to_string(), "00000000:10:00.0");
    assert_eq!(
        first.values.throttled_ns[&ThrottleReason::HardwareThermal],
        12,
        "by the number of this driver"
    );
    assert_eq!(first.values.pcie_sent_bytes, None, "32 bits of bytes say nothing");
    assert_eq!(first.values.nvlink_sent_bytes, Some(8192), "of all links");
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn processes_are_told_with_what_they_use() {
    let rig = Rig::new(&gpu(0, "mps = [{ pid = 4242, memory = 1 }, { pid = 9000, memory = 7 }]"));
    until("a reading", || rig.gpus().is_some()).await;
    let processes = || rig.gpus().unwrap().readings[0].values.processes.clone().unwrap();
    let process =
        |pid, memory_bytes, sm_percent| GpuProcess { pid, memory_bytes, sm_percent: Some(sm_percent) };
    let first = processes();
    assert_eq!(first.iter().map(|process| process.pid).collect::<Vec<_>>(), [4242, 4243, 9000], "each once");
    assert_eq!(first[1..], [process(4243, None, 0.0), process(9000, Some(7), 0.0)]);
    // The driver's samples are taken once; none since then is no use, and no failure.
    until("no use", || processes()[0].sm_percent == Some(0.0)).await;
    assert_eq!(rig.errors(Cause::Timeout), 0.0);
    rig.fake.says(&gpu(0, "").replace("used = [40, 60]", "used = [40, 60, 10, 30]"));
    until("use again", || processes()[0].sm_percent == Some(20.0)).await;
    rig.agent.shutdown().await;
}

const SPLIT: &str = "split = true\ninstance = [\n\
    { slot = 0, uuid = \"MIG-a\", id = 9, name = \"NVIDIA H100 80GB HBM3 MIG 1g.10gb\", memory = [100, 10, 60, 30], \
      process = [{ pid = 7, memory = 30 }], monitor = { 2 = 42.0 } },\n\
    { slot = 3, uuid = \"MIG-b\", id = 13, name = \"NVIDIA H100 80GB HBM3 MIG 2g.20gb\", memory = [200, 20, 180, 0] } ]";

#[tokio::test]
async fn instances_stand_beside_their_gpu() {
    let whole = gpu(0, SPLIT).replace("monitor = { 1 =", "unused = { 1 =");
    let whole: String =
        whole.lines().filter(|line| !line.starts_with("unused")).map(|line| format!("{line}\n")).collect();
    let rig = Rig::new(&whole);
    until("the monitor of an instance", || rig.of_uuid("MIG-a", Signal::GpuSmActiveRatio).is_some()).await;
    for (uuid, signal, wanted) in [
        ("MIG-a", Signal::GpuSmActiveRatio, Some(0.42)),
        ("MIG-a", Signal::GpuMemoryUsedBytes, Some(30.0)),
        ("MIG-a", Signal::GpuProcesses, Some(1.0)),
        ("MIG-a", Signal::GpuBusyRatio, None),
        ("MIG-a", Signal::GpuPowerWatts, None),
        ("MIG-b", Signal::GpuMemoryFreeBytes, Some(180.0)),
        ("MIG-b", Signal::GpuSmActiveRatio, None),
        ("MIG-b", Signal::GpuProcesses, None),
        (&uuid(0), Signal::GpuPowerWatts, Some(650.25)),
        (&uuid(0), Signal::GpuBusyRatio, None),
    ] {
        assert_eq!(rig.of_uuid(uuid, signal), wanted, "{uuid} {}", signal.name());
    }
    assert_eq!(rig.node(Signal::GpusPresent), Some(1.0), "instances are not GPUs");
    let gpus = rig.gpus().unwrap();
    let instance = gpus.get("MIG-b").unwrap().gpu.instance.clone().unwrap();
    assert_eq!((instance.parent, instance.gpu_instance), (uuid(0), Some(13)));
    assert_eq!(instance.profile.as_deref(), Some("2g.20gb"));
    // Taken apart and put together otherwise: what is gone is not missing, what is new is found.
    let other = whole.replace("MIG-b", "MIG-c").replace("split = true", "split = true # again");
    rig.fake.says(&other);
    until("the new instance", || rig.of_uuid("MIG-c", Signal::GpuUp) == Some(1.0)).await;
    assert_eq!(rig.of_uuid("MIG-b", Signal::GpuUp), None);
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn an_old_driver_lacks_functions_and_nothing_fails() {
    let fake = Fake::new(&gpus(1));
    fake.install(&[
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetFieldValues",
        "nvmlGpmQueryDeviceSupport",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetProcessUtilization",
        "nvmlEventSetWait_v2",
    ]);
    let rig = Rig::of(fake);
    until("a reading", || rig.value(0, Signal::GpuPowerWatts).is_some()).await;
    rig.readings(3).await;
    for signal in [Signal::GpuMemoryUsedBytes, Signal::GpuEnergyJoules, Signal::GpuSmActiveRatio] {
        assert_eq!(rig.value(0, signal), None, "{}", signal.name());
    }
    assert_eq!(rig.value(0, Signal::GpuBusyRatio), Some(0.97));
    let gpus = rig.gpus().unwrap();
    assert!(gpus.readings[0].causes.is_empty(), "{:?}", gpus.readings[0].causes);
    let processes = gpus.readings[0].values.processes.as_ref().unwrap();
    assert_eq!(processes[0].sm_percent, None, "not known is not none");
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn numbers_of_fields_follow_the_driver() {
    let old = format!("driver = \"550.54.15\"\n{}", gpus(1))
        .replace("id = 269", "id = 251")
        .replace("id = 270", "id = 252")
        .replace("id = 271", "id = 253");
    let rig = Rig::new(&old);
    until("a reading", || rig.gpus().is_some()).await;
    let throttled = &rig.gpus().unwrap().readings[0].values.throttled_ns;
    assert_eq!(throttled[&ThrottleReason::SoftwareThermal], 11);
    assert_eq!(throttled[&ThrottleReason::PowerBrake], 13);
    rig.agent.shutdown().await;
}
