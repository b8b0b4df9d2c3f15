//! CHAP, the challenge-handshake authentication of iSCSI (RFC 7143 12.1.3, RFC 1994).
//!
//! The arithmetic only: secrets, algorithms, responses, binary values. Who sends what when is the
//! login machines' business ([`login`](crate::login)), which call this.
//!
//! A response is H(identifier, secret, challenge). MD5 (5) is what every initiator knows, SHA-256 (7)
//! what those of today prefer; SHA-1 (6) and SHA3-256 (8) are not offered.

use crate::random::{Random, RandomError};
use crate::text::MAX_BINARY_LEN;
use md5::Md5;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Below this a secret is too weak for a network that others use (RFC 7143 12.1.3: 96 bits).
pub const MIN_STRONG_SECRET: usize = 12;
/// The longest secret and the longest user name that are taken, in bytes.
pub const MAX_SECRET: usize = 255;
/// The length of the challenges that we send, in bytes.
pub const CHALLENGE_LEN: usize = 32;

/// A CHAP secret. It is wiped when it goes, and never shown.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes a secret.
    ///
    /// # Errors
    /// It is empty or longer than [`MAX_SECRET`].
    pub fn new(bytes: &[u8]) -> Result<Self, ChapConfigError> {
        if bytes.is_empty() || bytes.len() > MAX_SECRET {
            return Err(ChapConfigError::SecretLength(bytes.len()));
        }
        Ok(Self(bytes.into()))
    }

    /// Whether it has at least the 96 bits that RFC 7143 12.1.3 asks for.
    #[must_use]
    pub fn is_strong(&self) -> bool {
        self.0.len() >= MIN_STRONG_SECRET
    }

    /// Whether it is the same as another; takes as long whatever they are.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A user name and its secret.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// CHAP_N.
    pub user: Box<str>,
    /// What CHAP_R proves knowledge of.
    pub secret: Secret,
}

/// What one initiator and one target know of each other.
#[derive(Clone, Debug)]
pub struct Account {
    initiator: Credentials,
    target: Option<Credentials>,
}

/// Credentials that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChapConfigError {
    /// A secret is empty or too long.
    #[error("a CHAP secret has 1 to {MAX_SECRET} bytes, not {0}")]
    SecretLength(usize),
    /// A user name is empty or too long or has a NUL.
    #[error("a CHAP user name has 1 to {MAX_SECRET} bytes without NUL")]
    UserName,
    /// Both directions have the same secret (RFC 7143 12.1.3 forbids it: a response could be reflected).
    #[error("the CHAP secrets of the two directions are the same")]
    SameSecret,
}

impl Credentials {
    /// Takes a user name and a secret.
    ///
    /// # Errors
    /// One of them is empty or too long.
    pub fn new(user: &str, secret: &[u8]) -> Result<Self, ChapConfigError> {
        if user.is_empty() || user.len() > MAX_SECRET || user.contains('\0') {
            return Err(ChapConfigError::UserName);
        }
        Ok(Self { user: user.into(), secret: Secret::new(secret)? })
    }
}

impl Account {
    /// `initiator` proves who the initiator is; `target`, where there is one, who the target is.
    ///
    /// # Errors
    /// Both have the same secret.
    pub fn new(initiator: Credentials, target: Option<Credentials>) -> Result<Self, ChapConfigError> {
        if target.as_ref().is_some_and(|target| target.secret.is_same_as(&initiator.secret)) {
            return Err(ChapConfigError::SameSecret);
        }
        Ok(Self { initiator, target })
    }

    /// What the initiator proves itself with.
    #[must_use]
    pub fn initiator(&self) -> &Credentials {
        &self.initiator
    }

    /// What the target proves itself with, in mutual authentication.
    #[must_use]
    pub fn target(&self) -> Option<&Credentials> {
        self.target.as_ref()
    }
}

