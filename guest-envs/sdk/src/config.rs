//! The macro [`config!`](crate::config!): what can be configured, with the defaults beside the fields.

/// Declares an env's config, or the options of its resets: a struct, each field with what it is where nothing is given.
///
/// The struct derives `Clone`, `Debug`, `Default`, `Deserialize` and `JsonSchema`, and refuses keys that it does not
/// have. Doc comments and `#[schemars(range(…))]` reach the schema, which is what users read and what their configs are
/// checked against. A field's type derives `Deserialize` and `JsonSchema` itself (and `Serialize`, for its default to be
/// in the schema); where the crate depends on nothing but the SDK, it says so as the macro does:
/// `#[serde(crate = "rollcage_sdk::serde")]` and `#[schemars(crate = "rollcage_sdk::schemars")]`. A key that has no
/// default is for a struct written by hand.
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
