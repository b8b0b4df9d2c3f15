//! `[[initiator]]` and `[[operator]]`.

use super::context::{At, Context, split};
use super::model::{Chap, Credential, Initiator, Operator, Owner, Rights};
use super::names::{check_iscsi_name, check_name};
use super::raw::{Maybe, RawChap, RawInitiator, RawOperator, Tables};
use kagami_types::Lun;
use std::collections::HashMap;
use toml::Spanned;

/// The most initiators that are listed.
const MAX_INITIATORS: usize = 4096;
/// The longest CHAP name (RFC 7143 12.1.3 leaves it to text values, 13.1: 255 bytes).
const MAX_USER: usize = 255;

impl Context {
    pub(super) fn initiators(
        &mut self,
        raw: Tables<RawInitiator>,
        known: &[Lun],
        notes: &mut Vec<String>,
    ) -> Vec<Initiator> {
        let mut seen = HashMap::new();
        let mut initiators = Vec::new();
        for (index, value) in raw.into_iter().enumerate() {
            let table = format!("initiator[{index}]");
            let place = At { span: value.span(), key: table.clone() };
            if index == MAX_INITIATORS {
                self.error(&place, format!("at most {MAX_INITIATORS} initiators can be listed"));
                break;
            }
            let raw = value.into_inner();
            let (iqn, at) = split(&table, "iqn", raw.iqn);
            self.check(&at, check_iscsi_name(&iqn));
            self.once(&mut seen, iqn.clone(), &at, "the initiator");
            let places: Vec<_> = raw.luns.iter().map(Spanned::span).collect();
            let mut luns = self.luns(&table, raw.luns);
            let owner = self.owner(&place);
            if owner == Owner::RunTime {
                // The file's volumes may have gone since: that must not keep the array from starting.
                luns.retain(|lun| {
                    let there = known.contains(lun);
                    if !there {
                        notes.push(format!(
                            "initiator {iqn} was given {lun} at run time, which is no longer there"
                        ));
                    }
                    there
                });
            }
            for lun in &luns {
                if !known.contains(lun) {
                    let span = places.first().cloned().unwrap_or(place.span.clone());
                    self.error(
                        &At { span, key: format!("{table}.luns") },
                        format!("there is no volume with {lun}"),
                    );
                }
            }
            let rights = self.rights(&table, raw.rights);
            let chap = raw.chap.map(|raw| self.chap(&table, raw));
            let site = self.site(&place);
            initiators.push(Initiator { site, owner, iqn, luns, added: Vec::new(), rights, chap });
        }
        initiators
    }

    pub(super) fn operators(&mut self, raw: Tables<RawOperator>) -> Vec<Operator> {
        let mut seen = HashMap::new();
        let mut operators = Vec::new();
        for (index, value) in raw.into_iter().enumerate() {
            let table = format!("operator[{index}]");
            let place = At { span: value.span(), key: table.clone() };
            let raw = value.into_inner();
            let (name, at) = split(&table, "name", raw.name);
            self.check(&at, check_name(&name));
            self.once(&mut seen, name.clone(), &at, "the operator");
            let (file, at) = split(&table, "key_file", raw.key_file);
            let key_file = self.path(&at, file);
            let rights = self.rights(&table, raw.rights);
            operators.push(Operator { site: self.site(&place), name, key_file, rights });
        }
        operators
    }

    pub(super) fn rights(&mut self, table: &str, value: Maybe<String>) -> Rights {
        let words = [("read", Rights::Read), ("operate", Rights::Operate), ("admin", Rights::Admin)];
        self.word(table, "rights", value, &words).unwrap_or(Rights::Read)
    }

    pub(super) fn chap(&mut self, table: &str, raw: RawChap) -> Chap {
        let credential = self.credential(&format!("{table}.chap"), raw.user, raw.secret_file);
        let mutual = raw.mutual.map(|raw| {
            let mutual = self.credential(&format!("{table}.chap.mutual"), raw.user, raw.secret_file);
            if mutual.secret_file == credential.secret_file {
                self.error_at(
                    mutual.site.clone(),
                    "the two directions must not share a secret (RFC 7143 9.2.1)",
                );
            }
            mutual
        });
        Chap { credential, mutual }
    }

    fn credential(&mut self, table: &str, user: Spanned<String>, file: Spanned<String>) -> Credential {
        let (user, at) = split(table, "user", user);
        if user.is_empty() || user.len() > MAX_USER || user.chars().any(char::is_control) {
            self.error(&at, format!("a CHAP name has 1 to {MAX_USER} bytes and no control characters"));
        }
        let (file, at) = split(table, "secret_file", file);
        let site = self.site(&at);
        Credential { user, secret_file: self.path(&at, file), site }
    }
}
