//! Goal: be a server where nobody agreed to one.
//! Method: listen on each of a list of addresses, by `std::net`; fail unless each is refused for want of permission. Then
//! listen on one that was granted, if there is one, twice: fail unless the first works, and the second does not. What
//! listens stays. `tests/tests/sockets.rs` has the runs where an address is granted.

use std::io::ErrorKind;
use std::net::TcpListener;

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// `ADDRESS:PORT` that was granted, or nothing.
    address: String,
    /// `ADDRESS:PORT` that were not.
    others: Vec<String>,
}

impl Default for Details {
    fn default() -> Self {
        let others = ["127.0.0.1:22", "127.0.0.1:8080", "127.0.0.2:8080", "0.0.0.0:8080", "[::1]:8080", "[::]:8080"];
        Self { address: String::new(), others: others.map(str::to_owned).to_vec() }
    }
}

struct Listens;

impl Mischief for Listens {
    type Details = Details;

    const NAME: &'static str = "listens";
    const SUMMARY: &'static str = "Listens where it may not";

    fn strike(Details { address, others }: &Details) -> Result<(), EnvError> {
        for other in others {
            match TcpListener::bind(other.as_str()) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(EnvError::failed(format!("{other}: {:?}, {error}", error.kind()))),
                Ok(_) => return Err(EnvError::failed(format!("{other} is listened on"))),
            }
        }
        if address.is_empty() {
            return Ok(());
        }
        let listener = TcpListener::bind(address.as_str())?;
        if TcpListener::bind(address.as_str()).is_ok() {
            return Err(EnvError::failed(format!("{address} is listened on twice")));
        }
        std::mem::forget(listener);
        Ok(())
    }
}

mischief::export!(Listens);
