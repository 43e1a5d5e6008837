//! The files a configuration names: passwords, and prefixes one a line. The only part of this module that reads the disk.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bgp::speaker::Secret;
use ipnet::IpNet;

use super::model::Config;
use super::options::check_secret;
use super::problem::{Problem, Severity};

/// Reads every file `config` names and puts what they hold in its place.
pub(super) fn read_named(config: &mut Config, problems: &mut Vec<Problem>) {
    let (prefixes, found) = read_prefix_files(&config.advertise.files);
    problems.extend(found);
    config.advertise.from_files = Arc::new(prefixes);
    for authentication in config.bfd_profiles.values_mut().filter_map(|profile| profile.authentication.as_mut()) {
        let (kind, longest) = (authentication.kind, authentication.kind.longest_key());
        for key in &mut authentication.keys {
            let Some(path) = &key.password_file else { continue };
            let (password, found) = read_password(path);
            let too_long = password.as_ref().is_some_and(|password| password.reveal().len() > longest);
            let complaint = format!("password is longer than {longest} octets, the most {kind} takes");
            problems.extend(found);
            problems.extend(too_long.then(|| Problem::of_file(path, complaint)));
            key.password = password;
        }
    }
    let neighbors = config.bgp.neighbors.iter_mut().map(|n| (&n.password_file, &mut n.peer.password));
    let ranges = config.bgp.listen_ranges.iter_mut().map(|r| (&r.password_file, &mut r.range.template.password));
    for (path, password) in neighbors.chain(ranges) {
        let Some(path) = path else { continue };
        let found = read_password(path);
        *password = found.0;
        for problem in found.1 {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
}

/// Reads the files of `[advertise] files`. The prefixes are sorted, each once; a file with an error still gives its good lines, so
/// that the caller decides.
pub fn read_prefix_files(patterns: &[PathBuf]) -> (Vec<IpNet>, Vec<Problem>) {
    let mut prefixes = Vec::new();
    let mut problems = Vec::new();
    for pattern in patterns {
        let files = match expand(pattern) {
            Ok(files) => files,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if files.is_empty() {
            let problem = Problem::of_file(pattern, "matches no file".to_owned());
            problems.push(Problem { severity: Severity::Warning, ..named_in_advertise(problem) });
        }
        for file in files {
            match std::fs::read_to_string(&file) {
                Ok(text) => {
                    let (some, found) = parse_prefixes(&text, &file);
                    prefixes.extend(some);
                    problems.extend(found);
                }
                Err(error) => {
                    let problem = Problem::of_file(&file, format!("cannot be read: {error}"));
                    problems.push(named_in_advertise(problem));
                }
            }
        }
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    (prefixes, problems)
}

/// Says which key leads to a file with a problem.
fn named_in_advertise(problem: Problem) -> Problem {
    Problem { hint: Some("'files' in [advertise] names it".to_owned()), ..problem }
}

/// Understands the text of a prefix file: one prefix a line, `#` begins a comment.
pub fn parse_prefixes(text: &str, file: &Path) -> (Vec<IpNet>, Vec<Problem>) {
    let mut prefixes = Vec::new();
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or("");
        let word = content.trim();
        if word.is_empty() {
            continue;
        }
        match parse_prefix(word) {
            Ok(prefix) => prefixes.push(prefix),
            Err((message, hint)) => {
                let indent = content.chars().take_while(|c| c.is_whitespace()).count();
                problems.push(Problem {
                    severity: Severity::Error,
                    file: file.to_owned(),
                    line: index + 1,
                    column: indent + 1,
                    message,
                    hint,
                });
            }
        }
    }
    (prefixes, problems)
}

/// A prefix with its length and without host bits, or what is wrong and what to write instead.
pub(super) fn parse_prefix(text: &str) -> Result<IpNet, (String, Option<String>)> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Err((format!("'{text}' has no prefix length"), Some(format!("write {}", IpNet::from(address)))));
    }
    let prefix: IpNet = text.parse().map_err(|_| {
        let shown: String = text.chars().take(60).collect();
        (format!("'{shown}' is not a prefix such as 192.0.2.1/32 or 2001:db8::1/128"), None)
    })?;
    let canonical = prefix.trunc();
    if canonical != prefix {
        let host = IpNet::from(prefix.addr());
        let hint = format!("{canonical} is the network, {host} the address alone");
        return Err((format!("'{text}' has bits set beyond its length"), Some(hint)));
    }
    Ok(prefix)
}

/// The files a pattern means, in order. Without a wildcard it is the file itself, whether it exists or not.
fn expand(pattern: &Path) -> Result<Vec<PathBuf>, Problem> {
    let name = pattern.file_name().and_then(|n| n.to_str()).unwrap_or("");
    if !name.contains(['*', '?']) {
        return Ok(vec![pattern.to_owned()]);
    }
    let directory = pattern.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Problem::of_file(directory, format!("cannot be read: {error}"))),
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(|found| matches(name, found)))
        .map(|entry| entry.path())
        .filter(|path| !path.is_dir())
        .collect();
    files.sort();
    Ok(files)
}

