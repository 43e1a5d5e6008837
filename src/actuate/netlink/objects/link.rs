//! Network devices: IFLA attributes, struct ifinfomsg.

use super::AF_UNSPEC;
use crate::actuate::netlink::wire::{Frame, NLM_F_CREATE, NLM_F_EXCL, Request, attrs, put_attr, text, u16_at, u32_at};
use crate::mac::Mac;

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;

/// A VLAN device's parent and tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vlan {
    pub(crate) parent: u32,
    pub(crate) tag: u16,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    /// None for devices without an Ethernet address.
    pub(crate) mac: Option<Mac>,
    /// Administratively up.
    pub(crate) up: bool,
    pub(crate) carrier: bool,
    pub(crate) alias: Option<String>,
    pub(crate) vlan: Option<Vlan>,
    /// Of which kind, for virtual devices: `vlan`, `dummy`, `vrf`, …
    pub(crate) kind: Option<String>,
    /// The device it belongs to: a bridge, a bond, a VRF.
    pub(crate) master: Option<u32>,
}

impl Device {
    fn header(ifindex: u32, flags: u32, change: u32) -> [u8; 16] {
        // struct ifinfomsg: family, pad, type, ifindex, flags, change
        let mut header = [AF_UNSPEC; 16];
        for (target, value) in header.chunks_exact_mut(4).skip(1).zip([ifindex, flags, change]) {
            target.copy_from_slice(&value.to_ne_bytes());
        }
        header
    }

    pub(crate) fn dump() -> Request {
        Request::new(RTM_GETLINK, 0, &Self::header(0, 0, 0))
    }

    /// Set administratively up.
    pub(crate) fn set_up(ifindex: u32) -> Request {
        Request::new(RTM_NEWLINK, 0, &Self::header(ifindex, IFF_UP, IFF_UP))
    }

    /// Create a VLAN device, up; refused with EEXIST when the name is taken, EOPNOTSUPP when the kernel has no 8021q.
    pub(crate) fn add_vlan(name: &str, vlan: Vlan) -> Request {
        let (mut data, mut info) = (Vec::new(), Vec::new());
        put_attr(&mut data, IFLA_VLAN_ID, &vlan.tag.to_ne_bytes());
        put_attr(&mut info, IFLA_INFO_KIND, b"vlan\0");
        put_attr(&mut info, IFLA_INFO_DATA, &data);
        Request::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &Self::header(0, IFF_UP, IFF_UP))
            .text(IFLA_IFNAME, name)
            .attr(IFLA_LINK, &vlan.parent.to_ne_bytes())
            .nested(IFLA_LINKINFO, &info)
    }

    /// Set the alias of a device by name; a separate step because the kernel ignores it in a creation.
    pub(crate) fn set_alias(name: &str, alias: &str) -> Request {
        Request::new(RTM_SETLINK, 0, &Self::header(0, 0, 0)).text(IFLA_IFNAME, name).text(IFLA_IFALIAS, alias)
    }

    /// Remove; refused with ENODEV when it is not there.
    pub(crate) fn remove(ifindex: u32) -> Request {
        Request::new(RTM_DELLINK, 0, &Self::header(ifindex, 0, 0))
    }

    pub(crate) fn read(frame: &Frame<'_>) -> Option<Self> {
        if *frame.body.first()? != AF_UNSPEC {
            return None;
        }
        let flags = u32_at(frame.body, 8)?;
        let mut device = Self {
            name: String::new(),
            ifindex: u32_at(frame.body, 4)?,
            mac: None,
            up: flags & IFF_UP != 0,
            carrier: flags & IFF_LOWER_UP != 0,
            alias: None,
            vlan: None,
            kind: None,
            master: None,
        };
        let (mut parent, mut tag) = (None, None);
        for (kind, value) in attrs(frame.body.get(16..)?) {
            match kind {
                IFLA_IFNAME => device.name = text(value),
                IFLA_ADDRESS => device.mac = <[u8; 6]>::try_from(value).ok().map(Mac),
                IFLA_LINK => parent = u32_at(value, 0),
                IFLA_IFALIAS => device.alias = Some(text(value)),
                IFLA_MASTER => device.master = u32_at(value, 0),
                IFLA_LINKINFO => (device.kind, tag) = (read_kind(value), read_vlan_tag(value)),
                _ => {}
            }
        }
        device.vlan = parent.zip(tag).map(|(parent, tag)| Vlan { parent, tag });
        Some(device)
    }
}

fn read_kind(info: &[u8]) -> Option<String> {
    attrs(info).find(|(kind, _)| *kind == IFLA_INFO_KIND).map(|(_, value)| text(value))
}

fn read_vlan_tag(info: &[u8]) -> Option<u16> {
    read_kind(info).filter(|kind| kind == "vlan")?;
    let (_, data) = attrs(info).find(|(kind, _)| *kind == IFLA_INFO_DATA)?;
    attrs(data).find(|(kind, _)| *kind == IFLA_VLAN_ID).and_then(|(_, value)| u16_at(value, 0))
}
