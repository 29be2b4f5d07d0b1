//! Finds not-a-number and infinities in a Rust value on its way to JSON: `serde_json` silently writes them as null.
//!
//! Nothing else is checked, and nothing is kept: this is a `Serializer` that only walks.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

use super::Path;

/// Checks that a value holds no float that JSON does not have.
///
/// # Errors
///
/// The first such float, or the error of the value's own `Serialize`.
pub(super) fn check(value: &(impl Serialize + ?Sized)) -> Result<(), NotFinite> {
    value.serialize(Walk { path: &Path::Root })
}

/// A float that is not finite, and its place; or an error of a `Serialize`.
#[derive(Debug)]
pub(super) struct NotFinite(String);

impl fmt::Display for NotFinite {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for NotFinite {}

impl ser::Error for NotFinite {
    fn custom<T: fmt::Display>(why: T) -> NotFinite {
        NotFinite(format!("config: {why}"))
    }
}

#[derive(Clone, Copy)]
struct Walk<'p> {
    path: &'p Path<'p>,
}

/// Inside a list or an object.
struct Within<'p> {
    path: &'p Path<'p>,
    index: usize,
    key: String,
}

impl<'p> Walk<'p> {
    fn within(self) -> Result<Within<'p>, NotFinite> {
        Ok(Within { path: self.path, index: 0, key: String::new() })
    }

    /// A variant with content becomes an object with one key.
    fn variant(self, name: &str) -> Result<Within<'p>, NotFinite> {
        self.within().map(|within| Within { key: name.to_owned(), ..within })
    }
}

impl Within<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), NotFinite> {
        let index = self.index;
        self.index += 1;
        if self.key.is_empty() {
            item.serialize(Walk { path: &Path::Index(self.path, index) })
        } else {
            item.serialize(Walk { path: &Path::Index(&Path::Key(self.path, &self.key), index) })
        }
    }

    fn member<T: Serialize + ?Sized>(&mut self, key: &str, member: &T) -> Result<(), NotFinite> {
        if self.key.is_empty() {
            member.serialize(Walk { path: &Path::Key(self.path, key) })
        } else {
            member.serialize(Walk { path: &Path::Key(&Path::Key(self.path, &self.key), key) })
        }
    }
}

/// Methods for values that contain no float.
macro_rules! nothing_in {
    ($($method:ident($($argument:ty),*)),* $(,)?) => {
        $(fn $method(self, $(_: $argument),*) -> Result<(), NotFinite> { Ok(()) })*
    };
}

impl<'p> Serializer for Walk<'p> {
    type Ok = ();
    type Error = NotFinite;
    type SerializeSeq = Within<'p>;
    type SerializeTuple = Within<'p>;
    type SerializeTupleStruct = Within<'p>;
    type SerializeTupleVariant = Within<'p>;
    type SerializeMap = Within<'p>;
    type SerializeStruct = Within<'p>;
    type SerializeStructVariant = Within<'p>;

    nothing_in! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
        serialize_u128(u128), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]), serialize_none(),
        serialize_unit(), serialize_unit_struct(&'static str), serialize_unit_variant(&'static str, u32, &'static str),
    }

    fn serialize_f32(self, value: f32) -> Result<(), NotFinite> {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Result<(), NotFinite> {
        if value.is_finite() {
            return Ok(());
        }
        Err(NotFinite(format!("{}: expected a finite number, got {}", self.path.subject(), not_finite(value))))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotFinite> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NotFinite> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), NotFinite> {
        value.serialize(Walk { path: &Path::Key(self.path, name) })
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Within<'p>, NotFinite> {
        self.within()
    }

    fn serialize_tuple(self, _: usize) -> Result<Within<'p>, NotFinite> {
        self.within()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Within<'p>, NotFinite> {
        self.within()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Within<'p>, NotFinite> {
        self.variant(name)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Within<'p>, NotFinite> {
        self.within()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Within<'p>, NotFinite> {
        self.within()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Within<'p>, NotFinite> {
        self.variant(name)
    }
}

/// A float that is not finite, as TOML writes it.
pub(super) fn not_finite(value: f64) -> &'static str {
    match value {
        value if value.is_nan() => "nan",
        value if value > 0.0 => "inf",
        _ => "-inf",
    }
}

/// The four kinds of list, which differ in the names of their methods.
macro_rules! list {
    ($($kind:ident::$item:ident),*) => {$(
        impl ser::$kind for Within<'_> {
            type Ok = ();
            type Error = NotFinite;

            fn $item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), NotFinite> {
                self.item(item)
            }

            fn end(self) -> Result<(), NotFinite> {
                Ok(())
            }
        }
    )*};
}

list!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

impl ser::SerializeStruct for Within<'_> {
    type Ok = ();
    type Error = NotFinite;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), NotFinite> {
        self.member(key, value)
    }

    fn end(self) -> Result<(), NotFinite> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Within<'_> {
    type Ok = ();
    type Error = NotFinite;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), NotFinite> {
        self.member(key, value)
    }

    fn end(self) -> Result<(), NotFinite> {
        Ok(())
    }
}

impl ser::SerializeMap for Within<'_> {
    type Ok = ();
    type Error = NotFinite;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NotFinite> {
        // A key that is not a string is refused when the value becomes JSON; here it has no name.
        let name = serde_json::to_value(key).ok().and_then(|key| key.as_str().map(str::to_owned));
        self.key = name.unwrap_or_else(|| "?".to_owned());
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotFinite> {
        value.serialize(Walk { path: &Path::Key(self.path, &self.key) })
    }

    fn end(self) -> Result<(), NotFinite> {
        Ok(())
    }
}
