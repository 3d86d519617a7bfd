//! The control socket, spoken to by hand.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ssh_rescue::agent::{INTERFACE, Interface};
use ssh_rescue::host::Call;

use super::common::root;
use super::started::{PROGRAM, SOCKET, answer, ask, call, lock_out, ours, status, until, with_agent};

/// Longer than a client that dawdles is given.
const GIVEN_UP: Duration = Duration::from_secs(8);

fn agents() -> Interface {
    Interface::parse(INTERFACE).unwrap()
}

/// What a method gives, held against the interface file.
fn fits(method: &str, reply: &Value) {
    let interface = agents();
    let gives = &interface.methods[method].gives;
    assert_eq!(interface.wrong(gives, reply.as_object().unwrap()), None, "{method}: {reply}");
}

#[test]
fn every_method_gives_what_the_interface_file_says() {
    if !root("every method") {
        return;
    }
    with_agent(|stage, _| {
        let info = call("org.varlink.service.GetInfo", json!({}))["parameters"].clone();
        assert_eq!(info["interfaces"], json!(["org.varlink.service", "io.ssh-rescue.Agent"]));
        let description = |name: &str| {
            let asked = json!({"interface": name});
            call("org.varlink.service.GetInterfaceDescription", asked)["parameters"]["description"].clone()
        };
        assert_eq!(description("io.ssh-rescue.Agent"), INTERFACE);
        let service = Interface::parse(description("org.varlink.service").as_str().unwrap()).unwrap();
        assert_eq!(service.wrong(&service.methods["GetInfo"].gives, info.as_object().unwrap()), None);
        lock_out(stage);
        until("a repair", || status().unwrap()["repairs"] == 1);
        let id = status().unwrap()["last_repair"]["id"].clone();
        let mut called = Vec::new();
        for (method, parameters) in [
            ("Check", json!({})),
            ("Repair", json!({"dry_run": true, "trigger": "a test"})),
            ("Repair", json!({})),
            ("Status", json!({})),
            ("Monitor", json!({})),
            ("History", json!({})),
            ("Hold", json!({"seconds": 60})),
            ("Undo", json!({"id": id})),
            ("Undo", json!({"id": id})),
            ("Release", json!({})),
            ("Release", json!({})),
        ] {
            let reply = ours(method, parameters);
            fits(method, &reply);
            called.push(method);
        }
        assert!(agents().methods.keys().all(|method| called.contains(&method.as_str())), "{called:?}");
    });
}

#[test]
fn what_makes_no_sense_is_answered_by_varlinks_own_errors() {
    if !root("wrong calls") {
        return;
    }
    with_agent(|_, _| {
        let service = |name: &str| format!("org.varlink.service.{name}");
        for (frame, error, parameters) in [
            (
                json!({"method": "nobody.knows.This"}),
                service("InterfaceNotFound"),
                json!({"interface": "nobody.knows"}),
            ),
            (json!({"method": "Status"}), service("InterfaceNotFound"), json!({"interface": ""})),
            (json!({"method": "io.ssh-rescue.Agent.Reboot"}), service("MethodNotFound"), json!({"method": "Reboot"})),
            (json!({"method": "io.ssh-rescue.Agent.Undo"}), service("InvalidParameter"), json!({"parameter": "id"})),
            (
                json!({"method": "io.ssh-rescue.Agent.Hold", "parameters": {"seconds": "1"}}),
                service("InvalidParameter"),
                json!({"parameter": "seconds"}),
            ),
            (
                json!({"method": "io.ssh-rescue.Agent.Hold", "parameters": {"seconds": 99999999}}),
                service("InvalidParameter"),
                json!({"parameter": "seconds"}),
            ),
            (
                json!({"method": "io.ssh-rescue.Agent.Status", "parameters": {"x": 1}}),
                service("InvalidParameter"),
                json!({"parameter": "x"}),
            ),
            (json!({"method": 7}), service("InvalidParameter"), json!({"parameter": "method"})),
            (
                json!({"method": "io.ssh-rescue.Agent.Undo", "parameters": {"id": "../../etc/passwd"}}),
                "io.ssh-rescue.Agent.NoSuchRepair".to_owned(),
                json!({"id": "../../etc/passwd"}),
            ),
        ] {
            let mut bytes = frame.to_string().into_bytes();
            bytes.push(0);
            let got = ask(&bytes).unwrap_or_else(|| panic!("{frame} is not answered"));
            assert_eq!((got["error"].as_str(), &got["parameters"]), (Some(error.as_str()), &parameters), "{frame}");
        }
        for junk in [&b"\0"[..], b"hello\0", b"[]\0", b"\xff\xfe\0", &[b'x'; 70_000]] {
            assert_eq!(ask(junk), None, "{:?}", &junk[..junk.len().min(8)]);
        }
        // Several calls at once are answered in their order; a one-way call is not.
        let mut stream = UnixStream::connect(SOCKET).unwrap();
        stream
            .write_all(
                b"{\"method\":\"io.ssh-rescue.Agent.Status\",\"oneway\":true}\0{\"method\":\"a.b.C\"}\0{\"method\":\"io.ssh-rescue.Agent.Status\"}\0",
            )
            .unwrap();
        assert_eq!(answer(&mut stream).unwrap()["error"], "org.varlink.service.InterfaceNotFound");
        assert!(answer(&mut stream).unwrap()["parameters"]["status"].is_object());
    });
}

