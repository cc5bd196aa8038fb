//! The command line.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;

/// Train generative adversarial networks on the CPU, draw samples, and see how good they are.
#[derive(Debug, Parser)]
#[command(name = "gan", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a GAN in a new folder
    Train(TrainArguments),
    /// Go on with a run that was interrupted, bit for bit
    Resume(ResumeArguments),
    /// Draw samples from a run's generator
    Sample(SampleArguments),
    /// Compare generated with real data
    Evaluate {
        /// The run's folder
        #[arg(value_name = "DIR")]
        run: PathBuf,
        /// Measure these rows, in the data's units, in the place of generated ones: an array [count, ..] from anywhere
        #[arg(long, value_name = "FILE.npy")]
        samples: Option<PathBuf>,
        /// Print JSON rather than a table
        #[arg(long)]
        json: bool,
    },
    /// Draw real beside generated samples, G and D, and the curves of the run
    Plot {
        /// The run's folder
        #[arg(value_name = "DIR")]
        run: PathBuf,
        /// Draw the main picture alone, into this file, .svg or .png [default: all pictures, into the run's plots]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show what a run or a file of weights holds
    Inspect {
        /// The run's folder, or a .safetensors file
        #[arg(value_name = "DIR | FILE")]
        path: PathBuf,
        /// Print JSON rather than a table
        #[arg(long)]
        json: bool,
    },
    /// List the presets, or print one as TOML
    Presets {
        /// The preset to print
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    /// A configuration that comes with the program [default: notebook]
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub(crate) preset: Option<String>,
    /// A configuration of your own, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The new folder for everything the run writes [default: runs/NAME-N, the first N that is free]
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<PathBuf>,
    /// Where all random numbers start; the same seed gives the same run
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Change one setting of the configuration; may be given several times
    #[arg(long, value_name = "key.path=value")]
    pub(crate) set: Vec<String>,
    /// Check everything, show the networks, and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) running: Running,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArguments {
    /// The run's folder
    #[arg(value_name = "DIR")]
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) running: Running,
}

/// What changes nothing about a run's results.
#[derive(Debug, Args)]
pub(crate) struct Running {
    /// How many threads compute; results do not depend on it [default: one for each core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
    /// Show no progress
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SampleArguments {
    /// The run's folder
    #[arg(value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// How many rows to draw, or pairs of latents with --interpolate
    #[arg(long, value_name = "N", required_unless_present = "latent")]
    pub(crate) count: Option<usize>,
    /// Where the random numbers start [default: the run's seed]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Draw rows of this class, where the generator was trained with labels [default: all in turn]
    #[arg(long, value_name = "CLASS")]
    pub(crate) label: Option<String>,
    /// Use these latents, an array [count, dim], rather than fresh ones
    #[arg(long, value_name = "FILE.npy", conflicts_with = "seed")]
    pub(crate) latent: Option<PathBuf>,
    /// Draw N rows on the way between each of --count pairs of latents, both ends among them, all of one class
    #[arg(long, value_name = "N", conflicts_with = "latent")]
    pub(crate) interpolate: Option<usize>,
    /// Draw anew each number of a normal latent that is more than T standard deviations away from the mean: samples
    /// become more typical and less varied
    #[arg(long, value_name = "T", conflicts_with = "latent", allow_negative_numbers = true)]
    pub(crate) truncation: Option<f64>,
    /// The file to write: .csv, .npy or, as a picture, .png
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

impl Arguments {
    /// Reads the command line. Help and version are printed and end the program.
    pub(crate) fn read() -> Result<Self, Failure> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = error.print();
                std::process::exit(0)
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Failure::input("expected a command, found none; `gan --help` lists them")
            }
            _ => {
                // The first paragraph says what is wrong; usage follows.
                let text = error.render().to_string();
                let problem = text.split("\n\n").next().unwrap_or_default();
                Failure::input(problem.trim_start_matches("error: ").to_owned() + "; see `gan --help`")
            }
        })
    }
}
