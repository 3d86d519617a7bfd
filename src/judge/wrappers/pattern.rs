//! One pattern of a client list, as the set of sources that it matches (`host_match` and `string_match` of libwrap).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::glob;
use crate::decode::hosts_access::list;
use crate::facts::{AddrSet, Family, Seen, escape};

/// What libwrap says for a name or an address that it does not know.
pub const UNKNOWN: &[u8] = b"unknown";
/// `/file` patterns that name files are followed so far.
const DEPTH: u8 = 4;

/// What is known of one request besides the client's address.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub family: Family,
    /// The name that sshd gives to libwrap.
    pub daemon: &'a [u8],
    /// The local address and port; None as in tcpdmatch(8), which knows none.
    pub server: Option<(IpAddr, u16)>,
    /// None: every client; names are looked up and commands run, and what comes of it is not known. Else this one alone as
    /// in tcpdmatch(8): no name is found and no command is run.
    pub client: Option<IpAddr>,
    /// What `/file` patterns name.
    pub lists: &'a Lists<'a>,
}

/// Files of patterns, and what they have come to: one that names itself many times is worked out once for each depth.
#[derive(Debug)]
pub struct Lists<'a> {
    files: &'a [(PathBuf, Seen<Vec<u8>>)],
    known: RefCell<HashMap<Known, Matched>>,
}

/// Which file, how deep, and for whom.
type Known = (usize, u8, Family, Option<IpAddr>);

impl<'a> Lists<'a> {
    pub fn of(files: &'a [(PathBuf, Seen<Vec<u8>>)]) -> Lists<'a> {
        Lists { files, known: RefCell::default() }
    }
}

/// The sources that a pattern matches, and those for which it depends.
#[derive(Debug, Clone)]
pub struct Matched {
    pub yes: AddrSet,
    pub maybe: AddrSet,
    /// On what it depends.
    pub why: Option<Doubt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    pub reason: String,
    /// It depends on the client's own name, and few clients have such a name.
    pub few: bool,
}

impl Matched {
    pub fn none(family: Family) -> Matched {
        Matched { yes: AddrSet::empty(family), maybe: AddrSet::empty(family), why: None }
    }

    fn sure(yes: AddrSet) -> Matched {
        Matched { maybe: AddrSet::empty(yes.family()), yes, why: None }
    }

    fn all_or_none(family: Family, all: bool) -> Matched {
        Matched::sure(if all { AddrSet::full(family) } else { AddrSet::empty(family) })
    }

    fn maybe(maybe: AddrSet, reason: String, few: bool) -> Matched {
        Matched { yes: AddrSet::empty(maybe.family()), maybe, why: Some(Doubt { reason, few }) }
    }

    /// Matched by either of two.
    pub fn or(mut self, other: Matched) -> Matched {
        if other.yes.is_empty() && other.maybe.is_empty() {
            return self;
        }
        self.yes.union_with(&other.yes);
        self.maybe.union_with(&other.maybe);
        self.maybe.subtract(&self.yes);
        self.why = match (self.why, other.why) {
            (Some(a), Some(b)) => Some(if a.few && !b.few { b } else { a }),
            (a, b) => a.or(b),
        };
        // On what nothing depends any more is no doubt: `ALL` is also the name of nobody.
        self.why = self.why.filter(|_| !self.maybe.is_empty());
        self
    }

    /// Matched by this, and not by what is excepted.
    pub fn except(self, other: &Matched) -> Matched {
        let possible = self.yes.union(&self.maybe).minus(&other.yes);
        let yes = self.yes.minus(&other.yes).minus(&other.maybe);
        let maybe = possible.minus(&yes);
        Matched { yes, maybe, why: self.why.or_else(|| other.why.clone().map(|w| Doubt { few: false, ..w })) }
    }

