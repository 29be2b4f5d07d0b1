//! Makes plugins that no compiler would make, for the tests of the host: random ones, and ones crafted by hand against one
//! limit each. Writes files and nothing else; what must become of each is the tests' business.
//!
//!     rollcage-smith crafted FOLDER            every crafted plugin, NAME.wasm each
//!     rollcage-smith huge FILE                 a plugin of 200 MB
//!     rollcage-smith random FOLDER SEED COUNT  SEED.wasm, SEED+1.wasm, …
//!
//! The same arguments make the same bytes.

mod crafted;
mod honest;
mod random;

use std::path::Path;

use anyhow::{Context, Result, bail};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["crafted", folder] => {
            // Nothing of what an older one made stays.
            let _ = std::fs::remove_dir_all(folder);
            std::fs::create_dir_all(folder)?;
            for (name, make) in crafted::ALL {
                write(&Path::new(folder).join(format!("{name}.wasm")), &make().context(name)?)?;
            }
            Ok(())
        }
        ["huge", file] => write(Path::new(file), &crafted::huge()?),
        ["random", folder, seed, count] => {
            let (seed, count): (u64, u64) = (seed.parse()?, count.parse()?);
            for seed in seed..seed + count {
                let plugin = random::plugin(seed).with_context(|| format!("seed {seed}"))?;
                write(&Path::new(folder).join(format!("{seed}.wasm")), &plugin)?;
            }
            Ok(())
        }
        _ => bail!("crafted FOLDER, huge FILE, or random FOLDER SEED COUNT"),
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(file, bytes).with_context(|| file.display().to_string())
}

/// The world `plugin` of the newest `wit/`.
fn world() -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/0.1.0");
    let (package, _) = resolve.push_dir(&folder)?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    Ok((resolve, world))
}

/// A core module that implements the world, as a component.
fn component(mut module: Vec<u8>) -> Result<Vec<u8>> {
    let (resolve, world) = world()?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().module(&module)?.validate(true).encode()
}
