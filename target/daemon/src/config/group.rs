//! `[[group]]`: options of a group, and, where it has its pairs, which volumes it joins to which of its peer.
//!
//! A file usually has the options only; `kagami pair create` makes the pairs, which the tables keep as the same
//! table with more keys. Both are joined here by the group's name. A file written by `kagami config export` has all.

use super::context::{At, Context, split};
use super::model::{
    Backend, CopyPace, Group, GroupMode, GroupOptions, Overflow, Owner, Pair, Pairs, Peer, Role, Side, Volume,
};
use super::names::check_name;
use super::raw::{Maybe, RawGroup, Tables};
use super::units::{format_size, parse_size, parse_time};
use kagami_replica::Thresholds;
use kagami_types::{ByteLen, Lun, Uuid};
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::time::Duration;
use toml::Spanned;

/// The most pairs of a group: its journal numbers volumes with a byte, and some numbers are kept.
pub const MAX_PAIRS: usize = 64;
/// The slowest formation copy: a piece a second.
const LEAST_PACE: ByteLen = ByteLen(1 << 20);
const HOUR: Duration = Duration::from_secs(3600);

impl Context {
    /// Checks the groups, and joins those of the file with those of the tables.
    pub(super) fn groups(
        &mut self,
        raw: Tables<RawGroup>,
        peers: &[Peer],
        volumes: &[Volume],
        virtuals: &[Lun],
    ) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut lines = HashMap::new();
        let mut used: HashMap<Lun, usize> = HashMap::new();
        for (index, value) in raw.into_iter().enumerate() {
            let table = format!("group[{index}]");
            let place = At { span: value.span(), key: table.clone() };
            let raw = value.into_inner();
            let at = At { span: raw.name.span(), key: format!("{table}.name") };
            let mut group = self.group(&table, &place, raw, peers);
            if let Some(pairs) = &group.pairs {
                self.paired(&place, pairs, volumes, virtuals, &mut used);
            }
            let known = groups.iter_mut().find(|known| known.name == group.name);
            match known {
                // The pairs of the tables, the options of the file.
                Some(known)
                    if known.owner == Owner::File
                        && known.pairs.is_none()
                        && group.owner == Owner::RunTime
                        && known.peer == group.peer =>
                {
                    known.pairs = group.pairs.take();
                }
                _ => {
                    self.once(&mut lines, group.name.clone(), &at, "the group");
                    groups.push(group);
                }
            }
        }
        groups
    }

    fn group(&mut self, table: &str, place: &At, raw: RawGroup, peers: &[Peer]) -> Group {
        let (site, owner) = (self.site(place), self.owner(place));
        let (name, at) = split(table, "name", raw.name);
        self.check(&at, check_name(&name));
        let (peer, at) = split(table, "peer", raw.peer);
        self.known_peer(&at, &peer, peers);
        let default = GroupOptions::default();
        let access = [("none", false), ("read", true)];
        let alone = [("serve", true), ("wait", false)];
        let modes = [("poller", GroupMode::Poller), ("host", GroupMode::Host)];
        let options = GroupOptions {
            mode: self.word(table, "mode", raw.mode, &modes).unwrap_or(default.mode),
            overflow: self.overflow(table, raw.overflow),
            hold: self.time(table, "hold", raw.hold, Duration::ZERO..=HOUR * 24 * 30, default.hold),
            bandwidth: self
                .size(table, "bandwidth", raw.bandwidth)
                .map_or(default.bandwidth, |(size, _)| size),
            secondary_reads: self
                .word(table, "secondary_access", raw.secondary_access, &access)
                .unwrap_or(false),
            restart_wait: self.time(
                table,
                "restart_wait",
                raw.restart_wait,
                Duration::ZERO..=HOUR,
                default.restart_wait,
            ),
            serves_alone: self.word(table, "alone", raw.alone, &alone).unwrap_or(default.serves_alone),
            swap_hold: self.time(table, "swap_hold", raw.swap_hold, Duration::ZERO..=HOUR, default.swap_hold),
            silence: self.time(
                table,
                "silence",
                raw.silence,
                Duration::from_secs(1)..=HOUR * 24,
                default.silence,
            ),
            swap_lag: self.time(
                table,
                "swap_lag",
                raw.swap_lag,
                Duration::ZERO..=HOUR * 24,
                default.swap_lag,
            ),
            pace: self.parsed(table, "pace", raw.pace, parse_pace).unwrap_or(default.pace),
            thresholds: self
                .parsed(table, "thresholds", raw.thresholds, parse_thresholds)
                .unwrap_or(default.thresholds),
            memory: self.read_ahead(table, raw.memory, default.memory),
        };
        let pairs = match (
            raw.uuid,
            raw.peer_uuid,
            raw.journal,
            raw.peer_journal,
            raw.journal_size,
            raw.pairs,
        ) {
            (None, None, None, None, None, None) => None,
            (Some(uuid), Some(far), Some(journal), Some(far_journal), Some(size), Some(pairs)) => {
                let uuid = self.uuid(table, "uuid", uuid);
                let peer_uuid = self.uuid(table, "peer_uuid", far);
                let journal = self.journal_lun(table, "journal", journal);
                let peer_journal = self.journal_lun(table, "peer_journal", far_journal);
                let journal_size = self.size(table, "journal_size", Some(size)).map(|(size, _)| size);
                let sides = [("primary", Side::Primary), ("secondary", Side::Secondary)];
                let side = self.word(table, "side", raw.side, &sides).unwrap_or(Side::Primary);
                Some(Pairs {
                    owner,
                    uuid,
                    peer_uuid,
                    journal,
                    peer_journal,
                    journal_size: journal_size.unwrap_or_default(),
                    side,
                    fresh: raw.fresh.is_some_and(Spanned::into_inner),
                    pairs: self.pair_list(table, pairs),
                })
            }
            _ => {
                self.error(
                    place,
                    "uuid, peer_uuid, journal, peer_journal, journal_size and pairs go together; `kagami pair \
                     create` makes them",
                );
                None
            }
        };
        Group { site, owner, name, peer, options, pairs }
    }

    fn parsed<T>(
        &mut self,
        table: &str,
        key: &str,
        value: Maybe<String>,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, at) = split(table, key, value?);
        parse(&text).map_err(|reason| self.error(&at, reason)).ok()
    }

    fn read_ahead(&mut self, table: &str, value: Maybe<String>, default: ByteLen) -> ByteLen {
        let Some((size, at)) = self.size(table, "memory", value) else { return default };
        if !(ByteLen(256 << 10)..=ByteLen(16 << 30)).contains(&size) {
            self.error(&at, "256KiB to 16GiB");
        }
        size
    }

    fn uuid(&mut self, table: &str, key: &str, value: Spanned<String>) -> Uuid {
        let (text, at) = split(table, key, value);
        match Uuid::parse_str(&text) {
            Ok(uuid) if !uuid.is_nil() => uuid,
            _ => {
                self.error(&at, "is no UUID");
                Uuid::nil()
            }
        }
    }

    fn journal_lun(&mut self, table: &str, key: &str, value: Spanned<i64>) -> Lun {
        let (number, at) = split(table, key, value);
        self.lun(&at, number)
    }

    fn pair_list(&mut self, table: &str, value: Spanned<Vec<Vec<i64>>>) -> Vec<Pair> {
        let (list, at) = split(table, "pairs", value);
        if list.is_empty() || list.len() > MAX_PAIRS {
            self.error(&at, format!("a group has 1 to {MAX_PAIRS} pairs"));
        }
        let mut pairs = Vec::new();
        for pair in list.into_iter().take(MAX_PAIRS) {
            let [own, far] = pair.as_slice() else {
                self.error(&at, "a pair is two LUNs, this array's and the peer's: [[0, 0], [1, 5]]");
                continue;
            };
            pairs.push(Pair { lun: self.lun(&at, *own), peer_lun: self.lun(&at, *far) });
        }
        pairs
    }

    /// The rules between a group with pairs and the rest of the configuration.
    fn paired(
        &mut self,
        place: &At,
        pairs: &Pairs,
        volumes: &[Volume],
        virtuals: &[Lun],
        used: &mut HashMap<Lun, usize>,
    ) {
        match volumes.iter().find(|volume| volume.lun == pairs.journal) {
            Some(volume) if volume.role == Role::Journal => {}
            Some(volume) => {
                self.error(place, format!("volume {} is no journal (role = \"journal\")", volume.name))
            }
            None => self.error(place, format!("there is no journal with {}", pairs.journal)),
        }
        self.once(used, pairs.journal, place, &format!("journal {}", pairs.journal));
        for pair in &pairs.pairs {
            let lun = pair.lun;
            self.once(used, lun, place, &format!("{lun} in a pair"));
            match volumes.iter().find(|volume| volume.lun == lun) {
                Some(volume) if volume.role != Role::Plain => {
                    self.error(place, format!("volume {} is not for hosts' data", volume.name));
                }
                Some(volume) if volume.read_only => {
                    self.error(place, format!("volume {} is read-only", volume.name));
                }
                Some(_) => {}
                None if virtuals.contains(&lun) => {
                    self.error(place, format!("{lun} is a virtual volume, which cannot be paired"));
                }
                None => self.error(place, format!("there is no volume with {lun}")),
            }
        }
    }

    /// "suspend", or "slow:" and how long a host may be held back.
    fn overflow(&mut self, table: &str, value: Maybe<String>) -> Overflow {
        let Some(value) = value else { return Overflow::Suspend };
        let (text, at) = split(table, "overflow", value);
        if text == "suspend" {
            return Overflow::Suspend;
        }
        match text.strip_prefix("slow:").map(parse_time) {
            Some(Ok(time)) if time <= Duration::from_secs(10) => return Overflow::Slow(time),
            Some(Ok(_)) => self.error(&at, "a host is slowed by 10s at most"),
            Some(Err(reason)) => self.error(&at, reason),
            None => {
                self.error(&at, format!("\"{text}\" is neither \"suspend\" nor \"slow:20ms\" or the like"))
            }
        }
        Overflow::Suspend
    }
}

