//! What all commands share: the global options, and how they open the repository.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gabion::event::Observer;
use gabion::job::config::{ELSEWHERE, RepositoryPlace, is_elsewhere};
use gabion::repo::{Repository, RepositoryError, Unlock};
use gabion::storage::{LocalStorage, StorageError, StorageErrorKind};

use crate::console::{Console, Verbosity};
use crate::errors::Failure;
use crate::key_sources::{self, KeySource};
use crate::process::private_files;
use crate::{machine, process};

/// Options that every command understands
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The folder of the repository
    #[arg(short, long, global = true, env = "GABION_REPOSITORY", value_name = "FOLDER")]
    repository: Option<PathBuf>,
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
    /// Say nothing but problems
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    /// Show no progress bar
    #[arg(long, global = true)]
    no_progress: bool,
    /// Threads that work at once [default: one for each processor]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    global: Global,
    /// What the configuration says, where no option says otherwise.
    configured: Option<RepositoryPlace>,
    /// What is said beside the result.
    pub(crate) console: Arc<Console>,
}

/// An open repository.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The repository.
    pub(crate) repository: Arc<Repository>,
    /// What opened it.
    pub(crate) unlock: Unlock,
}

impl Session {
    /// A run with these options.
    pub(crate) fn new(global: Global) -> Self {
        let Global { quiet, json, no_progress, .. } = global;
        let verbosity = Verbosity { quiet, json, progress: !no_progress };
        Self { global, configured: None, console: Arc::new(Console::new(verbosity)) }
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
    pub(crate) fn named_repository(&self) -> Option<&Path> {
        self.global.repository.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// Uses the repository of the configuration.
    ///
    /// # Errors
    /// When another one was named: which of them counts should not have to be known by heart.
    pub(crate) fn use_configured(&mut self, place: &RepositoryPlace) -> Result<(), Failure> {
        if let Ok(named) = self.named()
            && named != place.url
        {
            let (named, configured) = (named.display(), place.url.display());
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
        if self.named().is_err()
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

    /// Whom the library tells what happens.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.console) as Arc<dyn Observer>
    }

    /// Where the repository is.
    pub(crate) fn place(&self) -> Result<&Path, Failure> {
        match &self.configured {
            Some(place) => Ok(&place.url),
            None => self.named(),
        }
    }

    fn named(&self) -> Result<&Path, Failure> {
        let named = self.named_repository().ok_or_else(|| {
            Failure::usage("no repository was named")
                .hint("use --repository FOLDER, set GABION_REPOSITORY, or write a configuration")
        })?;
        let elsewhere = named.to_str().is_some_and(is_elsewhere) && !named.exists();
        if elsewhere {
            let message = format!("{} is on another machine", named.display());
            return Err(Failure::usage(message).hint(ELSEWHERE));
        }
        Ok(named)
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

    /// Opens the repository; chunks cannot be read or written yet. What is written from here on
    /// can only be read by the user.
    pub(crate) fn open(&self) -> Result<Opened, Failure> {
        private_files();
        self.open_for_restore()
    }

    /// The place of the repository, without what opens it.
    pub(crate) fn open_storage(&self) -> Result<LocalStorage, Failure> {
        let path = self.place()?;
        LocalStorage::open(path).map_err(|error| not_opened(&path.display().to_string(), error))
    }

    /// Whether something was said that opens the repository, or nothing needs to be.
    pub(crate) fn has_key(&self) -> bool {
        let is_plaintext = || {
            let unlock = Unlock::Nothing;
            let Ok(storage) = self.open_storage() else { return false };
            Repository::open(Arc::new(storage), "", &unlock, None, Arc::new(())).is_ok()
        };
        matches!(self.key_source(), Ok(Some(_))) || is_plaintext()
    }

    /// Opens the repository without a say in how files are made: they are the user's.
    pub(crate) fn open_for_restore(&self) -> Result<Opened, Failure> {
        let place = self.place()?.display().to_string();
        let storage = Arc::new(self.open_storage()?);
        let source = self.key_source()?;
        let cache = self.cache_folder();
        let open = |unlock: Unlock| {
            let (storage, observer) = (Arc::clone(&storage), self.observer());
            let opened = Repository::open(storage, &place, &unlock, cache.clone(), observer);
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
        Ok(Opened { repository, unlock })
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