/// A hash algorithm, by its number in CHAP_A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// MD5.
    Md5 = 5,
    /// SHA-256.
    Sha256 = 7,
}

impl Algorithm {
    /// All, the one to prefer first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Md5];

    /// The number in CHAP_A.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The algorithm of that number, where it is one of these.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| u32::from(algorithm.number()) == number)
    }

    /// The first algorithm in a list of CHAP_A that is among `allowed` (RFC 7143 6.2.1: the first of
    /// the proposer's that the acceptor can use).
    #[must_use]
    pub fn choose(list: &str, allowed: &[Self]) -> Option<Self> {
        let known = list.split(',').filter_map(|item| Self::from_number(crate::text::number(item)?));
        known.into_iter().find(|algorithm| allowed.contains(algorithm))
    }

    /// The response to a challenge.
    #[must_use]
    pub fn response(self, identifier: u8, secret: &Secret, challenge: &[u8]) -> Response {
        fn hash<D: Digest>(identifier: u8, secret: &Secret, challenge: &[u8]) -> Response {
            let digest = D::new().chain_update([identifier]).chain_update(&secret.0).chain_update(challenge);
            Response(digest.finalize().as_slice().into())
        }
        match self {
            Self::Md5 => hash::<Md5>(identifier, secret, challenge),
            Self::Sha256 => hash::<Sha256>(identifier, secret, challenge),
        }
    }
}

/// The response to a challenge.
#[derive(Clone, Debug)]
pub struct Response(Box<[u8]>);

impl Response {
    /// Whether this is what came; takes as long whatever came, of the same length.
    #[must_use]
    pub fn matches(&self, came: &[u8]) -> bool {
        self.0.ct_eq(came).into()
    }

    /// The value of CHAP_R.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_hex(&self.0)
    }
}

/// A challenge that we send, with its identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// CHAP_I.
    pub identifier: u8,
    bytes: [u8; CHALLENGE_LEN],
}

impl Challenge {
    /// Makes one.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn new(random: &mut dyn Random) -> Result<Self, RandomError> {
        let (mut identifier, mut bytes) = ([0], [0; CHALLENGE_LEN]);
        random.fill(&mut identifier)?;
        random.fill(&mut bytes)?;
        let [identifier] = identifier;
        Ok(Self { identifier, bytes })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The value of CHAP_C.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_hex(&self.bytes)
    }
}

