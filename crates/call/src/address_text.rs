//! Addresses as text, digit by digit: each verdict names two, and `fmt` takes a thousand instructions for one.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::short_text::ShortText;

/// The address as text.
pub(crate) fn address_text(address: IpAddr) -> ShortText {
    let mut text = String::with_capacity(16);
    push_address(&mut text, address);
    text.into()
}

/// Appends the address.
pub(crate) fn push_address(text: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    text.push('.');
                }
                push_number(text, octet);
            }
        }
        // Rarer, and its shortest form is not worth a second telling.
        IpAddr::V6(address) => write!(text, "{address}").expect("a String takes everything"),
    }
}

/// Appends the range, as an address and a prefix length.
pub(crate) fn push_range(text: &mut String, range: IpNet) {
    push_address(text, range.addr());
    text.push('/');
    push_number(text, range.prefix_len());
}

fn push_number(text: &mut String, number: u8) {
    let digit = |value: u8| char::from(b'0' + value % 10);
    if number >= 100 {
        text.push(digit(number / 100));
    }
    if number >= 10 {
        text.push(digit(number / 10));
    }
    text.push(digit(number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_the_standard_library_writes_them() {
        for number in 0..=u8::MAX {
            let address = IpAddr::from([number, 255 - number, 0, number / 2]);
            assert_eq!(address_text(address), &*address.to_string());
        }
        for address in ["::", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert_eq!(address_text(address.parse().unwrap()), address);
        }
        for range in ["0.0.0.0/0", "192.0.2.8/29", "10.0.0.0/8", "2001:db8::/32"] {
            let mut text = "in ".to_owned();
            push_range(&mut text, range.parse().unwrap());
            assert_eq!(text, format!("in {range}"));
        }
    }
}
