//! Where a database is served: `tcp:`, `ssl:` and `unix:` connection methods, as ovsdb(7) spells them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of OVSDB when none is given (registered with IANA).
pub const DEFAULT_PORT: u16 = 6640;

/// One active connection method.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Remote {
    /// `tcp:HOST[:PORT]`.
    Tcp {
        /// Address or name, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `ssl:HOST[:PORT]`.
    Ssl {
        /// Address or name, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// The text is not a list of connection methods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{item}' is not a database remote: {problem} (expected tcp:HOST:PORT, ssl:HOST:PORT or unix:PATH)")]
pub struct ParseRemoteError {
    item: String,
    problem: &'static str,
}

impl Remote {
    /// Parses a comma-separated list, such as the value of `ovn-nb-remote`. Empty items are passed over; an empty list is an error.
    pub fn parse(text: &str) -> Result<Vec<Self>, ParseRemoteError> {
        let remotes = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::parse)
            .collect::<Result<Vec<_>, _>>()?;
        if remotes.is_empty() {
            return Err(ParseRemoteError { item: text.to_owned(), problem: "it is empty" });
        }
        Ok(remotes)
    }
}

impl FromStr for Remote {
    type Err = ParseRemoteError;

    fn from_str(item: &str) -> Result<Self, Self::Err> {
        let error = |problem| ParseRemoteError { item: item.to_owned(), problem };
        let (method, rest) = item.split_once(':').ok_or_else(|| error("no ':'"))?;
        match method {
            "unix" if rest.is_empty() => Err(error("the path is missing")),
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" => host_port(rest).map(|(host, port)| Self::Tcp { host, port }).map_err(error),
            "ssl" => host_port(rest).map(|(host, port)| Self::Ssl { host, port }).map_err(error),
            "ptcp" | "pssl" | "punix" => Err(error("a passive method listens, this program connects")),
            _ => Err(error("unknown method")),
        }
    }
}

fn host_port(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("']' is missing")?;
            (host, after.strip_prefix(':').or_else(|| after.is_empty().then_some("")).ok_or("after ']' comes ':PORT'")?)
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address needs brackets, as in tcp:[::1]:6641");
            }
            Some((host, port)) => (host, port),
            None => (text, ""),
        },
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    let port = match port {
        "" => DEFAULT_PORT,
        digits => digits.parse().ok().filter(|p| *p != 0).ok_or("the port is not a number from 1 to 65535")?,
    };
    Ok((host.to_owned(), port))
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } => ("tcp", host, port),
            Self::Ssl { host, port } => ("ssl", host, port),
        };
        if host.contains(':') { write!(f, "{method}:[{host}]:{port}") } else { write!(f, "{method}:{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_round_trip() {
        for text in
            ["tcp:172.17.0.30:6641", "ssl:[fd00::1]:6641", "unix:/run/openvswitch/db.sock", "ssl:nb.example:16641"]
        {
            assert_eq!(Remote::parse(text).unwrap()[0].to_string(), text);
        }
        let list = Remote::parse(" tcp:10.0.0.1:6641, ssl:10.0.0.2:6641,unix:/x ,").unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!(list[1], Remote::Ssl { host: "10.0.0.2".to_owned(), port: 6641 });
        assert_eq!(Remote::parse("tcp:[::1]").unwrap()[0].to_string(), "tcp:[::1]:6640");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("", "empty"),
            ("10.0.0.1", "no ':'"),
            ("10.0.0.1:6641", "unknown method"),
            ("tcp:", "host is missing"),
            ("tcp:fd00::1:6641", "brackets"),
            ("tcp:[::1", "']' is missing"),
            ("tcp:h:x", "not a number"),
            ("tcp:h:0", "not a number"),
            ("unix:", "path is missing"),
            ("ptcp:6641", "listens"),
        ] {
            let error = Remote::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
