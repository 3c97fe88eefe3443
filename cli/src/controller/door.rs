//! A listener of the controller beside its API: for agents, for the API server, for KEDA. Who may come in is checked by who opens it:
//! by a token within the request, or by a client certificate here.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_util::sync::CancellationToken;

use crate::api::Bounded;
use crate::certificate::renewal::{self, Renews};

/// Requests under way have this long to end.
const DRAIN: Duration = Duration::from_secs(2);

/// A client that does not send its headers within this is gone or hostile.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// How much comes through at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections; one too many is closed at once.
    pub(super) connections: usize,
    /// Requests, or streams of them, within one connection.
    pub(super) requests: u32,
}

/// An address taken, not yet served.
pub(super) struct Door {
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    clients: Option<Arc<Trust>>,
    bounds: Bounds,
}

impl Door {
    /// Takes the address. `what`: for whom, in an error. `clients`: whose certificates let in; `None`: nobody needs one.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub(super) fn open(
        what: &str,
        addr: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        clients: Option<Arc<Trust>>,
        bounds: Bounds,
    ) -> anyhow::Result<Self> {
        let failed = || format!("failed to listen on {addr} for {what}");
        let listener = TcpListener::bind(addr).with_context(failed)?;
        listener.set_nonblocking(true).with_context(failed)?;
        let tls =
            tls.map(|tls| clients.as_ref().map_or_else(|| Arc::clone(&tls), |trust| asking(&tls, trust)));
        Ok(Self { listener, tls: tls.map(RustlsConfig::from_config), clients, bounds })
    }

    /// The address as clients are given it.
    pub(super) fn url(&self) -> anyhow::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// By which it takes a new certificate; `None`: it has none.
    pub(super) fn renews(&self) -> Option<Renews> {
        let served = self.tls.clone()?;
        let Some(trust) = self.clients.clone() else { return Some(renewal::plain(served)) };
        Some(Box::new(move |config| served.reload_from_config(asking(config, &trust))))
    }

    /// Serves until `stop`.
    pub(super) async fn serve(self, app: Router, stop: CancellationToken) -> std::io::Result<()> {
        let handle = Handle::new();
        let ending = handle.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            ending.graceful_shutdown(Some(DRAIN));
        });
        let bounded = Bounded::new(self.bounds.connections);
        let mut server = axum_server::from_tcp(self.listener)?.handle(handle);
        let builder = server.http_builder();
        builder.http1().header_read_timeout(HEADERS_WITHIN);
        builder.http2().max_concurrent_streams(self.bounds.requests);
        match self.tls {
            Some(config) => {
                let tls = RustlsAcceptor::new(config).acceptor(bounded);
                server.acceptor(tls).serve(app.into_make_service()).await
            }
            None => server.acceptor(bounded).serve(app.into_make_service()).await,
        }
    }
}

/// The same certificate, but nobody gets through without one that `trust` knows.
fn asking(config: &ServerConfig, trust: &Arc<Trust>) -> Arc<ServerConfig> {
    let clients = Arc::clone(trust) as Arc<dyn ClientCertVerifier>;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&trust.provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for them");
    let mut asking =
        builder.with_client_cert_verifier(clients).with_cert_resolver(Arc::clone(&config.cert_resolver));
    asking.alpn_protocols.clone_from(&config.alpn_protocols);
    // A session that is resumed brings no certificate: whoever is trusted no longer must not get in by an old one.
    asking.session_storage = Arc::new(NoServerSessionStorage {});
    asking.send_tls13_tickets = 0;
    Arc::new(asking)
}

/// Whose certificates let in: may change while connections are taken. Nobody's, until it is told.
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    now: RwLock<Option<Trusted>>,
}

struct Trusted {
    signed: Arc<dyn ClientCertVerifier>,
    /// Common names, one of which the certificate must bear; empty: any.
    names: Vec<String>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

impl Trust {
    pub(super) fn nobody() -> Arc<Self> {
        Arc::new(Self { provider: Arc::new(ring::default_provider()), now: RwLock::default() })
    }

