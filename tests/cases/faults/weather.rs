//! Links that lose, swap, double, delay and throttle: all arrives, later.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dragoman_harness::link::Fates;
use dragoman_harness::{Net, Weather};

use crate::case::{Case, PATIENT};
use crate::echo::{Journey, Servers};
use crate::page::{self, Row};
use crate::protocol::{ALL, Protocol};

/// What goes there and comes back, in bytes: a dozen frames each way.
const LENGTH: usize = 16 * 1024;

/// Has each app send a body through this weather, and take it back.
fn weather(fault: &'static str, weather: Weather, fate: fn(&Fates) -> &AtomicU64) {
    let (net, link) = Net::with_link();
    let case = Case::new(&net, fault, &format!("{PATIENT}connect_timeout = '2m'\n"));
    let servers = Servers::start(&net, LENGTH);
    link.set(weather);
    let rows: Vec<Row> = thread::scope(|scope| {
        let send = |protocol: &Protocol| {
            let (protocol, net, case) = (*protocol, &net, &case);
            scope.spawn(move || {
                let begun = Instant::now();
                let sight = Journey::begin(net, protocol, LENGTH).end();
                page::print_time(fault, protocol, begun.elapsed());
                case.row(protocol, sight)
            })
        };
        let ends: Vec<_> = ALL.iter().map(send).collect();
        ends.into_iter().map(|end| end.join().expect("what failed is said above")).collect()
    });
    assert!(fate(link.fates()).load(Ordering::Relaxed) > 0, "{fault}: the weather did nothing");
    link.set(Weather::default());
    drop(servers);
    case.finish(&rows);
}

#[test]
fn a_link_that_loses() {
    weather("30 % of the packets lost", Weather { lost_percent: 30, ..Weather::default() }, |fates| {
        &fates.lost
    });
}

#[test]
fn a_link_that_swaps() {
    weather("30 % of the packets swapped", Weather { swapped_percent: 30, ..Weather::default() }, |fates| {
        &fates.swapped
    });
}

#[test]
fn a_link_that_doubles() {
    weather("30 % of the packets doubled", Weather { doubled_percent: 30, ..Weather::default() }, |fates| {
        &fates.doubled
    });
}

#[test]
fn a_link_that_is_slow() {
    let slow = Weather { delay: Duration::from_millis(100), ..Weather::default() };
    weather("100 ms of delay each way", slow, |fates| &fates.delayed);
}

#[test]
fn a_link_that_is_narrow() {
    let narrow = Weather { bytes_per_second: Some(100_000), ..Weather::default() };
    weather("100 kB a second", narrow, |fates| &fates.delayed);
}
