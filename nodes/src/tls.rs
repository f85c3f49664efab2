//! TLS 1.3 for both ends: rustls with ring, ALPN `hq-interop`.
//!
//! In: PEM files named by the node's configuration. Out: noq's crypto configurations. The client
//! verifies the chain against the given authority and the given name, always.

use anyhow::{Context, Result};
use limosa_record::node::{ClientConfig, ServerConfig};
use noq::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    KeyLog, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// QUIC interop's HTTP/0.9: `GET path` on a stream, the body comes back.
const ALPN: &[u8] = b"hq-interop";

/// Name of the key log in a node's folder.
const KEY_LOG_FILE: &str = "keys.log";

/// The server's certificate and key.
pub(crate) fn server(config: &ServerConfig) -> Result<Arc<QuicServerConfig>> {
    let chain = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("read certificate {}", config.certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(&config.private_key)
        .with_context(|| format!("read private key {}", config.private_key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("use certificate and private key")?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    if config.transport.key_log {
        tls.key_log = Arc::new(KeyFile::open(&config.folder)?);
    }
    Ok(Arc::new(QuicServerConfig::try_from(tls)?))
}

/// The authority that the client trusts.
pub(crate) fn client(config: &ClientConfig) -> Result<Arc<QuicClientConfig>> {
    let read = || format!("read certificate authority {}", config.ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&config.ca).with_context(read)? {
        roots.add(certificate.with_context(read)?).with_context(read)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed handshake after a reconnect would not be the baseline that the paper measured.
    tls.resumption = rustls::client::Resumption::disabled();
    if config.transport.key_log {
        tls.key_log = Arc::new(KeyFile::open(&config.folder)?);
    }
    Ok(Arc::new(QuicClientConfig::try_from(tls)?))
}

/// Writes secrets in the `SSLKEYLOGFILE` format (RFC 9850).
#[derive(Debug)]
struct KeyFile(Mutex<File>);

impl KeyFile {
    fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(KEY_LOG_FILE);
        let file = File::options().create(true).append(true).open(&path);
        Ok(Self(Mutex::new(file.with_context(|| format!("open {}", path.display()))?)))
    }
}

impl KeyLog for KeyFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        hex(&mut line, client_random);
        line.push(' ');
        hex(&mut line, secret);
        line.push('\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::warn!(%error, "cannot write the key log");
        }
    }
}

/// Appends bytes in lower-case hexadecimal.
pub(crate) fn hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}
