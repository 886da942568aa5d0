//! Our own engine as an external sender.

use folkmoot_mls::codec::Encode;
use folkmoot_mls::crypto::{CipherSuite, SignatureKeyPair};
use folkmoot_mls::group::{Destination, propose_as_external_sender};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree_math::LeafIndex;
use rand_chacha::ChaCha20Rng;

use super::{Provider, Psks, at, ctx, decode, provider};
use crate::peers::member::{Change, Peer, PeerError, group_context, raw_extensions};

/// We, outside of a group, as an external sender.
pub struct Outsider {
    provider: Provider,
    rng: ChaCha20Rng,
    psks: Psks,
    signer: SignatureKeyPair,
}

impl Outsider {
    /// One with a key for this suite.
    ///
    /// # Errors
    /// If we do not have the suite.
    pub fn new(suite: u16, mut rng: ChaCha20Rng) -> Result<Self, PeerError> {
        let provider = provider(suite, &mut rng);
        let suite = provider.suite(CipherSuite(suite)).ok_or(suite);
        let signer = suite
            .map_err(at("use a suite"))?
            .signature_key_pair(&mut rng);
        let psks = Psks::default();
        Ok(Self {
            provider,
            rng,
            psks,
            signer,
        })
    }

    /// Our public key.
    pub fn signature_key(&self) -> Vec<u8> {
        self.signer.public_key().to_vec()
    }

    /// Proposes as the external sender at `index`.
    ///
    /// # Errors
    /// Ours.
    pub fn propose(
        &mut self,
        group_info: &[u8],
        index: u32,
        change: &Change,
    ) -> Result<Vec<u8>, PeerError> {
        let context = group_context(group_info).map_err(at("find a group"))?;
        let proposal = match change {
            Change::Add(key_package) => match decode(key_package)? {
                MlsMessage::KeyPackage(key_package) => Proposal::add(*key_package),
                other => return Err(at("find the KeyPackage")(other)),
            },
            Change::Remove(leaf) => Proposal::remove(LeafIndex(*leaf)),
            Change::Extensions(list) => Proposal::group_context_extensions(raw_extensions(list)),
            _ => return Err(PeerError::missing(Peer::Ours, "propose from outside")),
        };
        let (to, signer) = (Destination::from(&context), &self.signer);
        propose_as_external_sender(&ctx!(self), &to, index, signer, proposal, b"")
            .map(|message| message.to_bytes())
            .map_err(at("propose from outside"))
    }
}
