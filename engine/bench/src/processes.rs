//! What `/proc` tells of processes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    path::Path,
    time::Instant,
};

/// The most processes of one target that are looked at.
const PROCESSES_MAX: usize = 4096;
/// The most threads of one process whose times are compared.
const THREADS_MAX: usize = 16_384;

/// What processes had cost by one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) at: Instant,
    /// User and system time, with that of ended children that were waited for, in seconds.
    pub(crate) cpu_s: f64,
    pub(crate) rss_bytes: u64,
    pub(crate) threads: u32,
    pub(crate) descriptors: u32,
    /// CPU ticks by process, and by process and thread.
    by_process: HashMap<u32, u64>,
    by_thread: HashMap<(u32, u32), u64>,
}

impl Snapshot {
    /// Everything that can be told of these processes.
    pub(crate) fn of(processes: &[u32]) -> Self {
        let mut snapshot = Self {
            at: Instant::now(),
            cpu_s: 0.0,
            rss_bytes: 0,
            threads: 0,
            descriptors: 0,
            by_process: HashMap::new(),
            by_thread: HashMap::new(),
        };
        for &pid in processes {
            let Some(stat) = Stat::of(&format!("/proc/{pid}/stat")) else { continue };
            snapshot.cpu_s += seconds(stat.own_ticks + stat.children_ticks);
            snapshot.rss_bytes += rss_bytes(pid);
            snapshot.threads += stat.threads;
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
            snapshot.descriptors += u32::try_from(descriptors).unwrap_or(u32::MAX);
            snapshot.by_process.insert(pid, stat.own_ticks);
            for tid in numbers(&format!("/proc/{pid}/task")).take(THREADS_MAX) {
                if let Some(thread) = Stat::of(&format!("/proc/{pid}/task/{tid}/stat")) {
                    snapshot.by_thread.insert((pid, tid), thread.own_ticks);
                }
            }
        }
        snapshot
    }

    pub(crate) fn processes(&self) -> usize {
        self.by_process.len()
    }

    /// The most cores that one thread kept busy since `before`, and one process.
    pub(crate) fn busiest_since(&self, before: &Self) -> (f64, f64) {
        let passed = self.at.saturating_duration_since(before.at).as_secs_f64().max(1e-9);
        let thread = most_since(&self.by_thread, &before.by_thread);
        let process = most_since(&self.by_process, &before.by_process);
        // Ticks are whole, so that a full core may look like a little more.
        ((seconds(thread) / passed).min(1.0), seconds(process) / passed)
    }
}

fn most_since<K: std::hash::Hash + Eq>(now: &HashMap<K, u64>, before: &HashMap<K, u64>) -> u64 {
    let since =
        |(key, ticks): (&K, &u64)| ticks.saturating_sub(before.get(key).copied().unwrap_or(0));
    now.iter().map(since).max().unwrap_or(0)
}

/// CPU time and memory of these processes, and nothing that takes long to find out.
pub(crate) fn cpu_and_memory(processes: &[u32]) -> (f64, u64) {
    let cpu = |pid: &u32| Stat::of(&format!("/proc/{pid}/stat"));
    let ticks: u64 =
        processes.iter().filter_map(cpu).map(|it| it.own_ticks + it.children_ticks).sum();
    (seconds(ticks), processes.iter().map(|&pid| rss_bytes(pid)).sum())
}

/// For how long this machine's hardware threads have been busy so far, all together, in seconds.
pub(crate) fn machine_busy_s() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // User, nice, system, idle, waiting for disks, interrupts, soft interrupts. (Time that was stolen from a
    // virtual machine is nobody's here, and guests are in user already.)
    let busy = [0, 1, 2, 5, 6].iter().map(|&place| ticks.get(place).copied().unwrap_or(0)).sum();
    Some(seconds(busy))
}

/// These processes and all their descendants.
#[must_use]
pub fn tree(roots: &[u32]) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in numbers("/proc") {
        if let Some(stat) = Stat::of(&format!("/proc/{pid}/stat")) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found: Vec<u32> = Vec::new();
    let mut seen: HashSet<u32> = HashSet::new();
    let mut next: Vec<u32> = roots.iter().copied().filter(|pid| exists(*pid)).collect();
    while let Some(pid) = next.pop() {
        if found.len() < PROCESSES_MAX && seen.insert(pid) {
            found.push(pid);
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// Whether there is such a process.
#[must_use]
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The processes that listen on this TCP port of this machine, as far as this user may see them. Of a server of
/// several processes that is all of them.
#[must_use]
pub fn listening_on(port: u16) -> Vec<u32> {
    let inodes: BTreeSet<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| listening_inodes(&text, port))
        .collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let sockets: HashSet<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let holds = |pid: &u32| {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .any(|to| to.to_str().is_some_and(|name| sockets.contains(name)))
    };
    numbers("/proc").filter(holds).collect()
}

/// The inodes of sockets that listen on `port`, in a text like `/proc/net/tcp`.
fn listening_inodes(text: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == LISTEN;
        if is_it { fields.get(9)?.parse().ok() } else { None }
    };
    text.lines().skip(1).filter_map(inode).collect()
}

/// A line of `stat`, of a process or a thread.
struct Stat {
    parent: u32,
    own_ticks: u64,
    children_ticks: u64,
    threads: u32,
}

impl Stat {
    fn of(path: &str) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        // The second field is the name in parentheses and may hold anything; what follows begins with the third.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number =
            |place: usize| fields.get(place - 3).and_then(|field| field.parse::<u64>().ok());
        Some(Self {
            parent: u32::try_from(number(4)?).ok()?,
            own_ticks: number(14)? + number(15)?,
            children_ticks: number(16)? + number(17)?,
            threads: u32::try_from(number(20)?).ok()?,
        })
    }
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64
}

fn rss_bytes(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

fn numbers(directory: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread::yield_now};

    use super::*;

    #[test]
    fn this_process_is_found_by_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // A child that another test starts has the socket, too, until it runs its own program.
        let soon = |expected: &[u32]| {
            (0..1000).any(|_| {
                yield_now();
                listening_on(port) == expected
            })
        };
        assert!(soon(&[std::process::id()]), "{:?}", listening_on(port));
        drop(listener);
        assert!(soon(&[]), "{:?}", listening_on(port));
    }

    #[test]
    fn lines_of_other_states_and_ports_are_left_out() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1\n\
             1: 0100007F:1F90 0100007F:8000 01 00000000:00000000 00:00000000 00000000  0 0 4712 1\n\
             2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4713 1\n\
             garbage\n";
        assert_eq!(listening_inodes(text, 8080), [4711]);
    }

    #[test]
    fn what_a_busy_thread_does_is_seen() {
        let pid = std::process::id();
        let before = Snapshot::of(&[pid]);
        let mut sum = 0u64;
        while before.at.elapsed().as_millis() < 200 {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        let after = Snapshot::of(&[pid]);
        let (thread, process) = after.busiest_since(&before);
        assert!(sum > 0 && thread > 0.0 && process > 0.0, "{thread} {process}");
        assert!(after.cpu_s > before.cpu_s && after.rss_bytes > 1 << 16 && after.threads >= 1);
        assert!(tree(&[pid]).contains(&pid));
        assert!(tree(&[u32::MAX]).is_empty() && Snapshot::of(&[u32::MAX]).processes() == 0);
    }
}
