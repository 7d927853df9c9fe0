//! Where orders go: to a running server, or to the data of a stopped one.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use vorpal_config::Config;

use crate::control::{self, TooLong, Unreached};
use crate::orders::{self, Answer, Order};
use crate::program::INSTALLED;
use crate::run::Server;
use crate::{Program, files};

/// The server that a command addresses, according to its configuration.
pub(super) struct Target {
    pub config: Config,
    /// the configuration file, if there is one
    file: Option<PathBuf>,
    program: Program,
}

/// Who carried out an order.
pub(super) enum By {
    /// The server at this socket.
    Server(PathBuf),
    /// This command itself, on the data in this directory.
    Command(PathBuf),
    /// This command itself, which made the data in this directory.
    Creator(PathBuf),
}

impl Target {
    /// Reads the configuration, from the file if there is one.
    ///
    /// # Errors
    /// All errors in it.
    pub fn read(program: Program, file: Option<PathBuf>) -> Result<Target> {
        let config = program.read(file.as_deref()).map_err(|errors| anyhow!("{errors}"))?;
        Ok(Target { config, file, program })
    }

    pub fn socket(&self) -> PathBuf {
        self.config.admin.to_path_buf()
    }

    fn data(&self) -> PathBuf {
        self.config.data.to_path_buf()
    }

    /// Sends an order to the running server, through its socket. If none is running, carries it out on the data, under the store's
    /// lock. Only orders that create accounts create a data directory, and only where it is named: `./data` would be in whatever
    /// directory the command runs in.
    pub async fn give(self, order: Order) -> Result<(Answer, By)> {
        let (socket, data) = (self.socket(), self.data());
        match control::order(&socket, &order).await {
            Ok(answer) => return Ok((answer, By::Server(socket))),
            Err(error) => match error.downcast_ref::<Unreached>() {
                Some(Unreached(cause)) if cause.kind() == ErrorKind::PermissionDenied => {
                    return Err(self.unanswered(error));
                }
                Some(_) => {}
                None if error.is::<TooLong>() => return Err(error),
                None => return Err(error).with_context(|| self.cut_short()),
            },
        }
        let creates = matches!(order, Order::UserAdd { .. } | Order::UserImport { .. }) && self.is_named();
        // If this cannot be determined, opening the data fails with the reason.
        let new = matches!(files::has_database(&data), Ok(false));
        if new && !creates {
            bail!("{}", self.no_data());
        }
        let server = Server::open(self.config, self.program.modules)?;
        let answer = orders::execute(&server.runtime, order).await;
        server.close().await;
        Ok((answer, if new { By::Creator(data) } else { By::Command(data) }))
    }

    /// Sends an order to the running server only.
    pub async fn give_running(&self, order: Order) -> Result<(Answer, By)> {
        let socket = self.socket();
        match control::order(&socket, &order).await {
            Ok(answer) => Ok((answer, By::Server(socket))),
            Err(error) => Err(self.unanswered(error)),
        }
    }

    /// Why the server did not answer, and what to do.
    pub fn unanswered(&self, error: Error) -> Error {
        let Some(Unreached(cause)) = error.downcast_ref::<Unreached>() else { return error.context(self.cut_short()) };
        let socket = self.socket();
        let socket = socket.display();
        if cause.kind() == ErrorKind::PermissionDenied {
            let refused = files::told(cause, &self.socket());
            // If access is denied, the socket may or may not exist.
            let there = match std::fs::symlink_metadata(self.socket()) {
                Ok(_) => format!("a server is there, at {socket}, but {} may not talk to it", files::me()),
                Err(_) => format!("a server may be there, at {socket}, but {} may not look for it", files::me()),
            };
            return match owner(&self.socket()).or_else(|| owner(&self.data())) {
                Some(owner) => anyhow!(
                    "{there}: {refused}. Run the command as {owner}, `sudo -u {owner} vorpal …` or `runuser -u {owner} -- \
                     vorpal …`"
                ),
                None => anyhow!("{there}: {refused}. Run the command as the server's user"),
            };
        }
        match &self.file {
            None => anyhow!(
                "no server answers at {socket} ({cause}), and no configuration was given (-c): give that of the server, \
                 `vorpal -c FILE …`, or start one, `vorpal serve`"
            ),
            Some(file) => anyhow!(
                "no server answers at {socket} ({cause}), the socket in the configuration {}: start it, or give the \
                 configuration that it was started with (-c)",
                file.display()
            ),
        }
    }

    fn cut_short(&self) -> String {
        format!(
            "the server at {} closed the connection before it answered: the command may have taken effect",
            self.socket().display()
        )
    }

    /// Whether somebody said where the data are: a configuration file, or the variable of their key.
    fn is_named(&self) -> bool {
        self.file.is_some() || std::env::var_os("VORPAL_DATA").is_some()
    }

    fn no_data(&self) -> String {
        let data = self.data();
        let data = data.display();
        match &self.file {
            None if self.is_named() => format!(
                "no configuration was given (-c), and no data at {data}, the directory in VORPAL_DATA; name the configuration \
                 of the server, `vorpal -c FILE …`, or create the first account, `vorpal user add NAME@localhost`"
            ),
            None => format!(
                "no configuration was given (-c), and no data at {data}; VORPAL_CONFIG names no file and {} does not exist. \
                 Give the configuration of the server, `vorpal -c FILE …`, or start a server with its data here, `vorpal serve`",
                INSTALLED
            ),
            Some(file) => format!(
                "no data at {data}, the directory in the configuration {}; give the configuration of the server (-c), or \
                 create the first account, `vorpal user add NAME@HOST`",
                file.display()
            ),
        }
    }
}

/// The owner of the nearest existing parent of this path that this user can see.
fn owner(path: &Path) -> Option<String> {
    let nearest = path.ancestors().find_map(|path| std::fs::metadata(path).ok())?;
    Some(files::name(nearest.uid()))
}
