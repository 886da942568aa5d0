//! Joining by a Welcome, with the tree in pages (see [`tree_pages`](crate::tree_pages)).

use super::Group;
use super::error::JoinError;
use super::join::{Joined, OpenedWelcome, leaf_rules, verify_group_info};
use super::proposals::known;
use crate::context::Context;
use crate::error::Error;
use crate::extension::RequiredCapabilities;
#[cfg(test)]
use crate::group_info::GroupInfo;
use crate::key_package::KeyPackageBundle;
use crate::tree_pages::{
    Layout, LoadError, PageAddress, PageError, TreeLoader, TreePages, TreePagesRoot, epoch_secret,
};
use crate::welcome::Welcome;

/// A join that waits for pages of the tree.
pub struct JoinByPages {
    opened: OpenedWelcome,
    predecessor: Option<Group>,
    required: Option<RequiredCapabilities>,
    loader: TreeLoader,
}

/// A group that was joined by the pages of its tree.
#[derive(Debug)]
pub struct JoinedByPages {
    /// The group. Its changes hold the records of the pages too.
    pub joined: Joined,
    /// Where the pages are.
    pub pages: TreePages,
}

impl Group {
    /// Begins to join a group by a Welcome whose GroupInfo tells of the tree's pages, and whose tree is
    /// apart. Then, as long as there are [`JoinByPages::wanted`], they go to [`JoinByPages::arrived`] in
    /// any order, and [`JoinByPages::finish`] gives the group. `predecessor` is as for
    /// [`join_successor`](Self::join_successor). Nothing is checked less than by [`join`](Self::join).
    ///
    /// # Errors
    /// As [`join`](Self::join), as far as they do not concern the tree; [`JoinError::MissingTree`] if
    /// the GroupInfo does not tell of pages; [`PageError::Root`] and [`PageError::TooDeep`] (above
    /// [`MAX_TREE_DEPTH`](crate::tree_pages::MAX_TREE_DEPTH)), the inviter's fault.
    pub fn join_by_pages(
        ctx: &mut Context<'_>,
        welcome: &Welcome,
        bundle: &KeyPackageBundle,
        predecessor: Option<&Self>,
    ) -> Result<JoinByPages, Error> {
        JoinByPages::begin(Layout::V1, ctx, welcome, bundle, predecessor)
    }
}

impl JoinByPages {
    pub(crate) fn begin(
        layout: Layout,
        ctx: &mut Context<'_>,
        welcome: &Welcome,
        bundle: &KeyPackageBundle,
        predecessor: Option<&Group>,
    ) -> Result<Self, Error> {
        let opened = OpenedWelcome::open(ctx, welcome, bundle, predecessor)?;
        let (suite, group_info) = (opened.suite, &opened.group_info);
        let context = &group_info.group_context;
        let root = group_info.extensions.get::<TreePagesRoot>();
        let root = root.map_err(|_| PageError::Root)?;
        let root = root.ok_or(JoinError::MissingTree)?;
        let required = known(&context.extensions).map_err(JoinError::MalformedExtension)?;
        let secret = epoch_secret(suite, &opened.secrets.exporter_secret);
        let loader = TreeLoader::new(suite, layout, root, &secret, context.tree_hash.clone())?;
        Ok(Self {
            predecessor: predecessor.cloned(),
            required,
            loader,
            opened,
        })
    }

    /// Takes no more bytes of pages in all than this, in place of 16 KiB for each leaf that the tree has
    /// room for and 256 MiB in all. Pages that are refused for their address do not count.
    #[must_use]
    pub fn byte_limit(mut self, limit: u64) -> Self {
        self.loader.set_byte_limit(limit);
        self
    }

    /// For tests of inviters who lie.
    #[cfg(test)]
    pub(crate) fn group_info_mut(&mut self) -> &mut GroupInfo {
        &mut self.opened.group_info
    }

    /// The addresses of the pages to fetch next; none when all are there. They grow as index pages
    /// arrive: at first it is the root page alone.
    pub fn wanted(&self) -> impl Iterator<Item = &PageAddress> {
        self.loader.wanted()
    }

    /// Takes in a page, and checks all of it that can be checked without the others.
    ///
    /// # Errors
    /// [`PageError::NotWanted`], [`PageError::Repeated`], [`PageError::TooLarge`] and
    /// [`PageError::WrongBytes`] change nothing: another copy may be better. After any other
    /// [`PageError`], as [`PageError::TooManyBytes`], or a [`JoinError::Tree`] to the blame of the members who let that tree come to
    /// be, the group cannot be joined, and the same error comes again.
    pub fn arrived(
        &mut self,
        ctx: &mut Context<'_>,
        address: &PageAddress,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let context = &self.opened.group_info.group_context;
        let (required, service) = (self.required.as_ref(), ctx.authentication_service);
        let rules = leaf_rules(self.opened.suite, context, required, service);
        self.loader.arrived(
            address,
            bytes,
            &context.group_id,
            &rules,
            ctx.workers,
            ctx.rng,
        )?;
        Ok(())
    }

    /// Joins, once all pages are there.
    ///
    /// # Errors
    /// As [`Group::join`]; [`PageError::Missing`].
    pub fn finish(self, ctx: &mut Context<'_>) -> Result<JoinedByPages, Error> {
        let group_info = &self.opened.group_info;
        let context = &group_info.group_context;
        let (required, service) = (self.required.as_ref(), ctx.authentication_service);
        let rules = leaf_rules(self.opened.suite, context, required, service);
        let tag = group_info.confirmation_tag.clone();
        let (tree, pages) =
            self.loader
                .finish(tag, &context.group_id, &rules, ctx.workers, ctx.rng)?;
        verify_group_info(self.opened.suite, &tree, group_info)?;
        let mut joined = self.opened.enter(tree, self.predecessor.as_ref(), ctx)?;
        pages.record_all(&mut joined.changes);
        Ok(JoinedByPages { joined, pages })
    }
}

impl std::fmt::Debug for JoinByPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinByPages")
            .field("wanted", &self.wanted().count())
            .finish_non_exhaustive()
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Page(error) => error.into(),
            LoadError::Tree(error) => JoinError::from(error).into(),
        }
    }
}
