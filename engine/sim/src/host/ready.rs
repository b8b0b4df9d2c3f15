//! What a host hears of a unit whose device is pulled out and put back: TEST UNIT READY says NOT READY while it is gone, and
//! GOOD again after a unit attention (SPC-5 6.47, table 49: DEVICE INTERNAL RESET).

use super::Trouble;
use super::plan::{HostPlan, LunPlan};
use super::session::{Session, wrong};
use super::task::{Sense, Task, Work, status};
use super::workload::{Kind, Wish};
use crate::checker::Presence;
use crate::coverage::Happening;
use crate::world::World;

const NOT_READY: u8 = 0x2;
const UNIT_ATTENTION: u8 = 0x6;
/// LOGICAL UNIT NOT READY, MANUAL INTERVENTION REQUIRED.
const INTERVENTION: u16 = 0x0403;
/// DEVICE INTERNAL RESET; all codes of its kind begin with the same byte.
const INTERNAL_RESET: u16 = 0x2904;

/// As far as a session knows of a unit whose device was gone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Away {
    /// A unit attention has told that there was a reset.
    told: bool,
}

impl Session {
    /// A command has ended: judges what that says of the unit's device. After NOT READY a host asks until the unit is ready.
    pub(super) fn judge_presence(
        &mut self,
        plan: &HostPlan,
        unit: &LunPlan,
        task: &Task,
        (status, sense): (u8, Option<Sense>),
        world: &World,
    ) -> Result<(), Trouble> {
        let asked = matches!(task.work, Work::Other) && task.cdb[0] == 0;
        let known = unit.checker.device().since(task.seen);
        let (key, code) = sense.map_or((0, 0), |sense| (sense.key, sense.code));
        if key == UNIT_ATTENTION
            && code >> 8 == INTERNAL_RESET >> 8
            && let Some(away) = self.away.get_mut(&task.unit)
        {
            away.told = true;
            if code == INTERNAL_RESET {
                world.hit(Happening::ReturnTold);
            }
        }
        // A device that fails for a while, and is there, makes single commands end so.
        if (key, code) == (NOT_READY, INTERVENTION) && known != Some(Presence::There) {
            let wish = (task.unit, Wish { kind: Kind::Ready, lba: 0, blocks: 0 });
            if !self.again.contains(&wish) {
                self.again.push(wish);
            }
        }
        match known {
            Some(Presence::Gone) if asked && status == status::GOOD => {
                wrong("TEST UNIT READY is GOOD while the device is gone")
            }
            Some(Presence::There) if asked && (key, code) == (NOT_READY, INTERVENTION) => {
                wrong("TEST UNIT READY says NOT READY, and the device is there")
            }
            Some(Presence::Gone) if asked && key == NOT_READY => {
                world.hit(Happening::NotReady);
                self.away.insert(task.unit, Away::default());
                Ok(())
            }
            _ if asked && status == status::GOOD => match self.away.remove(&task.unit) {
                // Answers of several connections may overtake each other.
                Some(Away { told: false }) if plan.connections == 1 => {
                    wrong("ready again without a unit attention")
                }
                Some(Away { told: true }) => {
                    world.hit(Happening::ReadyAgain);
                    Ok(())
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
