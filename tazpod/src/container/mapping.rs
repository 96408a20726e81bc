//! Derives an image whose user has the numbers of the host's user. FUSE lets in nobody else, so processes inside need both. Made once
//! for an image, a user and numbers, by its name found again; nothing of the image is run.

use std::collections::HashMap;

use bollard::models::{ContainerConfig, ContainerCreateBody, ImageInspect};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptions,
};

use super::accounts::{Account, Accounts, Renumbered};
use super::engine::{Engine, Facts};
use super::error::{ContainerError, is_missing};
use super::files::{self, Kind, SmallTar};
use super::linked::{self, Links};
use super::short::short;
use super::spec::ContainerSpec;

/// The images' name; the tag says of what they were made.
const REPOSITORY: &str = "tazpod-mapped";
const ACCOUNT_LABEL: &str = "tazpod.account";
const BASE_LABEL: &str = "tazpod.base";
/// What containers are called that live for a moment only.
const TEMPORARY: &str = "tazpod-mapping";
/// Counts up when the same image would be derived otherwise.
const GENERATION: u32 = 1;

/// An image that can be used.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// Its name.
    pub image: String,
    /// Id of the image that is configured.
    pub base: String,
    /// Who works inside.
    pub account: Account,
    /// Where the links of the home are.
    pub links: Links,
}

/// Finds or derives the image of a container; `None`: the one that is configured is not there. Before it looks into an image, which takes
/// its time where the home is large, it says so.
///
/// # Errors
/// [`ContainerError::Refused`], [`ContainerError::Image`], [`ContainerError::RemapsUsers`].
pub fn map(engine: &Engine, spec: &ContainerSpec, begin: impl FnOnce()) -> Result<Option<Mapped>, ContainerError> {
    let Some(base) = inspect(engine, &spec.image)? else { return Ok(None) };
    if let Some(mapped) = linked::find(engine, spec, &base)? {
        return Ok(Some(mapped));
    }
    let facts = engine.facts()?;
    if facts.remaps_users {
        return Err(ContainerError::RemapsUsers);
    }
    let mapped = map_user(engine, spec, &base, &facts, begin)?;
    linked::make(engine, spec, &base, mapped).map(Some)
}

/// The image whose user has the host's numbers.
fn map_user(
    engine: &Engine,
    spec: &ContainerSpec,
    base: &ImageInspect,
    facts: &Facts,
    begin: impl FnOnce(),
) -> Result<Mapped, ContainerError> {
    let id = base.id.clone().unwrap_or_default();
    let mapped =
        |image: &str, account| Mapped { image: image.to_owned(), base: id.clone(), account, links: Links::Missing };
    // Without root the engine makes root inside of the user who runs it.
    if facts.is_rootless || spec.uid == 0 {
        let account = with_files(engine, &spec.image, |files| Ok(files.accounts()?.find("0").unwrap_or_else(root)))?;
        return Ok(mapped(&spec.image, account));
    }
    let name = name(spec, &id, "");
    if let Some(account) = inspect(engine, &name)?.and_then(|image| account_of(&image)) {
        return Ok(mapped(&name, account));
    }
    begin();
    let image_user = base.config.as_ref().and_then(|config| config.user.as_deref()).unwrap_or_default();
    with_files(engine, &spec.image, |files| {
        Ok(match files.derive(spec, image_user, &name, &id)? {
            (account, true) => mapped(&name, account),
            (account, false) => mapped(&spec.image, account),
        })
    })
}

pub(super) fn inspect(engine: &Engine, image: &str) -> Result<Option<ImageInspect>, ContainerError> {
    match engine.ask(engine.docker.inspect_image(image)) {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(ContainerError::of("look at the image", error)),
    }
}

