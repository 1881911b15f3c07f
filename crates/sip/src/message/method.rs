//! Methods and the CSeq value. Methods are compared with case, and unknown ones are carried.
//!
//! RFC 3261 sections 7.1 and 20.16.

use std::fmt;

use super::lex;

macro_rules! methods {
    ($($variant:ident $name:literal)*) => {
        /// A request method.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Method<'a> {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// Any other token, as written.
            Other(&'a [u8]),
        }

        impl<'a> Method<'a> {
            /// Reads a method, with case: "the method part of CSeq is case-sensitive" (RFC 3261 section
            /// 20.16), and so is what it repeats.
            pub fn from_bytes(token: &'a [u8]) -> Self {
                $(if token == $name.as_bytes() { return Self::$variant; })*
                Self::Other(token)
            }

            /// The method as it is written.
            pub fn as_bytes(&self) -> &'a [u8] {
                match *self {
                    $(Self::$variant => $name.as_bytes(),)*
                    Self::Other(token) => token,
                }
            }
        }
    };
}

methods! {
    Invite "INVITE"
    Ack "ACK"
    Bye "BYE"
    Cancel "CANCEL"
    Options "OPTIONS"
    Register "REGISTER"
    Prack "PRACK"
    Update "UPDATE"
    Info "INFO"
    Refer "REFER"
    Notify "NOTIFY"
    Subscribe "SUBSCRIBE"
    Message "MESSAGE"
    Publish "PUBLISH"
}

impl fmt::Debug for Method<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Method<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&lex::text(self.as_bytes()))
    }
}

/// The value of CSeq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// The sequence number.
    pub number: u32,
    /// The method.
    pub method: Method<'a>,
}

impl<'a> CSeq<'a> {
    /// Reads a value. "The sequence number value MUST be expressible as a 32-bit unsigned integer and MUST
    /// be less than 2**31" (RFC 3261 section 8.1.1.5).
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let value = lex::trim(value);
        let (digits, rest) = lex::take_token(value);
        let method = lex::trim_start(rest);
        let number = lex::number::<u32>(digits).filter(|&number| number < 1 << 31)?;
        (method.len() < rest.len() && lex::is_token(method))
            .then(|| Self { number, method: Method::from_bytes(method) })
    }
}

/// The value of RAck: the RSeq and the CSeq it acknowledges (RFC 3262 section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RAck<'a> {
    /// The RSeq of the provisional response.
    pub rseq: u32,
    /// The CSeq of the provisional response.
    pub cseq: CSeq<'a>,
}

impl<'a> RAck<'a> {
    /// Reads a value.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (digits, rest) = lex::take_token(lex::trim(value));
        let rest_trimmed = lex::trim_start(rest);
        (rest_trimmed.len() < rest.len())
            .then(|| Some(Self { rseq: lex::number(digits)?, cseq: CSeq::parse(rest_trimmed)? }))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive_and_unknown_ones_are_kept() {
        assert_eq!(Method::from_bytes(b"INVITE"), Method::Invite);
        assert_eq!(Method::from_bytes(b"invite"), Method::Other(b"invite"));
        assert_eq!(Method::from_bytes(b"NEWMETHOD").as_bytes(), b"NEWMETHOD");
    }

    #[test]
    fn cseq_holds_a_number_below_two_to_the_31_and_a_method() {
        let cseq = CSeq::parse(b" 0009\r\n INVITE ").unwrap();
        assert_eq!(cseq, CSeq { number: 9, method: Method::Invite });
        assert!(CSeq::parse(b"2147483647 BYE").is_some());
        for bad in
            ["", "1", "INVITE", "1INVITE", "2147483648 BYE", "36893488147419103232 BYE", "-1 BYE", "1 A B"]
        {
            assert_eq!(CSeq::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn rack_names_a_response_and_its_request() {
        let rack = RAck::parse(b"776656 1 INVITE").unwrap();
        assert_eq!((rack.rseq, rack.cseq.number), (776656, 1));
        for bad in ["", "1", "1 INVITE", "1 2", "x 1 INVITE"] {
            assert_eq!(RAck::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