/// Reads until the other side closes.
fn closed(mut stream: UnixStream) -> bool {
    stream.set_read_timeout(Some(GIVEN_UP)).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn who_dawdles_is_given_up_and_nobody_else_notices() {
    if !root("dawdlers") {
        return;
    }
    with_agent(|_, _| {
        let begin = Instant::now();
        let mut half = UnixStream::connect(SOCKET).unwrap();
        half.write_all(b"{\"method\":\"io.ssh").unwrap();
        let mut deaf = UnixStream::connect(SOCKET).unwrap();
        deaf.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let asked = [&br#"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.ssh-rescue.Agent"}}"#[..], b"\0"].concat();
        while deaf.write_all(&asked.repeat(100)).is_ok() {}
        assert!(status().is_some());
        assert!(closed(half), "half a frame is waited for");
        // Whoever reads at last is not given up.
        sleep(GIVEN_UP.saturating_sub(begin.elapsed()));
        assert!(closed(deaf), "who never reads is waited for");
    });
}

#[test]
fn monitor_tells_each_change() {
    if !root("monitor") {
        return;
    }
    with_agent(|stage, _| {
        let mut stream = UnixStream::connect(SOCKET).unwrap();
        stream.set_read_timeout(Some(GIVEN_UP)).unwrap();
        stream.write_all(b"{\"method\":\"io.ssh-rescue.Agent.Monitor\",\"more\":true}\0").unwrap();
        let first = answer(&mut stream).unwrap();
        assert_eq!(
            (&first["continues"], &first["parameters"]["status"]["verdict"]),
            (&json!(true), &json!("reachable"))
        );
        lock_out(stage);
        let told = std::iter::from_fn(|| answer(&mut stream)).find(|a| a["parameters"]["status"]["repairs"] == 1);
        assert!(told.is_some());
    });
}

#[test]
fn a_repair_tells_its_stages_and_several_at_once_become_one() {
    if !root("stages") {
        return;
    }
    with_agent(|stage, _| {
        // The agent itself has given up: what is repaired is repaired for those who ask.
        std::fs::create_dir_all("/etc/ssh-rescue").unwrap();
        std::fs::write("/etc/ssh-rescue/policy.toml", "[restraint]\nattempts = 1\n").unwrap();
        until("the policy", || status().unwrap()["policy"]["source"] == "/etc/ssh-rescue/policy.toml");
        lock_out(stage);
        until("the repair", || status().unwrap()["repairs"] == 1);
        stage.tool("nft", &["flush chain inet fw in; add rule inet fw in tcp dport 22 drop"], "").unwrap();
        until("the breaker", || status().unwrap()["stopped"].is_string());
        let mut askers: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect(SOCKET).unwrap()).collect();
        for asker in &mut askers {
            asker.write_all(b"{\"method\":\"io.ssh-rescue.Agent.Repair\",\"more\":true}\0").unwrap();
        }
        let mut stages = Vec::new();
        let mut ids = Vec::new();
        for asker in &mut askers {
            asker.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            loop {
                let told = answer(asker).unwrap();
                fits("Repair", &told["parameters"]);
                match told["parameters"]["stage"].as_str() {
                    Some(stage) => stages.push(stage.to_owned()),
                    None => break ids.push(told["parameters"]["report"]["id"].clone()),
                }
            }
        }
        assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        for stage in ["plan", "rehearse", "apply", "verify"] {
            assert!(stages.iter().any(|told| told == stage), "{stage} of {stages:?}");
        }
        assert_eq!(ours("History", json!({}))["repairs"].as_array().unwrap().len(), 2);
    });
}

#[test]
fn only_root_and_the_policys_group_change_anything() {
    if !root("who may") {
        return;
    }
    with_agent(|stage, _| {
        let group = std::fs::read_to_string("/etc/group").unwrap();
        let adm = group.lines().find_map(|l| l.strip_prefix("adm:x:")?.split(':').next()).unwrap().to_owned();
        std::fs::create_dir_all("/etc/ssh-rescue").unwrap();
        std::fs::write("/etc/ssh-rescue/policy.toml", "[control]\ngroup = \"adm\"\n").unwrap();
        until("the policy", || status().unwrap()["policy"]["source"] == "/etc/ssh-rescue/policy.toml");
        // A place that everybody may enter.
        std::fs::write("/run/program", "").unwrap();
        stage.tool("mount", &["--bind", PROGRAM, "/run/program"], "").unwrap();
        let as_nobody = |groups: &str, args: &[&str]| {
            let all = [&["--reuid=65534", "--regid=65534", groups, "/run/program"], args].concat();
            stage.host.run(&Call::new("setpriv", &all)).unwrap()
        };
        assert_eq!(as_nobody("--clear-groups", &["status"]).status, 0);
        assert_eq!(as_nobody("--clear-groups", &["check"]).status, 0);
        for verb in [&["hold", "1h"][..], &["release"], &["repair"], &["repair", "--dry-run"]] {
            let refused = as_nobody("--clear-groups", verb);
            assert_eq!(refused.status, 3, "{verb:?}");
            assert!(refused.complaint().contains("only root, and the group"), "{verb:?}: {}", refused.complaint());
            let member = as_nobody(&format!("--groups={adm}"), verb);
            assert_eq!(member.status, 0, "{verb:?}: {}", member.complaint());
        }
    });
}

#[test]
fn a_thousand_connections_are_answered_and_a_repair_starts_all_the_while() {
    if !root("a thousand connections") {
        return;
    }
    with_agent(|_, agent| {
        let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft.max(hard.min(4096)), hard)
            .unwrap();
        let begin = Instant::now();
        let mut all: Vec<UnixStream> = (0..1000).map(|_| UnixStream::connect(SOCKET).unwrap()).collect();
        println!("1000 connections in {:?}", begin.elapsed());
        for (number, stream) in all.iter_mut().enumerate() {
            // Some say nothing, some half a frame, some ask.
            match number % 4 {
                0 => {}
                1 => stream.write_all(b"{\"method\":").unwrap(),
                _ => stream.write_all(b"{\"method\":\"io.ssh-rescue.Agent.Status\"}\0").unwrap(),
            }
        }
        let mut repair = UnixStream::connect(SOCKET).unwrap();
        let begin = Instant::now();
        repair.write_all(b"{\"method\":\"io.ssh-rescue.Agent.Repair\",\"more\":true}\0").unwrap();
        assert!(answer(&mut repair).unwrap()["parameters"]["stage"].is_string());
        println!("a repair starts after {:?}", begin.elapsed());
        let mut times = Vec::new();
        for stream in all.iter_mut().skip(2).step_by(4) {
            let begin = Instant::now();
            assert!(answer(stream).unwrap()["parameters"]["status"].is_object());
            times.push(begin.elapsed());
        }
        times.sort_unstable();
        println!("status: median {:?}, 99 % {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
        let resident = agent.resident_kib();
        println!("{resident} KiB resident");
        assert!(resident < 32 << 10, "{resident} KiB resident");
        drop(all);
        sleep(Duration::from_millis(100));
        assert!(status().is_some());
    });
}
