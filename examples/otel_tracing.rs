//! Joins as parts of the host's own traces: `http.request → sfu.join → {sfu.admit, sfu.sdp.negotiate, sfu.ice, sfu.dtls, sfu.first_packet}`.
//!
//! `cargo run --example otel_tracing -- 127.0.0.1:8080`, then POST an SDP offer to `/rooms/{room}/{name}` with a `traceparent` header
//! (W3C Trace Context). Spans are printed as they end; a real host puts an OTLP exporter in the place of [`Lines`].

use std::net::{IpAddr, Ipv4Addr};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use sluicegate::{Config, PeerConfig, Sfu};
use tracing::{Span, info_span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let http = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let _provider = trace_to(Lines);
    let media = Config::new("127.0.0.1:0".parse()?).announce(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let app = router(Sfu::start(media).await?);
    let listener = tokio::net::TcpListener::bind(&http).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

/// Sends every span to an exporter, for as long as the provider lives.
///
/// In batches, on a thread of its own: spans of a join end on a worker's thread, where an exporter that waits would hold up media.
fn trace_to(exporter: impl SpanExporter + 'static) -> SdkTracerProvider {
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("host"));
    tracing_subscriber::registry().with(layer).init();
    provider
}

fn router(sfu: Sfu) -> Router {
    Router::new().route("/rooms/{room}/{name}", post(join)).with_state(sfu)
}

async fn join(
    State(sfu): State<Sfu>,
    Path((room, name)): Path<(String, String)>,
    headers: HeaderMap,
    offer: String,
) -> Result<String, (StatusCode, String)> {
    let request = request_span(&headers);
    let room = sfu.room(&room).map_err(|full| (StatusCode::SERVICE_UNAVAILABLE, full.to_string()))?;
    let joined = room.join(PeerConfig::new(name).span(request), &offer).await;
    let (peer, answer) = joined.map_err(|wrong| (StatusCode::BAD_REQUEST, wrong.to_string()))?;
    tokio::spawn(async move { while peer.next_event().await.is_some() {} });
    Ok(answer)
}

/// A span of this request, in the trace that the client's `traceparent` names, if it names one.
fn request_span(headers: &HeaderMap) -> Span {
    let request = info_span!("http.request", otel.kind = "server", http.route = "/rooms/{room}/{name}");
    let remote = TraceContextPropagator::new().extract(&Headers(headers));
    if let Err(error) = request.set_parent(remote) {
        warn!(%error, "the request has no place in its trace");
    }
    request
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| key.as_str()).collect()
    }
}

/// Prints each span in a line: trace, span, parent, name, milliseconds.
#[derive(Debug)]
struct Lines;

impl SpanExporter for Lines {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        for span in batch {
            let took = span.end_time.duration_since(span.start_time).unwrap_or_default();
            let (trace, id) = (span.span_context.trace_id(), span.span_context.span_id());
            println!("{trace} {id} {} {} {} ms", span.parent_span_id, span.name, took.as_millis());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use bytes::Bytes;
    use opentelemetry::trace::{SpanId, Status, TraceId};
    use sluicegate_examples::client::connection::{Outlet, connect};
    use sluicegate_examples::client::meter::Meter;
    use sluicegate_examples::media::Codec;
    use tokio::time::{interval, timeout};
    use tower::ServiceExt;
    use webrtc::peer_connection::RTCSessionDescription;

    use super::*;

    /// Keeps what it is given.
    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const CALLER: &str = "b7ad6b7169203331";

    async fn ask(app: &Router, name: &str, offer: String) -> (StatusCode, String) {
        let request = Request::post(format!("/rooms/standup/{name}"))
            .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
            .body(Body::from(offer))
            .unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_join_is_part_of_the_callers_trace() {
        let kept = Kept::default();
        let provider = trace_to(kept.clone());
        let media = Config::new("127.0.0.1:0".parse().unwrap());
        // A busy machine would refuse a newcomer, as it should.
        let media = media.workers(1).saturation(sluicegate::Saturation::DryRun);
        let app = router(Sfu::start(media).await.unwrap());

        let (status, _) = ask(&app, "eve", "no offer".to_owned()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);

        let client = connect(vec!["127.0.0.1:0".parse().unwrap()], Meter::new()).await.unwrap();
        let audio = Outlet::add(&client, Codec::Opus).await.unwrap();
        let offer = client.connection.create_offer(None).await.unwrap();
        let sdp = offer.sdp.clone();
        client.connection.set_local_description(offer).await.unwrap();
        let (status, answer) = ask(&app, "ada", sdp).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let answer = RTCSessionDescription::answer(answer).unwrap();
        client.connection.set_remote_description(answer).await.unwrap();

        // Says something until its join is told: that ends with the first packet.
        let told = async {
            let mut clock = interval(Duration::from_millis(20));
            for number in 0_u16.. {
                clock.tick().await;
                let _ = audio
                    .send(number, u32::from(number) * 960, false, Bytes::from_static(&[0xf8, 1, 2]))
                    .await;
                provider.force_flush().unwrap();
                let spans = kept.0.lock().unwrap().clone();
                if spans.iter().filter(|span| span.name == "http.request").count() == 2 {
                    return spans;
                }
            }
            unreachable!("the clock ticks on")
        };
        let spans =
            timeout(Duration::from_secs(20), told).await.expect("the join ends with the first packet");

        let trace = TraceId::from_hex(TRACE).unwrap();
        assert!(spans.iter().all(|span| span.span_context.trace_id() == trace), "{spans:#?}");
        let names: HashMap<SpanId, &str> =
            spans.iter().map(|span| (span.span_context.span_id(), &*span.name)).collect();
        let parent = |span: &SpanData| match span.parent_span_id == SpanId::from_hex(CALLER).unwrap() {
            true => "the caller",
            false => names.get(&span.parent_span_id).copied().unwrap_or("nobody"),
        };
        let mut tree: Vec<(&str, &str)> = spans.iter().map(|span| (parent(span), &*span.name)).collect();
        tree.sort_unstable();
        let expected = [
            ("http.request", "sfu.join"),
            ("http.request", "sfu.join"),
            ("sfu.join", "sfu.admit"),
            ("sfu.join", "sfu.admit"),
            ("sfu.join", "sfu.dtls"),
            ("sfu.join", "sfu.first_packet"),
            ("sfu.join", "sfu.ice"),
            ("sfu.join", "sfu.sdp.negotiate"),
            ("sfu.join", "sfu.sdp.negotiate"),
            ("sfu.join", "sfu.subscribe"),
            ("the caller", "http.request"),
            ("the caller", "http.request"),
        ];
        assert_eq!(tree, expected);
        let said = |span: &SpanData, key: &str| {
            let pair = span.attributes.iter().find(|pair| pair.key.as_str() == key);
            pair.map(|pair| pair.value.to_string())
        };
        let joins = || spans.iter().filter(|span| span.name == "sfu.join");
        let mut results: Vec<_> =
            joins().map(|join| (said(join, "sfu.result"), said(join, "sfu.reason"))).collect();
        results.sort_unstable();
        let pair = |result: &str, reason: &str| (Some(result.to_owned()), Some(reason.to_owned()));
        assert_eq!(results, [pair("failed", "negotiation"), pair("ok", "none")]);
        assert!(joins().any(|join| matches!(join.status, Status::Error { .. })));
        for span in &spans {
            let text = format!("{:?}", span.attributes);
            assert!(!text.contains("standup") && !text.contains("ada"), "a name in {text}");
        }
    }
}
