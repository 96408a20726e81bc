//! Who holds something of a mount: a look through /proc, which the confined agent cannot take itself.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::protocol::Holder;

/// Holders that are listed at the most.
const LIST_MAX: usize = 50;

/// Lists the processes that hold files, folders or mappings on the devices (`major:minor`), one line a thing held.
/// Processes of other users cannot be looked into; they cannot hold anything of a mount of this user either.
pub fn find(devices: &HashSet<String>, ignored: &[u32]) -> Vec<Holder> {
    let mut holders = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if ignored.contains(&pid) || holders.len() >= LIST_MAX {
            continue;
        }
        let mut paths = held_by(&entry.path(), devices);
        paths.sort();
        paths.dedup();
        let command = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default().trim().to_owned();
        holders.extend(paths.into_iter().map(|path| Holder { pid, command: command.clone(), path }));
    }
    holders.truncate(LIST_MAX);
    holders
}

fn held_by(process: &Path, devices: &HashSet<String>) -> Vec<String> {
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    let links = ["cwd", "root", "exe"].into_iter().map(|name| process.join(name)).chain(open);
    let mut held: Vec<String> = links.filter(|link| is_on(link, devices)).filter_map(target).collect();
    let maps = std::fs::read_to_string(process.join("maps")).unwrap_or_default();
    held.extend(maps.lines().filter_map(|line| mapped(line, devices)));
    held
}

/// The device of what a link of /proc leads to. statx(2) is told not to ask the file system: a mount that does not answer
/// must not stop the look.
fn is_on(link: &PathBuf, devices: &HashSet<String>) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let stat = statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE);
    stat.is_ok_and(|stat| devices.contains(&format!("{}:{}", stat.stx_dev_major, stat.stx_dev_minor)))
}

fn target(link: PathBuf) -> Option<String> {
    Some(std::fs::read_link(link).ok()?.to_string_lossy().into_owned())
}

/// `7f.. r--s 00000000 00:2d 5 /home/a/secrets/file`
fn mapped(line: &str, devices: &HashSet<String>) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    let device = fields.nth(3)?;
    let (major, minor) = device.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let name = format!("{}:{}", number(major)?, number(minor)?);
    devices.contains(&name).then(|| fields.skip(1).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn an_open_file_a_working_folder_and_a_mapping_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held");
        std::fs::write(&path, b"x").unwrap();
        let device = std::fs::metadata(&path).unwrap().dev();
        let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(folder.path())
            .stdin(std::fs::File::open(&path).unwrap())
            .spawn()
            .unwrap();
        let holders = find(&HashSet::from([device.clone()]), &[]);
        let paths = held_by(Path::new(&format!("/proc/{}", child.id())), &HashSet::from([device]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(paths.contains(&path.to_string_lossy().into_owned()), "{paths:?}");
        assert!(paths.contains(&folder.path().to_string_lossy().into_owned()), "{paths:?}");
        assert!(!holders.is_empty());
        let map = "7f00-7f01 r--s 00000000 00:2d 5                    /a b";
        assert_eq!(mapped(map, &HashSet::from(["0:45".to_owned()])), Some("/a b".to_owned()));
    }
}
