//! TLS as Open vSwitch practises it: both sides have certificates of one CA, and names do not matter.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The three PEM files of an OVSDB client. They are read anew for each connection, so that renewed ones are picked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our private key.
    pub key: PathBuf,
    /// Our certificate (and intermediates).
    pub certificate: PathBuf,
    /// The certificates of the CA that must have signed the server's.
    pub ca: PathBuf,
}

/// A file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read, or holds no such PEM section.
    #[error("{what} {path}: {why}")]
    File {
        /// Which of the files.
        what: &'static str,
        /// Its path.
        path: String,
        /// The problem.
        why: String,
    },
    /// The files do not fit together.
    #[error("TLS key {key} and certificate {certificate}: {why}")]
    Pair {
        /// The key file.
        key: String,
        /// The certificate file.
        certificate: String,
        /// The problem.
        why: rustls::Error,
    },
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::other(error)
    }
}

fn file_error(what: &'static str, path: &Path) -> impl Fn(&dyn std::fmt::Display) -> TlsError {
    move |why| TlsError::File { what, path: path.display().to_string(), why: why.to_string() }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = file_error(what, path);
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|e| error(&e))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| error(&e))?;
    if found.is_empty() { Err(error(&"there is no certificate in it")) } else { Ok(found) }
}

impl TlsFiles {
    /// Reads the files and prepares connections that use them.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let ca_error = file_error("TLS CA file", &self.ca);
        let mut roots = RootCertStore::empty();
        for certificate in certificates("TLS CA file", &self.ca)? {
            roots.add(certificate).map_err(|e| ca_error(&e))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| ca_error(&e))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| file_error("TLS private key", &self.key)(&e))?;
        let chain = certificates("TLS certificate", &self.certificate)?;
        let pair = |why| TlsError::Pair {
            key: self.key.display().to_string(),
            certificate: self.certificate.display().to_string(),
            why,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName(inner)))
            .with_client_auth_cert(chain, key)
            .map_err(pair)?;
        Ok(Arc::new(config))
    }
}

/// Everything the usual verifier demands, except that the certificate be for the name we dialled: Open vSwitch never checks
/// names, and `ovs-pki` writes none that would match. Trust rests on the CA, which signs nothing but OVSDB peers.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // rustls checks the name last: all else has been verified when this is the error.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
