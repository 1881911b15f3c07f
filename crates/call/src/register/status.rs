//! How a registration stands, for the API and for metrics.

use std::net::SocketAddr;
use std::time::Duration;

/// Whether the registrar holds a trunk's Contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegistrationState {
    /// It was not answered yet.
    Pending,
    /// The registrar holds it.
    Registered,
    /// It does not: refused, silent, or what was granted is over.
    Failed,
    /// It was taken back, for the node is about to stop.
    Unregistered,
}

impl RegistrationState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Registered, Self::Failed, Self::Unregistered];

    /// The word for it in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Registered => "registered",
            Self::Failed => "failed",
            Self::Unregistered => "unregistered",
        }
    }
}

/// How a trunk's registration stands. Instants are in milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// Whether the registrar holds it.
    pub state: RegistrationState,
    /// Since when that is so.
    pub since_unix_ms: u64,
    /// Host and port of the registrar, as the trunk has them.
    pub registrar: String,
    /// Who is registered: `sip:user@domain`.
    pub address_of_record: String,
    /// Where calls are asked for, as the registrar repeats it; none while it holds nothing.
    pub contact: Option<String>,
    /// Until when the registrar holds it.
    pub expires_unix_ms: Option<u64>,
    /// When it is refreshed or tried again; none while that is under way.
    pub next_unix_ms: Option<u64>,
    /// When the last attempt was over.
    pub attempted_unix_ms: Option<u64>,
    /// The last SIP status; none when there was no answer.
    pub last_code: Option<u16>,
    /// From the last REGISTER to its answer.
    pub round_trip: Option<Duration>,
    /// The address of the registrar that holds it.
    pub registrar_address: Option<SocketAddr>,
    /// Our address as the registrar sees it (`received` and `rport` of our Via, RFC 3581).
    pub seen: Option<SocketAddr>,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// Why the last one failed, in words meant for the tenant; empty when it did not.
    pub reason: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}
