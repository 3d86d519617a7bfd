//! A client that tries again and again, from the moment of the lock-out on.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::booted::Booted;
use super::client::HOST;

/// Between two tries: so exact is what is measured. Where sshd answers, each costs it a process.
const PAUSE: Duration = Duration::from_millis(4);
const ANSWERED: Duration = Duration::from_millis(16);
/// A SYN that was dropped is sent again after a second: until then others have been sent.
const CONNECT: Duration = Duration::from_millis(200);
const BANNER: Duration = Duration::from_secs(7);

/// When the first connection by IPv4 that got sshd's banner was made; None: not within `patience`.
pub fn first_client(host: &Booted, patience: Duration) -> Option<SystemTime> {
    host.wire.there(move || knock(patience))
}

fn knock(patience: Duration) -> Option<SystemTime> {
    let address: IpAddr = HOST[0].0.parse().expect("an address");
    let target = SocketAddr::new(address, 22);
    let connected = Arc::new(AtomicBool::new(false));
    let (tell, told) = channel();
    let end = Instant::now() + patience;
    while Instant::now() < end {
        let (tell, answered) = (tell.clone(), connected.clone());
        thread::spawn(move || {
            let Ok(mut stream) = TcpStream::connect_timeout(&target, CONNECT) else { return };
            let at = SystemTime::now();
            answered.store(true, Ordering::SeqCst);
            let mut banner = [0; 4];
            let greeted = stream.set_read_timeout(Some(BANNER)).and_then(|()| stream.read_exact(&mut banner));
            if greeted.is_ok() && &banner == b"SSH-" {
                let _ = tell.send(at);
            }
        });
        match told.recv_timeout(if connected.load(Ordering::SeqCst) { ANSWERED } else { PAUSE }) {
            Ok(at) => return Some(at),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    None
}
