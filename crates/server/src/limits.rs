//! What the operating system lets this process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors a call takes: RTP, RTCP and the agent's socket.
pub const PER_CALL: u64 = 3;
/// Descriptors for everything else: listeners, database.
const BESIDES: u64 = 256;

/// Raises the soft limit on open files to the hard one, which needs no privilege, and returns it. A limit that
/// cannot be raised stays what it is.
pub fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum.unwrap_or(u64::MAX);
    }
    current.unwrap_or(u64::MAX)
}

/// Open files that `calls` calls and `connections` connections, SIP and HTTP together, need.
#[must_use]
pub fn open_files_needed(calls: u32, connections: u32) -> u64 {
    u64::from(calls) * PER_CALL + u64::from(connections) + BESIDES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), raised);
    }
}
