//! The credentials and signatures of leaf nodes and KeyPackages that come in together, checked
//! together (RFC 9420, sections 5.3.1, 7.3 and 10.1).

use std::borrow::Cow;

use super::error::ProposalError;
use crate::codec::Encode;
use crate::context::{Context, CredentialClaim, CredentialError};
use crate::crypto::{CryptoError, SignedData, Suite, labels};
use crate::extension::Extensions;
use crate::key_package::{KEY_PACKAGE_TBS, KeyPackage};
use crate::leaf_node::{LEAF_NODE_TBS, LeafNode, LeafPosition};
use crate::tree::leaf_validation::BATCH;
use crate::workers::by_chunks;

/// What is still to be checked of them.
#[derive(Default)]
pub(super) struct Signatures<'a> {
    credentials: Vec<(CredentialClaim<'a>, Blame<'a, CredentialError>)>,
    signatures: Vec<(Signature<'a>, Blame<'a, CryptoError>)>,
}

/// Says what an error means for whoever is to blame.
type Blame<'a, E> = Box<dyn Fn(E) -> ProposalError + Send + Sync + 'a>;

/// What was signed is written out where it is checked, so that threads share that work too.
enum Signature<'a> {
    LeafNode(&'a LeafNode, Option<LeafPosition<'a>>),
    KeyPackage(&'a KeyPackage),
}

impl Signature<'_> {
    fn data(&self) -> SignedData<'_> {
        let (data, leaf_node, signature) = match self {
            Self::LeafNode(leaf_node, position) => {
                let tbs = leaf_node.tbs(&leaf_node.to_bytes(), *position);
                let data = labels::signed_data(LEAF_NODE_TBS, &tbs);
                (data, *leaf_node, &leaf_node.signature)
            }
            Self::KeyPackage(key_package) => {
                let data = labels::signed_data(KEY_PACKAGE_TBS, &key_package.tbs());
                (data, &key_package.leaf_node, &key_package.signature)
            }
        };
        SignedData {
            public_key: &leaf_node.signature_key,
            data: Cow::Owned(data),
            signature,
        }
    }
}

impl<'a> Signatures<'a> {
    /// A credential, if there is one to judge.
    pub fn credential(
        &mut self,
        claim: Option<CredentialClaim<'a>>,
        blame: impl Fn(CredentialError) -> ProposalError + Send + Sync + 'a,
    ) {
        self.credentials
            .extend(claim.map(|claim| (claim, Box::new(blame) as Blame<'a, _>)));
    }

    /// A leaf node's signature.
    pub fn leaf_node(
        &mut self,
        leaf_node: &'a LeafNode,
        position: Option<LeafPosition<'a>>,
        blame: impl Fn(CryptoError) -> ProposalError + Send + Sync + 'a,
    ) {
        let signature = Signature::LeafNode(leaf_node, position);
        self.signatures.push((signature, Box::new(blame)));
    }

    /// A KeyPackage's signature, but for its leaf node's.
    pub fn key_package(
        &mut self,
        key_package: &'a KeyPackage,
        blame: impl Fn(CryptoError) -> ProposalError + Send + Sync + 'a,
    ) {
        let signature = Signature::KeyPackage(key_package);
        self.signatures.push((signature, Box::new(blame)));
    }

    /// Checks all of them, for a group with these extensions, and blames the first that is wrong.
    pub fn verify(
        &self,
        suite: &dyn Suite,
        extensions: &Extensions,
        ctx: &mut Context<'_>,
    ) -> Result<(), ProposalError> {
        self.judge(extensions, ctx)?;
        let verified = by_chunks(
            ctx.workers,
            &self.signatures,
            BATCH,
            ctx.rng,
            |_, chunk, rng| {
                let items: Vec<_> = chunk.iter().map(|(item, _)| item.data()).collect();
                let verified = suite.verify_batch(&items, rng);
                verified.map_err(|(place, error)| blame(chunk, place, error))
            },
        );
        verified.into_iter().collect()
    }

    /// Judges the credentials.
    pub fn judge(
        &self,
        extensions: &Extensions,
        ctx: &mut Context<'_>,
    ) -> Result<(), ProposalError> {
        let (service, now) = (ctx.authentication_service, ctx.now);
        let judged = by_chunks(
            ctx.workers,
            &self.credentials,
            BATCH,
            ctx.rng,
            |_, chunk, rng| {
                let claims: Vec<_> = chunk.iter().map(|(claim, _)| *claim).collect();
                let judged = service.validate_all(&claims, extensions, now, rng);
                judged.map_err(|(place, error)| blame(chunk, place, error))
            },
        );
        judged.into_iter().collect()
    }
}

/// What an error means for the item at a place; for the first, should a service name a place that was
/// not in question. A chunk has at least one.
fn blame<T, E>(chunk: &[(T, Blame<'_, E>)], place: usize, error: E) -> ProposalError {
    let (_, blame) = chunk.get(place).unwrap_or(&chunk[0]);
    blame(error)
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests {
    use super::*;
    use crate::component::NoComponents;
    use crate::context::{NoPsks, OneThread};
    use crate::credential::Credential;
    use crate::crypto::aws_lc::PROVIDER;
    use crate::testing::{OutOfRange, StepRng};

    #[test]
    fn a_judge_who_names_nobody_who_was_asked_about_refuses() {
        let credential = Credential::basic(*b"alice");
        let claim = CredentialClaim {
            credential: &credential,
            signature_key: b"k",
        };
        let mut signatures = Signatures::default();
        signatures.credential(Some(claim), ProposalError::ExternalSender);
        let mut rng = StepRng(1);
        let mut ctx = Context {
            provider: &PROVIDER,
            authentication_service: &OutOfRange,
            psks: &NoPsks,
            components: &NoComponents,
            now: None,
            workers: &OneThread,
            rng: &mut rng,
        };
        let refused = ProposalError::ExternalSender(CredentialError::Expired);
        let judged = signatures.judge(&Extensions::default(), &mut ctx);
        assert_eq!(judged, Err(refused));
    }
}
