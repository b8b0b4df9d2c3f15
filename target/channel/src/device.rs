//! Devices that go, come back, or say something else of themselves, while hosts use their volumes.
//!
//! Whoever watches the devices (a thread of the daemon's) tells the core; here the unit's volume changes over, and
//! the hosts hear what concerns them. Nothing here is on the way of a command.

use crate::core::Core;
use kagami_reactor::Io;
use kagami_scsi::Attention;
use kagami_volume::DeviceLimits;
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;

/// What has become of a volume's device.
#[derive(Debug)]
pub enum DeviceChange {
    /// It was removed: commands are refused with `Gone` from now on. To be told again until the answer is
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
        let Some(unit) = self.hub.units.get_mut(unit as usize).and_then(Option::as_mut) else { return };
        let volume = &mut unit.volume;
        match change {
            DeviceChange::Gone { closed } => {
                volume.set_gone();
                if let Some(device) = volume.release_device() {
                    io.remove_device(device);
                }
                // Who asked may have given up; it asks again.
                let _ = closed.try_send(volume.is_released());
            }
            DeviceChange::Back { device, polled, limits, answer } => {
                let replaced =
                    io.add_device(device, polled).map_err(|error| error.to_string()).and_then(|new| {
                        volume.replace_device(new, limits).map_err(|error| {
                            io.remove_device(new);
                            error.to_string()
                        })
                    });
                if replaced.is_ok() {
                    unit.server.establish_all(None, Attention::InternalReset);
                }
                let _ = answer.try_send(replaced);
            }
            DeviceChange::Limits(limits) => {
                // What contradicts the volume is not taken: it goes on with what it knows.
                let _ = volume.set_device_limits(limits);
            }
        }
    }
}
