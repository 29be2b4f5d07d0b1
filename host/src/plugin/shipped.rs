//! The plugins that ship with rollcage, carried inside the library: `build.rs` builds them from `guest-envs/`. Envs and
//! policies are two lists. Also the grants files of the plugins that need a simulator.

/// Names and components, sorted by name.
pub static PLUGINS: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// Names and components of the policies, sorted by name.
pub static POLICIES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/policies.rs"));

/// Grants files of the plugins that need a simulator, by the plugin's name: `--grants NAME` means these.
pub static GRANTS: [(&str, &str); 2] = [
    ("go", include_str!("../../../guest-envs/go/grants.toml")),
    ("short-kick", include_str!("../../../guest-envs/short-kick/grants.toml")),
];

/// The grants file that ships for a plugin.
pub fn grants(plugin: &str) -> Option<&'static str> {
    GRANTS.iter().find(|(name, _)| *name == plugin).map(|(_, text)| *text)
}
