//! Looking a caller up before its agent is told of the call: what is asked of whom, and what comes of it. Plain data and
//! the rule who is asked about; the shell asks.

use std::fmt;

use crate::agent_rules::{AgentRules, CallerIdentity};
use crate::ids::{AgentId, CallId};

/// Where an agent's owner keeps what is known of callers (Bolna's `ingest_source_config`).
#[derive(Clone, PartialEq, Eq)]
pub enum CallerSource {
    /// A service of the owner's, asked by HTTP.
    Api {
        /// Its URL.
        url: String,
        /// What proves us to it.
        token: String,
    },
    /// A kind of source that is not read here, by the owner's word for it.
    Unread(String),
}

impl fmt::Debug for CallerSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api { url, .. } => formatter.debug_struct("Api").field("url", url).finish_non_exhaustive(),
            Self::Unread(kind) => formatter.debug_tuple("Unread").field(kind).finish(),
        }
    }
}

/// What is asked about one caller.
#[derive(Clone, PartialEq, Eq)]
pub struct CallerQuestion {
    /// The call.
    pub call: CallId,
    /// The agent it is for.
    pub agent: AgentId,
    /// Who calls, as the carrier wrote it.
    pub contact_number: String,
    /// Where to ask.
    pub url: String,
    /// What proves us there.
    pub token: String,
    /// Whether the call is refused when nothing is known (`disallow_unknown_numbers`).
    pub must_be_known: bool,
}

impl fmt::Debug for CallerQuestion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CallerQuestion").field("call", &self.call).finish_non_exhaustive()
    }
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerAnswer {
    /// Facts of the caller, by name.
    Known(Vec<(String, String)>),
    /// The source knows nothing of it, in these words.
    Unknown(String),
    /// The source could not be asked, for this reason.
    Failed(String),
}

impl CallerQuestion {
    /// What is to be asked about the caller of a call; nothing where there is no service to ask, or no number.
    pub(crate) fn about(
        rules: &AgentRules,
        caller: &CallerIdentity,
        agent: &AgentId,
        call: CallId,
        contact_number: &str,
    ) -> Option<Self> {
        let Some(CallerSource::Api { url, token }) = &rules.caller_source else { return None };
        matches!(caller, CallerIdentity::Known(_)).then(|| Self {
            call,
            agent: agent.clone(),
            contact_number: contact_number.to_owned(),
            url: url.clone(),
            token: token.clone(),
            must_be_known: rules.disallow_unknown && !rules.is_whitelisted(caller),
        })
    }
}
