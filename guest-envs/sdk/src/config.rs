//! The macro [`config!`](crate::config!): declares a config, with the defaults beside the fields.

/// Declares an env's config, or the options of its resets: a struct, each field with its default.
///
/// The struct derives `Clone`, `Debug`, `Default`, `Deserialize` and `JsonSchema`, and refuses keys that it does not
/// have. Doc comments and `#[schemars(range(…))]` become part of the schema: users read it, and their configs are
/// checked against it. A field's type must derive `Deserialize` and `JsonSchema` (and `Serialize`, so that its default
/// is in the schema). In a crate that depends on the SDK alone, the type needs two attributes, as in this macro:
/// `#[serde(crate = "rollcage_sdk::serde")]` and `#[schemars(crate = "rollcage_sdk::schemars")]`. For a key without a
/// default, write the struct by hand.
///
/// ```
/// rollcage_sdk::config! {
///     /// What can be configured.
///     pub struct Config {
///         /// Metres a second a second.
///         #[schemars(range(min = 0.0))]
///         pub gravity: f64 = 9.8,
///         /// How often an action is repeated.
///         pub repeat: u32 = 1,
///     }
/// }
/// assert_eq!(Config::default().gravity, 9.8);
/// ```
#[macro_export]
macro_rules! config {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $type:ty = $default:expr),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, $crate::serde::Deserialize, $crate::schemars::JsonSchema)]
        #[serde(crate = "rollcage_sdk::serde", default, deny_unknown_fields)]
        #[schemars(crate = "rollcage_sdk::schemars")]
        $visibility struct $name {
            $($(#[$field_attribute])* $field_visibility $field: $type,)+
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }
    };
}
