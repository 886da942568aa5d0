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

struct Signature<'a> {
    public_key: &'a [u8],
    data: Vec<u8>,
    signature: &'a [u8],
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
        position: Option<LeafPosition<'_>>,
        blame: impl Fn(CryptoError) -> ProposalError + Send + Sync + 'a,
    ) {
        let tbs = leaf_node.tbs(&leaf_node.to_bytes(), position);
        let signature = Signature {
            public_key: &leaf_node.signature_key,
            data: labels::signed_data(LEAF_NODE_TBS, &tbs),
            signature: &leaf_node.signature,
        };
        self.signatures.push((signature, Box::new(blame)));
    }

    /// A KeyPackage's signature, but for its leaf node's.
    pub fn key_package(
        &mut self,
        key_package: &'a KeyPackage,
        blame: impl Fn(CryptoError) -> ProposalError + Send + Sync + 'a,
    ) {
        let signature = Signature {
            public_key: &key_package.leaf_node.signature_key,
            data: labels::signed_data(KEY_PACKAGE_TBS, &key_package.tbs()),
            signature: &key_package.signature,
        };
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
                let items: Vec<_> = chunk
                    .iter()
                    .map(|(item, _)| SignedData {
                        public_key: item.public_key,
                        data: Cow::Borrowed(&item.data),
                        signature: item.signature,
                    })
                    .collect();
                suite
                    .verify_batch(&items, rng)
                    .map_err(|(index, error)| chunk[index].1(error))
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
                service
                    .validate_all(&claims, extensions, now, rng)
                    .map_err(|(index, error)| chunk[index].1(error))
            },
        );
        judged.into_iter().collect()
    }
}