/// Removes a derived image that is no longer needed, and the one that it is of; what another container or image is of stays, and so does
/// any other image.
pub fn discard(engine: &Engine, image: &str) {
    if image.split(':').next() != Some(REPOSITORY) || linked::has_linked(engine, image) {
        return;
    }
    let made_of = linked::made_of(engine, image);
    match engine.ask(engine.docker.remove_image(image, None::<RemoveImageOptions>, None)) {
        Ok(_) => made_of.iter().for_each(|image| discard(engine, image)),
        Err(error) => tracing::debug!(%error, image, "a derived image stays"),
    }
}

pub(super) fn account_of(image: &ImageInspect) -> Option<Account> {
    serde_json::from_str(label(image, ACCOUNT_LABEL)?).ok()
}

pub(super) fn label<'a>(image: &'a ImageInspect, name: &str) -> Option<&'a str> {
    image.config.as_ref()?.labels.as_ref()?.get(name).map(String::as_str)
}

fn root() -> Account {
    Account {
        name: "root".to_owned(),
        uid: 0,
        gid: 0,
        home: "/root".to_owned(),
        shell: String::new(),
        groups: Vec::new(),
    }
}

/// The name of a derived image: by everything that decides what it is, and what else a further one is made of.
pub(super) fn name(spec: &ContainerSpec, base: &str, further: &str) -> String {
    use sha2::Digest;
    let text = format!("{GENERATION}\n{base}\n{:?}\n{}\n{}{further}", spec.user, spec.uid, spec.gid);
    format!("{REPOSITORY}:{}", short(&sha2::Sha256::digest(text.as_bytes())))
}

/// A container that is never started, of which files can be read and written.
pub(super) struct Files<'a> {
    engine: &'a Engine,
    container: String,
}

/// Makes one for a moment.
pub(super) fn with_files<T>(
    engine: &Engine,
    image: &str,
    work: impl FnOnce(&Files) -> Result<T, ContainerError>,
) -> Result<T, ContainerError> {
    remove_left_over(engine);
    let name = format!("{TEMPORARY}-{}", std::process::id());
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    // Images without a command need one; it never runs.
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["sleep".to_owned()]),
        network_disabled: Some(true),
        ..ContainerCreateBody::default()
    };
    let made = engine.wait("look into the image", engine.docker.create_container(Some(options), body))?;
    let files = Files { engine, container: made.id };
    let outcome = work(&files);
    let removed = remove(engine, &files.container);
    outcome.and_then(|found| removed.map(|()| found))
}

fn remove(engine: &Engine, container: &str) -> Result<(), ContainerError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    engine.wait("remove a container", engine.docker.remove_container(container, Some(options)))
}

