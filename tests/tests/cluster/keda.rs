//! KEDA's external scaler over the wire, as KEDA speaks to it: who gets through, and what is answered.

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use serde_json::json;
use tidegate_actuator::keda::external_scaler_client::ExternalScalerClient;
use tidegate_actuator::keda::{GetMetricsRequest, ScaledObjectRef};
use tidegate_core::metrics::external;
use tidegate_tests::servers::{Agent, free_port};
use tidegate_tests::waiting;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::chart::NAMESPACE;
use crate::controller::{CHAT, SOON, Scene, load};
use crate::published::{SERVICE, TLS_SECRET, authority, chart, secured};

pub(crate) const KEDA_SECRET: &str = "tidegate-keda";

async fn secret(scene: &Scene, name: &str) -> impl Fn(&str) -> String {
    let secrets = Api::<Secret>::namespaced(scene.client.clone(), NAMESPACE);
    let data = secrets.get(name).await.expect("the controller made it").data.expect("it has data");
    move |key| String::from_utf8(data[key].0.clone()).expect("PEM is text")
}

async fn connect(
    port: u16,
    tls: ClientTlsConfig,
) -> Result<ExternalScalerClient<Channel>, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?;
    let tls = tls.domain_name(format!("{SERVICE}.{NAMESPACE}.svc"));
    Ok(ExternalScalerClient::new(endpoint.tls_config(tls)?.connect().await?))
}

/// Whether a connection is of any use: of TLS 1.3 a client learns only with the first answer that its certificate was refused.
async fn gets_through(port: u16, tls: ClientTlsConfig) -> bool {
    match connect(port, tls).await {
        Ok(mut client) => client.get_metric_spec(asked("default", "chat")).await.is_ok(),
        Err(_) => false,
    }
}

fn asked(namespace: &str, name: &str) -> ScaledObjectRef {
    ScaledObjectRef { name: name.into(), namespace: namespace.into(), ..ScaledObjectRef::default() }
}

fn metrics(of: ScaledObjectRef) -> GetMetricsRequest {
    GetMetricsRequest { scaled_object_ref: Some(of), metric_name: external::REPLICAS.into() }
}

#[tokio::test]
async fn keda_is_told_the_size_that_is_in_force_and_nobody_else_is() {
    let scene = Scene::set().await;
    let port = free_port();
    let arguments = ["--keda", &format!("127.0.0.1:{port}"), "--keda-secret", KEDA_SECRET];
    chart(&scene, &["keda.enabled=true"]);
    let controller = secured(&scene, "one", &arguments).await;
    let agent = Agent::start_trusting(controller.digests(), "node-a", &authority(&scene.client).await);
    agent.tell(CHAT, &load(45.0));
    scene.policy("shadow", json!({ "act": { "via": "external_metric" } })).await;

    // As a TriggerAuthentication takes it from the Secret.
    let keda = secret(&scene, KEDA_SECRET).await;
    let trusting = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(keda("ca.crt")));
    let right = trusting().identity(Identity::from_pem(keda("tls.crt"), keda("tls.key")));
    let mut client = connect(port, right).await.expect("KEDA gets through");
    let spec = client.get_metric_spec(asked("default", "chat")).await.unwrap().into_inner().metric_specs;
    assert_eq!((spec[0].metric_name.as_str(), spec[0].target_size), (external::REPLICAS, 1));
    waiting::until("a refusal because of the shadow", SOON, async || {
        let refused = client.get_metrics(metrics(asked("default", "chat"))).await.err()?;
        (refused.code() == Code::FailedPrecondition && refused.message().contains("shadow")).then_some(())
    })
    .await;
    assert!(client.is_active(asked("default", "chat")).await.is_err(), "not known is not idle");

    let mut stream = client.stream_is_active(asked("default", "chat")).await.unwrap().into_inner();
    scene.set_mode("active").await;
    let told = tokio::time::timeout(SOON, stream.message()).await.expect("it is told in time");
    assert!(told.unwrap().unwrap().result, "active as soon as it is in force");
    let size = waiting::until("the size in force", SOON, async || {
        let values = client.get_metrics(metrics(asked("default", "chat"))).await.ok()?.into_inner();
        Some(values.metric_values[0].metric_value).filter(|size| *size >= 5)
    })
    .await;
    assert!(size <= 12);
    // Another ScaledObject may name the policy; nobody reads another namespace by it.
    let mut other = asked("default", "other");
    other.scaler_metadata.insert("policy".into(), "chat".into());
    assert!(client.get_metrics(metrics(other.clone())).await.is_ok());
    other.namespace = "kube-system".into();
    assert_eq!(client.get_metrics(metrics(other)).await.unwrap_err().code(), Code::NotFound);

    assert!(!gets_through(port, trusting()).await, "without a certificate");
    // The controller's own certificate is of another authority.
    let own = secret(&scene, TLS_SECRET).await;
    let wrong = trusting().identity(Identity::from_pem(own("tls.crt"), own("tls.key")));
    assert!(!gets_through(port, wrong).await, "with a certificate of another authority");
}
