//! A host for the block server: one request at a time, everything checked.

use super::core::{ANSWER, HEADER, UNIT};
use kagami_sim::checker::{Checker, Ending, Flush, Read, Units, Write};
use kagami_sim::{Actor, ConnId, Rng, World};
use kagami_types::Time;
use std::net::SocketAddr;
use std::time::Duration;

enum Open {
    Read(Read, Units),
    Write(Write, bool),
    Flush(Flush),
}

pub struct MiniHost {
    pub checker: Checker,
    pub rng: Rng,
    pub number: usize,
    pub conn: Option<ConnId>,
    pub budget: u32,
    finished: u64,
    out: Vec<u8>,
    received: Vec<u8>,
    open: Option<Open>,
    since: Time,
    sweep: Option<u64>,
    settled: bool,
    done: bool,
    id: u32,
}

const PATIENCE: Duration = Duration::from_secs(90);

impl MiniHost {
    pub fn new(checker: Checker, rng: Rng, budget: u32) -> Self {
        Self {
            checker,
            rng,
            number: 0,
            conn: None,
            budget,
            finished: 0,
            out: Vec::new(),
            received: Vec::new(),
            open: None,
            since: Time(0),
            sweep: None,
            settled: false,
            done: false,
            id: 0,
        }
    }

    fn request(&mut self, kind: u8, fua: bool, units: Units, data: &[u8]) {
        self.id += 1;
        self.out.extend_from_slice(&[kind, u8::from(fua), 0, 0]);
        for word in [u32::try_from(units.first).unwrap(), u32::try_from(units.count).unwrap(), self.id] {
            self.out.extend_from_slice(&word.to_le_bytes());
        }
        self.out.extend_from_slice(data);
    }

    fn next(&mut self) {
        let all = self.checker.units();
        if let Some(at) = self.sweep {
            let units = Units { first: at, count: (all - at).min(16) };
            self.request(b'R', false, units, &[]);
            self.open = Some(Open::Read(self.checker.begin_read(), units));
            return;
        }
        let first = self.rng.below(all);
        let units = Units { first, count: self.rng.between(1, (all - first).min(16)) };
        let fua = self.rng.one_in(4);
        self.open = Some(match self.rng.below(10) {
            0..4 => {
                self.request(b'R', false, units, &[]);
                Open::Read(self.checker.begin_read(), units)
            }
            4..8 => {
                let write = self.checker.begin_write(&[units], false);
                let mut data = vec![0; usize::try_from(units.count).unwrap() * UNIT];
                for (unit, chunk) in (units.first..).zip(data.chunks_mut(UNIT)) {
                    self.checker.content(unit, write.id, chunk);
                }
                self.request(b'W', fua, units, &data);
                Open::Write(write, fua)
            }
            8 => {
                self.request(b'Z', false, units, &[]);
                Open::Write(self.checker.begin_write(&[units], true), false)
            }
            _ => {
                self.request(b'F', false, Units { first: 0, count: 0 }, &[]);
                Open::Flush(self.checker.begin_flush())
            }
        });
    }

    fn answered(&mut self, ok: bool, data: &[u8]) -> Result<(), String> {
        self.finished += 1;
        match self.open.take() {
            Some(Open::Read(read, units)) => {
                self.checker.end_read(read, units.first, ok.then_some(data))?;
                if let Some(at) = &mut self.sweep
                    && ok
                {
                    *at += units.count;
                    self.done |= *at >= self.checker.units();
                }
            }
            Some(Open::Write(write, fua)) => {
                let ending = match (ok, fua) {
                    (true, true) => Ending::Stable,
                    (true, false) => Ending::Done,
                    _ => Ending::Unknown,
                };
                self.checker.end_write(write, ending);
            }
            Some(Open::Flush(flush)) if ok => {
                self.checker.end_flush(flush, Units { first: 0, count: self.checker.units() });
            }
            _ => {}
        }
        Ok(())
    }

    fn give_up(&mut self, world: &World) {
        if let Some(conn) = self.conn.take() {
            world.abort(conn);
        }
        self.out.clear();
        self.received.clear();
        match self.open.take() {
            Some(Open::Read(read, _)) => drop(self.checker.end_read(read, 0, None)),
            // The server may still be at it: this protocol has no way to know. It ends with the run.
            Some(Open::Write(write, _)) => drop(write),
            _ => {}
        }
    }
}

impl Actor for MiniHost {
    fn joined(&mut self, _world: &World, number: usize) {
        self.number = number;
    }

    fn act(&mut self, world: &World) -> Result<Time, String> {
        if self.is_done() {
            return Ok(Time::NEVER);
        }
        let Some(conn) = self.conn else {
            let from = SocketAddr::from(([127, 0, 0, 1], 1000));
            self.conn = Some(world.connect(self.number, from, super::PORTAL));
            return Ok(world.now());
        };
        if self.open.is_none() {
            self.budget = self.budget.saturating_sub(1);
            self.since = world.now();
            self.next();
        }
        let again = world.now() + Duration::from_millis(self.rng.between(1, 50));
        if let Ok(sent) = world.send(conn, &self.out) {
            self.out.drain(..sent);
        }
        let received = world.receive(conn, &mut self.received, usize::MAX);
        let answer = match &self.open {
            Some(Open::Read(_, units)) if self.received.get(4) == Some(&0) => {
                ANSWER + usize::try_from(units.count).unwrap() * UNIT
            }
            _ => ANSWER,
        };
        if self.received.len() >= answer {
            let bytes: Vec<u8> = self.received.drain(..answer).collect();
            if bytes[..4] != self.id.to_le_bytes() {
                return Err("an answer to another question".to_owned());
            }
            self.answered(bytes[4] == 0, &bytes[ANSWER..])?;
            return Ok(world.now());
        }
        if received.is_err() || received == Ok(None) || world.now().since(self.since) > PATIENCE {
            self.give_up(world);
        }
        Ok(again)
    }

    fn crashed(&mut self, _world: &World, _power: bool) {}

    fn settle(&mut self, _world: &World) {
        self.settled = true;
        self.sweep = Some(0);
    }

    fn is_done(&self) -> bool {
        if self.settled { self.done } else { self.budget == 0 && self.open.is_none() }
    }

    fn progress(&self) -> u64 {
        self.finished
    }
}

const _: () = assert!(HEADER == 16);
