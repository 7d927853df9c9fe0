//! What a process and its children have used, read from /proc.

use std::collections::HashMap;
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
    fn a_busy_process_is_seen_to_use_cpu_and_memory() {
        let me = Process::new(std::process::id()).unwrap();
        let before = me.cpu().unwrap();
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(5) && me.cpu().unwrap() < before + 3 * TICK {}
        assert!(me.cpu().unwrap() > before);
        assert!(me.rss().unwrap() > 500);
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        assert!(Process::new(u32::MAX).is_err());
    }
}
