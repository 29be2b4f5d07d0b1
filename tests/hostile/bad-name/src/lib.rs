//! Goal: a name that means something else where it is printed or becomes part of a path.
//! Method: letters, blanks and dots that a name may not have.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct BadName;

impl Mischief for BadName {
    type Details = Nothing;

    const NAME: &'static str = "bad-name";
    const SUMMARY: &'static str = "A description whose name is none";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        Ok(())
    }
}

mischief::export!(BadName, describe = |description| description.name = "../Bad Name!".to_owned());
