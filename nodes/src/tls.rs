//! TLS 1.3 for all ends: rustls with ring.
//!
//! In: PEM files named by the node's configuration. Out: noq's crypto configurations. The client
//! verifies the chain against the given authority and the given name, always; two servers verify
//! each other so.
//!
//! Under `dual-path` and `post-copy` the client's second connection resumes a session of the first
//! one: what the server needs for that is in its memory, so a copy of it has the same. It is one
//! [`Ticketer`], whose tickets carry the session; or, when early data is wanted, one table of
//! sessions, because rustls takes early data only for sessions that it can forget. **Replay**:
//! each server accepts the early data of a session once, but two servers that know the same
//! session accept it once each (RFC 8446, section 8.2). A read may be replayed harmlessly; a
//! replayed write carries its old number and loses against everything newer, but not against
//! nothing.

use crate::events::Events;
use anyhow::{Context, Result};
use limosa_record::{
    node::{ClientConfig, ServerConfig, StoreConfig},
    row::event,
};
use noq::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ring::rand::SecureRandom;
use rustls::{
    KeyLog, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{
        ProducesTickets, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
    },
};
use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// QUIC interop's HTTP/0.9: `GET path` on a stream, the body comes back.
const ALPN: &[u8] = b"hq-interop";

/// Name of the key log in a node's folder.
const KEY_LOG_FILE: &str = "keys.log";

/// ALPN between the servers.
const PUSH_ALPN: &[u8] = b"limosa-push";

/// Sessions that a server remembers.
const SESSIONS: usize = 256;

/// One per process: a copy of the process has the same. `None` when rustls cannot make one.
static TICKETS: LazyLock<Option<Arc<dyn ProducesTickets>>> =
    LazyLock::new(|| rustls::crypto::ring::Ticketer::new().ok());

/// As [`TICKETS`], for sessions that allow early data.
static MEMORY: LazyLock<Arc<dyn StoresServerSessions>> =
    LazyLock::new(|| ServerSessionMemoryCache::new(SESSIONS));

/// The server's certificate and key; `folder` is for the key log.
pub(crate) fn server(
    config: &ServerConfig,
    folder: &Path,
    events: &Events,
) -> Result<Arc<QuicServerConfig>> {
    let (chain, key) = identity(config)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("use certificate and private key")?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    if config.transport.scheme.hands_over() && config.transport.early_data {
        tls.session_storage = Arc::new(Noting(MEMORY.clone(), events.clone()));
        tls.max_early_data_size = u32::MAX;
    } else if config.transport.scheme.hands_over() {
        let tickets = TICKETS.clone().context("make a key for tickets")?;
        tls.ticketer = Arc::new(Noting(tickets, events.clone()));
    }
    if config.transport.key_log {
        tls.key_log = Arc::new(KeyFile::open(folder)?);
    }
    Ok(Arc::new(QuicServerConfig::try_from(tls)?))
}

/// The authority that the client trusts.
pub(crate) fn client(config: &ClientConfig) -> Result<Arc<QuicClientConfig>> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(&config.ca)?)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    if config.transport.scheme.hands_over() {
        tls.enable_early_data = config.transport.early_data;
    } else {
        // A resumed handshake after a reconnect would not be the baseline that the paper measured.
        tls.resumption = Resumption::disabled();
    }
    if config.transport.key_log {
        tls.key_log = Arc::new(KeyFile::open(&config.folder)?);
    }
    Ok(Arc::new(QuicClientConfig::try_from(tls)?))
}

/// The end of the old server in a migration; it shows its own certificate. `folder` is for the key
/// log.
pub(crate) fn push_client(
    config: &ServerConfig,
    store: &StoreConfig,
    folder: &Path,
) -> Result<Arc<QuicClientConfig>> {
    let (chain, key) = identity(config)?;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(&store.ca)?)
        .with_client_auth_cert(chain, key)
        .context("use certificate and private key")?;
    tls.alpn_protocols = vec![PUSH_ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    if config.transport.key_log {
        tls.key_log = Arc::new(KeyFile::open(folder)?);
    }
    Ok(Arc::new(QuicClientConfig::try_from(tls)?))
}

/// The end of the new server in a migration; nobody but a server of the same authority may push.
/// `folder` is for the key log.
pub(crate) fn push_server(
    config: &ServerConfig,
    store: &StoreConfig,
    folder: &Path,
) -> Result<Arc<QuicServerConfig>> {
    let (chain, key) = identity(config)?;
    let roots = Arc::new(roots(&store.ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .context("use certificate and private key")?;
    tls.alpn_protocols = vec![PUSH_ALPN.to_vec()];
    if config.transport.key_log {
        tls.key_log = Arc::new(KeyFile::open(folder)?);
    }
    Ok(Arc::new(QuicServerConfig::try_from(tls)?))
}

/// Keys of an endpoint that no copy of this process shares: noq's defaults come from a generator
/// in memory, these straight from the kernel.
pub(crate) fn endpoint() -> Result<noq::EndpointConfig> {
    let random = ring::rand::SystemRandom::new();
    let mut bytes = [0; 72];
    random.fill(&mut bytes).ok().context("random numbers of the kernel")?;
    let (seed, rest) = bytes.split_at(32);
    let (cids, key) = rest.split_at(8);
    let cids = u64::from_le_bytes(cids.try_into()?);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let mut config = noq::EndpointConfig::new(Arc::new(key));
    config.rng_seed(Some(seed.try_into()?)).cid_generator(Arc::new(move || {
        Box::new(noq_proto::HashedConnectionIdGenerator::from_key(cids))
    }));
    Ok(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca: &Path) -> Result<RootCertStore> {
    let read = || format!("read certificate authority {}", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).with_context(read)? {
        roots.add(certificate.with_context(read)?).with_context(read)?;
    }
    Ok(roots)
}

fn identity(
    config: &ServerConfig,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("read certificate {}", config.certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(&config.private_key)
        .with_context(|| format!("read private key {}", config.private_key.display()))?;
    Ok((chain, key))
}

/// Tickets or sessions of which it is noted when one is used again.
#[derive(Debug)]
struct Noting<T>(T, Events);

impl StoresServerSessions for Noting<Arc<dyn StoresServerSessions>> {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.take(key).inspect(|_| self.1.now(event::RESUMED, ""))
    }

    fn can_cache(&self) -> bool {
        self.0.can_cache()
    }
}

impl ProducesTickets for Noting<Arc<dyn ProducesTickets>> {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher).inspect(|_| self.1.now(event::RESUMED, ""))
    }
}

/// Writes secrets in the `SSLKEYLOGFILE` format (RFC 9850).
#[derive(Debug)]
struct KeyFile(Mutex<File>);

impl KeyFile {
    fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(KEY_LOG_FILE);
        let file = limosa_record::dir::append(&path, 0o600);
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

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    let mut text = String::new();
    hex(&mut text, bytes);
    text
}

/// Appends bytes in lower-case hexadecimal.
pub(crate) fn hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}
