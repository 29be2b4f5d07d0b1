//! The interface itself, without the SDK's checks: a guest that uses it may answer anything.
//!
//! Authors do not need this module; they implement [`Environment`](crate::Environment). It is for tests that must give
//! answers which the SDK would not give, and for the SDK's own plumbing.
//!
//! ```ignore
//! use rollcage_sdk::raw::{self, Guest};
//!
//! struct Liar;
//! impl Guest for Liar {
//!     // Every function of `wit/0.1.0/environment.wit`, with byte vectors for values.
//! }
//! raw::export!(Liar);
//! ```
#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::cast_possible_truncation,
    clippy::missing_safety_doc,
    reason = "generated from the WIT"
)]

// `wit` is a link to the repository's `wit/0.1.0`. Cargo follows it, so that a package has the files themselves.
#[cfg(not(doctest))]
wit_bindgen::generate!({
    path: "wit",
    world: "plugin",
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "rollcage_sdk::raw",
    additional_derives: [PartialEq],
});

#[cfg(not(doctest))]
pub use exports::rollcage::env::environment::Guest;
#[cfg(not(doctest))]
pub use rollcage::env::assets;
#[cfg(not(doctest))]
pub use rollcage::env::types::*;

// rustdoc would take the indented table in the WIT's comments for an example to run. While it looks for examples, this
// module is that of the crate as it was built.
#[cfg(doctest)]
pub use ::rollcage_sdk::raw::*;
