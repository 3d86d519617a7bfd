//! A TUN or TAP device of a scratch namespace: packets written to it arrive as if from outside, and what leaves by it can
//! be read (Documentation/networking/tuntap.rst).

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Which packets a device carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Bare IP packets; no MAC header.
    Ip,
    /// Ethernet frames. The device does no ARP and no neighbour discovery.
    Ethernet,
}

/// A device that lives as long as this value.
#[derive(Debug)]
pub struct Tun {
    device: File,
    tap: OwnedFd,
    index: u32,
}

nix::ioctl_write_ptr_bad!(tun_set_iff, libc::TUNSETIFF, libc::ifreq);
nix::ioctl_write_ptr_bad!(tun_set_index, TUNSETIFINDEX, libc::c_uint);
nix::ioctl_read_bad!(get_index, libc::SIOCGIFINDEX, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);
nix::ioctl_read_bad!(get_flags, libc::SIOCGIFFLAGS, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_mac, libc::SIOCSIFHWADDR, libc::ifreq);

/// `_IOW('T', 218, unsigned int)` of linux/if_tun.h.
const TUNSETIFINDEX: libc::c_ulong = 0x4004_54da;
/// IEEE 802 local experimental EtherType: a frame of it passes through the stack behind the packets before it and is
/// nobody's.
const FENCE_PROTOCOL: u16 = 0x88b5;
/// `struct tun_pi`: flags and protocol before each packet.
const PI: usize = 4;
/// Ring of a device, in packets: more than this must not wait to be read.
pub const RING: usize = 256;

impl Tun {
    /// Makes the device `name` with interface number `index` (None: any) in the calling thread's network namespace, down.
    pub fn create(name: &str, index: Option<u32>, layer: Layer, mac: Option<[u8; 6]>) -> io::Result<Tun> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        let mut request = interface_request(name)?;
        let flags = match layer {
            Layer::Ip => libc::IFF_TUN,
            Layer::Ethernet => libc::IFF_TAP,
        };
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the descriptor is open and the pointers are to values that outlive the calls.
        unsafe {
            if let Some(index) = index {
                tun_set_index(device.as_raw_fd(), &index)?;
            }
            tun_set_iff(device.as_raw_fd(), &request)?;
        }
        let tap = packet_socket()?;
        let mut request = interface_request(name)?;
        // SAFETY: the descriptor is open, `request` outlives the call, and SIOCGIFINDEX fills in `ifru_ifindex`.
        let found = unsafe {
            get_index(tap.as_raw_fd(), &mut request)?;
            request.ifr_ifru.ifru_ifindex
        };
        let index = u32::try_from(found).map_err(io::Error::other)?;
        if layer == Layer::Ethernet {
            quieten(&tap, name, mac)?;
        }
        listen(&tap, index)?;
        Ok(Tun { device, tap, index })
    }

    pub fn index(&self) -> u32 {
        self.index
    }

    /// Writes one packet (or frame); `protocol` is its EtherType.
    pub fn send(&mut self, protocol: u16, packet: &[u8]) -> io::Result<()> {
        let mut framed = Vec::with_capacity(PI + packet.len());
        framed.extend([0, 0]);
        framed.extend(protocol.to_be_bytes());
        framed.extend(packet);
        self.device.write_all(&framed)
    }

    /// The next packet that left by the device, if one waits.
    pub fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0u8; 2048];
        match self.device.read(&mut buffer) {
            Ok(got) => Ok(Some(buffer.get(PI..got).unwrap_or_default().to_vec())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until everything that was sent before has been through the stack.
    ///
    /// A frame of a protocol of nobody's is sent behind it, and waited for on a packet socket, which sees it before any
    /// firewall does. This holds as long as the calling thread stays on one processor (see [`pin`]): what a device receives
    /// waits in one queue per processor.
    pub fn fence(&mut self) -> io::Result<()> {
        let mut frame = [0u8; 14];
        let [high, low] = FENCE_PROTOCOL.to_be_bytes();
        frame[12] = high;
        frame[13] = low;
        self.send(FENCE_PROTOCOL, &frame)?;
        let end = Instant::now() + Duration::from_secs(2);
        let mut buffer = [0u8; 64];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "packets stay in the stack"));
            }
            let mut wait = [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)];
            poll(&mut wait, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))?;
            // SAFETY: the descriptor is open and the buffer is as long as said.
            let got = unsafe {
                libc::recv(self.tap.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
            };
            if got > 0 {
                return Ok(());
            }
        }
    }
}

/// Keeps the calling thread on the processor that it is on.
pub fn pin() -> io::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(nix::sched::sched_getcpu()?)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)?;
    Ok(())
}

/// Gives a TAP device its MAC and takes ARP and neighbour discovery away from it, so that every source is a neighbour.
fn quieten(socket: &OwnedFd, name: &str, mac: Option<[u8; 6]>) -> io::Result<()> {
    let mut request = interface_request(name)?;
    if let Some(mac) = mac {
        let mut address = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: [0; 14] };
        for (to, from) in address.sa_data.iter_mut().zip(mac) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_hwaddr = address;
        // SAFETY: the descriptor is open and `request` outlives the call.
        unsafe { set_mac(socket.as_raw_fd(), &request)? };
    }
    let mut request = interface_request(name)?;
    // SAFETY: as above; SIOCGIFFLAGS fills in `ifru_flags`.
    unsafe {
        get_flags(socket.as_raw_fd(), &mut request)?;
        request.ifr_ifru.ifru_flags |= libc::IFF_NOARP as libc::c_short;
        set_flags(socket.as_raw_fd(), &request)?;
    }
    Ok(())
}

fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    let name = CString::new(name)?;
    let bytes = name.as_bytes_with_nul();
    // SAFETY: `ifreq` is plain data; all zeroes is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if bytes.len() > request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "interface name too long"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(request)
}

/// A packet socket that is not bound yet and lets only the fence's frames through.
fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor is ours alone.
    let socket = unsafe {
        let raw = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(raw)
    };
    const SKF_AD_PROTOCOL: u32 = libc::SKF_AD_OFF as u32 + libc::SKF_AD_PROTOCOL as u32;
    let code = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        code(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, SKF_AD_PROTOCOL),
        code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::from(FENCE_PROTOCOL)),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, 64),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
    // SAFETY: `filter` points to `program`; both outlive the call, and the length is that of a `sock_fprog`.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// Binds a packet socket to every protocol of one interface.
fn listen(socket: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` is plain data; all zeroes is a value of it.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the pointer is to a `sockaddr_ll` of the given length.
    let bound = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
