//! Users of an image, and what its passwd and group files must say so that one of them has the host's numbers. Pure.

use serde::{Deserialize, Serialize};

/// The user that is made where an image has none.
const DEFAULT_NAME: &str = "tazpod";
/// The user that images for people mostly have.
const USUAL_UID: u32 = 1000;

/// A user of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// First group.
    pub gid: u32,
    /// Home.
    pub home: String,
    /// Login shell; may be empty.
    pub shell: String,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// The passwd and group files of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    passwd: Vec<Vec<String>>,
    group: Vec<Vec<String>>,
}

/// Files that give a user other numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renumbered {
    /// As it is then.
    pub account: Account,
    /// What it was; `None`: it is new.
    pub before: Option<(u32, u32)>,
    /// The passwd file.
    pub passwd: String,
    /// The group file.
    pub group: String,
}

impl Accounts {
    /// Reads both files.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let split = |text: &str, fields: usize| {
            let lines = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
            lines.filter(|line| line.len() >= fields).collect()
        };
        Self { passwd: split(passwd, 7), group: split(group, 4) }
    }

    /// The user who is to work inside: the configured one, else the image's, else the usual one. The inner error is the name of who
    /// must be made.
    pub fn choose(&self, configured: Option<&str>, image_user: &str) -> Result<Account, String> {
        let name_for = |user: &str| match user {
            "" | "root" => DEFAULT_NAME.to_owned(),
            number if number.parse::<u32>().is_ok() => DEFAULT_NAME.to_owned(),
            name => name.to_owned(),
        };
        if let Some(user) = configured {
            return self.find(user).ok_or_else(|| name_for(user));
        }
        let of_image = image_user.split(':').next().unwrap_or_default();
        let own = self.find(of_image).filter(|account| account.uid != 0);
        own.or_else(|| self.find(&USUAL_UID.to_string())).ok_or_else(|| name_for(of_image))
    }

    /// A user by name or number.
    pub fn find(&self, name: &str) -> Option<Account> {
        let line = self.passwd.iter().find(|line| line[0] == name || line[2] == name)?;
        let gid = line[3].parse().ok()?;
        let is_member = |group: &&Vec<String>| group[3].split(',').any(|member| member == line[0]);
        let groups = self.group.iter().filter(is_member).filter_map(|group| group[2].parse().ok());
        Some(Account {
            name: line[0].clone(),
            uid: line[2].parse().ok()?,
            gid,
            home: line[5].clone(),
            shell: line[6].clone(),
            groups: groups.filter(|group| *group != gid).collect(),
        })
    }

    /// The files in which a user has these numbers. Whoever had them before gets the old ones.
    pub fn renumber(&self, account: &Account, uid: u32, gid: u32) -> Renumbered {
        let mut new = self.clone();
        let old_uid = account.uid.to_string();
        for line in &mut new.passwd {
            if line[0] == account.name {
                (line[2], line[3]) = (uid.to_string(), gid.to_string());
            } else if line[2] == uid.to_string() {
                line[2].clone_from(&old_uid);
            }
        }
        new.name_group(gid, &account.name, Some(account.gid));
        new.finish(account, Some((account.uid, account.gid)), uid, gid)
    }

    /// The files with one more user, whose home is below /home.
    pub fn add(&self, name: &str, shell: &str, uid: u32, gid: u32) -> Renumbered {
        let mut new = self.clone();
        if new.find("0").is_none() {
            new.passwd.insert(0, fields("root:x:0:0:root:/root:/bin/sh"));
            new.name_group(0, "root", None);
        }
        // Whoever has the number makes way, to one that nobody has.
        let taken: Vec<u32> = new.passwd.iter().filter_map(|line| line[2].parse().ok()).collect();
        let free = (USUAL_UID..).find(|number| *number != uid && !taken.contains(number)).unwrap_or(u32::MAX - 2);
        for line in new.passwd.iter_mut().filter(|line| line[2] == uid.to_string()) {
            line[2] = free.to_string();
        }
        let home = format!("/home/{name}");
        new.passwd.push(fields(&format!("{name}:*:{uid}:{gid}::{home}:{shell}")));
        new.name_group(gid, name, None);
        let account = Account { name: name.to_owned(), uid, gid, home, shell: shell.to_owned(), groups: Vec::new() };
        new.finish(&account, None, uid, gid)
    }

    /// Gives a group's number a name, when it has none: the user's own group gets it, or a new one.
    fn name_group(&mut self, gid: u32, name: &str, own: Option<u32>) {
        let number = gid.to_string();
        if self.group.iter().any(|line| line[2] == number) {
            return;
        }
        let own = own.map(|own| own.to_string());
        let is_own = |line: &&mut Vec<String>| line[0] == name && Some(&line[2]) == own.as_ref();
        match self.group.iter_mut().find(is_own) {
            Some(line) => line[2] = number,
            None => {
                let taken = self.group.iter().any(|line| line[0] == name);
                let name = if taken { format!("{name}-host") } else { name.to_owned() };
                self.group.push(fields(&format!("{name}:x:{number}:")));
            }
        }
    }

    fn finish(self, account: &Account, before: Option<(u32, u32)>, uid: u32, gid: u32) -> Renumbered {
        let text = |lines: &[Vec<String>]| lines.iter().map(|line| line.join(":") + "\n").collect::<String>();
        let groups = account.groups.iter().copied().filter(|group| *group != gid).collect();
        let account = Account { uid, gid, groups, ..account.clone() };
        Renumbered { account, before, passwd: text(&self.passwd), group: text(&self.group) }
    }
}

