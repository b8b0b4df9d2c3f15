//! Where to find a logical unit: `iscsi://[user%secret@]host[:port]/iqn/lun`.
//!
//! The form that libiscsi's tools use, so that one address works for all. Parsing only;
//! the host name is looked up when a connection is made.

use std::fmt;
use std::str::FromStr;

/// A logical unit's address.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Host name or address, without the brackets of an IPv6 address.
    pub host: String,
    /// TCP port; 3260 where the text has none.
    pub port: u16,
    /// CHAP user name and secret.
    pub chap: Option<(String, String)>,
    /// The target's name.
    pub iqn: String,
    /// The logical unit.
    pub lun: u16,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "an address looks like iscsi://[user%secret@]host:port/iqn/lun".to_owned();
        let rest = text.strip_prefix("iscsi://").ok_or_else(shape)?;
        let (authority, path) = rest.split_once('/').ok_or_else(shape)?;
        let (chap, place) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((login, place)) => {
                let (user, secret) = login.split_once('%').ok_or("the part before @ is user%secret")?;
                (Some((user.to_owned(), secret.to_owned())), place)
            }
        };
        let (host, port) = host_and_port(place)?;
        let (iqn, lun) = path.rsplit_once('/').ok_or_else(shape)?;
        if host.is_empty() || iqn.is_empty() || iqn.contains('/') {
            return Err(shape());
        }
        let lun = lun.parse().ok().filter(|lun| *lun <= kagami_types::Lun::MAX);
        let lun = lun.ok_or("the address ends with a LUN between 0 and 16383")?;
        Ok(Self { host: host.to_owned(), port, chap, iqn: iqn.to_owned(), lun })
    }
}

fn host_and_port(place: &str) -> Result<(&str, u16), String> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("an IPv6 address ends with ]")?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(format!("'{after}' after the address is not a port")),
        }
    } else {
        match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        }
    };
    let port = match port {
        None => 3260,
        Some(text) => text.parse().map_err(|_| format!("'{text}' is not a port"))?,
    };
    Ok((host, port))
}

/// Without the secret, so that it can be printed.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "iscsi://{open}{}{close}:{}/{}/{}", self.host, self.port, self.iqn, self.lun)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_addresses() {
        let url: Url = "iscsi://me%my@secret@localhost:3261/iqn.2026-11.io.kagami:a/7".parse().unwrap();
        assert_eq!(url.host, "localhost");
        assert_eq!(url.port, 3261);
        assert_eq!(url.chap, Some(("me".into(), "my@secret".into())));
        assert_eq!(url.iqn, "iqn.2026-11.io.kagami:a");
        assert_eq!(url.lun, 7);
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn ports_and_ipv6() {
        let url: Url = "iscsi://[::1]/iqn.x/0".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("::1", 3260));
        let url: Url = "iscsi://[::1]:99/iqn.x/0".parse().unwrap();
        assert_eq!(url.to_string(), "iscsi://[::1]:99/iqn.x/0");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "iscsi://", "iscsi://h", "iscsi://h/iqn", "http://h/iqn/0", "iscsi://h:x/iqn/0"] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
        for text in ["iscsi://u@h/iqn/0", "iscsi://h/iqn/16384", "iscsi://[::1/iqn/0", "iscsi:///iqn/0"] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
