//! `rollcage key`: an author's key pair, in minisign's form, for signing packages.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use etcetera::BaseStrategy;
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};
use rollcage::UsageError;

use super::{Status, complain, say, say_json};

/// Make or show the key that you sign packages with
///
/// A key pair of minisign's form: `minisign` itself can use it too. Others know you by the public key: they write it into their
/// trust file (docs/trust.md).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rollcage key new                     in rollcage/author.key of your configuration folder
  rollcage key new --output my.key --encrypt
  rollcage key show

Exit status:
  0  the key is there
  1  the file cannot be read or written
  2  there is a key already, or none")]
#[command(override_usage = "rollcage key <COMMAND>", subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Key {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Make a key pair, and print its public key
    New {
        /// Where the secret key goes [default: rollcage/author.key in your configuration folder]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,

        /// Ask for a password, by which the file is encrypted
        #[arg(long)]
        encrypt: bool,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the public key that belongs to a secret key
    Show {
        /// The secret key [default: the one that `key new` makes]
        file: Option<PathBuf>,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl Key {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        match &self.what {
            What::New { output, encrypt, json } => new(&file_or_default(output.as_deref())?, *encrypt, *json)?,
            What::Show { file, json } => {
                let file = file_or_default(file.as_deref())?;
                tell(&read(&file)?.1, &file, *json)?;
            }
        }
        Ok(Status::Complete)
    }
}

/// Where a key lies that was not named: none, if no folder of the user's own is known.
pub(super) fn default_file() -> Option<PathBuf> {
    etcetera::choose_base_strategy().ok().map(|folders| folders.config_dir().join("rollcage/author.key"))
}

fn file_or_default(given: Option<&Path>) -> Result<PathBuf, UsageError> {
    match given {
        Some(file) => Ok(file.to_owned()),
        None => {
            default_file().ok_or_else(|| UsageError::new("the configuration folder is not known").hint("name a file"))
        }
    }
}

fn new(file: &Path, encrypt: bool, json: bool) -> anyhow::Result<()> {
    let shown = super::shown(file);
    if file.symlink_metadata().is_ok() {
        let error = UsageError::new(format!("`{shown}` is there already"));
        return Err(error.hint("`rollcage key show` prints its public key; `--output` makes another").into());
    }
    if encrypt && !std::io::stdin().is_terminal() {
        let error = UsageError::new("a password is asked for on a terminal, and there is none");
        return Err(error.hint("leave out `--encrypt`: the file is readable for you alone").into());
    }
    let made =
        if encrypt { KeyPair::generate_encrypted_keypair(None) } else { KeyPair::generate_unencrypted_keypair() };
    let KeyPair { pk, sk } = made.context("making a key pair")?;
    let comment = "secret key of an author of rollcage packages";
    let text = sk.to_box(Some(comment)).context("writing the key")?.into_string();
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("making `{}`", folder.display()))?;
    }
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    if let Ok(file) = &mut written {
        file.write_all(text.as_bytes()).with_context(|| format!("writing `{shown}`"))?;
    }
    written.with_context(|| format!("writing `{shown}`"))?;
    tell(&pk, file, json)?;
    complain("hint", &format!("the secret key is in `{shown}`: keep it, and give it to nobody"));
    complain("hint", "the line above is your public key: give it to whoever is to trust your packages");
    Ok(())
}

/// Prints a public key.
fn tell(public: &PublicKey, secret: &Path, json: bool) -> anyhow::Result<()> {
    match json {
        true => say_json(&serde_json::json!({"public_key": public.to_base64(), "secret_key_file": secret})),
        false => say(&format!("{}\n", public.to_base64())),
    }
}

/// Reads a secret key; asks for its password on a terminal, if it has one.
pub(super) fn read(file: &Path) -> anyhow::Result<(SecretKey, PublicKey)> {
    let shown = super::shown(file);
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let error = UsageError::new(format!("there is no key `{shown}`"));
            return Err(error.hint("`rollcage key new` makes one").into());
        }
        read => read.with_context(|| format!("key `{shown}`"))?,
    };
    let refuse = |what: &str| UsageError::new(format!("key `{shown}`: {what}"));
    let boxed = || SecretKeyBox::from_string(&text).map_err(|_| refuse("it is no secret key of minisign's form"));
    let secret = match boxed()?.into_unencrypted_secret_key() {
        Ok(secret) => secret,
        Err(_) if std::io::stdin().is_terminal() => {
            boxed()?.into_secret_key(None).map_err(|_| refuse("the password is wrong, or the file is damaged"))?
        }
        Err(_) => {
            let error = refuse("it is encrypted, and there is no terminal to ask for its password");
            return Err(error.hint("sign on a terminal, or make a key without `--encrypt`").into());
        }
    };
    let public = PublicKey::from_secret_key(&secret).map_err(|_| refuse("it has no public key"))?;
    Ok((secret, public))
}
