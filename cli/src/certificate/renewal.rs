//! Certificates are replaced while they are served: a shared one before it ends, given ones when their files change. Connections that
//! are open stay; whoever comes then meets the new one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use tidegate_core::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Own, Place, Shared};
use crate::api::{TlsFiles, tls_config};
use crate::clock;

/// Between two looks at where the certificate comes from.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A look that takes longer hangs.
const LOOK_MAX: Duration = Duration::from_secs(20);
/// A new certificate of an authority of its own is served this long after agents could begin to learn of it: a kubelet renews the files
/// of a ConfigMap within two minutes.
const LEARNED_WITHIN: Duration = Duration::from_secs(180);

/// Where a certificate comes from.
pub(crate) enum Source {
    /// Files that somebody else keeps.
    Given(TlsFiles),
    /// A Secret.
    Shared(Place),
    /// The program itself.
    Own(Own),
}

/// Puts a new certificate into a listener's TLS; given a configuration that serves it to anybody.
pub(crate) type Renews = Box<dyn Fn(&Arc<ServerConfig>) + Send + Sync>;

/// That of a listener for clients that need no certificate.
pub(crate) fn plain(served: RustlsConfig) -> Renews {
    Box::new(move |config| served.reload_from_config(Arc::clone(config)))
}

/// A certificate, read.
#[derive(Clone)]
struct Read {
    /// The files' bytes, by which one is told from another.
    bytes: Vec<u8>,
    config: Arc<ServerConfig>,
    /// What it is trusted by, where that is known.
    authority: Option<String>,
    /// Until when it is good, where that is known.
    until: Option<Timestamp>,
}

impl Source {
    /// The certificate as it is now.
    pub(crate) async fn shared(&self) -> anyhow::Result<Shared> {
        match self {
            Self::Given(files) => Ok(Shared { files: files.clone(), authority: None, until: None }),
            Self::Shared(place) => place.shared().await,
            Self::Own(own) => own.shared(clock::now()),
        }
    }

    async fn read(&self) -> anyhow::Result<Read> {
        let shared = tokio::time::timeout(LOOK_MAX, self.shared()).await.context("no answer in time")?;
        let Shared { files, authority, until } = shared?;
        let read = |path: &std::path::Path| {
            std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))
        };
        let bytes = [read(&files.cert)?, read(&files.key)?].concat();
        Ok(Read { bytes, config: tls_config(&files)?, authority, until })
    }
}

/// Looks at the source until `stop`, and puts what is new into what is `served`; what it is trusted by is told at once to `authority`.
pub(crate) async fn keep(
    source: Source,
    served: Vec<Renews>,
    authority: watch::Sender<Option<String>>,
    stop: CancellationToken,
) {
    let mut in_use: Option<Read> = None;
    let mut next: Option<(Read, Timestamp)> = None;
    loop {
        match source.read().await {
            Ok(read) => {
                let trusted = read.authority.clone();
                authority.send_if_modified(|was| {
                    *was != trusted && {
                        *was = trusted;
                        true
                    }
                });
                note(read, &mut in_use, &mut next, clock::now());
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "the certificate could not be looked at; going on with the one in use");
            }
        }
        if let Some((read, _)) = next.take_if(|(_, at)| *at <= clock::now()) {
            served.iter().for_each(|renews| renews(&read.config));
            tracing::info!(until = read.until.map(|until| until.to_string()), "a new certificate is served");
            in_use = Some(read);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Takes in what was read: what differs from what is in use comes next, at once where there is nothing to wait for.
fn note(read: Read, in_use: &mut Option<Read>, next: &mut Option<(Read, Timestamp)>, now: Timestamp) {
    let Some(used) = in_use else {
        *in_use = Some(read);
        return;
    };
    if used.bytes == read.bytes {
        *next = None;
    } else if next.as_ref().is_none_or(|(waiting, _)| waiting.bytes != read.bytes) {
        let is_good = read.until.is_some() && used.until.is_some_and(|until| now < until);
        *next = Some((read, if is_good { now + LEARNED_WITHIN } else { now }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], until: Option<i64>) -> Read {
        let dir = tempfile::tempdir().unwrap();
        let files = Own::new(vec!["localhost".to_owned()], dir.path()).unwrap();
        let files = files.shared(clock::now()).unwrap().files;
        let until = until.map(Timestamp::from_secs);
        Read { bytes: bytes.to_vec(), config: tls_config(&files).unwrap(), authority: None, until }
    }

    #[test]
    fn a_new_one_waits_until_agents_know_it_unless_the_old_one_is_over() {
        let now = Timestamp::from_secs(1000);
        let due = |used: Option<i64>, new: Option<i64>| {
            let (mut in_use, mut next) = (Some(read(b"a", used)), None);
            note(read(b"b", new), &mut in_use, &mut next, now);
            next.map(|(_, at)| at.since(now))
        };
        assert_eq!(due(Some(2000), Some(9000)), Some(LEARNED_WITHIN));
        assert_eq!(due(Some(900), Some(9000)), Some(Duration::ZERO), "the old one is over");
        assert_eq!(due(None, None), Some(Duration::ZERO), "files of the user's");
    }

    #[test]
    fn what_is_in_use_is_not_put_in_again_and_a_wait_is_not_begun_anew() {
        let now = Timestamp::from_secs(1000);
        let (mut in_use, mut next) = (None, None);
        note(read(b"a", Some(2000)), &mut in_use, &mut next, now);
        assert!(in_use.is_some() && next.is_none(), "the first is served already");
        note(read(b"b", Some(9000)), &mut in_use, &mut next, now);
        let first = next.as_ref().map(|(_, at)| *at);
        note(read(b"b", Some(9000)), &mut in_use, &mut next, now + Duration::from_secs(30));
        assert_eq!(next.as_ref().map(|(_, at)| *at), first);
        note(read(b"a", Some(2000)), &mut in_use, &mut next, now + Duration::from_secs(60));
        assert!(next.is_none(), "it went back");
    }
}
