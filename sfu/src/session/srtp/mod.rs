//! SRTP and SRTCP for one peer: RFC 3711, RFC 7714.
//!
//! Nothing is kept for an SSRC before one of its packets has authenticated, every table is bounded,
//! and no packet index is sealed twice.

mod cm;
mod gcm;
mod kdf;
mod replay;

use std::fmt;

use bytes::BytesMut;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_srtp::protection_profile::ProtectionProfile;

use crate::drop::DropReason;
use crate::ids::Ssrc;
use cm::Cm;
use gcm::Gcm;
use replay::{Place, Window};

/// The protection profiles we negotiate, in the order we prefer them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Profile {
    /// SRTP_AEAD_AES_128_GCM, RFC 7714.
    AesGcm128,
    /// SRTP_AEAD_AES_256_GCM, RFC 7714.
    AesGcm256,
    /// SRTP_AES128_CM_HMAC_SHA1_80, RFC 5764: the one every WebRTC client has.
    AesCm80,
}

impl Profile {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::AesGcm128 => "aes_gcm_128",
            Profile::AesGcm256 => "aes_gcm_256",
            Profile::AesCm80 => "aes_cm_80",
        }
    }

    /// Bytes that sealing adds to an RTP packet.
    pub fn overhead(self) -> usize {
        match self {
            Profile::AesGcm128 | Profile::AesGcm256 => gcm::TAG,
            Profile::AesCm80 => cm::TAG,
        }
    }

    /// Length of a master key in bytes.
    pub fn key_len(self) -> usize {
        ProtectionProfile::from(self).key_len()
    }

    /// Length of a master salt in bytes.
    pub fn salt_len(self) -> usize {
        ProtectionProfile::from(self).salt_len()
    }
}

impl From<Profile> for ProtectionProfile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::AesGcm128 => ProtectionProfile::AeadAes128Gcm,
            Profile::AesGcm256 => ProtectionProfile::AeadAes256Gcm,
            Profile::AesCm80 => ProtectionProfile::Aes128CmHmacSha1_80,
        }
    }
}

impl From<Profile> for SrtpProtectionProfile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::AesGcm128 => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            Profile::AesGcm256 => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            Profile::AesCm80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        }
    }
}

/// A master key and its salt.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    /// 16 bytes, or 32 for AES-256.
    pub key: Vec<u8>,
    /// 12 bytes for GCM, else 14.
    pub salt: Vec<u8>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// What a DTLS handshake yields: a profile and both directions' keys.
///
/// Build one [`Outbound`] from it, once: two would seal the same indices under the same key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyMaterial {
    /// The negotiated profile.
    pub profile: Profile,
    /// The key we seal with.
    pub local: MasterKey,
    /// The key the peer seals with.
    pub remote: MasterKey,
}

/// Keys that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SrtpError {
    /// A key or salt has the wrong length for its profile.
    #[error("key or salt length does not fit the profile")]
    KeyLength,
    /// A compound without a sender SSRC.
    #[error("too short for an RTCP compound")]
    Short,
    /// The cryptography library refused.
    #[error("the cryptography library refused the operation")]
    Crypto,
}

/// Why an outgoing packet was not sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// This index has been sealed before.
    #[error("packet index already used")]
    Used,
    /// Older than the send window, or than the stream's first cycle: may have been sealed before.
    #[error("packet index behind the send window")]
    Behind,
    /// All 2⁴⁸ indices are used up, RFC 3711 §9.2.
    #[error("no packet index left")]
    Exhausted,
    /// The buffer has no room for the tag, or the lengths contradict each other.
    #[error("no room for the authentication tag")]
    NoRoom,
    /// Not a stream of this session.
    #[error("no such stream")]
    NoStream,
    /// The cryptography library refused.
    #[error("the cryptography library refused the operation")]
    Crypto,
}

/// The receiving half: opens what the peer seals.
pub struct Inbound {
    cipher: Cipher,
    /// The SSRCs of `streams`, apart so that a look-up walks a few cache lines.
    ssrcs: Vec<Ssrc>,
    streams: Vec<InStream>,
    /// Packets in a row, of SSRCs without state, that did not authenticate.
    strangers_rejected: u32,
    rtcp: Vec<RtcpSender>,
    /// A second guess decrypts here first, since GCM spoils what it refuses.
    scratch: Vec<u8>,
}

