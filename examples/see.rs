fn main() {
    let host = ssh_rescue::host::Host::live();
    let mut policy = ssh_rescue::policy::Policy::default();
    if let Some(p) = std::env::args().nth(1) {
        policy.ssh.ports = vec![p.parse().unwrap()];
    }
    let t = std::time::Instant::now();
    let s = ssh_rescue::observe::observe(&host, &policy);
    eprintln!("observe {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let j = ssh_rescue::judge::judge(&policy, &s);
    eprintln!("judge {:?}", t.elapsed());
    println!("{:#?}", (&s.owners, &s.listeners, &s.sshd, &s.resources));
    println!("{}", serde_json::to_string_pretty(&j).unwrap());
}
