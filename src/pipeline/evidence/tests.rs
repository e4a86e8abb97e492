use super::*;

fn hosts(texts: &[&str]) -> Hosts {
    let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
    Hosts::parse(&texts).unwrap()
}

const SNS: [&str; 2] = [
    "sns.{aws-region}.amazonaws.com",
    "sns.{aws-region}.amazonaws.com.cn",
];

#[test]
fn a_listed_host_is_a_target() {
    let hosts = hosts(&SNS);
    for (url, authority, path) in [
        (
            "https://sns.us-east-1.amazonaws.com/a.pem",
            "sns.us-east-1.amazonaws.com",
            "/a.pem",
        ),
        (
            "HTTPS://SNS.us-gov-west-1.amazonaws.COM:443",
            "sns.us-gov-west-1.amazonaws.com",
            "/",
        ),
        (
            "https://sns.cn-north-1.amazonaws.com.cn?a=b/c",
            "sns.cn-north-1.amazonaws.com.cn",
            "/?a=b/c",
        ),
    ] {
        let target = hosts.target(url).unwrap();
        assert_eq!(target.authority(), authority);
        assert_eq!(target.path_and_query(), path);
        assert_eq!(target.origin(), Origin::Request);
    }
}

#[test]
fn nothing_else_is() {
    let hosts = hosts(&SNS);
    for url in [
        "",
        "https://",
        "https:///a.pem",
        "http://sns.us-east-1.amazonaws.com/a.pem",
        "//sns.us-east-1.amazonaws.com/a.pem",
        "sns.us-east-1.amazonaws.com",
        "ftp://sns.us-east-1.amazonaws.com/a.pem",
        "file:///etc/passwd",
        "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
        "https://evil.example/sns.us-east-1.amazonaws.com",
        "https://evil.example?sns.us-east-1.amazonaws.com",
        "https://evil.example#sns.us-east-1.amazonaws.com",
        "https://sns.us-east-1.amazonaws.com@evil.example/",
        "https://sns.us-east-1.amazonaws.com:443@evil.example/",
        "https://user:password@sns.us-east-1.amazonaws.com/",
        "https://sns.us-east-1.amazonaws.com\\@evil.example/",
        "https://evil.example\\.sns.us-east-1.amazonaws.com/",
        "https://sns.us-east-1.amazonaws.com/\r\nHost: evil.example",
        "https://sns.us-east-1.amazonaws.com/a b",
        "https://sns.us-east-1.amazonaws.com/\u{e4}",
        "https://sns.us-east-1.amazonaws.com/#a",
        "https://sns.us-east-1.amazonaws.com./a.pem",
        "https://sns..amazonaws.com/a.pem",
        "https://sns.amazonaws.com/a.pem",
        "https://sns.us-east-1.x.amazonaws.com/a.pem",
        "https://xsns.us-east-1.amazonaws.com/a.pem",
        // Buckets, which anybody may have had.
        "https://sns.s3.amazonaws.com/a.pem",
        "https://sns.s3-us-west-2.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com:8443/a.pem",
        "https://sns.us-east-1.amazonaws.com:0443/a.pem",
        "https://sns.us-east-1.amazonaws.com:+443/a.pem",
        "https://sns.us-east-1.amazonaws.com:/a.pem",
        "https://sns.us-east-1.amazonaws.com:443:443/a.pem",
        "https://sns.us-east-1.amazonaws.com:70000/a.pem",
        "https://%73ns.us-east-1.amazonaws.com/a.pem",
        "https://127.0.0.1/a.pem",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://017700000001/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fd00:ec2::254]/",
        "https://localhost/",
    ] {
        assert!(hosts.target(url).is_err(), "{url}");
    }
    let long = format!("https://sns.us-east-1.amazonaws.com/{}", "a".repeat(2_048));
    assert_eq!(
        hosts.target(&long),
        Err(NotAllowed::NoTarget(NoTarget::TooLong))
    );
}

#[test]
fn not_even_a_list_makes_an_address_a_host() {
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "a.1",
        "",
        "*",
        "*.com",
        "sns.{aws-region}",
        "a b.example",
        "a.example/b",
        "a.example:0",
        "user@a.example",
        "a*.example.com",
    ] {
        assert!(Hosts::parse(&[host.to_owned()]).is_err(), "{host}");
    }
}

#[test]
fn a_star_is_one_label_and_a_port_is_what_is_listed() {
    let hosts = hosts(&["*.certs.example.com", "IDP.internal:8443", "localhost:9443"]);
    let is = |url| hosts.target(url).is_ok();
    assert!(is("https://eu.certs.example.com/"));
    assert!(!is("https://a.eu.certs.example.com/"));
    assert!(!is("https://certs.example.com/"));
    assert!(is("https://idp.internal:8443/keys"));
    assert!(!is("https://idp.internal/keys"));
    assert!(is("https://localhost:9443/"));
    let names: Vec<String> = hosts.names().collect();
    assert_eq!(
        names,
        ["*.certs.example.com", "idp.internal:8443", "localhost:9443"]
    );
}

#[test]
fn a_url_of_the_configuration_may_name_any_host() {
    let target = Target::configured("https://idp.internal:8443/keys?a=b").unwrap();
    assert_eq!(target.origin(), Origin::Configuration);
    assert_eq!(target.path(), "/keys");
    assert_eq!(target.to_string(), "https://idp.internal:8443/keys");
    assert_eq!(
        Target::configured("https://10.0.0.1/"),
        Err(NoTarget::NoName)
    );
}
