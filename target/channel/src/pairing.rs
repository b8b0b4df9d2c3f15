//! Pairs and groups at a core: mail between fronts and groups, ends of far commands, and what the daemon asks.
//!
//! Mail within a core is delivered in the round in which it was sent; that to another core takes the queues. Called by the
//! core once a round; where there is no pair, it looks at two empty lists.

use crate::core::Core;
use crate::hub::Hub;
use crate::inbox::GroupControl;
use crate::message::PairMail;
use crate::unit::{PairSeed, Unit};
use kagami_reactor::Io;

/// The most mail that one round delivers: what is left comes with the next, after the sockets.
const MOST_MAIL: usize = 4096;

impl<S: Send> Hub<S> {
    /// Mail for a front or a group of this core.
    pub(crate) fn pair_mail<I: Io<Stream = S>>(&mut self, mail: PairMail, io: &mut I) {
        match mail {
            PairMail::ToGroup(index, volume, mail) => {
                self.with_unit(index, None, io, |unit, cx| unit.group_mail(volume, mail, cx));
            }
            PairMail::ToFront(index, mail) => {
                self.with_unit(index, None, io, |unit, cx| unit.front_mail(mail, cx));
            }
        }
    }

    /// Whether there is something to deliver.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        !(self.mail.is_empty() && self.far_ends.is_empty())
    }

    /// Delivers mail of this core, and ends of far commands to their groups.
    pub(crate) fn deliver_mail<I: Io<Stream = S>>(&mut self, io: &mut I) {
        for _ in 0..MOST_MAIL {
            if let Some((unit, tag, end)) = self.far_ends.pop_front() {
                self.with_unit(unit, None, io, |unit, cx| unit.group_far(tag, end, cx));
            } else if let Some(mail) = self.mail.pop_front() {
                self.pair_mail(mail, io);
            } else {
                return;
            }
        }
    }

    fn unit_at(&mut self, index: u32) -> Option<&mut Option<Unit>> {
        self.units.get_mut(index as usize).filter(|unit| unit.is_some())
    }

    fn pair<I: Io<Stream = S>>(&mut self, index: u32, seed: PairSeed, io: &mut I) -> Result<(), String> {
        let place = self.unit_at(index).ok_or("there is no such volume")?;
        let is_new = seed.is_new;
        if let Some(unit) = place {
            unit.may_pair()?;
        }
        *place = place.take().map(|unit| unit.paired(seed));
        self.with_unit(index, None, io, |unit, cx| unit.begin_pair(is_new, cx));
        Ok(())
    }

    fn unpair<I: Io<Stream = S>>(&mut self, index: u32, io: &mut I) -> Result<(), String> {
        let place = self.unit_at(index).ok_or("there is no such volume")?;
        match place {
            // An earlier attempt got so far.
            Some(unit) if !unit.is_paired() => return Ok(()),
            Some(unit) => unit.may_unpair()?,
            None => {}
        }
        *place = place.take().map(Unit::unpaired);
        self.with_unit(index, None, io, |unit, cx| {
            unit.refresh_readiness();
            unit.volume.set_write_back(cx, unit.server.write_cache_enabled());
        });
        Ok(())
    }
}

impl<I: Io> Core<I> {
    /// What the daemon asks of pairs and groups.
    pub(crate) fn group_control(&mut self, io: &mut I, unit: u32, control: GroupControl) {
        let hub = &mut self.hub;
        match control {
            GroupControl::Add { seed, answer } => {
                let mut random = [0; 16];
                let made = match self.random.fill(&mut random) {
                    Ok(()) => match hub.unit_at(unit) {
                        Some(Some(unit)) => unit.add_group(*seed, u128::from_be_bytes(random)),
                        _ => Err("there is no such volume".to_owned()),
                    },
                    Err(error) => Err(error.to_string()),
                };
                let _ = answer.try_send(made);
            }
            GroupControl::Pair { seed, answer } => drop(answer.try_send(hub.pair(unit, *seed, io))),
            GroupControl::Unpair { answer } => drop(answer.try_send(hub.unpair(unit, io))),
            GroupControl::Start => drop(hub.with_unit(unit, None, io, Unit::start_group)),
            GroupControl::Order { order, answer } => {
                hub.with_unit(unit, None, io, |unit, cx| unit.order_group(order, answer, cx));
            }
            GroupControl::Reshape { volumes, joins, answer } => {
                hub.with_unit(unit, None, io, |unit, cx| unit.reshape_group(volumes, joins, answer, cx));
            }
            GroupControl::Behave { options, answer } => {
                hub.with_unit(unit, None, io, |unit, cx| {
                    let _ = answer.try_send(unit.set_group_options(*options, cx));
                });
            }
            GroupControl::Report { answer } => {
                let report = match hub.unit_at(unit) {
                    Some(Some(unit)) => unit.report_group(io.now()),
                    _ => None,
                };
                let _ = answer.try_send(report.map(Box::new));
            }
            GroupControl::Remove { answer } => {
                let unit = hub.unit_at(unit).and_then(Option::as_mut);
                let was_there = unit.is_some_and(Unit::remove_group);
                let _ = answer.try_send(was_there);
            }
        }
    }
}
