//! Replacing a legacy table of the calling thread's network namespace (linux/netfilter_ipv4/ip_tables.h). For scratch
//! namespaces only: on the live host the admin's own tool writes.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

use crate::facts::{Family, RawLegacy};

/// IPT_SO_SET_REPLACE and IPT_SO_GET_INFO, and the same for IPv6.
const SET_REPLACE: libc::c_int = 64;
const GET_INFO: libc::c_int = 64;
/// XT_TABLE_MAXNAMELEN
const NAME: usize = 32;
/// `struct ipt_getinfo`: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size.
const INFO: usize = NAME + 4 + 20 + 20 + 4 + 4;
const NUM_ENTRIES: usize = NAME + 44;
/// `struct xt_counters`: two 64-bit numbers.
const COUNTERS: usize = 16;

/// Puts the entries of `raw` in the place of the table of its name.
pub fn replace_legacy(family: Family, raw: &RawLegacy) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a legacy table");
    let info: &[u8; INFO] = raw.info.first_chunk().ok_or_else(invalid)?;
    let (domain, level) = match family {
        Family::Ipv4 => (libc::AF_INET, libc::IPPROTO_IP),
        Family::Ipv6 => (libc::AF_INET6, libc::IPPROTO_IPV6),
    };
    // SAFETY: no pointers; the descriptor is ours alone.
    let socket = unsafe {
        let descriptor = libc::socket(domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(descriptor)
    };
    // Asking for a table makes it, and the kernel wants room for the counters of the one that is replaced.
    let mut old = [0u8; INFO];
    old[..NAME].copy_from_slice(&info[..NAME]);
    let mut length = INFO as libc::socklen_t;
    // SAFETY: `old` is as long as said, and the kernel writes no more than that.
    let got = unsafe { libc::getsockopt(socket.as_raw_fd(), level, GET_INFO, old.as_mut_ptr().cast(), &mut length) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    let old_entries = old.get(NUM_ENTRIES..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b));
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
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, SET_REPLACE, request.as_ptr().cast(), length) };
    drop(counters);
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