impl Group {
    /// The LUNs of this array that its peer may read and write for it.
    pub fn luns(&self) -> impl Iterator<Item = Lun> + '_ {
        let pairs = self.pairs.iter();
        pairs.flat_map(|made| std::iter::once(made.journal).chain(made.pairs.iter().map(|pair| pair.lun)))
    }
}

impl GroupOptions {
    /// Sets one by the name and value that it has in a file. What the parser says of the value comes with the whole
    /// configuration.
    ///
    /// # Errors
    /// There is none of that name, or the value is of another kind.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let word = |words: [&str; 2]| match words.iter().position(|word| *word == value) {
            Some(at) => Ok(at == 1),
            None => Err(format!("{key} is {} or {}, not {value}", words[0], words[1])),
        };
        let time = || parse_time(value).map_err(|reason| format!("{key}: {reason}"));
        let size = || match value {
            "0" => Ok(ByteLen(0)),
            value => parse_size(value).map_err(|reason| format!("{key}: {reason}")),
        };
        match key {
            "mode" => self.mode = if word(["poller", "host"])? { GroupMode::Host } else { GroupMode::Poller },
            "overflow" => {
                self.overflow = match value.strip_prefix("slow:") {
                    Some(most) => {
                        Overflow::Slow(parse_time(most).map_err(|reason| format!("{key}: {reason}"))?)
                    }
                    None if value == "suspend" => Overflow::Suspend,
                    None => return Err(format!("{key} is suspend, or slow:20ms or the like, not {value}")),
                }
            }
            "hold" => self.hold = time()?,
            "bandwidth" => self.bandwidth = size()?,
            "secondary_access" => self.secondary_reads = word(["none", "read"])?,
            "restart_wait" => self.restart_wait = time()?,
            "alone" => self.serves_alone = !word(["serve", "wait"])?,
            "swap_hold" => self.swap_hold = time()?,
            "silence" => self.silence = time()?,
            "swap_lag" => self.swap_lag = time()?,
            "pace" => self.pace = parse_pace(value).map_err(|reason| format!("{key}: {reason}"))?,
            "thresholds" => {
                self.thresholds = parse_thresholds(value).map_err(|reason| format!("{key}: {reason}"))?;
            }
            "memory" => self.memory = size()?,
            _ => {
                return Err(format!("a group has no option {key}; it has {}", Self::KEYS.join(", ")));
            }
        }
        Ok(())
    }

    /// Their names.
    pub const KEYS: [&str; 13] = [
        "mode",
        "overflow",
        "hold",
        "bandwidth",
        "secondary_access",
        "restart_wait",
        "alone",
        "swap_hold",
        "silence",
        "swap_lag",
        "pace",
        "thresholds",
        "memory",
    ];
}

