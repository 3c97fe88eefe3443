//! Certificates that Tidegate makes for itself, where nobody gives it any: an authority of its own in a Secret that all replicas of the
//! controller share, and what agents trust it by in a ConfigMap; or one for a metrics page alone, kept nowhere.

pub(crate) mod renewal;

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tidegate_actuator::cluster::apply::MANAGER;
use tidegate_core::Timestamp;

use crate::api::TlsFiles;
use crate::clock;

/// A certificate is good for so long, and replaced when less than the second is left.
const GOOD_FOR: Duration = Duration::from_secs(730 * 86_400);
const REPLACED_BELOW: Duration = Duration::from_secs(90 * 86_400);
/// Annotation of the Secret: until when its certificate is good.
const GOOD_UNTIL: &str = "tidegate.io/good-until";
/// Annotation of the Secret: for which names.
const NAMES: &str = "tidegate.io/names";
/// Keys of the Secret, as Kubernetes and cert-manager name them.
const AUTHORITY: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Common name of the certificate that is made for KEDA, and key of the authority that signed it: another than the controller's own.
const KEDA_NAME: &str = "keda";
const CLIENT_AUTHORITY: &str = "client-ca.crt";
/// ConfigMap with what agents trust.
const CA_CONFIG_MAP: &str = "tidegate-ca";
/// Two replicas that start at once both try to write; one is refused, and reads what the other wrote.
const TRIES: usize = 5;

/// An authority, and a certificate that it signed; all PEM.
struct Made {
    authority: String,
    certificate: String,
    key: String,
    until: Timestamp,
}

fn make(names: &[String]) -> anyhow::Result<Made> {
    let now = clock::now();
    let until = now + GOOD_FOR;
    let date = |at: Timestamp| -> anyhow::Result<_> {
        let at = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millis())?);
        Ok(at.into())
    };
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "Tidegate");
    // Clocks differ between nodes.
    (authority.not_before, authority.not_after) =
        (date(now.before(Duration::from_secs(86_400)))?, date(until)?);
    let authority_key = KeyPair::generate()?;
    let pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let mut own = CertificateParams::new(names.to_vec())?;
    own.distinguished_name.push(DnType::CommonName, names.first().map_or("tidegate", String::as_str));
    (own.not_before, own.not_after) = (date(now.before(Duration::from_secs(86_400)))?, date(until)?);
    let key = KeyPair::generate()?;
    let certificate = own.signed_by(&key, &issuer)?.pem();
    // The authority's key is dropped here: it signs nothing else, ever.
    Ok(Made { authority: pem, certificate, key: key.serialize_pem(), until })
}

/// A certificate that a program makes for itself alone, in a directory that goes with it.
pub(crate) struct Own {
    names: Vec<String>,
    dir: TempDir,
    made: Mutex<Option<Shared>>,
}

impl Own {
    /// For these names, in a directory below `scratch`.
    pub(crate) fn new(names: Vec<String>, scratch: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(scratch)
            .with_context(|| format!("failed to make a directory in {}", scratch.display()))?;
        Ok(Self { names, dir, made: Mutex::default() })
    }

    /// The certificate, made anew where it is about to end.
    pub(crate) fn shared(&self, now: Timestamp) -> anyhow::Result<Shared> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = |made: &&Shared| made.until.is_some_and(|until| until.since(now) > REPLACED_BELOW);
        if let Some(made) = made.as_ref().filter(lasts) {
            return Ok(made.clone());
        }
        let new = make(&self.names).context("failed to make a certificate")?;
        let files = write(self.dir.path(), &new.certificate, &new.key)?;
        let new = Shared { files, authority: Some(new.authority), until: Some(new.until) };
        Ok(made.insert(new).clone())
    }
}

fn write(dir: &Path, certificate: &str, key: &str) -> anyhow::Result<TlsFiles> {
    let files = TlsFiles { cert: dir.join(CERTIFICATE), key: dir.join(KEY) };
    let put = |path: &Path, text: &str| -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())
    };
    let failed = || format!("failed to write a certificate to {}", dir.display());
    put(&files.cert, certificate).with_context(failed)?;
    put(&files.key, key).with_context(failed)?;
    Ok(files)
}

/// The certificate of a Secret, in files.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// The files.
    pub(crate) files: TlsFiles,
    /// What it is trusted by, PEM, where that is known.
    pub(crate) authority: Option<String>,
    /// Until when it is good; `None`: it is the user's own.
    pub(crate) until: Option<Timestamp>,
}

