//! What a group says: its page, what the peer may read, and its report to people.

use super::link::Heard;
use super::{GroupPlan, Live, PeerRead};
use crate::context::Context;
use crate::mail::Mode;
use crate::page::{PAGE, READER_PAGE_AT, Reading, Serial, StatusPage};
use crate::record::{Side, State};
use crate::report::{Bottleneck, Positions, Report};
use crate::sink::Stage;
use kagami_types::{Epoch, JournalPos, Time};
use std::time::Duration;

impl Live {
    /// The own page. All states in it are durable.
    fn page(&mut self, wall: u64) -> StatusPage {
        self.pages += 1;
        let durable = self.saver.durable();
        let block = &durable.block;
        let record = durable.record.clone();
        let (mut stable, mut stable_sequence) =
            (JournalPos { epoch: block.epoch, offset: block.stable }, block.sequence);
        let (mut out, mut newest_time) = (block.out, 0);
        if let Some(source) = self.source.as_ref().filter(|_| self.source_begun) {
            (stable, stable_sequence) = source.stable();
            out = source.readable().0;
            newest_time = source.newest();
        }
        let reads = record.side == Side::Secondary && record.formation.is_some();
        let reading = Reading {
            request: record.formation.filter(|_| reads).map_or(0, |formation| formation.request),
            read: JournalPos { epoch: block.read_epoch, offset: block.read },
            restored: block.restored,
            restored_sequence: block.restored_sequence,
            restored_time: block.restored_time,
            read_sequence: block.read_sequence,
        };
        let (orders, answers) = self.orders.for_page();
        StatusPage {
            serial: Serial { version: block.version, counter: self.pages },
            array: self.plan.own_array,
            group: self.plan.group,
            recovering: self.recovering || (record.journals() && !self.source_begun),
            cancel: self.cancel,
            stable,
            stable_sequence,
            epochs: block.parents.iter().map(|epoch| epoch.0).collect(),
            out,
            newest_time,
            wall,
            data_len: block.layout.data_len,
            bitmap_at: block.layout.bitmap_at[0],
            bitmap_len: block.layout.bitmap_len,
            volumes: u32::try_from(self.plan.volumes.len()).unwrap_or(u32::MAX),
            shape: self.shape,
            difference: if record.bits == 0 { 0 } else { self.difference.count() },
            record,
            reading,
            orders,
            answers,
        }
    }

    /// Writes the own page to the other side where something is new that it does not come for.
    pub(super) fn speak(&mut self, cx: &mut Context<'_>) {
        let record = self.record();
        let waits = record.state == State::Smpl && !record.deleted
            || record.fence.is_some()
            || record.journals() && record.formation.is_none()
            || self.waits_to_serve();
        self.link.busy = !self.orders.is_empty() || waits;
        if self.link.may_write(cx.now) && !self.recovering {
            let page = self.page(cx.wall).encode();
            self.link.write(cx, &page);
        }
    }

    pub(super) fn on_peer_write(&mut self, cx: &mut Context<'_>, at: u64, bytes: &[u8]) -> bool {
        if at != READER_PAGE_AT || bytes.len() != PAGE {
            return false;
        }
        self.asked = cx.now;
        if self.link.take(cx.now, cx.wall, bytes, None) == Heard::Page {
            self.on_page(cx);
        }
        self.turn(cx);
        true
    }

    pub(super) fn on_peer_read(&mut self, cx: &mut Context<'_>, at: u64, len: u32) -> PeerRead {
        let bytes = u64::from(len);
        if at == 0 && bytes == PAGE as u64 {
            self.asked = cx.now;
            let page = self.page(cx.wall).encode();
            return super::pages(cx.pool, &page).map_or(PeerRead::Refused, PeerRead::Bytes);
        }
        let layout = self.layout();
        let within = |from: u64, size: u64| at >= from && bytes <= size && at - from <= size - bytes;
        if within(layout.bitmap_at[0], layout.bitmap_len) {
            return PeerRead::Device { at, len };
        }
        if !within(layout.data_at, layout.data_len) {
            return PeerRead::Refused;
        }
        let (out, stable) = match &self.source {
            Some(source) => source.readable(),
            None => (self.saver.durable().block.out, self.saver.durable().block.stable),
        };
        // The first place from `out` on that lies there.
        let place = at - layout.data_at;
        let offset = out + (place + layout.data_len - out % layout.data_len) % layout.data_len;
        if offset + bytes > stable {
            return PeerRead::Refused;
        }
        self.asked = cx.now;
        PeerRead::Device { at, len }
    }

