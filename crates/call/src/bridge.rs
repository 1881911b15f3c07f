//! The audio path of one call: the caller's RTP on one side, the agent's frames on the other, one egress queue
//! between them (`speech`), and the clock that reads it.
//!
//! Sans-IO and driven by a media thread: after each `handle_*` call, `poll_transmit` until `None`, then `poll_event`
//! until `None`, then sleep until `poll_timeout`. What it refuses to do: signal (it knows neither SIP nor SDP text),
//! bind or dial, and decide the end of a call (it reports, the engine decides).
//!
//! The rules it keeps: packets leave at absolute deadlines one packet time apart and a late driver sends at most what
//! is due, bounded; a mark is told when its audio has left; a flush takes effect within the packet; caller audio goes
//! to the agent without a gap from the start on, silence for what never came; an agent's rubbish is counted,
//! tolerated up to `BridgeLimits::protocol_errors`, then its socket is closed (1003 for data the dialect cannot
//! carry, 1008 for all else) and the call reported as ended by the agent.

mod caller;
mod clock;
mod conversation;
mod convert;
mod histogram;
mod joined;
mod listener;
mod one_way;
mod plan;
mod quiet;
mod second;
mod speech;
mod tape;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_agent::{
    AudioFormat, ConfigError, Dialect, DialectError, FrameKind, InbandDtmf, MediaDirection, StreamFacts,
};
use tandem_media::session::{Component, Received, Tones};
use tandem_media::{Coding, FRAME_BYTES_MAX, Law, MediaParameters};

pub use histogram::DelayHistogram;
pub use one_way::OneWay;
pub use plan::{
    AgentDial, AgentHangUpCause, AgentPlan, AgentSocketEnd, AgentWish, BridgeCommand, BridgeEvent,
    BridgeLimits, BridgePlan, BridgeStatistics, BridgeTransmit, OnClose,
};

use caller::{Caller, Tick};
use clock::Pace;
use conversation::Conversation;
use convert::ToAgent;
use listener::Listener;
use one_way::{OneWayWatch, Seen};
use quiet::Quiet;
use second::Second;
use speech::{Notice, Speech, Wish};
use tape::Tape;

use crate::recording::Recorded;

/// RFC 6455, 7.4.1.
const CLOSE_NORMAL: u16 = 1000;

/// Length of a digit that an agent asks for, in milliseconds.
const DIGIT_MS: u32 = 160;

/// The audio path of one call.
#[derive(Debug)]
pub struct Bridge {
    caller: Caller,
    second: Option<Box<Second>>,
    talk: Talk,
    /// For the random numbers of second legs.
    seed: u64,
    media_timeout: Option<Duration>,
    dialect: Dialect,
    facts: StreamFacts,
    on_close: OnClose,
    limits: BridgeLimits,
    state: State,
    socket: Socket,
    is_introduced: bool,
    to_agent: ToAgent,
    speech: Speech,
    tape: Tape,
    quiet: Quiet,
    listener: Listener,
    conversation: Conversation,
    one_way: OneWayWatch,
    text: String,
    statistics: BridgeStatistics,
}

/// Where the call stands, named for what is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// [`BridgeCommand::Start`]: nothing is sent either way, what the agent says is kept.
    Start,
    /// The end of either side.
    End,
    /// The queue of an agent whose socket is gone, until `deadline`.
    Drained { deadline: Instant, cause: AgentHangUpCause },
    /// [`BridgeCommand::HangUp`], after the agent's side was reported done.
    HangUp,
    /// Nothing: the call is over.
    Nothing,
}

/// Whom the caller talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Talk {
    /// The agent.
    Agent,
    /// The second leg.
    Second,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    Open,
    /// To be closed with this code once all notices are out.
    Closing(u16),
    Gone,
}

