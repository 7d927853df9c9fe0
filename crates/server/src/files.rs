//! The data directory: whether it may be used, who owns the files in it, and who may read them: only the server's user.
//!
//! A directory with files of other programs is refused, and nothing in it is changed. The process runs with a umask of 077, so new
//! files have their final mode from the beginning. Files with a wider mode, for example from a restored backup, are corrected at
//! the start.

use std::fs::{DirBuilder, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use vorpal_store::lock::LOCK_FILE;
use vorpal_store::sqlite::DATABASE_FILE;

/// The directory of the certificates that the server makes.
const TLS: &str = "tls";

/// The suffixes that SQLite appends to the name of the database.
const COMPANIONS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// A directory that every new file system contains: a separate, new disk for the data counts as empty.
const OF_FILE_SYSTEM: &str = "lost+found";

/// The user that the handbook and `contrib/` create for the service.
const SERVICE: &str = "vorpal";

/// The mode bits for group and others.
const OTHERS: u32 = 0o077;

/// Makes files and directories created from now on accessible to this user only.
pub(crate) fn keep_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(OTHERS));
}

/// Restricts a file to its owner: only the owner of the data may send orders.
pub(crate) fn protect(path: &Path) -> Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(())
}

/// Whether there is a database in the data directory.
///
/// # Errors
/// It cannot be determined: for example, this user may not search the directory.
pub(crate) fn has_database(data: &Path) -> io::Result<bool> {
    data.join(DATABASE_FILE).try_exists()
}

/// Creates the data directory, or checks that it may be used: it is empty or was used by the server before. Checks that the
/// directory and the server's files in it belong to this user, and removes the permissions of all others. Changes nothing before
/// all checks have passed, and never a file that is not the server's.
///
/// # Errors
/// It is not a directory, or contains files of other programs. Another user owns the directory or a file in it: that user could
/// not open files that this process creates there. Or it does not exist, this is root, and the machine has a user for the service.
pub(crate) fn claim(data: &Path) -> Result<()> {
    claim_as(data, rustix::process::geteuid().as_raw(), &users())
}

/// `users` is the machine's list of users.
fn claim_as(data: &Path, user: u32, users: &str) -> Result<()> {
    // The directory may be a symbolic link: the operator chose it.
    let Some(directory) = found(data, std::fs::metadata(data))? else {
        let shown = data.display();
        if user == 0 && numbered(users, SERVICE).is_some_and(|number| number != 0) {
            bail!(
                "the data directory {shown} does not exist, and root would own it: a server that runs as {SERVICE} could not \
                 open it. Make it with `install -d -o {SERVICE} -m 700 {shown}`, and run the command as {SERVICE}, `sudo -u \
                 {SERVICE} vorpal …` or `runuser -u {SERVICE} -- vorpal …`; for a server that runs as root make it with \
                 `install -d -m 700 {shown}`"
            );
        }
        let mut new = DirBuilder::new();
        new.recursive(true).mode(0o700);
        return new.create(data).map_err(|error| {
            let advice = match error.kind() {
                ErrorKind::PermissionDenied => {
                    format!(". Make it as root: `install -d -o {} -m 700 {shown}`", name(user))
                }
                _ => String::new(),
            };
            anyhow!("the data directory {shown} cannot be created: {}{advice}", told(&error, data))
        });
    };
    let owner = directory.uid();
    let seen = match fit(data, &directory) {
        Ok(()) => true,
        // The owner is the reason, and is reported below.
        Err(error) if is_denied(&error) && owner != user => false,
        Err(error) => {
            return Err(match error.downcast_ref::<io::Error>() {
                Some(cause) if is_denied(&error) => anyhow!("{error}: {}", told(cause, data)),
                _ => error,
            });
        }
    };
    if owner != user {
        let (owner, name, data) = (name(owner), name(user), data.display());
        // Root does not need to own it; any other user may be the one the data are meant for, if they are the server's.
        let give = match user {
            0 => String::new(),
            _ if !seen => String::new(),
            _ => format!(", or give the directory to {name} as root, `chown -R {name} {data}`"),
        };
        bail!(
            "the data directory {data} belongs to {owner}, and this command runs as {name}: {owner} could not open files that \
             {name} creates in it. Run the command as {owner}, `sudo -u {owner} vorpal …` or `runuser -u {owner} -- vorpal …`{give}"
        );
    }
    let mut wide = vec![(data.to_path_buf(), directory)];
    for path in files(data)? {
        let Some(file) = found(&path, std::fs::symlink_metadata(&path))? else { continue };
        // The target of a symbolic link is not the server's to change.
        if file.is_symlink() {
            continue;
        }
        if file.uid() != user {
            let (stranger, user, path) = (name(file.uid()), name(user), path.display());
            bail!("{path} belongs to {stranger}, and its directory to {user}: `chown {user} {path}` as root");
        }
        wide.push((path, file));
    }
    wide.iter().try_for_each(|(path, file)| narrow(path, file))
}

