//! The plugins that ship with rollcage, carried inside the library: built from `guest-envs/` by `build.rs`.

/// Names and components, by name.
pub static PLUGINS: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/shipped.rs"));
