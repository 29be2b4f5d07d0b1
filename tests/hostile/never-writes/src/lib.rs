//! Goal: keep a step, and the host with it, waiting for somebody who says nothing.
//! Method: connect to one address and read for ever, from a server that is silent. Without an address nothing is tried;
//! `tests/tests/sockets.rs` has the runs where one is granted.

use std::io::Read;
use std::net::TcpStream;

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// `ADDRESS:PORT` to connect to.
    address: String,
}

struct NeverWrites;

impl Mischief for NeverWrites {
    type Details = Details;

    const NAME: &'static str = "never-writes";
    const SUMMARY: &'static str = "Waits for ever for what a silent server does not say";

    fn strike(details: &Details) -> Result<(), EnvError> {
        if details.address.is_empty() {
            return Ok(());
        }
        let mut stream = TcpStream::connect(&details.address)?;
        while stream.read(&mut [0; 4096])? > 0 {}
        Err(EnvError::failed("the server has ended the connection"))
    }
}

mischief::export!(NeverWrites);
