//! iSCSI names (RFC 7143 4.2.7).

use std::fmt;

/// The longest name, in bytes (RFC 7143 4.2.7.1).
pub const MAX_NAME_LEN: usize = 223;

/// The world-wide name of an initiator or target, in its normal form: lower case.
///
/// Only ASCII is folded; names with other letters are taken as they come, as an initiator that uses
/// them has to send them prepared (RFC 7143 4.2.7.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IscsiName(Box<str>);

/// Text that is not an iSCSI name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not of 1 to 223 bytes.
    #[error("an iSCSI name has 1 to 223 bytes")]
    Length,
    /// A space, a control character, or ASCII punctuation other than `-`, `.` and `:`.
    #[error("an iSCSI name has only letters, digits, '-', '.' and ':'")]
    Character,
    /// It does not begin with `iqn.`, `eui.` or `naa.`.
    #[error("an iSCSI name begins with 'iqn.', 'eui.' or 'naa.'")]
    Kind,
}

impl IscsiName {
    /// Reads a name.
    ///
    /// # Errors
    /// It is empty, too long, or of characters or a kind that names do not have.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > MAX_NAME_LEN {
            return Err(NameError::Length);
        }
        // Underscores are not in the standard's set, but real initiators have them in their names.
        let allowed = |c: char| {
            c.is_ascii_alphanumeric()
                || matches!(c, '-' | '.' | ':' | '_')
                || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
        };
        if !text.chars().all(allowed) {
            return Err(NameError::Character);
        }
        let name = text.to_ascii_lowercase();
        if !["iqn.", "eui.", "naa."].iter().any(|kind| name.starts_with(kind)) {
            return Err(NameError::Kind);
        }
        Ok(Self(name.into_boxed_str()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::str::FromStr for IscsiName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_and_checked() {
        let name = IscsiName::new("IQN.2026-11.io.Kagami:Disk_1").unwrap();
        assert_eq!(name.as_str(), "iqn.2026-11.io.kagami:disk_1");
        assert!(IscsiName::new("eui.02004567A425678D").is_ok());
        assert!(IscsiName::new("naa.52004567ba64678d").is_ok());
        assert_eq!(IscsiName::new(""), Err(NameError::Length));
        assert_eq!(IscsiName::new(&format!("iqn.{}", "a".repeat(220))), Err(NameError::Length));
        assert!(IscsiName::new(&format!("iqn.{}", "a".repeat(219))).is_ok());
        assert_eq!(IscsiName::new("iqn.a b"), Err(NameError::Character));
        assert_eq!(IscsiName::new("iqn.a,b"), Err(NameError::Character));
        assert_eq!(IscsiName::new("iqn.a\u{85}"), Err(NameError::Character));
        assert_eq!(IscsiName::new("disk"), Err(NameError::Kind));
    }
}
