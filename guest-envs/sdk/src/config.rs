//! The macros [`config!`](crate::config!), which declares a config with the defaults beside the fields, and
//! [`choices!`](crate::choices!), which declares an enum of the texts that a key allows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use serde_json::{Map, Value};

/// A type that a key of [`config!`](crate::config!) may have.
///
/// Numbers, `bool`, `String`, `Option`, `Vec`, arrays, tuples and maps of them have it, and so have the structs of
/// [`config!`](crate::config!) and the enums of [`choices!`](crate::choices!).
///
/// Write an empty `impl` for a type of your own. It must derive `Deserialize` and `JsonSchema` (and `Serialize`, so that
/// its default is in the schema):
///
/// ```
/// use rollcage_sdk::schemars::JsonSchema;
/// use rollcage_sdk::serde::{Deserialize, Serialize};
///
/// /// Metres.
/// #[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
/// #[serde(crate = "rollcage_sdk::serde")]
/// #[schemars(crate = "rollcage_sdk::schemars")]
/// struct Length(f64);
///
/// impl rollcage_sdk::ConfigValue for Length {}
///
/// rollcage_sdk::config! {
///     struct Config {
///         track: Length = Length(4.8),
///     }
/// }
/// # assert_eq!(Config::default().track.0, 4.8);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the type of a config key",
    label = "no type of a config key",
    note = "declare an enum of the allowed texts with `rollcage_sdk::choices!`: `choices! {{ pub enum Mode {{ Fast = \
            \"fast\", Slow = \"slow\" }} }}`; a struct of further keys with `rollcage_sdk::config!`",
    note = "for another type that derives `Deserialize`, `Serialize` and `JsonSchema`, write `impl \
            rollcage_sdk::ConfigValue for {Self} {{}}`"
)]
pub trait ConfigValue {}

macro_rules! values {
    ($($type:ty),+ $(,)?) => {
        $(impl ConfigValue for $type {})+
    };
}

values! {
    bool, char, f32, f64, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, String, PathBuf, Value, Map<String, Value>,
    std::num::NonZeroU8, std::num::NonZeroU16, std::num::NonZeroU32, std::num::NonZeroU64, std::num::NonZeroUsize,
    std::net::IpAddr, std::net::Ipv4Addr, std::net::Ipv6Addr,
}

impl<T: ConfigValue> ConfigValue for Option<T> {}
impl<T: ConfigValue> ConfigValue for Box<T> {}
impl<T: ConfigValue> ConfigValue for Vec<T> {}
impl<T: ConfigValue, const N: usize> ConfigValue for [T; N] {}
impl<T: ConfigValue> ConfigValue for BTreeSet<T> {}
impl<T: ConfigValue, S> ConfigValue for HashSet<T, S> {}
impl<K: ConfigValue, T: ConfigValue> ConfigValue for BTreeMap<K, T> {}
impl<K: ConfigValue, T: ConfigValue, S> ConfigValue for HashMap<K, T, S> {}
impl<A: ConfigValue> ConfigValue for (A,) {}
impl<A: ConfigValue, B: ConfigValue> ConfigValue for (A, B) {}
impl<A: ConfigValue, B: ConfigValue, C: ConfigValue> ConfigValue for (A, B, C) {}
impl<A: ConfigValue, B: ConfigValue, C: ConfigValue, D: ConfigValue> ConfigValue for (A, B, C, D) {}

/// Compiles for types of config keys only.
#[doc(hidden)]
pub const fn check_value<T: ConfigValue>() {}

