//! SIP over TLS: our certificate, whom we trust, and how both are read anew without a restart (RFC 3261 26.2, 26.3).
//!
//! Files are read at the start, where a fault keeps the server from starting, and again when one of them changes, where
//! a fault is logged and the certificate before stays in use. TLS 1.2 and 1.3; servers are verified by the name that was
//! configured, never by the address it led to. Refuses to do without verification.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config;

/// How often the files are looked at for a change.
const GLANCE: Duration = Duration::from_secs(5);

/// Why TLS cannot be set up, with the key of the configuration that is at fault.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// A file cannot be read.
    #[error("{key} {} cannot be read: {cause}", path.display())]
    Unreadable {
        /// The key of the configuration.
        key: &'static str,
        /// Its file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file holds no PEM of the kind that is needed.
    #[error("{key} {} holds no {wanted}: {detail}", path.display())]
    NotPem {
        /// The key of the configuration.
        key: &'static str,
        /// Its file.
        path: PathBuf,
        /// What is looked for in it.
        wanted: &'static str,
        /// What the reader said.
        detail: String,
    },
    /// The private key is not the certificate's, or of a kind that is not known.
    #[error("sip.tls.private_key does not go with sip.tls.certificate: {0}")]
    Mismatch(rustls::Error),
    /// An authority cannot be used.
    #[error("{key} {} holds a certificate that no chain can end in: {cause}", path.display())]
    Authority {
        /// The key of the configuration.
        key: &'static str,
        /// Its file.
        path: PathBuf,
        /// What rustls said.
        cause: rustls::Error,
    },
    /// What asks carriers for certificates cannot be made.
    #[error("sip.tls.client_ca cannot be used: {0}")]
    Verifier(String),
    /// Neither TLS 1.2 nor 1.3 can be spoken.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// TLS as SIP uses it, both ways.
#[derive(Clone)]
pub struct SipTls {
    acceptor: Option<TlsAcceptor>,
    connector: TlsConnector,
    identity: Option<Arc<Identity>>,
}

impl std::fmt::Debug for SipTls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SipTls").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl SipTls {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// [`TlsFault`] for the first file that will not do.
    pub fn load(config: &config::Tls) -> Result<Self, TlsFault> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = match (&config.certificate, &config.private_key) {
            (Some(certificate), Some(key)) => {
                Some(Arc::new(Identity::read(certificate.clone(), key.clone(), Arc::clone(&provider))?))
            }
            _ => None,
        };
        let acceptor = match &identity {
            Some(identity) => Some(acceptor(config, identity, &provider)?),
            None => None,
        };
        let connector = connector(config, identity.as_ref(), provider)?;
        Ok(Self { acceptor, connector, identity })
    }

    /// For connections that peers open; `None` without a certificate.
    #[must_use]
    pub fn acceptor(&self) -> Option<&TlsAcceptor> {
        self.acceptor.as_ref()
    }

    /// For connections that we open.
    #[must_use]
    pub const fn connector(&self) -> &TlsConnector {
        &self.connector
    }

    /// Looks at the certificate's files for ever, and takes them up when they changed.
    pub async fn keep_fresh(self) {
        let Some(identity) = self.identity else { return };
        loop {
            tokio::time::sleep(GLANCE).await;
            let identity = Arc::clone(&identity);
            // Files may lie on a network: not on the thread of others.
            let looked = tokio::task::spawn_blocking(move || identity.renew()).await;
            match looked {
                Ok(Ok(true)) => tracing::info!("sip.tls.certificate was read anew"),
                Ok(Ok(false)) => {}
                Ok(Err(fault)) => {
                    tracing::warn!(%fault, "the new certificate is not taken; the one before stays in use");
                }
                Err(error) => tracing::warn!(%error, "the certificate's files could not be looked at"),
            }
        }
    }
}

fn acceptor(
    config: &config::Tls,
    identity: &Arc<Identity>,
    provider: &Arc<CryptoProvider>,
) -> Result<TlsAcceptor, TlsFault> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsFault::Setup)?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            add_roots(&mut roots, "sip.tls.client_ca", path)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
            builder
                .with_client_cert_verifier(verifier.map_err(|error| TlsFault::Verifier(error.to_string()))?)
        }
    };
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<Identity>::clone(identity);
    Ok(TlsAcceptor::from(Arc::new(builder.with_cert_resolver(resolver))))
}

fn connector(
    config: &config::Tls,
    identity: Option<&Arc<Identity>>,
    provider: Arc<CryptoProvider>,
) -> Result<TlsConnector, TlsFault> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &config.gateway_ca {
        add_roots(&mut roots, "sip.tls.gateway_ca", path)?;
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsFault::Setup)?
        .with_root_certificates(roots);
    let config = match identity {
        // Shown only to a gateway that asks for one.
        Some(identity) => {
            let resolver: Arc<dyn ResolvesClientCert> = Arc::<Identity>::clone(identity);
            builder.with_client_cert_resolver(resolver)
        }
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn add_roots(roots: &mut RootCertStore, key: &'static str, path: &Path) -> Result<(), TlsFault> {
    for certificate in certificates(key, path)? {
        roots.add(certificate).map_err(|cause| TlsFault::Authority { key, path: path.into(), cause })?;
    }
    Ok(())
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let pem = fs::read(path).map_err(|cause| TlsFault::Unreadable { key, path: path.into(), cause })?;
    let fault = |detail: String| TlsFault::NotPem { key, path: path.into(), wanted: "certificate", detail };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(error.to_string()))?;
    if found.is_empty() {
        return Err(fault("give a file with -----BEGIN CERTIFICATE----- in it".to_owned()));
    }
    Ok(found)
}

/// Our certificate and its key, as they are now.
#[derive(Debug)]
struct Identity {
    certificate: PathBuf,
    private_key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// When the two files were written, as far as the system tells.
    written: [Option<SystemTime>; 2],
}

impl Identity {
    fn read(
        certificate: PathBuf,
        private_key: PathBuf,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsFault> {
        let written = [&certificate, &private_key].map(|path| written(path));
        let key = certified(&certificate, &private_key, &provider)?;
        let current = RwLock::new(Current { key, written });
        Ok(Self { certificate, private_key, provider, current })
    }

    /// Reads the files again if they changed; whether they did.
    fn renew(&self) -> Result<bool, TlsFault> {
        let written = [&self.certificate, &self.private_key].map(|path| written(path));
        if self.current.read().unwrap_or_else(PoisonError::into_inner).written == written {
            return Ok(false);
        }
        let key = certified(&self.certificate, &self.private_key, &self.provider);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Said once: what is wrong with these files is not looked at again before they change again.
        current.written = written;
        current.key = key?;
        Ok(true)
    }

    fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).key)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _roots: &[&[u8]], schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.key();
        key.key.choose_scheme(schemes).is_some().then_some(key)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn written(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn certified(
    certificate: &Path,
    private_key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsFault> {
    const KEY: &str = "sip.tls.private_key";
    let chain = certificates("sip.tls.certificate", certificate)?;
    let pem = fs::read(private_key).map_err(|cause| TlsFault::Unreadable {
        key: KEY,
        path: private_key.into(),
        cause,
    })?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| TlsFault::NotPem {
        key: KEY,
        path: private_key.into(),
        wanted: "private key",
        detail: error.to_string(),
    })?;
    CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(TlsFault::Mismatch)
}
