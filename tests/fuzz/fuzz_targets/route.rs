//! Messages of rtnetlink(7) without their header: links, addresses, routes, rules, traffic control. The first byte says which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::decode::route;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, message)) = bytes.split_first() else { return };
    match kind % 5 {
        0 => drop(route::link(message)),
        1 => drop(route::address(message)),
        2 => drop(route::route(message)),
        3 => drop(route::rule(message)),
        _ => drop(route::traffic_control(message)),
    }
});
