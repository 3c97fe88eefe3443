//! GPU errors, from the driver's events and from the kernel log.

use std::io::Write;

use crate::fake::{Fake, Rig, gpu, gpus, until, uuid};
use tidegate_agent::collect::gpu::GpuOptions;
use tidegate_agent::collect::gpu::xid::{XidClass, XidTeller};
use tidegate_core::Signal;

fn event(gpu: usize, xid: u32) -> String {
    format!("[[event]]\ngpu = {gpu}\nxid = {xid}\n")
}

#[tokio::test]
async fn errors_are_counted_by_gpu_and_class_once_whoever_tells() {
    let fake = Fake::new(&(gpus(2) + &event(0, 13)));
    let log = fake.folder().join("kern.log");
    std::fs::write(&log, "NVRM: Xid (PCI:0000:10:00): 62, old\n").unwrap();
    let options = GpuOptions { kernel_log: Some(log.clone()), ..fake.options() };
    let rig = Rig::with(fake, options);
    until("a reading", || rig.value(1, Signal::GpuUp).is_some()).await;
    rig.readings(3).await;
    let xids = rig.agent.xids();
    assert!(xids.counts().is_empty(), "what was before is not news");
    let script = gpus(2) + &event(0, 13) + &event(1, 79) + &event(1, 79) + &event(0, 31);
    rig.fake.says(&script);
    until("the driver's events", || xids.counts().len() == 2 && xids.counts()[1].count == 2).await;
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    writeln!(file, "kernel: NVRM: Xid (PCI:0000:11:00): 79, GPU has fallen off the bus.").unwrap();
    writeln!(file, "kernel: NVRM: Xid (PCI:0000:10:00): 48, pid=7, DBE").unwrap();
    until("the kernel log", || xids.counts().len() == 3).await;
    let counts: Vec<_> =
        xids.counts().into_iter().map(|c| (c.uuid.unwrap(), c.code, c.count, c.class)).collect();
    assert_eq!(
        counts,
        [
            (uuid(0), 31, 1, XidClass::Application),
            (uuid(0), 48, 1, XidClass::Reset),
            (uuid(1), 79, 2, XidClass::Reset),
        ]
    );
    let tellers: Vec<_> = xids.recent().iter().map(|event| event.teller).collect();
    assert_eq!(tellers.iter().filter(|teller| **teller == XidTeller::KernelLog).count(), 2);
    // They outlive the GPU.
    rig.fake.says(&(gpu(0, "") + &gpu(1, "lost_after = 0")));
    until("it is down", || rig.value(1, Signal::GpuUp) == Some(0.0)).await;
    assert_eq!(xids.last_of(&uuid(1)).unwrap().code, 79);
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn a_gpu_that_cannot_be_listened_to_silences_no_other() {
    for refused in ["nvmlDeviceRegisterEvents = 999", "nvmlDeviceGetSupportedEventTypes = 3"] {
        let script = gpu(0, &format!("errors = {{ {refused} }}")) + &gpu(1, "");
        let rig = Rig::new(&script);
        until("a reading", || rig.value(1, Signal::GpuUp).is_some()).await;
        rig.readings(2).await;
        rig.fake.says(&(script + &event(0, 31) + &event(1, 43)));
        let xids = rig.agent.xids();
        until("the other's event", || !xids.counts().is_empty()).await;
        assert_eq!(xids.counts()[0].uuid, Some(uuid(1)), "{refused}");
        rig.agent.shutdown().await;
    }
}
