//! Why the demo did not start, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::refusal::sentence;

#[derive(Debug)]
pub struct StartupError {
    what: String,
    remedy: String,
}

impl StartupError {
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> StartupError {
        StartupError { what: what.into(), remedy: remedy.into() }
    }

    /// The engine did not start, most often for want of a UDP port.
    pub fn engine(media: SocketAddr, error: &(dyn Error + 'static)) -> StartupError {
        match io_kind(error) {
            Some(_) => StartupError::socket("--media", "UDP", media, error),
            None => StartupError::new(sentence(error), "look at --media, --announce and --workers"),
        }
    }

    /// A socket that `option` asked for could not be had.
    pub fn socket(
        option: &str,
        protocol: &str,
        addr: SocketAddr,
        error: &(dyn Error + 'static),
    ) -> StartupError {
        let what = format!("cannot listen on {addr} ({protocol}, {option}): {}", sentence(error));
        let remedy = match io_kind(error) {
            Some(io::ErrorKind::AddrInUse) => {
                format!("another program uses this port; stop it, or choose another port with {option}")
            }
            Some(io::ErrorKind::PermissionDenied) => {
                format!(
                    "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher port with {option}"
                )
            }
            Some(io::ErrorKind::AddrNotAvailable) => {
                format!(
                    "no interface of this machine has the address {}; choose one that does with {option}",
                    addr.ip()
                )
            }
            _ => format!("choose another address with {option}"),
        };
        StartupError { what, remedy }
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.what, self.remedy)
    }
}

impl Error for StartupError {}

/// The kind of the operating system's error somewhere below.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

#[test]
fn says_which_port_and_what_to_do() {
    let error = io::Error::from(io::ErrorKind::AddrInUse);
    let text = StartupError::socket("--http", "TCP", "127.0.0.1:8080".parse().unwrap(), &error).to_string();
    assert!(text.contains("127.0.0.1:8080") && text.contains("another port with --http"), "{text}");
}
