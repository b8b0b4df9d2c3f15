//! The text of login and text PDUs: `key=value` pairs, each ended by a NUL (RFC 7143 6.1).
//!
//! [`pairs`] takes text apart, [`Text`] puts it together, [`Reassembly`] joins what came in several
//! PDUs with the C bit. What keys mean is for [`negotiate`](crate::negotiate),
//! [`login`](crate::login) and [`discovery`](crate::discovery), which call this.

/// The longest key (RFC 7143 6.1).
pub const MAX_KEY_LEN: usize = 63;
/// The longest value of a key that says nothing else, in bytes (RFC 7143 6.1).
pub const MAX_VALUE_LEN: usize = 255;
/// The most bytes of a binary value, decoded (RFC 7143 12.1.3: 1024).
pub const MAX_BINARY_LEN: usize = 1024;
/// The longest a TargetAddress can be: a name of 255 bytes, a port, a tag.
const MAX_ADDRESS_LEN: usize = 255 + 2 + 5 + 1 + 5;
/// The longest a binary value can be: hexadecimal with its prefix.
const MAX_ENCODED_LEN: usize = 2 * MAX_BINARY_LEN + 2;

/// The key is not known (RFC 7143 6.2).
pub const NOT_UNDERSTOOD: &str = "NotUnderstood";
/// The key means nothing in this negotiation (RFC 7143 6.2).
pub const IRRELEVANT: &str = "Irrelevant";
/// The value cannot be agreed upon (RFC 7143 6.2).
pub const REJECT: &str = "Reject";

/// Text that is not a sequence of `key=value` pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The last pair is not ended by a NUL.
    #[error("text that does not end with a NUL")]
    Unterminated,
    /// There is no `=` in a pair.
    #[error("text without '='")]
    NoValue,
    /// A key is empty, too long, or has characters that keys do not have.
    #[error("not a key")]
    Key,
    /// A value is longer than its key allows.
    #[error("a value that is too long")]
    ValueTooLong,
    /// It is not UTF-8.
    #[error("text that is not UTF-8")]
    Encoding,
    /// All PDUs with the C bit together are longer than the receiver takes.
    #[error("text of more than {0} bytes")]
    TooLong(usize),
}

/// The pairs in a text, in order. After an error there are no more.
///
/// Runs of NULs are taken for one, as some senders count their padding in.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = Result<(&str, &str), TextError>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while let Some((0, after)) = rest.split_first() {
            rest = after;
        }
        if rest.is_empty() {
            return None;
        }
        let found = first_pair(rest);
        rest = found.map_or(&[], |(_, after)| after);
        Some(found.map(|(pair, _)| pair))
    })
}

/// A pair, and what comes after it.
type Split<'a> = ((&'a str, &'a str), &'a [u8]);

fn first_pair(text: &[u8]) -> Result<Split<'_>, TextError> {
    let end = text.iter().position(|&byte| byte == 0).ok_or(TextError::Unterminated)?;
    let (pair, after) = text.split_at_checked(end).ok_or(TextError::Unterminated)?;
    let pair = std::str::from_utf8(pair).map_err(|_| TextError::Encoding)?;
    let (key, value) = pair.split_once('=').ok_or(TextError::NoValue)?;
    if !is_key(key) {
        return Err(TextError::Key);
    }
    if value.len() > max_value_len(key) {
        return Err(TextError::ValueTooLong);
    }
    Ok(((key, value), after))
}

/// RFC 7143 6.1: a letter, then letters, digits and `.-+@_`.
fn is_key(key: &str) -> bool {
    key.len() <= MAX_KEY_LEN
        && key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+@_".contains(&b))
}

fn max_value_len(key: &str) -> usize {
    match key {
        "CHAP_C" | "CHAP_R" => MAX_ENCODED_LEN,
        "TargetAddress" => MAX_ADDRESS_LEN,
        // Whatever it is, it is answered with NotUnderstood; the text's own limit bounds it.
        extension if extension.starts_with("X-") => usize::MAX,
        _ => MAX_VALUE_LEN,
    }
}

/// Text that is being put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Vec<u8>);

impl Text {
    /// Without any pair.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair. A NUL in it, which no caller has, would begin another pair: it is left out.
    pub fn push(&mut self, key: &str, value: &str) {
        self.0.extend(key.bytes().filter(|&b| b != 0));
        self.0.push(b'=');
        self.0.extend(value.bytes().filter(|&b| b != 0));
        self.0.push(0);
    }

    /// Adds a pair with a number.
    pub fn push_number(&mut self, key: &str, value: u32) {
        self.push(key, &value.to_string());
    }

    /// Adds all pairs of another text.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Joins the text of PDUs whose C bit says that it goes on (RFC 7143 6.2, 11.10.2). A pair may be
/// cut anywhere. Holds nothing until the first such PDU comes.
#[derive(Clone, Debug)]
pub struct Reassembly {
    parts: Vec<u8>,
    limit: usize,
    /// Empty parts cost nothing to keep but must not go on for ever.
    part_count: usize,
}

impl Reassembly {
    /// The most PDUs that one text may be cut into: an answer of 1 MiB in segments of 512 bytes has
    /// half as many.
    const MAX_PARTS: usize = 4096;

