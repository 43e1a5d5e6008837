//! Writing many prefixes into as few UPDATEs as can be, without building an [`Update`](super::Update) for each.

use bytes::{BufMut, BytesMut};

use super::attr::{Attributes, NextHop, flags, mp_reach, mp_unreach};
use super::update::check_next_hop;
use super::{Context, EncodeError, HEADER_LEN, MARKER, MAX_LEN, Nlri, UPDATE, nlri};
use crate::types::{Families, Family};

/// Packs prefixes that share attributes, or withdrawals of one family, into UPDATEs filled to the last octet that fits.
///
/// ```
/// # use bgp::{types::Family, wire::{Attributes, AsPath, Context, NextHop, Nlri, Origin, UpdateBuilder}};
/// # let ctx = Context { as4: true, ..Context::default() };
/// # let attributes = Attributes { origin: Some(Origin::Igp), as_path: Some(AsPath::sequence([64999])), ..Attributes::default() };
/// # let prefixes: [bgp::types::Prefix; 2] = ["192.0.2.1/32".parse().unwrap(), "192.0.2.2/32".parse().unwrap()];
/// let mut out = bytes::BytesMut::new();
/// let mut builder = UpdateBuilder::new(&ctx, 4096);
/// builder.announce(Family::Ipv4, &attributes, NextHop::V4([10, 0, 0, 2].into()))?;
/// for nlri in prefixes.map(Nlri::from) {
///     if !builder.push(nlri) {
///         builder.finish(&mut out); // one message; the next one has the same attributes
///         builder.push(nlri);
///     }
/// }
/// builder.finish(&mut out);
/// # assert_eq!(out.len(), 19 + 4 + 20 + 2 * 5);
/// # Ok::<(), bgp::wire::EncodeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct UpdateBuilder {
    ctx: Context,
    max_len: usize,
    kind: Kind,
    add_path: bool,
    /// What stands before the NLRI in its attribute, if it is in one; the attribute's header is written last.
    head: BytesMut,
    /// The path attributes without the one that holds NLRI.
    attributes: BytesMut,
    nlri: BytesMut,
    /// Octets of NLRI that fit a message.
    room: usize,
}

/// Where the prefixes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing begun.
    Nothing,
    /// NLRI of the body.
    Body,
    /// MP_REACH_NLRI.
    MpReach(Family),
    /// Withdrawn Routes of the body.
    Withdrawn,
    /// MP_UNREACH_NLRI.
    MpUnreach(Family),
}

/// Header and the two length fields of the body.
const FRAME: usize = HEADER_LEN + 4;
/// Flags, type code and a two-octet length.
const MP_HEADER: usize = 4;

impl UpdateBuilder {
    /// For messages of at most `max_len` octets, the negotiated limit ([`Context::max_len`]) or less.
    pub fn new(ctx: &Context, max_len: usize) -> Self {
        Self {
            max_len: max_len.min(ctx.max_len()),
            ctx: ctx.clone(),
            kind: Kind::Nothing,
            add_path: false,
            head: BytesMut::new(),
            attributes: BytesMut::new(),
            nlri: BytesMut::with_capacity(MAX_LEN),
            room: 0,
        }
    }

    /// What is pushed from now on is announced with these attributes. Prefixes pushed before and not finished are lost.
    ///
    /// IPv4 with an IPv4 next hop goes into the body, everything else into MP_REACH_NLRI, which is the first attribute (RFC 7606
    /// §5.1).
    ///
    /// # Errors
    /// The attributes leave no room for a prefix, or the next hop cannot be used with this family and peer.
    pub fn announce(&mut self, family: Family, attributes: &Attributes, next_hop: NextHop) -> Result<(), EncodeError> {
        self.restart(family)?;
        check_next_hop(family, next_hop, &self.ctx)?;
        let (kind, body_next_hop) = if let (Family::Ipv4, NextHop::V4(address)) = (family, next_hop) {
            (Kind::Body, Some(address))
        } else {
            mp_reach::put_head(family, next_hop, &mut self.head);
            (Kind::MpReach(family), None)
        };
        attributes.encode(body_next_hop, &self.ctx, &mut self.attributes)?;
        self.start(kind)
    }

    /// What is pushed from now on is withdrawn. Prefixes pushed before and not finished are lost.
    ///
    /// IPv4 goes into the body, but into MP_UNREACH_NLRI on a session that carries IPv4 with IPv6 next hops in MP_REACH_NLRI (RFC
    /// 8950).
    ///
    /// # Errors
    /// The family was not negotiated.
    pub fn withdraw(&mut self, family: Family) -> Result<(), EncodeError> {
        self.restart(family)?;
        if family == Family::Ipv4 && !self.ctx.extended_next_hop {
            return self.start(Kind::Withdrawn);
        }
        mp_unreach::put_head(family, &mut self.head);
        self.start(Kind::MpUnreach(family))
    }

