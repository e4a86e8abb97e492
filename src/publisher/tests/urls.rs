use super::super::urls::Node;
use super::url;

#[track_caller]
fn check(text: &str, address: &str) -> Node {
    let node = Node::parse(&url(text)).unwrap();
    assert_eq!(node.address(), address);
    node
}

#[test]
fn reads_host_port_and_scheme() {
    check("amqp://localhost", "localhost:5672");
    check(
        "amqp://user:p%40ss@127.0.0.1:5673/vhost\n",
        "127.0.0.1:5673",
    );
    check("amqp://u:p@[2001:db8::1]:5673/%2f", "[2001:db8::1]:5673");
    let node = check("amqps://mq.example.com", "mq.example.com:5671");
    assert!(node.is_tls());
    assert_eq!(
        check("amqp://[::1]", "[::1]:5672").uri().authority.host,
        "::1"
    );
}

#[test]
fn heartbeat_is_ten_seconds_unless_it_says_otherwise() {
    let heartbeat = |text| check(text, "h:5672").uri().query.heartbeat;
    assert_eq!(heartbeat("amqp://h"), Some(10));
    assert_eq!(heartbeat("amqp://h?heartbeat=30"), Some(30));
    assert_eq!(heartbeat("amqp://h/v?heartbeat=0"), Some(0));
}

#[test]
fn neither_errors_nor_debug_show_the_url() {
    for text in [
        "amqp:hunter2",
        "http://u:hunter2@h",
        "amqp://u:hunter2@h:99999",
        "amqp://u:hunter2@[::zz]",
        "hunter2",
        "",
        "amqp://u:hunter2@h?heartbeat=hunter2",
    ] {
        let error = Node::parse(&url(text)).unwrap_err();
        assert!(error.contains("AMQP_URL"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let node = check("amqp://u:hunter2@h", "h:5672");
    assert!(!format!("{node:?}").contains("hunter2"));
}

#[test]
fn the_length_of_a_frame_is_bounded_whatever_the_broker_offers() {
    for (query, frame_max) in [
        ("", 131_072),
        ("?frame_max=0", 131_072),
        ("?frame_max=8192", 8192),
        ("?frame_max=4294967295", 1_048_576),
    ] {
        let node = Node::parse(&url(&format!("amqp://localhost{query}"))).unwrap();
        assert_eq!(node.uri().query.frame_max, Some(frame_max), "{query}");
    }
}