impl Bridge {
    /// A bridge that waits for [`BridgeCommand::Start`]. `seed` gives the RTP identifiers; it must be random.
    ///
    /// # Errors
    /// When the agent's dialect settings do not go together.
    pub fn new(plan: BridgePlan, seed: u64, now: Instant) -> Result<Self, ConfigError> {
        let BridgePlan { media, latch, media_timeout, silence, agent, limits, .. } = plan;
        let dialect = Dialect::new(&agent.dialect, &agent.facts)?;
        let coding = queue_coding(dialect.format(), media.map(|media| media.codec.coding()));
        let mut caller = Caller::new(latch, media_timeout, tones(agent.dialect.inband_dtmf), seed, now);
        if let Some(media) = media {
            caller.set_media(now, media);
        }
        Ok(Self {
            caller,
            second: None,
            talk: Talk::Agent,
            seed,
            media_timeout,
            to_agent: ToAgent::new(dialect.format(), agent.dialect.frame_ms()),
            speech: Speech::new(coding, &dialect, agent.dialect.heard_position, limits),
            listener: Listener::new(agent.dialect.voice_activity),
            quiet: Quiet::new(silence, now),
            dialect,
            facts: agent.facts,
            on_close: agent.on_close,
            limits,
            state: State::Start,
            socket: Socket::Open,
            is_introduced: false,
            tape: Tape::default(),
            conversation: Conversation::default(),
            one_way: OneWayWatch::default(),
            text: String::new(),
            statistics: BridgeStatistics::default(),
        })
    }