    /// Adds a prefix. `false`: the message is full; [`finish`](Self::finish) it and push again. It is also `false` before
    /// [`announce`](Self::announce) or [`withdraw`](Self::withdraw), and for a prefix of another family.
    #[must_use = "false means that the prefix is not in the message"]
    pub fn push(&mut self, nlri: Nlri) -> bool {
        let family = match self.kind {
            Kind::Nothing => return false,
            Kind::Body | Kind::Withdrawn => Family::Ipv4,
            Kind::MpReach(family) | Kind::MpUnreach(family) => family,
        };
        if Family::of(&nlri.prefix) != family || self.nlri.len() + nlri::encoded_len(&nlri, self.add_path) > self.room {
            return false;
        }
        nlri::encode(&nlri, self.add_path, &mut self.nlri);
        true
    }

    /// Whether nothing was pushed since the last [`finish`](Self::finish).
    pub fn is_empty(&self) -> bool {
        self.nlri.is_empty()
    }

    /// Appends the message, if anything was pushed, and begins another of the same kind.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if self.nlri.is_empty() {
            return;
        }
        let mp = if self.head.is_empty() { 0 } else { MP_HEADER + self.head.len() };
        out.reserve(FRAME + mp + self.nlri.len() + self.attributes.len());
        // No length overflows: `room` keeps the whole message within `max_len`.
        let octets = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
        out.put_slice(&MARKER);
        out.put_u16(octets(FRAME + mp + self.nlri.len() + self.attributes.len()));
        out.put_u8(UPDATE);
        match self.kind {
            Kind::Nothing => {}
            Kind::Withdrawn => {
                out.put_u16(octets(self.nlri.len()));
                out.put_slice(&self.nlri);
                out.put_u16(0);
            }
            Kind::Body => {
                out.put_u16(0);
                out.put_u16(octets(self.attributes.len()));
                out.put_slice(&self.attributes);
                out.put_slice(&self.nlri);
            }
            Kind::MpReach(_) | Kind::MpUnreach(_) => {
                let code = if matches!(self.kind, Kind::MpReach(_)) { mp_reach::CODE } else { mp_unreach::CODE };
                out.put_u16(0);
                out.put_u16(octets(mp + self.nlri.len() + self.attributes.len()));
                out.put_slice(&[mp_reach::FLAGS | flags::EXTENDED_LENGTH, code]);
                out.put_u16(octets(self.head.len() + self.nlri.len()));
                out.put_slice(&self.head);
                out.put_slice(&self.nlri);
                out.put_slice(&self.attributes);
            }
        }
        self.nlri.clear();
    }

    fn restart(&mut self, family: Family) -> Result<(), EncodeError> {
        self.kind = Kind::Nothing;
        self.head.clear();
        self.attributes.clear();
        self.nlri.clear();
        self.add_path = self.ctx.add_path.contains(family);
        if Families::NONE.with(family).and(self.ctx.families).is_empty() {
            return Err(EncodeError::NotNegotiated("the address family"));
        }
        Ok(())
    }

    fn start(&mut self, kind: Kind) -> Result<(), EncodeError> {
        let mp = if self.head.is_empty() { 0 } else { MP_HEADER + self.head.len() };
        let fixed = FRAME + mp + self.attributes.len();
        // The longest prefix with its path identifier.
        let longest = match kind {
            Kind::MpReach(Family::Ipv6) | Kind::MpUnreach(Family::Ipv6) => 17,
            _ => 5,
        } + if self.add_path { 4 } else { 0 };
        if fixed + longest > self.max_len {
            return Err(EncodeError::TooLong { len: fixed + longest, max: self.max_len });
        }
        self.room = self.max_len - fixed;
        self.kind = kind;
        Ok(())
    }
}

