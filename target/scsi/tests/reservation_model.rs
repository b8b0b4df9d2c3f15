//! Persistent reservations against a naive model, over random sequences of commands, logins
//! and restarts.
//!
//! The model keeps a map from initiator to key and the reservation as type and holder; it
//! knows neither nexus numbers nor gates nor unit attentions.

mod common;

use common::*;
use kagami_scsi::{Disposition, LogicalUnit, NexusId, fuzz};
use kagami_types::BlockSize;
use proptest::prelude::*;
use std::collections::BTreeMap;

const HOSTS: u32 = 4;

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    keys: BTreeMap<u32, u64>,
    /// Type and, unless all registrants hold it, the holder.
    held: Option<(u8, Option<u32>)>,
    generation: u32,
    aptpl: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Out { host: u32, action: u8, kind: u8, key: u64, new_key: u64, aptpl: bool },
    Relogin(u32),
    Restart,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Good,
    Conflict,
    Check,
}

impl Model {
    fn hold(&mut self, kind: u8, host: u32) {
        self.held = Some((kind, (kind < 7).then_some(host)));
    }

    fn is_holder(&self, host: u32) -> bool {
        match self.held {
            Some((_, Some(holder))) => holder == host,
            Some((_, None)) => self.keys.contains_key(&host),
            None => false,
        }
    }

    /// Registrations that are gone take what they held with them.
    fn settle(&mut self) {
        match self.held {
            Some((_, Some(holder))) if !self.keys.contains_key(&holder) => self.held = None,
            Some((_, None)) if self.keys.is_empty() => self.held = None,
            _ => {}
        }
    }

    fn out(&mut self, host: u32, action: u8, kind: u8, key: u64, new_key: u64, aptpl: bool) -> Outcome {
        let own = self.keys.get(&host).copied();
        let valid = matches!(kind, 1 | 3 | 5..=8);
        if action == 0 || action == 6 {
            if action == 0 && own.unwrap_or(0) != key {
                return Outcome::Conflict;
            }
            if own.is_none() && new_key == 0 {
                return Outcome::Good;
            }
            if new_key == 0 {
                self.keys.remove(&host)
            } else {
                self.keys.insert(host, new_key)
            };
            self.settle();
            self.generation += 1;
            self.aptpl = aptpl;
            return Outcome::Good;
        }
        if own != Some(key) {
            return Outcome::Conflict;
        }
        match action {
            1 if !valid => return Outcome::Check,
            1 => match self.held {
                None => self.hold(kind, host),
                Some((held, _)) if held == kind && self.is_holder(host) => {}
                Some(_) => return Outcome::Conflict,
            },
            2 if !valid => return Outcome::Check,
            2 => match self.held {
                Some((held, _)) if self.is_holder(host) && held != kind => return Outcome::Check,
                Some(_) if self.is_holder(host) => self.held = None,
                _ => {}
            },
            3 => {
                self.keys.clear();
                self.held = None;
                self.generation += 1;
            }
            _ => return self.preempt(host, kind, new_key),
        }
        Outcome::Good
    }

    fn preempt(&mut self, host: u32, kind: u8, victim: u64) -> Outcome {
        let valid = matches!(kind, 1 | 3 | 5..=8);
        let takes = match self.held {
            Some((_, None)) => victim == 0,
            Some((_, Some(holder))) => victim != 0 && self.keys[&holder] == victim,
            None => false,
        };
        if victim == 0 && !takes {
            return Outcome::Check;
        }
        if takes && !valid {
            return Outcome::Check;
        }
        if victim != 0 && !self.keys.values().any(|key| *key == victim) {
            return Outcome::Conflict;
        }
        self.keys.retain(|&other, key| (takes && other == host) || !(victim == 0 || *key == victim));
        if takes {
            self.hold(kind, host);
        }
        self.settle();
        self.generation += 1;
        Outcome::Good
    }

