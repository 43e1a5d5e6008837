//! Which host a port belongs to, and whether it is exposed there: the hardest rule, as one pure function of the row.
//!
//! What Neutron and OVN write during a live migration, and who exposes the port:
//!
//! | after step | requested | host_id | up | source exposes | destination exposes |
//! |---|---|---|---|---|---|
//! | 0 | src | src | yes | yes | – |
//! | 1–2 | src,dst | src | yes | yes | – |
//! | 3–4 | src,dst | src | no | yes | – |
//! | 5 | src,dst | – | no | yes | – |
//! | 6 | dst | dst | no | – | – |
//! | 7 | dst | dst | yes | – | yes |

use crate::nb::row::{Port, PortType};

/// The chassis that `requested-chassis` lists: the first is the main one, the others join it for a live migration.
fn requested(port: &Port) -> impl Iterator<Item = &str> {
    // OVN binds a virtual port itself, to whoever claims the address: what is requested for it means nothing.
    let list = port.requested_chassis.as_deref().filter(|_| port.port_type != PortType::Virtual).unwrap_or_default();
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Whether more than one chassis is requested: the port is being moved.
pub fn is_moving(port: &Port) -> bool {
    requested(port).nth(1).is_some()
}

/// The host that owns a port: the only one requested; of several, the one Neutron has bound it to, else the first; with none
/// requested, the one Neutron has bound it to. A host name or a system-id.
///
/// What is requested wins over `neutron:host_id`: when the two disagree, two hosts would announce otherwise.
pub fn of(port: &Port) -> Option<&str> {
    let bound = port.host_id.as_deref();
    match requested(port).next() {
        None => bound,
        Some(_) if is_moving(port) && bound.is_some() => bound,
        first => first,
    }
}

/// Whether the owner exposes it: it is up, or it is being moved (it goes down on the source before it comes up elsewhere).
pub fn is_active(port: &Port) -> bool {
    port.up || is_moving(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::testing::port;

    #[test]
    fn live_migration() {
        // requested, host_id, up → source exposes, destination exposes
        let table = [
            ("src", Some("src"), true, true, false),
            ("src,dst", Some("src"), true, true, false),
            ("src,dst", Some("src"), false, true, false),
            ("src,dst", None, false, true, false),
            ("dst", Some("dst"), false, false, false),
            ("dst", Some("dst"), true, false, true),
        ];
        for (requested, host_id, up, src, dst) in table {
            let port = port("", Some(requested), host_id, up);
            let exposes = |host| of(&port) == Some(host) && is_active(&port);
            assert_eq!((exposes("src"), exposes("dst")), (src, dst), "{requested} {host_id:?} {up}");
        }
    }

    #[test]
    fn ownership() {
        let table = [
            // Requested wins over host_id (hf-01).
            ("", Some("cmp-7"), Some("cmp-9"), Some("cmp-7")),
            ("", Some("cmp-9"), Some("cmp-7"), Some("cmp-9")),
            // Of several the first, wherever we stand in the list (hf-02, hf-03).
            ("", Some("cmp-9,cmp-7"), None, Some("cmp-9")),
            ("", Some("cmp-9, other"), None, Some("cmp-9")),
            ("", Some("cmp-9,cmp-7"), Some("cmp-7"), Some("cmp-7")),
            // Nothing requested (hf-06, hf-07).
            ("", Some(""), Some("cmp-7"), Some("cmp-7")),
            ("", Some(" , "), Some("cmp-7"), Some("cmp-7")),
            ("", None, None, None),
            // A virtual port is where Neutron says.
            ("virtual", Some("cmp-7"), Some("cmp-9"), Some("cmp-9")),
            ("virtual", Some("cmp-7"), None, None),
        ];
        for (port_type, requested, host_id, expected) in table {
            let port = port(port_type, requested, host_id, true);
            assert_eq!(of(&port), expected, "{port_type:?} {requested:?} {host_id:?}");
        }
    }

    #[test]
    fn a_virtual_port_needs_to_be_up() {
        assert!(!is_active(&port("virtual", Some("a,b"), Some("a"), false)));
    }
}
