//! Groups that follow from another one (RFC 9420, sections 11.2 and 11.3): in its place after a ReInit,
//! or beside it as a branch with some of its members. A resumption PSK ties the new group to the old.

use std::collections::BTreeSet;

use super::Group;
use super::commit::PendingCommit;
use super::create::{Created, GroupParameters};
use super::error::{JoinError, SuccessorError};
use crate::code_point::{ProtocolVersion, WireFormat};
use crate::codec::{Bytes, Encode};
use crate::context::{AuthenticationService, Context};
use crate::credential::Credential;
use crate::crypto::{CipherSuite, SignatureKeyPair};
use crate::error::Error;
use crate::extension::Extensions;
use crate::group_context::GroupContext;
use crate::key_package::KeyPackage;
use crate::leaf_node::LeafParameters;
use crate::message_keys::MessageKeys;
use crate::proposal::ReInit;
use crate::psk::{PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk};
use crate::tree::Tree;

/// A new group, begun by one member of another.
#[derive(Debug)]
pub struct Successor {
    /// Its epoch 0, with the founder alone.
    pub created: Created,
    /// The commit that adds all others, with their Welcome. There is none if nobody else is in it.
    pub pending: PendingCommit,
}

/// What a ReInit and the group that follows it came to, made at once.
#[derive(Debug)]
pub struct Upgrade {
    /// The commit that ends the old group.
    pub reinit: PendingCommit,
    /// The group that takes its place.
    pub successor: Successor,
}

/// A new group in the making, see [`Group::successor`] and [`Group::branch`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SuccessorBuilder {
    predecessor: Group,
    usage: ResumptionPSKUsage,
    parameters: GroupParameters,
    plan: Plan,
}

/// A group's end and its successor in the making, see [`Group::upgrade`].
#[derive(Clone, Debug)]
#[must_use]
pub struct UpgradeBuilder {
    group: Group,
    reinit: ReInit,
    plan: Plan,
}

/// How the first commit is made.
#[derive(Clone, Debug)]
struct Plan {
    key_packages: Vec<KeyPackage>,
    tree_in_welcome: bool,
    group_info_extensions: Extensions,
    wire_format: WireFormat,
    without_path: bool,
}

/// What ties a first commit to another group.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub predecessor: Group,
    pub usage: ResumptionPSKUsage,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            key_packages: Vec::new(),
            tree_in_welcome: true,
            group_info_extensions: Extensions::default(),
            wire_format: WireFormat::PRIVATE_MESSAGE,
            without_path: false,
        }
    }
}

impl Group {
    /// The ReInit of the commit that led to this epoch. The group is suspended: nothing is sent in it
    /// any more, and its members wait for the group that takes its place.
    ///
    /// Of the epoch's secrets, only those that may still be used are there: the resumption PSK, which
    /// leads to the next group, the epoch authenticator, and what secrets are exported from. No private
    /// key and nothing that a message would need is kept, in memory or in the records. Messages of past
    /// epochs are read as long as their keys are kept.
    #[must_use]
    pub fn reinit(&self) -> Option<&ReInit> {
        self.state().reinit.as_deref()
    }

    /// Begins the group that takes this one's place, as its ReInit says. Any member may; all others are
    /// to be added.
    ///
    /// # Errors
    /// [`SuccessorError::NotReinitialized`], the caller's.
    pub fn successor(&self) -> Result<SuccessorBuilder, Error> {
        let reinit = self.reinit().ok_or(SuccessorError::NotReinitialized)?;
        Ok(SuccessorBuilder {
            predecessor: self.clone(),
            usage: ResumptionPSKUsage::ReInit,
            parameters: GroupParameters {
                version: reinit.version,
                cipher_suite: reinit.cipher_suite,
                group_id: reinit.group_id.clone(),
                extensions: reinit.extensions.clone(),
            },
            plan: Plan::default(),
        })
    }