/// Checks that the data directory can be used, whoever owns it, and changes nothing. Parts that this user may not read are not
/// checked.
///
/// # Errors
/// It is not a directory, or contains files of other programs.
pub(crate) fn check(data: &Path) -> Result<()> {
    let Some(directory) = found(data, std::fs::metadata(data))? else { return Ok(()) };
    fit(data, &directory).or_else(|error| if is_denied(&error) { Ok(()) } else { Err(error) })
}

fn fit(data: &Path, found: &Metadata) -> Result<()> {
    if !found.is_dir() {
        bail!("{} is not a directory: set `data` to a separate directory", data.display());
    }
    if !has_place(data).with_context(|| format!("reading the data directory {}", data.display()))? {
        bail!(
            "the directory {} holds files that are not Vorpal's: set `data` to a separate directory, empty or not yet existing",
            data.display()
        );
    }
    Ok(())
}

fn is_denied(error: &Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// A warning about a data directory that other users can read. The next start corrects it.
pub(crate) fn exposed(data: &Path) -> Option<String> {
    let mode = std::fs::metadata(data).ok()?.permissions().mode() & 0o7777;
    (mode & OTHERS != 0).then(|| {
        format!(
            "the data directory {} is open to other users (mode {mode:04o}): `chmod 700` it; the next start removes \
             their permissions",
            data.display()
        )
    })
}

/// What the operator should know of a data directory that is not there and that this user cannot make.
pub(crate) fn unmakeable(data: &Path) -> Option<String> {
    use rustix::fs::{Access, access};
    let absent = |path: &Path| matches!(std::fs::metadata(path), Err(error) if error.kind() == ErrorKind::NotFound);
    if !absent(data) {
        return None;
    }
    // The nearest directory that is there.
    let parent = data.ancestors().skip(1).find(|path| !absent(path)).filter(|path| !path.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let error = access(parent, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(format!(
        "the data directory {} does not exist and cannot be made by this user: {}; make it as root, `install -d -o {} -m 700 \
         {}`, or run the check as the user that the server runs as",
        data.display(),
        told(&error.into(), parent),
        me(),
        data.display()
    ))
}

/// An error about a file, with the file's owner, its mode, and the user of this process if access was denied.
pub(crate) fn told(error: &io::Error, path: &Path) -> String {
    if error.kind() != ErrorKind::PermissionDenied {
        return error.to_string();
    }
    // Below a directory without search permission nothing is visible: then that directory is the cause.
    let seen = path.ancestors().find_map(|path| Some((path, std::fs::metadata(path).ok()?)));
    let Some((path, found)) = seen else { return error.to_string() };
    let (owner, me) = (name(found.uid()), me());
    let mode = found.permissions().mode() & 0o7777;
    format!("{error}: {} belongs to {owner}, with mode {mode:04o}, and this command runs as {me}", path.display())
}

/// Why this user may not use the files of a store, if so: the first file without access.
pub(crate) fn refused(data: &Path) -> Option<String> {
    let files =
        [data.join(LOCK_FILE)].into_iter().chain(COMPANIONS.map(|end| data.join(format!("{DATABASE_FILE}{end}"))));
    let refused = files.filter(|file| file.exists()).find_map(|file| {
        let error = std::fs::File::options().read(true).write(true).open(&file).err()?;
        (error.kind() == ErrorKind::PermissionDenied).then(|| told(&error, &file))
    });
    // A directory in which no file can be created.
    refused.or_else(|| {
        use rustix::fs::{Access, access};
        let error = access(data, Access::WRITE_OK | Access::EXEC_OK).err()?;
        Some(told(&error.into(), data))
    })
}

/// Whether a directory may hold the server's files: it was used by the server before, or is empty.
fn has_place(data: &Path) -> io::Result<bool> {
    if has_database(data)? || data.join(LOCK_FILE).try_exists()? {
        return Ok(true);
    }
    for entry in std::fs::read_dir(data)? {
        if entry?.file_name() != OF_FILE_SYSTEM {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The files of the server in its data directory. Certificates are public.
fn files(data: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = COMPANIONS.iter().map(|end| data.join(format!("{DATABASE_FILE}{end}"))).collect();
    files.push(data.join(LOCK_FILE));
    let tls = data.join(TLS);
    let reading = || format!("reading {}", tls.display());
    match std::fs::read_dir(&tls) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.with_context(reading)?.path();
                files.extend(path.extension().is_some_and(|end| end == "key").then_some(path));
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(reading),
    }
    files.push(tls);
    Ok(files)
}

fn found(path: &Path, metadata: io::Result<Metadata>) -> Result<Option<Metadata>> {
    match metadata {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => bail!("looking at {}: {}", path.display(), told(&error, path)),
        Ok(metadata) => Ok(Some(metadata)),
    }
}

/// Removes the permissions of other users.
fn narrow(path: &Path, found: &Metadata) -> Result<()> {
    let mode = found.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let private = mode & !OTHERS;
    std::fs::set_permissions(path, Permissions::from_mode(private))
        .with_context(|| format!("{} is accessible to other users, and its mode cannot be changed", path.display()))?;
    tracing::warn!(
        path = %path.display(),
        before = %format_args!("{mode:04o}"),
        now = %format_args!("{private:04o}"),
        "a file of the server was accessible to other users; its mode was corrected"
    );
    Ok(())
}

/// The name of a user, or its number if `/etc/passwd` does not have it.
pub(crate) fn name(user: u32) -> String {
    named(&users(), user).unwrap_or_else(|| user.to_string())
}

/// The name of the user that this process runs as.
pub(crate) fn me() -> String {
    name(rustix::process::geteuid().as_raw())
}

/// The machine's list of users, `/etc/passwd`.
fn users() -> String {
    std::fs::read_to_string("/etc/passwd").unwrap_or_default()
}

fn named(list: &str, user: u32) -> Option<String> {
    entries(list).find_map(|(name, number)| (number == user).then(|| name.to_owned()))
}

fn numbered(list: &str, user: &str) -> Option<u32> {
    entries(list).find_map(|(name, number)| (name == user).then_some(number))
}

/// The names of a list of users, and their numbers.
fn entries(list: &str) -> impl Iterator<Item = (&str, u32)> {
    list.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, number.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    #[test]
    fn what_others_could_read_is_narrowed_and_certificates_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        let tls = data.join("tls");
        std::fs::create_dir(&tls).expect("made");
        let secret: Vec<PathBuf> = ["vorpal.db", "vorpal.db-wal", "vorpal.db-shm", "vorpal.lock", "tls/a.example.key"]
            .iter()
            .map(|name| data.join(name))
            .collect();
        let public = [tls.join("a.example.crt"), data.join("notes.txt")];
        for file in secret.iter().chain(&public) {
            std::fs::write(file, "").expect("written");
            std::fs::set_permissions(file, Permissions::from_mode(0o644)).expect("its mode");
        }
        for folder in [data, &tls] {
            std::fs::set_permissions(folder, Permissions::from_mode(0o2755)).expect("its mode");
        }
        claim_as(data, me(), "").expect("they are ours");
        assert_eq!([mode(data) & 0o777, mode(&tls) & 0o777], [0o700; 2]);
        secret.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
        public.iter().for_each(|file| assert_eq!(mode(file), 0o644, "{}", file.display()));
    }

    #[test]
    fn a_link_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, target) = (folder.path().join("data"), folder.path().join("elsewhere.key"));
        std::fs::create_dir_all(data.join("tls")).expect("made");
        std::fs::write(&target, "").expect("written");
        std::fs::set_permissions(&target, Permissions::from_mode(0o640)).expect("its mode");
        std::fs::write(data.join("vorpal.lock"), "").expect("written");
        std::os::unix::fs::symlink(&target, data.join("tls/a.example.key")).expect("linked");
        claim_as(&data, me(), "").expect("they are ours");
        assert_eq!(mode(&target), 0o640);
    }

    #[test]
    fn the_directory_of_somebody_else_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        std::fs::write(data.join("vorpal.db"), "").expect("written");
        std::fs::set_permissions(data.join("vorpal.db"), Permissions::from_mode(0o644)).expect("its mode");
        let error = claim_as(data, me() + 12_345, "").expect_err("it is not theirs").to_string();
        let owner = name(me());
        let stranger = (me() + 12_345).to_string();
        for part in [
            format!("{} belongs to {owner}", data.display()),
            format!("runs as {stranger}"),
            format!("`sudo -u {owner} vorpal …`"),
            format!("`chown -R {stranger} {}`", data.display()),
        ] {
            assert!(error.contains(&part), "{part}: {error}");
        }
        assert_eq!(mode(&data.join("vorpal.db")), 0o644, "nothing was changed");
    }

    #[test]
    fn root_is_told_to_run_as_the_owner_and_not_to_take_the_directory() {
        // Of any other user than root, as the tests may be root themselves.
        let folder = tempfile::tempdir().expect("a folder");
        if me() == 0 {
            std::os::unix::fs::chown(folder.path(), Some(12_345), None).expect("root gives files to others");
        }
        let error = claim_as(folder.path(), 0, "").expect_err("it is not root's").to_string();
        assert!(error.contains("Run the command as ") && !error.contains("chown"), "{error}");
    }

    #[test]
    fn a_directory_in_use_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        std::fs::create_dir(data.join("tls")).expect("made");
        for name in ["notes.txt", "tls/site.key"] {
            std::fs::write(data.join(name), "").expect("written");
            std::fs::set_permissions(data.join(name), Permissions::from_mode(0o644)).expect("its mode");
        }
        for folder in [data, &data.join("tls")] {
            std::fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("its mode");
        }
        for user in [me(), me() + 1] {
            let error = claim_as(data, user, "").expect_err("it is in use").to_string();
            let told =
                format!("{} holds files that are not Vorpal's: set `data` to a separate directory", data.display());
            assert!(error.contains(&told), "{error}");
        }
        assert_eq!([mode(data), mode(&data.join("tls"))], [0o755; 2]);
        assert_eq!([mode(&data.join("notes.txt")), mode(&data.join("tls/site.key"))], [0o644; 2]);
        assert_eq!(std::fs::read_dir(data).expect("read").count(), 2, "nothing was made");
    }

    #[test]
    fn a_file_is_no_directory_and_keeps_its_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("data");
        std::fs::write(&file, "").expect("written");
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("its mode");
        let error = claim_as(&file, me(), "").expect_err("it is a file").to_string();
        assert!(error.contains("is not a directory: set `data` to a separate directory"), "{error}");
        assert_eq!(mode(&file), 0o644);
    }

    #[test]
    fn a_directory_that_is_absent_or_empty_or_was_used_before_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let absent = folder.path().join("a/b");
        claim_as(&absent, me(), "").expect("made");
        assert_eq!(mode(&absent), 0o700);
        let disk = folder.path().join("disk");
        std::fs::create_dir_all(disk.join("lost+found")).expect("made");
        std::fs::set_permissions(&disk, Permissions::from_mode(0o755)).expect("its mode");
        claim_as(&disk, me(), "").expect("a new file system is empty");
        assert_eq!(mode(&disk), 0o700);
        for known in ["vorpal.db", "vorpal.lock"] {
            let used = folder.path().join(format!("with {known}"));
            std::fs::create_dir(&used).expect("made");
            std::fs::write(used.join("notes.txt"), "").expect("written");
            std::fs::set_permissions(used.join("notes.txt"), Permissions::from_mode(0o644)).expect("its mode");
            std::fs::write(used.join(known), "").expect("written");
            claim_as(&used, me(), "").expect("it is the server's");
            assert_eq!((mode(&used) & 0o077, mode(&used.join("notes.txt"))), (0, 0o644));
        }
    }

    #[test]
    fn root_makes_no_directory_that_the_user_of_the_service_could_not_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let users = "root:x:0:0:root:/root:/bin/bash\nvorpal:x:998:998::/var/lib/vorpal:/usr/sbin/nologin\n";
        let error = claim_as(&data, 0, users).expect_err("it would be root's").to_string();
        for part in [
            format!("`install -d -o vorpal -m 700 {}`", data.display()),
            "`runuser -u vorpal -- vorpal …`".into(),
            format!("`install -d -m 700 {}`", data.display()),
        ] {
            assert!(error.contains(&part), "{part}: {error}");
        }
        assert!(!data.exists(), "nothing was made");
        // Who is not root makes it; so does root where nobody else is meant to run a server.
        claim_as(&data, me() + 1, users).expect("made");
        std::fs::remove_dir(&data).expect("removed");
        claim_as(&data, 0, "root:x:0:0:root:/root:/bin/bash\n").expect("made");
    }

    #[test]
    fn a_directory_that_others_can_look_into_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        for (mode, open) in [(0o700, false), (0o750, true), (0o701, true)] {
            std::fs::set_permissions(data, Permissions::from_mode(mode)).expect("its mode");
            let told = exposed(data);
            assert_eq!(
                told.as_ref().is_some_and(|told| told.contains(&format!("(mode {mode:04o})"))),
                open,
                "{told:?}"
            );
        }
        assert_eq!(exposed(&data.join("absent")), None);
    }

    #[test]
    fn users_have_names() {
        let list = "root:x:0:0:root:/root:/bin/bash\nbroken\nvorpal:x:998:998::/var/lib/vorpal:/usr/sbin/nologin\n";
        assert_eq!(named(list, 998).as_deref(), Some("vorpal"));
        assert_eq!(named(list, 0).as_deref(), Some("root"));
        assert_eq!(named(list, 99), None);
        assert_eq!((numbered(list, "vorpal"), numbered(list, "broken")), (Some(998), None));
    }
}
