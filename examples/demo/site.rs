//! Everything the demo serves over HTTP.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use sluicegate::LoadReport;

use crate::host::Host;
use crate::refusal::Refusal;
use crate::{debug, socket, whip};

/// All routes, each request counted.
pub fn measured(host: &Host, admin_token: Option<String>) -> Router {
    let pages = router(host.clone()).merge(debug::router(host.clone(), admin_token));
    sluicegate::axum::measured(pages, host.signaling().clone())
}

pub fn router(host: Host) -> Router {
    let metrics = host.sfu().metrics().with_signaling(host.signaling().clone()).with_process();
    let metrics = sluicegate::axum::metrics_router(metrics);
    Router::new()
        .route("/", get(page))
        .route("/call.js", get(async || script(include_str!("page/call.js"))))
        .route("/media.js", get(async || script(include_str!("page/media.js"))))
        .route("/chat.js", get(async || script(include_str!("page/chat.js"))))
        .route("/digest.js", get(async || script(include_str!("page/digest.js"))))
        .route("/meter.js", get(async || script(include_str!("page/meter.js"))))
        .route("/pulse.js", get(async || script(include_str!("page/pulse.js"))))
        .route("/standing.js", get(async || script(include_str!("page/standing.js"))))
        .route("/tiles.js", get(async || script(include_str!("page/tiles.js"))))
        .route("/style.css", get(async || asset("text/css; charset=utf-8", include_str!("page/style.css"))))
        .route("/ws/{room}", get(socket::open))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/load", get(load))
        .merge(whip::router())
        .with_state(host)
        .merge(metrics)
}

async fn page() -> impl IntoResponse {
    let headers = [
        // Own files only. Streams are attached by script and need no source.
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        // The address may hold a join token.
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, asset("text/html; charset=utf-8", include_str!("page/index.html")))
}

fn script(text: &'static str) -> impl IntoResponse {
    asset("text/javascript; charset=utf-8", text)
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}

async fn ready(State(host): State<Host>) -> Result<&'static str, Refusal> {
    if host.is_closing() {
        return Err(Refusal::closing());
    }
    host.sfu().admission().rooms?;
    Ok("ready\n")
}

/// For balancers that place rooms by load.
async fn load(State(host): State<Host>) -> Json<LoadReport> {
    Json(host.sfu().load())
}

