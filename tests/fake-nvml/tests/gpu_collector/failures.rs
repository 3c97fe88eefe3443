//! GPUs and drivers that fail: nothing becomes 0, causes stay apart, and what comes back is read again.

use crate::fake::{Fake, Rig, gpu, gpus, until, uuid};
use tidegate_agent::collect::gpu::{GpuCause, GpuOptions};
use tidegate_agent::collect::{Cause, SourceName};
use tidegate_core::{Signal, Subject};

#[tokio::test]
async fn each_return_code_is_a_cause_of_its_own_and_never_a_zero() {
    let rig = Rig::new(&gpus(2));
    until("a reading", || rig.value(0, Signal::GpuPowerWatts).is_some()).await;
    for (code, cause) in [
        (3, None),
        (6, None),
        (13, None),
        (21, None),
        (2, Some(GpuCause::InvalidArgument)),
        (4, Some(GpuCause::NoPermission)),
        (7, Some(GpuCause::InsufficientSize)),
        (8, Some(GpuCause::InsufficientPower)),
        (10, Some(GpuCause::DriverTimeout)),
        (11, Some(GpuCause::Interrupts)),
        (14, Some(GpuCause::CorruptedInforom)),
        (17, Some(GpuCause::OperatingSystem)),
        (19, Some(GpuCause::InUse)),
        (20, Some(GpuCause::OutOfMemory)),
        (999, Some(GpuCause::Unknown)),
        (4711, Some(GpuCause::Other)),
    ] {
        let errors = format!("errors = {{ nvmlDeviceGetPowerUsage = {code} }}");
        rig.fake.says(&(gpu(0, &errors) + &gpu(1, "")));
        until("the value is gone", || rig.value(0, Signal::GpuPowerWatts).is_none()).await;
        assert_eq!(rig.value(0, Signal::GpuTemperature), Some(61.0), "{code}: the rest is told");
        assert_eq!(rig.value(1, Signal::GpuPowerWatts), Some(650.25), "{code}: the other GPU is told");
        let causes = rig.gpus().unwrap().readings[0].causes.clone();
        assert_eq!(
            causes.into_iter().collect::<Vec<_>>(),
            cause.map(|cause| (cause, 1)).into_iter().collect::<Vec<_>>()
        );
        assert!(cause.is_none_or(|cause| rig.errors(Cause::Gpu(cause)) >= 1.0), "{code}");
        rig.fake.says(&gpus(2));
        until("the value is back", || rig.value(0, Signal::GpuPowerWatts).is_some()).await;
    }
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn each_value_of_a_batch_has_its_own_outcome() {
    let fields = gpu(0, "")
        .replace("id = 82, scope = 0, value = 70, kind = \"u32\"", "id = 82, value = 70, code = 4")
        .replace("id = 83, scope = 0, value = 1234500, kind = \"u64\"", "id = 83, value = 0, code = 999")
        .replace("id = 94, scope = 0, value = 9, kind = \"u32\"", "id = 94, value = 0, code = 3")
        .replace("  { id = 142, scope = 0, value = 1, kind = \"u32\" },\n", "");
    let rig = Rig::new(&fields);
    until("a reading", || rig.gpus().is_some()).await;
    for signal in [
        Signal::GpuMemoryTemperature,
        Signal::GpuEnergyJoules,
        Signal::GpuPcieReplays,
        Signal::GpuRowsRemappedCorrectable,
    ] {
        assert_eq!(rig.value(0, signal), None, "{}", signal.name());
    }
    assert_eq!(
        rig.value(0, Signal::GpuRowsRemappedUncorrectable),
        Some(2.0),
        "in step after what is left out"
    );
    let causes: Vec<_> = rig.gpus().unwrap().readings[0].causes.clone().into_iter().collect();
    assert_eq!(causes, [(GpuCause::NoPermission, 1), (GpuCause::Unknown, 1)]);
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn a_lost_gpu_is_told_as_down_and_found_again() {
    let lost = |code: u32| format!("errors = {{ nvmlDeviceGetTemperature = {code} }}");
    for (script, cause) in [
        (gpu(1, "lost_after = 0"), GpuCause::Lost),
        (gpu(1, &lost(15)), GpuCause::Lost),
        (gpu(1, &lost(16)), GpuCause::ResetRequired),
        (gpu(1, "errors = { nvmlDeviceGetHandleByIndex_v2 = 999 }"), GpuCause::Unknown),
        (String::new(), GpuCause::Missing),
    ] {
        let rig = Rig::new(&gpus(2));
        until("both", || rig.node(Signal::GpusPresent) == Some(2.0)).await;
        rig.fake.says(&(gpu(0, "") + &script));
        until("it is down", || rig.value(1, Signal::GpuUp) == Some(0.0)).await;
        assert_eq!(rig.value(1, Signal::GpuPowerWatts), None, "its values are gone");
        assert_eq!(rig.value(0, Signal::GpuPowerWatts), Some(650.25), "the other goes on");
        assert_eq!((rig.node(Signal::GpusExpected), rig.node(Signal::GpusPresent)), (Some(2.0), Some(1.0)));
        let told = rig.gpus().unwrap().get(&uuid(1)).unwrap().down;
        assert!(told == Some(cause) || told == Some(GpuCause::InvalidArgument), "{cause:?}: {told:?}");
        until("its cause", || rig.gpus().is_some_and(|gpus| gpus.get(&uuid(1)).unwrap().down == Some(cause)))
            .await;
        assert_eq!(rig.status().unwrap().up, Some(true), "the source is well");
        rig.fake.says(&gpus(2));
        until("it is back", || rig.value(1, Signal::GpuUp) == Some(1.0)).await;
        until("its values are", || rig.value(1, Signal::GpuPowerWatts).is_some()).await;
        rig.agent.shutdown().await;
    }
}

#[tokio::test]
async fn gpus_that_are_bound_to_the_driver_and_never_answer_are_expected() {
    let fake = Fake::new(&gpus(1));
    for device in ["0000:10:00.0", "0000:11:00.0"] {
        std::fs::create_dir_all(fake.folder().join("sys/bus/pci/drivers/nvidia").join(device)).unwrap();
    }
    let rig = Rig::of(fake);
    until("a reading", || rig.node(Signal::GpusPresent).is_some()).await;
    assert_eq!((rig.node(Signal::GpusExpected), rig.node(Signal::GpusPresent)), (Some(2.0), Some(1.0)));
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn a_call_that_hangs_is_stuck_alone_and_comes_back() {
    let rig = Rig::new(&gpus(2));
    until("a reading", || rig.value(0, Signal::GpuPowerWatts).is_some()).await;
    rig.fake.says(&format!("hang = \"nvmlDeviceGetTemperature\"\n{}", gpus(2)));
    until("it is stuck", || rig.status().is_some_and(|status| status.stuck)).await;
    assert_eq!(rig.status().unwrap().cause, Some(Cause::Timeout));
    for signal in [Signal::GpuUp, Signal::GpuPowerWatts, Signal::GpuEnergyJoules] {
        assert_eq!(rig.value(0, signal), None, "what was told is gone");
    }
    assert_eq!(rig.node(Signal::GpusPresent), None);
    assert!(rig.gpus().is_none());
    let load = || rig.agent.latest(&Subject::Node, Signal::Load1).map(|(_, at)| at);
    let before = load();
    until("the machine is read all the while", || load() > before).await;
    assert!(rig.status().unwrap().stuck);
    rig.fake.says(&gpus(2));
    until("it has come back", || rig.value(1, Signal::GpuPowerWatts).is_some()).await;
    assert!(!rig.status().unwrap().stuck);
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn a_driver_that_hangs_does_not_hold_up_the_end() {
    let rig = Rig::new(&format!("hang = \"nvmlInit_v2\"\n{}", gpus(1)));
    until("it is stuck", || rig.status().is_some_and(|status| status.stuck)).await;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), rig.agent.shutdown()).await;
    // Let go, so that the thread does not outlive the test's folder.
    rig.fake.says(&gpus(1));
    ended.expect("the end waits for a bounded while");
}

#[tokio::test]
async fn a_driver_that_was_changed_beneath_is_opened_anew() {
    let rig = Rig::new(&format!("errors = {{ nvmlInit_v2 = 18 }}\n{}", gpus(1)));
    let failed = |cause| rig.status().is_some_and(|status| status.cause == Some(Cause::Gpu(cause)));
    until("it does not fit", || failed(GpuCause::DriverMismatch)).await;
    assert!(rig.gpus().is_none());
    rig.fake.says(&format!("errors = {{ nvmlInit_v2 = 9 }}\n{}", gpus(1)));
    until("it is not loaded", || failed(GpuCause::NoDriver)).await;
    rig.fake.says(&format!("journal = true\n{}", gpus(1)));
    until("it fits", || rig.value(0, Signal::GpuUp) == Some(1.0)).await;
    // Upgraded while it is open: every call says so.
    rig.fake.says(&gpu(0, "errors = { nvmlDeviceGetUtilizationRates = 18 }"));
    until("it no longer fits", || failed(GpuCause::DriverMismatch)).await;
    assert_eq!(rig.value(0, Signal::GpuUp), None);
    rig.fake.says(&format!("journal = true\n{}", gpus(1)));
    until("it fits again", || rig.value(0, Signal::GpuPowerWatts).is_some()).await;
    assert!(rig.fake.calls("nvmlShutdown") >= 1, "it was closed before it was opened");
    assert_eq!(rig.status().unwrap().cause, None);
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn a_library_that_is_not_there_fails_only_who_asked_for_it() {
    let rig = Rig::of(Fake::absent());
    until("it fails", || rig.status().is_some_and(|s| s.cause == Some(Cause::Gpu(GpuCause::NoLibrary))))
        .await;
    until("the machine is read", || rig.node(Signal::Load1).is_some()).await;
    rig.agent.shutdown().await;

    let fake = Fake::absent();
    let options = GpuOptions { required: false, ..fake.options() };
    let rig = Rig::with(fake, options);
    until("the machine is read", || rig.node(Signal::CpuBusyRatio).is_some()).await;
    until("it is as good as off", || rig.status().is_none()).await;
    assert_eq!(rig.errors(Cause::Gpu(GpuCause::NoLibrary)), 0.0);
    rig.fake.says(&gpus(1));
    rig.fake.install(&[]);
    until("it has appeared", || rig.value(0, Signal::GpuUp) == Some(1.0)).await;
    assert!(rig.agent.status().sources.contains_key(&SourceName::Gpu));
    rig.agent.shutdown().await;
}
