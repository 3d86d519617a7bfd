//! A tracer (ptrace(2)) of a process and all that it starts. It stops them at the calls of the kernel that are asked for, by a
//! filter of seccomp(2), and does something there.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::libc;

/// No command that is traced may take so long, whatever fails: what still runs then is told of and killed, and that is a failure.
const DEADLINE: Duration = Duration::from_secs(180);

/// PTRACE_GET_SYSCALL_INFO of linux/ptrace.h.
const GET_SYSCALL_INFO: libc::c_uint = 0x420e;

/// What happens at a call.
pub enum Deed {
    Go,
    /// The first process is killed; what it has started goes on.
    Kill,
    /// All of them are killed.
    KillAll,
    /// The call is not made, and gives this error.
    Fail(i32),
}

/// A call that is about to be made, or a program that is about to run.
pub struct Seen {
    /// How many came before it.
    pub number: usize,
    /// None: a program begins.
    pub call: Option<i64>,
    /// The call's first argument.
    pub argument: u64,
    /// Whether the first process makes it, not one that it has started.
    pub first: bool,
}

/// How it went.
pub struct Traced {
    /// As wait(2) has it.
    pub status: i32,
    /// How many calls it was stopped at.
    pub calls: usize,
    /// The programs that were run, as /proc has them.
    pub programs: Vec<String>,
}

impl Traced {
    pub fn code(&self) -> Option<i32> {
        libc::WIFEXITED(self.status).then(|| libc::WEXITSTATUS(self.status))
    }
}

/// Whether calls can be made to fail here.
pub const CAN_FAIL: bool = cfg!(target_arch = "x86_64");

/// Runs the command to its end, and to that of all that it starts, and asks `at` at each of `calls` that they make (execve is
/// none of them). The calling thread must have no other child that ends meanwhile.
pub fn trace(command: &mut Command, calls: &[i64], at: impl FnMut(&Seen) -> Deed) -> Traced {
    let tracer = nix::unistd::gettid().as_raw();
    let (ended, end) = channel::<()>();
    std::thread::scope(|scope| {
        let deadline = scope.spawn(move || {
            if end.recv_timeout(DEADLINE) != Err(RecvTimeoutError::Timeout) {
                return String::new();
            }
            let late = traced_by(tracer);
            let told = late.iter().map(|process| told_of(*process)).collect();
            late.into_iter().for_each(kill);
            told
        });
        let traced = follow(command, calls, at);
        drop(ended);
        let late = deadline.join().unwrap();
        assert!(late.is_empty(), "after {DEADLINE:?} this still ran, {} calls on:\n{late}", traced.calls);
        traced
    })
}

fn follow(command: &mut Command, calls: &[i64], mut at: impl FnMut(&Seen) -> Deed) -> Traced {
    let filter = filter(calls);
    let begin = move || {
        ptrace(libc::PTRACE_TRACEME, 0, 0, 0)?;
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the kernel reads the filter, which is as long as said.
        let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: ptrace(2) and prctl(2) are async-signal-safe, and nothing is allocated between fork and exec.
    unsafe { command.pre_exec(begin) };
    let first = command.spawn().unwrap().id() as i32;
    let mut traced = Traced { status: 0, calls: 0, programs: Vec::new() };
    // Threads, and the process that each is of.
    let mut threads: HashMap<i32, i32> = HashMap::new();
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one int. Children of other threads are none of ours.
        let thread = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
        if thread < 0 {
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ECHILD));
            return traced;
        }
        if !libc::WIFSTOPPED(status) {
            threads.remove(&thread);
            if thread == first {
                traced.status = status;
            }
            if threads.is_empty() && newborn().is_empty() {
                return traced;
            }
            continue;
        }
        let new = !threads.contains_key(&thread);
        let process = *threads.entry(thread).or_insert_with(|| process_of(thread));
        let mut pass_on = 0;
        match (libc::WSTOPSIG(status), status >> 16) {
            (libc::SIGTRAP, 0) if new && thread == first => {
                let follow = libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACECLONE;
                let more = libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_EXITKILL;
                ptrace(libc::PTRACE_SETOPTIONS, thread, 0, (follow | more) as usize).unwrap();
            }
            (libc::SIGTRAP, event @ (libc::PTRACE_EVENT_EXEC | libc::PTRACE_EVENT_SECCOMP)) => {
                let (call, argument) = match event {
                    libc::PTRACE_EVENT_EXEC => {
                        let program = std::fs::read_link(format!("/proc/{thread}/exe"));
                        traced.programs.extend(program.map(|p| p.to_string_lossy().into_owned()));
                        (None, 0)
                    }
                    _ => call_of(thread),
                };
                let seen = Seen { number: traced.calls, call, argument, first: process == first };
                traced.calls += 1;
                match at(&seen) {
                    Deed::Go => {}
                    Deed::Kill => kill(first),
                    Deed::KillAll => threads.keys().copied().chain(newborn()).for_each(kill),
                    Deed::Fail(error) => fail(thread, error),
                }
            }
            (libc::SIGTRAP, event) if event != 0 => {}
            // A new thread's first stop.
            (libc::SIGSTOP, 0) if new => {}
            (signal, _) => pass_on = signal,
        }
        // One that is gone by now says so at the next wait.
        let _ = ptrace(libc::PTRACE_CONT, thread, 0, pass_on as usize);
    }
}

