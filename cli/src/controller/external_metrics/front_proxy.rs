//! Who the API server's front proxy is, and how it names the user it speaks for: by a ConfigMap that every aggregated server reads
//! (`extension-apiserver-authentication` in `kube-system`; Kubernetes, "Configure the aggregation layer").

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, RwLock};

use anyhow::Context;
use axum::http::HeaderMap;
use futures::StreamExt;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use percent_encoding::percent_decode_str;
use std::sync::PoisonError;
use tokio_util::sync::CancellationToken;

use super::super::door::Trust;

const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// Keys of the ConfigMap: the authority, PEM; all others are lists in JSON.
const AUTHORITY: &str = "requestheader-client-ca-file";
const ALLOWED_NAMES: &str = "requestheader-allowed-names";
const USER_HEADERS: &str = "requestheader-username-headers";
const UID_HEADERS: &str = "requestheader-uid-headers";
const GROUP_HEADERS: &str = "requestheader-group-headers";
const EXTRA_PREFIXES: &str = "requestheader-extra-headers-prefix";

/// In which headers the user stands.
#[derive(Debug, Default)]
pub(super) struct FrontProxy {
    headers: RwLock<Headers>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Headers {
    user: Vec<String>,
    uid: Vec<String>,
    group: Vec<String>,
    extra: Vec<String>,
}

impl FrontProxy {
    /// The user whom the front proxy speaks for; `None` where it names none.
    pub(super) fn user(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let names = self.headers.read().unwrap_or_else(PoisonError::into_inner);
        let first = |names: &[String]| {
            let mut all = names.iter().filter_map(|name| headers.get(name)?.to_str().ok());
            all.find(|value| !value.is_empty()).map(str::to_owned)
        };
        let all = |name: &String| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let groups: Vec<_> = names.group.iter().flat_map(all).map(str::to_owned).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &names.extra {
            // Names of headers are lower case here already.
            let prefix = prefix.to_lowercase();
            for (name, value) in headers {
                let key = name.as_str().strip_prefix(&prefix).filter(|key| !key.is_empty());
                let Some((key, value)) = key.zip(value.to_str().ok()) else { continue };
                let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        Some(UserInfo {
            username: Some(first(&names.user)?),
            uid: first(&names.uid),
            groups: Some(groups),
            extra: Some(extra),
        })
    }

    fn take(&self, map: &ConfigMap, trust: &Trust) -> anyhow::Result<()> {
        let data = map.data.as_ref().context("it is empty")?;
        let authority = data.get(AUTHORITY).with_context(|| format!("it has no {AUTHORITY}"))?;
        let list = |key: &'static str| -> anyhow::Result<Vec<String>> {
            let Some(text) = data.get(key) else { return Ok(Vec::new()) };
            serde_json::from_str(text).with_context(|| format!("{key} is no list"))
        };
        let headers = Headers {
            user: list(USER_HEADERS)?,
            uid: list(UID_HEADERS)?,
            group: list(GROUP_HEADERS)?,
            extra: list(EXTRA_PREFIXES)?,
        };
        trust.set(authority, list(ALLOWED_NAMES)?).context(AUTHORITY)?;
        *self.headers.write().unwrap_or_else(PoisonError::into_inner) = headers;
        Ok(())
    }
}

/// Follows the ConfigMap until `stop`. While it has never been read, nobody is let in.
pub(super) async fn follow(
    client: Client,
    proxy: Arc<FrontProxy>,
    trust: Arc<Trust>,
    stop: CancellationToken,
) {
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let only = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    let mut events = pin!(watcher::watcher(maps, only).default_backoff());
    let mut failing = false;
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let taken = match event {
            None => return,
            Some(Ok(Event::Apply(map) | Event::InitApply(map))) => proxy.take(&map, &trust),
            Some(Ok(Event::Init | Event::InitDone | Event::Delete(_))) => continue,
            Some(Err(error)) => Err(error.into()),
        };
        match taken {
            Ok(()) => failing = false,
            Err(error) if !std::mem::replace(&mut failing, true) => {
                let error = format!("{error:#}");
                tracing::warn!(error, map = CONFIG_MAP, "who the API server's front proxy is cannot be read");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As a cluster of kubeadm has it; the authority is none.
    fn map(authority: &str) -> ConfigMap {
        let data = json!({"data": {
            AUTHORITY: authority,
            ALLOWED_NAMES: r#"["front-proxy-client"]"#,
            USER_HEADERS: r#"["X-Remote-User"]"#,
            GROUP_HEADERS: r#"["X-Remote-Group"]"#,
            EXTRA_PREFIXES: r#"["X-Remote-Extra-"]"#,
        }});
        serde_json::from_value(data).unwrap()
    }

    fn authority() -> String {
        let mut wanted = rcgen::CertificateParams::new(Vec::new()).unwrap();
        wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        wanted.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn the_user_is_read_from_the_headers_that_the_config_map_names() {
        let proxy = FrontProxy::default();
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", "ada".parse().unwrap());
        headers.append("x-remote-group", "dev".parse().unwrap());
        headers.append("x-remote-group", "system:authenticated".parse().unwrap());
        headers.insert("x-remote-extra-example.org%2fscope", "read".parse().unwrap());
        assert!(proxy.user(&headers).is_none(), "no header is believed before the ConfigMap is read");
        proxy.take(&map(&authority()), &Trust::nobody()).unwrap();
        let user = proxy.user(&headers).unwrap();
        assert_eq!(user.username.as_deref(), Some("ada"));
        assert_eq!(user.groups.unwrap(), ["dev", "system:authenticated"]);
        let scopes = user.extra.unwrap();
        assert_eq!(scopes["example.org/scope"], ["read"]);
        headers.remove("x-remote-user");
        assert!(proxy.user(&headers).is_none(), "a user without a name is none");
    }

    #[test]
    fn a_config_map_that_makes_no_sense_changes_nothing() {
        let proxy = FrontProxy::default();
        assert!(proxy.take(&map("no certificate"), &Trust::nobody()).is_err());
        assert!(proxy.take(&ConfigMap::default(), &Trust::nobody()).is_err());
        let mut broken = map(&authority());
        broken.data.as_mut().unwrap().insert(ALLOWED_NAMES.into(), "[".into());
        assert!(proxy.take(&broken, &Trust::nobody()).is_err());
        assert_eq!(*proxy.headers.read().unwrap(), Headers::default());
    }
}
