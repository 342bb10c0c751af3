//! The client's side of WHIP (RFC 9725) and WHEP: an offer is posted, an answer comes back with the address to end
//! the session by. Plain HTTP only.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Position, Url};

/// Where to publish or watch, and the permission to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: Url,
    token: Option<String>,
}

/// A session on a server. It outlives this value: end it with [`Session::end`].
#[derive(Debug)]
pub struct Session {
    resource: Endpoint,
}

/// Why a server and we did not come together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhipError {
    #[error("{url} is not an address")]
    Address { url: String, source: url::ParseError },
    #[error("{0}: only http:// addresses; this client speaks no TLS")]
    Scheme(String),
    #[error("the token has characters that no header can carry")]
    Token,
    #[error("cannot connect to {authority}")]
    Connect { authority: String, source: std::io::Error },
    #[error("{authority} did not answer within {PATIENCE:?}")]
    Silent { authority: String },
    #[error("{authority} does not speak HTTP")]
    Http { authority: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the server answered {status}: {sentence}")]
    Refused { status: StatusCode, sentence: String },
    #[error("the server gave no address to end the session by")]
    NoLocation,
}

impl Endpoint {
    pub fn new(url: &str, token: Option<String>) -> Result<Endpoint, WhipError> {
        let url = Url::parse(url).map_err(|source| WhipError::Address { url: url.to_owned(), source })?;
        if url.scheme() != "http" || !url.has_host() {
            return Err(WhipError::Scheme(url.to_string()));
        }
        Ok(Endpoint { url, token })
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The address of this machine that the server sees.
    pub async fn local_address(&self) -> Result<IpAddr, WhipError> {
        let stream = timeout(PATIENCE, self.connect()).await.map_err(|_| self.silent())??;
        let local = stream.local_addr();
        Ok(local.map_err(|source| WhipError::Connect { authority: self.authority(), source })?.ip())
    }

    /// Posts an offer. Gives the session and the answer.
    pub async fn open(&self, offer: String) -> Result<(Session, String), WhipError> {
        let answer = self.ask(Method::POST, offer).await?;
        if answer.status != StatusCode::CREATED {
            return Err(answer.refusal());
        }
        let location = answer.location.as_deref().and_then(|location| self.url.join(location).ok());
        let url = location.ok_or(WhipError::NoLocation)?;
        let resource = Endpoint::new(url.as_str(), self.token.clone())?;
        Ok((Session { resource }, answer.body))
    }

    async fn ask(&self, method: Method, body: String) -> Result<Answer, WhipError> {
        timeout(PATIENCE, self.exchange(method, body)).await.map_err(|_| self.silent())?
    }

    async fn exchange(&self, method: Method, body: String) -> Result<Answer, WhipError> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.http(error))?;
        // Ends with the sender, which lives as long as this exchange.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(&self.url[Position::BeforePath..Position::AfterQuery])
            .header(header::HOST, &self.url[Position::BeforeHost..Position::AfterPort])
            .header(header::CONTENT_TYPE, "application/sdp");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|_| WhipError::Token)?;
        let response = sender.send_request(request).await.map_err(|error| self.http(error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| self.http(error))?;
        let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: head.status,
            location: location.map(str::to_owned),
            body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    }

    async fn connect(&self) -> Result<TcpStream, WhipError> {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or(80);
        let connected = TcpStream::connect(format!("{host}:{port}")).await;
        connected.map_err(|source| WhipError::Connect { authority: self.authority(), source })
    }

    fn authority(&self) -> String {
        self.url.authority().to_owned()
    }

    fn silent(&self) -> WhipError {
        WhipError::Silent { authority: self.authority() }
    }

    fn http(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> WhipError {
        WhipError::Http { authority: self.authority(), source: source.into() }
    }
}

impl Session {
    /// Ends the session on the server.
    pub async fn end(self) -> Result<(), WhipError> {
        let answer = self.resource.ask(Method::DELETE, String::new()).await?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.refusal()) }
    }
}

struct Answer {
    status: StatusCode,
    location: Option<String>,
    body: String,
}

impl Answer {
    /// In the server's own words, as far as they are some.
    fn refusal(&self) -> WhipError {
        let words = self.body.lines().map(str::trim).find(|line| !line.is_empty());
        let words = words.unwrap_or("it did not say why").chars().filter(|c| !c.is_control());
        WhipError::Refused { status: self.status, sentence: words.take(MAX_SENTENCE).collect() }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
/// An answer with 100 m-lines has 100 kB.
const MAX_BODY: usize = 1 << 20;
/// Of an error page that is no sentence.
const MAX_SENTENCE: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_told_from_one_we_cannot_reach() {
        let said = |url: &str| Endpoint::new(url, None).unwrap_err().to_string();
        assert_eq!(said("stage"), "stage is not an address");
        assert_eq!(
            said("https://a/whip/x"),
            "https://a/whip/x: only http:// addresses; this client speaks no TLS"
        );
        assert!(said("localhost:8080/whip/x").contains("only http://"));
        assert!(Endpoint::new("http://[::1]:8080/whip/x?name=ada", None).is_ok());
    }

    #[test]
    fn a_refusal_is_one_line_of_what_can_be_shown() {
        let said = |body: &str| {
            Answer { status: StatusCode::NOT_FOUND, location: None, body: body.to_owned() }
                .refusal()
                .to_string()
        };
        assert_eq!(
            said("\n no such\x1b[2J session \nat all"),
            "the server answered 404 Not Found: no such[2J session"
        );
        assert_eq!(said(" \n"), "the server answered 404 Not Found: it did not say why");
        assert!(said(&"x".repeat(10_000)).len() < 400);
    }
}
