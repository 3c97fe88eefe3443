//! Keys, certificates and tokens of one control plane, as files in its directory. All of them vanish with the test.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::super::certificates::{Authority, Signed};
use super::super::https;

/// Lets in an administrator. The API server listens on the loopback alone, and for one test.
pub(super) const ADMIN_TOKEN: &str = "admin-of-one-test";
/// Name of the real node, if a test has one.
pub(super) const NODE_NAME: &str = "node-a";
/// Lets in that node's kubelet, with the rights of a kubelet.
const NODE_TOKEN: &str = "node-of-one-test";
/// Who the API server is to servers of aggregated APIs.
const FRONT_PROXY: &str = "front-proxy-client";

const CA: &str = "ca.pem";
const KUBECONFIG: &str = "kubeconfig";
const NODE_KUBECONFIG: &str = "node.kubeconfig";
const FRONT_PROXY_CA: &str = "front-proxy-ca.pem";
const FRONT_PROXY_CERTIFICATE: &str = "front-proxy.crt";
const FRONT_PROXY_KEY: &str = "front-proxy.key";
const KUBELETS_CERTIFICATE: &str = "kubelet-client.crt";
const KUBELETS_KEY: &str = "kubelet-client.key";
const SERVING_CERTIFICATE: &str = "serving.crt";
const SERVING_KEY: &str = "serving.key";
const SERVICE_ACCOUNT_PUBLIC: &str = "service-accounts.pub";
const SERVICE_ACCOUNT_PRIVATE: &str = "service-accounts.key";
const TOKENS: &str = "tokens.csv";

/// Where they lie, and the authority that a client trusts.
#[derive(Debug)]
pub(super) struct Credentials {
    dir: PathBuf,
    ca_pem: String,
}

impl Credentials {
    /// Makes and writes them for an API server at this address.
    pub(super) fn write(dir: &Path, url: &str) -> Self {
        let write =
            |name: &str, text: &str| fs::write(dir.join(name), text).expect("the directory is writable");
        let authority = Authority::new();
        let Signed { certificate, key } = authority.loopback();
        write(CA, &authority.pem);
        write(SERVING_CERTIFICATE, &certificate);
        write(SERVING_KEY, &key);
        // Whoever has it may do anything that a kubelet can be asked for.
        let Signed { certificate, key } =
            authority.client_of("kube-apiserver-kubelet-client", "system:masters");
        write(KUBELETS_CERTIFICATE, &certificate);
        write(KUBELETS_KEY, &key);
        // An authority of its own: whoever it signs may speak for any user.
        let front_proxy = Authority::new();
        let Signed { certificate, key } = front_proxy.client(FRONT_PROXY);
        write(FRONT_PROXY_CA, &front_proxy.pem);
        write(FRONT_PROXY_CERTIFICATE, &certificate);
        write(FRONT_PROXY_KEY, &key);
        let accounts = KeyPair::generate().expect("a key can be made");
        write(SERVICE_ACCOUNT_PUBLIC, &accounts.public_key_pem());
        write(SERVICE_ACCOUNT_PRIVATE, &accounts.serialize_pem());
        let admin = format!("{ADMIN_TOKEN},admin,1,\"system:masters\"\n");
        write(TOKENS, &format!("{admin}{NODE_TOKEN},system:node:{NODE_NAME},2,\"system:nodes\"\n"));
        write(KUBECONFIG, &kubeconfig(url, &authority.pem, ADMIN_TOKEN));
        write(NODE_KUBECONFIG, &kubeconfig(url, &authority.pem, NODE_TOKEN));
        Self { dir: dir.to_owned(), ca_pem: authority.pem }
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.dir.join(KUBECONFIG)
    }

    /// Writes a kubeconfig for whoever owns a token.
    pub(super) fn kubeconfig_with(&self, url: &str, name: &str, token: &str) -> PathBuf {
        let path = self.dir.join(format!("{name}.kubeconfig"));
        fs::write(&path, kubeconfig(url, &self.ca_pem, token)).expect("the directory is writable");
        path
    }

    pub(super) fn node_kubeconfig(&self) -> PathBuf {
        self.dir.join(NODE_KUBECONFIG)
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.dir.join(CA)
    }

    pub(super) fn ca_der(&self) -> Vec<Vec<u8>> {
        let der = CertificateDer::from_pem_slice(self.ca_pem.as_bytes());
        vec![der.expect("the authority was made here").to_vec()]
    }

    /// Certificate and key of the front proxy, PEM: whoever has them may speak for any user to an aggregated API.
    pub(super) fn front_proxy(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.dir.join(name)).expect("it was written here");
        read(FRONT_PROXY_CERTIFICATE) + &read(FRONT_PROXY_KEY)
    }

    /// A plain client that trusts the authority.
    pub(super) fn http(&self) -> reqwest::Client {
        https(self.ca_pem.as_bytes())
    }

    /// What the API server must be told of them.
    pub(super) fn apiserver_arguments(dir: &Path) -> Vec<String> {
        let files = [
            ("tls-cert-file", SERVING_CERTIFICATE),
            ("tls-private-key-file", SERVING_KEY),
            ("token-auth-file", TOKENS),
            ("service-account-key-file", SERVICE_ACCOUNT_PUBLIC),
            ("service-account-signing-key-file", SERVICE_ACCOUNT_PRIVATE),
            ("requestheader-client-ca-file", FRONT_PROXY_CA),
            ("proxy-client-cert-file", FRONT_PROXY_CERTIFICATE),
            ("proxy-client-key-file", FRONT_PROXY_KEY),
            ("kubelet-client-certificate", KUBELETS_CERTIFICATE),
            ("kubelet-client-key", KUBELETS_KEY),
        ];
        let issuer = "https://kubernetes.default.svc";
        let words = [
            format!("--service-account-issuer={issuer}"),
            format!("--api-audiences={issuer}"),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--requestheader-allowed-names={FRONT_PROXY}"),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        ];
        named(dir, &files).chain(words).collect()
    }

    /// What the controller manager must be told of them.
    pub(super) fn controller_arguments(dir: &Path) -> Vec<String> {
        let files = [("service-account-private-key-file", SERVICE_ACCOUNT_PRIVATE), ("root-ca-file", CA)];
        named(dir, &files).collect()
    }
}

fn named(dir: &Path, files: &[(&str, &str)]) -> impl Iterator<Item = String> {
    files.iter().map(|(flag, file)| format!("--{flag}={}", dir.join(file).display()))
}

/// JSON is YAML.
fn kubeconfig(url: &str, ca_pem: &str, token: &str) -> String {
    let cluster = json!({ "server": url, "certificate-authority-data": STANDARD.encode(ca_pem) });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": cluster }],
        "users": [{ "name": "user", "user": { "token": token } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "user" } }],
        "current-context": "test",
    });
    config.to_string()
}
