//! The certificate that HTTPS is served with.

use std::net::IpAddr;

use axum_server::tls_rustls::RustlsConfig;

use crate::args::Tls;
use crate::startup::StartupError;

/// Loads or makes the certificate. A self-signed one is good for `localhost` and `addresses`.
pub async fn load(tls: &Tls, addresses: &[IpAddr]) -> Result<RustlsConfig, StartupError> {
    // Fails only when one is installed already, and then that one serves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match tls {
        Tls::SelfSigned => self_signed(addresses).await,
        Tls::Files { cert, key } => RustlsConfig::from_pem_file(cert, key).await.map_err(|error| {
            StartupError::new(
                format!(
                    "cannot use the certificate {} with the key {}: {error}",
                    cert.display(),
                    key.display()
                ),
                "both must be readable PEM files; or try --tls self-signed",
            )
        }),
    }
}

async fn self_signed(addresses: &[IpAddr]) -> Result<RustlsConfig, StartupError> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut names: Vec<String> = names.into_iter().chain(addresses.iter().map(IpAddr::to_string)).collect();
    names.sort();
    names.dedup();
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| {
        StartupError::new(format!("cannot make a certificate: {error}"), "give one with --tls CERT,KEY")
    })?;
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    RustlsConfig::from_pem(cert.into_bytes(), key.into_bytes()).await.map_err(|error| {
        StartupError::new(format!("cannot use the new certificate: {error}"), "give one with --tls CERT,KEY")
    })
}
