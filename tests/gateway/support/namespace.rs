//! A network of its own for a test: the test runs once more, as another process in network and
//! process namespaces that only it has. There it may take any address and cut what it likes. All
//! that it starts there ends with it, however it ends: the kernel kills what is left in a process
//! namespace when its first process is gone.

use std::process::{Command, Stdio};

/// Set in the process inside.
const INSIDE: &str = "HOOKGATE_TEST_NAMESPACE";

/// Runs a test's body in namespaces of its own. `name` is the test's, as `--exact` takes it.
pub(crate) fn run(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        tool("ip", &["link", "set", "lo", "up"]);
        return body();
    }
    // What is inside has its directories here, so that they are removed even if it is killed.
    let directory = tempfile::Builder::new()
        .prefix("hookgate-namespace-")
        .tempdir()
        .expect("directory");
    let mut command = Command::new("setpriv");
    // Killed with the thread that waits for it, and all that it started with it.
    command.args(["--pdeathsig", "KILL", "unshare", "--kill-child", "--fork"]);
    if !rustix::process::geteuid().is_root() {
        // Root inside, where the system lets everybody make namespaces.
        command.arg("--map-root-user");
    }
    let output = command
        .args(["--net", "--pid", "--mount-proc", "--"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("setpriv starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
    assert!(
        !stderr.contains("unshare: "),
        "no namespaces for this test: run it as root, or allow user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1): {stderr}"
    );
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{name} failed inside its namespace:\n{stdout}\n{stderr}"
    );
}

/// Runs a tool of the system's, which must succeed.
#[track_caller]
pub(crate) fn tool(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}: run deploy/install-dependencies.sh");
    });
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}