/// "full", "gentle", or bytes a second such as "50MiB".
fn parse_pace(text: &str) -> Result<CopyPace, String> {
    match text {
        "full" => Ok(CopyPace::Full),
        "gentle" => Ok(CopyPace::Gentle),
        text => match parse_size(text).map(|size| NonZeroU64::new(size.0)) {
            Ok(Some(rate)) if rate.get() >= LEAST_PACE.0 => Ok(CopyPace::Rate(rate)),
            Ok(_) => Err(format!("a copy has at least {} a second", format_size(LEAST_PACE))),
            Err(_) => Err(format!(
                "\"{text}\" is neither \"full\", \"gentle\" nor bytes a second such as \"50MiB\""
            )),
        },
    }
}

/// Percent, ascending, as in "50,75,90"; "none".
fn parse_thresholds(text: &str) -> Result<Thresholds, String> {
    let wrong = || {
        format!(
            "\"{text}\" is neither \"none\" nor up to {} ascending shares in percent such as \"50,75,90\"",
            Thresholds::MOST
        )
    };
    if text == "none" {
        return Ok(Thresholds::new(&[]).unwrap_or_default());
    }
    let list: Result<Vec<u8>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    list.ok().and_then(|list| Thresholds::new(&list)).ok_or_else(wrong)
}

/// Whether a volume outlives the daemon, as one of a pair should.
#[must_use]
pub fn is_lasting(volume: &Volume) -> bool {
    matches!(volume.backend, Backend::Path(_))
}