    /// Matched by this, if something else that is not known holds as well.
    pub fn and_maybe(self, reason: String) -> Matched {
        let maybe = self.yes.union(&self.maybe);
        Matched::maybe(maybe, reason, false)
    }
}

/// A pattern against the client's address and name.
pub fn host(token: &[u8], request: &Request<'_>) -> Matched {
    host_at(token, request, 0)
}

fn host_at(token: &[u8], request: &Request<'_>, depth: u8) -> Matched {
    let family = request.family;
    let full = || AddrSet::full(family);
    let shown = || escape(&String::from_utf8_lossy(token));
    match token {
        [b'@', ..] if request.client.is_some() => Matched::none(family),
        [b'@', ..] => Matched::maybe(full(), format!("netgroup {} is not looked up", shown()), true),
        [b'/', ..] => in_file(token, request, depth),
        _ if is(token, "KNOWN") && request.client.is_some() => Matched::none(family),
        _ if is(token, "KNOWN") => {
            Matched::maybe(full(), "whether the client has a name in DNS (KNOWN)".to_owned(), false)
        }
        _ if is(token, "LOCAL") && request.client.is_some() => Matched::none(family),
        _ if is(token, "LOCAL") => {
            Matched::maybe(full(), "whether the client's name has no dot (LOCAL)".to_owned(), true)
        }
        _ => match slash(token) {
            Some((net, mask)) => masked(net, mask, family),
            None => text(token, request).or(name(token, request)),
        },
    }
}

/// A pattern that is no address, against the client's name.
fn name(token: &[u8], request: &Request<'_>) -> Matched {
    let family = request.family;
    let looks_like_an_address = token.iter().all(|b| b"0123456789./".contains(b));
    if looks_like_an_address {
        return Matched::none(family);
    }
    if request.client.is_some() {
        return Matched::all_or_none(family, string(token, UNKNOWN));
    }
    // No name has brackets; a name that looks like an address under a wildcard is one that an attacker made up.
    if token.first() == Some(&b'[') || token.iter().all(|b| b"0123456789.?*:".contains(b)) {
        return Matched::none(family);
    }
    let shown = escape(&String::from_utf8_lossy(token));
    if is(token, "UNKNOWN") {
        return Matched::maybe(
            AddrSet::full(family),
            "whether the client has no name in DNS (UNKNOWN)".to_owned(),
            false,
        );
    }
    Matched::maybe(AddrSet::full(family), format!("whether the client's name in DNS matches {shown}"), true)
}

fn in_file(token: &[u8], request: &Request<'_>, depth: u8) -> Matched {
    let path = String::from_utf8_lossy(token);
    let full = AddrSet::full(request.family);
    let shown = escape(&path);
    let Lists { files, known } = request.lists;
    match files.iter().enumerate().find(|(_, (name, _))| name == Path::new(&*path)).map(|(at, (_, file))| (at, file)) {
        Some((_, Seen::Present(_))) | None if depth >= DEPTH => {
            Matched::maybe(full, format!("the list {shown} names lists too deeply"), false)
        }
        Some((at, Seen::Present(bytes))) => {
            let key = (at, depth, request.family, request.client);
            if let Some(known) = known.borrow().get(&key) {
                return known.clone();
            }
            let all = list(bytes).map(|token| host_at(token, request, depth + 1));
            let matched = all.fold(Matched::none(request.family), Matched::or);
            known.borrow_mut().insert(key, matched.clone());
            matched
        }
        Some((_, Seen::Absent)) => Matched::none(request.family),
        Some((_, Seen::Unreadable(why))) => Matched::maybe(full, format!("the list {shown}: {}", escape(why)), false),
        None => Matched::maybe(full, format!("the list {shown} was not read"), false),
    }
}

/// A pattern against the text of an address (`string_match`).
fn text(token: &[u8], request: &Request<'_>) -> Matched {
    let family = request.family;
    let wild = |pattern: &[u8]| match request.client {
        Some(client) => Matched::all_or_none(family, string(pattern, client.to_string().as_bytes())),
        None => wild(pattern, family),
    };
    let shown = || escape(&String::from_utf8_lossy(token));
    if token.contains(&b'*') || token.contains(&b'?') {
        return wild(token);
    }
    match (token, family) {
        ([b'.', ..], _) => wild(&[b"?*", token].concat()),
        _ if is(token, "ALL") || is(token, "KNOWN") => Matched::sure(AddrSet::full(family)),
        ([.., b'.'], _) => wild(&[token, b"*"].concat()),
        ([b'[', inner @ .., b']'], Family::Ipv6) => match address6(inner) {
            Some((address, false)) => Matched::sure(AddrSet::single(address.into())),
            Some((address, true)) => {
                Matched::maybe(AddrSet::single(address.into()), format!("the scope of {}", shown()), false)
            }
            None => Matched::none(family),
        },
        _ => {
            let exact = std::str::from_utf8(token).ok().and_then(|t| Some((t, t.parse::<IpAddr>().ok()?)));
            match exact {
                Some((text, address))
                    if Family::of(address) == family && address.to_string().eq_ignore_ascii_case(text) =>
                {
                    Matched::sure(AddrSet::single(address))
                }
                _ => Matched::none(family),
            }
        }
    }
}

fn wild(pattern: &[u8], family: Family) -> Matched {
    let shown = || escape(&String::from_utf8_lossy(pattern));
    let set = match family {
        Family::Ipv4 => glob::ipv4(pattern),
        Family::Ipv6 => wild6(pattern),
    };
    match set {
        Some(set) => Matched::sure(set),
        None => Matched::maybe(
            AddrSet::full(family),
            format!("the pattern {} has too many matches to list", shown()),
            false,
        ),
    }
}

/// The IPv6 addresses whose text a pattern matches, in the forms that people use; None where that is hard to say.
fn wild6(pattern: &[u8]) -> Option<AddrSet> {
    if pattern.iter().all(|b| *b == b'*') {
        return Some(AddrSet::full(Family::Ipv6));
    }
    let literal = pattern.split(|b| b"*?".contains(b)).next().unwrap_or_default();
    let begins_as_an_address = match literal.iter().position(|b| *b == b':') {
        Some(colon) => colon <= 4 && literal.iter().all(|b| b.is_ascii_hexdigit() || b":.%".contains(b)),
        None => literal.len() <= 4 && literal.iter().all(u8::is_ascii_hexdigit),
    };
    if !begins_as_an_address {
        return Some(AddrSet::empty(Family::Ipv6));
    }
    // Whole groups that are not 0 are always written out: `2001:db8:*` is a prefix.
    let groups = std::str::from_utf8(literal.strip_suffix(b":")?).ok()?;
    let mut number = 0u128;
    let mut bits = 0u32;
    for group in groups.split(':') {
        let value =
            u16::from_str_radix(group, 16).ok().filter(|v| *v != 0 && format!("{v:x}").eq_ignore_ascii_case(group))?;
        bits += 16;
        number |= u128::from(value).checked_shl(128u32.checked_sub(bits)?)?;
    }
    let plain = pattern.len() == literal.len() + 1 && pattern.ends_with(b"*") && bits < 112;
    let net = IpNet::new(IpAddr::V6(Ipv6Addr::from(number)), u8::try_from(bits).ok()?).ok()?;
    plain.then(|| AddrSet::net(net))
}

/// A pattern against a text that is known: the daemon's name, the server's address (`string_match`).
pub fn string(token: &[u8], text: &[u8]) -> bool {
    let mapped = text.get(..7).filter(|p| p.eq_ignore_ascii_case(b"::ffff:")).and_then(|_| text.get(7..));
    let text = mapped.filter(|t| dot_quad(t).is_some()).unwrap_or(text);
    if token.contains(&b'*') || token.contains(&b'?') {
        return glob::matches(token, text);
    }
    match token {
        [b'.', ..] => {
            let tail = text.len().checked_sub(token.len()).filter(|n| *n > 0).and_then(|n| text.get(n..));
            tail.is_some_and(|t| t.eq_ignore_ascii_case(token))
        }
        _ if is(token, "ALL") => true,
        _ if is(token, "KNOWN") => !text.eq_ignore_ascii_case(UNKNOWN),
        [.., b'.'] => text.get(..token.len()).is_some_and(|t| t.eq_ignore_ascii_case(token)),
        [b'[', inner @ .., b']'] => match (address6(inner), address6(text)) {
            (Some((a, _)), Some((b, _))) => a == b,
            _ => false,
        },
        _ => token.eq_ignore_ascii_case(text),
    }
}

/// `net/mask` against addresses (`masked_match`).
fn masked(net: &[u8], mask: &[u8], family: Family) -> Matched {
    match family {
        Family::Ipv4 => {
            let (Some(net), Some(mask)) = (dot_quad(net), dot_quad(mask).or_else(|| cidr(mask))) else {
                return Matched::none(family);
            };
            match AddrSet::masked(family, net.into(), mask.into()) {
                Some(set) => Matched::sure(set),
                None => Matched::maybe(AddrSet::full(family), "a mask with too many holes to list".to_owned(), false),
            }
        }
        Family::Ipv6 => {
            let [b'[', inner @ .., b']'] = net else { return Matched::none(family) };
            let (Some((address, _)), Ok(length)) = (address6(inner), u8::try_from(atoi(mask))) else {
                return Matched::none(family);
            };
            match IpNet::new(IpAddr::V6(address), length) {
                Ok(net) => Matched::sure(AddrSet::net(net)),
                Err(_) => Matched::none(family),
            }
        }
    }
}

/// `net/mask` of a token; None for one without a slash outside of brackets.
fn slash(token: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut brackets = 0i32;
    let at = token.iter().position(|byte| {
        match byte {
            b'[' => brackets += 1,
            b']' => brackets -= 1,
            _ => {}
        }
        *byte == b'/' && brackets == 0
    })?;
    Some((token.get(..at)?, token.get(at + 1..)?))
}

fn is(token: &[u8], word: &str) -> bool {
    token.eq_ignore_ascii_case(word.as_bytes())
}

/// `dot_quad_addr`: four runs between dots, read by inet_addr(3): decimal, octal (`010`) or hexadecimal (`0x0a`) numbers.
/// 255.255.255.255 is its word for "no address".
fn dot_quad(text: &[u8]) -> Option<u32> {
    let mut octets = [0u8; 4];
    let mut parts = text.split(|b| *b == b'.');
    for octet in &mut octets {
        *octet = octet_of(std::str::from_utf8(parts.next()?).ok()?)?;
    }
    let number = u32::from(Ipv4Addr::from(octets));
    (parts.next().is_none() && number != u32::MAX).then_some(number)
}

fn octet_of(text: &str) -> Option<u8> {
    let plain =
        |t: &str, radix| t.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| u8::from_str_radix(t, radix).ok())?;
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => plain(hex, 16),
        None if text.starts_with('0') => plain(text, 8),
        None => plain(text, 10),
    }
}

/// `cidr_mask_addr`: 1 to 32.
fn cidr(text: &[u8]) -> Option<u32> {
    match atoi(text) {
        bits @ 1..=32 => Some(u32::MAX << (32 - bits)),
        _ => None,
    }
}

/// atoi(3) of glibc: strtol(3), its low 32 bits.
pub fn atoi(text: &[u8]) -> i32 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mut value = 0i64;
    for digit in digits.iter().take_while(|b| b.is_ascii_digit()).map(|b| i64::from(b - b'0')) {
        let signed = if negative { -digit } else { digit };
        value = value.saturating_mul(10).saturating_add(signed);
    }
    value as i32
}

/// An IPv6 address and whether it has a scope.
fn address6(text: &[u8]) -> Option<(Ipv6Addr, bool)> {
    let text = std::str::from_utf8(text).ok()?;
    let (address, scope) = text.split_once('%').map_or((text, None), |(a, s)| (a, Some(s)));
    Some((address.parse().ok()?, scope.is_some()))
}
