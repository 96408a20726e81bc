//! The section `vpn:`, a tunnel by WireGuard whose configuration is a file of the vault.

use serde::Deserialize;

use super::ConfigError;

/// The longest name of a network interface (Linux: `IFNAMSIZ` with its end).
const NAME_MAX: usize = 15;

/// `vpn:` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct VpnSection {
    config: Option<String>,
    #[serde(rename = "where")]
    place: VpnPlace,
}

/// `vpn.where`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VpnPlace {
    /// In the development container.
    #[default]
    Container,
    /// On this machine, which takes root's rights.
    Host,
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpnPlan {
    /// Path of its configuration within the vault.
    pub config: String,
    /// Name of the network interface: that of the file.
    pub interface: String,
    /// Where it is.
    pub place: VpnPlace,
}

impl VpnSection {
    /// Makes the plan.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn resolve(&self) -> Result<VpnPlan, ConfigError> {
        let wrong = |reason: &str| ConfigError::Value { key: "vpn.config", reason: reason.to_owned() };
        let config = self.config.as_deref().map(|path| path.trim_start_matches('/')).unwrap_or_default();
        let file = config.rsplit('/').next().unwrap_or_default();
        let interface = file.strip_suffix(".conf").unwrap_or_default();
        if config.is_empty() {
            return Err(wrong(
                "name the file of the vault that holds WireGuard's configuration, for example wireguard/wg0.conf",
            ));
        }
        let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"_=+.-".contains(&byte);
        if interface.is_empty()
            || interface.len() > NAME_MAX
            || !interface.bytes().all(is_sound)
            || interface.starts_with(['.', '-'])
        {
            return Err(wrong(
                "its file is called <interface>.conf, the interface having at most 15 letters, digits, and _ = + . -",
            ));
        }
        Ok(VpnPlan { config: config.to_owned(), interface: interface.to_owned(), place: self.place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::ConfigFile;

    fn plan(yaml: &str) -> Result<VpnPlan, String> {
        let (file, unknown) = ConfigFile::parse(yaml)?;
        assert_eq!(unknown, Vec::<String>::new());
        file.vpn.unwrap().resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_names_the_interface() {
        let expected = VpnPlan { config: "net/wg0.conf".into(), interface: "wg0".into(), place: VpnPlace::Container };
        assert_eq!(plan("vpn: {config: /net/wg0.conf}").unwrap(), expected);
        assert_eq!(plan("vpn: {config: a.conf, where: host}").unwrap().place, VpnPlace::Host);
    }

    #[test]
    fn what_cannot_be_an_interface_is_refused() {
        for config in
            ["''", "wg0", "net/.conf", "a-very-long-name-of-it.conf", "'a b.conf'", "'$(id).conf'", "-x.conf", "net/"]
        {
            let error = plan(&format!("vpn: {{config: {config}}}")).unwrap_err();
            assert!(error.starts_with("vpn.config: "), "{config}: {error}");
        }
        assert!(plan("vpn: {config: a.conf, where: moon}").unwrap_err().contains("line 1"));
        assert!(plan("vpn: {}").unwrap_err().contains("wireguard/wg0.conf"));
    }
}
