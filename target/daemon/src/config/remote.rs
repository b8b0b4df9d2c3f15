//! `[[peer]]` and `[[virtual]]`.

use super::context::{At, Context, split};
use super::model::{Orders, Peer, Role, Virtual, Volume};
use super::names::{check_iscsi_name, check_name};
use super::raw::{RawPeer, RawVirtual, Tables};
use kagami_link::LinkPlan;
use std::collections::HashMap;
use std::time::Duration;

/// The most peers that are listed.
const MAX_PEERS: usize = 256;
const HOUR: Duration = Duration::from_secs(3600);

impl Context {
    /// Checks both kinds of tables.
    pub(super) fn remote(
        &mut self,
        peers: Tables<RawPeer>,
        virtuals: Tables<RawVirtual>,
        volumes: &[Volume],
    ) -> (Vec<Peer>, Vec<Virtual>) {
        let peers = self.peers(peers);
        let mut luns: HashMap<_, _> = volumes.iter().map(|v| (v.lun, v.site.line)).collect();
        let mut mapped = Vec::new();
        let mut known: HashMap<_, _> = volumes.iter().map(|v| (v.name.clone(), v.site.line)).collect();
        for (index, value) in virtuals.into_iter().enumerate() {
            let table = format!("virtual[{index}]");
            let place = At { span: value.span(), key: table.clone() };
            let raw = value.into_inner();
            let (number, at) = split(&table, "lun", raw.lun);
            let lun = self.lun(&at, number);
            self.once(&mut luns, lun, &at, &lun.to_string());
            let (number, at) = split(&table, "mapped_lun", raw.mapped_lun);
            let mapped_lun = self.lun(&at, number);
            let (peer, at) = split(&table, "peer", raw.peer);
            self.known_peer(&at, &peer, &peers);
            let command = self.word(&table, "role", raw.role, &[("command", ())]).is_some();
            let role = if command { Role::Command } else { Role::Plain };
            let name = match raw.name {
                Some(name) => {
                    let (name, at) = split(&table, "name", name);
                    self.check(&at, check_name(&name));
                    self.once(&mut known, name.clone(), &at, "the name");
                    name
                }
                None => format!("{peer}:{}", mapped_lun.number()),
            };
            let (site, owner) = (self.site(&place), self.owner(&place));
            mapped.push(Virtual { site, owner, name, lun, peer, mapped_lun, role });
        }
        (peers, mapped)
    }

    fn peers(&mut self, raw: Tables<RawPeer>) -> Vec<Peer> {
        let mut seen = HashMap::new();
        let mut peers = Vec::new();
        for (index, value) in raw.into_iter().enumerate() {
            let table = format!("peer[{index}]");
            let place = At { span: value.span(), key: table.clone() };
            let raw = value.into_inner();
            let (name, at) = split(&table, "name", raw.name);
            self.check(&at, check_name(&name));
            self.once(&mut seen, name.clone(), &at, "the peer");
            if index == MAX_PEERS {
                self.error(&place, format!("at most {MAX_PEERS} peers can be listed"));
                break;
            }
            let (iqn, at) = split(&table, "iqn", raw.iqn);
            self.check(&at, check_iscsi_name(&iqn));
            let both = raw.portal.is_some() && raw.portals.is_some();
            let mut portals = raw.portals.unwrap_or_default();
            portals.extend(raw.portal);
            if both || portals.is_empty() {
                self.error(&place, "needs portal = \"address:port\" or portals = [...], one of them");
            }
            let portals = portals.into_iter().filter_map(|portal| {
                let (text, at) = split(&table, "portal", portal);
                self.address(&at, &text)
            });
            let portals = portals.collect();
            let limits = Duration::from_millis(100)..=HOUR;
            let timed = raw.io_timeout.is_some();
            let io_timeout = self.time(&table, "io_timeout", raw.io_timeout, limits, HOUR);
            let words = [("signed", Orders::Signed), ("forward", Orders::Forward), ("none", Orders::None)];
            peers.push(Peer {
                site: self.site(&place),
                owner: self.owner(&place),
                name,
                iqn,
                portals,
                io_timeout: timed.then_some(io_timeout),
                connections: self
                    .number(&table, "connections", raw.connections, 1..=LinkPlan::MOST)
                    .unwrap_or(1),
                orders: self.word(&table, "orders", raw.orders, &words).unwrap_or(Orders::Signed),
                luns: self.luns(&table, raw.luns),
                chap: raw.chap.map(|chap| self.chap(&table, chap)),
            });
        }
        peers
    }

    pub(super) fn known_peer(&mut self, at: &At, peer: &str, peers: &[Peer]) {
        if peers.iter().all(|known| known.name != peer) {
            self.error(at, format!("there is no peer \"{peer}\""));
        }
    }
}