/// A Secret that all replicas have their certificate from.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// Name of the Secret.
    pub(crate) secret: String,
    /// What the certificate is to be for.
    pub(crate) names: Vec<String>,
    /// Where its files are put.
    pub(crate) dir: PathBuf,
}

impl Place {
    /// The certificate in the Secret, made where there is none, none for these names, or one that is about to end; what agents trust
    /// it by is published.
    pub(crate) async fn shared(&self) -> anyhow::Result<Shared> {
        let Self { client, namespace, secret, names, dir } = self;
        let fresh = |found: Option<&Secret>| Ok(object(secret, names, &make(names)?, found));
        let found = kept(client, (namespace, secret), |found| sound(found, names), fresh).await?;
        let ([authority, certificate, key], until) = found;
        publish(client, namespace, &authority).await?;
        Ok(Shared { files: write(dir, &certificate, &key)?, authority: Some(authority), until })
    }

    /// A Secret beside it from which KEDA takes what it shows to the controller (`tls.crt`, `tls.key`) and what it trusts it by
    /// (`ca.crt`: `trusts`), made where there is none, or one that is about to end. Gives the authorities that sign what KEDA shows.
    pub(crate) async fn for_keda(&self, secret: &str, trusts: &str) -> anyhow::Result<String> {
        let names = [KEDA_NAME.to_owned()];
        let good = |found: &Secret| {
            let ([trusted, ..], until) = sound(found, &names)?;
            // What the user made, the user keeps.
            Some((part(found, CLIENT_AUTHORITY)?, until.is_none() || trusted == trusts))
        };
        let fresh = |found: Option<&Secret>| {
            let still = found.filter(|found| good(found).is_some()).cloned();
            let mut object = match still {
                Some(still) => still,
                None => for_keda(secret, &names, &make(&names)?, found),
            };
            let trusts = ByteString(trusts.as_bytes().to_vec());
            object.data.get_or_insert_default().insert(AUTHORITY.to_owned(), trusts);
            Ok(object)
        };
        let whole = |found: &Secret| good(found).and_then(|(signs, trusts)| trusts.then_some(signs));
        kept(&self.client, (&self.namespace, secret), whole, fresh).await
    }
}

/// What is `sound` of a Secret, `(namespace, name)`; where nothing is, what is `fresh` takes its place, and all replicas read that.
async fn kept<T>(
    client: &Client,
    (namespace, secret): (&str, &str),
    sound: impl Fn(&Secret) -> Option<T>,
    fresh: impl Fn(Option<&Secret>) -> anyhow::Result<Secret>,
) -> anyhow::Result<T> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let at = || format!("Secret {namespace}/{secret}");
    for _ in 0..TRIES {
        let found = secrets.get_opt(secret).await.with_context(at)?;
        if let Some(sound) = found.as_ref().and_then(&sound) {
            return Ok(sound);
        }
        let object = fresh(found.as_ref()).context("failed to make a certificate")?;
        let written = match found {
            None => secrets.create(&PostParams::default(), &object).await,
            Some(_) => secrets.replace(secret, &PostParams::default(), &object).await,
        };
        match written {
            // Read again, so that all replicas go on from the same.
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error).with_context(at),
        }
    }
    anyhow::bail!("{}: others write it again and again", at())
}

/// A new certificate for KEDA; the one before lets in beside it, until KEDA has the new one.
fn for_keda(name: &str, names: &[String], made: &Made, found: Option<&Secret>) -> Secret {
    let before = found.and_then(|found| part(found, CLIENT_AUTHORITY)).and_then(|bundle| first(&bundle));
    let signs = format!("{}{}", made.authority, before.unwrap_or_default());
    let mut secret = object(name, names, made, found);
    let signs = ByteString(signs.into_bytes());
    secret.data.get_or_insert_default().insert(CLIENT_AUTHORITY.to_owned(), signs);
    secret
}

fn object(name: &str, names: &[String], made: &Made, found: Option<&Secret>) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let annotations = [(GOOD_UNTIL.to_owned(), made.until.to_string()), (NAMES.to_owned(), names.join(","))];
    // Until every replica serves with the new one, the authority of the one before is trusted beside it.
    let before = found.and_then(|found| part(found, AUTHORITY)).and_then(|bundle| first(&bundle));
    let trusted = format!("{}{}", made.authority, before.unwrap_or_default());
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(annotations.into()),
            resource_version: found.and_then(ResourceExt::resource_version),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(
            [
                (AUTHORITY.to_owned(), bytes(&trusted)),
                (CERTIFICATE.to_owned(), bytes(&made.certificate)),
                (KEY.to_owned(), bytes(&made.key)),
            ]
            .into(),
        ),
        ..Secret::default()
    }
}

