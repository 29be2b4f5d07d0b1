//! Goal: a picture that is not what it says, or more than can be carried.
//! Method: frames made by hand.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, rollcage_sdk::raw::Image};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// What is wrong with the frame.
    what: What,
}

impl Default for Details {
    fn default() -> Self {
        Self { what: What::TooFew }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// Nothing: 3840 by 2160 pixels, which fit.
    Nothing,
    /// One byte less than width and height ask for.
    TooFew,
    /// One byte more.
    TooMany,
    /// No pixels at all.
    Empty,
    /// A width and height whose product is 0 in 32 bits, and no bytes.
    Wrapping,
    /// 32.4 MiB: more than the host has room for, though a call may carry it.
    Large,
    /// 48 MiB: more than a call may carry.
    Huge,
    /// The other kind than was asked for.
    OtherMode,
}

struct FrameLiar;

impl Mischief for FrameLiar {
    type Details = Details;

    const NAME: &'static str = "frame-liar";
    const SUMMARY: &'static str = "Renders frames that are none";

    fn strike(_: &Details) -> Result<(), EnvError> {
        Ok(())
    }

    fn picture(details: &Details, mode: RenderMode, _observation: [i64; 2]) -> Frame {
        let rgb = |width, height, bytes| Frame::Rgb(Image { width, height, pixels: vec![127; bytes] });
        match details.what {
            What::Nothing => rgb(3840, 2160, 3840 * 2160 * 3),
            What::TooFew => rgb(10, 10, 299),
            What::TooMany => rgb(10, 10, 301),
            What::Empty => rgb(0, 10, 0),
            What::Wrapping => rgb(1 << 16, 1 << 16, 0),
            What::Large => rgb(1 << 16, 173, (1 << 16) * 173 * 3),
            What::Huge => rgb(1 << 20, 16, 48 << 20),
            What::OtherMode => match mode {
                RenderMode::RgbArray => Frame::Text("no pixels here\n".to_owned()),
                RenderMode::Ansi => rgb(1, 1, 3),
            },
        }
    }
}

mischief::export!(FrameLiar);
