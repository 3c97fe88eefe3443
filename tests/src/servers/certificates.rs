//! Certificates for one test. Who serves with them is no matter of this module.

/// An authority made for one test, and a certificate of it for the loopback with its key; all PEM.
pub(super) fn certificates() -> (String, String, String) {
    let sign = || -> Result<_, rcgen::Error> {
        let mut authority = rcgen::CertificateParams::new(Vec::new())?;
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "authority of one test");
        let authority_key = rcgen::KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate()?;
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        Ok((authority_pem, certificate.pem(), key.serialize_pem()))
    };
    sign().expect("certificates can be made")
}