    /// Begins a group beside this one, of the same version and suite, with us and those of our fellow
    /// members who are added.
    ///
    /// # Errors
    /// The caller's: [`Error::GroupSuspended`] after a ReInit, which only [`successor`](Self::successor)
    /// follows; [`SuccessorError::OldGroupId`] for this group's own id.
    pub fn branch(&self, group_id: impl Into<Bytes>) -> Result<SuccessorBuilder, Error> {
        self.check_active()?;
        let group_id = group_id.into();
        if *group_id == *self.group_id() {
            return Err(SuccessorError::OldGroupId.into());
        }
        Ok(SuccessorBuilder {
            predecessor: self.clone(),
            usage: ResumptionPSKUsage::Branch,
            parameters: GroupParameters {
                version: self.group_context().version,
                cipher_suite: self.cipher_suite(),
                group_id,
                extensions: Extensions::default(),
            },
            plan: Plan::default(),
        })
    }

    /// Ends this group and begins the one that takes its place in one call; to move it to a stronger
    /// suite, for one, that all members support. The other members follow by the commit, then by the
    /// Welcome.
    pub fn upgrade(&self, reinit: ReInit) -> UpgradeBuilder {
        UpgradeBuilder {
            group: self.clone(),
            reinit,
            plan: Plan::default(),
        }
    }
}

macro_rules! plan_methods {
    ($builder:ident) => {
        impl $builder {
            /// Adds a member of the old group, whose KeyPackage is for the new one's version and suite.
            #[allow(clippy::should_implement_trait)] // The RFC's word.
            pub fn add(mut self, key_package: KeyPackage) -> Self {
                self.plan.key_packages.push(key_package);
                self
            }

            /// Whether the Welcome's GroupInfo holds the ratchet tree.
            pub fn tree_in_welcome(mut self, tree_in_welcome: bool) -> Self {
                self.plan.tree_in_welcome = tree_in_welcome;
                self
            }

            /// Further extensions of the GroupInfo.
            pub fn group_info_extensions(mut self, extensions: Extensions) -> Self {
                self.plan.group_info_extensions = extensions;
                self
            }

            /// How commits are framed: `PRIVATE_MESSAGE` or `PUBLIC_MESSAGE`.
            pub fn wire_format(mut self, wire_format: WireFormat) -> Self {
                self.plan.wire_format = wire_format;
                self
            }

            /// Leaves the path of the new group's first commit out.
            pub fn without_path(mut self) -> Self {
                self.plan.without_path = true;
                self
            }
        }
    };
}

plan_methods!(SuccessorBuilder);
plan_methods!(UpgradeBuilder);

impl SuccessorBuilder {
    /// The GroupContext's extensions of a branch. A ReInit says itself which it leads to, so there
    /// other ones are refused.
    pub fn extensions(mut self, extensions: Extensions) -> Self {
        self.parameters.extensions = extensions;
        self
    }

    /// Makes the group. `signer` is our key in the new group, of its suite.
    ///
    /// # Errors
    /// The caller's, or of whose KeyPackage it brought:
    /// - [`SuccessorError::MissingMember`], [`SuccessorError::NotInPredecessor`],
    ///   [`SuccessorError::Extensions`].
    /// - what [`Group::create`] and [`CommitBuilder::build`](super::CommitBuilder::build) refuse.
    pub fn build(
        self,
        signer: &SignatureKeyPair,
        leaf: LeafParameters,
        ctx: &mut Context<'_>,
    ) -> Result<Successor, Error> {
        let Self {
            predecessor,
            usage,
            parameters,
            plan,
        } = self;
        if let (ResumptionPSKUsage::ReInit, Some(reinit)) = (usage, predecessor.reinit())
            && reinit.extensions != parameters.extensions
        {
            return Err(SuccessorError::Extensions.into());
        }
        plan.check_members(&predecessor, usage, &leaf.credential, ctx)?;
        let mut created = Group::create(ctx, parameters, signer, leaf)?;
        let suite = created.group.suite();
        let (id, epoch) = (
            predecessor.group_context().group_id.clone(),
            predecessor.epoch(),
        );
        let psk = PreSharedKeyID::resumption(suite, usage, id, epoch, ctx.rng);
        let mut commit = created.group.commit().linked(Link { predecessor, usage });
        for key_package in plan.key_packages {
            commit = commit.add(key_package);
        }
        if plan.without_path {
            commit = commit.without_path();
        }
        let pending = commit
            .psk(psk)
            .tree_in_welcome(plan.tree_in_welcome)
            .group_info_extensions(plan.group_info_extensions)
            .wire_format(plan.wire_format)
            .build(&mut created.keys, signer, ctx)?;
        Ok(Successor { created, pending })
    }
}

