//! Reads a description into its sections, forgiving what real devices get wrong.
//!
//! Every line is kept ([`Description::lines`]); what offer/answer needs is read out beside them. The
//! parser refuses only what could not be answered section for section: a body that is no SDP, an `m=`
//! line without its words, and anything beyond the bounds. It never resolves host names.
//!
//! RFC 8866 section 5 (fields), section 6 (attributes); RFC 3605 (`a=rtcp`); RFC 4568 (`a=crypto`); RFC 8839 (ICE).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use super::SdpError;
use super::crypto::{self, CRYPTO_LINES_MAX, CryptoFault, CryptoLine};
use super::ice::OfferedIce;
use super::lines::{Line, Lines, number, words};
use super::params::Direction;

/// Most media sections that are read and answered.
pub const SECTIONS_MAX: usize = 64;
/// Most formats of one section that are read; the line is echoed whole all the same when refused.
const FORMATS_MAX: usize = 128;

/// An offer as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer(Description);

impl Offer {
    /// Reads an offer; see [`Description::parse`].
    pub fn parse(body: &[u8]) -> Result<Self, SdpError> {
        Description::parse(body).map(Self)
    }

    /// The description the offer consists of.
    pub fn description(&self) -> &Description {
        &self.0
    }
}

/// A session description: an offer or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    lines: Lines,
    session: Range<usize>,
    sections: Vec<Section>,
    connection: Connection,
    direction: Option<Direction>,
    ptime_ms: Option<u32>,
    maxptime_ms: Option<u32>,
    ice: OfferedIce,
}

/// One `m=` line and what stands below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The media type as written, such as `audio` or `image`.
    pub media: Vec<u8>,
    /// The port, 0 when the section is switched off.
    pub port: u16,
    /// The transport as written, such as `RTP/AVP`.
    pub protocol: Vec<u8>,
    /// The formats as written, in the sender's order of preference.
    pub formats: Vec<Vec<u8>>,
    /// Lines of the section, its `m=` line first.
    pub(super) lines: Range<usize>,
    pub(super) connection: Connection,
    pub(super) direction: Option<Direction>,
    pub(super) ptime_ms: Option<u32>,
    pub(super) maxptime_ms: Option<u32>,
    pub(super) rtcp_port: Option<u16>,
    pub(super) rtcp_address: Option<IpAddr>,
    pub(super) rtcp_mux: bool,
    pub(super) encodings: Vec<Encoding>,
    /// Its `a=crypto` lines, those that cannot be used as what is wrong with them.
    pub(super) crypto: Vec<Result<CryptoLine, CryptoFault>>,
    pub(super) ice: OfferedIce,
}

/// What a `c=` line said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Connection {
    #[default]
    Missing,
    Address(IpAddr),
    /// A host name, or what cannot be read: only latching can find this peer.
    Unusable,
}

/// One `a=rtpmap` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) payload_type: u8,
    pub(super) name: Vec<u8>,
    /// Missing in lines such as `a=rtpmap:98 iLBC`, which some gateways write.
    pub(super) clock_hz: Option<u32>,
    pub(super) channels: u32,
}

