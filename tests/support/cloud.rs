//! A hypervisor small enough for a test: a network namespace with a real `ovs-vswitchd` (userspace datapath), a real Northbound
//! database, the daemon, and a leaf that says what it was told.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const DAEMON: &str = env!("CARGO_BIN_EXE_ovn-bgpd");
const NB_SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";
const OVS_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// What happens at all happens in a fraction of this, on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with the test.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Its exit code, once it ends.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The host. What is `None` is away.
pub(crate) struct Cloud {
    home: tempfile::TempDir,
    ovs: Option<Process>,
    pub(crate) switch: Option<Process>,
    pub(crate) nb: Option<Process>,
    pub(crate) daemon: Option<Process>,
    pub(crate) leaf: Option<Process>,
    /// The daemon runs as nobody with these capabilities and no other: `+net_admin,…`, or ``.
    pub(crate) capabilities: Option<&'static str>,
}

impl Cloud {
    /// Runs the story on a host where everything but the daemon and the leaf runs.
    pub(crate) fn with(story: impl FnOnce(Self) + Send + 'static) {
        let installed = [NB_SCHEMA, OVS_SCHEMA, "/usr/sbin/ovs-vswitchd"].iter().all(|file| Path::new(file).exists());
        if !nix::unistd::geteuid().is_root() || !installed {
            assert!(std::env::var_os("CI").is_none(), "CI must be root and have Open vSwitch and OVN");
            eprintln!("skipped: needs root, Open vSwitch and OVN");
            return;
        }
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            let nothing: Option<&str> = None;
            mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
            // The daemon writes the routing table of a bridge there.
            fs::create_dir_all("/etc/iproute2").unwrap();
            mount(Some("none"), "/etc/iproute2", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
            ip("link set lo up");
            for address in ["10.9.0.1/32", "10.9.0.2/32", "fd09::1/128", "fd09::2/128"] {
                ip(&format!("address add {address} dev lo"));
            }
            story(Self::new());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for (file, schema) in [("conf.db", OVS_SCHEMA), ("nb.db", NB_SCHEMA)] {
            let made = Command::new("ovsdb-tool").args(["create", file, schema]).current_dir(home.path()).status();
            assert!(made.unwrap().success());
        }
        let mut cloud = Self { home, ovs: None, switch: None, nb: None, daemon: None, leaf: None, capabilities: None };
        cloud.ovs = Some(cloud.database("conf.db", "db.sock"));
        cloud.start_nb();
        cloud.vsctl("--no-wait init");
        cloud.start_switch();
        cloud.vsctl("add-br br-int -- set Bridge br-int datapath_type=netdev fail_mode=secure");
        cloud.add_bridge();
        let ids =
            "external_ids:system-id=hv1 external_ids:hostname=hv1 external_ids:ovn-bridge-mappings=physnet1:br-ex";
        cloud.vsctl(&format!("set Open_vSwitch . {ids}"));
        cloud.vsctl(&format!("set Open_vSwitch . external_ids:ovn-nb-remote=\"{}\"", cloud.remote("nb.sock")));
        cloud.nbctl("ls-add neutron-1");
        cloud.nbctl("lsp-add neutron-1 provnet -- lsp-set-type provnet localnet -- lsp-set-addresses provnet unknown");
        cloud.nbctl("lsp-set-options provnet network_name=physnet1");
        cloud.nbctl("set Logical_Switch_Port provnet external_ids:neutron\\:network_name=neutron-1");
        cloud.nbctl("ls-add neutron-2");
        cloud.nbctl("lr-add neutron-r");
        cloud
    }

    /// `br-ex` with the patch ports that `ovn-controller` would make.
    pub(crate) fn add_bridge(&self) {
        self.vsctl("add-br br-ex -- set Bridge br-ex datapath_type=netdev");
        let (ex, int) = ("patch-provnet-to-br-int", "patch-br-int-to-provnet");
        for (bridge, port, peer) in [("br-ex", ex, int), ("br-int", int, ex)] {
            let patch = format!("set Interface {port} type=patch options:peer={peer}");
            self.vsctl(&format!("--may-exist add-port {bridge} {port} -- {patch}"));
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn remote(&self, socket: &str) -> String {
        format!("unix:{}", self.file(socket).display())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, self.home.path());
        }
        command.current_dir(self.home.path()).env_remove("RUST_LOG");
        command
    }

    fn database(&self, file: &str, socket: &str) -> Process {
        let mut command = self.command("ovsdb-server");
        command.args([file, &format!("--remote=punix:{socket}"), &format!("--unixctl={socket}.ctl"), "--no-chdir"]);
        let server = Process::start(&mut command, self.file(&format!("{file}.log")));
        let answers = || self.command("ovsdb-client").args(["list-dbs", &self.remote(socket)]).output().unwrap();
        eventually(&format!("{file} is served"), || answers().status.success());
        server
    }

    pub(crate) fn start_nb(&mut self) {
        if self.nb.is_none() {
            let _ = fs::remove_file(self.file("nb.sock"));
            self.nb = Some(self.database("nb.db", "nb.sock"));
        }
    }

    pub(crate) fn start_switch(&mut self) {
        if self.switch.is_none() {
            let mut command = self.command("ovs-vswitchd");
            command.args([self.remote("db.sock").as_str(), "--disable-system", "--unixctl=switch.ctl", "--no-chdir"]);
            self.switch = Some(Process::start(&mut command, self.file("switch.log")));
        }
    }

    /// Starts the daemon with this appended to its configuration.
    pub(crate) fn start_daemon(&mut self, rest: &str) {
        if self.daemon.is_none() {
            let text = speaker("10.9.0.1", "fd09::1", "10.9.0.2", "fd09::2", &self.file("daemon.sock"));
            fs::write(self.file("daemon.toml"), format!("{text}[ovn]\novs = \"{}\"\n{rest}", self.remote("db.sock")))
                .unwrap();
            self.daemon = Some(self.run("daemon"));
        }
    }

    /// Starts the leaf with this appended to its configuration.
    pub(crate) fn start_leaf(&mut self, rest: &str) {
        if self.leaf.is_none() {
            let text = speaker("10.9.0.2", "fd09::2", "10.9.0.1", "fd09::1", &self.file("leaf.sock"));
            fs::write(self.file("leaf.toml"), format!("{text}{rest}")).unwrap();
            self.leaf = Some(self.run("leaf"));
        }
    }

    fn run(&self, name: &str) -> Process {
        let mut command = match self.capabilities.filter(|_| name == "daemon") {
            None => self.command(DAEMON),
            Some(capabilities) => {
                // Nobody may not go where this was built. Copied by another process: a file that is open for writing cannot be
                // run, and a process that another test starts meanwhile would inherit it.
                let copy = self.file("ovn-bgpd");
                assert!(Command::new("cp").arg("-u").arg(DAEMON).arg(&copy).status().unwrap().success());
                for file in ["", "db.sock", "nb.sock", "br-ex.mgmt", "ovn-bgpd"] {
                    fs::set_permissions(self.file(file), fs::Permissions::from_mode(0o777)).unwrap();
                }
                // What a daemon that was root has left belongs to root.
                let _ = fs::remove_file(self.file("daemon.sock"));
                let mut command = self.command("setpriv");
                command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"]);
                let granted = format!("-all{capabilities}");
                command.args([format!("--inh-caps={granted}"), format!("--ambient-caps={granted}")]);
                command.arg("--bounding-set").arg(granted).arg(copy);
                command
            }
        };
        command.args(["run", "--config", &format!("{name}.toml")]);
        Process::start(&mut command, self.file(&format!("{name}.log")))
    }

    /// Asks the daemon or the leaf.
    pub(crate) fn ask(&self, whom: &str, arguments: &[&str]) -> Output {
        self.command(DAEMON).args(arguments).args(["--socket", &format!("{whom}.sock")]).output().unwrap()
    }

    /// What the leaf was told.
    pub(crate) fn told(&self) -> BTreeSet<String> {
        let output = self.ask("leaf", &["show", "learned", "--json"]);
        let learned: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        learned.iter().filter_map(|route| route["prefix"].as_str()).map(str::to_owned).collect()
    }

    pub(crate) fn vsctl(&self, arguments: &str) {
        self.ctl("ovs-vsctl", "db.sock", arguments);
    }

    pub(crate) fn nbctl(&self, arguments: &str) {
        self.ctl("ovn-nbctl", "nb.sock", arguments);
    }

    /// `~` is a space inside of an argument.
    fn ctl(&self, program: &str, socket: &str, arguments: &str) {
        let mut command = self.command(program);
        command
            .arg(format!("--db={}", self.remote(socket)))
            .arg("--timeout=30")
            .args(arguments.split(' ').map(|argument| argument.replace('~', " ")));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A database as `ovsdb-client dump` gives it.
    pub(crate) fn dump(&self, socket: &str, name: &str) -> PathBuf {
        let output =
            self.command("ovsdb-client").args(["-f", "json", "dump", &self.remote(socket), name]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let file = self.file(&format!("{name}.dump"));
        fs::write(&file, output.stdout).unwrap();
        file
    }

    /// Waits until it holds; what was said is shown when it does not.
    pub(crate) fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "in vain: {what}\n{}", self.logs());
        }
    }

