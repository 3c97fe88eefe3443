//! `cargo xtask docs`: the API documentation, with broken links and missing words as errors.

use anyhow::Result;

use crate::cargo;

/// Options of `cargo xtask docs`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Open it in a browser
    #[arg(long)]
    open: bool,
}

/// Builds the documentation of every member.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut command = cargo::command();
    command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    if options.open {
        command.arg("--open");
    }
    cargo::succeeds(&mut command)
}
