//! What the checks share: places in the text, the list of errors, readers of single values.

use super::error::{ConfigError, ConfigErrors};
use super::model::{Config, Owner, Site};
use super::raw::{Maybe, RawConfig, RawGrowth, RawLoan};
use super::units::{parse_size, parse_time};
use kagami_tables::{Object, ObjectKind};
use kagami_types::{ByteLen, Lun};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Errors shown at most; a file that has more is not better understood by more lines.
const MAX_ERRORS: usize = 100;

/// A place in the file: bytes, and the key that is there.
pub(super) struct At {
    pub span: Range<usize>,
    pub key: String,
}

/// The state of one check run.
pub(super) struct Context {
    file: String,
    /// Bytes of the file; what lies behind was made at run time.
    len: usize,
    line_ends: Vec<usize>,
    errors: Vec<ConfigError>,
}

impl Context {
    pub(super) fn new(text: &str, file: &str) -> Self {
        let line_ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect();
        Self { file: file.to_owned(), len: text.len(), line_ends, errors: Vec::new() }
    }

    /// Whose the table at a place is.
    pub(super) fn owner(&self, at: &At) -> Owner {
        if at.span.start > self.len { Owner::RunTime } else { Owner::File }
    }

    /// A place, in the form that errors and later refusals carry.
    pub(super) fn site(&self, at: &At) -> Site {
        if self.owner(at) == Owner::RunTime {
            return Site { file: "made at run time".to_owned(), line: 0, key: at.key.clone() };
        }
        let line = self.line_ends.partition_point(|end| *end < at.span.start) + 1;
        Site { file: self.file.clone(), line, key: at.key.clone() }
    }

