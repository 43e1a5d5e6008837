//! `ip rule`: FRA attributes, struct fib_rule_hdr.

use ipnet::IpNet;

use super::{AF_INET, AF_INET6, family, is_v6, prefix};
use crate::actuate::netlink::wire::{Frame, NLM_F_CREATE, NLM_F_EXCL, Request, attrs, octets, u32_at};

pub(crate) const RTM_NEWRULE: u16 = 32;
pub(crate) const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

const FRA_DST: u16 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PAD: u16 = 18;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;

/// An `ip rule` that looks at the destination only and then looks up a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Destination; 0/0 for any.
    pub(crate) to: IpNet,
    pub(crate) table: u32,
    pub(crate) priority: u32,
    pub(crate) protocol: u8,
    /// A default route in the table does not count (`suppress_prefixlength 0`).
    pub(crate) no_default: bool,
}

impl Rule {
    fn request(&self, kind: u16, flags: u16) -> Request {
        // struct fib_rule_hdr: family, dst_len, src_len, tos, table, res1, res2, action, flags
        let length = self.to.prefix_len();
        let header = [family(is_v6(self.to)), length, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
        let to = octets(self.to.addr());
        Request::new(kind, flags, &header)
            .attr_opt(FRA_DST, (length > 0).then_some(to.as_slice()))
            .attr(FRA_PRIORITY, &self.priority.to_ne_bytes())
            .attr(FRA_TABLE, &self.table.to_ne_bytes())
            .attr(FRA_PROTOCOL, &[self.protocol])
            .attr_opt(FRA_SUPPRESS_PREFIXLEN, self.no_default.then_some([0; 4].as_slice()))
    }

    /// Add; refused with EEXIST when it is there.
    pub(crate) fn add(&self) -> Request {
        self.request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Remove; refused with ENOENT when it is not there.
    pub(crate) fn remove(&self) -> Request {
        self.request(RTM_DELRULE, 0)
    }

    pub(crate) fn dump(v6: bool) -> Request {
        Request::new(RTM_GETRULE, 0, &[family(v6), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// The table that any rule looks up, whatever its selectors.
    pub(crate) fn read_table(frame: &Frame<'_>) -> Option<u32> {
        attrs(frame.body.get(12..)?).find(|(kind, _)| *kind == FRA_TABLE).and_then(|(_, value)| u32_at(value, 0))
    }

    /// Reads a rule; none if it has any selector besides the destination, or another action.
    pub(crate) fn read(frame: &Frame<'_>) -> Option<Self> {
        let &[family, dst_len, src_len, tos, table, _, _, action, ref rest @ ..] = frame.body else { return None };
        let v6 = match family {
            AF_INET => false,
            AF_INET6 => true,
            _ => return None,
        };
        let plain = src_len == 0 && tos == 0 && action == FR_ACT_TO_TBL && u32_at(rest, 0)? & 0x2 == 0;
        let (mut to, mut table, mut priority, mut protocol) = (None, u32::from(table), 0, 0);
        let mut no_default = false;
        for (kind, value) in attrs(rest.get(4..)?) {
            match kind {
                FRA_DST => to = Some(value),
                FRA_TABLE => table = u32_at(value, 0)?,
                FRA_PRIORITY => priority = u32_at(value, 0)?,
                FRA_PROTOCOL => protocol = *value.first()?,
                // −1 is "off"; 0 suppresses routes of length 0.
                FRA_SUPPRESS_IFGROUP | FRA_SUPPRESS_PREFIXLEN if u32_at(value, 0) == Some(u32::MAX) => {}
                FRA_SUPPRESS_PREFIXLEN if u32_at(value, 0) == Some(0) => no_default = true,
                FRA_SUPPRESS_IFGROUP | FRA_SUPPRESS_PREFIXLEN => return None,
                FRA_PAD => {}
                // A selector or modifier we do not know is no matter while it says nothing.
                _ if value.iter().all(|&octet| octet == 0) => {}
                _ => return None,
            }
        }
        plain.then_some(Self { to: prefix(v6, dst_len, to)?, table, priority, protocol, no_default })
    }
}
