//! What all commands share: the global options, and how they open the repository.

mod known;

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use gabion::event::Observer;
use gabion::job::config::RepositoryPlace;
use gabion::repo::{OpenOptions, Repository, RepositoryError, SnapshotChanges, Unlock};
use gabion::storage::{
    LocalStorage, Place, RemotePlace, SftpStorage, Ssh, Storage, StorageError, StorageErrorKind,
};

use crate::console::{Console, Verbosity};
use crate::errors::Failure;
use crate::key_sources::{self, KeySource};
use crate::process::private_files;
use crate::{machine, process};

/// Threads that read a source at least, unless the user says otherwise: with more of them a disk
/// answers hardly faster, and each has blocks of its own in memory.
const MIN_READERS: usize = 8;

/// Options that every command understands
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where the repository is: a folder, or [user@]host:folder on another machine
    #[arg(short, long, global = true, env = "GABION_REPOSITORY", value_name = "PLACE")]
    repository: Option<OsString>,
    /// Reach other machines by this shell command in place of ssh, such as "ssh -i KEY -p 2222"
    #[arg(long, global = true, env = "GABION_SSH_COMMAND", value_name = "COMMAND")]
    ssh_command: Option<String>,
    /// Take the passphrase from this file [env: GABION_PASSWORD_FILE; or the passphrase itself in
    /// GABION_PASSWORD]
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["password_command", "key_file"])]
    password_file: Option<PathBuf>,
    /// Take the passphrase from the output of this shell command [env: GABION_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND", conflicts_with = "key_file")]
    password_command: Option<OsString>,
    /// Open the repository with this key file [env: GABION_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The configuration of jobs [default: $XDG_CONFIG_HOME/gabion/gabion.toml, or
    /// /etc/gabion/gabion.toml]
    #[arg(long, global = true, env = "GABION_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep derived data here [default: $XDG_CACHE_HOME/gabion or ~/.cache/gabion]
    #[arg(long, global = true, env = "GABION_CACHE_DIR", value_name = "FOLDER")]
    cache_dir: Option<PathBuf>,
    /// Keep derived data in memory only
    #[arg(long, global = true, conflicts_with = "cache_dir")]
    no_cache: bool,
    /// Try key slots that cost up to 1 GiB of memory, and as many as there are
    #[arg(long, global = true)]
    allow_costly_keys: bool,
    /// Accept that the repository is another one than before at this place, that it is not encrypted
    /// any more, and that snapshots are gone: all of that counts from now on
    #[arg(long, global = true)]
    accept_changes: bool,
    /// Say nothing but problems
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    /// Show no progress bar
    #[arg(long, global = true)]
    no_progress: bool,
    /// Threads that work at once [default: one for each processor, and 8 at least where files of a
    /// source are read]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    global: Global,
    /// What the configuration says, where no option says otherwise.
    configured: Option<RepositoryPlace>,
    /// The connection to another machine: once made, it serves the whole run.
    connected: Mutex<Option<(RemotePlace, Arc<SftpStorage>)>>,
    /// What is said beside the result.
    pub(crate) console: Arc<Console>,
    /// Whether the repository has changed in a way that nothing explains.
    changed: AtomicBool,
}

/// An open repository.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The repository.
    pub(crate) repository: Arc<Repository>,
    /// What opened it.
    pub(crate) unlock: Unlock,
    /// How its snapshots differ from what this client remembers, if that is not accepted.
    pub(crate) changes: SnapshotChanges,
}

impl Session {
    /// A run with these options.
    pub(crate) fn new(global: Global) -> Self {
        let Global { quiet, json, no_progress, .. } = global;
        let verbosity = Verbosity { quiet, json, progress: !no_progress };
        let console = Arc::new(Console::new(verbosity));
        let (connected, changed) = (Mutex::default(), AtomicBool::new(false));
        Self { global, configured: None, connected, console, changed }
    }

