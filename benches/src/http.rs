//! As much HTTP/1.1 as WHIP, WHEP and a scrape need. Blocking.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    head: String,
    /// The body, as text.
    pub body: String,
}

impl Response {
    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Fetches an `http://host:port/path`.
pub fn get(url: &str) -> io::Result<Response> {
    request("GET", url, "")
}

/// Posts an SDP offer.
pub fn post(url: &str, sdp: &str) -> io::Result<Response> {
    request("POST", url, sdp)
}

/// Ends a WHIP or WHEP session.
pub fn delete(url: &str) -> io::Result<Response> {
    request("DELETE", url, "")
}

fn request(method: &str, url: &str, body: &str) -> io::Result<Response> {
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let rest = url.strip_prefix("http://").ok_or_else(|| wrong("only http:// addresses"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\
         Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response"))
}

fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut response = Response { status, head: head.to_owned(), body: body.to_owned() };
    if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        response.body = unchunk(body)?;
    }
    Some(response)
}

fn unchunk(mut body: &str) -> Option<String> {
    let mut text = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n")?;
        let length = usize::from_str_radix(length.split(';').next()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(text);
        }
        text.push_str(rest.get(..length)?);
        body = rest.get(length + 2..)?;
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_chunked_body_is_joined() {
    let text = "HTTP/1.1 201 Created\r\nLocation: /whip/a/1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nv=0\r\n2\r\n\r\n\r\n0\r\n\r\n";
    let response = parse(text).unwrap();
    assert_eq!((response.status, response.body.as_str()), (201, "v=0\r\n"));
    assert_eq!(response.header("location"), Some("/whip/a/1"));
}
