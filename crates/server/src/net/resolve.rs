//! Names to addresses, off the path of calls, with a bound on time.

use std::{io, net::SocketAddr, time::Duration};

/// Addresses taken from one answer.
const ADDRESSES: usize = 8;

/// Looks up the addresses of `host`, IPv4 and IPv6, in the order the system prefers. An address as text
/// needs no look-up.
///
/// # Errors
/// When the name has no address, the resolver fails, or `within` runs out.
pub async fn lookup(host: &str, port: u16, within: Duration) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::time::timeout(within, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {within:?}")))??;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_as_text_is_itself() {
        let found = lookup("127.0.0.1", 5060, Duration::from_secs(1)).await.unwrap();
        assert_eq!(found, vec![SocketAddr::from(([127, 0, 0, 1], 5060))]);
    }
}
