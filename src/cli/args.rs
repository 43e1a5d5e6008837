//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Announces the addresses OVN hosts on this hypervisor, with its own BGP speaker.
#[derive(Debug, Parser)]
#[command(name = "ovn-bgpd", version, max_term_width = 120, propagate_version = false)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Control socket of the daemon.
    #[arg(long, global = true, value_name = "PATH", default_value = crate::config::DEFAULT_SOCKET)]
    pub(super) socket: PathBuf,
    /// How diagnostics are written to stderr.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// Say more; twice: everything. With `show neighbors`: all about each.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon; without an [ovn] section, a plain BGP speaker.
    Run {
        /// Configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Record what the databases and the host say, and what follows from it, into this file (JSON lines).
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
    },
    /// Replay a recording of `run --record`: print what follows; exit code 1 where that is not what it says.
    Replay {
        /// The recording.
        file: PathBuf,
    },
    /// Validate a configuration: every problem with file, line, column and a hint.
    Check {
        /// Configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say offline what this host would wire and announce, from two database files.
    Plan(PlanArgs),
    /// Show what the daemon knows.
    Show {
        /// What to show.
        topic: Topic,
        /// Print JSON, as the API has it.
        #[arg(long)]
        json: bool,
    },
    /// Say why an address is or is not announced here; exit code 1 when it is not.
    Explain {
        /// Address of a machine, a floating IP, a load balancer …
        address: std::net::IpAddr,
        /// Print JSON, as the API has it.
        #[arg(long)]
        json: bool,
    },
    /// Have the daemon read its configuration again; says per neighbour what happens.
    Reload {
        /// Only say what would happen.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON, as the API has it.
        #[arg(long)]
        json: bool,
    },
    /// Have the daemon go on in the binary that is on disk now, with its sessions up; says per neighbour what came of it.
    Upgrade {
        /// Print JSON, as the API has it.
        #[arg(long)]
        json: bool,
        /// Print what format of sessions this binary takes over, for a daemon that is about to go on in it.
        #[arg(long, hide = true)]
        format: bool,
    },
    /// Move traffic away from this host before maintenance.
    Drain {
        /// How long neighbours are asked to look elsewhere (GRACEFUL_SHUTDOWN) before everything is withdrawn, such as `5s` or `0s`
        /// [default: `drain_wait` of the configuration, 2s].
        #[arg(long, value_name = "DURATION", value_parser = crate::config::duration::parse)]
        wait: Option<Duration>,
        /// Print JSON, as the API has it.
        #[arg(long)]
        json: bool,
    },
    /// Bring traffic back after maintenance.
    Undrain {
        /// Print JSON, as the API has it.
        #[arg(long)]
        json: bool,
    },
    /// Print what ovn-bgp-agent and FRR were told as a configuration, with warnings about what could not be carried over.
    #[command(arg_required_else_help = true)]
    Migrate {
        /// Configuration of ovn-bgp-agent.
        #[arg(long, value_name = "FILE")]
        agent: Option<PathBuf>,
        /// Configuration of FRR.
        #[arg(long, value_name = "FILE")]
        frr: Option<PathBuf>,
    },
    /// Say what BGP messages (or BFD packets) mean, or what is wrong with them: one JSON line each.
    Decode(DecodeArgs),
    /// Print a completion script.
    Completions {
        /// Shell to print it for.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff).
    Man,
}

/// What `show` can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Topic {
    /// The daemon in a few lines.
    Summary,
    /// BGP neighbours.
    Neighbors,
    /// What we announce.
    Routes,
    /// What neighbours told us.
    Learned,
    /// Addresses this host attracts.
    Exposures,
    /// Kernel and OVS objects.
    Wiring,
    /// BFD sessions.
    Bfd,
}

impl Topic {
    /// Where the API has it.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Summary => "/v1/summary",
            Self::Neighbors => "/v1/neighbors",
            Self::Routes => "/v1/routes",
            Self::Learned => "/v1/learned",
            Self::Exposures => "/v1/exposures",
            Self::Wiring => "/v1/wiring",
            Self::Bfd => "/v1/bfd",
        }
    }
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Northbound database: a standalone database file, or what `ovsdb-client dump --format=json` or `backup` printed.
    #[arg(long, value_name = "FILE")]
    pub(super) nb: PathBuf,
    /// Local Open_vSwitch database, in the same forms.
    #[arg(long, value_name = "FILE")]
    pub(super) ovs: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `decode`.
#[derive(Debug, Args)]
pub(super) struct DecodeArgs {
    /// AS numbers have two octets: capability 65 was not agreed on.
    #[arg(long)]
    pub(super) as2: bool,
    /// Prefixes of these families carry path identifiers (RFC 7911).
    #[arg(long, value_delimiter = ',', value_name = "FAMILIES")]
    pub(super) add_path: Vec<FamilyArg>,
    /// Messages up to 65535 octets (RFC 8654).
    #[arg(long)]
    pub(super) extended: bool,
    /// From an internal neighbour.
    #[arg(long)]
    pub(super) ibgp: bool,
    /// From a neighbour in our confederation (RFC 5065), of our member AS with --ibgp.
    #[arg(long)]
    pub(super) confederation: bool,
    /// Only these families were agreed on.
    #[arg(long, value_delimiter = ',', value_name = "FAMILIES")]
    pub(super) families: Vec<FamilyArg>,
    /// IPv6 next hops for IPv4 were not agreed on (RFC 8950).
    #[arg(long)]
    pub(super) no_extended_next_hop: bool,
    /// Enhanced route refresh was not agreed on (RFC 7313).
    #[arg(long)]
    pub(super) no_enhanced_refresh: bool,
    /// BFD control packets instead of BGP messages.
    #[arg(long)]
    pub(super) bfd: bool,
    /// Messages in hexadecimal from the Marker on, one or several an argument, or a hex dump; without any, from the lines of stdin.
    #[arg(value_name = "HEX")]
    pub(super) hex: Vec<String>,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FamilyArg {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}
