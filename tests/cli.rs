//! The real binary: what it prints where, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::os::unix::fs::PermissionsExt as _;
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
    // As the file should be where it holds passwords.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
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
    hint: known here: allow_hold_time_zero, asn, drain_wait, ebgp_requires_policy, graceful_restart, listen, listen_ranges, neighbors, peer_groups, port, router_id
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

#[test]
fn migrate_prints_a_configuration_and_remarks_on_the_rest() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate");
    let (agent, frr) = (root.join("bgp-agent.conf"), root.join("frr.conf"));
    let output = ovn_bgpd(&["migrate", "--agent", agent.to_str().unwrap(), "--frr", frr.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("frr.conf:12: 'bgp graceful-shutdown': would announce"), "{stderr}");
    assert!(!stderr.contains("foobar"), "{stderr}");
    let (code, stdout, stderr) = check(&text(&output.stdout));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("fine: AS 64999, router ID 172.30.1.1, 2 neighbours"), "{stdout}");
    assert_eq!(ovn_bgpd(&["migrate", "--frr", "/nonexistent"]).status.code(), Some(1));
    assert_eq!(ovn_bgpd(&["migrate"]).status.code(), Some(2));
}

#[test]
fn decode_says_what_a_message_means_or_what_is_wrong_with_it() {
    let keepalive = "ffffffffffffffffffffffffffffffff001304";
    let marker_broken = "00ffffffffffffffffffffffffffffff001304";
    let output = ovn_bgpd(&["decode", keepalive, marker_broken, "nonsense"]);
    assert_eq!(output.status.code(), Some(1), "one was not hexadecimal");
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["type"], &lines[0]["outcome"]), (&"KEEPALIVE".into(), &"accept".into()));
    assert_eq!(lines[1]["outcome"], "session_reset");
    assert_eq!((&lines[1]["notification"]["code"], &lines[1]["notification"]["subcode"]), (&1.into(), &1.into()));
    assert_eq!(lines[1]["offset"], 0);
    assert_eq!(lines[2]["error"], "character 1, 'n', is not hexadecimal");
}