    /// Takes a datagram from the RTP port.
    pub fn handle_rtp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let received = self.caller.handle_datagram(now, source, datagram, false);
        self.note_received(received);
    }

    /// Takes a datagram from the RTCP port.
    pub fn handle_rtcp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let received = self.caller.handle_datagram(now, source, datagram, true);
        self.note_received(received);
    }

    /// Takes one whole message from the agent's socket, or its close.
    pub fn handle_agent_frame(&mut self, now: Instant, kind: FrameKind, bytes: &[u8]) {
        if kind == FrameKind::Close {
            let code = bytes.first_chunk().map(|code| u16::from_be_bytes(*code));
            self.handle_agent_closed(now, AgentSocketEnd::Closed { code });
            return;
        }
        match self.socket {
            Socket::Open => {}
            Socket::Closing(_) => return self.hear_goodbye(kind, bytes),
            Socket::Gone => return,
        }
        self.statistics.agent_frames_received += 1;
        if let Err(error) = self.speech.handle_frame(now, &mut self.dialect, kind, bytes) {
            self.count_protocol_error(error);
        }
        match self.speech.wish.take() {
            None => {}
            Some(Wish::HangUp) => self.end_by_agent(AgentHangUpCause::Command),
            Some(Wish::Finish) => self.finish(now, AgentHangUpCause::Command),
        }
        self.to_agent.set_format(self.dialect.format());
        while let Some(digit) = self.speech.digits.pop_front() {
            self.send_digit(digit, DIGIT_MS);
        }
    }

    /// The shell dropped a droppable frame because the agent does not read.
    pub const fn handle_agent_frame_dropped(&mut self) {
        self.statistics.agent_frames_dropped += 1;
    }

    /// The shell could not hand a block of the recording, of so many samples a side, to its writer.
    pub fn handle_recording_dropped(&mut self, samples: usize) {
        if self.tape.dropped(samples) {
            let dropped_ms = u32::try_from(self.tape.lost_ms()).unwrap_or(u32::MAX);
            self.speech.report(BridgeEvent::RecordingLost { dropped_ms });
        }
    }

    /// The agent's socket is gone.
    pub fn handle_agent_closed(&mut self, now: Instant, end: AgentSocketEnd) {
        if self.socket == Socket::Gone {
            return;
        }
        self.socket = Socket::Gone;
        let (code, cause) = match end {
            AgentSocketEnd::Closed { code } => (code, AgentHangUpCause::Closed { code }),
            AgentSocketEnd::Lost => (None, AgentHangUpCause::Lost),
        };
        self.speech.notices.clear();
        if matches!(self.state, State::Nothing | State::HangUp) {
            return;
        }
        if self.talk == Talk::Second {
            // The caller is not the agent's now; whoever takes it back finds it gone.
            self.speech.report(BridgeEvent::AgentClosed { code, queued_ms: 0 });
            return;
        }
        let queued_ms = u32::try_from(self.speech.queue.queued_ms()).unwrap_or(u32::MAX);
        self.speech.report(BridgeEvent::AgentClosed { code, queued_ms });
        self.finish(now, cause);
    }

    /// Takes a command of the engine.
    pub fn handle_command(&mut self, now: Instant, command: BridgeCommand) {
        match command {
            BridgeCommand::Start => self.start(now),
            BridgeCommand::Media(media) => self.caller_media(now, media),
            BridgeCommand::SecondMedia { media, latch } => self.second_media(now, media, latch),
            BridgeCommand::Join { keeps_agent } => self.join(now, keeps_agent),
            BridgeCommand::Part => self.part(now),
            BridgeCommand::SecondDigit { digit, duration_ms } => {
                self.send_digit(digit, u32::from(duration_ms));
            }
            BridgeCommand::SendDtmf { digits, duration_ms } => {
                for digit in digits.chars() {
                    self.send_digit(digit, u32::from(duration_ms));
                }
            }
            BridgeCommand::Digit { digit, duration_ms } => {
                self.tell_digit(now, digit, u32::from(duration_ms));
            }
            BridgeCommand::Parameters(parameters) => self.add_parameters(parameters),
            BridgeCommand::Refuse { wish } => self.speech.notify(Notice::Refused(wish.refusal())),
            BridgeCommand::TransferFailed { why } => self.speech.notify(Notice::TransferFailed(why.into())),
            BridgeCommand::Record(command) => self.tape.command(command, self.caller.ticks_skipped),
            BridgeCommand::HangUp => self.hang_up(),
        }
    }

    /// Does what the passing of time asks for. Packets are sent by [`Self::poll_transmit`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Drained { deadline, cause } = self.state
            && now >= deadline
        {
            self.end_by_agent(cause);
        }
        if self.is_ticking()
            && let Some(cause) = self.look_for_one_way(now)
        {
            self.speech.report(BridgeEvent::OneWayAudio { cause });
        }
        if self.is_ticking() && self.caller.poll_silence(now) {
            self.speech.report(BridgeEvent::MediaTimeout);
        }
        if self.talk == Talk::Second
            && let Some(second) = &mut self.second
            && second.leg.poll_silence(now)
        {
            self.speech.report(BridgeEvent::SecondSilent);
        }
        if self.state != State::End || self.talk == Talk::Second || self.caller.is_holding_us() {
            self.quiet.reset(now);
        } else if let Some(silence) = self.quiet.poll(now) {
            self.speech.report(BridgeEvent::NobodySpeaks { silence });
        }
    }

    /// The next thing to send, its bytes in `buffer` (which is cleared first). Call until `None`.
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<BridgeTransmit> {
        loop {
            buffer.clear();
            if let Some((component, to)) = self.caller.poll_check(buffer) {
                return Some(match component {
                    Component::Rtp => BridgeTransmit::Rtp { to },
                    Component::Rtcp => BridgeTransmit::Rtcp { to },
                });
            }
            if let Some(transmit) = self.poll_agent(buffer) {
                return Some(transmit);
            }
            if let Some(transmit) = self.poll_caller_audio(now, buffer) {
                return Some(transmit);
            }
            if let Some(transmit) = self.poll_second(now, buffer) {
                return Some(transmit);
            }
            if self.is_ticking()
                && let Some(tick) = self.caller.poll_tick(now)
            {
                match self.run_tick(now, tick, buffer) {
                    Some(to) => return Some(BridgeTransmit::Rtp { to }),
                    // Nothing was sent, but marks may have fired.
                    None => continue,
                }
            }
            let to = match self.state {
                State::Nothing => self.caller.poll_goodbye(now, buffer),
                State::Start | State::End | State::Drained { .. } | State::HangUp => {
                    self.caller.poll_rtcp(now, buffer)
                }
            };
            return to.map(|to| BridgeTransmit::Rtcp { to });
        }
    }

    /// The next event. Call until `None`, after [`Self::poll_transmit`] has given `None`.
    pub fn poll_event(&mut self) -> Option<BridgeEvent> {
        self.speech.events.pop_front()
    }

    /// The next of what was recorded. Call until `None`, after [`Self::poll_transmit`] has given `None`.
    pub fn poll_recorded(&mut self) -> Option<Recorded> {
        self.tape.poll()
    }

    /// Ends the recording, if there is one; what is left of it is to be polled.
    pub fn end_recording(&mut self) {
        self.tape.end();
    }

    /// When to call [`Self::handle_timeout`] and [`Self::poll_transmit`] next if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.state {
            State::Nothing => return None,
            State::Drained { deadline, .. } => Some(deadline),
            State::End => self.quiet.deadline(),
            State::Start | State::HangUp => None,
        };
        let second = self.second.as_ref().filter(|second| self.talk == Talk::Second && !second.is_parting);
        let second = second.and_then(|second| second.leg.poll_timeout());
        [own, second, self.one_way.due(), self.caller.poll_timeout()].into_iter().flatten().min()
    }

    /// False while the agent has as much queued as it may: its socket is to be read no further (TCP back-pressure).
    #[must_use]
    pub fn wants_agent_input(&self) -> bool {
        self.speech.wants_input()
    }

    /// The dialect of an agent that has yet to answer our goodbye, once the call is over: whoever holds its socket may
    /// go on reading until [`Dialect::has_parted`].
    #[must_use]
    pub fn into_parting(self) -> Option<Dialect> {
        (!self.dialect.has_parted()).then_some(self.dialect)
    }

    /// What was counted so far.
    #[must_use]
    pub fn statistics(&self) -> BridgeStatistics {
        let counters = self.speech.queue.counters();
        let media = self.caller.parameters();
        BridgeStatistics {
            codec: media.map(|media| media.codec),
            suite: media.and_then(|media| media.srtp).map(|keys| keys.suite()),
            rtp: self.caller.statistics(),
            second: self.second.as_ref().map(|second| second.statistics()).or(self.statistics.second),
            ticks_skipped: self.caller.ticks_skipped,
            agent_frames_ignored: self.dialect.ignored(),
            underruns: counters.underruns,
            flushes: self.speech.flushes,
            barge_ins: self.speech.barge_ins,
            marks_played: self.speech.marks_played,
            overflow_ms: self.speech.ms_of(self.speech.overflow_bytes),
            queue_peak_ms: u32::try_from(self.speech.ms_of(counters.high_water_bytes)).unwrap_or(u32::MAX),
            notices_lost: self.speech.lost_notices,
            recording_lost_ms: self.tape.lost_ms(),
            first_caller_audio: self.conversation.first_caller,
            first_agent_audio: self.conversation.first_agent,
            agent_gap: self.conversation.gaps.clone(),
            ..self.statistics.clone()
        }
    }

    fn look_for_one_way(&mut self, now: Instant) -> Option<OneWay> {
        let (caller, statistics) = (&self.caller, &self.statistics);
        // Whoever was handed on has no use for the agent's audio.
        let is_agents = self.talk == Talk::Agent;
        let found = self.one_way.look(now, || Seen {
            rtp: caller.statistics(),
            owed: caller.owed(),
            heard_ms: statistics.heard_ms,
            agent_messages: statistics.agent_frames_received,
        });
        found.filter(|cause| is_agents || !matches!(cause, OneWay::AgentSilent { .. }))
    }

    /// What an agent says after our goodbye counts as its answer at most.
    fn hear_goodbye(&mut self, kind: FrameKind, bytes: &[u8]) {
        if self.dialect.decode(kind, bytes, &mut |_| {}).is_err() {
            self.statistics.protocol_errors += 1;
        }
    }

    /// The caller's media. The first of a call also says in which form what the agent says is best queued, unless it has
    /// spoken already. An agent that talks to it is told when it is put on hold: it hears nothing meanwhile, and silence
    /// keeps flowing to the agent.
    fn caller_media(&mut self, now: Instant, media: MediaParameters) {
        let was_heard = self.caller.is_hearing();
        let is_first = !self.caller.has_media();
        self.caller.set_media(now, media);
        if is_first {
            self.speech.set_coding(queue_coding(self.dialect.format(), self.caller.coding()));
        }
        if was_heard.is_some_and(|was_heard| was_heard != media.direction.sends()) && self.talk == Talk::Agent
        {
            self.speech.notify(Notice::Held(!media.direction.sends()));
        }
    }

    fn start(&mut self, now: Instant) {
        if self.state != State::Start {
            return;
        }
        self.state = State::End;
        self.quiet.reset(now);
        self.caller.start(now);
        self.conversation.begin(now);
        self.one_way.begin(now);
    }

    fn add_parameters(&mut self, parameters: Vec<(String, String)>) {
        for (name, value) in parameters {
            if self.facts.parameters.iter().all(|(known, _)| *known != name) {
                self.facts.parameters.push((name, value));
            }
        }
    }

    fn hang_up(&mut self) {
        if self.state == State::Nothing {
            return;
        }
        self.state = State::Nothing;
        self.tape.end();
        if self.socket == Socket::Open {
            self.speech.stop();
            self.socket = Socket::Closing(CLOSE_NORMAL);
        }
    }

    /// The agent has said all: what is queued may be heard first, if its settings say so.
    fn finish(&mut self, now: Instant, cause: AgentHangUpCause) {
        if matches!(self.state, State::Nothing | State::HangUp) {
            return;
        }
        self.speech.end_input();
        let is_said = self.speech.queue.is_empty() && !self.caller.is_sending_digits();
        let is_drained = is_said || !self.caller.has_media() || self.state == State::Start;
        match (self.on_close, self.state) {
            (OnClose::Drain, State::Drained { .. }) => {}
            (OnClose::Drain, _) if !is_drained => {
                self.state = State::Drained { deadline: now + self.limits.drain, cause };
            }
            (OnClose::Drain | OnClose::Hangup, _) => self.end_by_agent(cause),
        }
    }

    /// The agent's side is done; reported once.
    fn end_by_agent(&mut self, cause: AgentHangUpCause) {
        if matches!(self.state, State::HangUp | State::Nothing) {
            return;
        }
        self.state = State::HangUp;
        self.speech.report(BridgeEvent::AgentHangUp { cause });
    }

    fn note_received(&mut self, received: Received) {
        match received {
            Received::Latched(source) => self.speech.report(BridgeEvent::Latched { source }),
            Received::Troubled(trouble) => self.speech.report(BridgeEvent::MediaTroubled { trouble }),
            Received::Accepted | Received::Stranger | Received::Ignored => {}
        }
    }

    fn tell_digit(&mut self, now: Instant, digit: char, duration_ms: u32) {
        self.quiet.reset(now);
        match (self.talk, &mut self.second) {
            (Talk::Second, Some(second)) => {
                if !second.leg.send_digit(digit, duration_ms) {
                    self.speech.report(BridgeEvent::DigitRefused { digit });
                }
            }
            (Talk::Second | Talk::Agent, _) if self.state == State::End => {
                self.speech.notify(Notice::Digit { digit, duration_ms });
            }
            (Talk::Second | Talk::Agent, _) => {}
        }
        self.speech.report(BridgeEvent::Digit { digit, duration_ms });
    }

    fn count_protocol_error(&mut self, error: DialectError) {
        self.statistics.protocol_errors += 1;
        let count = self.statistics.protocol_errors;
        if count <= self.limits.protocol_errors {
            self.speech.report(BridgeEvent::ProtocolError { error, count });
            self.speech.notify(Notice::Error(error));
            return;
        }
        self.speech.report(BridgeEvent::ProtocolError { error, count });
        self.socket = Socket::Closing(error.close_code());
        self.end_by_agent(AgentHangUpCause::ProtocolErrors);
    }

    fn send_digit(&mut self, digit: char, duration_ms: u32) {
        if !self.caller.send_digit(digit, duration_ms) {
            self.speech.notify(Notice::Refused("digit cannot be sent to this caller"));
            self.speech.report(BridgeEvent::DigitRefused { digit });
        }
    }

    /// What the agent is told, the introduction before all else, and the close when all has been told.
    fn poll_agent(&mut self, buffer: &mut Vec<u8>) -> Option<BridgeTransmit> {
        if self.socket == Socket::Gone || self.state == State::Start {
            return None;
        }
        if !self.is_introduced {
            if let Some(kind) = self.dialect.poll_start(&self.facts, buffer) {
                return Some(BridgeTransmit::Agent { kind, droppable: false });
            }
            self.is_introduced = true;
        }
        if let Some(kind) = self.dialect.poll_reply(buffer) {
            return Some(BridgeTransmit::Agent { kind, droppable: false });
        }
        while let Some(notice) = self.speech.notices.pop_front() {
            let event = notice.as_event(&mut self.text);
            if let Some(kind) = self.dialect.encode_event(event, buffer) {
                return Some(BridgeTransmit::Agent { kind, droppable: false });
            }
        }
        if let Socket::Closing(code) = self.socket
            && self.dialect.has_parted()
        {
            self.socket = Socket::Gone;
            return Some(BridgeTransmit::AgentClose { code });
        }
        None
    }

    /// Caller audio for the agent; taken and let go when nobody listens, so that the stream goes on where the caller
    /// is and not where it was left.
    fn poll_caller_audio(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<BridgeTransmit> {
        if !self.is_ticking() {
            return None;
        }
        let is_listened_to = self.socket == Socket::Open && self.speech.direction != MediaDirection::Out;
        loop {
            if let Some(message) = self.to_agent.pop() {
                if !is_listened_to {
                    continue;
                }
                // An agent that is not ready for audio has none; the stream goes on without it.
                let Some(kind) = self.dialect.encode_audio(message.timestamp_ms, message.audio, buffer)
                else {
                    continue;
                };
                self.statistics.agent_frames_sent += 1;
                if let Some(arrived) = message.arrived {
                    self.statistics.inbound_delay.record(now.saturating_duration_since(arrived));
                }
                return Some(BridgeTransmit::Agent { kind, droppable: true });
            }
            if let Some(frame) = self.caller.poll_ingress(now) {
                if let Some((coding, audio)) = self.caller.ingress_audio() {
                    if frame.arrived.is_some() {
                        self.quiet.hear_caller(now, coding, audio);
                    }
                    match self.talk {
                        Talk::Agent => {
                            self.tape.caller(coding, audio);
                            self.conversation.caller(frame.arrived, coding, audio);
                        }
                        Talk::Second => self.tape.pass(self.caller.ticks_skipped),
                    }
                }
                self.take_caller_frame(&frame);
                continue;
            }
            let digit = self.caller.poll_digit()?;
            self.tell_digit(now, digit.digit, digit.duration_ms);
            if let Some(transmit) = self.poll_agent(buffer) {
                return Some(transmit);
            }
        }
    }

    /// Fills the packet of a tick and sends it; nothing while the caller holds us.
    fn run_tick(&mut self, now: Instant, tick: Tick, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        let mut frame = [0; FRAME_BYTES_MAX];
        let coding = self.speech.queue.coding();
        let frame = &mut frame[..usize::from(tick.ptime_ms) * coding.bytes_per_ms()];
        let is_digit = self.caller.sends_digit_next();
        let audio_bytes = if is_digit {
            self.speech.wait_tick(frame);
            self.quiet.reset(now);
            0
        } else {
            self.speech.tick(tick.due, frame)
        };
        if audio_bytes > 0 {
            self.quiet.hear_agent(now, coding, frame);
        }
        let to = self.caller.send(now, coding, frame, buffer);
        let has_left = to.is_some() && !is_digit;
        let (sent_coding, sent) = self.caller.as_sent(coding, frame);
        let left = has_left.then_some(sent);
        self.tape.agent(sent_coding, left, usize::from(tick.ptime_ms), self.caller.ticks_skipped);
        if let Some(left) = left.filter(|_| audio_bytes > 0) {
            self.conversation.agent(now, sent_coding, left);
        }
        if audio_bytes > 0 {
            if to.is_some() {
                self.statistics.heard_ms += self.speech.ms_of(audio_bytes as u64);
            }
            let Pace { slack, trim } = self.speech.pace(tick.due, audio_bytes);
            // Up to a packet time any audio waits for the clock; what it lay ready for longer is added delay.
            let packet_us = u64::from(tick.ptime_ms) * 1_000;
            let ticks_waited = slack.map_or(0, |slack| slack.as_micros() as u64 / packet_us);
            let late = now.saturating_duration_since(tick.due);
            self.statistics.outbound_delay.record(late + Duration::from_micros(ticks_waited * packet_us));
            if let Some(trim) = trim {
                self.caller.set_trim(trim);
            }
        } else if self.speech.queue.is_empty() && !self.caller.is_sending_digits() {
            self.caller.set_trim(0);
            if let State::Drained { cause, .. } = self.state {
                self.end_by_agent(cause);
            }
        }
        to
    }

    const fn is_ticking(&self) -> bool {
        match self.state {
            State::End | State::Drained { .. } | State::HangUp => true,
            State::Start | State::Nothing => false,
        }
    }
}

/// The form in which the agent's audio is queued: its own law where it speaks one, for bytes are few; else that of the
/// caller's codec, G.711 in µ-law while it is not known.
fn queue_coding(format: AudioFormat, caller: Option<Coding>) -> Coding {
    match format {
        AudioFormat::Mulaw => Coding::G711(Law::Mulaw),
        AudioFormat::Alaw => Coding::G711(Law::Alaw),
        AudioFormat::Linear16 { .. } => caller.unwrap_or(Coding::G711(Law::Mulaw)),
    }
}

const fn tones(setting: InbandDtmf) -> Tones {
    match setting {
        InbandDtmf::Auto => Tones::WithoutEvents,
        InbandDtmf::Always => Tones::Sought,
        InbandDtmf::Never => Tones::Ignored,
    }
}
