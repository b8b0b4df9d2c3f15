//! Devices that go, come back, or say something else of themselves, while hosts use their volumes.
//!
//! Whoever watches the devices (a thread of the daemon's) tells the core; here the unit's volume changes over, and
//! the hosts hear what concerns them. Nothing here is on the way of a command.

use crate::core::Core;
use kagami_cache::store::Store;
use kagami_reactor::Io;
use kagami_volume::DeviceLimits;
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;

/// What has become of a volume's device.
#[derive(Debug)]
pub enum DeviceChange {
    /// It was removed: the unit is NOT READY from now on, to TEST UNIT READY too. To be told again until the answer is
    /// that nothing is under way there any more and the core has closed it.
    Gone {
        /// Gets that answer.
        closed: SyncSender<bool>,
    },
    /// It is there again, the same one, and was opened. Hosts are told of a DEVICE INTERNAL RESET (SPC-5
    /// table 49, 29h/04h): what the device had only in its own cache may be lost.
    Back {
        /// The new descriptor.
        device: OwnedFd,
        /// Its driver has poll queues, which are to be used.
        polled: bool,
        /// What it asks for and can take now.
        limits: DeviceLimits,
        /// Hears why the volume cannot go on with it, where it cannot.
        answer: SyncSender<Result<(), String>>,
    },
    /// It has other limits than before.
    Limits(DeviceLimits),
}

impl<I: Io> Core<I> {
    /// Does what a change of a unit's device asks for.
    pub(crate) fn device_changed(&mut self, io: &mut I, unit: u32, change: DeviceChange) {
        let index = unit;
        let Some(unit) = self.hub.units.get_mut(index as usize).and_then(Option::as_mut) else { return };
        match change {
            DeviceChange::Gone { closed } => {
                unit.gone = true;
                unit.refresh_readiness();
                if let Some(metrics) = self.hub.metrics.volume(unit.row()) {
                    metrics.gone.set(1);
                }
                self.hub.with_unit(index, None, io, |unit, cx| unit.volume.set_gone(cx));
                let Some(unit) = self.hub.units.get_mut(index as usize).and_then(Option::as_mut) else {
                    return;
                };
                if let Some(device) = unit.volume.own_mut().release_device() {
                    io.remove_device(device);
                }
                // Who asked may have given up; it asks again.
                let _ = closed.try_send(unit.volume.is_released());
            }
            DeviceChange::Back { device, polled, limits, answer } => {
                let others: Vec<OwnedFd> =
                    (0..unit.volume.others()).filter_map(|_| device.try_clone().ok()).collect();
                let own = replace(io, unit.volume.own_mut(), device, polled, limits);
                self.hub.with_unit(index, None, io, |unit, cx| {
                    unit.device_back(own, others, (polled, limits), answer, cx);
                });
            }
            DeviceChange::Limits(limits) => {
                self.hub.with_unit(index, None, io, |unit, cx| unit.volume.set_device_limits(cx, limits));
            }
        }
    }
}

/// A store goes on with a device that is back.
pub(crate) fn replace<I: Io>(
    io: &mut I,
    store: &mut Store,
    device: OwnedFd,
    polled: bool,
    limits: DeviceLimits,
) -> Result<(), String> {
    let new = io.add_device(device, polled).map_err(|error| error.to_string())?;
    store.replace_device(new, limits).map_err(|error| {
        io.remove_device(new);
        error.to_string()
    })
}
