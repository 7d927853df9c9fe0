//! What a process and its children have used, read from /proc.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Microseconds in one tick: Linux shows times to programs in hundredths of a second whatever the kernel's own clock.
const TICK: u64 = 10_000;
/// How long the server's CPU time must stand still to count as quiet.
const QUIET: Duration = Duration::from_millis(300);
/// How often to look.
const LOOK: Duration = Duration::from_millis(50);
/// A server with this much to do by itself is never quiet: go on without.
const PATIENCE: Duration = Duration::from_secs(15);

/// The server under test.
#[derive(Debug, Clone, Copy)]
pub struct Process(u32);

impl Process {
    /// Fails if there is no such process.
    pub fn new(pid: u32) -> Result<Process> {
        Stat::read(pid).with_context(|| format!("no process {pid}: give the server's with --pid"))?;
        Ok(Process(pid))
    }

    /// User and system time so far, in microseconds, of the process, its living descendants and the dead ones it waited for.
    /// Steps of 10 ms.
    pub fn cpu(self) -> Result<u64> {
        Ok(self.family()?.values().map(|stat| stat.ticks * TICK).sum())
    }

    /// The process id.
    pub fn id(self) -> u32 {
        self.0
    }

    /// Nanoseconds on a core so far, of each thread of the process that lives.
    fn threads(self) -> Result<HashMap<OsString, u64>> {
        let mut all = HashMap::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let thread = thread?;
            // It may end meanwhile.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let time = text.split_ascii_whitespace().next().and_then(|field| field.parse().ok());
            all.insert(thread.file_name(), time.context("schedstat has another form")?);
        }
        Ok(all)
    }

    /// Open descriptors of the process and its descendants.
    pub fn files(self) -> Result<usize> {
        self.family()?.keys().map(|pid| Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())).sum()
    }

    /// Resident memory in KB, of the process and its descendants. Shared pages are counted in each.
    pub fn rss(self) -> Result<u64> {
        self.family()?.keys().map(|pid| resident(*pid)).sum()
    }

    /// Waits until the server has nothing to do, then says what it has used.
    pub async fn quiet(self) -> Result<u64> {
        let (mut last, mut still, mut waited) = (self.cpu()?, Duration::ZERO, Duration::ZERO);
        while still < QUIET && waited < PATIENCE {
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
            let now = self.cpu()?;
            // One tick may be a timer's.
            still = if now <= last + TICK { still + LOOK } else { Duration::ZERO };
            last = if still.is_zero() { now } else { last };
        }
        self.cpu()
    }

    fn family(self) -> Result<HashMap<u32, Stat>> {
        let mut all = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Ok(stat) = Stat::read(pid) {
                all.insert(pid, stat);
            }
        }
        let mut family = HashMap::new();
        let mut open = vec![self.0];
        while let Some(pid) = open.pop() {
            let stat = all.remove(&pid).with_context(|| format!("the server's process {pid} is gone"))?;
            open.extend(all.iter().filter(|(_, child)| child.parent == pid).map(|(child, _)| *child));
            family.insert(pid, stat);
        }
        Ok(family)
    }
}

/// CPU time to the nanosecond, where steps of 10 ms are too coarse; children are left out.
#[derive(Debug)]
pub struct Meter {
    process: Process,
    /// What was seen of each thread, those that have ended included, so that the sum never falls.
    seen: HashMap<OsString, u64>,
}

impl Meter {
    /// A meter that has seen nothing.
    pub fn new(process: Process) -> Meter {
        Meter { process, seen: HashMap::new() }
    }

    /// Time on a core so far.
    pub fn read(&mut self) -> Result<Duration> {
        self.seen.extend(self.process.threads()?);
        Ok(Duration::from_nanos(self.seen.values().sum()))
    }
}

/// The cores that a process may run on, and what everybody uses of them.
#[derive(Debug)]
pub struct Cores(Vec<u32>);

