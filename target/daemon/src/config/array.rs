//! `[array]` and `[[portal]]`.

use super::context::{At, Context, split};
use super::model::{Array, Digest, Idle, Initiator, Portal, PortalRole, Site};
use super::names::{check_iscsi_name, check_name};
use super::raw::{Maybe, OneOrMore, RawArray, RawPortal, Tables};
use kagami_types::ByteLen;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use toml::Spanned;

/// The most portals that an array listens on.
const MAX_PORTALS: usize = 64;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

impl Context {
    /// `[array]`, and the portals of `listen`.
    pub(super) fn array(&mut self, raw: Spanned<RawArray>) -> (Array, Vec<Portal>) {
        const T: &str = "array";
        let table = At { span: raw.span(), key: T.to_owned() };
        let raw = raw.into_inner();
        let (name, iqn, data) = self.identity(&table, raw.name, raw.iqn, raw.data);
        let mut array = Array::new(&name, &iqn, data);
        array.cores_site = self.site(&table);
        array.cache_site = self.site(&table);

        let open = self.word(T, "auth", raw.auth, &[("none", true), ("chap", false)]).unwrap_or(false);
        let portals = self.listen(raw.listen, open, &table);
        if let Some(value) = raw.cores {
            array.cores = Some(self.cores(value, &mut array.cores_site));
        }
        if let Some((size, at)) = self.size(T, "cache", raw.cache) {
            array.cache = size;
            array.cache_site = self.site(&at);
        }
        if let Some((size, _)) = self.size(T, "ram", raw.ram) {
            array.ram = size;
        }
        if let Some(value) = raw.metrics {
            let (text, at) = split(T, "metrics", value);
            array.metrics = self.address(&at, &text);
        }
        if let Some(value) = raw.admin {
            let (text, at) = split(T, "admin", value);
            if text.len() > 107 {
                self.error(&at, "the path of a socket has at most 107 bytes");
            }
            array.admin = Some(self.path(&at, text));
        }
        let idles = [("adaptive", Idle::Adaptive), ("spin", Idle::Spin)];
        array.idle = self.word(T, "idle", raw.idle, &idles).unwrap_or(array.idle);
        if let Some(value) = raw.congestion {
            array.congestion = self.congestion(value);
        }
        self.digests("header_digest", raw.header_digest, &mut array.header_digest);
        self.digests("data_digest", raw.data_digest, &mut array.data_digest);

        array.nop_interval =
            self.time(T, "nop_interval", raw.nop_interval, Duration::ZERO..=HOUR, array.nop_interval);
        array.nop_timeout = self.time(T, "nop_timeout", raw.nop_timeout, SECOND..=HOUR, array.nop_timeout);
        array.login_timeout =
            self.time(T, "login_timeout", raw.login_timeout, SECOND..=HOUR, array.login_timeout);
        array.io_timeout = self.time(T, "io_timeout", raw.io_timeout, SECOND..=HOUR, array.io_timeout);
        array.stop_timeout =
            self.time(T, "stop_timeout", raw.stop_timeout, Duration::ZERO..=HOUR, array.stop_timeout);

        let sessions_given = raw.max_sessions.is_some();
        let connections_at = raw.max_connections.as_ref().map(Spanned::span);
        self.set(&mut array.max_sessions, "max_sessions", raw.max_sessions, 1..=65_535);
        self.set(&mut array.max_connections, "max_connections", raw.max_connections, 1..=131_072);
        if let Some(span) = connections_at {
            if array.max_connections < array.max_sessions && sessions_given {
                let at = At { span, key: "array.max_connections".to_owned() };
                self.error(&at, "must be at least max_sessions: every session has a connection");
            }
            array.max_sessions = array.max_sessions.min(array.max_connections);
        } else if sessions_given {
            // A quarter more than sessions: room for logins under way and for second connections.
            array.max_connections = array.max_sessions + array.max_sessions / 4 + 16;
        }
        if let Some(n) = self.number(T, "connections_per_session", raw.connections_per_session, 1..=64) {
            array.connections_per_session = n;
        }
        self.set(&mut array.queue_depth, "queue_depth", raw.queue_depth, 1..=4096);
        self.set(&mut array.tasks, "tasks", raw.tasks, 16..=65_536);
        self.set(&mut array.max_volumes, "max_volumes", raw.max_volumes, 1..=16_384);
        array.huge_pages = raw.huge_pages.map_or(array.huge_pages, Spanned::into_inner);
        self.bursts(&mut array, raw.first_burst, raw.max_burst);
        (array, portals)
    }

