//! The value of TargetAddress: `host[:port][,portal group tag]` (RFC 7143 13.8).

use crate::text::number;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The port where none is given (RFC 7143 13.8).
pub const DEFAULT_PORT: u16 = 3260;

/// Where a target can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetAddress {
    /// A host name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: Box<str>,
    /// The TCP port.
    pub port: u16,
    /// The portal's group, where it is told.
    pub portal_group_tag: Option<u16>,
}

/// Text that is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a target address")]
pub struct AddressError;

impl TargetAddress {
    /// The address of a portal in a group.
    #[must_use]
    pub fn new(portal: SocketAddr, portal_group_tag: u16) -> Self {
        Self {
            host: portal.ip().to_string().into(),
            port: portal.port(),
            portal_group_tag: Some(portal_group_tag),
        }
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.host.parse(), Ok(IpAddr::V6(_))) {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        self.portal_group_tag.map_or(Ok(()), |tag| write!(f, ",{tag}"))
    }
}

impl FromStr for TargetAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let short = |text| number(text).and_then(|n| u16::try_from(n).ok()).ok_or(AddressError);
        let (place, tag) = match text.rsplit_once(',') {
            Some((place, tag)) => (place, Some(short(tag)?)),
            None => (text, None),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or(AddressError)?;
                let port =
                    if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(AddressError)?) };
                (host, port)
            }
            None => match place.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(AddressError);
        }
        let port = port.map_or(Ok(DEFAULT_PORT), short)?;
        Ok(Self { host: host.into(), port, portal_group_tag: tag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_both_ways() {
        for (text, host, port, tag) in [
            ("10.0.0.1:3260,1", "10.0.0.1", 3260, Some(1)),
            ("[fe80::1]:860,65535", "fe80::1", 860, Some(65535)),
            ("array.example.com:3261", "array.example.com", 3261, None),
        ] {
            let address: TargetAddress = text.parse().unwrap();
            assert_eq!(address, TargetAddress { host: host.into(), port, portal_group_tag: tag });
            assert_eq!(address.to_string(), text);
        }
        assert_eq!("[::1]".parse::<TargetAddress>().unwrap().port, DEFAULT_PORT);
        assert_eq!("host,2".parse::<TargetAddress>().unwrap().to_string(), "host:3260,2");
        let portal = TargetAddress::new("[::1]:3260".parse().unwrap(), 7);
        assert_eq!(portal.to_string(), "[::1]:3260,7");
        for bad in ["", ":3260", "a:b", "[::1", "[::1]3260", "a:70000", "a,70000", "a b:1"] {
            assert_eq!(bad.parse::<TargetAddress>(), Err(AddressError), "{bad}");
        }
    }
}
