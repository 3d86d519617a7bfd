//! Tables of iptables-legacy in the calling thread's network namespace (linux/netfilter_ipv4/ip_tables.h).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

use crate::facts::{Family, RawLegacy};

/// IPT_SO_SET_REPLACE, IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES, and the same for IPv6.
const SET_REPLACE: libc::c_int = 64;
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// XT_TABLE_MAXNAMELEN
const NAME: usize = 32;
/// `struct ipt_getinfo`: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size.
const INFO: usize = NAME + 4 + 20 + 20 + 4 + 4;
const NUM_ENTRIES: usize = NAME + 44;
const SIZE: usize = NAME + 48;
/// `struct ipt_get_entries` before its entries: name, size, and padding to eight bytes.
const GET_HEADER: usize = NAME + 8;
/// `struct xt_counters`: two 64-bit numbers.
const COUNTERS: usize = 16;
/// No table is larger than this.
const TABLE_LIMIT: usize = 512 << 20;

/// The entries of a table. Asking for a table that the kernel knows but has not made yet makes it: ask only for those that
/// `/proc/thread-self/net/ip_tables_names` (`ip6_tables_names`) lists.
pub fn read_legacy(family: Family, table: &str) -> io::Result<RawLegacy> {
    let socket = Socket::open(family)?;
    let mut info = [0u8; INFO];
    let name = table.as_bytes();
    if name.len() >= NAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "table name too long"));
    }
    info[..name.len()].copy_from_slice(name);
    // A table that grows between the two calls makes the second one fail with EAGAIN.
    for _ in 0..8 {
        socket.get(GET_INFO, &mut info)?;
        let size = number(&info, SIZE) as usize;
        if size > TABLE_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "table too large"));
        }
        let mut request = vec![0u8; GET_HEADER + size];
        request[..NAME].copy_from_slice(&info[..NAME]);
        request[NAME..NAME + 4].copy_from_slice(&info[SIZE..]);
        match socket.get(GET_ENTRIES, &mut request) {
            Ok(()) => {
                let entries = request.split_off(GET_HEADER);
                return Ok(RawLegacy { table: table.to_owned(), info: info.to_vec(), entries });
            }
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::Interrupted, "the table changes all the time"))
}

/// Puts the entries of `raw` in the place of the table of its name. For scratch namespaces only: on the live host the
/// admin's own tool writes.
pub fn replace_legacy(family: Family, raw: &RawLegacy) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a legacy table");
    let info: &[u8; INFO] = raw.info.first_chunk().ok_or_else(invalid)?;
    let socket = Socket::open(family)?;
    // Asking for a table makes it, and the kernel wants room for the counters of the one that is replaced.
    let mut old = [0u8; INFO];
    old[..NAME].copy_from_slice(&info[..NAME]);
    socket.get(GET_INFO, &mut old)?;
    let old_entries = number(&old, NUM_ENTRIES);
    let mut counters = vec![0u8; old_entries as usize * COUNTERS];

    // `struct ipt_replace`: name, valid_hooks, num_entries, size, hook_entry, underflow, num_counters, counters, entries.
    let mut request = Vec::with_capacity(96 + raw.entries.len());
    request.extend(&info[..NAME + 4]);
    request.extend(&info[NUM_ENTRIES..]);
    request.extend(&info[NAME + 4..NUM_ENTRIES]);
    request.extend(old_entries.to_ne_bytes());
    request.extend((counters.as_mut_ptr() as usize).to_ne_bytes());
    request.extend(&raw.entries);
    let length = libc::socklen_t::try_from(request.len()).map_err(io::Error::other)?;
    // SAFETY: `request` is as long as said; the kernel writes `old_entries` counters to `counters`, which outlives the call
    // and has room for them.
    let set = unsafe {
        libc::setsockopt(socket.descriptor.as_raw_fd(), socket.level, SET_REPLACE, request.as_ptr().cast(), length)
    };
    drop(counters);
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A raw socket, which is how x_tables is spoken to (needs CAP_NET_RAW and CAP_NET_ADMIN).
struct Socket {
    descriptor: OwnedFd,
    level: libc::c_int,
}

impl Socket {
    fn open(family: Family) -> io::Result<Socket> {
        let (domain, level) = match family {
            Family::Ipv4 => (libc::AF_INET, libc::IPPROTO_IP),
            Family::Ipv6 => (libc::AF_INET6, libc::IPPROTO_IPV6),
        };
        // SAFETY: no pointers; the descriptor is ours alone.
        let descriptor = unsafe {
            let descriptor = libc::socket(domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(descriptor)
        };
        Ok(Socket { descriptor, level })
    }

    /// Asks with what `request` holds, and fills it with the answer.
    fn get(&self, option: libc::c_int, request: &mut [u8]) -> io::Result<()> {
        let mut length = libc::socklen_t::try_from(request.len()).map_err(io::Error::other)?;
        // SAFETY: `request` is as long as `length` says, and the kernel writes no more than that.
        let got = unsafe {
            let value = request.as_mut_ptr().cast();
            libc::getsockopt(self.descriptor.as_raw_fd(), self.level, option, value, &mut length)
        };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// The 32-bit number at `at`, in the host's order.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
}