    /// Everything that was said, for a test that has failed.
    pub(crate) fn logs(&self) -> String {
        let log = |name: &str| fs::read_to_string(self.file(&format!("{name}.log"))).unwrap_or_default();
        format!("daemon:\n{}\nleaf:\n{}", log("daemon"), log("leaf"))
    }
}

/// A configuration with a neighbour of each family.
fn speaker(v4: &str, v6: &str, neighbor_v4: &str, neighbor_v6: &str, socket: &Path) -> String {
    format!(
        "[bgp]\nasn = 64999\nrouter_id = \"{v4}\"\nport = 1790\nlisten = [\"{v4}\", \"{v6}\"]\n\
         [[bgp.neighbors]]\naddress = \"{neighbor_v4}\"\nlocal_address = \"{v4}\"\nremote_as = \"internal\"\nfamilies = [\"ipv4\"]\n\
         connect_retry = \"1s\"\n\
         [[bgp.neighbors]]\naddress = \"{neighbor_v6}\"\nlocal_address = \"{v6}\"\nremote_as = \"internal\"\nfamilies = [\"ipv6\"]\n\
         connect_retry = \"1s\"\n\
         [api]\nsocket = \"{}\"\n",
        socket.display()
    )
}

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Looks until it holds. Every look runs processes, so that this is no tight loop.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "in vain: {what}");
    }
}