/// Appends the End-of-RIB of a family (RFC 4724 §2): for IPv4 the empty UPDATE, also where IPv4 has IPv6 next hops.
pub fn end_of_rib(family: Family, out: &mut BytesMut) {
    let (len, mp) = match family {
        Family::Ipv4 => (23, 0),
        Family::Ipv6 => (29, 6),
    };
    out.put_slice(&MARKER);
    out.put_u16(len);
    out.put_u8(UPDATE);
    out.put_u16(0);
    out.put_u16(mp);
    if mp != 0 {
        out.put_slice(&[mp_unreach::FLAGS, mp_unreach::CODE, 3]);
        mp_unreach::put_head(family, out);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::types::Prefix;
    use crate::wire::{AsPath, Message, Origin, decode, frame};

    const GLOBAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    /// More than any message takes.
    const MAX: u32 = 20_000;

    fn ebgp() -> Attributes {
        Attributes { origin: Some(Origin::Igp), as_path: Some(AsPath::sequence([64999])), ..Attributes::default() }
    }

    fn host(family: Family, n: u32) -> Nlri {
        let prefix: Prefix = match family {
            Family::Ipv4 => ipnet::Ipv4Net::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n)).into(),
            Family::Ipv6 => ipnet::Ipv6Net::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(n))).into(),
        };
        prefix.into()
    }

    /// How many host routes fit one message.
    fn fit(mut builder: UpdateBuilder, family: Family) -> u32 {
        let full = (0..MAX).take_while(|n| builder.push(host(family, *n))).count();
        let mut out = BytesMut::new();
        builder.finish(&mut out);
        assert_eq!(frame(&out, builder.max_len), Ok(Some(out.len())));
        let Ok(Message::Update(update)) = decode(&out, &builder.ctx) else { panic!("an UPDATE") };
        assert_eq!(update.prefixes().count(), full);
        u32::try_from(full).unwrap()
    }

    #[test]
    fn messages_are_filled_to_the_last_prefix() {
        let plain = Context { as4: true, extended_next_hop: true, ..Context::default() };
        let add_path = Context { add_path: Families::ALL, ..plain.clone() };
        let extended = Context { extended_message: true, ..plain.clone() };
        let (v4, v6) = (Family::Ipv4, Family::Ipv6);
        let body = NextHop::V4([10, 0, 0, 2].into());
        let (single, pair) = (NextHop::V6(GLOBAL), NextHop::V6Pair(GLOBAL, LOCAL));
        for (ctx, family, next_hop, wanted) in [
            (&plain, v4, body, 810),
            (&plain, v4, single, 807),
            (&plain, v4, pair, 803),
            (&add_path, v4, single, 448),
            (&add_path, v4, pair, 446),
            (&plain, v6, single, 237),
            (&plain, v6, pair, 236),
            (&add_path, v6, single, 192),
            (&add_path, v6, pair, 191),
            (&extended, v4, single, 13_094),
            (&extended, v6, pair, 3_850),
        ] {
            let mut builder = UpdateBuilder::new(ctx, ctx.max_len());
            builder.announce(family, &ebgp(), next_hop).unwrap();
            assert_eq!(fit(builder, family), wanted, "{family} {next_hop:?}");
        }
        let internal = Attributes { as_path: Some(AsPath::default()), local_pref: Some(100), ..ebgp() };
        let mut builder = UpdateBuilder::new(&plain, MAX_LEN);
        builder.announce(v4, &internal, body).unwrap();
        assert_eq!(fit(builder, v4), 810);
        let tagged = Attributes { communities: vec![0xffff_0000], ..ebgp() };
        let mut builder = UpdateBuilder::new(&plain, MAX_LEN);
        builder.announce(v4, &tagged, body).unwrap();
        assert_eq!(fit(builder, v4), 809);
    }

    #[test]
    fn withdrawals_fill_messages_too() {
        let plain = Context { as4: true, ..Context::default() };
        let enhe = Context { extended_next_hop: true, ..plain.clone() };
        for (ctx, family, wanted) in
            [(&plain, Family::Ipv4, 814), (&enhe, Family::Ipv4, 813), (&plain, Family::Ipv6, 239)]
        {
            let mut builder = UpdateBuilder::new(ctx, MAX_LEN);
            builder.withdraw(family).unwrap();
            assert_eq!(fit(builder, family), wanted, "{family}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let ctx = Context { families: Families::NONE.with(Family::Ipv4), ..Context::default() };
        let mut builder = UpdateBuilder::new(&ctx, MAX_LEN);
        assert!(!builder.push(host(Family::Ipv4, 1)), "nothing begun");
        let next_hop = NextHop::V6(GLOBAL);
        assert!(matches!(builder.announce(Family::Ipv6, &ebgp(), next_hop), Err(EncodeError::NotNegotiated(_))));
        assert!(matches!(builder.announce(Family::Ipv4, &ebgp(), next_hop), Err(EncodeError::NotNegotiated(_))));
        assert!(matches!(builder.withdraw(Family::Ipv6), Err(EncodeError::NotNegotiated(_))));
        let large = Attributes { communities: vec![1; 1100], ..ebgp() };
        let next_hop = NextHop::V4([10, 0, 0, 2].into());
        assert!(matches!(builder.announce(Family::Ipv4, &large, next_hop), Err(EncodeError::TooLong { .. })));
        builder.announce(Family::Ipv4, &ebgp(), next_hop).unwrap();
        assert!(!builder.push(host(Family::Ipv6, 1)), "another family");
        let mut out = BytesMut::new();
        builder.finish(&mut out);
        assert!(out.is_empty(), "no prefix, no message");
    }

    #[test]
    fn end_of_rib_is_read_as_such() {
        for family in Family::ALL {
            let mut out = BytesMut::new();
            end_of_rib(family, &mut out);
            let Ok(Message::Update(update)) = decode(&out, &Context::default()) else { panic!("an UPDATE") };
            assert_eq!(update.end_of_rib(), Some(family));
        }
    }
}