    /// The configuration file that was named, if one was.
    pub(crate) fn configuration_file(&self) -> Option<&Path> {
        self.global.config.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// Takes `file` for the configuration from here on.
    pub(crate) fn use_configuration_file(&mut self, file: &Path) {
        self.global.config = Some(file.to_owned());
    }

    /// The repository that an option or variable names.
    pub(crate) fn named_repository(&self) -> Option<&OsStr> {
        self.global.repository.as_deref().filter(|place| !place.is_empty())
    }

    /// Uses the repository of the configuration.
    ///
    /// # Errors
    /// When another one was named: which of them counts should not have to be known by heart.
    pub(crate) fn use_configured(&mut self, place: &RepositoryPlace) -> Result<(), Failure> {
        if let Ok(named) = self.named()
            && named != place.url
        {
            let configured = &place.url;
            let message =
                format!("the configuration names the repository {configured}, not {named}");
            return Err(Failure::usage(message)
                .hint("leave --repository out and unset GABION_REPOSITORY, or change the file"));
        }
        self.configured = Some(place.clone());
        Ok(())
    }

    /// Without a repository in option or variable: that of the configuration, if there is one.
    pub(crate) fn fall_back_on_configuration(&mut self) -> Result<(), Failure> {
        if self.named_repository().is_none()
            && let Some(found) = crate::configuration::find(self)?
        {
            self.configured = Some(found.repository);
        }
        Ok(())
    }

    /// Whether a program reads the result.
    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// Whether only problems are to be said.
    pub(crate) fn quiet(&self) -> bool {
        self.global.quiet
    }

    /// Threads that work at once.
    pub(crate) fn threads(&self) -> usize {
        self.global.threads.map_or_else(machine::processors, usize::from)
    }

    /// Threads that read a source at once. Where the cache is cold they wait for the disk most of
    /// the time, so there are more of them than the processors could keep busy.
    pub(crate) fn readers(&self) -> usize {
        self.global.threads.map_or_else(|| machine::processors().max(MIN_READERS), usize::from)
    }

    /// Whom the library tells what happens.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.console) as Arc<dyn Observer>
    }

    /// Where the repository is.
    pub(crate) fn place(&self) -> Result<Place, Failure> {
        match &self.configured {
            Some(place) => Ok(place.url.clone()),
            None => self.named(),
        }
    }

    fn named(&self) -> Result<Place, Failure> {
        let named = self.named_repository().ok_or_else(|| {
            Failure::usage("no repository was named")
                .hint("use --repository PLACE, set GABION_REPOSITORY, or write a configuration")
        })?;
        parse_place(named)
    }

    /// The shell command in place of `ssh`, if one was named.
    pub(crate) fn ssh_command(&self) -> Option<&str> {
        let named = self.global.ssh_command.as_deref().filter(|command| !command.is_empty());
        named.or_else(|| self.configured.as_ref()?.ssh_command.as_deref())
    }

    /// How other machines are reached.
    pub(crate) fn ssh(&self) -> Ssh {
        Ssh {
            command: self.ssh_command().map(str::to_owned),
            batch: !self.console.is_terminal() && !std::io::stdin().is_terminal(),
            notes: self.cache_folder().map(|folder| folder.join("sftp")),
        }
    }

    /// Where the passphrase or key file comes from, if anything was said about it.
    pub(crate) fn key_source(&self) -> Result<Option<KeySource>, Failure> {
        let file = self.global.password_file.clone().map(KeySource::PassphraseFile);
        let command = self.global.password_command.clone().map(KeySource::PassphraseCommand);
        let key_file = self.global.key_file.clone().map(KeySource::KeyFile);
        let configured = self.configured.as_ref().and_then(|place| place.key.as_ref());
        match file.or(command).or(key_file).or_else(|| configured.map(KeySource::configured)) {
            Some(source) => Ok(Some(source)),
            None => KeySource::from_environment(),
        }
    }

    /// Where derived data is kept, if anywhere.
    pub(crate) fn cache_folder(&self) -> Option<PathBuf> {
        if self.global.no_cache {
            return None;
        }
        let chosen = self.global.cache_dir.as_deref().filter(|path| !path.as_os_str().is_empty());
        machine::cache_folder(chosen, &self.console)
    }

