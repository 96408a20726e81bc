//! How much memory can be had before the kernel ends programs for want of it, as the kernel itself tells: proc(5), and the
//! control groups of either version (docs.kernel.org/admin-guide/cgroup-v2.html).

use std::fs;
use std::path::{Path, PathBuf};

/// What has to be readable so that it can be told: files of the kernel, and a folder of such.
pub const TOLD_IN: [&str; 3] = ["/proc/meminfo", "/proc/self/cgroup", "/sys/fs/cgroup"];

/// A control group's files: the limit, what is used, and the lines of `memory.stat` that can be taken back.
struct Names {
    limit: &'static str,
    used: &'static str,
    reclaimable: [&'static str; 2],
}

const VERSION_2: Names =
    Names { limit: "memory.max", used: "memory.current", reclaimable: ["active_file", "inactive_file"] };
const VERSION_1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: ["total_active_file", "total_inactive_file"],
};

/// KiB that this process can have; `None` where nothing tells.
pub(super) fn available_kib() -> Option<u64> {
    available_below(Path::new("/"))
}

/// The same with the kernel's files below a folder.
fn available_below(root: &Path) -> Option<u64> {
    let system = number_after(&fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemAvailable:");
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    groups.lines().filter_map(|line| group(root, line)).chain(system).min()
}

/// KiB that a line of `/proc/self/cgroup` leaves: that of the group and of all above it.
fn group(root: &Path, line: &str) -> Option<u64> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let (mounts, names): (&[&str], _) = match controllers {
        "" => (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], VERSION_2),
        list if list.split(',').any(|controller| controller == "memory") => (&["sys/fs/cgroup/memory"], VERSION_1),
        _ => return None,
    };
    let left_at = |mount: &&str| {
        let mount = root.join(mount);
        let folder = mount.join(path.trim_start_matches('/'));
        // In a container the group's own folder may be what is mounted.
        let folders = folder.ancestors().take_while(|folder| folder.starts_with(&mount)).map(PathBuf::from);
        folders.filter_map(|folder| left(&folder, &names)).min()
    };
    mounts.iter().filter_map(left_at).min()
}

fn left(folder: &Path, names: &Names) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    // "max" is no limit.
    let limit: u64 = read(names.limit)?.trim().parse().ok()?;
    let used: u64 = read(names.used)?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let reclaimable: u64 = names.reclaimable.iter().filter_map(|name| number_after(&stat, name)).sum();
    Some(limit.saturating_sub(used.saturating_sub(reclaimable)) / 1024)
}

/// The number in the line that begins with a word.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut fields| (fields.next() == Some(word)).then(|| fields.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24684084 kB\nMemFree:         7768200 kB\nMemAvailable:    4000000 kB\n";

    /// What is told where these files are there.
    fn told(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        available_below(root.path())
    }

    #[test]
    fn the_tightest_limit_counts_less_what_cannot_be_taken_back() {
        let system = ("proc/meminfo", MEMINFO);
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[system]), Some(4_000_000));
        let group = ("proc/self/cgroup", "0::/user.slice/session\n");
        let inner = ("sys/fs/cgroup/user.slice/session/memory.max", "max\n");
        assert_eq!(told(&[system, group, inner]), Some(4_000_000));
        let outer = [
            ("sys/fs/cgroup/user.slice/memory.max", "104857600\n"),
            ("sys/fs/cgroup/user.slice/memory.current", "52428800\n"),
            ("sys/fs/cgroup/user.slice/memory.stat", "anon 1\nactive_file 1048576\ninactive_file 1048576\n"),
        ];
        assert_eq!(told(&[system, group, inner, outer[0], outer[1], outer[2]]), Some(52 * 1024));
        assert_eq!(told(&[system, group, outer[0], outer[1]]), Some(50 * 1024));
        let full = ("sys/fs/cgroup/user.slice/memory.current", "209715200\n");
        assert_eq!(told(&[system, group, outer[0], full]), Some(0));
    }

    #[test]
    fn groups_of_version_1_and_containers_are_found() {
        let groups = ("proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/outer/inner\n0::/\n");
        let at = |folder: &str, name: &str| format!("sys/fs/cgroup/memory/{folder}{name}");
        for folder in ["outer/inner/", "outer/", ""] {
            let (limit, used) = (at(folder, "memory.limit_in_bytes"), at(folder, "memory.usage_in_bytes"));
            let files = [("proc/meminfo", MEMINFO), groups, (&limit, "2097152"), (&used, "1048576")];
            assert_eq!(told(&files), Some(1024), "{folder}");
        }
        let container = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "4194304"),
            ("sys/fs/cgroup/memory.current", "0"),
        ];
        assert_eq!(told(&container), Some(4096));
    }

    #[test]
    fn this_machine_tells() {
        assert!(available_kib().is_some_and(|kib| kib > 1024));
    }
}