/// Declares an env's config, or the options of its resets: a struct, each field with its default.
///
/// The struct derives `Clone`, `Debug`, `Default`, `Deserialize` and `JsonSchema`, and refuses keys that it does not
/// have. Doc comments and `#[schemars(range(…))]` become part of the schema: users read it, and their configs are
/// checked against it. A field's type is a [`ConfigValue`](crate::ConfigValue): a number, `bool`, `String`, an `Option`,
/// list or map of them, an enum of [`choices!`](crate::choices!), or a type of your own. For a key without a default,
/// write the struct by hand.
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
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $type:ty = $default:expr),* $(,)?
        }
    ) => {
        // The first error about a type that does not fit is this one's; those of the derived code come after it.
        const _: () = {
            $($crate::config::check_value::<$type>();)*
        };

        $(#[$attribute])*
        #[derive(Clone, Debug, $crate::serde::Deserialize, $crate::schemars::JsonSchema)]
        #[serde(crate = "rollcage_sdk::serde", default, deny_unknown_fields)]
        #[schemars(crate = "rollcage_sdk::schemars")]
        $visibility struct $name {
            $($(#[$field_attribute])* $field_visibility $field: $type,)*
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::ConfigValue for $name {}
    };
    // What follows is for mistakes: an error that says what to write.
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident { $($fields:tt)* }) => {
        $crate::__config_mistake! { $($fields)* }
        $crate::__config_stand_in! { $visibility $name { $($fields)* } }
    };
    ($(#[$attribute:meta])* $visibility:vis enum $($rest:tt)*) => {
        ::std::compile_error!(
            "`config!` declares a struct: declare an enum of the allowed texts with `rollcage_sdk::choices!`, and use it \
             as the type of a key"
        );
    };
    ($($other:tt)*) => {
        ::std::compile_error!(
            "`config!` declares a struct with a default for each key: `pub struct Config { pub size: i64 = 9 }`"
        );
    };
}

/// Names the keys of a [`config!`](crate::config!) that have no default.
#[doc(hidden)]
#[macro_export]
macro_rules! __config_mistake {
    () => {};
    ($(#[$attribute:meta])* $visibility:vis $field:ident: $type:ty = $default:expr $(, $($rest:tt)*)?) => {
        $crate::__config_mistake! { $($($rest)*)? }
    };
    // The visibility becomes text, so that the error repeats the line as the author wrote it.
    ($(#[$attribute:meta])* pub ($($within:tt)+) $($rest:tt)*) => {
        $crate::__config_mistake! { @key ::std::concat!("pub(", $(::std::stringify!($within),)+ ") "); $($rest)* }
    };
    ($(#[$attribute:meta])* pub $($rest:tt)*) => {
        $crate::__config_mistake! { @key "pub "; $($rest)* }
    };
    ($(#[$attribute:meta])* $field:ident $($rest:tt)*) => {
        $crate::__config_mistake! { @key ""; $field $($rest)* }
    };
    (@key $visibility:expr; $field:ident: $type:ident $(, $($rest:tt)*)?) => {
        $crate::__config_mistake! { @told $visibility; $field, $type, $crate::__config_example!($type) }
        $crate::__config_mistake! { $($($rest)*)? }
    };
    (@key $visibility:expr; $field:ident: $type:ty $(, $($rest:tt)*)?) => {
        $crate::__config_mistake! { @told $visibility; $field, $type, "Default::default()" }
        $crate::__config_mistake! { $($($rest)*)? }
    };
    (@told $visibility:expr; $field:ident, $type:ty, $example:expr) => {
        ::std::compile_error!(::std::concat!(
            "`config!`: `",
            ::std::stringify!($field),
            "` has no default: write `",
            $visibility,
            ::std::stringify!($field),
            ": ",
            ::std::stringify!($type),
            " = ",
            $example,
            "`"
        ));
    };
    ($($other:tt)*) => {
        ::std::compile_error!("`config!`: a key is a name, a type and a default, with a comma after it: `pub size: i64 = 9,`");
    };
}

/// A default that might be meant, as text.
#[doc(hidden)]
#[macro_export]
macro_rules! __config_example {
    (bool) => {
        "false"
    };
    (f32) => {
        "1.0"
    };
    (f64) => {
        "1.0"
    };
    (String) => {
        "\"name\".to_owned()"
    };
    (i8) => {
        "9"
    };
    (i16) => {
        "9"
    };
    (i32) => {
        "9"
    };
    (i64) => {
        "9"
    };
    (u8) => {
        "9"
    };
    (u16) => {
        "9"
    };
    (u32) => {
        "9"
    };
    (u64) => {
        "9"
    };
    (usize) => {
        "9"
    };
    ($type:ident) => {
        "Default::default()"
    };
}

/// The struct of a config whose declaration has a mistake, so that the mistake is the only error.
#[doc(hidden)]
#[macro_export]
macro_rules! __config_stand_in {
    ($visibility:vis $name:ident {
        $($(#[$attribute:meta])* $field_visibility:vis $field:ident: $type:ty $(= $default:expr)?),+ $(,)?
    }) => {
        #[derive(Clone, Debug, $crate::serde::Deserialize, $crate::schemars::JsonSchema)]
        #[serde(crate = "rollcage_sdk::serde")]
        #[schemars(crate = "rollcage_sdk::schemars")]
        $visibility struct $name {
            $($(#[$attribute])* $field_visibility $field: $type,)+
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                ::std::unreachable!()
            }
        }

        impl $crate::ConfigValue for $name {}
    };
    ($($other:tt)*) => {};
}

/// Declares an enum whose variants are the texts that a config key (or a reset option) allows.
///
/// The config's JSON Schema lists the texts, so that `rollcage inspect` shows them and another text is refused by name.
/// The enum derives `Clone`, `Copy`, `Debug`, `PartialEq`, `Eq`, `Hash`, `Deserialize`, `Serialize` and `JsonSchema`;
/// `as_str` is a variant's text. Doc comments on variants are for readers of the code, not part of the schema.
///
/// ```
/// rollcage_sdk::choices! {
///     /// A map that comes with the env.
///     pub enum MapName {
///         /// Four tiles a side.
///         Small = "4x4",
///         Large = "8x8",
///     }
/// }
///
/// rollcage_sdk::config! {
///     /// What can be configured.
///     pub struct Config {
///         /// The map to play on.
///         pub map: MapName = MapName::Small,
///     }
/// }
///
/// let config: Config = rollcage_sdk::serde_json::from_str(r#"{"map": "8x8"}"#).unwrap();
/// assert_eq!(config.map, MapName::Large);
/// assert_eq!(config.map.as_str(), "8x8");
/// ```
#[macro_export]
macro_rules! choices {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $text:literal),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, $crate::serde::Deserialize, $crate::serde::Serialize)]
        #[serde(crate = "rollcage_sdk::serde")]
        #[allow(missing_docs, clippy::allow_attributes, reason = "the texts of choices may speak for themselves")]
        $visibility enum $name {
            $($(#[$variant_attribute])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// The text of this choice in a config.
            #[must_use]
            #[allow(dead_code, clippy::allow_attributes, reason = "not every env needs the text again")]
            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl $crate::schemars::JsonSchema for $name {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                ::std::stringify!($name).into()
            }

            fn schema_id() -> ::std::borrow::Cow<'static, str> {
                ::std::concat!(::std::module_path!(), "::", ::std::stringify!($name)).into()
            }

            fn json_schema(_: &mut $crate::schemars::SchemaGenerator) -> $crate::schemars::Schema {
                $crate::schemars::json_schema!({ "type": "string", "enum": [$($text),+] })
            }
        }

        impl $crate::ConfigValue for $name {}
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident $(= $text:literal)?),* $(,)?
        }
    ) => {
        $($crate::__choice_mistake!($variant $($text)?);)*
        $visibility enum $name { $($variant,)* }
    };
    ($($other:tt)*) => {
        ::std::compile_error!(
            "`choices!` declares an enum with a text for each variant: `pub enum Mode { Fast = \"fast\", Slow = \"slow\" }`"
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __choice_mistake {
    ($variant:ident $text:literal) => {};
    ($variant:ident) => {
        ::std::compile_error!(::std::concat!(
            "`choices!`: `",
            ::std::stringify!($variant),
            "` has no text: write `",
            ::std::stringify!($variant),
            " = \"text in the config\"`"
        ));
    };
}

#[cfg(test)]
mod tests {
    use schemars::generate::SchemaSettings;
    use serde_json::json;

    crate::choices! {
        /// How fast.
        #[derive(Default)]
        enum Pace {
            /// Doc comments do not show in the schema.
            #[default]
            Slow = "at a walk",
            Fast = "at a run",
        }
    }

    crate::config! {
        struct Inner {
            n: i64 = 1,
        }
    }

    crate::config! {
        struct Config {
            /// How fast.
            pace: Pace = Pace::Fast,
            other: Option<Pace> = None,
            list: Vec<[f64; 2]> = vec![[0.0; 2]],
        }
    }

    crate::config! {
        struct Empty {}
    }

    #[test]
    fn choices_are_listed_in_the_schema() {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
        assert_eq!(
            schema["properties"]["pace"],
            json!({
                "type": "string", "enum": ["at a walk", "at a run"], "default": "at a run", "description": "How fast."
            })
        );
        assert_eq!(schema["properties"]["other"]["enum"], json!(["at a walk", "at a run", null]));
        assert_eq!(schema["properties"]["other"]["type"], json!(["string", "null"]));
    }

    #[test]
    fn choices_are_read_and_refused_by_their_texts() {
        let config: Config = serde_json::from_str(r#"{"pace": "at a walk"}"#).expect("a config");
        assert_eq!((config.pace, config.other, config.list.len()), (Pace::default(), None, 1));
        assert_eq!(config.pace.as_str(), "at a walk");
        let refused = serde_json::from_str::<Config>(r#"{"pace": "slow"}"#).expect_err("not a text of it").to_string();
        assert!(refused.starts_with("unknown variant `slow`, expected `at a walk` or `at a run`"), "{refused}");
        assert!(serde_json::from_str::<Empty>("{}").is_ok() && serde_json::from_str::<Empty>(r#"{"a": 1}"#).is_err());
        assert_eq!(Inner::default().n, 1);
    }
}