    /// From now on, whom these authorities (PEM) signed, under one of these common names.
    ///
    /// # Errors
    /// When there is no authority in it.
    pub(super) fn set(&self, authorities: &str, names: Vec<String>) -> anyhow::Result<()> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(authority.context("not PEM")?).context("not a certificate of an authority")?;
        }
        let signed = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some(Trusted { signed, names });
        Ok(())
    }
}

impl ClientCertVerifier for Trust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // None: they may change. A client then sends what it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        let trusted = now.as_ref().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let verified = trusted.signed.verify_client_cert(certificate, intermediates, at)?;
        let named = |name: &str| trusted.names.iter().any(|known| known == name);
        if trusted.names.is_empty() || common_name(certificate).is_some_and(|name| named(&name)) {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Encoding of 2.5.4.3, the attribute type of a common name.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// Tags of the distinguished encoding (X.690).
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// The last common name of a certificate's subject, which is the most specific one.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut subject = certificate.subject();
    let mut name = None;
    // A name is a list of sets of attributes, each a type and a value (RFC 5280, section 4.1.2.4).
    while let Some((SET, mut attributes, rest)) = element(subject) {
        subject = rest;
        while let Some((SEQUENCE, attribute, rest)) = element(attributes) {
            attributes = rest;
            let (OBJECT_IDENTIFIER, kind, value) = element(attribute)? else { return None };
            if kind == COMMON_NAME {
                let (_, value, _) = element(value)?;
                name = Some(std::str::from_utf8(value).ok()?.to_owned());
            }
        }
    }
    name
}

/// Tag and content of the first element, and what follows it; `None` at the end, or where the encoding is broken.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match *length {
        short @ ..=0x7f => (usize::from(short), rest),
        // Names longer than two bytes can count do not occur.
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let mut wanted = CertificateParams::new(Vec::new()).unwrap();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = wanted.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(wanted, key) }
    }

    impl Authority {
        fn client(&self, name: &str) -> CertificateDer<'static> {
            let mut wanted = CertificateParams::new(Vec::new()).unwrap();
            wanted.distinguished_name = rcgen::DistinguishedName::new();
            wanted.distinguished_name.push(DnType::OrganizationName, "kubernetes");
            wanted.distinguished_name.push(DnType::CommonName, name);
            wanted.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
            wanted.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().clone()
        }
    }

    #[test]
    fn a_certificate_lets_in_by_who_signed_it_and_by_its_name() {
        let (proxies, others) = (authority(), authority());
        let trust = Trust::nobody();
        let passes = |certificate: &CertificateDer<'_>| {
            trust.verify_client_cert(certificate, &[], UnixTime::now()).is_ok()
        };
        let proxy = proxies.client("front-proxy-client");
        assert!(!passes(&proxy), "nobody is known yet");
        trust.set(&proxies.pem, vec!["front-proxy-client".to_owned()]).unwrap();
        assert!(passes(&proxy));
        assert!(!passes(&proxies.client("somebody")), "another name");
        assert!(!passes(&others.client("front-proxy-client")), "another authority");
        trust.set(&others.pem, Vec::new()).unwrap();
        assert!(!passes(&proxy), "authorities change");
        assert!(passes(&others.client("anybody")), "no names: any");
        assert!(trust.set("", Vec::new()).is_err());
        assert!(passes(&others.client("anybody")), "what cannot be used changes nothing");
    }

    #[test]
    fn common_names_are_found_whatever_their_length() {
        let authority = authority();
        for name in ["a".to_owned(), "n".repeat(200), "ü".repeat(300)] {
            assert_eq!(common_name(&authority.client(&name)), Some(name));
        }
        assert_eq!(element(&[0x30]), None);
        assert_eq!(element(&[0x30, 0x82, 0x01]), None);
        assert_eq!(element(&[0x30, 0x05, 0x00]), None, "longer than what there is");
    }
}
