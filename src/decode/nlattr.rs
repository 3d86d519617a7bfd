//! Netlink attributes (linux/netlink.h): type, length, value, padded to four bytes; numbers of netfilter are big-endian.

/// Bits of `nla_type` that are the type; the others say "nested" and "network byte order".
const NLA_TYPE_MASK: u16 = 0x3fff;

/// The attributes of a message or of a nested one, in order; ends at the first that does not fit.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & NLA_TYPE_MASK, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute of this type.
    pub fn get(self, wanted: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    pub fn nested(self, wanted: u16) -> Option<Attributes<'a>> {
        self.get(wanted).map(Attributes)
    }

    pub fn u8(self, wanted: u16) -> Option<u8> {
        self.get(wanted)?.first().copied()
    }

    pub fn u32(self, wanted: u16) -> Option<u32> {
        self.get(wanted)?.first_chunk().map(|b| u32::from_be_bytes(*b))
    }

    pub fn u64(self, wanted: u16) -> Option<u64> {
        self.get(wanted)?.first_chunk().map(|b| u64::from_be_bytes(*b))
    }

    /// A number in the host's order, as rtnetlink and a few others write it.
    pub fn host_u32(self, wanted: u16) -> Option<u32> {
        self.get(wanted)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
    }

    pub fn text(self, wanted: u16) -> Option<String> {
        self.get(wanted).map(text)
    }
}

/// A string as the kernel writes it: up to the first NUL.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(until_nul(value)).into_owned()
}

pub fn until_nul(value: &[u8]) -> &[u8] {
    value.split(|&b| b == 0).next().unwrap_or_default()
}
