//! The way from worker to worker.

use tokio::sync::mpsc;

use crate::engine::crossing::Crossing;

/// Batches of media that may wait for a worker. One comes per turn of another worker and room: it is beyond help if
/// it cannot take so many.
const BATCHES: usize = 512;

type Letter = (u16, Crossing);

/// A worker's, as the others hold it.
pub struct Mailbox {
    /// Who is where, and which keyframes are wanted: it must not be lost, and there is as much of it as there are joins.
    news: mpsc::UnboundedSender<Letter>,
    media: mpsc::Sender<Letter>,
}

/// A worker's own end.
pub struct Inbox {
    news: mpsc::UnboundedReceiver<Letter>,
    media: mpsc::Receiver<Letter>,
}

/// A new one.
pub fn inbox() -> (Mailbox, Inbox) {
    let (news_in, news) = mpsc::unbounded_channel();
    let (media_in, media) = mpsc::channel(BATCHES);
    (Mailbox { news: news_in, media: media_in }, Inbox { news, media })
}

impl Mailbox {
    /// Never waits. What had no room, or no worker to read it, comes back.
    pub fn send(&self, from: u16, crossing: Crossing) -> Result<(), Crossing> {
        match crossing {
            Crossing::Media(_) => self.media.try_send((from, crossing)).map_err(|error| error.into_inner().1),
            news => self.news.send((from, news)).map_err(|error| error.0.1),
        }
    }
}

impl Inbox {
    /// The next letter, news first. Pending while there is none; for ever once all other workers have ended.
    pub async fn receive(&mut self) -> Letter {
        let Inbox { news, media } = self;
        tokio::select! {
            biased;
            Some(letter) = news.recv() => letter,
            Some(letter) = media.recv() => letter,
            else => std::future::pending().await,
        }
    }

    /// The next letter that is there already.
    pub fn try_receive(&mut self) -> Option<Letter> {
        self.news.try_recv().ok().or_else(|| self.media.try_recv().ok())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::crossing::Batch;

    fn media() -> Crossing {
        Crossing::Media(Arc::new(Batch::default()))
    }

    #[test]
    fn a_full_inbox_gives_media_back_and_takes_news() {
        let (mailbox, mut inbox) = inbox();
        let taken = (0..BATCHES + 10).filter(|_| mailbox.send(1, media()).is_ok()).count();
        assert_eq!(taken, BATCHES);
        assert!(mailbox.send(1, Crossing::Reset).is_ok());
        assert!(matches!(inbox.try_receive(), Some((1, Crossing::Reset))), "before all media");
        assert!(matches!(inbox.try_receive(), Some((1, Crossing::Media(_)))));
        assert!(mailbox.send(1, media()).is_ok(), "there is room again");
        drop(inbox);
        assert!(mailbox.send(1, Crossing::Reset).is_err());
    }
}
