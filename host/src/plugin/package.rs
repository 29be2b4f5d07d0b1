//! A package: a plugin's component with a manifest, a grants template, a picture, a README, and its author's signature over all of
//! it. `docs/package.md` is the contract.
//!
//! The parts are sliced by lengths in a fixed header: nothing is unpacked, and nothing is parsed but the manifest, which is JSON.
//! The component's own SHA-256 stays the plugin's hash.

use std::ops::Range;

use minisign_verify::{PublicKey, Signature};
use serde::{Deserialize, Serialize};

use crate::error::UsageError;
use crate::text::escape_line;

/// The first bytes of a package; the digit is the format's version.
pub const MAGIC: &[u8; 16] = b"rollcage-package";

/// The version of the format, after the magic.
const FORMAT: u32 = 1;

/// Bytes of the header: magic, format, and six lengths.
const HEADER_BYTES: usize = 16 + 4 + 5 * 4 + 8;

/// The most bytes of each part.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// See [`MANIFEST_BYTES_MAX`].
pub const GRANTS_BYTES_MAX: usize = 64 << 10;
/// See [`MANIFEST_BYTES_MAX`].
pub const PICTURE_BYTES_MAX: usize = 4 << 20;
/// See [`MANIFEST_BYTES_MAX`].
pub const README_BYTES_MAX: usize = 256 << 10;
/// See [`MANIFEST_BYTES_MAX`].
const SIGNATURE_BYTES_MAX: usize = 2 << 10;

/// What a package says of itself: its author's words, shown and never interpreted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The env's name.
    pub name: String,
    /// Its version, as of semver.
    pub version: String,
    /// SHA-256 of the component, 64 hex digits.
    pub sha256: String,
    /// The version of the interface that it exports.
    pub interface: String,
    /// What it wants of the outside, one line each.
    pub wants: Vec<String>,
    /// Licences, as SPDX writes them.
    pub licences: Vec<String>,
    /// Who made it.
    pub authors: Vec<String>,
    /// Programs that made it, with their versions.
    pub tools: Vec<String>,
    /// Where its source is.
    pub source: Option<String>,
    /// The author's public key, as minisign writes it: the one that the package is signed by.
    #[serde(default)]
    pub key: Option<String>,
}

/// The parts that an author puts around a component.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// What the package says of itself.
    pub manifest: Manifest,
    /// A grants file for people to copy: it is shown, and never applied.
    pub grants: String,
    /// A PNG or GIF.
    pub picture: Vec<u8>,
    /// Markdown.
    pub readme: String,
}

/// A package that was read. Its signature is good, if it has one.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its parts.
    pub parts: Parts,
    /// The component within the package.
    pub(super) component: Range<usize>,
}

impl Package {
    /// Whether bytes begin as a package does.
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Reads a package, and verifies its signature.
    ///
    /// # Errors
    /// The bytes are no whole package, the manifest is not of this component, or the package was changed after it was signed.
    pub fn read(bytes: &[u8]) -> Result<Package, UsageError> {
        let refuse = |what: &str| UsageError::new(format!("the package {what}"));
        let header = bytes.get(..HEADER_BYTES).ok_or_else(|| refuse("ends within its header"))?;
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|index| header[at + index]));
        let format = number(16);
        if format != FORMAT {
            return Err(refuse(&format!("has format {format}; this rollcage reads {FORMAT}")));
        }
        let [manifest, grants, picture, readme, signature] =
            [20, 24, 28, 32, 36].map(|at| usize::try_from(number(at)).unwrap_or(usize::MAX));
        let component = u64::from_le_bytes(std::array::from_fn(|index| header[40 + index]));
        let component = usize::try_from(component).map_err(|_| refuse("is too long for this machine"))?;
        for (what, bytes, most) in [
            ("manifest", manifest, MANIFEST_BYTES_MAX),
            ("grants template", grants, GRANTS_BYTES_MAX),
            ("picture", picture, PICTURE_BYTES_MAX),
            ("README", readme, README_BYTES_MAX),
            ("signature", signature, SIGNATURE_BYTES_MAX),
        ] {
            if bytes > most {
                return Err(refuse(&format!("has a {what} of {bytes} bytes; the limit is {most}")));
            }
        }
        let mut at = HEADER_BYTES;
        let mut next = |length: usize| {
            let range =
                at..at.checked_add(length).filter(|end| *end <= bytes.len()).ok_or_else(|| refuse("is cut short"))?;
            at = range.end;
            Ok::<_, UsageError>(range)
        };
        let [manifest, grants, picture, readme, component, signature] =
            [next(manifest)?, next(grants)?, next(picture)?, next(readme)?, next(component)?, next(signature)?];
        if signature.end != bytes.len() {
            return Err(refuse("goes on after its end"));
        }
        let text = |range: Range<usize>, what: &str| {
            std::str::from_utf8(&bytes[range]).map_err(|_| refuse(&format!("has a {what} that is not UTF-8")))
        };
        let manifest: Manifest = serde_json::from_str(text(manifest, "manifest")?).map_err(|error| {
            refuse(&format!("has a manifest that cannot be read: {}", escape_line(&error.to_string())))
        })?;
        let signed = text(signature.clone(), "signature")?;
        match &manifest.key {
            Some(key) => verify(key, signed, &bytes[..signature.start])?,
            None if !signed.is_empty() => return Err(refuse("is signed, and its manifest names no key")),
            None => {}
        }
        let parts = Parts {
            grants: text(grants, "grants template")?.to_owned(),
            picture: bytes[picture].to_vec(),
            readme: text(readme, "README")?.to_owned(),
            manifest,
        };
        Ok(Package { parts, component })
    }
}

