//! A client: a whole `rtc` peer connection, with a synthetic camera and microphone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use interceptor::{Registry, Slot};
use rtc::data_channel::{RTCDataChannelId, RTCDataChannelInit};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::{
    configure_nack, configure_simulcast_extension_headers, configure_twcc,
};
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{
    CandidateConfig, CandidateHostConfig, RTCDtlsRole, RTCIceCandidate, RTCIceCandidateInit,
};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpHeaderExtensionCapability,
    RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpSenderId, RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
pub use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::{TaggedBytesMut, TransportContext};
use rtcp::extended_report::ExtendedReport;
use rtcp::extended_report::dlrr::{DLRRReport, DLRRReportBlock};
use rtcp::extended_report::rrt::ReceiverReferenceTimeReportBlock;
use rtcp::receiver_report::ReceiverReport;
use sansio::Protocol;
use sluicegate::{DataChannels, LeaveReason, MediaKind, PeerEvent, PeerId, Subscribe};

use super::Datagram;
use super::clock::ntp;
use super::content::room_tag;
use super::dice::Dice;
use super::receiver::Receiver;
use super::sink::Sink;
use super::source::{Source, Voice};
use super::tap::{Rtcp, Tap, Wire};

/// How a client takes part.
#[derive(Clone)]
pub struct Part {
    pub audio: bool,
    pub video: bool,
    /// Whether its sections receive too, as browsers' `addTrack` makes them.
    pub sendrecv: bool,
    /// `recvonly` sections of each kind, as WHEP players offer.
    pub slots: usize,
    pub subscribe: Subscribe,
    pub video_bitrate: u64,
    pub audio_bitrate: u64,
    /// Whether the camera keeps to a REMB.
    pub obeys: bool,
    pub cap: Option<sluicegate::Bitrate>,
    /// In the client's order of preference; `None`: the stack's own.
    pub profiles: Option<Vec<SrtpProtectionProfile>>,
    /// Its answer never reaches it: it does not begin to connect.
    pub absent: bool,
    /// Announces its sources and sends nothing.
    pub muted: bool,
    /// SSRCs to announce instead of random ones: audio, video.
    pub ssrcs: Option<[u32; 2]>,
    /// Sends no transport-wide feedback, as clients before 2016 do not.
    pub old_fashioned: bool,
    /// Whether it does as browsers do where its stack differs: connects without pauses, and asks for what it
    /// lacks, packets at once and keyframes at all.
    pub browser: bool,
    /// Whether it tells its time, as browsers on our page do that send nothing, and so learns the round trip.
    pub tells_time: bool,
    /// Data channels that it opens: labels, and whether in order.
    pub channels: Vec<(&'static str, bool)>,
    /// What its host lets become of them.
    pub relaying: DataChannels,
    /// The camera's simulcast layers: names and bits per second, smallest first. Empty: one stream.
    pub layers: Vec<(&'static str, u64)>,
    /// Its packets say how loud they are (RFC 6464).
    pub tells_level: bool,
}

/// What contents name as publisher when they come from the `layer`th layer of the client at `index`.
pub fn layer_of(index: usize, layer: usize) -> usize {
    index + layer * 10_000
}

/// The usual three layers of 720 lines.
pub const THREE_LAYERS: [(&str, u64); 3] = [("q", 150_000), ("h", 500_000), ("f", 1_700_000)];

pub const AUDIO: u8 = 1;
pub const VIDEO: u8 = 2;

/// A peer of a call: sends `media`, receives everything.
pub fn publishes(media: u8) -> Part {
    Part {
        audio: media & AUDIO != 0,
        video: media & VIDEO != 0,
        sendrecv: true,
        slots: 0,
        subscribe: Subscribe::Auto,
        video_bitrate: 300_000,
        audio_bitrate: 40_000,
        obeys: true,
        cap: None,
        profiles: None,
        absent: false,
        muted: false,
        ssrcs: None,
        old_fashioned: false,
        browser: false,
        tells_time: false,
        channels: Vec::new(),
        relaying: DataChannels::Relayed,
        layers: Vec::new(),
        tells_level: false,
    }
}

/// A player: receives `publishers` publishers on sections it offers itself.
pub fn watches(publishers: usize) -> Part {
    Part { slots: publishers, subscribe: Subscribe::Slots(Default::default()), ..publishes(0) }
}

impl Part {
    pub fn sendonly(self) -> Part {
        Part { sendrecv: false, ..self }
    }

    pub fn nothing_back(self) -> Part {
        Part { sendrecv: false, subscribe: Subscribe::Nothing, ..self }
    }

    pub fn at(self, video_bitrate: u64) -> Part {
        Part { video_bitrate, ..self }
    }

    pub fn stubborn(self) -> Part {
        Part { obeys: false, ..self }
    }

    pub fn capped(self, cap: sluicegate::Bitrate) -> Part {
        Part { cap: Some(cap), ..self }
    }

    pub fn old_fashioned(self) -> Part {
        Part { old_fashioned: true, ..self }
    }

    /// Does as browsers do where its stack differs.
    pub fn browser(self) -> Part {
        Part { browser: true, tells_time: true, ..self }
    }

    /// A browser on somebody else's page.
    pub fn player(self) -> Part {
        Part { browser: true, ..self }
    }

    /// Sends its video in these layers.
    pub fn layered(self, layers: &[(&'static str, u64)]) -> Part {
        Part { video: true, layers: layers.to_vec(), ..self }
    }

    /// Opens these data channels, in order.
    pub fn speaks(self, labels: &[&'static str]) -> Part {
        Part { channels: labels.iter().map(|label| (*label, true)).collect(), ..self }
    }

    /// Tells how loud it is.
    pub fn with_levels(self) -> Part {
        Part { tells_level: true, ..self }
    }

    pub fn absent(self) -> Part {
        Part { absent: true, ..self }
    }

    pub fn muted(self) -> Part {
        Part { muted: true, ..self }
    }

    pub fn profiles(self, profiles: &[SrtpProtectionProfile]) -> Part {
        Part { profiles: Some(profiles.to_vec()), ..self }
    }
}

/// One client of the world.
pub struct Client {
    pub name: String,
    pub room: String,
    pub addr: SocketAddr,
    pub part: Part,
    pub sink: Sink,
    receiver: Receiver,
    pub tap: Tap,
    pub peer: Option<PeerId>,
    /// Where its session is.
    pub worker: u16,
    pub joined_at: Instant,
    /// When its connection came up, as itself sees it.
    pub connected_at: Option<Instant>,
    /// What the engine told its host.
    pub events: Vec<(Instant, PeerEvent)>,
    /// Offers of the engine that the signalling holds back.
    pub held: Option<Vec<String>>,
    pub answers_refused: Vec<String>,
    pub audio: Option<Source>,
    pub video: Option<Source>,
    /// Its simulcast layers, smallest first; `video` is empty then.
    pub layers: Vec<Source>,
    /// Layers above are switched off, as browsers do when they are short of bandwidth.
    pub active_layers: usize,
    /// What came on its data channels: label, and bytes.
    pub messages: Vec<(String, Vec<u8>)>,
    channels: Vec<(RTCDataChannelId, &'static str)>,
    /// Neither sends nor receives: the cable is out.
    pub silent: bool,
    pc: RTCPeerConnection,
    senders: [Option<RTCRtpSenderId>; 2],
    next_report: Option<Instant>,
    heard: usize,
    key: u64,
    wake: Option<Instant>,
}

impl Client {
    pub fn new(
        now: Instant,
        dice: &mut Dice,
        (room, name): (&str, &str),
        index: usize,
        addr: SocketAddr,
        key: u64,
        part: Part,
    ) -> Client {
        let tap = Tap::default();
        let mut client = Client {
            name: name.to_owned(),
            room: room.to_owned(),
            addr,
            sink: Sink::new(key, room_tag(room)),
            receiver: Receiver::default(),
            pc: connection(now, addr, &part, &tap),
            tap,
            peer: None,
            worker: 0,
            joined_at: now,
            connected_at: None,
            events: Vec::new(),
            held: None,
            answers_refused: Vec::new(),
            audio: None,
            video: None,
            layers: Vec::new(),
            active_layers: usize::MAX,
            messages: Vec::new(),
            channels: Vec::new(),
            silent: part.absent,
            senders: [None; 2],
            next_report: None,
            heard: 0,
            key,
            wake: None,
            part,
        };
        let part = client.part.clone();
        for video in [false, true] {
            if if video { part.video } else { part.audio } {
                client.publish(now, dice, index, video);
            }
        }
        for (label, ordered) in part.channels {
            let init = RTCDataChannelInit { ordered, ..Default::default() };
            let channel = client.pc.create_data_channel(label, Some(init)).expect("a channel is made");
            client.channels.push((channel.id(), label));
        }
        for _ in 0..part.slots {
            for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
                let init = RTCRtpTransceiverInit {
                    direction: RTCRtpTransceiverDirection::Recvonly,
                    streams: vec![],
                    send_encodings: vec![],
                };
                client.pc.add_transceiver_from_kind(kind, Some(init)).expect("a transceiver is added");
            }
        }
        client
    }

    /// Adds a camera or a microphone; the next offer announces it.
    pub fn publish(&mut self, now: Instant, dice: &mut Dice, index: usize, video: bool) {
        if video && !self.part.layers.is_empty() {
            return self.publish_layers(now, dice, index);
        }
        let bitrate = if video { self.part.video_bitrate } else { self.part.audio_bitrate };
        let room = room_tag(&self.room);
        let mut source = Source::new(now, dice, room, index as u32, self.key, video, bitrate);
        if let Some(ssrcs) = self.part.ssrcs {
            source.ssrc = ssrcs[usize::from(video)];
        }
        let track = track(&source);
        let direction = match self.part.sendrecv {
            true => RTCRtpTransceiverDirection::Sendrecv,
            false => RTCRtpTransceiverDirection::Sendonly,
        };
        let init = RTCRtpTransceiverInit { direction, streams: vec![], send_encodings: vec![] };
        let id = self.pc.add_transceiver_from_track(track, Some(init)).expect("a track is added");
        self.senders[usize::from(video)] =
            self.pc.rtp_transceiver(id).and_then(|transceiver| transceiver.sender());
        if video {
            self.video = Some(source);
        } else {
            self.audio = Some(source);
        }
    }

    fn publish_layers(&mut self, now: Instant, dice: &mut Dice, index: usize) {
        let room = room_tag(&self.room);
        let mut encodings = Vec::new();
        for (layer, (rid, bitrate)) in self.part.layers.iter().enumerate() {
            let publisher = layer_of(index, layer) as u32;
            let source = Source::new(now, dice, room, publisher, self.key, true, *bitrate);
            let mut encoding = encoding(&source);
            encoding.rtp_coding_parameters.rid = (*rid).to_owned();
            encodings.push(encoding);
            self.layers.push(source);
        }
        let id = format!("{:x}", self.layers[0].ssrc);
        let (stream, track, label) = (format!("s{id}"), format!("t{id}"), format!("l{id}"));
        let track = MediaStreamTrack::new(stream, track, label, RtpCodecKind::Video, encodings);
        let direction = match self.part.sendrecv {
            true => RTCRtpTransceiverDirection::Sendrecv,
            false => RTCRtpTransceiverDirection::Sendonly,
        };
        let init = RTCRtpTransceiverInit { direction, streams: vec![], send_encodings: vec![] };
        let id = self.pc.add_transceiver_from_track(track, Some(init)).expect("a track is added");
        self.senders[1] = self.pc.rtp_transceiver(id).and_then(|transceiver| transceiver.sender());
    }

    /// What its microphone hears from now on.
    pub fn voice(&mut self, voice: Voice) {
        self.audio.as_mut().expect("it has a microphone").voice = voice;
    }

    /// Says something on one of its data channels.
    pub fn say(&mut self, now: Instant, label: &str, text: &str) {
        let (id, _) = *self.channels.iter().find(|(_, other)| *other == label).expect("it has this channel");
        let mut channel = self.pc.data_channel(id).expect("it is there");
        channel.send_text(now, text).expect("it is open");
        self.wake = None;
    }

    /// Stops a camera or a microphone; the next offer says so.
    pub fn unpublish(&mut self, video: bool) {
        if let Some(sender) = self.senders[usize::from(video)].take() {
            self.pc.remove_track(sender).expect("the track is there");
        }
        if video {
            self.video = None;
        } else {
            self.audio = None;
        }
    }

    // ---- negotiation -------------------------------------------------------------------------------

    /// An offer, set as the local description.
    pub fn offer(&mut self, now: Instant) -> String {
        let offer = self.pc.create_offer(None).expect("an offer is made");
        self.pc.set_local_description(now, offer.clone()).expect("our offer fits us");
        offer.sdp
    }

    /// The next offer asks for new ICE credentials.
    pub fn restart_ice(&mut self) {
        self.pc.restart_ice();
    }

    /// Gathers its candidates: the one it has.
    pub fn gather(&mut self) {
        self.pc.add_local_candidate(host_candidate(self.addr)).expect("it is ours");
    }

    /// The engine's answer to it.
    pub fn accept_answer(&mut self, now: Instant, sdp: &str) {
        let answer = RTCSessionDescription::answer(sdp.to_owned()).expect("the answer parses");
        if let Err(error) = self.pc.set_remote_description(now, answer) {
            panic!("{} refuses the answer: {error}\n{sdp}", self.name);
        }
    }

    /// Answers an offer of the engine, politely.
    pub fn answer(&mut self, now: Instant, sdp: &str) -> String {
        let offer = RTCSessionDescription::offer(sdp.to_owned()).expect("the offer parses");
        if let Err(error) = self.pc.set_remote_description(now, offer) {
            panic!("{} refuses the offer: {error}\n{sdp}", self.name);
        }
        let answer = self.pc.create_answer(None).expect("an answer is made");
        self.pc.set_local_description(now, answer.clone()).expect("our answer fits us");
        answer.sdp
    }

    /// Takes its own offer back: what the polite side of a glare does.
    pub fn roll_back(&mut self, now: Instant) {
        let rollback = RTCSessionDescription::rollback(None).expect("a rollback has no body");
        self.pc.set_local_description(now, rollback).expect("an offer of ours is pending");
    }

    /// Says goodbye on the wire.
    pub fn close(&mut self) {
        let _ = self.pc.close();
    }

    /// The local description in force.
    pub fn local_sdp(&self) -> String {
        self.pc.current_local_description().map(|description| description.sdp).unwrap_or_default()
    }

    // ---- the wire ----------------------------------------------------------------------------------

    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if self.silent {
            return;
        }
        let transport = TransportContext { local_addr: self.addr, peer_addr: from, ..Default::default() };
        let _ = self.pc.handle_read(TaggedBytesMut { now, transport, message: BytesMut::from(bytes) });
        if self.part.browser && self.connected_at.is_none() {
            // Else its handshake begins with the next tick of its ICE, up to 200 ms later.
            let _ = self.pc.handle_timeout(now);
        }
        self.wake = None;
    }

    /// What is due at `now`, and what follows from what has arrived.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        if self.pc.poll_timeout().is_some_and(|at| at <= now) {
            let _ = self.pc.handle_timeout(now);
        }
        while let Some(event) = self.pc.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(RTCPeerConnectionState::Connected) =
                event
                && self.connected_at.is_none()
            {
                self.connected_at = Some(now);
                self.next_report = Some(now);
                for source in self.audio.iter_mut().chain(&mut self.video).chain(&mut self.layers) {
                    source.start(now);
                }
                self.name_layers();
            }
        }
        while let Some(TaggedRTCMessage { message, .. }) = self.pc.poll_read() {
            if let RTCMessage::DataChannelMessage(id, message) = message {
                let label =
                    self.channels.iter().find(|(other, _)| *other == id).map_or("", |(_, label)| label);
                self.messages.push((label.to_owned(), message.data.to_vec()));
            } else if let RTCMessage::RtpPacket(_, packet) = message {
                let seen =
                    self.sink.take(now, &packet).filter(|seen| seen.content.video && self.part.browser);
                if let Some(seen) = seen {
                    self.receiver.take(now, packet.header.ssrc, &seen);
                }
            }
        }
        self.hear(now);
        for request in self.receiver.poll(now) {
            self.send_rtcp(now, vec![request]);
        }
        if self.connected_at.is_some() && !self.part.muted {
            self.send_media(now);
        }
        while let Some(sent) = self.pc.poll_write() {
            if !self.silent {
                let (from, to) = (sent.transport.local_addr, sent.transport.peer_addr);
                let from = if from.ip().is_unspecified() { self.addr } else { from };
                out.push(Datagram { from, to, bytes: sent.message.to_vec() });
            }
        }
        // A stack that is due again at once gets a millisecond: virtual time must go on.
        let soon = now + Duration::from_millis(1);
        self.wake = self.pc.poll_timeout().map(|at| at.max(soon));
    }

    /// Acts on the RTCP that has come: keyframe requests, caps, and how far away the engine is.
    fn hear(&mut self, now: Instant) {
        let wire = self.tap.wire();
        let fresh = &wire.received[self.heard..];
        let wanted =
            Wire::of::<rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication>(fresh);
        for source in self.video.iter_mut().chain(&mut self.layers) {
            if wanted.iter().any(|(_, pli)| pli.media_ssrc == source.ssrc) {
                source.want_keyframe();
            }
        }
        for (_, report) in Wire::of::<ReceiverReport>(fresh) {
            let block = report.reports.iter().find(|block| block.last_sender_report != 0);
            if let Some(block) = block {
                self.receiver.on_round_trip(round_trip(now, block.last_sender_report, block.delay));
            }
        }
        for (_, report) in Wire::of::<ExtendedReport>(fresh) {
            let blocks = report.reports.iter().filter_map(|block| block.as_any().downcast_ref());
            for DLRRReportBlock { reports } in blocks {
                for DLRRReport { last_rr, dlrr, .. } in reports {
                    self.receiver.on_round_trip(round_trip(now, *last_rr, *dlrr));
                }
            }
        }
        let told = Wire::rembs(fresh).last().filter(|_| self.part.obeys).map(|(_, rate)| *rate as u64);
        self.heard = wire.received.len();
        drop(wire);
        if let Some(rate) = told {
            let room = rate.saturating_sub(self.part.audio_bitrate);
            // Headers count against a cap, payload is what a camera sets.
            self.share(room * 9 / 10);
        }
    }

    /// Sets the camera to what it may send, its layers as libwebrtc's `SimulcastRateAllocator` does: the
    /// smallest first, what does not get its least is switched off, and so are all above it.
    fn share(&mut self, mut room: u64) {
        if let Some(video) = &mut self.video {
            video.bitrate = self.part.video_bitrate.min(room);
        }
        let before = self.active_layers;
        let mut active = 0;
        for (source, (_, most)) in self.layers.iter_mut().zip(&self.part.layers) {
            if active > 0 && room < most * LEAST_PERCENT / 100 {
                break;
            }
            source.bitrate = room.min(*most);
            room -= source.bitrate;
            active += 1;
            if active > before {
                source.want_keyframe();
            }
        }
        if !self.layers.is_empty() {
            self.active_layers = active;
        }
    }

    /// Each layer's packets say which they are: by the ids that our offer gave.
    fn name_layers(&mut self) {
        let sdp = self.local_sdp();
        let id = |uri: &str| {
            let mut lines = sdp.lines().filter_map(|line| line.strip_prefix("a=extmap:"));
            let line = lines.find(|line| line.ends_with(uri))?;
            line.split([' ', '/']).next()?.parse::<u8>().ok()
        };
        if let Some(audio) = self.audio.as_mut().filter(|_| self.part.tells_level) {
            audio.level_id = id("ssrc-audio-level");
        }
        let (Some(mid), Some(rid)) = (id("sdes:mid"), id("sdes:rtp-stream-id")) else { return };
        let section = sdp.split("m=").find(|section| section.contains("a=simulcast:"));
        let named = section.and_then(|section| section.split("a=mid:").nth(1)?.lines().next());
        for (source, (name, _)) in self.layers.iter_mut().zip(&self.part.layers) {
            source.extensions = vec![(mid, named.unwrap_or("0").to_owned().into()), (rid, (*name).into())];
        }
    }

    fn send_layers(&mut self, now: Instant) {
        let Some(sender) = self.senders[1] else { return };
        for (index, source) in self.layers.iter_mut().enumerate() {
            if index >= self.active_layers {
                source.rest(now);
                continue;
            }
            let Some(packets) = source.poll(now) else { continue };
            let Some(mut sender) = self.pc.rtp_sender(sender) else { continue };
            for packet in packets {
                let _ = sender.write_rtp(now, packet);
            }
        }
    }

    fn send_media(&mut self, now: Instant) {
        self.send_layers(now);
        for video in [false, true] {
            let source = if video { &mut self.video } else { &mut self.audio };
            let (Some(source), Some(sender)) = (source, self.senders[usize::from(video)]) else { continue };
            let Some(packets) = source.poll(now) else { continue };
            let Some(mut sender) = self.pc.rtp_sender(sender) else { continue };
            for packet in packets {
                let _ = sender.write_rtp(now, packet);
            }
        }
        if self.next_report.is_some_and(|at| at <= now) {
            self.next_report = Some(now + Duration::from_secs(1));
            let active = self.active_layers;
            let reports: Vec<Rtcp> = self
                .audio
                .iter()
                .chain(&self.video)
                .chain(self.layers.iter().take(active))
                .filter_map(|source| Some(Box::new(source.report(now)?) as Rtcp))
                .collect();
            let reports = match reports.is_empty() && self.part.tells_time {
                true => vec![reference_time(now)],
                false => reports,
            };
            for report in reports {
                self.send_rtcp(now, vec![report]);
            }
        }
    }

    /// Sends RTCP of the test's making under the client's keys.
    pub fn send_rtcp(&mut self, now: Instant, packets: Vec<Rtcp>) -> bool {
        if let Some(id) = self.senders.iter().flatten().next() {
            return self.pc.rtp_sender(*id).is_some_and(|mut it| it.write_rtcp(now, packets).is_ok());
        }
        let receiver = self.pc.get_receivers().next();
        receiver.is_some_and(|id| {
            self.pc.rtp_receiver(id).is_some_and(|mut it| it.write_rtcp(now, packets).is_ok())
        })
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let sources = self.audio.iter().chain(&self.video).chain(&self.layers);
        let media = sources.map(Source::poll_timeout).chain(self.next_report).min();
        let media = media.filter(|_| self.connected_at.is_some() && !self.part.muted);
        [self.wake, media, self.receiver.poll_timeout()].into_iter().flatten().min()
    }

    // ---- readings ----------------------------------------------------------------------------------

    pub fn is_connected(&self) -> bool {
        self.connected_at.is_some()
    }

    pub fn connect_time(&self) -> Option<Duration> {
        Some(self.connected_at?.saturating_duration_since(self.joined_at))
    }

    pub fn frames_missing(&self) -> u64 {
        self.sink.frames_missing()
    }

    /// What the engine told the host, without the times.
    pub fn told(&self, event: impl Fn(&PeerEvent) -> bool) -> Vec<Instant> {
        self.events.iter().filter(|(_, told)| event(told)).map(|(at, _)| *at).collect()
    }

    /// The m-lines on which the engine says that it publishes.
    pub fn told_tracks(&self, wanted: MediaKind) -> Vec<String> {
        let tracks = self.events.iter().filter_map(|(_, event)| match event {
            PeerEvent::TrackAdded { mid, kind } if *kind == wanted => Some(mid.clone()),
            _ => None,
        });
        tracks.collect()
    }

    /// Why the engine has let it go, if it has.
    pub fn left(&self) -> Option<LeaveReason> {
        self.events.iter().find_map(|(_, event)| match event {
            PeerEvent::Left(reason) => Some(*reason),
            _ => None,
        })
    }

    /// SSRC and kind of each stream that has brought media.
    pub fn receives(&self) -> Vec<(u32, MediaKind)> {
        let streams = self.sink.streams.iter();
        streams.filter_map(|(ssrc, seen)| Some((*ssrc, seen.first()?.content.kind()))).collect()
    }
}

/// RFC 6464 §4.
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// How often the browser's ICE looks at what it has. Chromium nominates with its first check; this stack with its
/// second, so it takes a round trip more, and as little else as possible.
const CHECKS: Duration = Duration::from_millis(10);
const MOST_CHECKS: u16 = 200;
/// How often it tells what came, of media of 300 kb/s and more (libwebrtc `RemoteEstimatorProxy`).
const FEEDBACK: Duration = Duration::from_millis(50);

/// What a layer must have at least, of what it would like: 600 of 1700 kb/s in libwebrtc's table.
const LEAST_PERCENT: u64 = 35;

/// What is left of the time since we told it, in 1/65536 s (RFC 3550 §6.4.1, RFC 3611 §4.5).
fn round_trip(now: Instant, told: u32, delay: u32) -> Duration {
    let middle = (ntp(now) >> 16) as u32;
    let units = middle.wrapping_sub(told).wrapping_sub(delay);
    Duration::from_secs_f64(f64::from(units) / 65_536.0)
}

/// RFC 3611 §4.4.
fn reference_time(now: Instant) -> Rtcp {
    let time = ReceiverReferenceTimeReportBlock { ntp_timestamp: ntp(now) };
    Box::new(ExtendedReport { sender_ssrc: 1, reports: vec![Box::new(time)] })
}

fn connection(now: Instant, addr: SocketAddr, part: &Part, tap: &Tap) -> RTCPeerConnection {
    let mut media = MediaEngine::default();
    media.register_default_codecs().expect("default codecs register");
    configure_simulcast_extension_headers(&mut media).expect("extensions register");
    if part.tells_level {
        let level = RTCRtpHeaderExtensionCapability { uri: AUDIO_LEVEL.to_owned() };
        media.register_header_extension(level, RtpCodecKind::Audio, None).expect("an extension registers");
    }
    let mut registry = configure_nack(Registry::new(), &mut media);
    if part.browser {
        registry =
            Registry::new().with(Slot::NackResponder, interceptor::NackResponderBuilder::new().build());
    }
    let registry = match part.old_fashioned {
        true => registry,
        false => configure_twcc(registry, &mut media).expect("extensions register"),
    };
    let registry = match part.browser && !part.old_fashioned {
        true => registry.with(
            Slot::TwccReceiver,
            interceptor::TwccReceiverBuilder::new().with_interval(FEEDBACK).build(),
        ),
        false => registry,
    };
    let reports = interceptor::ReceiverReportBuilder::new().build();
    let registry = registry.with(Slot::ReceiverReport, reports).with(Slot::from(500), tap.interceptor());
    // Left to itself this stack answers an ICE-lite offer with setup:passive, also while it is the DTLS
    // client already; browsers keep their role (RFC 8842 §5.5).
    // Its repairs of layers carry no rrid, so the offer must say which stream is whose, as Firefox's does.
    let mut settings = SettingEngineBuilder::new()
        .with_answering_dtls_role(RTCDtlsRole::Client)
        .with_write_ssrc_attributes_for_simulcast(true);
    if part.browser {
        settings = settings.with_ice_connection_attempts(Some(CHECKS), Some(MOST_CHECKS));
    }
    if let Some(profiles) = &part.profiles {
        settings = settings.with_srtp_protection_profiles(profiles.clone());
    }
    let mut pc = RTCPeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_setting_engine(settings.build())
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .build(now)
        .expect("a peer connection is made");
    pc.add_local_candidate(host_candidate(addr)).expect("it is ours");
    pc
}

fn host_candidate(addr: SocketAddr) -> RTCIceCandidateInit {
    let candidate = CandidateHostConfig {
        base_config: CandidateConfig {
            network: "udp".to_owned(),
            address: addr.ip().to_string(),
            port: addr.port(),
            component: 1,
            ..Default::default()
        },
        ..Default::default()
    };
    let candidate = candidate.new_candidate_host().expect("a host candidate is made");
    RTCIceCandidate::from(&candidate).to_json().expect("it is written")
}

fn track(source: &Source) -> MediaStreamTrack {
    let kind = if source.video { RtpCodecKind::Video } else { RtpCodecKind::Audio };
    let id = format!("{:x}", source.ssrc);
    MediaStreamTrack::new(format!("s{id}"), format!("t{id}"), format!("l{id}"), kind, vec![encoding(source)])
}

fn encoding(source: &Source) -> RTCRtpEncodingParameters {
    let (mime_type, clock_rate, channels) = match source.video {
        true => (MIME_TYPE_VP8, 90_000, 0),
        false => (MIME_TYPE_OPUS, 48_000, 2),
    };
    RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(source.ssrc), ..Default::default() },
        codec: RTCRtpCodec { mime_type: mime_type.to_owned(), clock_rate, channels, ..Default::default() },
        ..Default::default()
    }
}
