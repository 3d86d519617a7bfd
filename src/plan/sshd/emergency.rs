//! An sshd beside the real one, where nothing else brings sshd up: it lets in nobody whom the admin's configuration kept out.

use std::path::PathBuf;

use super::{Attempt, No};
use crate::decode::sshd_config::{Line, includes, lines};
use crate::facts::TextFile;
use crate::plan::Step;
use crate::plan::accept::tag;
use crate::policy::respects;

/// Keywords whose lines are taken over as they are: who may log in, by which key, to what, and by which ciphers.
const TAKEN: [&str; 26] = [
    "allowgroups",
    "allowusers",
    "authenticationmethods",
    "authorizedkeyscommand",
    "authorizedkeyscommanduser",
    "authorizedkeysfile",
    "authorizedprincipalscommand",
    "authorizedprincipalscommanduser",
    "authorizedprincipalsfile",
    "casignaturealgorithms",
    "chrootdirectory",
    "ciphers",
    "denygroups",
    "denyusers",
    "forcecommand",
    "hostbasedauthentication",
    "kexalgorithms",
    "logingracetime",
    "macs",
    "maxauthtries",
    "pubkeyacceptedalgorithms",
    "pubkeyauthentication",
    "requiredrsasize",
    "revokedkeys",
    "trustedusercakeys",
    "usepam",
];
/// Includes within includes that are followed.
const DEPTH: usize = 4;
/// What the emergency one never does, whatever the admin's does.
const STRICT: &str = "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitEmptyPasswords no\nGSSAPIAuthentication no\n\
                      AllowTcpForwarding no\nAllowAgentForwarding no\nAllowStreamLocalForwarding no\nX11Forwarding no\nPermitTunnel no\n\
                      PermitUserEnvironment no\nStrictModes yes\nUseDNS no\nPidFile none\n";

impl Attempt<'_> {
    /// Instead of what could not be planned, or did not come up.
    pub(super) fn emergency(&self) -> Result<Step, No> {
        let why_not = |why: &str| Err(("sshd.emergency", why.to_owned()));
        if self.snapshot.sshd.binary.present().is_none() {
            return why_not("no sshd is installed that could be started");
        }
        let files = &self.snapshot.sshd.files;
        let Some(main) = files.config.first().filter(|_| files.unreadable.is_none()) else {
            return why_not("whom the admin's configuration kept out is not known");
        };
        let all = in_order(main, &files.config, DEPTH);
        if all.iter().any(|l| l.in_match) {
            return why_not("Match blocks restrict somebody, and an sshd without them would let more in");
        }
        let mut config = format!("# {}: until the real sshd is back\n", tag(self.id));
        for port in &self.policy.ssh.ports {
            config.push_str(&format!("Port {port}\n"));
        }
        // Anything but what is known to be as strict closes the door to root.
        let root = all.iter().find(|l| l.keyword == "permitrootlogin").map(|l| l.args.join(" ").to_ascii_lowercase());
        let root = match root.as_deref() {
            None | Some("yes" | "prohibit-password" | "without-password") => "prohibit-password",
            Some("forced-commands-only") => "forced-commands-only",
            Some(_) => "no",
        };
        config.push_str(&format!("PermitRootLogin {root}\n{STRICT}"));
        for line in all.iter().filter(|l| TAKEN.contains(&l.keyword.as_str())) {
            let quoted =
                |arg: &String| if arg.contains(char::is_whitespace) { format!("\"{arg}\"") } else { arg.clone() };
            let args: Vec<String> = line.args.iter().map(quoted).collect();
            config.push_str(&format!("{} {}\n", line.keyword, args.join(" ")));
        }
        let usable = |key: &&crate::facts::HostKey| {
            key.file.present().is_some_and(|f| f.is_key && f.owned.uid == 0 && f.owned.mode & 0o077 == 0)
        };
        let keys: Vec<_> = files.keys.iter().filter(usable).map(|k| k.path.clone()).collect();
        Ok(Step::EmergencySshd { config, keys })
    }
}

/// The lines of a file with those of what it includes in their places: of most keywords sshd takes the first.
fn in_order(file: &TextFile, config: &[TextFile], depth: usize) -> Vec<Line> {
    let mut all = Vec::new();
    for line in lines(&file.bytes) {
        let patterns = includes(&line);
        let fits = |f: &&TextFile| {
            let fits = |p: &PathBuf| respects(&[p.to_string_lossy().into_owned()], &f.path.to_string_lossy());
            f.path != file.path && patterns.iter().any(fits)
        };
        if depth > 0 {
            all.extend(config.iter().filter(fits).flat_map(|f| in_order(f, config, depth - 1)));
        }
        all.push(line);
    }
    all
}
