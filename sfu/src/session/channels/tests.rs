//! A client's own stack against ours, packet by packet, in virtual time.

use rtc_datachannel::message::message_channel_open::ChannelType;
use rtc_sctp::{ClientConfig, Payload};

use super::*;
use crate::testing::{at, ms};

use PayloadProtocolIdentifier::{Binary, BinaryEmpty, Dcep, String as Text, StringEmpty};

/// A client, its channels, and the wire between.
struct Pair {
    now: Instant,
    client: Association,
    endpoint: Endpoint,
    ours: Channels,
    /// What the client has read: stream, kind, bytes.
    read: Vec<(u16, PayloadProtocolIdentifier, Vec<u8>)>,
    closed: Vec<u16>,
    /// Packets to us that get lost, from the next one on.
    lose: usize,
    /// The client takes nothing.
    deaf: bool,
    refused: Vec<DropReason>,
}

impl Pair {
    fn new() -> Pair {
        let now = at(0);
        let mut endpoint = Endpoint::new(US, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
        let transport = TransportConfig::default().with_max_message_size(1024 * 1024);
        let (_, client) = endpoint.connect(now, ClientConfig::new(transport), PEER).expect("it connects");
        let ours = Channels::new(now, usize::MAX);
        let (read, closed, refused) = (Vec::new(), Vec::new(), Vec::new());
        Pair { now, client, endpoint, ours, read, closed, lose: 0, deaf: false, refused }
    }

    fn connected() -> Pair {
        let mut pair = Pair::new();
        pair.run(100);
        assert!(!pair.client.is_handshaking());
        pair
    }

    /// Lets so many milliseconds pass, and everything arrive at once.
    fn run(&mut self, millis: u64) {
        let end = self.now + ms(millis);
        loop {
            self.exchange();
            let due = [self.client.poll_timeout(), self.ours.poll_timeout()].into_iter().flatten().min();
            match due.filter(|due| *due <= end) {
                Some(due) => self.now = self.now.max(due),
                None => break,
            }
            self.client.handle_timeout(self.now);
            self.ours.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn exchange(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(transmit) = self.client.poll_transmit(self.now) {
                let Payload::RawEncode(packets) = transmit.message else { continue };
                for packet in packets {
                    quiet = false;
                    if self.lose > 0 {
                        self.lose -= 1;
                        continue;
                    }
                    let result = self.ours.handle_packet(self.now, &packet);
                    self.refused.extend(result.err());
                }
            }
            while let Some(packet) = self.ours.poll_transmit(self.now) {
                quiet = false;
                if self.deaf {
                    continue;
                }
                if let Some((_, DatagramEvent::AssociationEvent(event))) =
                    self.endpoint.handle(self.now, PEER, None, packet)
                {
                    self.client.handle_event(event);
                }
            }
            self.listen();
            if quiet {
                break;
            }
        }
    }

    fn listen(&mut self) {
        while let Some(event) = self.client.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) => {
                    while let Ok(Some(chunks)) = self.client.stream(id).and_then(|mut s| s.read()) {
                        let bytes = chunks.to_payload(1024 * 1024).expect("it fits").to_vec();
                        self.read.push((id, chunks.ppi, bytes));
                    }
                }
                Event::AssociationLost { id, .. } => self.closed.push(id),
                _ => {}
            }
        }
    }

    fn open(&mut self, stream: u16, label: &str, channel_type: ChannelType) {
        let open = DataChannelOpen {
            channel_type,
            priority: 256,
            reliability_parameter: 0,
            label: label.as_bytes().to_vec(),
            protocol: Vec::new(),
        };
        let open = Message::DataChannelOpen(open).marshal().expect("it is one");
        self.client.open_stream(stream, Binary).expect("it is new");
        self.say(stream, Dcep, &open);
        let (unordered, kind) = DataChannel::get_reliability_params(channel_type);
        let mut opened = self.client.stream(stream).expect("it is there");
        opened.set_reliability_params(unordered, kind, 0).expect("it is there");
    }

    fn say(&mut self, stream: u16, kind: PayloadProtocolIdentifier, data: &[u8]) {
        let mut stream = self.client.stream(stream).expect("it is there");
        stream.write_with_ppi(self.now, data, kind).expect("it is open");
    }

    fn heard(&mut self) -> Vec<ChannelEvent> {
        std::iter::from_fn(|| self.ours.poll_event()).collect()
    }
}

