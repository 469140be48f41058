use super::*;

const LOOPBACK: &str = "00000000000000000000000000000001 01 80 10 80       lo\n";
const ETH0: &str = "fd770000000000000000000000000001 0a 40 00 80     eth0\n";

const OUT_OF_KERNEL: Ipv6State = Ipv6State { in_kernel: false, on_loopback: false, interface: None };

fn state(text: &str) -> Ipv6State {
    Ipv6State::parse(text)
}

#[test]
fn addresses_are_read_as_the_kernel_writes_them() {
    assert_eq!(state(""), Ipv6State { in_kernel: true, on_loopback: false, interface: None });
    assert_eq!(state(LOOPBACK), Ipv6State { in_kernel: true, on_loopback: true, interface: None });
    let both = format!("{ETH0}{LOOPBACK}");
    let expected = Ipv6State { in_kernel: true, on_loopback: true, interface: Some("eth0".to_owned()) };
    assert_eq!(state(&both), expected);
    assert_eq!(state("garbage\n\n1 2 3"), state(""));
}

#[test]
fn c3_auto_captures_ipv6_unless_the_kernel_has_none() {
    let captured = |state: &Ipv6State| state.captured(Ipv6::Auto).unwrap();
    assert!(captured(&state(&format!("{ETH0}{LOOPBACK}"))));
    assert!(captured(&state(LOOPBACK)), "an address may come later");
    assert!(captured(&state("")), "an address may come later");
    assert!(!captured(&OUT_OF_KERNEL));
}

#[test]
fn c3_a_redirect_that_could_not_arrive_is_an_error() {
    let error = state(ETH0).captured(Ipv6::Auto).unwrap_err().to_string();
    assert_eq!(
        error,
        "eth0 has an IPv6 address, but lo has no ::1, where captured connections would arrive; \
         set net.ipv6.conf.lo.disable_ipv6=0, or use --ipv6 off to let IPv6 pass by"
    );
    assert!(!state(ETH0).captured(Ipv6::Off).unwrap());
}

#[test]
fn c3_on_is_an_error_where_ipv6_cannot_be_captured() {
    assert_eq!(
        OUT_OF_KERNEL.captured(Ipv6::On).unwrap_err().to_string(),
        "--ipv6 on: this kernel has no IPv6; use --ipv6 auto"
    );
    assert!(state("").captured(Ipv6::On).unwrap_err().to_string().starts_with("--ipv6 on: lo has no ::1, "));
    assert!(state(LOOPBACK).captured(Ipv6::On).unwrap());
}

#[test]
fn c3_ipv4_goes_alone_only_where_nobody_has_ipv6() {
    let both = state(&format!("{ETH0}{LOOPBACK}"));
    assert!(!both.is_dispensable(Ipv6::Auto));
    assert!(state(LOOPBACK).is_dispensable(Ipv6::Auto));
    assert!(!state(LOOPBACK).is_dispensable(Ipv6::On));
}
