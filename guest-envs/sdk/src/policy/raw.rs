//! The interface of policies itself, without the SDK's checks: a guest that uses it may answer anything.
//!
//! Authors do not need this module; they implement [`Policy`](crate::policy::Policy). It is for tests that must give
//! answers which the SDK would not give, and for the SDK's own plumbing. The types of spaces and of errors are those of
//! [`crate::raw`].
//!
//! ```ignore
//! use rollcage_sdk::policy::raw::{self, Guest};
//!
//! struct Liar;
//! impl Guest for Liar {
//!     // Every function of `wit/policy/0.1.0/policy.wit`, with byte vectors for values.
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

// `wit` and `wit-policy` are links to the repository's `wit/0.1.0` and `wit/policy/0.1.0`. Cargo follows them, so that a
// package has the files themselves.
#[cfg(not(doctest))]
wit_bindgen::generate!({
    path: ["wit", "wit-policy"],
    // The generated macros are named by the world, in the whole crate: two worlds called `plugin` would clash.
    inline: "package rollcage:policy-guest; world policy-plugin { include rollcage:policy/plugin@0.1.0; }",
    world: "rollcage:policy-guest/policy-plugin",
    pub_export_macro: true,
    export_macro_name: "export_policy",
    default_bindings_module: "rollcage_sdk::policy::raw",
    additional_derives: [PartialEq],
    with: {
        "rollcage:env/types@0.1.0": crate::raw::rollcage::env::types,
        "rollcage:env/assets@0.1.0": crate::raw::rollcage::env::assets,
    },
});

#[cfg(not(doctest))]
pub use self::export_policy as export;
#[cfg(not(doctest))]
pub use exports::rollcage::policy::policy::{CreateError, Decision, Description, Guest, Space, Spaces};

// As in `crate::raw`: while rustdoc looks for examples, this module is that of the crate as it was built.
#[cfg(doctest)]
pub use ::rollcage_sdk::policy::raw::*;