/// Bytes as a hexadecimal value (RFC 7143 6.1).
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("0x");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads a binary value: hexadecimal after `0x` or base64 after `0b` (RFC 7143 6.1), of 1 to 1024
/// bytes. `None` for anything else.
#[must_use]
pub fn from_text(value: &str) -> Option<Vec<u8>> {
    let (prefix, digits) = value.split_at_checked(2)?;
    let bytes = match prefix {
        "0x" | "0X" => from_hex(digits.as_bytes())?,
        "0b" | "0B" => from_base64(digits.as_bytes())?,
        _ => return None,
    };
    (1..=MAX_BINARY_LEN).contains(&bytes.len()).then_some(bytes)
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    if digits.len() > 2 * MAX_BINARY_LEN {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
    // An odd number of digits has its first byte's high half left out.
    let (first, pairs) = if digits.len() % 2 == 1 { digits.split_at_checked(1)? } else { (&[][..], digits) };
    let head = first.iter().map(|&digit| nibble(digit));
    let tail = pairs.chunks_exact(2).map(|pair| match *pair {
        [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
        _ => None,
    });
    head.chain(tail).collect()
}

fn from_base64(digits: &[u8]) -> Option<Vec<u8>> {
    if digits.len() > MAX_BINARY_LEN.div_ceil(3) * 4 || !digits.len().is_multiple_of(4) {
        return None;
    }
    let value = |digit: u8| -> Option<u32> {
        Some(match digit {
            b'A'..=b'Z' => u32::from(digit - b'A'),
            b'a'..=b'z' => u32::from(digit - b'a') + 26,
            b'0'..=b'9' => u32::from(digit - b'0') + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let padding = digits.iter().rev().take_while(|&&digit| digit == b'=').count();
    if padding > 2 {
        return None;
    }
    let digits = digits.get(..digits.len() - padding)?;
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut word = 0;
        for &digit in group {
            word = word << 6 | value(digit)?;
        }
        // 4 digits are three bytes, 3 are two, 2 are one; the bits left over shall be zero.
        let spare = (4 - group.len()) * 6;
        let [_, decoded @ ..] = (word << spare).to_be_bytes();
        let (kept, dropped) = decoded.split_at_checked(group.len().checked_sub(1)?)?;
        if dropped.iter().any(|&bits| bits != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn responses_are_the_hash_of_identifier_secret_and_challenge() {
        // Made with `printf '\x2asecretsecret1challenge' | md5sum` and `sha256sum`.
        let secret = Secret::new(b"secretsecret1").unwrap();
        let md5 = Algorithm::Md5.response(0x2a, &secret, b"challenge");
        let sha = Algorithm::Sha256.response(0x2a, &secret, b"challenge");
        assert_eq!(md5.to_text(), "0x739c7eb70058f8a3bebd5f0a31bd9d9b");
        assert_eq!(sha.to_text(), "0x8adf8b0497522fb817f4da3aa694e81f7b01333bbc9eb7a5fea29c03dc44a978");
        assert!(md5.matches(&from_text(&md5.to_text()).unwrap()));
        assert!(!md5.matches(&from_text(&sha.to_text()).unwrap()));
        assert!(!md5.matches(b""));
    }

    #[test]
    fn the_first_known_algorithm_is_chosen() {
        assert_eq!(Algorithm::choose("8,7,6,5", &Algorithm::ALL), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::choose("5,7", &Algorithm::ALL), Some(Algorithm::Md5));
        assert_eq!(Algorithm::choose("0x7", &[Algorithm::Sha256]), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::choose("5", &[Algorithm::Sha256]), None);
        assert_eq!(Algorithm::choose("", &Algorithm::ALL), None);
    }

    #[test]
    fn binary_values() {
        assert_eq!(from_text("0x0aFF"), Some(vec![0x0a, 0xff]));
        assert_eq!(from_text("0xaff"), Some(vec![0x0a, 0xff]));
        assert_eq!(from_text("0bAQID"), Some(vec![1, 2, 3]));
        assert_eq!(from_text("0bAQI="), Some(vec![1, 2]));
        assert_eq!(from_text("0bAQ=="), Some(vec![1]));
        for bad in
            ["", "0x", "0b", "0xg0", "1234", "0bAQ", "0bA===", "0b=AQI", "0bAR==", "0bAQ==AQ==", "0\u{e9}00"]
        {
            assert_eq!(from_text(bad), None, "{bad}");
        }
        assert!(from_text(&to_hex(&[7; 1024])).is_some());
        assert!(from_text(&to_hex(&[7; 1025])).is_none());
    }

    #[test]
    fn secrets_are_not_shown_and_not_shared() {
        let secret = Credentials::new("user", b"hunter2hunter2").unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(secret.secret.is_strong() && !Secret::new(b"short").unwrap().is_strong());
        let same = Account::new(secret.clone(), Some(secret.clone()));
        assert_eq!(same.unwrap_err(), ChapConfigError::SameSecret);
        assert_eq!(Secret::new(b"").unwrap_err(), ChapConfigError::SecretLength(0));
        assert_eq!(Credentials::new("", b"x").unwrap_err(), ChapConfigError::UserName);
    }

    proptest! {
        #[test]
        fn hexadecimal_goes_both_ways(bytes in proptest::collection::vec(any::<u8>(), 1..100)) {
            prop_assert_eq!(from_text(&to_hex(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_ends_in_an_answer(text in "(0x|0b)?.{0,40}") {
            let _ = from_text(&text);
        }
    }
}