fn message(channel: &str, binary: bool, data: &[u8]) -> ChannelEvent {
    ChannelEvent::Message { channel: channel.into(), binary, data: Bytes::copy_from_slice(data) }
}

fn dropped(outcome: MessageOutcome) -> ChannelEvent {
    ChannelEvent::Dropped(outcome)
}

#[test]
fn messages_pass_both_ways() {
    let mut pair = Pair::connected();
    pair.open(4, "chat", ChannelType::Reliable);
    pair.run(100);
    assert_eq!(pair.read, [(4, Dcep, vec![2])], "the opening is acknowledged");
    pair.say(4, Text, "grüß dich".as_bytes());
    pair.say(4, Binary, &[0xff]);
    pair.say(4, StringEmpty, &[0]);
    pair.run(100);
    let expected = [
        message("chat", false, "grüß dich".as_bytes()),
        message("chat", true, &[0xff]),
        message("chat", false, &[]),
    ];
    assert_eq!(pair.heard(), expected);
    pair.read.clear();
    let large = Bytes::from(vec![7; MAX_MESSAGE]);
    assert_eq!(pair.ours.enqueue("chat", false, &Bytes::from_static(b"hello")), Ok(()));
    assert_eq!(pair.ours.enqueue("chat", true, &Bytes::new()), Ok(()));
    assert_eq!(pair.ours.enqueue("chat", true, &large), Ok(()));
    assert_eq!(pair.ours.enqueue("talk", true, &large), Err(MessageOutcome::NoChannel));
    pair.run(2_000);
    let expected = [(4, Text, b"hello".to_vec()), (4, BinaryEmpty, vec![0]), (4, Binary, large.to_vec())];
    assert_eq!(pair.read, expected);
    assert_eq!(pair.ours.footprint(), [0, 0, 0, 1], "nothing is kept of it");
}

#[test]
fn a_lost_introduction_and_a_lost_answer_come_again() {
    let mut pair = Pair::new();
    pair.lose = 1;
    pair.run(5_000);
    assert!(!pair.client.is_handshaking());
    let mut pair = Pair::new();
    pair.deaf = true;
    pair.run(100);
    pair.deaf = false;
    pair.run(5_000);
    assert!(!pair.client.is_handshaking());
    assert_eq!(pair.ours.introductions, 1, "the same one was answered again");
}

#[test]
fn what_is_lost_comes_again_in_order() {
    let mut pair = Pair::connected();
    pair.open(4, "chat", ChannelType::Reliable);
    pair.run(100);
    pair.lose = 1;
    for word in [b"one", b"two"] {
        pair.say(4, Text, word);
        pair.exchange();
    }
    pair.run(5_000);
    assert_eq!(pair.heard(), [message("chat", false, b"one"), message("chat", false, b"two")]);
}

#[test]
fn who_opens_without_order_gets_it_so() {
    let mut pair = Pair::connected();
    pair.open(4, "game", ChannelType::PartialReliableRexmitUnordered);
    pair.run(100);
    pair.say(4, Binary, b"never");
    pair.lose = 1;
    pair.exchange();
    pair.say(4, Binary, b"later");
    pair.run(5_000);
    assert_eq!(pair.heard(), [message("game", true, b"later")], "the lost one is of no use any more");
}

#[test]
fn labels_and_channels_are_bounded() {
    let mut pair = Pair::connected();
    pair.open(0, &"x".repeat(257), ChannelType::Reliable);
    pair.run(500);
    assert_eq!(pair.heard(), [dropped(MessageOutcome::NoChannel)]);
    for channel in 1..=MAX_CHANNELS as u16 {
        pair.open(2 * channel, &"x".repeat(256), ChannelType::Reliable);
        pair.run(100);
    }
    assert_eq!(pair.heard(), []);
    pair.open(200, "more", ChannelType::Reliable);
    pair.run(500);
    assert_eq!(pair.heard(), [dropped(MessageOutcome::NoChannel)]);
    assert_eq!(pair.ours.open.len(), MAX_CHANNELS);
    assert_eq!(pair.closed, [0, 200], "the client is told");
}

