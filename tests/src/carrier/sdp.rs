//! The carriers' session descriptions: written by hand, read only as far as the scripts and checks need.

use std::net::{IpAddr, SocketAddr};

use tandem_media::Law;

/// A section beside the audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtraSection {
    /// None.
    None,
    /// `m=video` behind the audio.
    Video,
    /// `m=image` with T.38 behind the audio.
    T38Behind,
    /// `m=image` alone: a fax machine's re-INVITE.
    T38Alone,
}

/// What a carrier offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferPlan {
    /// G.711 laws in order of preference; may be empty, then only G.729 is offered.
    pub laws: Vec<Law>,
    /// Packet time sent, milliseconds.
    pub ptime_ms: u8,
    /// Payload type of telephone-event, if offered.
    pub telephone_event: Option<u8>,
    /// Beside the audio.
    pub extra: ExtraSection,
    /// The INVITE carries no offer; the ACK carries the answer (RFC 3261 13.2.1).
    pub delayed: bool,
}

impl OfferPlan {
    /// µ-law then A-law, 20 ms, telephone-event 101.
    pub fn usual() -> Self {
        Self {
            laws: vec![Law::Mulaw, Law::Alaw],
            ptime_ms: 20,
            telephone_event: Some(101),
            extra: ExtraSection::None,
            delayed: false,
        }
    }
}

/// Direction attribute, seen from the one who writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flowing {
    /// a=sendrecv
    SendReceive,
    /// a=sendonly
    SendOnly,
    /// a=recvonly
    ReceiveOnly,
    /// a=inactive
    Inactive,
    /// No attribute, and the address 0.0.0.0 of RFC 2543's hold.
    ZeroAddress,
}

/// Writes an offer or an answer.
pub fn write(plan: &OfferPlan, rtp: SocketAddr, version: u64, flowing: Flowing) -> Vec<u8> {
    let shown = if flowing == Flowing::ZeroAddress { "0.0.0.0".to_owned() } else { rtp.ip().to_string() };
    let family = if rtp.is_ipv6() { "IP6" } else { "IP4" };
    let mut text = format!(
        "v=0\r\no=carrier 20 {version} IN {family} {}\r\ns=-\r\nc=IN {family} {shown}\r\nt=0 0\r\n",
        rtp.ip()
    );
    if plan.extra != ExtraSection::T38Alone {
        let mut numbers: Vec<String> = plan.laws.iter().map(|law| payload_type(*law).to_string()).collect();
        if numbers.is_empty() {
            numbers.push("18".into());
        }
        numbers.extend(plan.telephone_event.map(|number| number.to_string()));
        text.push_str(&format!("m=audio {} RTP/AVP {}\r\n", rtp.port(), numbers.join(" ")));
        for law in &plan.laws {
            let name = if *law == Law::Mulaw { "PCMU" } else { "PCMA" };
            text.push_str(&format!("a=rtpmap:{} {name}/8000\r\n", payload_type(*law)));
        }
        if let Some(number) = plan.telephone_event {
            text.push_str(&format!("a=rtpmap:{number} telephone-event/8000\r\na=fmtp:{number} 0-15\r\n"));
        }
        text.push_str(&format!("a=ptime:{}\r\n", plan.ptime_ms));
        text.push_str(match flowing {
            Flowing::SendReceive => "a=sendrecv\r\n",
            Flowing::SendOnly => "a=sendonly\r\n",
            Flowing::ReceiveOnly => "a=recvonly\r\n",
            Flowing::Inactive => "a=inactive\r\n",
            Flowing::ZeroAddress => "",
        });
    }
    match plan.extra {
        ExtraSection::None => {}
        ExtraSection::Video => text.push_str("m=video 40000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"),
        ExtraSection::T38Behind | ExtraSection::T38Alone => {
            text.push_str("m=image 40002 udptl t38\r\na=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\n");
        }
    }
    text.into_bytes()
}

/// RFC 3551's number of a law.
pub fn payload_type(law: Law) -> u8 {
    match law {
        Law::Mulaw => 0,
        Law::Alaw => 8,
    }
}

/// One `m=` section as the scripts and checks see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `audio`, `video`, `image`.
    pub media: String,
    /// 0 when refused.
    pub port: u16,
    /// Payload types or formats.
    pub formats: Vec<String>,
    /// Address of the section, or of the session.
    pub address: Option<IpAddr>,
    /// Direction attribute, `sendrecv` by default.
    pub direction: String,
    /// Packet time.
    pub ptime_ms: Option<u8>,
}

/// Reads the `m=` sections of a description.
pub fn sections(body: &[u8]) -> Vec<Section> {
    let text = String::from_utf8_lossy(body);
    let (mut session_address, mut session_direction) = (None, "sendrecv".to_owned());
    let mut all: Vec<Section> = Vec::new();
    for line in text.lines() {
        let Some((key, value)) = line.trim_end().split_once('=') else { continue };
        match key {
            "m" => {
                let mut words = value.split_whitespace();
                let media = words.next().unwrap_or("").to_owned();
                let port = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                let formats = words.skip(1).map(str::to_owned).collect();
                let direction = session_direction.clone();
                all.push(Section {
                    media,
                    port,
                    formats,
                    address: session_address,
                    direction,
                    ptime_ms: None,
                });
            }
            "c" => {
                let address = value.split_whitespace().nth(2).and_then(|word| word.parse().ok());
                match all.last_mut() {
                    Some(section) => section.address = address,
                    None => session_address = address,
                }
            }
            "a" if ["sendrecv", "sendonly", "recvonly", "inactive"].contains(&value) => {
                match all.last_mut() {
                    Some(section) => section.direction = value.to_owned(),
                    None => session_direction = value.to_owned(),
                }
            }
            "a" => {
                if let (Some(number), Some(section)) = (value.strip_prefix("ptime:"), all.last_mut()) {
                    section.ptime_ms = number.trim().parse().ok();
                }
            }
            _ => {}
        }
    }
    all
}

/// The first audio section that is not refused.
pub fn audio(body: &[u8]) -> Option<Section> {
    sections(body).into_iter().find(|section| section.media == "audio" && section.port != 0)
}

impl Section {
    /// Where RTP is wanted.
    pub fn rtp(&self) -> Option<SocketAddr> {
        self.address.map(|address| SocketAddr::new(address, self.port))
    }

    /// The first G.711 law among the formats.
    pub fn law(&self) -> Option<Law> {
        self.formats.iter().find_map(|format| match format.as_str() {
            "0" => Some(Law::Mulaw),
            "8" => Some(Law::Alaw),
            _ => None,
        })
    }
}
