//! The ICE side of a session: responses to the peer's checks, until they are sent.
//!
//! It keeps a few: whoever checks faster than its responses leave has checked enough. RFC 8445 section 7.3.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::ice::{self, Checked, IceCredentials};

/// Responses kept until they are sent.
const RESPONSES_MAX: usize = 16;

/// Which of a session's two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// RTP's, and RTCP's where they share one.
    Rtp,
    /// RTCP's own.
    Rtcp,
}

/// Checks of one session.
#[derive(Debug, Default)]
pub(super) struct Checks {
    responses: VecDeque<(Component, SocketAddr, Vec<u8>)>,
    /// Checks answered.
    pub(super) answered: u64,
}

impl Checks {
    /// Takes a STUN message; whether it was authentic, and if so whether it nominates its source.
    pub(super) fn handle(
        &mut self,
        credentials: &IceCredentials,
        component: Component,
        source: SocketAddr,
        message: &[u8],
    ) -> Checked {
        if self.responses.len() == RESPONSES_MAX {
            return Checked::Ignored;
        }
        let mut response = Vec::new();
        let checked = ice::answer(credentials, source, message, &mut response);
        if checked != Checked::Ignored {
            self.answered += 1;
            self.responses.push_back((component, source, response));
        }
        checked
    }

    /// The next response: appended to `out`, with the port it leaves from and where it goes.
    pub(super) fn poll(&mut self, out: &mut Vec<u8>) -> Option<(Component, SocketAddr)> {
        let (component, to, response) = self.responses.pop_front()?;
        out.extend_from_slice(&response);
        Some((component, to))
    }
}