    pub(super) fn error(&mut self, at: &At, reason: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            let site = self.site(at);
            self.errors.push(ConfigError { site, reason: reason.into() });
        }
    }

    pub(super) fn error_at(&mut self, site: Site, reason: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            let file = if site.file.is_empty() { self.file.clone() } else { site.file };
            self.errors.push(ConfigError { site: Site { file, ..site }, reason: reason.into() });
        }
    }

    /// A parser's error, with the key in which it lies.
    pub(super) fn syntax(&self, text: &str, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let key = key_at(text, &span).unwrap_or_else(|| "file".to_owned());
        // Parsers' messages may run over lines; ours are one line.
        let reason = error.message().lines().map(str::trim).collect::<Vec<_>>().join("; ");
        ConfigError { site: self.site(&At { span, key }), reason }
    }

    /// Everything, and the rules between tables.
    pub(super) fn config(&mut self, raw: RawConfig) -> Config {
        let mut notes = Vec::new();
        let (array, mut portals) = self.array(raw.array);
        self.portals(raw.portal, &mut portals);
        let volumes = self.volumes(raw.volume, &array);
        let mut luns: Vec<Lun> = volumes.iter().filter(|v| v.is_served()).map(|v| v.lun).collect();
        let (peers, mapped) = self.remote(raw.peer, raw.virtuals, &volumes);
        let virtuals: Vec<Lun> = mapped.iter().map(|one| one.lun).collect();
        let groups = self.groups(raw.group, &peers, &volumes, &virtuals);
        luns.extend(virtuals);
        let initiators = self.initiators(raw.initiator, &luns, &mut notes);
        self.open_portals(&portals, &initiators);
        let operators = self.operators(raw.operator);
        let pools = self.pools(raw.pool);
        Config {
            array,
            portals,
            volumes,
            peers,
            virtuals: mapped,
            groups,
            initiators,
            operators,
            pools,
            notes,
        }
    }

    /// What was added at run time to an object of the file. Of an object that the file no longer
    /// has, or that has it by itself now, nothing is added.
    pub(super) fn addition(&mut self, object: &Object, config: &mut Config) {
        let site = Site { file: "made at run time".to_owned(), line: 0, key: object.name.clone() };
        match object.kind {
            ObjectKind::Growth => {
                let size =
                    toml::from_str::<RawGrowth>(&object.toml).map_err(|error| error.message().to_owned());
                let size = match size.and_then(|raw| parse_size(&raw.size)) {
                    Ok(size) => size,
                    Err(reason) => return self.error_at(site, reason),
                };
                let of_file =
                    |volume: &&mut super::Volume| volume.name == object.name && volume.owner == Owner::File;
                if let Some(volume) = config.volumes.iter_mut().find(of_file)
                    && volume.size.is_none_or(|known| known < size)
                {
                    volume.grown = Some(size);
                    volume.size = Some(size);
                }
            }
            ObjectKind::Loan => {
                let raw: RawLoan = match toml::from_str(&object.toml) {
                    Ok(raw) => raw,
                    Err(error) => return self.error_at(site, error.message().to_owned()),
                };
                let own = config.volumes.iter().filter(|volume| volume.is_served()).map(|volume| volume.lun);
                let known: Vec<Lun> = own.chain(config.virtuals.iter().map(|one| one.lun)).collect();
                let lent = raw.luns.into_iter().filter_map(|number| Lun::new(u16::try_from(number).ok()?));
                let of_file = |initiator: &&mut super::Initiator| {
                    initiator.iqn == object.name && initiator.owner == Owner::File
                };
                if let Some(initiator) = config.initiators.iter_mut().find(of_file) {
                    for lun in lent.filter(|lun| known.contains(lun)) {
                        if !initiator.luns.contains(&lun) {
                            initiator.added.push(lun);
                            initiator.luns.push(lun);
                        }
                    }
                    initiator.added.sort_unstable();
                    initiator.luns.sort_unstable();
                }
            }
            ObjectKind::Volume
            | ObjectKind::Initiator
            | ObjectKind::Peer
            | ObjectKind::Virtual
            | ObjectKind::Group => {}
        }
    }

    /// The configuration, or its errors in the order of the file.
    pub(super) fn finish(mut self, config: Config) -> Result<Config, ConfigErrors> {
        self.errors.sort_by_key(|error| error.site.line);
        if self.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(self.errors)) }
    }

    /// Refuses the second of two equal values. `what` is "the LUN", "the name"...
    pub(super) fn once<T: Hash + Eq>(&mut self, seen: &mut HashMap<T, usize>, value: T, at: &At, what: &str) {
        let line = self.site(at).line;
        if let Some(first) = seen.get(&value) {
            let reason = match *first {
                0 => format!("{what} is already used by what was made at run time"),
                first => format!("{what} is already used in line {first}"),
            };
            self.error(at, reason);
        } else {
            seen.insert(value, line);
        }
    }

    /// Runs a check whose error is a sentence.
    pub(super) fn check(&mut self, at: &At, result: Result<(), String>) {
        if let Err(reason) = result {
            self.error(at, reason);
        }
    }

    pub(super) fn size(&mut self, table: &str, key: &str, value: Maybe<String>) -> Option<(ByteLen, At)> {
        let (text, at) = split(table, key, value?);
        match parse_size(&text) {
            Ok(size) => Some((size, at)),
            Err(reason) => {
                self.error(&at, reason);
                None
            }
        }
    }

    /// A time within limits, or the fallback.
    pub(super) fn time(
        &mut self,
        table: &str,
        key: &str,
        value: Maybe<String>,
        limits: RangeInclusive<Duration>,
        fallback: Duration,
    ) -> Duration {
        let Some(value) = value else { return fallback };
        let (text, at) = split(table, key, value);
        match parse_time(&text) {
            Ok(time) if limits.contains(&time) => time,
            Ok(_) => {
                self.error(&at, format!("must be {:?} to {:?}", limits.start(), limits.end()));
                fallback
            }
            Err(reason) => {
                self.error(&at, reason);
                fallback
            }
        }
    }

    /// A whole number within limits.
    pub(super) fn number<T: TryFrom<i64> + PartialOrd + std::fmt::Display>(
        &mut self,
        table: &str,
        key: &str,
        value: Maybe<i64>,
        limits: RangeInclusive<T>,
    ) -> Option<T> {
        let (number, at) = split(table, key, value?);
        match T::try_from(number) {
            Ok(number) if limits.contains(&number) => Some(number),
            _ => {
                self.error(&at, format!("must be {} to {}", limits.start(), limits.end()));
                None
            }
        }
    }

    pub(super) fn lun(&mut self, at: &At, number: i64) -> Lun {
        match u16::try_from(number).ok().and_then(Lun::new) {
            Some(lun) => lun,
            None => {
                self.error(at, format!("a LUN is 0 to {}", Lun::MAX));
                Lun::ZERO
            }
        }
    }

    pub(super) fn luns(&mut self, table: &str, values: Vec<Spanned<i64>>) -> Vec<Lun> {
        let mut luns = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let (number, at) = split(table, &format!("luns[{index}]"), value);
            let lun = self.lun(&at, number);
            if luns.contains(&lun) {
                self.error(&at, "the LUN is already in the list");
            } else {
                luns.push(lun);
            }
        }
        luns.sort_unstable();
        luns
    }

    /// One of a few words.
    pub(super) fn word<T: Clone>(
        &mut self,
        table: &str,
        key: &str,
        value: Maybe<String>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let (text, at) = split(table, key, value?);
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.error(&at, format!("\"{text}\" is not one of {}", known.join(", ")));
        }
        found.map(|(_, value)| value.clone())
    }

    pub(super) fn address(&mut self, at: &At, text: &str) -> Option<SocketAddr> {
        match text.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                self.error(
                    at,
                    format!("\"{text}\" is not an address and port, such as 127.0.0.1:3260 or [::1]:3260"),
                );
                None
            }
        }
    }

    /// A path that is not empty.
    pub(super) fn path(&mut self, at: &At, text: String) -> std::path::PathBuf {
        if text.is_empty() || text.contains('\0') {
            self.error(at, "is not a path");
        }
        text.into()
    }
}

/// A value and its place.
pub(super) fn split<T>(table: &str, key: &str, value: Spanned<T>) -> (T, At) {
    let span = value.span();
    (value.into_inner(), At { span, key: format!("{table}.{key}") })
}

/// The dotted path of the innermost key whose key or value covers the start of a span.
fn key_at(text: &str, span: &Range<usize>) -> Option<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut path = Vec::new();
    in_table(table.get_ref(), span.start, &mut path);
    (!path.is_empty()).then(|| path.concat())
}

fn in_table(table: &DeTable<'_>, at: usize, path: &mut Vec<String>) -> bool {
    for (key, value) in table {
        let mark = path.len();
        path.push(if mark == 0 { key.get_ref().to_string() } else { format!(".{}", key.get_ref()) });
        if in_value(value, at, path) || key.span().contains(&at) {
            return true;
        }
        path.truncate(mark);
    }
    false
}

fn in_value(value: &Spanned<DeValue<'_>>, at: usize, path: &mut Vec<String>) -> bool {
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, at, path) || value.span().contains(&at),
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                path.push(format!("[{index}]"));
                if in_value(element, at, path) {
                    return true;
                }
                path.pop();
            }
            value.span().contains(&at)
        }
        _ => value.span().contains(&at),
    }
}
