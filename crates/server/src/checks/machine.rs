//! Bounds this machine sets: file descriptors, socket buffers; and the certificates it trusts.

use super::Finding;
use crate::config::Config;
use crate::limits::{PER_CALL, open_files_needed};
use crate::net::ws_connect::verifying_tls;

/// What the SIP socket asks for, bytes: a second of a flood of large INVITEs.
const SIP_BUFFER: u64 = 4 << 20;

/// Open files against calls and connections.
pub(super) fn descriptors(config: &Config, findings: &mut Vec<Finding>) {
    const SUBJECT: &str = "open files";
    let limits = &config.limits;
    let connections = limits.connections + limits.api_connections;
    let needed = open_files_needed(limits.calls, connections);
    let Some((soft, hard)) = open_files() else {
        findings.push(Finding::warning(SUBJECT, "the limit cannot be read", "look at `ulimit -n` yourself"));
        return;
    };
    if soft >= needed {
        findings.push(Finding::good(SUBJECT, format!("{soft} allowed, {needed} needed at the most")));
        return;
    }
    let raise = if hard >= needed {
        format!("ulimit -n {needed} (the hard limit {hard} allows it), or LimitNOFILE={needed} in the unit")
    } else {
        format!("LimitNOFILE={needed} in the systemd unit, or a line `* hard nofile {needed}` in limits.conf")
    };
    findings.push(Finding::warning(
        SUBJECT,
        format!(
            "{soft} allowed; {} calls and {} connections need {needed}: {PER_CALL} a call",
            limits.calls, connections
        ),
        format!("{raise}; or lower limits.calls, limits.connections and limits.api_connections"),
    ));
}

fn open_files() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_ascii_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    });
    Some((numbers.next()??, numbers.next()??))
}

/// The most the kernel gives a socket, against what the SIP socket asks for.
pub(super) fn socket_buffers(findings: &mut Vec<Finding>) {
    const SUBJECT: &str = "socket buffers";
    let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
    let Some(most) = most.and_then(|text| text.trim().parse::<u64>().ok()) else { return };
    findings.push(if most >= SIP_BUFFER {
        Finding::good(SUBJECT, format!("up to {most} bytes, the SIP socket asks for {SIP_BUFFER}"))
    } else {
        Finding::warning(
            SUBJECT,
            format!("net.core.rmem_max gives a socket {most} bytes; the SIP socket asks for {SIP_BUFFER}, so a burst of INVITEs may be lost in the kernel"),
            format!("sysctl -w net.core.rmem_max={SIP_BUFFER}"),
        )
    });
}

/// Certificates for agents' `wss` URLs.
pub(super) fn certificates(config: &Config, findings: &mut Vec<Finding>) {
    const SUBJECT: &str = "certificates";
    if let Some(path) = &config.security.agent_ca {
        match std::fs::read_to_string(path) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {}
            Ok(_) => findings.push(Finding::fault(
                SUBJECT,
                format!("security.agent_ca {} holds no PEM certificate", path.display()),
                "give a file with -----BEGIN CERTIFICATE----- in it",
            )),
            Err(error) => findings.push(Finding::fault(
                SUBJECT,
                format!("security.agent_ca {} cannot be read: {error}", path.display()),
                "give the path of a PEM file that this user may read",
            )),
        }
    }
    match verifying_tls(&[]) {
        Ok((_, 0)) => findings.push(Finding::warning(
            SUBJECT,
            "this machine trusts no certificate authority: agents with wss URLs cannot be reached",
            "install the package ca-certificates, or name your own authority in security.agent_ca",
        )),
        Ok((_, roots)) => {
            findings.push(Finding::good(SUBJECT, format!("{roots} authorities trusted for wss")))
        }
        Err(error) => findings.push(Finding::fault(
            SUBJECT,
            format!("TLS towards agents cannot be set up: {error}"),
            "look at the certificates of this machine",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Level;

    #[test]
    fn too_few_open_files_are_found_with_the_number_needed() {
        let (soft, _) = open_files().unwrap();
        let mut config = Config::default();
        config.limits.calls = u32::MAX;
        let mut findings = Vec::new();
        descriptors(&config, &mut findings);
        if soft < u64::from(u32::MAX) * PER_CALL {
            assert_eq!(findings[0].level, Level::Warning);
            assert!(findings[0].remedy.contains("LimitNOFILE"), "{}", findings[0]);
        }
        config.limits.calls = 1;
        config.limits.connections = 1;
        findings.clear();
        descriptors(&config, &mut findings);
        assert_eq!(findings[0].level, Level::Good, "{}", findings[0]);
    }
}