    fn may(&self, host: u32) -> (bool, bool) {
        let Some((kind, _)) = self.held else { return (true, true) };
        let full = self.is_holder(host) || (kind >= 5 && self.keys.contains_key(&host));
        (full || matches!(kind, 1 | 5 | 7), full)
    }

    fn restart(&mut self) {
        if !self.aptpl {
            *self = Self::default();
        }
        self.generation = 0;
    }
}

fn step() -> impl Strategy<Value = Step> {
    let out =
        (0..HOSTS, 0..7u8, prop_oneof![8 => (0..6usize).prop_map(|at| [1, 3, 5, 6, 7, 8][at]), 1 => 0..10u8])
            .prop_flat_map(|(host, action, kind)| {
                (Just((host, action, kind)), 0..4u64, 0..4u64, any::<bool>())
            })
            .prop_map(|((host, action, kind), key, new_key, aptpl)| Step::Out {
                host,
                action,
                kind,
                key,
                new_key,
                aptpl,
            });
    prop_oneof![30 => out, 2 => (0..HOSTS).prop_map(Step::Relogin), 1 => Just(Step::Restart)]
}

fn keys(rig: &mut Rig) -> Vec<u64> {
    let data = rig.data(0, &[0x5e, 0, 0, 0, 0, 0, 0, 1, 0]);
    let mut keys: Vec<u64> =
        data[8..].as_chunks::<8>().0.iter().map(|key| u64::from_be_bytes(*key)).collect();
    keys.sort_unstable();
    keys
}

fn compare(rig: &mut Rig, model: &Model) {
    for host in 0..HOSTS {
        rig.clear(host);
    }
    let mut expected: Vec<u64> = model.keys.values().copied().collect();
    expected.sort_unstable();
    assert_eq!(keys(rig), expected);
    let data = rig.data(0, &[0x5e, 1, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(data[..4], model.generation.to_be_bytes());
    let held = (data.len() > 8).then(|| (data[21], u64::from_be_bytes(data[8..16].try_into().unwrap())));
    let expected = model.held.map(|(kind, holder)| (kind, holder.map_or(0, |host| model.keys[&host])));
    assert_eq!(held, expected);
    for host in 0..HOSTS {
        let reads = rig.run(host, &ten(0x28, 0, 0, 1)) != CONFLICT;
        let writes = rig.run(host, &ten(0x2a, 0, 0, 1)) != CONFLICT;
        assert_eq!((reads, writes), model.may(host), "host {host}");
    }
}

fn apply(rig: &mut Rig, model: &mut Model, step: &Step) {
    match *step {
        Step::Out { host, action, kind, key, new_key, aptpl } => {
            let mut list = [key.to_be_bytes(), new_key.to_be_bytes(), [0; 8]].concat();
            list[20] = u8::from(aptpl);
            let answer = match rig.send(host, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24], &list) {
                Disposition::Good | Disposition::Deferred(_) => Outcome::Good,
                Disposition::Check(_) => Outcome::Check,
                other => {
                    assert_eq!(other, CONFLICT);
                    Outcome::Conflict
                }
            };
            let expected = model.out(host, action, kind, key, new_key, aptpl);
            assert_eq!(answer, expected, "{step:?}");
        }
        Step::Relogin(host) => {
            rig.unit.detach(NexusId(host));
            rig.unit.attach(NexusId(host), id(host), 1).unwrap();
        }
        Step::Restart => {
            let kept = rig.unit.snapshot();
            rig.unit = LogicalUnit::new(fuzz::config(BlockSize::B512, BLOCKS)).unwrap();
            rig.unit.restore(&kept).unwrap();
            for host in 0..HOSTS {
                rig.unit.attach(NexusId(host), id(host), 1).unwrap();
            }
            model.restart();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_model_agrees(steps in prop::collection::vec(step(), 1..60)) {
        let mut rig = Rig::new();
        let mut model = Model::default();
        for step in &steps {
            apply(&mut rig, &mut model, step);
            compare(&mut rig, &model);
        }
    }
}
