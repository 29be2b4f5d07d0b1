//! One `postcard` message, as bytes.

use serde::de::DeserializeOwned;

/// Decodes one message, all of it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(format!("a message with {} bytes too many", rest.len())),
        Err(error) => Err(format!("{} bytes that are no message ({error})", bytes.len())),
    }
}