    /// Takes texts of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { parts: Vec::new(), limit, part_count: 0 }
    }

    /// Takes the data segment of a PDU. The whole text once a PDU comes without the C bit.
    ///
    /// # Errors
    /// [`TextError::TooLong`]; the exchange is over.
    pub fn push(&mut self, data: &[u8], continues: bool) -> Result<Option<Vec<u8>>, TextError> {
        self.part_count += 1;
        if self.parts.len().saturating_add(data.len()) > self.limit || self.part_count > Self::MAX_PARTS {
            let limit = self.limit;
            *self = Self::new(limit);
            return Err(TextError::TooLong(limit));
        }
        self.parts.extend_from_slice(data);
        if continues {
            return Ok(None);
        }
        self.part_count = 0;
        Ok(Some(std::mem::take(&mut self.parts)))
    }

    /// Whether a text has begun and not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.part_count > 0
    }

    /// Forgets what has come.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }
}

/// Reads a number: decimal, or hexadecimal after `0x` (RFC 7143 6.1).
#[must_use]
pub fn number(value: &str) -> Option<u32> {
    let hex = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
    let (digits, radix) = hex.map_or((value, 10), |hex| (hex, 16));
    // from_str_radix would take a sign.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// Reads `Yes` or `No` (RFC 7143 6.1).
#[must_use]
pub fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &[u8]) -> Result<Vec<(&str, &str)>, TextError> {
        pairs(text).collect()
    }

    #[test]
    fn pairs_come_apart() {
        assert_eq!(all(b""), Ok(vec![]));
        assert_eq!(all(b"A=1\0B=\0\0\0C=x=y\0\0"), Ok(vec![("A", "1"), ("B", ""), ("C", "x=y")]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(all(b"A=1\0B=2"), Err(TextError::Unterminated));
        assert_eq!(all(b"A\0"), Err(TextError::NoValue));
        assert_eq!(all(b"=1\0"), Err(TextError::Key));
        assert_eq!(all(b"1A=1\0"), Err(TextError::Key));
        assert_eq!(all(b"A B=1\0"), Err(TextError::Key));
        assert_eq!(all(b"A=\xff\0"), Err(TextError::Encoding));
        let long = |key: &str, len| [key.as_bytes(), b"=", &vec![b'x'; len], b"\0"].concat();
        assert_eq!(all(&long(&"k".repeat(64), 1)), Err(TextError::Key));
        assert!(all(&long(&"k".repeat(63), 255)).is_ok());
        assert_eq!(all(&long("k", 256)), Err(TextError::ValueTooLong));
        assert!(all(&long("CHAP_C", 2050)).is_ok());
        assert_eq!(all(&long("CHAP_C", 2051)), Err(TextError::ValueTooLong));
        assert!(all(&long("X-com.example.k", 5000)).is_ok());
    }

    #[test]
    fn iteration_ends_at_an_error() {
        assert_eq!(pairs(b"bad\0A=1\0").count(), 1);
    }

    #[test]
    fn numbers_and_booleans() {
        for (text, value) in
            [("0", Some(0)), ("16777215", Some(16_777_215)), ("0x1F", Some(31)), ("0Xff", Some(255))]
        {
            assert_eq!(number(text), value);
        }
        for text in ["", "0x", "-1", "+1", "4294967296", "12a", " 1", "1_0"] {
            assert_eq!(number(text), None, "{text:?}");
        }
        assert_eq!((boolean("Yes"), boolean("No"), boolean("yes")), (Some(true), Some(false), None));
    }

    #[test]
    fn reassembly_is_bounded() {
        let mut text = Reassembly::new(10);
        assert_eq!(text.push(b"A=1", true), Ok(None));
        assert!(text.is_open());
        assert_eq!(text.push(b"23\0", false), Ok(Some(b"A=123\0".to_vec())));
        assert!(!text.is_open());
        assert_eq!(text.push(b"A=1234567", true), Ok(None));
        assert_eq!(text.push(b"8\0", false), Err(TextError::TooLong(10)));
        assert!(!text.is_open());
        let endless = (0..5000).find_map(|_| text.push(b"", true).err());
        assert_eq!(endless, Some(TextError::TooLong(10)));
    }

    proptest! {
        #[test]
        fn what_is_put_together_comes_apart(list in proptest::collection::vec(("[A-Za-z][A-Za-z0-9._@+-]{0,62}", "[^\0]{0,60}"), 0..10)) {
            let mut text = Text::new();
            for (key, value) in &list { text.push(key, value); }
            let expected: Vec<_> = list.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            prop_assert_eq!(all(text.as_bytes()), Ok(expected));
        }

        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(pairs(&bytes).count() <= bytes.len());
        }
    }
}
