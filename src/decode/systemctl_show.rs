//! What `systemctl show` prints: `Property=value` lines, a blank line between units (systemctl(1)).

use crate::facts::Unit;

/// Each unit once, by its own name (`Id`).
pub fn units(text: &[u8]) -> Vec<Unit> {
    let text = String::from_utf8_lossy(text);
    let mut units: Vec<Unit> = Vec::new();
    for block in text.split("\n\n") {
        let property = |key: &str| {
            let values = block.lines().filter_map(|l| l.split_once('='));
            values.filter(|(k, _)| *k == key).map(|(_, v)| v.trim().to_owned()).next().unwrap_or_default()
        };
        let name = property("Id");
        if name.is_empty() || units.iter().any(|u| u.name == name) {
            continue;
        }
        units.push(Unit {
            name,
            load_state: property("LoadState"),
            active_state: property("ActiveState"),
            sub_state: property("SubState"),
            unit_file_state: property("UnitFileState"),
            result: property("Result"),
            main_pid: property("MainPID").parse().unwrap_or(0),
            fragment_path: property("FragmentPath"),
            kill_mode: property("KillMode"),
            socket: None,
        });
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_output_of_systemctl_is_read() {
        let text = "MainPID=612\nResult=success\nId=ssh.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\
                    FragmentPath=/lib/systemd/system/ssh.service\nUnitFileState=enabled\n\n\
                    MainPID=612\nId=ssh.service\nLoadState=loaded\n\n\
                    Result=success\nId=ssh.socket\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nUnitFileState=disabled\n";
        let units = units(text.as_bytes());
        assert_eq!(units.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), ["ssh.service", "ssh.socket"]);
        assert_eq!((units[0].main_pid, units[0].active(), units[1].active()), (612, true, false));
        assert_eq!(units[1].unit_file_state, "disabled");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = units(&bytes);
        }
    }
}
