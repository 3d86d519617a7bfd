//! The Debian package from its installation to its end: nobody does anything but dpkg.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use ssh_rescue::rehearse::drill::Sight;
use tempfile::TempDir;

use super::booted::{Booted, program};
use super::client::SOMEBODY;
use super::service::{journal, status, wait};
use super::walk::expect;

const PROGRAM: &str = "target/static/ssh-rescue";

/// The package that SSH_RESCUE_DEB names (`make deb`), else one that is packed from what Cargo.toml says of it.
fn first(folder: &Path) -> Result<PathBuf, String> {
    match std::env::var_os("SSH_RESCUE_DEB") {
        Some(made) => Ok(made.into()),
        None => pack(folder, "0.0.1-1"),
    }
}

/// Packs what `[package.metadata.deb]` lists, as cargo-deb does, which takes minutes to be installed.
fn pack(folder: &Path, version: &str) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(source.join("Cargo.toml")).map_err(|e| e.to_string())?;
    let manifest: toml::Table = manifest.parse().map_err(|e| format!("Cargo.toml: {e}"))?;
    let deb = &manifest["package"]["metadata"]["deb"];
    let text = |key: &str| deb[key].as_str().unwrap_or_else(|| panic!("no {key} in Cargo.toml"));
    let texts = |value: &toml::Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|v| v.as_str()).map(str::to_owned).collect()
    };
    let tree = folder.join(version);
    for asset in deb["assets"].as_array().into_iter().flatten().map(texts) {
        let [from, to, mode] = asset.as_slice() else { return Err(format!("{asset:?}")) };
        for file in files(source, from)? {
            let name = if to.ends_with('/') { file.file_name().unwrap_or_default() } else { "".as_ref() };
            let target = tree.join(to.trim_end_matches('/'));
            let target = if name.is_empty() { target } else { target.join(name) };
            copy(&file, &target, u32::from_str_radix(mode, 8).map_err(|e| format!("{mode}: {e}"))?)?;
        }
    }
    for script in ["postinst", "prerm", "postrm"] {
        let from = source.join(text("maintainer-scripts")).join(script);
        copy(&from, &tree.join("DEBIAN").join(script), 0o755)?;
    }
    let write =
        |name: &str, text: String| fs::write(tree.join("DEBIAN").join(name), text).map_err(|e| format!("{name}: {e}"));
    write("conffiles", texts(&deb["conf-files"]).join("\n") + "\n")?;
    write(
        "control",
        format!(
            "Package: ssh-rescue\nVersion: {version}\nArchitecture: all\nMaintainer: {}\nSection: {}\nPriority: {}\nDepends: {}\n\
             Description: keeps SSH reachable\n",
            text("maintainer"),
            text("section"),
            text("priority"),
            text("depends")
        ),
    )?;
    let package = folder.join(format!("{version}.deb"));
    let mut packer = Command::new("dpkg-deb");
    packer.args(["--root-owner-group", "-Zgzip", "-z1", "--build"]).args([&tree, &package]);
    let packed = packer.output().map_err(|e| format!("dpkg-deb: {e}"))?;
    match packed.status.success() {
        true => Ok(package),
        false => Err(String::from_utf8_lossy(&packed.stderr).into_owned()),
    }
}

/// The files of an asset: one, or all of a folder with an end to their names.
fn files(source: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let Some((folder, end)) = pattern.split_once('*') else {
        return Ok(vec![if pattern == PROGRAM { program() } else { source.join(pattern) }]);
    };
    let entries = fs::read_dir(source.join(folder)).map_err(|e| format!("{folder}: {e}"))?;
    let files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.to_string_lossy().ends_with(end)).collect();
    if files.is_empty() { Err(format!("{pattern} names nothing")) } else { Ok(files) }
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{} to {}: {e}", from.display(), to.display());
    fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    // What cargo leaves for debuggers would not fit the host.
    let stripped =
        from == program() && Command::new("strip").arg("-o").args([to, from]).status().is_ok_and(|s| s.success());
    if !stripped {
        fs::copy(from, to).map_err(failed)?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(failed)
}

