//! Changes of devices under volumes that are served, on their way to the volume's core.

use super::Array;
use crate::device::OpenDevice;
use kagami_channel::{Control, DeviceChange};
use kagami_volume::DeviceLimits;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// How long a core is waited for, which looks into its letter box every round.
const PATIENCE: Duration = Duration::from_secs(1);

impl Array {
    /// A volume's device was removed: its commands are refused from now on. Says whether the core has closed
    /// the device, which it can do once nothing is under way there; otherwise to be called again.
    pub fn device_gone(&self, name: &str) -> bool {
        let (closed, answer) = sync_channel(1);
        self.device(name, DeviceChange::Gone { closed }) && answer.recv_timeout(PATIENCE).unwrap_or(false)
    }

    /// A volume's device is back. Hosts get a unit attention.
    ///
    /// # Errors
    /// Why the volume cannot go on with it.
    pub fn device_back(&self, name: &str, device: OpenDevice, limits: DeviceLimits) -> Result<(), String> {
        let (answer, result) = sync_channel(1);
        let polled = device.facts.is_polled();
        let change = DeviceChange::Back { device: device.file.into(), polled, limits, answer };
        if !self.device(name, change) {
            return Err("its core cannot be told".to_owned());
        }
        result.recv_timeout(PATIENCE).map_err(|_| "its core does not answer".to_owned())?
    }

    /// A volume's device has other limits now.
    pub fn device_limits(&self, name: &str, limits: DeviceLimits) {
        // A core that cannot be told goes on with what it knows.
        self.device(name, DeviceChange::Limits(limits));
    }

    fn device(&self, name: &str, change: DeviceChange) -> bool {
        let placed = self.placed.iter().find(|placed| placed.name == name);
        placed.is_some_and(|placed| {
            self.tell(placed.address.core, Control::Device { unit: placed.address.index, change })
        })
    }
}
