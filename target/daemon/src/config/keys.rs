//! Operators' keys, read from their files, which are guarded as those of CHAP secrets.

use super::error::{ConfigError, ConfigErrors};
use super::model::{Config, Rights};
use super::secrets::read_guarded;
use kagami_orders::Key;
use std::collections::HashMap;

/// Who may sign orders. Replaced as a whole on reload.
#[derive(Clone, Debug, Default)]
pub struct Operators(HashMap<String, (Key, Rights)>);

impl Operators {
    /// Reads the keys that a configuration names.
    ///
    /// # Errors
    /// Every key file that is missing, open to others, too short or too long.
    pub fn load(config: &Config) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut keys = HashMap::new();
        for operator in &config.operators {
            let key = read_guarded(&operator.key_file).and_then(|bytes| {
                Key::new(bytes.trim_ascii_end()).ok_or_else(|| {
                    format!("{} must hold a key of 16 to 1024 bytes", operator.key_file.display())
                })
            });
            match key {
                Ok(key) => drop(keys.insert(operator.name.clone(), (key, operator.rights))),
                Err(reason) => errors.push(ConfigError { site: operator.site.clone(), reason }),
            }
        }
        if errors.is_empty() { Ok(Self(keys)) } else { Err(ConfigErrors(errors)) }
    }

    /// An operator's key, and what the operator may order.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(&Key, Rights)> {
        self.0.get(name).map(|(key, rights)| (key, *rights))
    }
}