    /// What is gabion's own on this machine and must outlive every restore: the repository, cache,
    /// state, configuration, and the file that opens the repository. Some of it may not exist.
    pub(crate) fn own_paths(&self) -> Result<Vec<PathBuf>, Failure> {
        let repository = self.place()?.folder().map(Path::to_path_buf);
        let key = self.key_source()?.and_then(|source| source.file().map(Path::to_path_buf));
        let cache = [self.cache_folder(), machine::default_cache_folder()];
        let state =
            [machine::state_folder(), machine::variable("GABION_STATE_DIR").map(Into::into)];
        let configuration = self.configuration_file().map(Path::to_path_buf);
        let own = [repository, key, configuration].into_iter().chain(cache).chain(state).flatten();
        Ok(own.chain(machine::configuration_files()).collect())
    }

    /// Opens the repository; chunks cannot be read or written yet. What is written from here on
    /// can only be read by the user.
    pub(crate) fn open(&self) -> Result<Opened, Failure> {
        private_files();
        self.open_for_restore()
    }

    /// The place of the repository, without what opens it.
    pub(crate) fn open_storage(&self) -> Result<Arc<dyn Storage>, Failure> {
        let place = self.place()?;
        let opened = match &place {
            Place::Folder(path) => LocalStorage::open(path).map(|storage| Arc::new(storage) as _),
            Place::Remote(remote) => self.connect(remote).map(|storage| storage as _),
        };
        opened.map_err(|error| not_opened(&place.to_string(), error))
    }

    fn connect(&self, place: &RemotePlace) -> Result<Arc<SftpStorage>, StorageError> {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, storage)) = &*connected
            && known == place
            && storage.is_connected()
        {
            return Ok(Arc::clone(storage));
        }
        let storage = Arc::new(SftpStorage::open(place, &self.ssh())?);
        *connected = Some((place.clone(), Arc::clone(&storage)));
        Ok(storage)
    }

    /// Whether something was said that opens the repository, or nothing needs to be.
    pub(crate) fn has_key(&self) -> bool {
        let is_plaintext = || {
            let unlock = Unlock::Nothing;
            let Ok(storage) = self.open_storage() else { return false };
            Repository::open(storage, "", &unlock, None, Arc::new(())).is_ok()
        };
        matches!(self.key_source(), Ok(Some(_))) || is_plaintext()
    }

    /// Opens the repository without a say in how files are made: they are the user's.
    pub(crate) fn open_for_restore(&self) -> Result<Opened, Failure> {
        let place = self.place()?.to_string();
        let storage = self.open_storage()?;
        let source = self.key_source()?;
        let options = OpenOptions {
            cache: self.cache_folder(),
            allow_costly_keys: self.global.allow_costly_keys,
            memory: self.memory()?,
        };
        let open = |unlock: Unlock| {
            let (storage, observer) = (Arc::clone(&storage), self.observer());
            let opened = Repository::open_with(storage, &place, &unlock, &options, observer);
            opened.map(|repository| (Arc::new(repository), unlock))
        };
        let (repository, unlock) = match source {
            Some(source) => open(source.get(&self.console)?)?,
            // Only an encrypted repository needs anything, and it says so.
            None => match open(Unlock::Nothing) {
                Err(RepositoryError::WrongKey { .. }) => {
                    open(key_sources::ask(&place, &self.console)?)?
                }
                opened => opened?,
            },
        };
        let changes = self.compare(&repository)?;
        Ok(Opened { repository, unlock, changes })
    }

    /// Opens the repository and brings the index up to date.
    pub(crate) fn open_with_index(&self) -> Result<Opened, Failure> {
        let opened = self.open()?;
        opened.repository.load_index()?;
        Ok(opened)
    }

    /// The flag that is set when the operation is asked to end early.
    pub(crate) fn interruption(&self) -> Result<Arc<std::sync::atomic::AtomicBool>, Failure> {
        process::interruption()
    }
}

/// The place that was named.
pub(crate) fn parse_place(text: &OsStr) -> Result<Place, Failure> {
    Place::parse(text).map_err(|error| Failure::usage(error.to_string()).hint(error.cure))
}

/// No folder, or one without a configuration, is no repository; anything else is an error of its
/// own, since there may well be one.
fn not_opened(place: &str, error: StorageError) -> Failure {
    let no_folder = error.source.as_ref().map(std::io::Error::kind);
    if error.kind == StorageErrorKind::NotFound
        || no_folder == Some(std::io::ErrorKind::NotADirectory)
    {
        return RepositoryError::NotARepository(place.to_owned()).into();
    }
    error.into()
}
