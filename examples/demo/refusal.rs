//! What a client hears when it does not get what it asked for.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sluicegate::{JoinError, NegotiateError, OfferError, Refused, ResumeError, RoomError};

use crate::token::TokenError;

/// A status for HTTP, a code for programs, a sentence for people.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    /// When to ask again, if the engine says.
    pub retry_after: Option<Duration>,
    /// Whether it is a failure of ours, and not an answer.
    pub is_fault: bool,
}

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, code, message: message.into(), retry_after: None, is_fault: false }
    }

    pub fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    pub fn unknown_session() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "gone", "no such session here; it may have ended")
    }

    pub fn closing() -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "the server is shutting down")
    }

    fn bad_offer(error: impl std::error::Error) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "bad-offer", sentence(&error))
    }

    fn busy(error: impl std::error::Error) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", sentence(&error))
    }

    /// The engine is gone, and the demo did not send it away: who comes while that closes is refused before.
    fn fault(error: impl std::error::Error) -> Refusal {
        Refusal { is_fault: true, ..Refusal::busy(error) }
    }
}

impl From<RoomError> for Refusal {
    fn from(error: RoomError) -> Refusal {
        match error {
            RoomError::Refused(refused) => refused.into(),
            _ => Refusal::fault(error),
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        let retry_after = Some(refused.retry_after);
        Refusal { retry_after, ..Refusal::busy(refused) }
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Refusal {
        match error {
            JoinError::Offer { .. } => Refusal::bad_offer(error),
            JoinError::Refused(refused) => refused.into(),
            JoinError::Full { .. } => Refusal::busy(error),
            _ => Refusal::fault(error),
        }
    }
}

impl From<ResumeError> for Refusal {
    fn from(error: ResumeError) -> Refusal {
        match error {
            ResumeError::ConnectionGone => {
                Refusal::new(StatusCode::CONFLICT, CONNECTION_GONE, sentence(&error))
            }
            ResumeError::Offer(_) => Refusal::bad_offer(error),
            ResumeError::Refused(refused) => refused.into(),
            ResumeError::Full { .. } => Refusal::busy(error),
            ResumeError::Store(_) | ResumeError::Shutdown => Refusal::fault(error),
            _ => Refusal::new(StatusCode::GONE, NO_RESUME, sentence(&error)),
        }
    }
}

impl From<NegotiateError> for Refusal {
    fn from(error: NegotiateError) -> Refusal {
        match error {
            NegotiateError::Offer(OfferError::Glare) => {
                Refusal::new(StatusCode::CONFLICT, "glare", sentence(&error))
            }
            NegotiateError::Gone => Refusal::new(StatusCode::NOT_FOUND, "gone", sentence(&error)),
            _ => Refusal::bad_offer(error),
        }
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", sentence(&error))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.message)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                let wait = self.retry_after.unwrap_or(RETRY_AFTER).as_secs_f64().ceil();
                headers.insert(header::RETRY_AFTER, HeaderValue::from(wait as u64));
            }
            _ => {}
        }
        response
    }
}

/// An error and its causes, in one line.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The client may come back, but with a new connection.
pub const CONNECTION_GONE: &str = "connection-gone";
/// It may not: it has to join.
pub const NO_RESUME: &str = "no-resume";

const RETRY_AFTER: Duration = Duration::from_secs(5);
