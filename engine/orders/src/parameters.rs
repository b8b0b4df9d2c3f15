//! Input parameters: each a tag (2 bytes), a length (2 bytes), the value; one after another, little-endian.

use crate::RecordError;
use kagami_types::Uuid;

macro_rules! tags {
    ($($name:ident = $tag:literal, $kind:ident, $word:literal, $doc:literal;)*) => {
        /// What a parameter is. The numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Tag {
            $(#[doc = $doc] $name = $tag,)*
        }

        impl Tag {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The tag of that number.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($tag => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its number.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(Self::$name => $tag),* }
            }

            /// What its value is.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind),* }
            }

            /// One word for it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            /// What it means.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $doc),* }
            }
        }
    };
}

tags! {
    Name = 1, Text, "name", "The name of what is made.";
    Volume = 2, Text, "volume", "A volume: its name, its LUN, or `ARRAY:LUN`.";
    Lun = 3, U16, "lun", "A LUN of the target array.";
    SizeBytes = 4, U64, "size_bytes", "A size in bytes.";
    Pool = 5, Text, "pool", "A declared pool.";
    BlockBytes = 6, U32, "block_bytes", "The size of a logical block: 512 or 4096.";
    Cache = 7, Text, "cache", "`writeback`, `writethrough` or `none`.";
    Initiator = 8, Text, "initiator", "The iSCSI name of a listed initiator; may come several times.";
    Force = 9, Flag, "force", "Although it is in use.";
    ReadOnly = 10, Flag, "read_only", "Hosts may not write.";
    Request = 11, Id, "request", "The request id of an earlier order of the same host.";
    Offset = 12, U64, "offset", "A byte of the edit data of that order.";
    Peer = 13, Text, "peer", "The name of another array.";
    MappedLun = 14, U16, "mapped_lun", "A LUN of that other array.";
    Role = 15, Text, "role", "`plain` or `command`.";
    Group = 16, Text, "group", "A group of pairs.";
    GroupId = 17, Id, "group_id", "The UUID of a group, chosen by who makes it; the same for both arrays.";
    Side = 18, Text, "side", "Which side the target array is to be: `primary` or `secondary`.";
    PeerId = 19, Id, "peer_id", "The UUID of the other array.";
    Pair = 20, Text, "pair", "Two volumes, as `LUN:PEER_LUN:BLOCKS:BLOCK_BYTES`; may come several times.";
    Journal = 21, U16, "journal", "The LUN of the target array's journal.";
    PeerJournal = 22, U16, "peer_journal", "The LUN of the other array's journal.";
    JournalBytes = 23, U64, "journal_bytes", "The size of the smaller of the two journals.";
    Writable = 24, Flag, "writable", "Hosts may write the secondary.";
    Discard = 25, Text, "discard", "The array that gives up what it alone has, by its name.";
    DryRun = 26, Flag, "dry_run", "Only say what would be done.";
    Cancel = 27, Flag, "cancel", "Give up what is under way.";
    Position = 28, U64, "position", "A place of the journal, as an offset in bytes.";
    TimeNanos = 29, U64, "time_nanos", "A moment, in nanoseconds since 1970.";
    Marker = 30, Text, "marker", "The name of a marker, at most 63 bytes.";
    Wait = 31, Flag, "wait", "Done only when it has arrived at the secondary.";
    Option = 32, Text, "option", "An option of a group and its value, as `KEY=VALUE`; may come several times.";
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, 1 to 255 bytes, without control characters.
    Text,
    /// Two bytes, little-endian.
    U16,
    /// Four bytes, little-endian.
    U32,
    /// Eight bytes, little-endian.
    U64,
    /// Sixteen bytes, as they are.
    Id,
    /// No bytes: it is there or not.
    Flag,
}

impl Kind {
    /// A word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::Id => "16 bytes",
            Self::Flag => "empty",
        }
    }
}

/// Most parameters of one record.
pub const MOST: usize = 256;
/// The longest text.
pub const MAX_TEXT: usize = 255;