impl Cores {
    /// By the process's affinity.
    pub fn of(process: Process) -> Result<Cores> {
        let text = fs::read_to_string(format!("/proc/{}/status", process.0))?;
        let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.and_then(cores).map(Cores).context("no Cpus_allowed_list")
    }

    /// How many.
    pub fn count(&self) -> f64 {
        self.0.len() as f64
    }

    /// Time so far that the cores were not idle, in steps of 10 ms; what the hypervisor took is in it.
    pub fn busy(&self) -> Result<Duration> {
        Ok(Duration::from_micros(busy(&fs::read_to_string("/proc/stat")?, &self.0) * TICK))
    }
}

/// A list such as `0-3,8`.
fn cores(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        all.extend(first..=last);
    }
    Some(all)
}

/// Ticks of user, nice, system, irq, softirq and steal time in the lines of these cores.
fn busy(stat: &str, cores: &[u32]) -> u64 {
    let lines = stat.lines().filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        let core: u32 = name.strip_prefix("cpu")?.parse().ok()?;
        cores.contains(&core).then_some(rest)
    });
    let ticks = |rest: &str| -> u64 {
        let fields = rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0));
        fields.enumerate().filter(|(at, _)| matches!(at, 0..=2 | 5..=7)).map(|(_, ticks): (usize, u64)| ticks).sum()
    };
    lines.map(ticks).sum()
}

/// The fields we need of /proc/PID/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Result<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Stat::parse(&text).context("/proc/PID/stat has another form")
    }

    /// Fields are counted after the command's name, which may hold spaces and parentheses.
    fn parse(text: &str) -> Option<Stat> {
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let times: Vec<u64> = fields.skip(9).take(4).map_while(|field| field.parse().ok()).collect();
        (times.len() == 4).then(|| Stat { parent, ticks: times.iter().sum() })
    }
}

fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).context("smaps_rollup without Rss")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_parentheses() {
        let text = "7 (a) (b c) S 3 7 7 0 -1 4194560 10 20 30 40 100 20 3 4 20 0 1 0 99 1000 50\n";
        assert_eq!(Stat::parse(text), Some(Stat { parent: 3, ticks: 127 }));
        assert_eq!(Stat::parse("7 (a) S 3 7"), None);
    }

    #[test]
    fn the_time_of_a_core_is_all_but_idle_and_waiting_for_the_disk() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 4 1000 1000 8 16 32 500 500\ncpu1 100 0 0 1 1 0 0 0 0 0\nintr 3\n";
        assert_eq!(busy(stat, &[0]), 63);
        assert_eq!(busy(stat, &[0, 1]), 163);
        assert_eq!(cores(" 0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cores("none"), None);
    }

    #[test]
    fn a_busy_process_is_seen_to_use_cpu_and_memory() {
        let me = Process::new(std::process::id()).unwrap();
        let before = me.cpu().unwrap();
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(5) && me.cpu().unwrap() < before + 3 * TICK {}
        assert!(me.cpu().unwrap() > before);
        assert!(me.rss().unwrap() > 500);
        assert!(Meter::new(me).read().unwrap() >= Duration::from_millis(10));
        assert!(me.files().unwrap() >= 3);
        assert!(Cores::of(me).unwrap().busy().unwrap() > Duration::ZERO);
    }

    #[test]
    fn what_a_thread_has_used_counts_when_it_has_ended() {
        let mut meter = Meter::new(Process::new(std::process::id()).unwrap());
        let thread = std::thread::spawn(|| {
            let began = std::time::Instant::now();
            while began.elapsed() < Duration::from_millis(20) {}
            std::thread::sleep(Duration::from_millis(200));
        });
        std::thread::sleep(Duration::from_millis(100));
        let before = meter.read().unwrap();
        thread.join().unwrap();
        assert!(meter.read().unwrap() >= before);
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        assert!(Process::new(u32::MAX).is_err());
    }
}