#[test]
fn decode_reads_bfd_packets_and_lines_of_stdin() {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_ovn-bgpd"))
        .args(["decode", "--bfd"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let good = "20c003180000000100000002000493e0000493e000000000";
    let truncated = "20c00318";
    writeln!(child.stdin.take().unwrap(), "{good}\n\n{truncated}").unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["packet"]["state"], "Up");
    assert_eq!(lines[0]["packet"]["desired_min_tx_us"], 300_000);
    assert_eq!(lines[1]["outcome"], "discard");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn decode_reads_what_people_paste() {
    use std::io::Write;
    let decode = |arguments: &[&str], input: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ovn-bgpd"))
            .arg("decode")
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>();
        (said, output.status.code())
    };
    let fields = |said: &[serde_json::Value]| {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        said.iter().map(|line| (text(&line["type"]), text(&line["outcome"]))).collect::<Vec<_>>()
    };
    let keepalive = "ffffffffffffffffffffffffffffffff001304";
    let end_of_rib = "ffffffffffffffffffffffffffffffff00170200000000";
    let update = ("UPDATE".to_owned(), "accept".to_owned());
    let both = [("KEEPALIVE".to_owned(), "accept".to_owned()), update.clone()];

    // Several messages of a stream, in an argument or a line, and a dump over several lines.
    assert_eq!(fields(&decode(&[&format!("{keepalive}{end_of_rib}")], b"").0), both);
    assert_eq!(fields(&decode(&[], format!("{keepalive} {end_of_rib}\r\n").as_bytes()).0), both);
    let dump = "0000   ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff   ................\n\
                0010   00 17 02 00 00 00 00                              .......\n";
    assert_eq!(fields(&decode(&[], dump.as_bytes()).0), std::slice::from_ref(&update));
    assert_eq!(fields(&decode(&[dump], b"").0), std::slice::from_ref(&update));
    assert_eq!(fields(&decode(&["FF"; 16], b"").0), [("unknown".to_owned(), "incomplete".to_owned())]);

    // Nothing in, nothing out; what is no hexadecimal has its place, the lines around it are read.
    assert_eq!(decode(&[], b"\n\n"), (vec![], Some(0)));
    let input = [keepalive.as_bytes(), b"\n\nffxy\nff\xff\n", end_of_rib.as_bytes()].concat();
    let (said, code) = decode(&[], &input);
    assert_eq!(said[1]["error"], "line 3: character 3, 'x', is not hexadecimal");
    assert_eq!(said[2]["error"], "line 4: character 3, '\\u{fffd}', is not hexadecimal");
    assert_eq!((said.len(), said[3]["outcome"].as_str(), code), (4, Some("accept"), Some(1)));

    // A session that has not agreed on everything.
    let reserved = "ffffffffffffffffffffffffffffffff00170500010301";
    assert_eq!(decode(&[reserved], b"").0[0]["outcome"], "ignore");
    assert_eq!(decode(&["--no-enhanced-refresh", reserved], b"").0[0]["outcome"], "accept");
    let ipv6_refresh = "ffffffffffffffffffffffffffffffff00170500020001";
    assert_eq!(decode(&["--families", "ipv4", ipv6_refresh], b"").0[0]["outcome"], "ignore");
}

#[test]
fn the_manual_page_has_what_a_manual_page_has() {
    let output = ovn_bgpd(&["man"]);
    let page = text(&output.stdout);
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SUBCOMMANDS", "EXIT STATUS", "FILES", "EXAMPLES"] {
        let quoted = format!(".SH \"{section}\"");
        assert!(page.lines().any(|l| l == format!(".SH {section}") || l == quoted), "{section} is not in\n{page}");
    }
    for command in ["check", "plan", "show", "explain", "reload", "upgrade", "drain", "undrain", "migrate", "decode"] {
        assert!(page.contains(&format!("ovn\\-bgpd\\-{command}(1)")) || page.contains(command), "{command}");
    }
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

#[test]
fn plan_refuses_a_file_of_another_database() {
    let config = file("[bgp]\nasn = 64999\nrouter_id = \"192.0.2.1\"\n[ovn]\n");
    let dump = |table: &str| file(&format!("{{\"caption\":\"{table} table\",\"headings\":[\"name\"],\"data\":[]}}"));
    let (nb, ovs) = (dump("Logical_Switch_Port"), dump("Bridge"));
    let path = |file: &File| file.path.to_str().unwrap().to_owned();
    let plan = |nb: &File, ovs: &File| {
        let output = ovn_bgpd(&["plan", "--config", &path(&config), "--nb", &path(nb), "--ovs", &path(ovs)]);
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(plan(&nb, &ovs).0, Some(0));
    let (code, said) = plan(&ovs, &nb);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not an OVN_Northbound database: its tables are Bridge"), "{said}");
}

/// A Northbound and a local database as the tools make them, and the plan's view of whatever they write.
struct Databases {
    folder: tempfile::TempDir,
    config: File,
}

impl Databases {
    const NB_SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";
    const OVS_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

    /// `None`, loudly, where the tools or the schemas are missing.
    fn new() -> Option<Self> {
        let needed = [Self::NB_SCHEMA, Self::OVS_SCHEMA, "/usr/bin/ovsdb-tool", "/usr/sbin/ovsdb-server"];
        if let Some(missing) = needed.iter().find(|path| !std::path::Path::new(path).exists()) {
            eprintln!("SKIPPED: no {missing}");
            return None;
        }
        let config = file("[bgp]\nasn = 64999\nrouter_id = \"192.0.2.1\"\n[ovn]\n");
        let made = Self { folder: tempfile::tempdir().unwrap(), config };
        made.run("ovsdb-tool", &["create", "nb.db", Self::NB_SCHEMA]);
        made.run("ovsdb-tool", &["create", "ovs.db", Self::OVS_SCHEMA]);
        // In two transactions, so that there is something to add up.
        made.run("ovsdb-tool", &["transact", "nb.db", r#"["OVN_Northbound",
            {"op":"insert","table":"Logical_Switch_Port","uuid-name":"vm","row":{"name":"vm","addresses":"fa:16:3e:00:00:0a 192.0.2.9","up":true,
             "external_ids":["map",[["neutron:host_id","me"],["neutron:network_name","neutron-n"]]]}},
            {"op":"insert","table":"Logical_Switch_Port","uuid-name":"ln","row":{"name":"provnet-0","type":"localnet","addresses":"unknown",
             "options":["map",[["network_name","physnet1"]]]}},
            {"op":"insert","table":"Logical_Switch","row":{"name":"neutron-n","ports":["set",[["named-uuid","vm"],["named-uuid","ln"]]]}}]"#]);
        made.run("ovsdb-tool", &["transact", "nb.db", r#"["OVN_Northbound",
            {"op":"update","table":"Logical_Switch_Port","where":[["name","==","vm"]],"row":{"addresses":"fa:16:3e:00:00:0a 192.0.2.10"}}]"#]);
        made.run("ovsdb-tool", &["transact", "ovs.db", r#"["Open_vSwitch",{"op":"insert","table":"Open_vSwitch","row":
            {"external_ids":["map",[["system-id","sys-me"],["hostname","me"],["ovn-bridge-mappings","physnet1:br-ex"]]]}}]"#]);
        Some(made)
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
        name.to_owned()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).env("OVS_RUNDIR", self.folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
        output.stdout
    }

    /// What a client that is asked this of a running server prints.
    fn clients(&self, arguments: &[&[&str]]) -> Vec<Vec<u8>> {
        let socket = self.at("db.sock");
        let mut server = Command::new("/usr/sbin/ovsdb-server")
            .args([format!("--remote=punix:{socket}"), format!("--unixctl={}", self.at("db.ctl"))])
            .args(["--no-chdir", "-vconsole:off", "nb.db", "ovs.db"])
            .current_dir(self.folder.path())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !std::path::Path::new(&socket).exists() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let remote = format!("unix:{socket}");
        let ask = |words: &&[&str]| {
            let words: Vec<&str> = words.iter().map(|word| if *word == "SERVER" { &remote } else { *word }).collect();
            self.run("ovsdb-client", &words)
        };
        let said = arguments.iter().map(ask).collect();
        server.kill().unwrap();
        server.wait().unwrap();
        said
    }

    fn plan(&self, nb: &str, ovs: &str) -> (Option<i32>, String, String) {
        let config = self.config.path.to_str().unwrap();
        let arguments = ["plan", "--json", "--config", config, "--nb", &self.at(nb), "--ovs", &self.at(ovs)];
        let output = ovn_bgpd(&arguments);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// A Northbound file that cannot be used: what is said.
    fn refused(&self, nb: &str) -> String {
        let (code, printed, said) = self.plan(nb, "ovs.db");
        assert_eq!((code, &*printed), (Some(1), ""), "{nb}: {said}");
        assert!(said.contains(&self.at(nb)), "{said:?} does not name the file");
        said
    }
}

#[test]
fn plan_reads_whatever_the_tools_write() {
    let Some(databases) = Databases::new() else { return };
    let (code, expected, said) = databases.plan("nb.db", "ovs.db");
    assert_eq!(code, Some(0), "{said}");
    assert!(expected.contains("\"192.0.2.10/32\"") && !expected.contains("192.0.2.9"), "{expected}");
    let said = databases.clients(&[
        &["dump", "--format=json", "SERVER", "OVN_Northbound"],
        &["dump", "--format=json", "SERVER", "Open_vSwitch"],
        &["backup", "SERVER", "OVN_Northbound"],
        &["backup", "SERVER", "Open_vSwitch"],
    ]);
    let names = ["nb.dump", "ovs.dump", "nb.backup", "ovs.backup"];
    names.iter().zip(&said).for_each(|(name, bytes)| drop(databases.write(name, bytes)));
    databases.run("ovsdb-tool", &["compact", "nb.db", "nb.compact"]);
    for (nb, ovs) in
        [("nb.dump", "ovs.dump"), ("nb.backup", "ovs.backup"), ("nb.compact", "ovs.db"), ("nb.db", "ovs.dump")]
    {
        let (code, plan, said) = databases.plan(nb, ovs);
        assert_eq!((code, &plan), (Some(0), &expected), "{nb}, {ovs}: {said}");
    }
}

#[test]
fn plan_says_of_a_file_that_cannot_be_used_what_and_where() {
    let Some(databases) = Databases::new() else { return };
    databases.run("ovsdb-tool", &["create-cluster", "cluster.db", "nb.db", "unix:raft.sock"]);
    assert!(databases.refused("cluster.db").contains("ovsdb-client backup"));
    let said = databases.clients(&[
        &["dump", "--format=json", "SERVER", "OVN_Northbound"],
        &["backup", "SERVER", "OVN_Northbound"],
        &["dump", "SERVER", "OVN_Northbound"],
    ]);
    for (name, bytes) in [("a.dump", &said[0]), ("a.backup", &said[1]), ("a.db", &databases.read("nb.db"))] {
        // Within the last record, and within the first.
        for length in [bytes.len() - 20, bytes.len() / 9] {
            let cut = databases.write(name, &bytes[..length]);
            let said = databases.refused(&cut);
            assert!(said.contains(": byte "), "{name} cut at {length}: {said}");
        }
    }
    let table = databases.write("table", &said[2]);
    assert!(databases.refused(&table).contains("--format=json"));
    for (name, bytes) in [("empty", &b""[..]), ("binary", &[0, 159, 146, 150]), ("text", b"hello\n")] {
        let nonsense = databases.write(name, bytes);
        assert!(databases.refused(&nonsense).contains("neither a database file"));
    }
    let schema = databases.write("schema", &std::fs::read(Databases::NB_SCHEMA).unwrap());
    assert!(databases.refused(&schema).contains("byte 0: not a table of a dump"));
    assert!(databases.refused("not-there").contains("No such file"));
    std::fs::create_dir(databases.folder.path().join("folder")).unwrap();
    assert!(databases.refused("folder").contains("directory"));
}
