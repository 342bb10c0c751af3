//! A TCP line before a server, which can be cut: what runs over it breaks, and nobody gets through until it is mended.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Dropping it cuts it for good.
pub struct Line {
    address: SocketAddr,
    whole: Arc<watch::Sender<bool>>,
    accepting: AbortHandle,
}

impl Line {
    /// From a port of its own on the same address to `server`.
    pub async fn to(server: SocketAddr) -> std::io::Result<Line> {
        let listener = TcpListener::bind((server.ip(), 0)).await?;
        let address = listener.local_addr()?;
        let whole = Arc::new(watch::channel(true).0);
        let state = whole.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, state.subscribe()));
            }
        });
        Ok(Line { address, whole, accepting: accepting.abort_handle() })
    }

    /// Where clients come.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that runs over it ends at once, and what comes is turned away.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// It carries again what comes from now on.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow() {
        return;
    }
    let Ok(mut onward) = TcpStream::connect(server).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut onward) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
