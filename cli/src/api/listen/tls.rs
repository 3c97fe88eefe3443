//! TLS from certificate and key files.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{ListenError, TlsFiles};

/// Reads the files. HTTP/2 and HTTP/1.1 are offered.
///
/// # Errors
/// When a file cannot be read, or the key does not belong to the certificate.
pub(crate) fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, ListenError> {
    let TlsFiles { cert, key } = files;
    let unread = |path: &std::path::Path| {
        let path = path.to_owned();
        move |source| ListenError::ReadPem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unread(cert))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(unread(key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|source| ListenError::UseTls { cert: cert.clone(), key: key.clone(), source })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
