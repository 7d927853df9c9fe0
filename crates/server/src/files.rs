//! Who owns the files of the data directory, and who may read them: the server's user alone.
//!
//! Whatever is made has its mode from the beginning: the process runs with a umask of 077. What is there with a wider mode, a
//! backup that was put back, say, is narrowed at the start.

use std::fs::{Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use vorpal_store::lock::LOCK_FILE;
use vorpal_store::sqlite::DATABASE_FILE;

/// Where the server keeps the certificates that it makes.
const TLS: &str = "tls";

/// What SQLite appends to the name of the database.
const COMPANIONS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// The bits of a mode that let others than the owner do something.
const OTHERS: u32 = 0o077;

/// Files and directories made from now on are for this user only.
pub(crate) fn keep_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(OTHERS));
}

/// Checks that the data directory and the server's files in it belong to this user, and takes their rights from all others.
/// What does not exist yet is skipped.
///
/// # Errors
/// Somebody else owns the directory or a file: its owner could not open what this process makes in there.
pub(crate) fn claim(data: &Path) -> Result<()> {
    claim_as(data, rustix::process::geteuid().as_raw())
}

fn claim_as(data: &Path, user: u32) -> Result<()> {
    // The directory may be a link: the operator says where the data are.
    let Some(directory) = found(data, std::fs::metadata(data))? else { return Ok(()) };
    let owner = directory.uid();
    if owner != user {
        let (owner, user, data) = (name(owner), name(user), data.display());
        bail!(
            "the data directory {data} belongs to {owner}, and this command runs as {user}: {owner} could not open what {user} \
             makes in it. Run the command as its owner, `sudo -u {owner} vorpal …`, or give the directory to {user}, \
             `chown -R {user} {data}`"
        );
    }
    narrow(data, &directory)?;
    for path in files(data)? {
        let Some(file) = found(&path, std::fs::symlink_metadata(&path))? else { continue };
        // What a link leads to is looked after by somebody else.
        if file.is_symlink() {
            continue;
        }
        if file.uid() != user {
            let (stranger, user, path) = (name(file.uid()), name(user), path.display());
            bail!("{path} belongs to {stranger}, and its directory to {user}: `chown {user} {path}`");
        }
        narrow(&path, &file)?;
    }
    Ok(())
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
        metadata => metadata.map(Some).with_context(|| format!("looking at {}", path.display())),
    }
}

/// Takes the rights of others away.
fn narrow(path: &Path, found: &Metadata) -> Result<()> {
    let mode = found.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let private = mode & !OTHERS;
    std::fs::set_permissions(path, Permissions::from_mode(private))
        .with_context(|| format!("{} is open to other users, and its mode cannot be changed", path.display()))?;
    tracing::warn!(
        path = %path.display(),
        before = %format_args!("{mode:04o}"),
        now = %format_args!("{private:04o}"),
        "a file of the server was open to other users; its mode is corrected"
    );
    Ok(())
}

/// The name of a user, or its number if the machine's own list does not have it.
fn name(user: u32) -> String {
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    named(&list, user).unwrap_or_else(|| user.to_string())
}

fn named(list: &str, user: u32) -> Option<String> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(user)).then(|| name.to_owned())
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
        claim_as(data, me()).expect("they are ours");
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
        std::os::unix::fs::symlink(&target, data.join("tls/a.example.key")).expect("linked");
        claim_as(&data, me()).expect("they are ours");
        assert_eq!(mode(&target), 0o640);
    }

    #[test]
    fn the_directory_of_somebody_else_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        std::fs::write(data.join("vorpal.db"), "").expect("written");
        std::fs::set_permissions(data.join("vorpal.db"), Permissions::from_mode(0o644)).expect("its mode");
        let error = claim_as(data, me() + 12_345).expect_err("it is not theirs").to_string();
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
        claim_as(&data.join("missing"), me() + 1).expect("nothing is there");
    }

    #[test]
    fn users_have_names() {
        let list = "root:x:0:0:root:/root:/bin/bash\nbroken\nvorpal:x:998:998::/var/lib/vorpal:/usr/sbin/nologin\n";
        assert_eq!(named(list, 998).as_deref(), Some("vorpal"));
        assert_eq!(named(list, 0).as_deref(), Some("root"));
        assert_eq!(named(list, 99), None);
    }
}
