//! Where to find a logical unit: `iscsi://[user[%secret]@]host[:port][,host[:port]...]/iqn/lun`.
//!
//! The form that libiscsi's tools use, so that one address works for all, and more portals than one. Parsing only;
//! the host name is looked up when a connection is made.

use std::fmt;
use std::str::FromStr;

/// Where nobody says otherwise, targets listen here (RFC 7143 4.2.7.1).
const DEFAULT_PORT: u16 = 3260;
/// More ways to one target than anybody has.
const MAX_PORTALS: usize = 16;

/// A place where a target listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// Host name or address, without the brackets of an IPv6 address.
    pub host: String,
    /// TCP port; 3260 where the text has none.
    pub port: u16,
}

/// How to prove who one is by CHAP.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Secret, where the address has it.
    pub secret: Option<String>,
}

/// A logical unit's address.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Where to find it; at least one, to be tried in this order.
    pub portals: Vec<Portal>,
    /// Who logs in.
    pub login: Option<Login>,
    /// The target's name.
    pub iqn: String,
    /// The logical unit.
    pub lun: u16,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "an address looks like iscsi://[user@]host:port/iqn/lun".to_owned();
        let rest = text.strip_prefix("iscsi://").ok_or_else(shape)?;
        let (authority, path) = rest.split_once('/').ok_or_else(shape)?;
        let (login, places) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((login, places)) => {
                let (user, secret) = match login.split_once('%') {
                    Some((user, secret)) => (user, Some(secret.to_owned())),
                    None => (login, None),
                };
                if user.is_empty() {
                    return Err(shape());
                }
                (Some(Login { user: user.to_owned(), secret }), places)
            }
        };
        let portals = places.split(',').map(str::parse).collect::<Result<Vec<Portal>, String>>()?;
        let (iqn, lun) = path.rsplit_once('/').ok_or_else(shape)?;
        if iqn.is_empty() || iqn.contains('/') {
            return Err(shape());
        }
        if portals.len() > MAX_PORTALS {
            return Err(format!("an address has at most {MAX_PORTALS} portals"));
        }
        let lun = lun.parse().ok().filter(|lun| *lun <= kagami_types::Lun::MAX);
        let lun = lun.ok_or("the address ends with a LUN between 0 and 16383")?;
        Ok(Self { portals, login, iqn: iqn.to_owned(), lun })
    }
}

impl FromStr for Portal {
    type Err = String;

    fn from_str(place: &str) -> Result<Self, String> {
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
        if host.is_empty() {
            return Err("a portal looks like host:port".to_owned());
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(text) => text.parse().map_err(|_| format!("'{text}' is not a port"))?,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

/// Without user and secret, so that it can be printed.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("iscsi://")?;
        for (n, portal) in self.portals.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{portal}")?;
        }
        write!(f, "/{}/{}", self.iqn, self.lun)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_addresses() {
        let url: Url = "iscsi://me%my@secret@localhost:3261/iqn.2026-11.io.kagami:a/7".parse().unwrap();
        assert_eq!(url.portals, [Portal { host: "localhost".into(), port: 3261 }]);
        let login = url.login.clone().unwrap();
        assert_eq!((login.user.as_str(), login.secret.as_deref()), ("me", Some("my@secret")));
        assert_eq!(url.iqn, "iqn.2026-11.io.kagami:a");
        assert_eq!(url.lun, 7);
        assert!(!format!("{url:?} {login:?}").contains("secret"));
        let url: Url = "iscsi://me@localhost/iqn.x/7".parse().unwrap();
        assert_eq!(url.login, Some(Login { user: "me".into(), secret: None }));
    }

    #[test]
    fn portals_and_ipv6() {
        let url: Url = "iscsi://[::1]/iqn.x/0".parse().unwrap();
        assert_eq!(url.portals, [Portal { host: "::1".into(), port: 3260 }]);
        let url: Url = "iscsi://[::1]:99,b,c:7/iqn.x/0".parse().unwrap();
        assert_eq!(url.to_string(), "iscsi://[::1]:99,b:3260,c:7/iqn.x/0");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "iscsi://", "iscsi://h", "iscsi://h/iqn", "http://h/iqn/0", "iscsi://h:x/iqn/0"] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
        for text in ["iscsi://@h/iqn/0", "iscsi://h/iqn/16384", "iscsi://[::1/iqn/0", "iscsi:///iqn/0"] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
        assert!("iscsi://h,/iqn/0".parse::<Url>().is_err());
        assert!(format!("iscsi://{}h/iqn/0", "h,".repeat(16)).parse::<Url>().is_err());
    }
}