    pub(super) fn report(&self, now: Time, wall: u64) -> Report {
        let durable = self.saver.durable();
        let (block, record) = (&durable.block, &durable.record);
        let far = self.link.far.as_deref();
        let mut positions = Positions {
            out: block.out,
            stable: block.stable,
            stable_sequence: block.sequence,
            read: block.read,
            read_target: block.read,
            restored: block.restored,
            restored_sequence: block.restored_sequence,
            restore_target: block.restore_target,
        };
        let reads = record.side == Side::Secondary && matches!(record.state, State::Copy | State::Pair);
        let same = |far: &&StatusPage| match (record.formation, far.record.formation) {
            (Some(own), Some(theirs)) => own.request == theirs.request,
            _ => false,
        };
        match (record.side, far.filter(same)) {
            (Side::Primary, Some(far)) if far.record.side == Side::Secondary => {
                positions.read = far.reading.read.offset;
                positions.read_target = far.reading.read.offset;
                positions.restored = far.reading.restored;
                positions.restored_sequence = far.reading.restored_sequence;
                positions.restore_target = far.reading.read.offset;
            }
            (Side::Secondary, Some(far)) if far.record.side == Side::Primary => {
                positions.out = far.out;
                positions.stable = far.stable.offset;
                positions.stable_sequence = far.stable_sequence;
                positions.read_target = far.stable.offset;
            }
            _ => {}
        }
        let mut report = Report {
            name: self.plan.name.clone(),
            side: record.side,
            state: if record.deleted { State::Smpl } else { record.state },
            fenced: record.fence.is_some() || record.overtaken,
            overtaken: record.overtaken,
            split_brain: self.split_brain,
            consistent: record.consistent,
            recovering: self.recovering || !self.serving,
            generation: record.generation.id,
            epoch: if reads { block.read_epoch } else { block.epoch },
            progress: self.progress(),
            far_state: far.map(|far| far.record.state),
            far_heard: self.link.heard_wall,
            far_error: self.link.error.clone(),
            positions,
            data_len: block.layout.data_len,
            data_at: block.layout.data_at,
            lag_bytes: 0,
            lag_writes: 0,
            lag_seconds: 0.0,
            consistent_at: if record.consistent { block.restored_time } else { 0 },
            journal_used: positions.stable.saturating_sub(positions.out),
            journal_passed: self.level.passed(),
            fill_rate: 0.0,
            drain_rate: 0.0,
            full_in: None,
            caught_up_in: None,
            bottleneck: Bottleneck::None,
            difference: self.difference.count(),
            last_error: if self.last_error.is_empty() {
                record.reason.clone()
            } else {
                self.last_error.clone()
            },
        };
        self.figures(&mut report, now, wall);
        report
    }

    /// Formation: parts of 10,000.
    fn progress(&self) -> Option<u32> {
        let record = self.record();
        if record.state != State::Copy {
            return None;
        }
        let left = match (record.side, self.link.far.as_deref()) {
            (Side::Secondary, _) => self.difference.count(),
            (Side::Primary, Some(far)) if far.record.state == State::Copy => far.difference,
            _ => self.difference.total(),
        };
        let total = self.difference.total().max(1);
        u32::try_from(total.saturating_sub(left).saturating_mul(10_000) / total).ok()
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn figures(&self, report: &mut Report, now: Time, wall: u64) {
        let positions = report.positions;
        if let Some(source) = &self.source {
            let figures = source.figures();
            let (stable, sequence) = source.stable();
            report.positions.out = source.readable().0;
            report.positions.stable = stable.offset;
            report.positions.stable_sequence = sequence;
            report.journal_used = figures.used;
            report.fill_rate = figures.fill_rate;
            report.drain_rate = figures.drain_rate;
            report.full_in = figures.full_in;
            report.caught_up_in = figures.caught_up_in;
            report.lag_bytes = stable.offset.saturating_sub(positions.restored);
            report.lag_writes = sequence.0.saturating_sub(positions.restored_sequence.0);
            if let Some(far) = self.link.far.as_deref().filter(|far| far.reading.restored_time > 0) {
                report.consistent_at = far.reading.restored_time;
                if report.lag_writes > 0 {
                    let behind = source.newest().saturating_sub(far.reading.restored_time);
                    report.lag_seconds = Duration::from_nanos(behind).as_secs_f64();
                }
            }
            if figures.waiting > 1000 {
                report.bottleneck = Bottleneck::Journal;
            }
        }
        if let Some(sink) = &self.sink {
            let figures = sink.figures(now, wall);
            report.lag_bytes = figures.lag_bytes;
            report.lag_writes = figures.lag_writes;
            report.lag_seconds = Duration::from_nanos(figures.lag_nanos).as_secs_f64();
            report.consistent_at = figures.consistent_at;
            report.journal_used = figures.used;
            report.drain_rate = figures.read_rate as f64;
            report.bottleneck = match figures.bottleneck {
                Stage::None | Stage::Held => Bottleneck::None,
                Stage::Link => Bottleneck::Link,
                Stage::Ingest => Bottleneck::Ingest,
                Stage::Restore => Bottleneck::Restore,
            };
        }
    }

    /// Whether hosts may write here right now: for checkers.
    pub(super) fn serves_writes(&self) -> bool {
        matches!(self.fronts.mode, Some(Mode::Plain | Mode::Journaling | Mode::Tracking))
    }
}

impl super::Group {
    /// Whether this side lets hosts write, as far as it has told its fronts: for tests and checkers.
    #[must_use]
    pub fn serves_writes(&self) -> bool {
        match &self.stage {
            super::Stage::Live(live) => live.serves_writes(),
            _ => false,
        }
    }
}

/// A group that has stopped.
pub(super) fn stopped(plan: &GroupPlan, why: &str) -> Report {
    Report {
        name: plan.name.clone(),
        side: plan.create.unwrap_or(Side::Primary),
        state: State::Psue,
        fenced: true,
        overtaken: false,
        split_brain: false,
        consistent: false,
        recovering: false,
        generation: 0,
        epoch: Epoch(0),
        progress: None,
        far_state: None,
        far_heard: 0,
        far_error: String::new(),
        positions: Positions::default(),
        data_len: 0,
        data_at: 0,
        lag_bytes: 0,
        lag_writes: 0,
        lag_seconds: 0.0,
        consistent_at: 0,
        journal_used: 0,
        journal_passed: 0,
        fill_rate: 0.0,
        drain_rate: 0.0,
        full_in: None,
        caught_up_in: None,
        bottleneck: Bottleneck::None,
        difference: 0,
        last_error: why.to_owned(),
    }
}
