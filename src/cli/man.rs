//! `man`: the manual page.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Command, CommandFactory};

use super::args::Cli;
use super::output::{self, Failure};

/// What clap does not know of, in roff.
const REST: &str = r#".SH "EXIT STATUS"
.TP
0
Done, and the answer is yes where there is one.
.TP
1
The command ran, and the answer is no: the configuration has an error, the address is not announced, the reload or the upgrade was refused.
.TP
2
The command line is wrong.
.TP
3
The daemon cannot be reached or did not answer.
.TP
4
The daemon stopped because of an error.
.SH SIGNALS
.TP
SIGHUP
Reads the configuration again, as \fBovn\-bgpd reload\fR does.
.TP
SIGUSR2
Goes on in the binary that is on disk now, as \fBovn\-bgpd upgrade\fR asks for: sessions stay up.
.TP
SIGTERM, SIGINT
Ends the daemon. Wiring and learned routes stay in the kernel; neighbours keep our routes where graceful restart was agreed on,
the others are told.
.SH FILES
.TP
/etc/ovn\-bgpd/ovn\-bgpd.toml
The configuration of the packaged service.
.TP
/run/ovn\-bgpd/ovn\-bgpd.sock
The control socket; who may write there may command.
.TP
/etc/iproute2/rt_tables
Names of routing tables; a line is added for every provider bridge.
.SH ENVIRONMENT
.TP
RUST_LOG
What to log, instead of \fB\-v\fR: for example \fBovn_bgpd=debug,bgp=trace\fR.
.TP
NO_COLOR
No colours, even on a terminal.
.SH EXAMPLES
.TP
\fBovn\-bgpd check \-\-config /etc/ovn\-bgpd/ovn\-bgpd.toml\fR
Everything that is wrong with the file, with line and column.
.TP
\fBovn\-bgpd explain 203.0.113.9\fR
Why this address is or is not announced from here.
.TP
\fBovn\-bgpd reload \-\-dry\-run\fR
What a reload would do to each neighbour.
.TP
\fBovn\-bgpd upgrade\fR
After another binary was installed: the daemon goes on in it, and no neighbour notices.
.TP
\fBovn\-bgpd migrate \-\-agent bgp\-agent.conf \-\-frr frr.conf > ovn\-bgpd.toml\fR
A configuration that does what ovn\-bgp\-agent and FRR did.
"#;

/// Prints the page: what clap knows, every command with its options, and the rest.
pub(super) fn run() -> Result<ExitCode, Failure> {
    let mut page = Vec::new();
    render(&mut page).map_err(Failure::from)?;
    output::print_bytes(&page)
}

fn render(page: &mut Vec<u8>) -> io::Result<()> {
    let command = Cli::command();
    let man = clap_mangen::Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    page.write_all(b".SH SUBCOMMANDS\n")?;
    for sub in command.get_subcommands() {
        subcommand(page, sub)?;
    }
    page.write_all(REST.as_bytes())?;
    man.render_version_section(page)
}

/// A command with its arguments, on the page of its own that most will never open.
fn subcommand(page: &mut Vec<u8>, command: &Command) -> io::Result<()> {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(page, ".SS {}\n{}", escape(command.get_name()), escape(&about))?;
    for argument in command.get_arguments() {
        let value = argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
        let takes = argument.get_action().takes_values();
        let name = match (argument.get_long(), value.filter(|_| takes)) {
            (Some(long), Some(value)) => format!("--{long} {value}"),
            (Some(long), None) => format!("--{long}"),
            (None, value) => value.unwrap_or_else(|| argument.get_id().to_string()),
        };
        let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<String> =
            argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        if !values.is_empty() && takes {
            help = format!("{help}: {}", values.join(", "));
        }
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", escape(&name), escape(&help))?;
    }
    Ok(())
}

/// roff's own characters as text.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