/// Stops at the calls, and lets all others pass.
fn filter(calls: &[i64]) -> Vec<libc::sock_filter> {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let (equal, end) = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_RET | libc::BPF_K);
    let line = |code: u32, jt: usize, k: u32| libc::sock_filter { code: code as u16, jt: jt as u8, jf: 0, k };
    // The number of the call is what `struct seccomp_data` begins with.
    let mut lines = vec![line(load, 0, 0)];
    // Each that fits jumps over those after it and the line that lets pass.
    lines.extend(calls.iter().enumerate().map(|(place, call)| line(equal, calls.len() - place, *call as u32)));
    lines.push(line(end, 0, libc::SECCOMP_RET_ALLOW));
    lines.push(line(end, 0, libc::SECCOMP_RET_TRACE));
    lines
}

fn ptrace(request: libc::c_uint, process: i32, address: usize, data: usize) -> io::Result<i64> {
    // SAFETY: where a request writes to memory, `data` points to what is large enough for it.
    let got = unsafe { libc::ptrace(request, process, address, data) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got) }
}

/// Processes that the calling thread traces, also those that it has not heard of yet: a fork whose parent was killed meanwhile.
fn newborn() -> Vec<i32> {
    traced_by(nix::unistd::gettid().as_raw())
}

fn traced_by(tracer: i32) -> Vec<i32> {
    let tracer = format!("TracerPid:\t{tracer}\n");
    let processes = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let ours = |process: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.contains(&tracer) && !status.contains("State:\tZ")
    };
    processes.filter(ours).collect()
}

/// What a process is, and what it waits for in each of its threads.
fn told_of(process: i32) -> String {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default().replace('\0', " ");
    let mut told = format!("{process}: {}\n", read(format!("/proc/{process}/cmdline")));
    for thread in std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
        let of = thread.path().display().to_string();
        let status = read(format!("{of}/status"));
        let state =
            status.lines().filter(|line| ["State:", "PPid:", "SigPnd:", "ShdPnd:"].iter().any(|k| line.starts_with(k)));
        let state = state.collect::<Vec<_>>().join(" ");
        told += &format!("  {of}: {state}\n{}{}", read(format!("{of}/syscall")), read(format!("{of}/stack")));
    }
    told
}

fn kill(thread: i32) {
    // SAFETY: no pointers; it is ours to kill.
    unsafe { libc::kill(thread, libc::SIGKILL) };
}

/// Its number and its first argument.
fn call_of(thread: i32) -> (Option<i64>, u64) {
    // `op`, `arch`, instruction and stack pointer, then the number and the arguments.
    let mut info = [0u64; 11];
    let got = ptrace(GET_SYSCALL_INFO, thread, std::mem::size_of_val(&info), info.as_mut_ptr() as usize);
    (got.is_ok().then_some(info[3] as i64), info[4])
}

fn process_of(thread: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    group.and_then(|group| group.trim().parse().ok()).unwrap_or(thread)
}

/// The call gets a number that the kernel does not know, and so its answer is what stands there already.
#[cfg(target_arch = "x86_64")]
fn fail(thread: i32, error: i32) {
    // SAFETY: all of its bits may be zero.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    if ptrace(libc::PTRACE_GETREGS, thread, 0, (&raw mut registers) as usize).is_ok() {
        registers.orig_rax = u64::MAX;
        registers.rax = (-i64::from(error)) as u64;
        let _ = ptrace(libc::PTRACE_SETREGS, thread, 0, (&raw const registers) as usize);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn fail(_: i32, _: i32) {}
