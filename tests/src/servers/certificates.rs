//! Certificates for one test. Who serves with them is no matter of this module.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority made for one test.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

/// A certificate with its key, both PEM.
pub(super) struct Signed {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub(super) fn new() -> Self {
        let make = || -> Result<_, rcgen::Error> {
            let mut authority = CertificateParams::new(Vec::new())?;
            authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            authority.distinguished_name.push(DnType::CommonName, "authority of one test");
            let key = KeyPair::generate()?;
            let pem = authority.self_signed(&key)?.pem();
            Ok(Self { issuer: Issuer::new(authority, key), pem })
        };
        make().expect("certificates can be made")
    }

    /// A certificate for a server on the loopback.
    pub(super) fn loopback(&self) -> Signed {
        self.signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()], &[])
    }

    /// A certificate for a server on the loopback that is also reached by the name of a Service.
    pub(super) fn service(&self, name: &str) -> Signed {
        self.signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned(), name.to_owned()], &[])
    }

    /// A certificate that says who a client is.
    pub(super) fn client(&self, common_name: &str) -> Signed {
        self.signed(Vec::new(), &[(DnType::CommonName, common_name)])
    }

    /// The same, with a group that the client is in.
    pub(super) fn client_of(&self, common_name: &str, group: &str) -> Signed {
        self.signed(Vec::new(), &[(DnType::CommonName, common_name), (DnType::OrganizationName, group)])
    }

    fn signed(&self, names: Vec<String>, client: &[(DnType, &str)]) -> Signed {
        let sign = || -> Result<_, rcgen::Error> {
            let key = KeyPair::generate()?;
            let mut wanted = CertificateParams::new(names)?;
            for (kind, name) in client {
                wanted.distinguished_name.push(kind.clone(), *name);
            }
            if !client.is_empty() {
                wanted.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
            }
            let certificate = wanted.signed_by(&key, &self.issuer)?.pem();
            Ok(Signed { certificate, key: key.serialize_pem() })
        };
        sign().expect("certificates can be made")
    }
}

/// An authority made for one test, and a certificate of it for the loopback with its key; all PEM.
pub(super) fn certificates() -> (String, String, String) {
    let authority = Authority::new();
    let Signed { certificate, key } = authority.loopback();
    (authority.pem, certificate, key)
}
