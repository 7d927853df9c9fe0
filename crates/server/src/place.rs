//! The data directory and its file system, for messages to an operator who has to free space there.

use std::path::{Path, PathBuf};

/// "/var/lib/vorpal, on /dev/sda2 (ext4) at /var"; the directory alone if the file system is not known.
pub(crate) fn of(data: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let real = std::fs::canonicalize(data).unwrap_or_else(|_| data.to_path_buf());
    match mounted(&mounts, &real) {
        Some((source, kind, at)) => format!("{}, on {source} ({kind}) at {}", data.display(), at.display()),
        None => data.display().to_string(),
    }
}

/// The file system of a path, from proc_pid_mountinfo(5): its source, its type, and its mount point.
fn mounted(list: &str, path: &Path) -> Option<(String, String, PathBuf)> {
    let entry = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let at = PathBuf::from(unescaped(before.split(' ').nth(4)?));
        let mut fields = after.split(' ');
        let (kind, source) = (fields.next()?, fields.next()?);
        Some((unescaped(source), unescaped(kind), at))
    };
    // Of two at one mount point, the later one hides the other.
    list.lines()
        .filter_map(entry)
        .filter(|(_, _, at)| path.starts_with(at))
        .max_by_key(|(_, _, at)| at.as_os_str().len())
}

/// Decodes spaces and similar characters, written as a backslash and three octal digits.
fn unescaped(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text += before;
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_the_file_system_that_is_mounted_nearest_above_it() {
        let list = "22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n\
                    30 22 0:25 / /var/lib rw - tmpfs tmpfs rw,size=1g\n\
                    31 22 8:17 / /srv/my\\040disk rw shared:2 master:1 - xfs /dev/sdb1 rw\n\
                    32 30 8:18 / /var/lib rw - btrfs /dev/sdc1 rw\n";
        let of = |path: &str| {
            mounted(list, Path::new(path)).map(|(source, kind, at)| format!("{source} {kind} {}", at.display()))
        };
        assert_eq!(of("/etc"), Some("/dev/sda2 ext4 /".into()));
        assert_eq!(of("/var/library"), Some("/dev/sda2 ext4 /".into()));
        assert_eq!(of("/var/lib/vorpal"), Some("/dev/sdc1 btrfs /var/lib".into()));
        assert_eq!(of("/srv/my disk/x"), Some("/dev/sdb1 xfs /srv/my disk".into()));
        assert_eq!(mounted("broken\n", Path::new("/")), None);
        assert_eq!(unescaped("a\\zb\\134"), "a\\zb\\");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_says_where_its_directories_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = of(folder.path());
        assert!(told.starts_with(&format!("{}, on ", folder.path().display())), "{told}");
    }
}
