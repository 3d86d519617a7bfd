//! The seal at the end of what is kept: a damaged file must not be taken for a record, however well it still reads.

/// Ends a file: a mark (a comment to nft), 16 hexadecimal digits and a newline.
const MARK: &str = "\n# seal ";
const LENGTH: usize = MARK.len() + 17;

/// The text with its seal.
pub fn sealed(mut text: Vec<u8>) -> Vec<u8> {
    let seal = format!("{MARK}{:016x}\n", digest(&text));
    text.extend(seal.as_bytes());
    text
}

/// The text without its seal; None where they do not fit.
pub fn opened(bytes: &[u8]) -> Option<&[u8]> {
    let (text, seal) = bytes.split_at_checked(bytes.len().checked_sub(LENGTH)?)?;
    (seal == format!("{MARK}{:016x}\n", digest(text)).as_bytes()).then_some(text)
}

/// FNV-1a of 64 bits: it tells damage, not forgery, against which the folder is root's alone. Two texts that differ in one
/// byte never have the same.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_damage_goes_unseen() {
        let whole = sealed(br#"{"path": "/etc/hosts.allow"}"#.to_vec());
        assert_eq!(opened(&whole), Some(br#"{"path": "/etc/hosts.allow"}"#.as_slice()));
        for place in 0..whole.len() {
            for flip in 1..=255 {
                let mut damaged = whole.clone();
                damaged[place] ^= flip;
                assert_eq!(opened(&damaged), None, "byte {place} of {}", damaged.escape_ascii());
            }
            assert_eq!(opened(&whole[..place]), None, "cut to {place} bytes");
        }
        let mut longer = whole;
        longer.push(b'\n');
        assert_eq!(opened(&longer), None);
    }
}
