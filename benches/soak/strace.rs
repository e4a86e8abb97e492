//! A disk that is full or slow, for one process, by strace: it attaches, and changes what system
//! calls answer or how long they take.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::eventually::eventually;

/// Writes at an offset are the journal's alone: sockets and the log are written otherwise.
const FULL: &str = "pwrite64,pwritev:error=ENOSPC";
/// Microseconds that each sync takes longer.
const SLOW: &str = "fdatasync,fsync:delay_exit=30000";

/// What strace does to a process, until it is told to stop.
#[derive(Debug)]
pub(crate) struct Injection {
    strace: Child,
    pid: Pid,
}

impl Injection {
    /// From now on writes to the journal fail for lack of space.
    pub(crate) async fn full_disk(pid: Pid) -> Self {
        Self::start(pid, FULL).await
    }

    /// From now on each sync takes longer.
    pub(crate) async fn slow_disk(pid: Pid) -> Self {
        Self::start(pid, SLOW).await
    }

    async fn start(pid: Pid, what: &str) -> Self {
        let calls = what.split_once(':').expect("calls, then what is done").0;
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null"])
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={what}")])
            .args(["-p", &pid.as_raw_nonzero().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace starts: deploy/install-dependencies.sh installs it");
        let injection = Self { strace, pid };
        eventually(
            "strace to attach; it must be root, or kernel.yama.ptrace_scope be 0",
            || async { injection.is_attached() },
        )
        .await;
        injection
    }

    fn is_attached(&self) -> Result<(), String> {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        match tracer.map(str::trim) {
            None | Some("0") => Err("nobody traces it".to_owned()),
            Some(_) => Ok(()),
        }
    }

    /// Everything is as before. The process stands still meanwhile: were strace to let go of it in
    /// the middle of a call that it has made fail, the call would end with `ENOSYS`, which no disk
    /// ever says.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::STOP);
        let mut at_rest_before = false;
        eventually("the process to stand still", || {
            let at_rest = self.is_at_rest();
            let before = std::mem::replace(&mut at_rest_before, at_rest);
            async move {
                (at_rest && before)
                    .then_some(())
                    .ok_or("it moves".to_owned())
            }
        })
        .await;
        self.let_go().await;
        self.signal(Signal::CONT);
    }

    /// To the process that is traced, if it is still there.
    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process(self.pid, signal) {
            assert_eq!(error, rustix::io::Errno::SRCH, "a signal for the process");
        }
    }

    /// Whether strace has dealt with everything, and sleeps, while every thread stands still; or
    /// there is nothing left to be dealt with.
    fn is_at_rest(&self) -> bool {
        let tracer = state(&format!("/proc/{}", self.strace.id()));
        let tasks = format!("/proc/{}/task", self.pid.as_raw_nonzero());
        let Ok(threads) = std::fs::read_dir(tasks) else {
            return true;
        };
        let stands = |thread: &std::fs::DirEntry| {
            matches!(
                state(&thread.path().to_string_lossy()),
                None | Some('t' | 'T' | 'Z')
            )
        };
        tracer.is_none_or(|state| matches!(state, 'S' | 'Z'))
            && threads.flatten().all(|it| stands(&it))
    }

    async fn let_go(&mut self) {
        if let Err(error) = kill_process(Pid::from_child(&self.strace), Signal::TERM) {
            // It has ended with the process that it traced, and nobody has waited for it yet.
            assert_eq!(error, rustix::io::Errno::SRCH, "a signal for strace");
        }
        let strace = &mut self.strace;
        eventually("strace to let go", || {
            let ended = strace.try_wait().expect("wait");
            async move { ended.map(drop).ok_or_else(|| "it runs on".to_owned()) }
        })
        .await;
    }
}

/// One letter, as proc(5) has them; `None` if it is not there any more.
fn state(folder: &str) -> Option<char> {
    let stat = std::fs::read_to_string(format!("{folder}/stat")).ok()?;
    // After the name, which is in parentheses and may hold any others.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

impl Drop for Injection {
    fn drop(&mut self) {
        // Killed, it lets go as well; after `stop` there is nobody to kill.
        drop(self.strace.kill());
        drop(self.strace.wait());
    }
}
