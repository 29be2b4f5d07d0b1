//! Goal: JSON that is none, or more than anybody wants: in `info-extra` of a reset or step, as the result of a call, as an
//! attribute.
//! Method: the text is put in behind the SDK's back.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, tamper};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// What the text is.
    what: What,
}

impl Default for Details {
    fn default() -> Self {
        Self { what: What::NotJson }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// Words.
    NotJson,
    /// An object that breaks off.
    Unfinished,
    /// An array: JSON, but no object.
    Array,
    /// An object of 1 MiB.
    Huge,
    /// Objects inside each other, 10,000 deep.
    Deep,
    /// A number beyond every type: JSON, but no reader's.
    BigNumber,
    /// Half of a surrogate pair, escaped: JSON, but no text.
    Surrogate,
    /// An object after a blank and a line end: allowed.
    Blank,
    /// An object with a key twice, a NUL and escape sequences: odd, but allowed.
    Odd,
}

struct ExtraLiar;

impl Mischief for ExtraLiar {
    type Details = Details;

    const NAME: &'static str = "extra-liar";
    const SUMMARY: &'static str = "Returns info-extra that is none";

    fn strike(details: &Details) -> Result<(), EnvError> {
        let text = match details.what {
            What::NotJson => "no news".to_owned(),
            What::Unfinished => r#"{"news": [1, 2"#.to_owned(),
            What::Array => "[1, 2]".to_owned(),
            What::Huge => format!(r#"{{"news": "{}"}}"#, "!".repeat(1 << 20)),
            What::Deep => format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000)),
            What::BigNumber => r#"{"a": 1e999}"#.to_owned(),
            What::Surrogate => r#"{"a": "\ud800"}"#.to_owned(),
            What::Blank => " \n{\"a\": 1}".to_owned(),
            What::Odd => r#"{"a": 1, "a": 2, "esc": "\u001b[2J\u202e", "nul": "\u0000"}"#.to_owned(),
        };
        let json = text.clone();
        tamper::view(move |view| view.info_extra = text);
        tamper::text(move |result| *result = json);
        Ok(())
    }
}

mischief::export!(ExtraLiar);
