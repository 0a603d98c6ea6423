//! Whom an encrypted connection trusts.

use std::{
    fmt,
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::OptionsError;

/// The web's own authorities, and those of a file.
///
/// The configuration made of them is built at first use: a worker without encrypted servers does
/// not pay for it.
#[derive(Debug, Default)]
pub(crate) struct Authorities {
    own: Vec<CertificateDer<'static>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Authorities {
    /// Reads the file, if there is one.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, OptionsError> {
        let Some(path) = file else { return Ok(Self::default()) };
        let refuse = |problem: String| OptionsError::Authorities { path: path.to_owned(), problem };
        let own = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| refuse(error.to_string()))?;
        if own.is_empty() {
            return Err(refuse("it has no certificate".into()));
        }
        for certificate in &own {
            RootCertStore::empty()
                .add(certificate.clone())
                .map_err(|error| refuse(error.to_string()))?;
        }
        Ok(Self { own, config: OnceLock::new() })
    }

    /// What a blocking client needs.
    pub(crate) fn blocking(&self) -> TlsConfig {
        let certificates: Vec<_> =
            self.certificates().map(|der| Certificate::from_der(der).to_owned()).collect();
        TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider())
            .root_certs(RootCerts::new_with_certs(&certificates))
            .build()
    }

    /// All certificates, the file's first.
    fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.own.iter().chain(webpki_root_certs::TLS_SERVER_ROOT_CERTS)
    }

    /// What a connection to `host` needs.
    pub(crate) fn trust(&self, host: &str) -> Result<Trust, OptionsError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| OptionsError::Name { host: host.to_owned() })?;
        let config = self.config.get_or_init(|| Arc::new(self.config()));
        Ok(Trust { name, config: Arc::clone(config) })
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates().cloned());
        #[expect(
            clippy::expect_used,
            reason = "the provider has the default versions, by its tests"
        )]
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A WebSocket is upgraded from HTTP/1.1; a proxy must not choose HTTP/2.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

/// Whom a blocking HTTP client of ours trusts: the web's own authorities, and those of a file of
/// certificates (PEM), if there is one.
///
/// # Errors
///
/// The file cannot be read, or holds no certificates.
pub fn tls_config(ca_file: Option<&Path>) -> Result<TlsConfig, OptionsError> {
    Authorities::load(ca_file).map(|authorities| authorities.blocking())
}

/// The cryptography, named here so that nothing depends on a process-wide choice.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What a connection to one server needs: its name and whom to believe.
pub(crate) struct Trust {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// The client's half of a new TLS connection.
    pub(crate) fn connect(&self) -> Result<ClientConnection, rustls::Error> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trust").field(&self.name).finish()
    }
}
