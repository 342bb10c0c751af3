//! The browser's remote control: numbered JSON calls over a WebSocket.
//!
//! DevTools and WebDriver BiDi differ in vocabulary, not in shape: `{id, method, params}` out,
//! `{id, result}` or `{id, error}` back, and events without an id in between.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{BrowserError, namespace};

/// A connection to one browser. Clones share it.
#[derive(Clone)]
pub(super) struct Wire {
    shared: Arc<Shared>,
}

struct Shared {
    next_id: AtomicU64,
    out: mpsc::UnboundedSender<Message>,
    pending: Pending,
}

/// Who waits for which answer; `None` once the connection is gone.
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Value>>>>>;

impl Wire {
    /// Connects to `url`; what pages write to their consoles goes to a log of this name.
    pub(super) async fn connect(url: &str, name: &str) -> Result<Wire, BrowserError> {
        let (mut socket, _) = timeout(CALL_LIMIT, tokio_tungstenite::connect_async(url))
            .await
            .map_err(|_| BrowserError::Timeout { what: format!("connect to {url}"), limit: CALL_LIMIT })?
            .map_err(|error| BrowserError::Refused { method: url.to_owned(), message: error.to_string() })?;
        let (out, mut calls) = mpsc::unbounded_channel();
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let waiting = Arc::clone(&pending);
        let mut console = File::create(namespace::fresh_path(&format!("{name}-console"), "log")).ok();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    call = calls.recv() => {
                        let Some(call) = call else { break };
                        if socket.send(call).await.is_err() {
                            break;
                        }
                    }
                    message = socket.next() => match message {
                        Some(Ok(Message::Text(text))) => deliver(&text, &waiting, console.as_mut()),
                        Some(Ok(_)) => {}
                        _ => break,
                    },
                }
            }
            // Dropping the senders tells everyone who waits.
            waiting.lock().expect("no holder panics").take();
        });
        Ok(Wire { shared: Arc::new(Shared { next_id: AtomicU64::new(1), out, pending }) })
    }

    /// Calls a method of the browser as a whole.
    pub(super) async fn call(&self, method: &str, params: Value) -> Result<Value, BrowserError> {
        self.send(method, json!({ "method": method, "params": params })).await
    }

    /// Calls a method of one DevTools session, that is, of one tab.
    pub(super) async fn call_in(
        &self,
        session: &str,
        method: &str,
        params: Value,
    ) -> Result<Value, BrowserError> {
        self.send(method, json!({ "method": method, "params": params, "sessionId": session })).await
    }

    async fn send(&self, method: &str, mut call: Value) -> Result<Value, BrowserError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        call["id"] = id.into();
        let (answer, answered) = oneshot::channel();
        match self.shared.pending.lock().expect("no holder panics").as_mut() {
            Some(pending) => pending.insert(id, answer),
            None => return Err(BrowserError::Closed),
        };
        self.shared.out.send(Message::text(call.to_string())).map_err(|_| BrowserError::Closed)?;
        let mut answer = timeout(CALL_LIMIT, answered)
            .await
            .map_err(|_| BrowserError::Timeout { what: method.to_owned(), limit: CALL_LIMIT })?
            .map_err(|_| BrowserError::Closed)?;
        match answer.get("error") {
            None => Ok(answer["result"].take()),
            // DevTools: {error: {message}}; BiDi: {error: "a code", message}.
            Some(error) => {
                let message =
                    [&answer["message"], &error["message"], error].into_iter().find_map(Value::as_str);
                Err(BrowserError::Refused {
                    method: method.to_owned(),
                    message: message.unwrap_or("?").to_owned(),
                })
            }
        }
    }
}

fn deliver(text: &str, pending: &Pending, console: Option<&mut File>) {
    let Ok(message) = serde_json::from_str::<Value>(text) else {
        return;
    };
    if let Some(id) = message["id"].as_u64() {
        let waiter =
            pending.lock().expect("no holder panics").as_mut().and_then(|pending| pending.remove(&id));
        if let Some(waiter) = waiter {
            let _ = waiter.send(message);
        }
        return;
    }
    let heard = message["method"].as_str().is_some_and(|method| CONSOLE_EVENTS.contains(&method));
    if let (true, Some(console)) = (heard, console) {
        let _ = writeln!(console, "{}", message["params"]);
    }
}

const CONSOLE_EVENTS: [&str; 3] = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "log.entryAdded"];

/// Calls answer in milliseconds, except evaluations that await a promise: those wait for this long at most.
const CALL_LIMIT: Duration = Duration::from_secs(20);