/// The input parameters of a record, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(Tag, Vec<u8>)>);

impl Parameters {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a text.
    #[must_use]
    pub fn text(self, tag: Tag, value: &str) -> Self {
        self.with(tag, value.as_bytes())
    }

    /// With a number, in as many bytes as the tag's kind has; what is larger is cut off.
    #[must_use]
    pub fn number(self, tag: Tag, value: u64) -> Self {
        let bytes = value.to_le_bytes();
        let len = match tag.kind() {
            Kind::U16 => 2,
            Kind::U32 => 4,
            _ => 8,
        };
        self.with(tag, &bytes[..len])
    }

    /// With an id.
    #[must_use]
    pub fn id(self, tag: Tag, value: Uuid) -> Self {
        self.with(tag, value.as_bytes())
    }

    /// With a flag, where it is set.
    #[must_use]
    pub fn flag(self, tag: Tag, value: bool) -> Self {
        if value { self.with(tag, &[]) } else { self }
    }

    fn with(mut self, tag: Tag, value: &[u8]) -> Self {
        self.0.push((tag, value.to_vec()));
        self
    }

    /// The tags that are there, in their order.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + '_ {
        self.0.iter().map(|(tag, _)| *tag)
    }

    fn get(&self, tag: Tag) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| *known == tag).map(|(_, value)| value.as_slice())
    }

    /// A text.
    #[must_use]
    pub fn get_text(&self, tag: Tag) -> Option<&str> {
        std::str::from_utf8(self.get(tag)?).ok()
    }

    /// All texts of that tag.
    pub fn texts(&self, tag: Tag) -> impl Iterator<Item = &str> + '_ {
        self.0.iter().filter(move |(known, _)| *known == tag).filter_map(|(_, v)| std::str::from_utf8(v).ok())
    }

    /// A number of whatever width.
    #[must_use]
    pub fn get_number(&self, tag: Tag) -> Option<u64> {
        let value = self.get(tag)?;
        let mut bytes = [0; 8];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(u64::from_le_bytes(bytes))
    }

    /// A number of two bytes.
    #[must_use]
    pub fn get_u16(&self, tag: Tag) -> Option<u16> {
        self.get_number(tag).and_then(|number| u16::try_from(number).ok())
    }

    /// An id.
    #[must_use]
    pub fn get_id(&self, tag: Tag) -> Option<Uuid> {
        Some(Uuid::from_bytes(self.get(tag)?.try_into().ok()?))
    }

    /// Whether a flag is there.
    #[must_use]
    pub fn has(&self, tag: Tag) -> bool {
        self.get(tag).is_some()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for (tag, value) in &self.0 {
            let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&tag.number().to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
            out.extend(value.iter().take(usize::from(len)));
        }
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, RecordError> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let cut = RecordError::Malformed("a parameter is cut off");
            let (head, rest) = bytes.split_first_chunk::<4>().ok_or(cut)?;
            let [t0, t1, l0, l1] = *head;
            let len = usize::from(u16::from_le_bytes([l0, l1]));
            let (value, rest) = rest.split_at_checked(len).ok_or(cut)?;
            bytes = rest;
            let unknown = RecordError::Malformed("a parameter is of an unknown kind");
            let tag = Tag::from_number(u16::from_le_bytes([t0, t1])).ok_or(unknown)?;
            let fits = match tag.kind() {
                Kind::Text => {
                    (1..=MAX_TEXT).contains(&len)
                        && std::str::from_utf8(value).is_ok_and(|text| !text.contains(char::is_control))
                }
                Kind::U16 => len == 2,
                Kind::U32 => len == 4,
                Kind::U64 => len == 8,
                Kind::Id => len == 16,
                Kind::Flag => len == 0,
            };
            if !fits {
                return Err(RecordError::Malformed("a parameter has a wrong length or is no text"));
            }
            if all.len() >= MOST {
                return Err(RecordError::Malformed("there are too many parameters"));
            }
            all.push((tag, value.to_vec()));
        }
        Ok(Self(all))
    }
}