impl UpgradeBuilder {
    /// Makes the commit that ends the group, and the new group. `keys` are the message keys of the
    /// group's epoch, `signer` is the key in our leaf, `new_signer` our key in the new group, of its
    /// suite. If this fails, `keys` is unchanged.
    ///
    /// # Errors
    /// As [`CommitBuilder::build`](super::CommitBuilder::build) and [`SuccessorBuilder::build`].
    pub fn build(
        self,
        keys: &mut MessageKeys,
        signer: &SignatureKeyPair,
        new_signer: &SignatureKeyPair,
        leaf: LeafParameters,
        ctx: &mut Context<'_>,
    ) -> Result<Upgrade, Error> {
        let commit = self
            .group
            .commit()
            .include_proposals(super::IncludeProposals::None)
            .reinit(self.reinit)
            .wire_format(self.plan.wire_format);
        let prepared = commit.prepare(keys, signer, ctx)?;
        let mut builder = prepared.next().successor()?;
        builder.plan = self.plan;
        let successor = builder.build(new_signer, leaf, ctx)?;
        // Last, since it uses a key up.
        let reinit = prepared.finish(keys, ctx)?;
        Ok(Upgrade { reinit, successor })
    }
}

impl Plan {
    /// Whether those added, and we ourselves, are who the new group is to have.
    fn check_members(
        &self,
        predecessor: &Group,
        usage: ResumptionPSKUsage,
        own: &Credential,
        ctx: &Context<'_>,
    ) -> Result<(), SuccessorError> {
        let added = self.key_packages.iter();
        let added = added.map(|key_package| &key_package.leaf_node.credential);
        let new: Vec<_> = std::iter::once(own).chain(added).cloned().collect();
        let (old, service) = (credentials(predecessor.tree()), ctx.authentication_service);
        if usage == ResumptionPSKUsage::ReInit
            && let Some(missing) = first_without(&old, &new, service)
        {
            let leaf = predecessor.tree().leaves().nth(missing);
            return Err(SuccessorError::MissingMember(
                leaf.map_or_else(|| predecessor.own_index(), |(leaf, _)| leaf),
            ));
        }
        match first_without(&new, &old, service) {
            Some(place) => Err(SuccessorError::NotInPredecessor(place)),
            None => Ok(()),
        }
    }
}

/// The PSK of a Welcome's that ties the group to another one.
pub(super) fn link_of(psks: &[PreSharedKeyID]) -> Result<Option<&ResumptionPsk>, SuccessorError> {
    let mut links = psks.iter().filter_map(|id| match &id.psktype {
        PskType::Resumption(psk) if psk.usage != ResumptionPSKUsage::Application => Some(psk),
        _ => None,
    });
    let first = links.next();
    match links.next() {
        Some(_) => Err(SuccessorError::SecondLink),
        None => Ok(first),
    }
}

/// What a joiner checks before it opens the GroupInfo: that the link leads to the group that it knows.
pub(super) fn check_link(
    link: Option<&ResumptionPsk>,
    predecessor: Option<&Group>,
) -> Result<(), SuccessorError> {
    match (link, predecessor) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(SuccessorError::NotLinked),
        (Some(link), None) => Err(SuccessorError::NeedsPredecessor {
            usage: link.usage,
            group_id: link.psk_group_id.clone(),
            epoch: link.psk_epoch,
        }),
        (Some(link), Some(old)) if *link.psk_group_id != *old.group_id() => {
            Err(SuccessorError::WrongPredecessor)
        }
        (Some(link), Some(old)) if link.usage == ResumptionPSKUsage::ReInit => {
            if old.reinit().is_none() {
                return Err(SuccessorError::NotReinitialized);
            }
            // After a ReInit there is no other epoch.
            if link.psk_epoch != old.epoch() {
                return Err(SuccessorError::PskEpoch(link.psk_epoch));
            }
            Ok(())
        }
        // Else a group that ended for a stronger one would be followed by one as weak as itself.
        (Some(_), Some(old)) if old.reinit().is_some() => Err(SuccessorError::BranchAfterReInit),
        (Some(_), Some(_)) => Ok(()),
    }
}

