//! The real binary: what it prints where, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn ovn_bgpd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ovn-bgpd")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A configuration file of a test, in a directory of its own.
struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn file(content: &str) -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    std::fs::write(&path, content).unwrap();
    File { _directory: directory, path }
}

fn check(content: &str) -> (Option<i32>, String, String) {
    let file = file(content);
    let output = ovn_bgpd(&["check", "--config", file.path.to_str().unwrap()]);
    let directory = format!("{}/", file.path.parent().unwrap().display());
    let stderr = text(&output.stderr).replace(&directory, "");
    (output.status.code(), text(&output.stdout).replace(&directory, ""), stderr)
}

#[test]
fn check_prints_every_problem_with_its_place_and_a_hint() {
    let (code, stdout, stderr) = check(
        r#"[bgp]
asn = 64999
router_id = "172.30.1.1"
hold_tme = "9s"

[bgp.peer_groups.uplink]
remote_as = "internal"
hold_time = 9

[[bgp.neighbors]]
interface = "enp2s0"
peer_group = "uplnk"

[[bgp.neighbors]]
address = "10.0.0.1"
remote_as = 65001
prefix_list_out = "host"
"#,
    );
    assert_eq!(
        stderr,
        "\
c.toml:4:1: unknown key 'hold_tme' in [bgp]
    hint: known here: allow_hold_time_zero, asn, ebgp_requires_policy, graceful_restart, listen, neighbors, peer_groups, port, router_id
c.toml:8:13: 'hold_time' is a number without a unit
    hint: write \"9s\" for seconds
c.toml:12:14: there is no peer group 'uplnk'
    hint: did you mean 'uplink'?
c.toml:17:19: there is no prefix list 'host'
    hint: define it in [prefix_lists]
c.toml: 4 errors
"
    );
    assert_eq!(stdout, "");
    assert_eq!(code, Some(1));
}

#[test]
fn check_of_a_good_file_says_what_it_is() {
    let (code, stdout, stderr) = check("[bgp]\nasn = 64999\n[advertise]\nprefixes = [\"192.0.2.1/32\"]\n");
    assert_eq!(stderr, "");
    assert_eq!(
        stdout,
        "c.toml: fine: AS 64999, router ID 192.0.2.1, 0 neighbours, 1 prefix to announce, without OVN\n"
    );
    assert_eq!(code, Some(0));
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let output = ovn_bgpd(&["check", "--config", "/nonexistent/c.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("/nonexistent/c.toml: cannot be read: No such file or directory"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn run_refuses_a_wrong_configuration() {
    let file = file("[bgp]\nasn = 0\nrouter_id = \"192.0.2.1\"\n");
    let output = ovn_bgpd(&["run", "--config", file.path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("c.toml:2:7: 'asn' is 0"), "{stderr}");
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for arguments in [&["chek"][..], &["check"][..], &["show", "nothing"][..], &[][..]] {
        let output = ovn_bgpd(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let output = ovn_bgpd(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("ovn-bgpd"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ovn-bgpd"))
        .arg("man")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Closed before the first octet is written or read; whichever comes first, nobody should hear of it.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
    assert!(output.status.success());
}

/// Every file of configs/, sorted.
fn configs() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "toml") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("configs"), &mut found);
    found.sort();
    found
}

#[test]
fn every_example_passes_check() {
    let configs = configs();
    assert!(configs.len() >= 2, "{configs:?}");
    for path in configs {
        let output = ovn_bgpd(&["check", "--config", path.to_str().unwrap()]);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{}: {stderr}", path.display());
        assert!(stdout.contains(": fine: "), "{stdout}");
    }
}
