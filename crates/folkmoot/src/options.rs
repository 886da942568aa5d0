//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::demo::DemoOptions;
use crate::serve;

/// Private group messaging: MLS, a blind delivery service, and clients.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Options {
    #[command(flatten)]
    pub home: HomeOptions,
    /// Print data instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// Whose state, and how it is opened.
#[derive(Args)]
pub struct HomeOptions {
    /// The folder with this device's state.
    #[arg(long, global = true, env = "FOLKMOOT_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// A file with the state's key instead of a passphrase; made at registration if missing.
    #[arg(long, global = true, env = "FOLKMOOT_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the services.
    Serve(Box<serve::Options>),
    /// Make an account on a server, and this home its first device.
    Register {
        /// 1 to 32 of a-z, 0-9, '-', '_', '.'.
        name: String,
        /// The server's address, as `serve` prints it.
        #[arg(long, value_name = "URL")]
        server: String,
    },
    /// Start a group.
    New {
        group: String,
        /// Users to add at once.
        #[arg(long, value_delimiter = ',', value_name = "USER,USER")]
        with: Vec<String>,
    },
    /// Add users to a group.
    Add {
        group: String,
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Remove users from a group.
    Remove {
        group: String,
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Leave a group. It is done as soon as another member is online.
    Leave { group: String },
    /// Make a link at which people outside of a group can knock, or show the one that there is.
    Invite {
        group: String,
        /// A link, for whoever is to have it.
        #[arg(long, required = true)]
        link: bool,
        /// Members are asked about each who knocks; else whoever was not removed is let in.
        #[arg(long)]
        ask: bool,
        /// Take the link back.
        #[arg(long, conflicts_with = "ask")]
        stop: bool,
    },
    /// Ask to be let into a group, where a link leads.
    Knock {
        link: String,
        /// Leave this user's other devices in the group; else this one takes their place.
        #[arg(long)]
        beside: bool,
    },
    /// Show who knocked and was not answered yet.
    Knocks { group: String },
    /// Let somebody in who knocked.
    Accept { group: String, user: String },
    /// Do not let somebody in who knocked.
    Decline { group: String, user: String },
    /// Renew this device's keys in a group.
    Update { group: String },
    /// Send a message.
    Send {
        group: String,
        /// The text; `-` or nothing reads standard input.
        text: Option<String>,
    },
    /// Fetch what is new, join where invited, finish what was begun.
    Sync,
    /// Show a group's messages and changes of membership.
    Read {
        group: String,
        /// Stay, and show what comes.
        #[arg(long)]
        follow: bool,
    },
    /// List groups.
    Groups,
    /// Show a group's members, epoch and epoch authenticator.
    Members { group: String },
    /// Show an MLS message field by field.
    Inspect {
        /// A file with one MLSMessage; `-` reads standard input.
        file: PathBuf,
    },
    /// Watch three people talk through a real server.
    Demo(DemoOptions),
}
