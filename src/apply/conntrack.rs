//! The size of the table of tracked connections.

use std::io;
use std::path::Path;

use procfs::sys::kernel::random::boot_id;

use super::StepError;
use crate::facts::CONNTRACK_MAX;
use crate::host::Host;
use crate::record::Undo;

/// What takes a raise back, if the table still has the size `from`.
pub fn before(host: &Host, from: u64, to: u64) -> Result<Undo, StepError> {
    if size(host)? != Some(from) {
        return Err(StepError::Changed { what: "nf_conntrack_max".into() });
    }
    Ok(Undo::Conntrack { old: from, new: to, boot: boot()? })
}

pub fn raise(host: &Host, to: u64) -> Result<(), StepError> {
    Ok(host.write_setting(Path::new(CONNTRACK_MAX), &format!("{to}\n"))?)
}

/// Another size, or another boot, is somebody else's by now.
pub fn put_back(host: &Host, old: u64, new: u64, own_boot: &str) -> Result<(), StepError> {
    if boot()? != own_boot || size(host)? != Some(new) {
        return Ok(());
    }
    raise(host, old)
}

/// None where the kernel tracks no connections any more.
fn size(host: &Host) -> Result<Option<u64>, StepError> {
    match host.read(Path::new(CONNTRACK_MAX)) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).trim().parse().ok()),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn boot() -> Result<String, StepError> {
    boot_id().map_err(|error| StepError::Boot(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raise_is_taken_back_unless_somebody_else_has_set_the_size_since() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(&CONNTRACK_MAX[1..]);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let host = Host::disk(folder.path()).unwrap();
        let put = |text: &str| std::fs::write(&file, text).unwrap();
        let read = || std::fs::read_to_string(&file).unwrap().trim().to_owned();

        assert!(before(&host, 65_536, 131_072).is_err());
        put("32768\n");
        let changed = before(&host, 65_536, 131_072).unwrap_err();
        assert_eq!(changed.to_string(), "somebody has changed nf_conntrack_max since");
        put("65536\n");
        let Undo::Conntrack { old, new, boot } = before(&host, 65_536, 131_072).unwrap() else { unreachable!() };
        // Begun, and not made.
        put_back(&host, old, new, &boot).unwrap();
        assert_eq!(read(), "65536");
        raise(&host, new).unwrap();
        assert_eq!(read(), "131072");
        put_back(&host, old, new, "another boot").unwrap();
        assert_eq!(read(), "131072");
        put_back(&host, old, new, &boot).unwrap();
        assert_eq!(read(), "65536");
        put("200000\n");
        put_back(&host, old, new, &boot).unwrap();
        assert_eq!(read(), "200000");
        // The module is unloaded.
        std::fs::remove_file(&file).unwrap();
        put_back(&host, old, new, &boot).unwrap();
    }
}
