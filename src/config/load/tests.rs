use super::*;

#[test]
fn stars_match_within_a_name() {
    for (pattern, name, expected) in [
        ("*.toml", "a.toml", true),
        ("*.toml", ".toml", true),
        ("*.toml", "a.toml.bak", false),
        ("a*b*c", "abc", true),
        ("a*b*c", "a1b2c", true),
        ("a*b*c", "ac", false),
        ("a*a", "a", false),
        ("team-*", "team-x", true),
        ("team-*", "tea", false),
        ("plain", "plain", true),
        ("plain", "plainer", false),
        ("**", "x", true),
    ] {
        assert_eq!(is_match(pattern, name), expected, "{pattern} {name}");
    }
}
