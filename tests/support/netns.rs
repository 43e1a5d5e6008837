//! Network namespaces for tests.

use std::process::Command;

use serde_json::Value;

/// Runs the story in a fresh network namespace with a device `br-ex` (one end of a veth pair) that is up.
pub(crate) fn in_namespace(story: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    // A plain thread: its namespace goes with it.
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        // No link-local addresses that come and go by themselves.
        std::fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1").unwrap();
        ip("link add br-ex type veth peer name peer");
        ip("link set peer up");
        ip("link set br-ex up");
        story();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The list a command of `ip -j` prints; a table that does not exist is empty.
pub(crate) fn ip_json(arguments: &str) -> Vec<Value> {
    let output = Command::new("ip").args(["-j", "-d", "-N"]).args(arguments.split(' ')).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Runs an async story in the namespace of this thread.
pub(crate) fn block_on(story: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story);
}
