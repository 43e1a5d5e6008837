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