fn part(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

/// The first certificate of a bundle.
fn first(bundle: &str) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    bundle.find(END).map(|at| bundle[..at + END.len()].to_owned())
}

/// Authority, certificate and key of a Secret that can be used, and until when. One without our annotations is the user's own: it is
/// used as it is.
fn sound(secret: &Secret, names: &[String]) -> Option<([String; 3], Option<Timestamp>)> {
    let parts = [part(secret, AUTHORITY)?, part(secret, CERTIFICATE)?, part(secret, KEY)?];
    let annotations = secret.annotations();
    let Some(until) = annotations.get(GOOD_UNTIL) else { return Some((parts, None)) };
    let until: Timestamp = until.parse().ok()?;
    let fits = annotations.get(NAMES).is_some_and(|known| *known == names.join(","));
    (fits && until.since(clock::now()) >= REPLACED_BELOW).then_some((parts, Some(until)))
}

async fn publish(client: &Client, namespace: &str, authority: &str) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": CA_CONFIG_MAP},
        "data": {AUTHORITY: authority},
    });
    let patched = maps.patch(CA_CONFIG_MAP, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body)).await;
    patched.map(drop).with_context(|| format!("ConfigMap {namespace}/{CA_CONFIG_MAP}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["tidegate-controller.tidegate.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    #[test]
    fn a_made_certificate_serves() {
        let dir = tempfile::tempdir().unwrap();
        let own = Own::new(names(), dir.path()).unwrap();
        let now = clock::now();
        let first = own.shared(now).unwrap();
        let files = &first.files;
        assert!(crate::api::tls_config(files).is_ok());
        let mode = std::os::unix::fs::PermissionsExt::mode(&files.key.metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "a key is for its owner alone");
        let bytes = || std::fs::read(&files.cert).unwrap();
        let of_first = bytes();
        assert_eq!(own.shared(now + Duration::from_secs(86_400)).unwrap().until, first.until);
        assert_eq!(bytes(), of_first, "it is good for long");
        assert!(own.shared(now + (GOOD_FOR - REPLACED_BELOW)).is_ok());
        assert_ne!(bytes(), of_first, "made anew before it ends");
    }

    #[test]
    fn a_secret_is_used_until_it_is_about_to_end_or_is_for_other_names() {
        let made = make(&names()).unwrap();
        let secret = object("tidegate-tls", &names(), &made, None);
        assert!(sound(&secret, &names()).is_some());
        assert!(sound(&secret, &["other".to_owned()]).is_none());
        let soon = Made { until: clock::now() + Duration::from_secs(86_400), ..made };
        assert!(sound(&object("tidegate-tls", &names(), &soon, None), &names()).is_none());
        let mut users = secret;
        users.metadata.annotations = None;
        assert!(sound(&users, &["other".to_owned()]).is_some(), "whoever brings one knows why");
        users.data = None;
        assert!(sound(&users, &names()).is_none());
    }

    #[test]
    fn what_keda_has_still_lets_it_in_beside_what_it_is_to_have() {
        let names = [KEDA_NAME.to_owned()];
        let first = make(&names).unwrap();
        let secret = for_keda("tidegate-keda", &names, &first, None);
        assert_eq!(part(&secret, CLIENT_AUTHORITY).unwrap(), first.authority);
        let second = make(&names).unwrap();
        let signs =
            part(&for_keda("tidegate-keda", &names, &second, Some(&secret)), CLIENT_AUTHORITY).unwrap();
        assert_eq!(signs, format!("{}{}", second.authority, first.authority));
    }

    #[test]
    fn the_authority_before_is_trusted_beside_the_new_one_and_no_older_one() {
        let mut secret = object("tidegate-tls", &names(), &make(&names()).unwrap(), None);
        let mut authorities = vec![part(&secret, AUTHORITY).unwrap()];
        for _ in 0..2 {
            let made = make(&names()).unwrap();
            secret = object("tidegate-tls", &names(), &made, Some(&secret));
            authorities.push(made.authority);
        }
        let bundle = part(&secret, AUTHORITY).unwrap();
        assert_eq!(bundle, format!("{}{}", authorities[2], authorities[1]));
    }
}