/// What a joiner checks of the new group (RFC 9420, sections 11.2, 11.3 and 12.4.3.1).
pub(super) fn check_successor(
    predecessor: &Group,
    usage: ResumptionPSKUsage,
    context: &GroupContext,
    tree: &Tree,
    service: &dyn AuthenticationService,
) -> Result<(), SuccessorError> {
    if context.epoch != 1 {
        return Err(SuccessorError::Epoch(context.epoch));
    }
    let old_context = predecessor.group_context();
    let (version, cipher_suite): (ProtocolVersion, CipherSuite) = match usage {
        ResumptionPSKUsage::ReInit => {
            let reinit = predecessor.reinit();
            let reinit = reinit.ok_or(SuccessorError::NotReinitialized)?;
            if context.group_id != reinit.group_id {
                return Err(SuccessorError::GroupId);
            }
            if context.extensions != reinit.extensions {
                return Err(SuccessorError::Extensions);
            }
            (reinit.version, reinit.cipher_suite)
        }
        _ => {
            if context.group_id == old_context.group_id {
                return Err(SuccessorError::OldGroupId);
            }
            (old_context.version, old_context.cipher_suite)
        }
    };
    if context.version != version {
        return Err(SuccessorError::Version);
    }
    if context.cipher_suite != cipher_suite {
        return Err(SuccessorError::CipherSuite);
    }
    let (old, new) = (credentials(predecessor.tree()), credentials(tree));
    if usage == ResumptionPSKUsage::ReInit {
        let missing = first_without(&old, &new, service);
        let missing = missing.and_then(|place| predecessor.tree().leaves().nth(place));
        if let Some((leaf, _)) = missing {
            return Err(SuccessorError::MissingMember(leaf));
        }
    } else if let Some(place) = first_without(&new, &old, service) {
        return Err(SuccessorError::NotInPredecessor(place));
    }
    Ok(())
}

fn credentials(tree: &Tree) -> Vec<Credential> {
    let leaves = tree.leaves();
    leaves
        .map(|(_, leaf)| leaf.leaf_node().credential)
        .collect()
}

/// The first of `some` whose client is not among `others`. Clients whose credential changed are looked
/// for one by one, all others by an index.
fn first_without(
    some: &[Credential],
    others: &[Credential],
    service: &dyn AuthenticationService,
) -> Option<usize> {
    let known: BTreeSet<_> = others.iter().map(Encode::to_bytes).collect();
    some.iter().position(|one| {
        !known.contains(&one.to_bytes())
            && !others
                .iter()
                .any(|other| service.is_same_client(one, other))
    })
}

impl From<SuccessorError> for Error {
    fn from(error: SuccessorError) -> Self {
        Self::Join(JoinError::Successor(error))
    }
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;
    use crate::component::NoComponents;
    use crate::context::{BasicCredentials, NoPsks, OneThread};
    use crate::credential::CredentialType;
    use crate::crypto::{CryptoProvider, aws_lc};
    use crate::testing::StepRng;
    use crate::tree_math::LeafIndex;

    const SUITE: CipherSuite = CipherSuite(1);

    fn leaf(name: &str) -> LeafParameters {
        LeafParameters {
            credential: Credential::basic(name.as_bytes()),
            capabilities: Capabilities {
                versions: vec![ProtocolVersion::MLS10],
                cipher_suites: vec![SUITE],
                credentials: vec![CredentialType::BASIC],
                ..Capabilities::default()
            },
            extensions: Extensions::default(),
        }
    }

    /// A group of one, which was reinitialized.
    fn ended(name: &str) -> Group {
        let mut ctx = Context {
            provider: &aws_lc::PROVIDER,
            authentication_service: &BasicCredentials,
            psks: &NoPsks,
            components: &NoComponents,
            now: None,
            workers: &OneThread,
            rng: &mut StepRng(1),
        };
        let suite = aws_lc::PROVIDER.suite(SUITE).unwrap();
        let signer = suite.signature_key_pair(ctx.rng);
        let (version, cipher_suite) = (ProtocolVersion::MLS10, SUITE);
        let parameters = |group_id: &[u8]| GroupParameters {
            version,
            cipher_suite,
            group_id: group_id.into(),
            extensions: Extensions::default(),
        };
        let mut created = Group::create(&mut ctx, parameters(b"old"), &signer, leaf(name)).unwrap();
        let reinit = ReInit {
            group_id: Bytes::from(*b"new"),
            version,
            cipher_suite,
            extensions: Extensions::default(),
        };
        let commit = created.group.commit().reinit(reinit);
        commit
            .build(&mut created.keys, &signer, &mut ctx)
            .unwrap()
            .group
    }

