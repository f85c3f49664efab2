//! A throw-away certificate authority and a server certificate signed by it, new for each run.
//!
//! The client verifies the server against this authority; nothing else ever trusts it, and the
//! authority's key is gone as soon as the server's certificate is signed.

use anyhow::Context;
use limosa_record::dir::{write_secret, write_whole};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The name in the server's certificate.
pub const SERVER_NAME: &str = "server.limosa.test";

/// The PEM files that nodes read.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's private key.
    pub private_key: PathBuf,
    /// The folder with nothing but these three, under the names that programs of the QUIC interop
    /// runner know: `ca.pem`, `cert.pem`, `priv.key`.
    pub folder: PathBuf,
}

/// Makes all three in the folder `certs` of `work`.
///
/// # Errors
/// When the files cannot be written.
pub fn create(work: &Path) -> anyhow::Result<Certificates> {
    let folder = work.join("certs");
    fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
    let (ca_pem, server_pem, key_pem) = sign().context("make the throw-away certificates")?;
    let files = Certificates {
        ca: folder.join("ca.pem"),
        certificate: folder.join("cert.pem"),
        private_key: folder.join("priv.key"),
        folder,
    };
    write_whole(&files.ca, ca_pem.as_bytes())?;
    write_whole(&files.certificate, server_pem.as_bytes())?;
    write_secret(&files.private_key, key_pem.as_bytes())?;
    Ok(files)
}

fn sign() -> Result<(String, String, String), rcgen::Error> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(DnType::CommonName, "Limosa throw-away authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    let server_key = KeyPair::generate()?;
    let server = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    let server_pem = server.signed_by(&server_key, &issuer)?.pem();
    Ok((ca_pem, server_pem, server_key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_three_files_are_pem() {
        let folder = tempfile::tempdir().unwrap();
        let files = super::create(folder.path()).unwrap();
        for (file, label) in [
            (files.ca, "CERTIFICATE"),
            (files.certificate, "CERTIFICATE"),
            (files.private_key, "PRIVATE KEY"),
        ] {
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.starts_with(&format!("-----BEGIN {label}-----")), "{text}");
        }
    }
}