fn fields(line: &str) -> Vec<String> {
    line.split(':').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ndev:x:1000:1000:,,,:/home/dev:/bin/bash\n\
                          other:x:1234:1234::/home/other:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:dev\ndev:x:1000:\nusers:x:100:\n";

    #[test]
    fn the_user_is_the_configured_one_or_the_images_or_the_usual_one() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        let chosen = |configured, image| accounts.choose(configured, image).map(|account| account.name);
        assert_eq!(chosen(Some("other"), "dev"), Ok("other".to_owned()));
        assert_eq!(chosen(Some("new"), "dev"), Err("new".to_owned()));
        assert_eq!(chosen(Some("5"), "dev"), Err(DEFAULT_NAME.to_owned()));
        assert_eq!(chosen(None, "1234:1234"), Ok("other".to_owned()));
        assert_eq!(chosen(None, ""), Ok("dev".to_owned()));
        assert_eq!(chosen(None, "root"), Ok("dev".to_owned()));
        assert_eq!(Accounts::default().choose(None, ""), Err(DEFAULT_NAME.to_owned()));
        assert_eq!(accounts.find("dev").unwrap().groups, [27]);
    }

    #[test]
    fn numbers_are_swapped_and_the_own_group_goes_along() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        let dev = accounts.find("dev").unwrap();
        let new = accounts.renumber(&dev, 1234, 1235);
        let after = Accounts::parse(&new.passwd, &new.group);
        assert_eq!((after.find("dev").unwrap().uid, after.find("dev").unwrap().gid), (1234, 1235));
        assert_eq!(after.find("other").unwrap().uid, 1000);
        assert!(new.group.contains("dev:x:1235:\n"), "{}", new.group);
        assert_eq!((new.account.groups.clone(), new.before), (vec![27], Some((1000, 1000))));
        let shared = accounts.renumber(&dev, 1234, 100);
        assert!(shared.group.contains("users:x:100:\n") && shared.group.contains("dev:x:1000:\n"), "{}", shared.group);
    }

    #[test]
    fn a_user_is_made_where_there_is_none() {
        let new = Accounts::default().add("tazpod", "/bin/sh", 1001, 1001);
        assert_eq!(new.passwd, "root:x:0:0:root:/root:/bin/sh\ntazpod:*:1001:1001::/home/tazpod:/bin/sh\n");
        assert_eq!(new.group, "root:x:0:\ntazpod:x:1001:\n");
        let beside = Accounts::parse(PASSWD, GROUP).add("me", "/bin/sh", 1000, 1000);
        let after = Accounts::parse(&beside.passwd, &beside.group);
        assert_eq!((after.find("me").unwrap().uid, after.find("dev").unwrap().uid), (1000, 1001));
    }
}
