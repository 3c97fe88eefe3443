//! Training jobs of pods that really run: each is asked for a checkpoint in its container, by a command or by a signal, before it is
//! resized.

use k8s_openapi::api::batch::v1::Job;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tidegate_actuator::crds::{ResizeStatus, TrainingPolicy};
use tidegate_tests::images::{Images, local};
use tidegate_tests::servers::kubernetes::{ControlPlane, LiveNode, Options};

use crate::chart::{Ports, installed, object, uninstall, wait};

/// What stands for a training program: it saves when it is told to, by signal, and says so in its log.
const TRAINER: &str = "#!/bin/dash
trap 'echo \"step 7: checkpoint saved to /out\"' USR1
trap 'exit 0' TERM
while :; do sleep 1 & wait; done
";
/// A shell, `sleep` and `kill`.
const PACKAGES: [&str; 3] = ["coreutils", "dash", "procps"];

/// A job of one such program, and an active policy that wants two, with this hook.
async fn train(client: &Client, name: &str, checkpoint: Value) {
    let job = json!({
        "metadata": { "name": name },
        "spec": {
            "parallelism": 1, "completions": 100,
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "trainer",
                        "image": format!("{}:latest", local("trainer")), "imagePullPolicy": "Never",
                        "command": ["/usr/bin/trainer"],
                    }],
                },
            },
        },
    });
    let jobs = Api::<Job>::default_namespaced(client.clone());
    jobs.create(&PostParams::default(), &object(job)).await.expect("it is right");
    wait("a worker", async || (jobs.get(name).await.ok()?.status?.ready? == 1).then_some(())).await;
    let policy = json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "TrainingPolicy", "metadata": { "name": name },
        "spec": {
            "target": { "kind": "Job", "name": name }, "mode": "active",
            "workers": { "min": 1, "max": 2 }, "growHold": "1s", "checkpoint": checkpoint,
        },
    });
    let policies = Api::<TrainingPolicy>::default_namespaced(client.clone());
    policies.create(&PostParams::default(), &object(policy)).await.expect("it is right");
}

/// The end of the resize, and the job's size then.
async fn resized(client: &Client, name: &str, phase: &str) -> (ResizeStatus, i32) {
    let policies = Api::<TrainingPolicy>::default_namespaced(client.clone());
    let resize = wait(&format!("a resize of {name} that is {phase}"), async || {
        policies.get(name).await.ok()?.status?.resize.filter(|resize| resize.phase == phase)
    })
    .await;
    let jobs = Api::<Job>::default_namespaced(client.clone());
    let size = jobs.get(name).await.expect("it is there").spec.expect("it has one").parallelism;
    (resize, size.expect("it is set"))
}

#[tokio::test]
async fn a_job_is_asked_for_a_checkpoint_in_its_container_before_it_is_resized() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let node = LiveNode::start(&control_plane).await;
    let client = control_plane.client();
    let values = ["controller.checkpointExec=true".to_owned()];
    installed(&control_plane, &node, &client, &Ports::free(), &values).await;
    let images = Images::new();
    images.from_packages("trainer", &PACKAGES, &[("/usr/bin/trainer", TRAINER)], &[]);
    node.import(&images, "trainer");

    train(&client, "by-signal", json!({ "signal": "SIGUSR1", "deadline": "20s" })).await;
    let (resize, size) = resized(&client, "by-signal", "done").await;
    assert_eq!((resize.checkpoint.as_deref(), size), (Some("saved"), 2));

    let asked = json!({ "exec": { "command": ["/bin/dash", "-c", "echo asked > /tmp/checkpoint"] } });
    train(&client, "by-command", asked).await;
    let (resize, size) = resized(&client, "by-command", "done").await;
    assert_eq!((resize.checkpoint.as_deref(), size), (Some("saved"), 2));

    // Growing is no use without a checkpoint: the job stays as it is, and the policy says why.
    let refuses = json!({ "exec": { "command": ["/bin/dash", "-c", "echo the disk is full >&2; exit 3"] } });
    train(&client, "refuses", refuses).await;
    let (resize, size) = resized(&client, "refuses", "checkpoint_failed").await;
    let said = resize.checkpoint.unwrap_or_default();
    assert!(said.starts_with("failed: ") && said.contains("the disk is full"), "{said}");
    assert_eq!(size, 1);

    let deaf = json!({ "signal": "SIGUSR2", "deadline": "5s" });
    train(&client, "deaf", deaf).await;
    let (resize, size) = resized(&client, "deaf", "checkpoint_failed").await;
    assert!(
        resize.checkpoint.is_some_and(|said| said.starts_with("failed: ")),
        "it says nothing of a checkpoint"
    );
    assert_eq!(size, 1);
    uninstall(&control_plane, &client).await;
}
