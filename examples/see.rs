fn main() {
    let host = ssh_rescue::host::Host::live();
    let mut policy = ssh_rescue::policy::Policy::default();
    if let Some(p) = std::env::args().nth(1) {
        policy.ssh.ports = vec![p.parse().unwrap()];
    }
    let t = std::time::Instant::now();
    let s = ssh_rescue::observe::services(&host, &policy);
    eprintln!("{:?}", t.elapsed());
    println!("{s:#?}");
}