/// Removes those of processes that were killed.
fn remove_left_over(engine: &Engine) {
    let filters = HashMap::from([("name".to_owned(), vec![format!("^/{TEMPORARY}-[0-9]+$")])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let Ok(found) = engine.ask(engine.docker.list_containers(Some(options))) else { return };
    for container in found {
        let name = container.names.unwrap_or_default().concat();
        let pid = name.rsplit('-').next().unwrap_or_default();
        let is_left = engine.is_local() && !std::path::Path::new("/proc").join(pid).exists();
        if let (true, Some(id)) = (is_left, container.id) {
            // Somebody else was quicker, perhaps.
            let _ = remove(engine, &id);
        }
    }
}

impl Files<'_> {
    /// Its name for the engine.
    pub(super) fn container(&self) -> &str {
        &self.container
    }

    fn accounts(&self) -> Result<Accounts, ContainerError> {
        let read = |path| Ok::<_, ContainerError>(self.engine.read_file(&self.container, path)?.unwrap_or_default());
        Ok(Accounts::parse(&read("/etc/passwd")?, &read("/etc/group")?))
    }

    /// Makes the image, unless the user has the numbers already; tells whether it did.
    fn derive(
        &self,
        spec: &ContainerSpec,
        image_user: &str,
        name: &str,
        base: &str,
    ) -> Result<(Account, bool), ContainerError> {
        let accounts = self.accounts()?;
        let renumbered = match accounts.choose(spec.user.as_deref(), image_user) {
            Ok(account) if account.uid == 0 => {
                let text = format!(
                    "the user {} of the image {} is root, whom the vault does not let in",
                    account.name, spec.image
                );
                return Err(ContainerError::Image(text));
            }
            Ok(account) if (account.uid, account.gid) == (spec.uid, spec.gid) && self.has_folder(&account.home)? => {
                return Ok((account, false));
            }
            Ok(account) => accounts.renumber(&account, spec.uid, spec.gid),
            Err(user) => accounts.add(&user, self.shell()?, spec.uid, spec.gid),
        };
        self.write_accounts(&renumbered)?;
        self.give_home(&renumbered)?;
        self.commit(&renumbered.account, name, base, [])?;
        Ok((renumbered.account, true))
    }

    fn has_folder(&self, path: &str) -> Result<bool, ContainerError> {
        Ok(!path.is_empty() && self.engine.kind(&self.container, path)? == Some(Kind::Folder))
    }

    fn shell(&self) -> Result<&'static str, ContainerError> {
        let has_bash = self.engine.kind(&self.container, "/bin/bash")?.is_some();
        Ok(if has_bash { "/bin/bash" } else { "/bin/sh" })
    }

    fn write_accounts(&self, renumbered: &Renumbered) -> Result<(), ContainerError> {
        let mut tar = SmallTar::new();
        let has_etc = self.has_folder("/etc")?;
        let folder = if has_etc { "/etc" } else { "/" };
        let prefix = if has_etc { "" } else { "etc/" };
        let written = tar
            .file(&format!("{prefix}passwd"), &renumbered.passwd)
            .and_then(|()| tar.file(&format!("{prefix}group"), &renumbered.group))
            .and_then(|()| tar.finish());
        self.engine.upload(&self.container, folder, written.map_err(files::temporary)?)
    }

    /// Gives the home, with what is in it, to the numbers; makes it where there is none.
    fn give_home(&self, renumbered: &Renumbered) -> Result<(), ContainerError> {
        let account = &renumbered.account;
        let owner = (account.uid, account.gid);
        let home = account.home.trim_matches('/');
        let Some((parent, _)) = home.rsplit_once('/').or((!home.is_empty()).then_some(("", home))) else {
            return Err(ContainerError::Image(format!("the user {} of the image has no home", account.name)));
        };
        if !self.has_folder(&account.home)? {
            let mut tar = SmallTar::new();
            let missing = self.engine.missing_folders(&self.container, parent)?;
            let made = tar.folders(&missing, (0, 0));
            let made = made.and_then(|()| tar.folder(home, owner)).and_then(|()| tar.finish());
            return self.engine.upload(&self.container, "/", made.map_err(files::temporary)?);
        }
        let mut found = tempfile::tempfile().map_err(files::temporary)?;
        self.engine.download(&self.container, &account.home, &mut found)?;
        let mut changed = tempfile::tempfile().map_err(files::temporary)?;
        files::change_owner(found, &mut changed, renumbered.before, owner).map_err(files::temporary)?;
        self.engine.upload_file(&self.container, &format!("/{parent}"), changed)
    }

    /// Keeps it as a derived image, with what is known of it.
    pub(super) fn commit<const N: usize>(
        &self,
        account: &Account,
        name: &str,
        base: &str,
        further: [(String, String); N],
    ) -> Result<(), ContainerError> {
        let tag = name.rsplit(':').next().unwrap_or_default();
        let options = CommitContainerOptionsBuilder::default()
            .container(&self.container)
            .repo(REPOSITORY)
            .tag(tag)
            .comment("the user inside has the numbers of the host's user")
            .build();
        let account = serde_json::to_string(account).expect("it is made of texts and numbers");
        let labels = [(ACCOUNT_LABEL.to_owned(), account), (BASE_LABEL.to_owned(), base.to_owned())];
        let labels = labels.into_iter().chain(further).collect();
        let config = ContainerConfig { labels: Some(labels), ..ContainerConfig::default() };
        self.engine.wait("keep the image with your user", self.engine.docker.commit_container(options, config))?;
        Ok(())
    }
}
