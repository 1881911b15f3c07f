//! Certificates for tests: an authority of one's own and what it vouches for, as PEM files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// An authority that some trust.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of one certificate.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub private_key: PathBuf,
}

impl Authority {
    /// A new authority of this name.
    ///
    /// # Panics
    /// When no certificate can be made, as with all of this module.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    /// Writes the authority's own certificate into a folder.
    #[must_use]
    pub fn write(&self, folder: &Path, stem: &str) -> PathBuf {
        let path = folder.join(format!("{stem}.pem"));
        std::fs::write(&path, self.issuer.pem()).expect("written");
        path
    }

    /// Writes a certificate for these names and its key into a folder; addresses are names too. Files of the same stem
    /// are replaced.
    #[must_use]
    pub fn issue(&self, folder: &Path, stem: &str, names: &[&str]) -> Files {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, stem);
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().expect("a name")),
            })
            .collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let files = Files {
            certificate: folder.join(format!("{stem}.crt")),
            private_key: folder.join(format!("{stem}.key")),
        };
        std::fs::write(&files.private_key, key.serialize_pem()).expect("written");
        std::fs::write(&files.certificate, certificate.pem()).expect("written");
        files
    }
}

impl Files {
    /// The table `[sip.tls]` that takes connections on this port of 127.0.0.1, with more lines of it.
    #[must_use]
    pub fn table(&self, port: u16, more: &str) -> String {
        format!(
            "[sip.tls]\nlisten = [\"127.0.0.1:{port}\"]\ncertificate = {:?}\nprivate_key = {:?}\n{more}\n",
            self.certificate, self.private_key
        )
    }
}
