//! Goal: flood what was granted, and the host's network with it.
//! Method: send to one address, by TCP or UDP, in a loop without an end that no refusal stops: a connection that is lost is
//! made anew. Without an address nothing is tried; `tests/tests/sockets.rs` has the runs where one is granted.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// `ADDRESS:PORT` to send to.
    address: String,
    protocol: Protocol,
    /// Bytes of one datagram, or of one write.
    #[schemars(range(min = 1, max = 65_507))]
    bytes: usize,
}

impl Default for Details {
    fn default() -> Self {
        Self { address: String::new(), protocol: Protocol::Udp, bytes: 1_024 }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Tcp,
    Udp,
}

struct SendsForEver;

impl Mischief for SendsForEver {
    type Details = Details;

    const NAME: &'static str = "sends-for-ever";
    const SUMMARY: &'static str = "Sends without an end";

    fn strike(Details { address, protocol, bytes }: &Details) -> Result<(), EnvError> {
        if address.is_empty() {
            return Ok(());
        }
        let bytes = vec![b'x'; *bytes];
        match protocol {
            Protocol::Udp => {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                loop {
                    // Refused or not: there is always a next one.
                    let _ = socket.send_to(&bytes, address.as_str());
                }
            }
            Protocol::Tcp => loop {
                let mut stream = TcpStream::connect(address.as_str())?;
                while stream.write_all(&bytes).is_ok() {}
            },
        }
    }
}

mischief::export!(SendsForEver);