const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                           img-src data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use axum::body::{Body, to_bytes};
    use axum::http::{HeaderMap, Request, StatusCode};
    use sluicegate::{Config, Saturation, Sfu};
    use tower::ServiceExt;

    use super::*;
    use crate::token::{Signer, UnixTime};

    async fn host(secret: Option<&str>) -> Host {
        let config = Config::new("127.0.0.1:0".parse().unwrap())
            .announce(IpAddr::V4(Ipv4Addr::LOCALHOST))
            .saturation(Saturation::DryRun);
        Host::new(Sfu::start(config).await.unwrap(), secret.map(Signer::new), "test".parse().unwrap())
    }

    async fn ask(
        host: &Host,
        method: &str,
        uri: &str,
        kind: &str,
        body: &str,
    ) -> (StatusCode, HeaderMap, String) {
        let request = Request::builder().method(method).uri(uri).header(header::CONTENT_TYPE, kind);
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (parts, body) = measured(host, None).oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn bad_input_hears_what_is_wrong_with_it() {
        let host = host(None).await;
        let long = format!("/whip/{}?name=ada", "x".repeat(65));
        for (method, uri, kind, body, status, words) in [
            ("POST", "/whip/standup?name=ada", "text/plain", "v=0", 415, "application/sdp"),
            ("POST", "/whip/standup?name=ada", "application/sdp", "hello", 400, ""),
            ("POST", "/whip/standup", "application/sdp", "v=0", 400, "?name="),
            ("POST", "/whip/a%2Fb?name=ada", "application/sdp", "v=0", 400, "room name must not contain '/'"),
            ("POST", &long, "application/sdp", "v=0", 400, "65 characters"),
            ("POST", "/whep/standup?name=a%0Ab", "application/sdp", "v=0", 400, "U+000A"),
            (
                "PATCH",
                "/whip/standup/none",
                "application/trickle-ice-sdpfrag",
                "a=mid:0",
                404,
                "no such session",
            ),
            ("DELETE", "/whep/standup/none", "", "", 404, "no such session"),
            ("GET", "/whip/standup", "", "", 405, ""),
            ("GET", "/ws/standup", "", "", 400, "?name="),
            ("GET", "/ws/standup?name=ada", "", "", 426, "WebSocket"),
        ] {
            let (got, _, text) = ask(&host, method, uri, kind, body).await;
            assert_eq!((got.as_u16(), text.contains(words)), (status, true), "{method} {uri}: {text}");
        }
    }

    #[tokio::test]
    async fn a_secret_keeps_strangers_out() {
        let host = host(Some("secret")).await;
        let (room, name) = ("standup".parse().unwrap(), "ada".parse().unwrap());
        let token = Signer::new("secret").issue(&room, &name, UnixTime(u64::MAX));
        for (uri, status) in [
            ("/ws/standup?name=ada".to_owned(), 401),
            (format!("/ws/standup?name=bob&token={token}"), 401),
            (format!("/ws/other?name=ada&token={token}"), 401),
            (format!("/ws/standup?name=ada&token={token}"), 426),
        ] {
            let (got, headers, text) = ask(&host, "GET", &uri, "", "").await;
            assert_eq!(got.as_u16(), status, "{uri}: {text}");
            assert_eq!(headers.contains_key(header::WWW_AUTHENTICATE), status == 401);
        }
    }

    #[tokio::test]
    async fn every_route_is_an_endpoint_of_the_metrics() {
        let host = host(None).await;
        let source = include_str!("site.rs").split_once("#[cfg(test)]").unwrap().0;
        let routes: Vec<&str> =
            source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(routes.len() >= 11, "{routes:?}");
        for route in routes {
            ask(&host, "GET", &route.replace("{room}", "standup"), "", "").await;
            let (_, _, text) = ask(&host, "GET", "/metrics", "", "").await;
            let other = text
                .lines()
                .find(|line| line.starts_with("http_request_duration_seconds_count{method=\"other\""));
            assert!(other.is_some_and(|line| line.ends_with(" 0")), "{route} counts as another: {other:?}");
        }
    }

    #[tokio::test]
    async fn players_on_other_sites_may_ask() {
        let host = host(None).await;
        let (status, headers, _) = ask(&host, "OPTIONS", "/whep/standup", "", "").await;
        assert_eq!(
            (status, &headers["accept-post"]),
            (StatusCode::NO_CONTENT, &"application/sdp".parse().unwrap())
        );
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let (_, headers, _) = ask(&host, "POST", "/whep/standup", "text/plain", "").await;
        assert!(headers[header::ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap().contains("Location"));
    }

    #[tokio::test]
    async fn closing_is_alive_but_not_ready() {
        let host = host(None).await;
        assert_eq!(ask(&host, "GET", "/readyz", "", "").await.0, StatusCode::OK);
        host.close().await;
        assert_eq!(ask(&host, "GET", "/readyz", "", "").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(&host, "GET", "/healthz", "", "").await.0, StatusCode::OK);
        assert_eq!(
            ask(&host, "GET", "/ws/standup?name=ada", "", "").await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }

    #[tokio::test]
    async fn who_has_no_room_says_when_to_ask_again() {
        let host = host(None).await;
        let (status, headers, text) = ask(&host, "GET", "/load", "", "").await;
        let load: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (status, &headers[header::CONTENT_TYPE]),
            (StatusCode::OK, &"application/json".parse().unwrap())
        );
        assert_eq!((&load["state"], &load["active_handles"]), (&"active".into(), &0.into()));
        host.sfu().drain(std::time::Duration::from_secs(60)).await.unwrap();
        for (method, uri) in [("GET", "/readyz"), ("POST", "/whip/standup?name=ada")] {
            let (status, headers, text) = ask(&host, method, uri, "application/sdp", "v=0").await;
            assert_eq!(
                (status, text.contains("draining")),
                (StatusCode::SERVICE_UNAVAILABLE, true),
                "{uri}: {text}"
            );
            let wait: u64 = headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
            assert!((1..=2).contains(&wait), "{wait}");
        }
        assert_eq!(ask(&host, "GET", "/healthz", "", "").await.0, StatusCode::OK);
        let (_, _, text) = ask(&host, "GET", "/load", "", "").await;
        assert!(text.contains("\"state\":\"drained\"") && text.contains("\"accepts_rooms\":false"), "{text}");
    }

    #[tokio::test]
    async fn the_page_may_load_only_its_own_files() {
        let host = host(None).await;
        let (status, headers, page) = ask(&host, "GET", "/", "", "").await;
        assert_eq!(status, StatusCode::OK);
        assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("script-src 'self'"));
        assert!(page.contains("id=\"tiles\""));
        for asset in [
            "/call.js",
            "/chat.js",
            "/digest.js",
            "/media.js",
            "/meter.js",
            "/pulse.js",
            "/standing.js",
            "/tiles.js",
            "/style.css",
            "/metrics",
        ] {
            assert_eq!(ask(&host, "GET", asset, "", "").await.0, StatusCode::OK, "{asset}");
        }
    }
}
