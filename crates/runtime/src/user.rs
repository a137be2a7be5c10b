//! The user of a container: the image's `USER`, looked up in the image's own files.

use anyhow::Context as _;
use hint::WithHint as _;
use sys::Identity;

/// An identity and its home directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) identity: Identity,
    pub(super) home: String,
}

/// Looks up `user` or `user:group`, names or numbers, in the texts of passwd(5) and group(5).
pub(super) fn look_up(wanted: &str, passwd: &str, group: &str) -> anyhow::Result<User> {
    let (user, wanted_group) = wanted.split_once(':').map_or((wanted, None), |(u, g)| (u, Some(g)));
    let user = if user.is_empty() { "0" } else { user };
    let entry = entries(passwd).find(|fields| fields.len() >= 6 && (fields[0] == user || fields[2] == user));
    let number = match &entry {
        Some(fields) => fields[2].parse().ok(),
        None => user.parse().ok(),
    };
    let number = number
        .with_context(|| format!("the image's user `{user}` is not in its `/etc/passwd`"))
        .hint("add the user to the image, or name it by its number")?;
    let own_group = entry.as_ref().and_then(|fields| fields[3].parse().ok()).unwrap_or(0);
    let group_number = match wanted_group.filter(|name| !name.is_empty()) {
        Some(name) => group_number(name, group)?,
        None => own_group,
    };
    let groups = match (&entry, wanted_group) {
        (Some(fields), None) => member_groups(fields[0], own_group, group),
        _ => vec![group_number],
    };
    let home = entry.map_or("/", |fields| fields[5]);
    let home = if home.is_empty() { "/" } else { home };
    Ok(User { identity: Identity { user: number, group: group_number, groups }, home: home.into() })
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn group_number(wanted: &str, group: &str) -> anyhow::Result<u32> {
    let entry =
        entries(group).find(|fields| fields.len() >= 3 && (fields[0] == wanted || fields[2] == wanted));
    entry
        .map_or_else(|| wanted.parse().ok(), |fields| fields[2].parse().ok())
        .with_context(|| format!("the image's group `{wanted}` is not in its `/etc/group`"))
        .hint("add the group to the image, or name it by its number")
}

fn member_groups(name: &str, own: u32, group: &str) -> Vec<u32> {
    let is_member =
        |fields: &Vec<&str>| fields.len() >= 4 && fields[3].split(',').any(|member| member == name);
    let mut numbers: Vec<u32> =
        entries(group).filter(is_member).filter_map(|fields| fields[2].parse().ok()).collect();
    numbers.retain(|number| *number != own);
    numbers.insert(0, own);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:100:Ada:/home/ada:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,ada\n";

    fn identity(wanted: &str) -> (u32, u32, Vec<u32>) {
        let Identity { user, group, groups } = look_up(wanted, PASSWD, GROUP).unwrap().identity;
        (user, group, groups)
    }

    #[test]
    fn names_numbers_and_groups() {
        assert_eq!(identity(""), (0, 0, vec![0, 10]));
        assert_eq!(identity("ada"), (1000, 100, vec![100, 10]));
        assert_eq!(identity("1000"), (1000, 100, vec![100, 10]));
        assert_eq!(identity("ada:wheel"), (1000, 10, vec![10]));
        assert_eq!(identity("77:88"), (77, 88, vec![88]));
        assert_eq!(identity("77"), (77, 0, vec![0]));
    }

    #[test]
    fn homes() {
        assert_eq!(look_up("ada", PASSWD, GROUP).unwrap().home, "/home/ada");
        assert_eq!(look_up("77", PASSWD, GROUP).unwrap().home, "/");
        assert_eq!(look_up("0", "", "").unwrap().home, "/");
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(look_up("eve", PASSWD, GROUP).unwrap_err().to_string().contains("`eve`"));
        assert!(look_up("ada:eves", PASSWD, GROUP).unwrap_err().to_string().contains("`eves`"));
    }
}