    #[test]
    fn a_new_group_that_is_not_as_it_should_be() {
        use ResumptionPSKUsage::{Branch, ReInit};
        let old = ended("alice");
        let (tree, context) = (old.tree(), old.group_context());
        let good = GroupContext {
            group_id: Bytes::from(*b"new"),
            epoch: 1,
            ..context.clone()
        };
        let check = |usage, change: &dyn Fn(&mut GroupContext)| {
            let mut context = good.clone();
            change(&mut context);
            check_successor(&old, usage, &context, tree, &BasicCredentials)
        };
        let old_id = |context: &mut GroupContext| context.group_id = Bytes::from(*b"old");
        assert_eq!(check(Branch, &old_id), Err(SuccessorError::OldGroupId));
        for usage in [ReInit, Branch] {
            assert_eq!(check(usage, &|_| {}), Ok(()));
            let epoch = check(usage, &|context| context.epoch = 2);
            assert_eq!(epoch, Err(SuccessorError::Epoch(2)));
            let version = check(usage, &|context| context.version.0 = 2);
            assert_eq!(version, Err(SuccessorError::Version));
            let suite = check(usage, &|context| context.cipher_suite.0 = 2);
            assert_eq!(suite, Err(SuccessorError::CipherSuite));
        }
        let other_id = |context: &mut GroupContext| context.group_id = Bytes::from(*b"other");
        assert_eq!(check(ReInit, &other_id), Err(SuccessorError::GroupId));
        assert_eq!(check(Branch, &other_id), Ok(()));
        let other_extensions = |context: &mut GroupContext| {
            let kind = crate::extension::ExtensionType::APPLICATION_ID;
            context.extensions.set_data(kind, *b"other");
        };
        assert_eq!(
            check(ReInit, &other_extensions),
            Err(SuccessorError::Extensions)
        );
        assert_eq!(check(Branch, &other_extensions), Ok(()));

        let stranger = ended("bob");
        let check = |usage| check_successor(&old, usage, &good, stranger.tree(), &BasicCredentials);
        assert_eq!(
            check(ReInit),
            Err(SuccessorError::MissingMember(LeafIndex(0)))
        );
        assert_eq!(check(Branch), Err(SuccessorError::NotInPredecessor(0)));
    }

    #[test]
    fn a_welcome_has_one_link() {
        let psk = |usage, epoch| {
            let rng = &mut StepRng(1);
            let suite = aws_lc::PROVIDER.suite(SUITE).unwrap();
            PreSharedKeyID::resumption(suite, usage, *b"old", epoch, rng)
        };
        let application = psk(ResumptionPSKUsage::Application, 1);
        let (reinit, branch) = (
            psk(ResumptionPSKUsage::ReInit, 1),
            psk(ResumptionPSKUsage::Branch, 1),
        );
        assert_eq!(link_of(std::slice::from_ref(&application)), Ok(None));
        let one = [application, reinit.clone()];
        assert_eq!(
            link_of(&one).unwrap().unwrap().usage,
            ResumptionPSKUsage::ReInit
        );
        assert_eq!(link_of(&[reinit, branch]), Err(SuccessorError::SecondLink));

        let old = ended("alice");
        let link = |epoch| psk(ResumptionPSKUsage::ReInit, epoch);
        let check = |id: &PreSharedKeyID| {
            let link = link_of(std::slice::from_ref(id)).unwrap();
            check_link(link, Some(&old))
        };
        assert_eq!(check(&link(1)), Ok(()));
        // After the ReInit there is no other epoch than the one that it led to.
        assert_eq!(check(&link(0)), Err(SuccessorError::PskEpoch(0)));
        // No branch is a way around what the ReInit leads to.
        let branch = psk(ResumptionPSKUsage::Branch, 1);
        assert_eq!(check(&branch), Err(SuccessorError::BranchAfterReInit));
        let branch = old.branch(*b"branch").map(drop);
        assert_eq!(branch, Err(Error::GroupSuspended));
    }
}
