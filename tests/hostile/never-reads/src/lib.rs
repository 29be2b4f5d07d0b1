//! Goal: keep a step, and the host with it, busy by a connection that takes no more.
//! Method: connect to one address and write for ever. The server reads nothing (or echoes, and finds nobody who reads
//! that), so after some megabytes a write waits for ever. Without an address nothing is tried; `tests/tests/sockets.rs` has
//! the runs where one is granted.

use std::io::Write;
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

struct NeverReads;

impl Mischief for NeverReads {
    type Details = Details;

    const NAME: &'static str = "never-reads";
    const SUMMARY: &'static str = "Writes to a connection for ever, and reads nothing";

    fn strike(details: &Details) -> Result<(), EnvError> {
        if details.address.is_empty() {
            return Ok(());
        }
        let mut stream = TcpStream::connect(&details.address)?;
        loop {
            stream.write_all(&[b'x'; 64 * 1024])?;
        }
    }
}

mischief::export!(NeverReads);
