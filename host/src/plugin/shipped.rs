//! The plugins that ship with rollcage, carried inside the library: built from `guest-envs/` by `build.rs`; and the grants
//! files of those that need somebody to talk to.

/// Names and components, by name.
pub static PLUGINS: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// Grants files of those that need a simulator, by the plugin's name: what `--grants NAME` means.
pub static GRANTS: [(&str, &str); 2] = [
    ("go", include_str!("../../../guest-envs/go/grants.toml")),
    ("short-kick", include_str!("../../../guest-envs/short-kick/grants.toml")),
];

/// The grants file that ships for a plugin.
pub fn grants(plugin: &str) -> Option<&'static str> {
    GRANTS.iter().find(|(name, _)| *name == plugin).map(|(_, text)| *text)
}