/// Whether a shell pattern of `*` and `?` matches; like the shell, a wildcard at the beginning does not match a dot.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: let the star take one more.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((after, taken)) => {
                    retry = Some((after, taken + 1));
                    p = after;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// A warning if the configuration has a password in it and everybody may read it.
pub(super) fn open_passwords(file: &Path, config: &Config) -> Option<Problem> {
    let neighbors = config.bgp.neighbors.iter().any(|n| n.peer.password.is_some() && n.password_file.is_none());
    let ranges =
        config.bgp.listen_ranges.iter().any(|r| r.range.template.password.is_some() && r.password_file.is_none());
    let keys = config.bfd_profiles.values().filter_map(|profile| profile.authentication.as_ref());
    let bfd = keys.flat_map(|a| &a.keys).any(|key| key.password.is_some() && key.password_file.is_none());
    let what = "the configuration has passwords in it and";
    if neighbors || ranges || bfd { open_to_everybody(file, what, "chmod 0640, or 'password_file'") } else { None }
}

/// A warning if everybody may read the file.
fn open_to_everybody(path: &Path, what: &str, hint: &str) -> Option<Problem> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let message = format!("{what} can be read by everybody (mode {:04o})", mode & 0o7777);
    (mode & 0o004 != 0).then(|| Problem {
        severity: Severity::Warning,
        hint: Some(hint.to_owned()),
        ..Problem::of_file(path, message)
    })
}