fn dpkg(host: &Booted, package: &Path) -> Result<(), String> {
    fs::copy(package, host.path("/var/tmp/ssh-rescue.deb")).map_err(|e| e.to_string())?;
    let output = host.run("DEBIAN_FRONTEND=noninteractive dpkg -i /var/tmp/ssh-rescue.deb");
    if output.ok() { Ok(()) } else { Err(format!("dpkg -i: {}", output.complaint())) }
}

fn watched(host: &Booted, when: &str) -> Result<(), String> {
    wait(when, || status(host)["status"]["verdict"] == "reachable").map_err(|e| format!("{e}: {}", journal(host)))
}

fn rescued(host: &Booted, when: &str) -> Result<(), String> {
    wait(when, || host.wire.see(SOMEBODY) == [Sight::Banner; 2]).map_err(|e| format!("{e}: {}", journal(host)))
}

/// Each lock-out is in another place: restraint counts by it.
pub fn life(mut host: Booted) -> Result<(), String> {
    let folder = TempDir::new().map_err(|e| e.to_string())?;
    dpkg(&host, &first(folder.path())?)?;
    watched(&host, "an agent after the installation")?;
    host.sh("nft 'table inet one { chain in { type filter hook input priority 0; tcp dport 22 drop; }; }'");
    rescued(&host, "a rescue after the installation")?;
    host.reboot();
    watched(&host, "an agent after a boot")?;
    host.sh("echo ALL: ALL >/etc/hosts.deny; nft 'table inet two { chain in { type filter hook input priority 0; tcp dport 22 drop; }; }'");
    rescued(&host, "a rescue after a boot")?;

    host.sh("echo '# an own line' >>/etc/ssh-rescue/policy.toml");
    let higher = pack(folder.path(), "9.0.0-1")?;
    let agent = "systemctl show -p MainPID --value ssh-rescue.service";
    let old = host.sh(agent);
    // Locked out at the very moment of the upgrade.
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| dpkg(&host, &higher));
        host.sh("nft 'table inet three { chain in { type filter hook input priority 0; tcp dport 22 drop; }; }'");
        rescued(&host, "a rescue during an upgrade")?;
        upgrade.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    expect(
        "the version",
        &host.sh("dpkg-query -W -f '${Version} ${Status}' ssh-rescue").as_str(),
        &"9.0.0-1 install ok installed",
    )?;
    watched(&host, "an agent after the upgrade")?;
    expect("whether it is the old agent", &(host.sh(agent) == old), &false)?;
    host.sh("grep -q 'an own line' /etc/ssh-rescue/policy.toml");

    let rules = host.sh("nft -s list ruleset; cat /etc/hosts.allow");
    host.sh("dpkg -r ssh-rescue");
    expect("what was mended", &host.sh("nft -s list ruleset; cat /etc/hosts.allow"), &rules)?;
    expect("a mend", &rules.contains("ssh-rescue:"), &true).map_err(|e| format!("{e}: {rules}"))?;
    rescued(&host, "a client after the removal")?;
    host.sh("test -e /etc/ssh-rescue/policy.toml");
    let left = "find / -xdev '(' -path /var/log -o -path /var/lib/dpkg ')' -prune -o -name '*ssh-rescue*' ! -name '*.deb' -print";
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    // Its units stay masked until the purge: deb-systemd-helper(1p) keeps what an admin had enabled.
    let stays = |line: &String| line != "/etc/ssh-rescue" && !line.contains("systemd/");
    expect("what a removal leaves", &lines(host.sh(left)).into_iter().filter(stays).collect::<Vec<_>>(), &vec![])?;
    expect("whether it runs", &host.run("systemctl -q is-active ssh-rescue.service ssh-rescue.socket").ok(), &false)?;
    host.sh("dpkg -P ssh-rescue");
    expect("what a purge leaves", &lines(host.sh(left)), &vec![])?;
    expect("what was mended, after the purge", &host.sh("nft -s list ruleset; cat /etc/hosts.allow"), &rules)
}
