//! BGP roles and the Only to Customer attribute (RFC 9234).

use std::fmt;

use crate::types::Asn;

/// Our role towards an external peer (RFC 9234 §4.1): what *we* are, the value of our BGP Role capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Role {
    /// 0: we are the peer's provider.
    Provider = 0,
    /// 1: we are a route server.
    RouteServer = 1,
    /// 2: we are a client of a route server.
    RouteServerClient = 2,
    /// 3: we are the peer's customer. What a hypervisor is to its leaf.
    Customer = 3,
    /// 4: peers.
    Peer = 4,
}

impl Role {
    /// The role with this capability value.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Provider,
            1 => Self::RouteServer,
            2 => Self::RouteServerClient,
            3 => Self::Customer,
            4 => Self::Peer,
            _ => return None,
        })
    }

    /// The capability value.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What the other side has to be (RFC 9234 §4.2, Table 2).
    #[must_use]
    pub const fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Customer => Self::Provider,
            Self::Peer => Self::Peer,
        }
    }

    /// What OTC a received route has from here on, or `Err` with the offending value if it is a route leak (RFC 9234 §5).
    pub const fn import(self, otc: Option<Asn>, peer_asn: Asn) -> Result<Option<Asn>, Asn> {
        match (self, otc) {
            // "If a route with the OTC Attribute is received from a Customer or an RS-Client, then it is a route leak and MUST be
            // considered ineligible."
            (Self::Provider | Self::RouteServer, Some(asn)) => Err(asn),
            // "If a route with the OTC Attribute is received from a Peer … and the Attribute has a value that is not equal to the
            // remote (i.e., Peer's) AS number, then it is a route leak and MUST be considered ineligible."
            (Self::Peer, Some(asn)) if asn != peer_asn => Err(asn),
            // "If a route is received from a Provider, a Peer, or an RS and the OTC Attribute is not present, then it MUST be
            // added with a value equal to the AS number of the remote AS."
            (Self::Customer | Self::Peer | Self::RouteServerClient, None) => Ok(Some(peer_asn)),
            (_, otc) => Ok(otc),
        }
    }

    /// The OTC a route of our own is sent with: "If a route is to be advertised to a Customer, a Peer, or an RS-Client (when the
    /// sender is an RS), and the OTC Attribute is not present, then … an OTC Attribute MUST be added with a value equal to the AS
    /// number of the local AS." (RFC 9234 §5)
    pub const fn export(self, local_asn: Asn) -> Option<Asn> {
        match self {
            Self::Provider | Self::RouteServer | Self::Peer => Some(local_asn),
            Self::Customer | Self::RouteServerClient => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider => "provider",
            Self::RouteServer => "rs-server",
            Self::RouteServerClient => "rs-client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_marked_and_leaks_are_seen() {
        const PEER: Asn = 65001;
        let table = [
            ("from a provider, unmarked", Role::Customer, None, Ok(Some(PEER))),
            ("from a provider, marked", Role::Customer, Some(7), Ok(Some(7))),
            ("from a route server, unmarked", Role::RouteServerClient, None, Ok(Some(PEER))),
            ("from a customer, unmarked", Role::Provider, None, Ok(None)),
            ("from a customer, marked", Role::Provider, Some(7), Err(7)),
            ("from a client of ours, marked", Role::RouteServer, Some(7), Err(7)),
            ("from a peer, unmarked", Role::Peer, None, Ok(Some(PEER))),
            ("from a peer, marked by it", Role::Peer, Some(PEER), Ok(Some(PEER))),
            ("from a peer, marked by another", Role::Peer, Some(7), Err(7)),
        ];
        for (name, role, otc, expected) in table {
            assert_eq!(role.import(otc, PEER), expected, "{name}");
        }
        assert_eq!(Role::Customer.export(65000), None);
        assert_eq!(Role::Provider.export(65000), Some(65000));
        assert_eq!(Role::Peer.export(65000), Some(65000));
    }

    #[test]
    fn codes_and_counterparts_are_inverse() {
        for code in 0..=4 {
            let role = Role::from_code(code).unwrap();
            assert_eq!(role.code(), code);
            assert_eq!(role.counterpart().counterpart(), role);
        }
        assert_eq!(Role::from_code(5), None);
    }
}
