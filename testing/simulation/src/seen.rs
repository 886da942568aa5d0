//! What people see, and what their devices hold.

use std::collections::BTreeSet;

use folkmoot_client::store::{Store, Table};
use folkmoot_client::views::{self, Conversation, CurrentLink, Members};
use folkmoot_client::{Error, HistoryEntry, What};

use crate::{PersonId, Sim};

impl Sim {
    /// A conversation, as a person sees it.
    ///
    /// # Panics
    /// If the person does not know it.
    pub fn conversation(&mut self, who: PersonId, title: &str) -> Conversation {
        self.people[who]
            .store
            .transaction(|tx| views::find(tx, title))
            .unwrap()
    }

    /// Whether a person knows a conversation.
    pub fn knows(&mut self, who: PersonId, title: &str) -> bool {
        self.people[who]
            .store
            .transaction(|tx| views::find(tx, title))
            .is_ok()
    }

    /// The members, as a person sees them.
    ///
    /// # Errors
    /// As [`views::members`].
    ///
    /// # Panics
    /// If the person does not know the conversation.
    pub fn members(&mut self, who: PersonId, title: &str) -> Result<Members, Error> {
        let log = self.conversation(who, title).log;
        self.people[who]
            .store
            .transaction(|tx| views::members(tx, log))
    }

    /// The history, as a person sees it.
    ///
    /// # Panics
    /// If the person does not know the conversation.
    pub fn history(&mut self, who: PersonId, title: &str) -> Vec<HistoryEntry> {
        let log = self.conversation(who, title).log;
        self.people[who]
            .store
            .transaction(|tx| views::history(tx, log, None))
            .unwrap()
    }

    /// What was said, as a person has it: `name: text`.
    ///
    /// # Panics
    /// If the person does not know the conversation.
    pub fn said(&mut self, who: PersonId, title: &str) -> Vec<String> {
        let said = |entry: HistoryEntry| match entry.what {
            What::Message(message) => {
                let text = String::from_utf8_lossy(&message.content).into_owned();
                Some(format!("{}: {text}", message.sender.name))
            }
            _ => None,
        };
        self.history(who, title)
            .into_iter()
            .filter_map(said)
            .collect()
    }

    /// The link of a conversation, as a person knows it.
    ///
    /// # Panics
    /// If the person is no member.
    pub fn link(&mut self, who: PersonId, title: &str) -> Option<CurrentLink> {
        let log = self.conversation(who, title).log;
        let store = &mut self.people[who].store;
        let link = store.transaction(|tx| views::link(tx, log));
        link.expect("a member knows it")
    }

    /// Who waits at the door of a conversation, as a person knows it.
    ///
    /// # Panics
    /// If the person's store cannot be read.
    pub fn knocks(&mut self, who: PersonId, title: &str) -> Vec<String> {
        let log = self.conversation(who, title).log;
        let store = &mut self.people[who].store;
        let knocks = store.transaction(|tx| views::knocks(tx, log));
        let knocks = knocks.expect("the store works").into_iter();
        knocks.map(|knock| knock.user.name.to_string()).collect()
    }

    /// The rows of a person's table.
    ///
    /// # Panics
    /// If the person's store cannot be read.
    pub fn rows(&mut self, who: PersonId, table: Table) -> Vec<Vec<u8>> {
        let rows = self.people[who].store.rows(table);
        let rows = rows.expect("the store works").into_iter();
        rows.map(|(_, value)| value.to_vec()).collect()
    }

    /// How many rows a person's table has.
    ///
    /// # Panics
    /// If the person's store cannot be read.
    pub fn count(&mut self, who: PersonId, table: Table) -> usize {
        self.people[who].store.count(table)
    }

    /// The references of a person's KeyPackages.
    pub(crate) fn package_keys(&mut self, who: PersonId) -> BTreeSet<Vec<u8>> {
        let rows = self.people[who].store.rows(Table::Packages);
        let rows = rows.expect("the store works");
        rows.into_iter().map(|(key, _)| key).collect()
    }
}