impl Description {
    /// Reads a body. Tolerates, among others, missing `s=`, `t=` and `o=` lines, LF line ends, runs of
    /// blanks, session-level `a=ptime`, fractions (`a=ptime:20.0`), host names in `c=`, `port/2`.
    pub fn parse(body: &[u8]) -> Result<Self, SdpError> {
        let lines = Lines::split(body)?;
        if !lines.iter().any(|line| matches!(line.kind, b'v' | b'm')) {
            return Err(SdpError::NotSdp);
        }
        let starts: Vec<usize> =
            lines.iter().enumerate().filter(|(_, line)| line.kind == b'm').map(|(at, _)| at).collect();
        if starts.len() > SECTIONS_MAX {
            return Err(SdpError::TooManySections);
        }
        let session = 0..starts.first().copied().unwrap_or(lines.len());
        let mut sections = Vec::with_capacity(starts.len());
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(lines.len());
            let section =
                Section::parse(&lines, *start..end).ok_or(SdpError::BadMediaLine { section: index })?;
            sections.push(section);
        }
        let mut description = Self {
            session: session.clone(),
            sections,
            connection: Connection::Missing,
            direction: None,
            ptime_ms: None,
            maxptime_ms: None,
            ice: OfferedIce::default(),
            lines,
        };
        description.read_session_level(session);
        Ok(description)
    }

    /// The media sections in order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Every line of the body, in order.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = Line<'_>> {
        self.lines.iter()
    }

    /// The lines before the first `m=` line.
    pub fn session_lines(&self) -> impl DoubleEndedIterator<Item = Line<'_>> {
        self.lines.range(self.session.clone())
    }

    /// The lines of one section, its `m=` line first.
    pub fn section_lines(&self, section: &Section) -> impl DoubleEndedIterator<Item = Line<'_>> {
        self.lines.range(section.lines.clone())
    }

    /// The direction of a section as its sender sees it: its own attribute, else the session's, else
    /// both ways (RFC 8866 section 6.7).
    pub fn direction(&self, section: &Section) -> Direction {
        section.direction.or(self.direction).unwrap_or_default()
    }

    /// Where the section's sender wants RTP; the address is unspecified when none can be used.
    pub fn rtp_address(&self, section: &Section) -> SocketAddr {
        SocketAddr::new(self.address(section), section.port)
    }

    /// Where the section's sender wants RTCP, when it says so.
    pub fn rtcp_address(&self, section: &Section) -> Option<SocketAddr> {
        let port = section.rtcp_port?;
        Some(SocketAddr::new(section.rtcp_address.unwrap_or_else(|| self.address(section)), port))
    }

    /// Whether the section is held in the style of RFC 2543: a null address, nothing to be sent to it
    /// (RFC 3264 section 8.4).
    pub fn has_null_address(&self, section: &Section) -> bool {
        matches!(self.connection_of(section), Connection::Address(address) if address.is_unspecified())
    }

    /// The preferred packet length of a section in milliseconds, its own or the session's.
    pub fn ptime_ms(&self, section: &Section) -> Option<u32> {
        section.ptime_ms.or(self.ptime_ms)
    }

    /// The longest packet the section's sender takes, in milliseconds, its own or the session's.
    pub fn maxptime_ms(&self, section: &Section) -> Option<u32> {
        section.maxptime_ms.or(self.maxptime_ms)
    }

    /// What the sender of a section said of ICE: each attribute its own, else the session's.
    pub(super) fn ice(&self, section: &Section) -> OfferedIce {
        section.ice.or(&self.ice)
    }

    fn connection_of(&self, section: &Section) -> Connection {
        match section.connection {
            Connection::Missing => self.connection,
            own @ (Connection::Address(_) | Connection::Unusable) => own,
        }
    }

    fn address(&self, section: &Section) -> IpAddr {
        match self.connection_of(section) {
            Connection::Address(address) => address,
            Connection::Missing | Connection::Unusable => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }

    fn read_session_level(&mut self, session: Range<usize>) {
        let mut read = Levelled::default();
        for line in self.lines.range(session) {
            read.line(line);
        }
        self.connection = read.connection;
        self.direction = read.direction;
        self.ptime_ms = read.ptime_ms;
        self.maxptime_ms = read.maxptime_ms;
        self.ice = read.ice;
    }
}

impl Section {
    fn parse(lines: &Lines, range: Range<usize>) -> Option<Self> {
        let mut all = lines.range(range.clone());
        let mut words = words(all.next()?.value);
        let media = words.next()?.to_vec();
        // "port/2" counts layered streams; only the first is ever ours.
        let port = words.next()?.split(|byte| *byte == b'/').next()?;
        let port = u16::try_from(number(port)?).ok()?;
        let protocol = words.next()?.to_vec();
        let formats = words.take(FORMATS_MAX).map(<[u8]>::to_vec).collect();
        let mut section = Self {
            media,
            port,
            protocol,
            formats,
            lines: range,
            connection: Connection::Missing,
            direction: None,
            ptime_ms: None,
            maxptime_ms: None,
            rtcp_port: None,
            rtcp_address: None,
            rtcp_mux: false,
            encodings: Vec::new(),
            crypto: Vec::new(),
            ice: OfferedIce::default(),
        };
        let mut read = Levelled::default();
        for line in all {
            read.line(line);
            if let Some((name, value)) = line.attribute() {
                section.attribute(name, value);
            }
        }
        section.connection = read.connection;
        section.direction = read.direction;
        section.ptime_ms = read.ptime_ms;
        section.maxptime_ms = read.maxptime_ms;
        section.ice = read.ice;
        Some(section)
    }

    /// Whether this is an audio section.
    pub fn is_audio(&self) -> bool {
        self.media.eq_ignore_ascii_case(b"audio")
    }