#[test]
fn messages_are_bounded() {
    let mut pair = Pair::connected();
    pair.open(4, "files", ChannelType::Reliable);
    pair.run(100);
    pair.say(4, Binary, &vec![1; MAX_MESSAGE]);
    pair.say(4, Binary, &vec![1; MAX_MESSAGE + 1]);
    pair.say(4, Text, &[0xff]);
    pair.say(4, Binary, b"x");
    pair.run(5_000);
    let expected = [
        message("files", true, &vec![1; MAX_MESSAGE]),
        dropped(MessageOutcome::Oversize),
        dropped(MessageOutcome::Malformed),
        message("files", true, b"x"),
    ];
    assert_eq!(pair.heard(), expected);
}

#[test]
fn a_flood_is_counted_and_goes_no_further() {
    let mut pair = Pair::connected();
    pair.open(4, "flood", ChannelType::Reliable);
    pair.run(100);
    for _ in 0..5_000 {
        pair.say(4, Text, b"x");
    }
    pair.run(5_000);
    let heard = pair.heard();
    let passed = heard.iter().filter(|event| matches!(event, ChannelEvent::Message { .. })).count();
    assert!((400..=1_400).contains(&passed), "{passed}");
    assert_eq!(heard.len(), 5_000, "the others are counted");
}

#[test]
fn who_does_not_read_is_sent_no_more_than_so_much() {
    let mut pair = Pair::connected();
    pair.open(4, "chat", ChannelType::Reliable);
    pair.run(100);
    pair.deaf = true;
    let data = Bytes::from(vec![1; 1_000]);
    let mut sent = 0;
    for _ in 0..10_000 {
        sent += usize::from(pair.ours.enqueue("chat", true, &data).is_ok());
        pair.exchange();
    }
    assert!(sent * (1_000 + OVERHEAD) <= MAX_QUEUED + MAX_UNDER_WAY + 2 * (1_000 + OVERHEAD), "{sent}");
    assert_eq!(pair.ours.enqueue("chat", true, &data), Err(MessageOutcome::QueueFull));
    let waiting = pair.ours.packets.iter().map(Bytes::len).sum::<usize>();
    assert!(waiting <= MAX_QUEUED, "{waiting}");
    pair.deaf = false;
    pair.read.clear();
    pair.run(60_000);
    assert_eq!(pair.read.len(), sent, "nothing that was taken is lost");
    assert_eq!(pair.ours.footprint(), [0, 0, 0, 1]);
}

#[test]
fn a_channel_closes_and_its_number_serves_again() {
    let mut pair = Pair::connected();
    for round in 0..20 {
        pair.open(4, "chat", ChannelType::Reliable);
        pair.run(100);
        assert!(pair.ours.has("chat"), "round {round}");
        pair.client.stream(4).expect("it is there").close(pair.now).expect("it closes");
        pair.run(2_000);
        assert!(!pair.ours.has("chat"), "round {round}");
    }
    assert_eq!(pair.heard(), []);
    assert_eq!(pair.ours.footprint(), [0; 4]);
}

/// A packet with a body of the test's own, as from the client itself.
fn forged(pair: &mut Pair, chunk: &[u8]) -> Result<(), DropReason> {
    let bytes = [&[0x13, 0x88, 0x13, 0x88, 0, 0, 0, 7, 0, 0, 0, 0][..], chunk].concat();
    pair.ours.handle_packet(pair.now, &Bytes::from(bytes))
}

#[test]
fn what_lies_about_its_lengths_is_refused_and_the_rest_goes_on() {
    let mut pair = Pair::connected();
    pair.open(4, "chat", ChannelType::Reliable);
    pair.run(100);
    for kind in [6, 9] {
        assert_eq!(forged(&mut pair, &[kind, 0, 0, 8, 0, 0, 0xff, 0xff]), Err(DropReason::Malformed));
    }
    pair.say(4, Text, b"still here");
    pair.run(100);
    assert_eq!(pair.heard(), [message("chat", false, b"still here")]);
    assert_eq!(pair.refused, []);
}

#[test]
fn a_client_that_gives_up_may_begin_anew() {
    let mut pair = Pair::connected();
    pair.open(4, "chat", ChannelType::Reliable);
    pair.run(100);
    pair.client.abort().expect("it can");
    pair.exchange();
    assert!(pair.ours.open.is_empty() && pair.ours.association.is_none());
    let transport = TransportConfig::default();
    let (_, client) =
        pair.endpoint.connect(pair.now, ClientConfig::new(transport), PEER).expect("it connects");
    pair.client = client;
    pair.run(100);
    pair.open(4, "chat", ChannelType::Reliable);
    pair.run(100);
    assert!(pair.ours.has("chat"));
}