/// Signs the bytes that it is given, and returns the text of a minisign signature.
pub type Sign<'s> = &'s dyn Fn(&[u8]) -> Result<String, UsageError>;

/// Puts parts around a component. `sign` is given all bytes that a signature covers, and returns the signature's text.
///
/// # Errors
/// A part is too long, or it cannot be signed.
pub fn write(parts: &Parts, component: &[u8], sign: Option<Sign<'_>>) -> Result<Vec<u8>, UsageError> {
    let manifest = serde_json::to_string(&parts.manifest)
        .map_err(|error| UsageError::new(format!("the manifest cannot be written: {error}")))?;
    let Parts { grants, picture, readme, .. } = parts;
    // A signature's length is not known before it is made, and is signed too: it is asked for twice.
    let mut signature = String::new();
    for _ in 0..if sign.is_some() { 2 } else { 1 } {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + manifest.len() + component.len() + picture.len());
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        for (what, length, most) in [
            ("manifest", manifest.len(), MANIFEST_BYTES_MAX),
            ("grants template", grants.len(), GRANTS_BYTES_MAX),
            ("picture", picture.len(), PICTURE_BYTES_MAX),
            ("README", readme.len(), README_BYTES_MAX),
            ("signature", signature.len(), SIGNATURE_BYTES_MAX),
        ] {
            let short = u32::try_from(length).ok().filter(|_| length <= most);
            let length =
                short.ok_or_else(|| UsageError::new(format!("the {what} has {length} bytes; the limit is {most}")))?;
            bytes.extend(length.to_le_bytes());
        }
        bytes.extend((component.len() as u64).to_le_bytes());
        for part in [manifest.as_bytes(), grants.as_bytes(), picture, readme.as_bytes(), component] {
            bytes.extend(part);
        }
        let Some(sign) = sign else { return Ok(bytes) };
        let again = sign(&bytes)?;
        if again.len() == signature.len() {
            bytes.extend(again.as_bytes());
            return Ok(bytes);
        }
        signature = again;
    }
    Err(UsageError::new("the signature's length changes from one to the next"))
}

fn verify(key: &str, signature: &str, signed: &[u8]) -> Result<(), UsageError> {
    let refuse = |what: &str| UsageError::new(format!("the package {what}"));
    let public = PublicKey::from_base64(key).map_err(|_| refuse("names a key that is none"))?;
    let signature = Signature::decode(signature).map_err(|_| refuse("has a signature that is none"))?;
    public.verify(signed, &signature, false).map_err(|_| {
        refuse("was changed after it was signed, or was signed by another key than it names")
            .hint("ask its author for the file again, and for the SHA-256 of it by another way")
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn parts() -> Parts {
        let manifest = Manifest { name: "maze".to_owned(), version: "1.2.0".to_owned(), ..Manifest::default() };
        Parts { manifest, grants: "[grant]\n".to_owned(), picture: vec![1, 2, 3], readme: "# Maze\n".to_owned() }
    }

    #[test]
    fn parts_come_back_and_the_component_is_a_slice() {
        let bytes = write(&parts(), b"\0asm component", None).unwrap();
        let package = Package::read(&bytes).unwrap();
        assert_eq!(&bytes[package.component.clone()], b"\0asm component");
        assert_eq!((package.parts.manifest.name.as_str(), package.parts.readme.as_str()), ("maze", "# Maze\n"));
        assert_eq!((package.parts.picture, package.parts.grants.as_str()), (vec![1, 2, 3], "[grant]\n"));
    }

    #[test]
    fn what_is_no_package_is_refused_whatever_is_changed() {
        let bytes = write(&parts(), b"\0asm", None).unwrap();
        for cut in 0..bytes.len() {
            assert!(Package::read(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..HEADER_BYTES {
            for byte in [0, 1, 127, 255] {
                let mut changed = bytes.clone();
                changed[at] = byte;
                // No panic, whatever comes of it.
                let _ = Package::read(&changed);
            }
        }
        assert!(Package::read(&[&bytes[..], b"x"].concat()).unwrap_err().message.contains("goes on after its end"));
        let mut signed = parts();
        signed.manifest.key = Some("RWQ".to_owned());
        let bytes = write(&signed, b"\0asm", None).unwrap();
        assert!(Package::read(&bytes).unwrap_err().message.contains("a key that is none"));
    }
}