    /// Whether the transport is RTP in the clear: `RTP/AVP`, or `RTP/AVPF` whose feedback we leave out.
    pub fn is_plain_rtp(&self) -> bool {
        self.protocol.eq_ignore_ascii_case(b"RTP/AVP") || self.protocol.eq_ignore_ascii_case(b"RTP/AVPF")
    }

    /// Whether the transport is SRTP of any kind, keyed by SDES or by DTLS.
    pub fn is_encrypted(&self) -> bool {
        self.protocol.to_ascii_uppercase().windows(5).any(|window| window == b"/SAVP")
    }

    /// Whether the transport is SRTP whose keys are to stand in `a=crypto` lines: `RTP/SAVP`, or `RTP/SAVPF` whose feedback
    /// we leave out.
    pub fn is_keyed_by_sdp(&self) -> bool {
        self.protocol.eq_ignore_ascii_case(b"RTP/SAVP") || self.protocol.eq_ignore_ascii_case(b"RTP/SAVPF")
    }

    /// The first `a=crypto` line that can be used, or what is wrong with the first; `None` when there is no line.
    pub fn crypto(&self) -> Option<Result<CryptoLine, CryptoFault>> {
        let usable = self.crypto.iter().find(|line| line.is_ok());
        usable.or(self.crypto.first()).copied()
    }

    fn attribute(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"rtpmap") {
            if self.encodings.len() < FORMATS_MAX {
                self.encodings.extend(Encoding::parse(value));
            }
        } else if name.eq_ignore_ascii_case(b"rtcp") {
            let mut words = words(value);
            self.rtcp_port = words.next().and_then(number).and_then(|port| u16::try_from(port).ok());
            self.rtcp_address = words.nth(2).and_then(ip_address);
        } else if name.eq_ignore_ascii_case(b"rtcp-mux") {
            self.rtcp_mux = true;
        } else if name.eq_ignore_ascii_case(b"crypto") && self.crypto.len() < CRYPTO_LINES_MAX {
            self.crypto.push(crypto::read(value, &self.crypto));
        }
    }
}

impl Encoding {
    /// Reads `98 iLBC/8000/1`, with what stands after the name optional.
    fn parse(value: &[u8]) -> Option<Self> {
        let mut words = words(value);
        let payload_type = u8::try_from(number(words.next()?)?).ok().filter(|number| *number < 128)?;
        let mut parts = words.next()?.split(|byte| *byte == b'/');
        let name = parts.next().filter(|name| !name.is_empty())?.to_vec();
        let clock_hz = parts.next().and_then(number);
        let channels = parts.next().and_then(number).unwrap_or(1);
        Some(Self { payload_type, name, clock_hz, channels })
    }
}

/// What may stand at either level.
#[derive(Default)]
struct Levelled {
    connection: Connection,
    direction: Option<Direction>,
    ptime_ms: Option<u32>,
    maxptime_ms: Option<u32>,
    ice: OfferedIce,
}

impl Levelled {
    fn line(&mut self, line: Line<'_>) {
        if line.kind == b'c' && self.connection == Connection::Missing {
            self.connection = connection(line.value);
        }
        let Some((name, value)) = line.attribute() else { return };
        if name.eq_ignore_ascii_case(b"ptime") {
            self.ptime_ms = milliseconds(value).or(self.ptime_ms);
        } else if name.eq_ignore_ascii_case(b"maxptime") {
            self.maxptime_ms = milliseconds(value).or(self.maxptime_ms);
        } else if let Some(direction) = Direction::from_attribute(name) {
            // Written twice by some gateways, an old line left behind a new one: the last one counts.
            self.direction = Some(direction);
        } else {
            self.ice.attribute(name, value);
        }
    }
}

fn connection(value: &[u8]) -> Connection {
    match words(value).nth(2).and_then(ip_address) {
        Some(address) => Connection::Address(address),
        None => Connection::Unusable,
    }
}

/// An address with an optional `/ttl` or `/ttl/count` behind it.
fn ip_address(word: &[u8]) -> Option<IpAddr> {
    let address = word.split(|byte| *byte == b'/').next()?;
    let address = address.strip_prefix(b"[").and_then(|inner| inner.strip_suffix(b"]")).unwrap_or(address);
    std::str::from_utf8(address).ok()?.parse().ok()
}

/// Whole milliseconds, fractions cut: `20`, and the `20.0` of some phones.
fn milliseconds(value: &[u8]) -> Option<u32> {
    let word = words(value).next()?;
    number(word.split(|byte| *byte == b'.').next()?).filter(|ms| *ms > 0)
}
