//! The configuration as it stands in the file: every key, unchecked, with its place.
//!
//! Unknown keys are refused by serde. Numbers are signed here, so that one out of range gets
//! the reason of its key instead of a parser's.

use serde::Deserialize;
use toml::Spanned;

/// A key that may be left out, with its place.
pub(super) type Maybe<T> = Option<Spanned<T>>;
/// Tables of one kind, with their places.
pub(super) type Tables<T> = Vec<Spanned<T>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub array: Spanned<RawArray>,
    #[serde(default)]
    pub portal: Tables<RawPortal>,
    #[serde(default)]
    pub volume: Tables<RawVolume>,
    #[serde(default)]
    pub peer: Tables<RawPeer>,
    #[serde(default, rename = "virtual")]
    pub virtuals: Tables<RawVirtual>,
    #[serde(default)]
    pub group: Tables<RawGroup>,
    #[serde(default)]
    pub initiator: Tables<RawInitiator>,
    #[serde(default)]
    pub operator: Tables<RawOperator>,
    #[serde(default)]
    pub pool: Tables<RawPool>,
}

/// What can be made at run time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawObjects {
    #[serde(default)]
    pub volume: Tables<RawVolume>,
    #[serde(default)]
    pub peer: Tables<RawPeer>,
    #[serde(default, rename = "virtual")]
    pub virtuals: Tables<RawVirtual>,
    #[serde(default)]
    pub initiator: Tables<RawInitiator>,
    #[serde(default)]
    pub group: Tables<RawGroup>,
}

/// To what a volume of the file has grown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGrowth {
    pub size: String,
}

/// What an initiator of the file sees in addition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLoan {
    pub luns: Vec<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawArray {
    pub name: Maybe<String>,
    pub iqn: Maybe<String>,
    pub data: Maybe<String>,
    pub listen: Option<Vec<Spanned<String>>>,
    pub auth: Maybe<String>,
    pub cores: Maybe<Vec<Spanned<i64>>>,
    pub cache: Maybe<String>,
    pub ram: Maybe<String>,
    pub metrics: Maybe<String>,
    pub admin: Maybe<String>,
    pub idle: Maybe<String>,
    pub congestion: Maybe<String>,
    pub header_digest: Maybe<OneOrMore>,
    pub data_digest: Maybe<OneOrMore>,
    pub nop_interval: Maybe<String>,
    pub nop_timeout: Maybe<String>,
    pub login_timeout: Maybe<String>,
    pub io_timeout: Maybe<String>,
    pub stop_timeout: Maybe<String>,
    pub max_sessions: Maybe<i64>,
    pub max_connections: Maybe<i64>,
    pub connections_per_session: Maybe<i64>,
    pub queue_depth: Maybe<i64>,
    pub tasks: Maybe<i64>,
    pub max_volumes: Maybe<i64>,
    pub huge_pages: Maybe<bool>,
    pub first_burst: Maybe<String>,
    pub max_burst: Maybe<String>,
}

/// A word, or a list of words.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a word or a list of words")]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPortal {
    pub address: Spanned<String>,
    pub role: Maybe<String>,
    pub auth: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVolume {
    pub lun: Spanned<i64>,
    pub name: Spanned<String>,
    pub path: Maybe<String>,
    pub backend: Maybe<String>,
    pub size: Maybe<String>,
    pub block_size: Maybe<i64>,
    pub cache: Maybe<String>,
    pub read_only: Maybe<bool>,
    pub role: Maybe<String>,
    pub thin: Maybe<bool>,
    pub queue_depth: Maybe<i64>,
    pub device_depth: Maybe<i64>,
    pub io_timeout: Maybe<String>,
    pub spread: Maybe<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPeer {
    pub name: Spanned<String>,
    pub portal: Maybe<String>,
    pub portals: Option<Vec<Spanned<String>>>,
    pub iqn: Spanned<String>,
    pub io_timeout: Maybe<String>,
    pub connections: Maybe<i64>,
    pub chap: Option<RawChap>,
    pub orders: Maybe<String>,
    #[serde(default)]
    pub luns: Vec<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVirtual {
    pub name: Maybe<String>,
    pub lun: Spanned<i64>,
    pub peer: Spanned<String>,
    pub mapped_lun: Spanned<i64>,
    pub role: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGroup {
    pub name: Spanned<String>,
    pub peer: Spanned<String>,
    pub mode: Maybe<String>,
    pub overflow: Maybe<String>,
    pub hold: Maybe<String>,
    pub bandwidth: Maybe<String>,
    pub secondary_access: Maybe<String>,
    pub restart_wait: Maybe<String>,
    pub alone: Maybe<String>,
    pub swap_hold: Maybe<String>,
    pub silence: Maybe<String>,
    pub swap_lag: Maybe<String>,
    pub pace: Maybe<String>,
    pub thresholds: Maybe<String>,
    pub memory: Maybe<String>,
    pub uuid: Maybe<String>,
    pub peer_uuid: Maybe<String>,
    pub journal: Maybe<i64>,
    pub peer_journal: Maybe<i64>,
    pub journal_size: Maybe<String>,
    pub side: Maybe<String>,
    pub fresh: Maybe<bool>,
    pub pairs: Maybe<Vec<Vec<i64>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInitiator {
    pub iqn: Spanned<String>,
    pub luns: Vec<Spanned<i64>>,
    pub rights: Maybe<String>,
    pub chap: Option<RawChap>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChap {
    pub user: Spanned<String>,
    pub secret_file: Spanned<String>,
    pub mutual: Option<RawMutual>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMutual {
    pub user: Spanned<String>,
    pub secret_file: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPool {
    pub name: Spanned<String>,
    pub path: Spanned<String>,
    pub size: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOperator {
    pub name: Spanned<String>,
    pub key_file: Spanned<String>,
    pub rights: Maybe<String>,
}
