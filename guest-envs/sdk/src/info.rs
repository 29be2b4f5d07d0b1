//! The declared part of `info`: fields with a name and a space, each present or absent.

use crate::raw::{InfoField, Space as Tree};
use crate::space::{Mismatch, Space, Writer};

/// The fields that an env's info may carry: [`NoInfo`], or the struct of spaces that [`info!`](crate::info!) makes.
pub trait InfoFields: 'static {
    /// The fields of one info, all absent by default.
    type Value: Default + std::fmt::Debug;

    /// Name and space of each field.
    #[doc(hidden)]
    fn describe(&self) -> Vec<InfoField>;

    /// Writes one info, or nothing if there are no fields.
    #[doc(hidden)]
    fn write(&self, value: &Self::Value, to: &mut Writer) -> Result<(), Mismatch>;

    /// Whether every present field is in its space, the bounds of a Box included.
    #[doc(hidden)]
    fn check(&self, _value: &Self::Value) -> Result<(), Mismatch> {
        Ok(())
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::NoInfo {}
}

/// The info spaces without declared fields, for which [`Spec::new`](crate::Spec::new) is enough: [`NoInfo`].
#[diagnostic::on_unimplemented(
    message = "`Spec::new` is for an env whose `InfoSpace` is `NoInfo`: this one's is `{Self}`",
    label = "the info of this env has declared fields",
    note = "use `Spec::with_info(observation_space, action_space, info_space)`"
)]
pub trait WithoutFields: InfoFields + sealed::Sealed {
    #[doc(hidden)]
    const NONE: Self;
}

impl WithoutFields for NoInfo {
    const NONE: Self = NoInfo;
}

/// The info of an env without declared fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoInfo;

impl InfoFields for NoInfo {
    type Value = ();

    fn describe(&self) -> Vec<InfoField> {
        Vec::new()
    }

    #[inline]
    fn write(&self, (): &(), _to: &mut Writer) -> Result<(), Mismatch> {
        Ok(())
    }
}

#[doc(hidden)]
pub fn describe_field(name: &str, space: &impl Space) -> InfoField {
    InfoField { name: name.to_owned(), space: tree_of(space) }
}

pub(crate) fn tree_of(space: &impl Space) -> Tree {
    let mut nodes = Vec::new();
    space.describe(&mut nodes);
    Tree { nodes }
}

impl Writer {
    /// The presence bytes: one byte per field, 1 where it is present.
    #[doc(hidden)]
    #[inline]
    pub fn presence(&mut self, present: &[bool]) {
        self.bytes.extend(present.iter().map(|&present| u8::from(present)));
        self.align_composite();
    }

    /// Writes one field's value, or zeros if it is absent.
    #[doc(hidden)]
    #[inline]
    pub fn optional<S: Space>(&mut self, space: &S, value: Option<&S::Value>) -> Result<(), Mismatch> {
        match value {
            Some(value) => space.write(value, self),
            None => {
                space.write_absent(self);
                Ok(())
            }
        }
    }
}

/// Declares the fields of an env's info: the struct of their values, each an `Option`, and beside it the struct of
/// their spaces, which is the env's `InfoSpace`.
///
/// Give a key that is not a Rust name with `as`.
///
/// ```
/// use rollcage_sdk::prelude::*;
///
/// rollcage_sdk::info! {
///     /// What the env tells beside the observation.
///     pub struct Telemetry in TelemetrySpace {
///         /// Metres from the start.
///         distance: BoxSpace<f64>,
///         tiles: Discrete as "tiles visited",
///     }
/// }
///
/// let space = TelemetrySpace { distance: BoxSpace::all(0.0, f64::INFINITY), tiles: Discrete::new(64) };
/// let info = Telemetry { distance: Some(1.5), ..Telemetry::default() };
/// # let _ = (space, info);
/// ```
#[macro_export]
macro_rules! info {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $value:ident in $space:ident {
            $($(#[$field_attribute:meta])* $field:ident: $child:ty $(as $key:literal)?),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, Default)]
        #[allow(missing_docs, clippy::allow_attributes, reason = "the names of fields may speak for themselves")]
        $visibility struct $value {
            $($(#[$field_attribute])* pub $field: ::std::option::Option<$crate::space::ValueOf<$child>>,)+
        }

        #[doc = ::std::concat!("The spaces of [`", ::std::stringify!($value), "`]'s fields.")]
        #[derive(Clone, Debug)]
        #[allow(missing_docs, clippy::allow_attributes, reason = "the names of fields may speak for themselves")]
        $visibility struct $space {
            $(pub $field: $child,)+
        }

        impl $crate::InfoFields for $space {
            type Value = $value;

            fn describe(&self) -> ::std::vec::Vec<$crate::raw::InfoField> {
                ::std::vec![$($crate::info::describe_field($crate::__key!($field $($key)?), &self.$field)),+]
            }

            #[inline]
            fn write(
                &self,
                value: &$value,
                to: &mut $crate::space::Writer,
            ) -> ::std::result::Result<(), $crate::space::Mismatch> {
                to.presence(&[$(value.$field.is_some()),+]);
                $(to.optional(&self.$field, value.$field.as_ref())
                    .map_err(|mismatch| mismatch.within($crate::__key!($field $($key)?)))?;)+
                ::std::result::Result::Ok(())
            }

            fn check(&self, value: &$value) -> ::std::result::Result<(), $crate::space::Mismatch> {
                $(if let ::std::option::Option::Some(value) = &value.$field {
                    $crate::space::check(&self.$field, value)
                        .map_err(|mismatch| mismatch.within($crate::__key!($field $($key)?)))?;
                })+
                ::std::result::Result::Ok(())
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    info! {
        struct Facts in FactsSpace {
            near: MultiBinary<[bool; 3]>,
            prob: BoxSpace<f32> as "the odds",
        }
    }

    #[test]
    fn absent_fields_are_zeros() {
        let space = FactsSpace { near: MultiBinary::new(), prob: BoxSpace::default() };
        let bytes = |value: &Facts| {
            let mut writer = Writer::with_capacity(0);
            space.write(value, &mut writer).expect("fits");
            writer.align_composite();
            writer.bytes
        };
        let full = Facts { near: Some([true, false, true]), prob: Some(1.0) };
        assert_eq!(bytes(&full), [1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0x80, 0x3f]);
        let prob = Facts { prob: Some(1.0), ..Facts::default() };
        assert_eq!(bytes(&prob), [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3f]);
        assert_eq!(bytes(&Facts::default()), [0; 16]);
        let names: Vec<_> = space.describe().into_iter().map(|field| field.name).collect();
        assert_eq!(names, ["near", "the odds"]);
    }
}
