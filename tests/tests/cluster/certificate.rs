//! The certificate that all replicas of the controller share: one that is over is replaced while they run, and whoever learns what to
//! trust from the ConfigMap goes on trusting them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tidegate_actuator::cluster::rights::Identity;
use tidegate_tests::servers::kubernetes::{ControlPlane, Options};
use tidegate_tests::servers::{Controller, https};
use tidegate_tests::waiting;

use crate::chart::{self, NAMESPACE};
use crate::controller::install;
use crate::objects::SOON;

const SECRET: &str = "tidegate-tls";
const GOOD_UNTIL: &str = "tidegate.io/good-until";
/// The controller looks at it once a minute.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(60);

/// What agents trust at present.
async fn trusted(client: &Client) -> Option<String> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    maps.get("tidegate-ca").await.ok()?.data?.remove("ca.crt")
}

/// Whether whoever trusts this bundle is answered by the controller at both of its addresses.
async fn is_trusted(controller: &Controller, bundle: &str) -> bool {
    for address in [controller.url(), controller.digests()] {
        // What the answer says is no matter: without trust there is none.
        if https(bundle.as_bytes()).get(format!("{address}/readyz")).send().await.is_err() {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn a_shared_certificate_that_is_over_is_replaced_and_published_while_the_controller_runs() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let client = control_plane.client();
    chart::install(&control_plane, &[]);
    let kubeconfig = control_plane.kubeconfig_of(NAMESPACE, Identity::Controller.account()).await;
    let arguments = ["--tls-secret", SECRET, "--tls-name", "tidegate-controllers.tidegate.svc"];
    let controller = Controller::start_in(NAMESPACE, &kubeconfig, "one", &arguments).await;
    let before = trusted(&client).await.expect("the controller has published it");
    assert!(is_trusted(&controller, &before).await, "at its start");

    // What a year and three quarters do.
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let over = Patch::Merge(json!({ "metadata": { "annotations": { GOOD_UNTIL: "2026-01-31T08:00:00Z" } } }));
    secrets.patch(SECRET, &PatchParams::default(), &over).await.expect("it is there");
    let after = waiting::until("what agents are to trust next", LOOKED_AT_WITHIN + SOON, async || {
        trusted(&client).await.filter(|bundle| *bundle != before)
    })
    .await;
    let new = after.strip_suffix(&before).expect("the one before is trusted beside it").to_owned();
    assert_eq!(new.matches("BEGIN CERTIFICATE").count(), 1);
    let until = secrets.get(SECRET).await.expect("it is there").annotations()[GOOD_UNTIL].clone();
    assert!(until.as_str() > "2027", "{until}");
    assert!(is_trusted(&controller, &after).await, "whichever of the two it serves");

    // A replica that starts now serves the new one, which those who have learned of it trust.
    let second = Controller::start_in(NAMESPACE, &kubeconfig, "two", &arguments).await;
    assert!(is_trusted(&second, &new).await && is_trusted(&second, &after).await);
    assert!(!is_trusted(&second, &before).await, "that would be no new certificate");
    assert_eq!(trusted(&client).await, Some(after), "it publishes the same");
}

/// A certificate for the loopback, which is its own authority: PEM, in files.
fn given(dir: &Path) -> String {
    let made =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate can be made");
    let pem = made.cert.pem();
    fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).expect("the directory is writable");
    fs::write(dir.join("tls.crt"), &pem).expect("the directory is writable");
    pem
}

#[tokio::test]
async fn a_given_certificate_is_served_anew_when_its_files_change() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    install(&control_plane.client()).await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let before = given(dir.path());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let arguments = ["--tls-cert", &path("tls.crt"), "--tls-key", &path("tls.key")];
    let controller = Controller::start(&control_plane.kubeconfig(), "one", &arguments).await;
    assert!(is_trusted(&controller, &before).await, "at its start");
    let after = given(dir.path());
    waiting::until("the new certificate at both addresses", LOOKED_AT_WITHIN + SOON, async || {
        is_trusted(&controller, &after).await.then_some(())
    })
    .await;
    assert!(!is_trusted(&controller, &before).await);
    assert!(controller.errors().contains("a new certificate is served"));
    // One that cannot be used is no reason to stop serving the other.
    fs::write(dir.path().join("tls.crt"), "torn").expect("the directory is writable");
    waiting::until("a word about it", LOOKED_AT_WITHIN + SOON, async || {
        controller.errors().contains("the certificate could not be looked at").then_some(())
    })
    .await;
    assert!(is_trusted(&controller, &after).await);
}
