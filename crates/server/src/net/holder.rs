//! Which program holds a port, read from `/proc`: so that "address in use" comes with a name.
//!
//! Best effort: other users' programs cannot be seen without privilege, and other systems have no `/proc`.

use std::{fmt, fs, net::SocketAddr, path::Path};

/// Which kind of port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP, listening.
    Tcp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{purpose}: {protocol} {address} cannot be opened: {cause}{holder}")]
pub struct BindError {
    /// What the listener is for.
    pub purpose: &'static str,
    /// Its protocol.
    pub protocol: Protocol,
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system said. Not the error's source: its words stand in ours, and would be printed twice.
    pub cause: std::io::Error,
    /// Who holds the port, as a clause; empty when it is not that.
    pub holder: String,
}

impl BindError {
    /// Describes a failed bind; looks for the holder when the port is in use.
    #[must_use]
    pub fn new(
        purpose: &'static str,
        protocol: Protocol,
        address: SocketAddr,
        cause: std::io::Error,
    ) -> Self {
        let holder = match cause.kind() {
            std::io::ErrorKind::AddrInUse => match holder_of(protocol, address.port()) {
                Some(holder) => format!("; it is held by {holder}"),
                None => "; its holder cannot be seen by this user".to_owned(),
            },
            _ => String::new(),
        };
        Self { purpose, protocol, address, cause, holder }
    }
}

/// The program that holds `port`, as "name (pid N)".
#[must_use]
pub fn holder_of(protocol: Protocol, port: u16) -> Option<String> {
    let inodes = inodes_of(protocol, port);
    let processes = fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        if holds_one_of(&process.path(), &inodes) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", command.trim()));
        }
    }
    None
}

fn holds_one_of(process: &Path, inodes: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path())
            .ok()
            .and_then(|target| target.to_str().map(|target| inodes.iter().any(|inode| inode == target)))
            .unwrap_or(false)
    })
}

/// The sockets bound to `port`, as links under `/proc/N/fd` name them.
fn inodes_of(protocol: Protocol, port: u16) -> Vec<String> {
    let (tables, listening) = match protocol {
        Protocol::Udp => (["/proc/net/udp", "/proc/net/udp6"], None),
        Protocol::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], Some("0A")),
    };
    let wanted = format!(":{port:04X}");
    let mut inodes = Vec::new();
    for table in tables {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else {
                continue;
            };
            if local.ends_with(&wanted) && listening.is_none_or(|listening| listening == state) {
                inodes.push(format!("socket:[{inode}]"));
            }
        }
    }
    inodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_says_which_and_by_whom() {
        let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let source = std::net::UdpSocket::bind(address).unwrap_err();
        let text = BindError::new("SIP", Protocol::Udp, address, source).to_string();
        assert!(text.contains(&format!("SIP: UDP {address} cannot be opened")), "{text}");
        assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
    }

    #[test]
    fn a_listening_tcp_port_is_found_and_a_free_one_is_not() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(holder_of(Protocol::Tcp, port).is_some());
        drop(held);
        assert_eq!(holder_of(Protocol::Tcp, port), None);
    }
}