    fn identity(
        &mut self,
        table: &At,
        name: Maybe<String>,
        iqn: Maybe<String>,
        data: Maybe<String>,
    ) -> (String, String, std::path::PathBuf) {
        let name = match name {
            Some(value) => {
                let (name, at) = split("array", "name", value);
                self.check(&at, check_name(&name));
                name
            }
            None => {
                self.error(table, "name is missing");
                String::new()
            }
        };
        let iqn = match iqn {
            Some(value) => {
                let (iqn, at) = split("array", "iqn", value);
                self.check(&at, check_iscsi_name(&iqn));
                iqn
            }
            None => format!("iqn.2026-11.io.kagami:{}", name.to_ascii_lowercase()),
        };
        let data = match data {
            Some(value) => {
                let (data, at) = split("array", "data", value);
                self.path(&at, data)
            }
            None => {
                self.error(table, "data is missing: the folder in which the array keeps its tables");
                std::path::PathBuf::new()
            }
        };
        (name, iqn, data)
    }

    fn set(&mut self, into: &mut u32, key: &str, value: Maybe<i64>, limits: std::ops::RangeInclusive<u32>) {
        if let Some(n) = self.number("array", key, value, limits) {
            *into = n;
        }
    }

    fn listen(&mut self, listen: Option<Vec<Spanned<String>>>, open: bool, table: &At) -> Vec<Portal> {
        let Some(listen) = listen else {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, super::ISCSI_PORT));
            return vec![Portal { address, role: PortalRole::Both, open, site: self.site(table) }];
        };
        let mut portals = Vec::new();
        for (index, value) in listen.into_iter().enumerate() {
            let (text, at) = split("array", &format!("listen[{index}]"), value);
            if let Some(address) = self.address(&at, &text) {
                portals.push(Portal { address, role: PortalRole::Both, open, site: self.site(&at) });
            }
        }
        portals
    }

    /// `[[portal]]`, added to those of `listen`; where there is any, the default portal goes.
    pub(super) fn portals(&mut self, raw: Tables<RawPortal>, portals: &mut Vec<Portal>) {
        if !raw.is_empty() && portals.iter().all(|portal| portal.site.key == "array") {
            portals.clear();
        }
        for (index, value) in raw.into_iter().enumerate() {
            let table = format!("portal[{index}]");
            let raw = value.into_inner();
            let (text, at) = split(&table, "address", raw.address);
            let roles = [("host", PortalRole::Host), ("peer", PortalRole::Peer)];
            let role = self.word(&table, "role", raw.role, &roles).unwrap_or(PortalRole::Both);
            let open = self.word(&table, "auth", raw.auth, &[("none", true), ("chap", false)]);
            if let Some(address) = self.address(&at, &text) {
                portals.push(Portal { address, role, open: open.unwrap_or(false), site: self.site(&at) });
            }
        }
        let mut seen = HashMap::new();
        for portal in portals.iter() {
            // Port 0 takes whatever is free, so it may be written several times.
            if portal.address.port() == 0 {
                continue;
            }
            if let Some(first) = seen.insert(portal.address, portal.site.line) {
                self.error_at(portal.site.clone(), format!("the address is already used in line {first}"));
            }
        }
        if let Some(portal) = portals.get(MAX_PORTALS) {
            self.error_at(portal.site.clone(), format!("an array has at most {MAX_PORTALS} portals"));
        }
        if portals.is_empty() {
            let site = Site { key: "array.listen".to_owned(), ..Site::default() };
            self.error_at(site, "there is no portal to listen on");
        }
    }

    /// A portal beyond loopback wants CHAP of every initiator, unless it was opened in writing.
    pub(super) fn open_portals(&mut self, portals: &[Portal], initiators: &[Initiator]) {
        for portal in portals.iter().filter(|portal| !portal.is_loopback() && !portal.open) {
            if portal.role == PortalRole::Peer {
                continue;
            }
            let why = match initiators.iter().find(|initiator| initiator.chap.is_none()) {
                Some(initiator) => format!("initiator {} has no chap", initiator.iqn),
                None if initiators.is_empty() => "no initiator with chap is listed".to_owned(),
                None => continue,
            };
            let reason = format!(
                "{} is reachable from beyond this machine and {why}; give every initiator chap, or write auth = \"none\"",
                portal.address
            );
            self.error_at(portal.site.clone(), reason);
        }
    }

    fn cores(&mut self, value: Spanned<Vec<Spanned<i64>>>, site: &mut Site) -> Vec<u32> {
        let (list, at) = split("array", "cores", value);
        *site = self.site(&at);
        if list.is_empty() || list.len() > 1024 {
            self.error(&at, "name at least one CPU, and at most 1024");
        }
        let mut cores = Vec::new();
        for (index, value) in list.into_iter().enumerate() {
            let (number, at) = split("array", &format!("cores[{index}]"), value);
            match u32::try_from(number) {
                Ok(cpu) if cores.contains(&cpu) => self.error(&at, "the CPU is already in the list"),
                Ok(cpu) => cores.push(cpu),
                Err(_) => self.error(&at, "is not the number of a CPU"),
            }
        }
        cores
    }

    fn congestion(&mut self, value: Spanned<String>) -> Option<String> {
        let (text, at) = split("array", "congestion", value);
        // The kernel's own limit on the name is 16 bytes with the closing zero.
        let known = !text.is_empty()
            && text.len() < 16
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !known {
            self.error(
                &at,
                "is not the name of a congestion control; \"cubic\", \"bbr\", or \"system\" to leave it",
            );
        }
        (text != "system").then_some(text)
    }

    fn digests(&mut self, key: &str, value: Maybe<OneOrMore>, digests: &mut Vec<Digest>) {
        let Some(value) = value else { return };
        let (words, at) = split("array", key, value);
        let words = match words {
            OneOrMore::One(word) => vec![word],
            OneOrMore::More(words) => words,
        };
        let mut wanted = Vec::new();
        for word in words {
            let digest = match word.as_str() {
                "none" => Digest::None,
                "crc32c" => Digest::Crc32c,
                other => {
                    self.error(&at, format!("\"{other}\" is not one of \"none\", \"crc32c\""));
                    continue;
                }
            };
            if wanted.contains(&digest) {
                self.error(&at, format!("\"{word}\" is in the list twice"));
            }
            wanted.push(digest);
        }
        if wanted.is_empty() {
            self.error(&at, "the list is empty");
        }
        *digests = wanted;
    }

    fn bursts(&mut self, array: &mut Array, first: Maybe<String>, max: Maybe<String>) {
        if let Some((size, at)) = self.size("array", "max_burst", max) {
            array.max_burst = self.burst(&at, size, array.max_burst);
            array.first_burst = array.first_burst.min(array.max_burst);
        }
        if let Some((size, at)) = self.size("array", "first_burst", first) {
            array.first_burst = self.burst(&at, size, array.first_burst);
            if array.first_burst > array.max_burst {
                self.error(&at, "must not be more than max_burst (RFC 7143 13.14)");
            }
        }
    }

    fn burst(&mut self, at: &At, size: ByteLen, fallback: u32) -> u32 {
        match u32::try_from(size.0) {
            Ok(bytes) if (4096..=16 << 20).contains(&bytes) => bytes.min((1 << 24) - 1),
            _ => {
                self.error(at, "must be 4KiB to 16MiB");
                fallback
            }
        }
    }
}
