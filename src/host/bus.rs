//! D-Bus, always with a deadline.

use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;
use zbus::Connection;
use zbus::connection::Builder;

use super::Host;

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

#[derive(Debug, Error)]
pub enum BusError {
    #[error("there is no system bus ({SYSTEM_BUS})")]
    Missing,
    #[error("start a runtime for D-Bus")]
    Runtime(#[source] std::io::Error),
    #[error("D-Bus")]
    Bus(#[from] zbus::Error),
    #[error("D-Bus")]
    Fdo(#[from] zbus::fdo::Error),
    #[error("D-Bus: {0}")]
    Value(#[from] zbus::zvariant::Error),
    #[error("D-Bus did not answer within {} s", .0.as_secs_f32())]
    Deadline(Duration),
}

impl Host {
    /// Talks on the system bus. All that `talk` does must be over within `deadline`.
    pub fn system_bus<T>(
        &self,
        deadline: Duration,
        talk: impl AsyncFnOnce(&Connection) -> Result<T, BusError>,
    ) -> Result<T, BusError> {
        if !Path::new(SYSTEM_BUS).exists() {
            return Err(BusError::Missing);
        }
        within(deadline, async || Builder::address(&*format!("unix:path={SYSTEM_BUS}"))?.build().await, talk)
    }

    /// Talks to systemd, over the system bus: on its own socket (/run/systemd/private) it signs its answers with a name that
    /// zbus 5 takes for a broken message and panics on.
    pub fn systemd<T>(
        &self,
        deadline: Duration,
        talk: impl AsyncFnOnce(&Connection) -> Result<T, BusError>,
    ) -> Result<T, BusError> {
        self.system_bus(deadline, talk)
    }
}

fn within<T>(
    deadline: Duration,
    connect: impl AsyncFnOnce() -> zbus::Result<Connection>,
    talk: impl AsyncFnOnce(&Connection) -> Result<T, BusError>,
) -> Result<T, BusError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BusError::Runtime)?;
    let all = async { talk(&connect().await?).await };
    let answer = runtime.block_on(async { timeout(deadline, all).await });
    // What is still in flight on this connection is nobody's any more.
    runtime.shutdown_background();
    answer.unwrap_or(Err(BusError::Deadline(deadline)))
}