struct InStream {
    window: Window<{ RTP_WINDOW / 64 }>,
    /// Packets in a row that were refused.
    rejected: u32,
}

struct RtcpSender {
    ssrc: Ssrc,
    stranger: bool,
    window: Window<{ RTCP_WINDOW / 64 }>,
}

impl Inbound {
    /// Derives the session keys.
    ///
    /// # Errors
    ///
    /// When the keys do not fit the profile.
    pub fn new(keys: &KeyMaterial) -> Result<Self, SrtpError> {
        Ok(Inbound {
            cipher: Cipher::new(keys.profile, &keys.remote)?,
            ssrcs: Vec::new(),
            streams: Vec::new(),
            strangers_rejected: 0,
            rtcp: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Opens an RTP packet in place: its 48-bit index (rollover counter ‖ sequence number) and the
    /// length of header and payload.
    ///
    /// State for an SSRC begins with its first authentic packet. The table holds [`MAX_STREAMS`];
    /// past that a new SSRC is refused rather than an old one evicted, since an evicted stream
    /// would lose its rollover counter and its replay window. [`Inbound::forget`] makes room.
    ///
    /// # Errors
    ///
    /// The reason to drop the packet, whose payload is then no longer meaningful.
    pub fn open_rtp(
        &mut self,
        ssrc: Ssrc,
        seq: u16,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<(u64, usize), DropReason> {
        if packet.len() < header_len.saturating_add(self.cipher.overhead()) {
            return Err(DropReason::Malformed);
        }
        let stream = self.ssrcs.iter().position(|&known| known == ssrc);
        if stream.is_none() && self.streams.len() >= MAX_STREAMS {
            return Err(DropReason::UnknownSsrc);
        }
        let (guess, place, rejected) = match stream.and_then(|at| self.streams.get_mut(at)) {
            Some(stream) => {
                let guess = stream.guess(seq);
                (guess, stream.window.place(guess), &mut stream.rejected)
            }
            // A stream's first packet is in cycle 0, RFC 3711 §3.3.1.
            None => (u64::from(seq), Place::New, &mut self.strangers_rejected),
        };
        *rejected = rejected.wrapping_add(1);
        let opened = if rejected.is_multiple_of(SECOND_GUESS_EVERY) {
            self.open_guessing_twice(ssrc, guess, place, header_len, packet)
        } else if place == Place::New {
            self.cipher.open_rtp(ssrc, guess, header_len, packet).map(|len| (guess, len))
        } else {
            Err(Unauthentic)
        };
        match opened {
            Ok((index, len)) => {
                self.accept(stream, ssrc, index);
                Ok((index, len))
            }
            Err(Unauthentic) if place == Place::New => Err(DropReason::SrtpAuth),
            Err(Unauthentic) => Err(DropReason::SrtpReplay),
        }
    }

    /// Opens an SRTCP packet: the compound, decrypted.
    ///
    /// `known` tells the sender SSRCs that were announced. Others, such as the SSRC 1 of a
    /// receive-only browser, share [`MAX_STRANGERS`] places.
    ///
    /// # Errors
    ///
    /// The reason to drop the packet. Unencrypted SRTCP (E = 0) is refused whatever its tag.
    pub fn open_rtcp(&mut self, packet: &[u8], known: impl Fn(Ssrc) -> bool) -> Result<BytesMut, DropReason> {
        let (ssrc, word) = self.cipher.rtcp_frame(packet).ok_or(DropReason::Malformed)?;
        if word & ENCRYPTED == 0 {
            return Err(DropReason::SrtpAuth);
        }
        let index = word & !ENCRYPTED;
        let sender = self.rtcp.iter().position(|sender| sender.ssrc == ssrc);
        let stranger = sender.is_none() && !known(ssrc);
        match sender.and_then(|at| self.rtcp.get(at)) {
            Some(sender) if sender.window.place(index.into()) != Place::New => {
                return Err(DropReason::SrtpReplay);
            }
            Some(_) => {}
            None if !self.has_room_for_sender(stranger) => return Err(DropReason::UnknownSsrc),
            None => {}
        }
        let compound =
            self.cipher.open_rtcp(ssrc, index, packet).map_err(|Unauthentic| DropReason::SrtpAuth)?;
        let at = sender.unwrap_or_else(|| {
            self.rtcp.push(RtcpSender { ssrc, stranger, window: Window::new() });
            self.rtcp.len() - 1
        });
        if let Some(sender) = self.rtcp.get_mut(at) {
            sender.window.record(index.into());
        }
        Ok(compound)
    }

    /// Frees the state of a stream that has left for good.
    ///
    /// Its old packets would then authenticate again: forget an SSRC only when it is no longer
    /// admitted.
    pub fn forget(&mut self, ssrc: Ssrc) {
        if let Some(at) = self.ssrcs.iter().position(|&known| known == ssrc) {
            self.ssrcs.swap_remove(at);
            self.streams.swap_remove(at);
        }
        self.rtcp.retain(|sender| sender.ssrc != ssrc);
    }

    /// Tries the index as guessed and, if that fails, one cycle later.
    ///
    /// More than 2¹⁵ packets lost in a row put RFC 3711's guess a cycle behind, for ever. So does
    /// losing a stream's first packets just before its sequence numbers wrap. Every fourth refused
    /// packet gets this one extra attempt: an honest stream resumes after four packets, and
    /// refusing a forged one costs a quarter more on average.
    fn open_guessing_twice(
        &mut self,
        ssrc: Ssrc,
        guess: u64,
        place: Place,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<(u64, usize), Unauthentic> {
        if self.scratch.is_empty() {
            self.scratch.resize(MAX_SECOND_GUESS, 0);
        }
        if place == Place::New {
            let opened = self.cipher.open_rtp_keeping(ssrc, guess, header_len, packet, &mut self.scratch);
            if let Ok(len) = opened {
                return Ok((guess, len));
            }
        }
        let later = guess + CYCLE;
        if later > MAX_INDEX {
            return Err(Unauthentic);
        }
        self.cipher.open_rtp(ssrc, later, header_len, packet).map(|len| (later, len))
    }

    fn accept(&mut self, stream: Option<usize>, ssrc: Ssrc, index: u64) {
        let at = stream.unwrap_or_else(|| {
            self.strangers_rejected = 0;
            self.ssrcs.push(ssrc);
            self.streams.push(InStream { window: Window::new(), rejected: 0 });
            self.streams.len() - 1
        });
        if let Some(stream) = self.streams.get_mut(at) {
            stream.window.record(index);
            stream.rejected = 0;
        }
    }

    fn has_room_for_sender(&self, stranger: bool) -> bool {
        let alike = self.rtcp.iter().filter(|sender| sender.stranger == stranger).count();
        alike < if stranger { MAX_STRANGERS } else { MAX_STREAMS }
    }
}

impl InStream {
    /// The index nearest to the highest authentic one, RFC 3711 §3.3.1.
    fn guess(&self, seq: u16) -> u64 {
        let highest = self.window.highest().unwrap_or_default();
        // Signed distance on the circle: half the circle ahead, half behind.
        let distance = i64::from(seq.wrapping_sub(highest as u16) as i16);
        match highest.checked_add_signed(distance) {
            Some(index) if index <= MAX_INDEX => index,
            // Before the first cycle, or after the last one: there is only this cycle.
            _ => highest & !(CYCLE - 1) | u64::from(seq),
        }
    }
}

/// The sending half: seals each packet index once.
pub struct Outbound {
    cipher: Cipher,
    streams: Vec<OutStream>,
    /// Shared by all sender SSRCs, so that no table is needed; each sees it grow, RFC 3711 §3.4.
    rtcp_index: u32,
}

/// An outgoing stream of one [`Outbound`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamId(u32);

struct OutStream {
    ssrc: Ssrc,
    /// The cycle of the stream's first packet, as the caller counts: cycle 0 on the wire.
    first_cycle: Option<u64>,
    sent: Window<{ SEND_WINDOW / 64 }>,
}

impl Outbound {
    /// Derives the session keys. One per session: see [`KeyMaterial`].
    ///
    /// # Errors
    ///
    /// When the keys do not fit the profile.
    pub fn new(keys: &KeyMaterial) -> Result<Self, SrtpError> {
        Ok(Outbound { cipher: Cipher::new(keys.profile, &keys.local)?, streams: Vec::new(), rtcp_index: 0 })
    }

    /// The stream that `ssrc` names. Opening it again gives the same one, with its send window:
    /// a stream never closes while its key lives.
    pub fn open_stream(&mut self, ssrc: Ssrc) -> StreamId {
        let at = self.streams.iter().position(|stream| stream.ssrc == ssrc).unwrap_or_else(|| {
            self.streams.push(OutStream { ssrc, first_cycle: None, sent: Window::new() });
            self.streams.len() - 1
        });
        StreamId(at as u32)
    }

    /// Seals `packet[..plain_len]` in place, the tag behind it: the sealed length.
    ///
    /// `index` is the extended outgoing sequence number; its low 16 bits are in the header. A
    /// receiver believes that a stream's first packet is in cycle 0, so whatever cycle `index`
    /// starts in counts as that one. Start below 2¹⁵: a wrap before the first packet arrives
    /// costs the receiver that stream.
    ///
    /// The send window moves before sealing: GCM with a repeated nonce gives its key away, so an
    /// index is spent even if sealing then fails.
    ///
    /// # Errors
    ///
    /// The packet is not sealed and must not be sent.
    pub fn seal_rtp(
        &mut self,
        stream: StreamId,
        index: u64,
        header_len: usize,
        plain_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, SealError> {
        let room = plain_len.checked_add(self.cipher.overhead());
        if header_len > plain_len || room.is_none_or(|room| room > packet.len()) {
            return Err(SealError::NoRoom);
        }
        let stream = self.streams.get_mut(stream.0 as usize).ok_or(SealError::NoStream)?;
        let first_cycle = *stream.first_cycle.get_or_insert(index & !(CYCLE - 1));
        let index = index.checked_sub(first_cycle).ok_or(SealError::Behind)?;
        if index > MAX_INDEX {
            return Err(SealError::Exhausted);
        }
        match stream.sent.place(index) {
            Place::New => stream.sent.record(index),
            Place::Used => return Err(SealError::Used),
            Place::Behind => return Err(SealError::Behind),
        }
        self.cipher.seal_rtp(stream.ssrc, index, header_len, plain_len, packet).map_err(|_| SealError::Crypto)
    }

    /// Bytes that sealing adds to an RTP packet.
    pub fn overhead(&self) -> usize {
        self.cipher.overhead()
    }

    /// Seals a compound. Empty if `compound` has no sender SSRC, or after 2³¹ compounds
    /// (RFC 3711 §9.2; eight months at a hundred per second).
    pub fn seal_rtcp(&mut self, compound: &[u8]) -> BytesMut {
        let Some(ssrc) = sender_ssrc(compound) else {
            return BytesMut::new();
        };
        if self.rtcp_index >= !ENCRYPTED {
            return BytesMut::new();
        }
        self.rtcp_index += 1;
        self.cipher.seal_rtcp(ssrc, self.rtcp_index, compound).unwrap_or_default()
    }
}

/// One direction's keys.
enum Cipher {
    Gcm(Box<Gcm>),
    Cm(Box<Cm>),
}

/// The packet did not authenticate, or is too short to.
#[derive(Debug)]
struct Unauthentic;

impl Cipher {
    fn new(profile: Profile, master: &MasterKey) -> Result<Self, SrtpError> {
        if master.key.len() != profile.key_len() || master.salt.len() != profile.salt_len() {
            return Err(SrtpError::KeyLength);
        }
        Ok(match profile {
            Profile::AesGcm128 | Profile::AesGcm256 => Cipher::Gcm(Box::new(Gcm::new(master)?)),
            Profile::AesCm80 => Cipher::Cm(Box::new(Cm::new(master)?)),
        })
    }

    fn overhead(&self) -> usize {
        match self {
            Cipher::Gcm(_) => gcm::TAG,
            Cipher::Cm(_) => cm::TAG,
        }
    }

    fn seal_rtp(
        &self,
        ssrc: Ssrc,
        index: u64,
        header_len: usize,
        plain_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, SrtpError> {
        match self {
            Cipher::Gcm(gcm) => gcm.seal_rtp(ssrc, index, header_len, plain_len, packet),
            Cipher::Cm(cm) => cm.seal_rtp(ssrc, index, header_len, plain_len, packet),
        }
    }

    fn open_rtp(
        &self,
        ssrc: Ssrc,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, Unauthentic> {
        match self {
            Cipher::Gcm(gcm) => gcm.open_rtp(ssrc, index, header_len, packet),
            Cipher::Cm(cm) => cm.open_rtp(ssrc, index, header_len, packet),
        }
    }

    /// Like `open_rtp`, but a refused packet stays as it was.
    fn open_rtp_keeping(
        &self,
        ssrc: Ssrc,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
        scratch: &mut [u8],
    ) -> Result<usize, Unauthentic> {
        match self {
            Cipher::Gcm(gcm) => gcm.open_rtp_keeping(ssrc, index, header_len, packet, scratch),
            // The tag is checked before anything is decrypted.
            Cipher::Cm(cm) => cm.open_rtp(ssrc, index, header_len, packet),
        }
    }

    /// The sender SSRC and the E ‖ index word, if this can be an SRTCP packet at all.
    fn rtcp_frame(&self, packet: &[u8]) -> Option<(Ssrc, u32)> {
        let after_word = match self {
            Cipher::Gcm(_) => 0,
            Cipher::Cm(_) => cm::TAG,
        };
        let version = packet.first()? >> 6;
        let smallest = RTCP_HEADER + 4 + self.overhead();
        if version != 2 || packet.len() < smallest || packet.len() > MAX_RTCP {
            return None;
        }
        let (_, word) = packet.get(..packet.len() - after_word)?.split_last_chunk::<4>()?;
        Some((sender_ssrc(packet)?, u32::from_be_bytes(*word)))
    }

    fn seal_rtcp(&self, ssrc: Ssrc, index: u32, compound: &[u8]) -> Result<BytesMut, SrtpError> {
        match self {
            Cipher::Gcm(gcm) => gcm.seal_rtcp(ssrc, index, compound),
            Cipher::Cm(cm) => cm.seal_rtcp(ssrc, index, compound),
        }
    }

    fn open_rtcp(&self, ssrc: Ssrc, index: u32, packet: &[u8]) -> Result<BytesMut, Unauthentic> {
        match self {
            Cipher::Gcm(gcm) => gcm.open_rtcp(ssrc, index, packet),
            Cipher::Cm(cm) => cm.open_rtcp(ssrc, index, packet),
        }
    }
}

/// The SSRC in the first header of an RTCP compound, RFC 3550 §6.4.1.
fn sender_ssrc(compound: &[u8]) -> Option<Ssrc> {
    compound.get(4..RTCP_HEADER)?.first_chunk().map(|&ssrc| Ssrc(u32::from_be_bytes(ssrc)))
}

/// Streams one peer may send: 3 simulcast layers with RTX are 6, so some twenty tracks.
pub const MAX_STREAMS: usize = 128;
/// RTCP senders that nothing announced: browsers use one, webrtc-rs one for each stream it receives. Only
/// authentic ones take a place.
pub const MAX_STRANGERS: usize = 128;

/// Half a second of reordering at 2000 packets per second (24 Mb/s).
const RTP_WINDOW: usize = 1024;
const RTCP_WINDOW: usize = 128;
/// Our own packets leave almost in order; probes and resends have their own SSRC.
const SEND_WINDOW: usize = 2048;
/// One cycle of the 16-bit sequence number.
const CYCLE: u64 = 1 << 16;
/// The index has 48 bits.
const MAX_INDEX: u64 = (1 << 48) - 1;
const SECOND_GUESS_EVERY: u32 = 4;
/// Beyond any datagram that crosses an Ethernet.
const MAX_SECOND_GUESS: usize = 2048;
/// The part of a compound that stays readable: first header and sender SSRC.
const RTCP_HEADER: usize = 8;
const MAX_RTCP: usize = 1500;
/// The E bit, RFC 3711 §3.4.
const ENCRYPTED: u32 = 1 << 31;

#[cfg(test)]
mod tests;