/// A password file: its first line, without what ends the line.
fn read_password(path: &Path) -> (Option<Secret>, Vec<Problem>) {
    let mut problems = Vec::new();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let what = if error.kind() == std::io::ErrorKind::InvalidData {
                "is not UTF-8 text".to_owned()
            } else {
                format!("cannot be read: {error}")
            };
            let problem = Problem::of_file(path, format!("password file {what}"));
            let hint = "a 'password_file' names it; relative paths start at the configuration's directory";
            return (None, vec![Problem { hint: Some(hint.to_owned()), ..problem }]);
        }
    };
    problems.extend(open_to_everybody(path, "password file", "chmod 0600"));
    let mut lines = text.lines();
    let first = lines.next().unwrap_or("");
    if lines.any(|line| !line.trim().is_empty()) {
        problems.push(Problem::of_file(path, "password file has more than one line".to_owned()));
        return (None, problems);
    }
    match check_secret(first) {
        Ok(()) => (Some(Secret::new(first)), problems),
        Err(error) => {
            problems.push(Problem::of_file(path, format!("password {error}")));
            (None, problems)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt.bak", false),
            ("*.txt", ".hidden.txt", false),
            ("*", "anything", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xxaxxaxb", true),
            ("*a*b", "xxaxxaxbc", false),
            ("plain", "plain", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn bfd_keys_are_read_from_their_files_and_one_that_does_not_fit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let text = "[bgp]\nasn = 1\nrouter_id = \"10.0.0.1\"\n[bfd.profiles.x.authentication]\ntype = \"md5\"\n\
                    keys = [{ id = 1, password_file = \"key\" }]\n";
        let file = directory.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        for (key, read) in [("0123456789abcdef\n", true), ("0123456789abcdefg\n", false), ("", false)] {
            std::fs::write(directory.path().join("key"), key).unwrap();
            let outcome = crate::config::load(&file).into_result();
            let shown = outcome.as_ref().err().map(|p| p.0.iter().map(ToString::to_string).collect::<String>());
            assert_eq!(outcome.is_ok(), read, "{shown:?}");
            assert!(!shown.unwrap_or_default().contains("0123"), "a key is never shown");
            if let Ok((config, _)) = outcome {
                assert!(config.bfd_profiles["x"].authentication.as_ref().unwrap().keys().is_some());
            }
        }
        std::fs::remove_file(directory.path().join("key")).unwrap();
        assert!(crate::config::load(&file).into_result().is_err(), "without its key it must not start");
    }

    #[test]
    fn passwords_in_a_file_that_everybody_may_read_are_warned_of() {
        let head = "[bgp]\nasn = 1\nrouter_id = \"10.0.0.1\"\n";
        let neighbor = "[[bgp.neighbors]]\naddress = \"10.0.0.2\"\nremote_as = 2\n";
        let range = "[[bgp.listen_ranges]]\nprefix = \"10.0.0.0/24\"\nremote_as = 2\n";
        let bfd = "[bfd.profiles.x.authentication]\ntype = \"md5\"\nkeys = [{ id = 1, password = \"sesame\" }]\n";
        let (inline, file) = ("password = \"sesame\"\n", "password_file = \"key\"\n");
        let directory = tempfile::tempdir().unwrap();
        let [config, key] = ["c.toml", "key"].map(|name| directory.path().join(name));
        std::fs::write(&key, "sesame\n").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        for (body, mode, warned) in [
            (format!("{neighbor}{inline}"), 0o644, true),
            (format!("{neighbor}{inline}"), 0o640, false),
            (format!("{neighbor}{file}"), 0o644, false),
            (format!("[bgp.peer_groups.g]\n{inline}{neighbor}peer_group = \"g\"\n"), 0o644, true),
            (format!("{range}{inline}"), 0o644, true),
            (format!("{range}{file}"), 0o644, false),
            (format!("{neighbor}{bfd}"), 0o644, true),
            (neighbor.to_owned(), 0o644, false),
        ] {
            std::fs::write(&config, format!("{head}{body}")).unwrap();
            std::fs::set_permissions(&config, std::fs::Permissions::from_mode(mode)).unwrap();
            let (_, warnings) = crate::config::load(&config).into_result().unwrap();
            let shown: Vec<_> = warnings.iter().map(|w| w.message.as_str()).collect();
            let expected = "the configuration has passwords in it and can be read by everybody (mode 0644)";
            assert_eq!(shown, if warned { vec![expected] } else { vec![] }, "{body}");
        }
    }

    #[test]
    fn a_prefix_file_keeps_its_good_lines_and_names_the_others() {
        let text = "# API addresses\n192.0.2.1/32\n\n  2001:db8::1/128  # ours\n\t192.0.2.7\n10.0.0.1/24\nfoo\n";
        let (prefixes, problems) = parse_prefixes(text, Path::new("p.txt"));
        assert_eq!(prefixes, ["192.0.2.1/32".parse().unwrap(), "2001:db8::1/128".parse().unwrap()]);
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "p.txt:5:2: '192.0.2.7' has no prefix length\n    hint: write 192.0.2.7/32",
                "p.txt:6:1: '10.0.0.1/24' has bits set beyond its length\n    hint: 10.0.0.0/24 is the network, 10.0.0.1/32 the address alone",
                "p.txt:7:1: 'foo' is not a prefix such as 192.0.2.1/32 or 2001:db8::1/128",
            ]
        );
    }
}
