//! Proofs that the log has, or never had, something: look-ups and histories.
//!
//! The library checks them; what is here is their encoding, and bounds on what may reach the
//! library. A step of a path names the length of the parent's label only: the label is the child's,
//! cut off there, and its next bit says on which side the child is.

use akd_core::verify::history::HistoryParams;
use akd_core::verify::{HistoryVerificationParams, key_history_verify, lookup_verify};
use akd_core::{
    AkdValue, AzksElement, AzksValue, Configuration, Direction, MembershipProof, NodeLabel,
    NonMembershipProof, SiblingProof, UpdateProof,
};
use folkmoot_mls::codec::{Decode, DecodeError, Encode, Reader, encode_length};

use super::{Hashing, LogError, LogHead, LogLabel};

/// The largest proof of a look-up that is read, in bytes. In a log of 10,000 users one has 2.4 KB.
pub const MAX_LOOK_UP_PROOF: usize = 64 << 10;

/// The largest proof of a history that is read, in bytes.
pub const MAX_HISTORY_PROOF: usize = 2 << 20;

/// The most versions that one history shows.
pub const MAX_VERSIONS: usize = 64;

/// Stands for the label of a child that is not there; the others are at most 256 bits long.
const NO_LABEL: u16 = u16::MAX;

/// What a proof shows to stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The epoch in which it came.
    pub epoch: u64,
    /// How many values the label has had by then, this one included.
    pub version: u64,
    /// The value.
    pub value: [u8; 32],
}

/// Shows that a value is the latest at its label.
#[derive(Clone, Debug, PartialEq)]
pub struct LookUpProof(akd_core::LookupProof);

impl LookUpProof {
    /// Wraps what the library has made: the AS's part.
    #[must_use]
    pub fn new(proof: akd_core::LookupProof) -> Self {
        Self(proof)
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Self, LogError> {
        if bytes.len() > MAX_LOOK_UP_PROOF {
            return Err(LogError::TooLarge);
        }
        Ok(Self::from_bytes(bytes)?)
    }

    /// Checks that under `head` the latest value of `label` is `value`.
    ///
    /// # Errors
    /// [`LogError::WrongValue`] if the proof is about another value, else [`LogError::BadProof`].
    pub fn verify(
        self,
        head: &LogHead,
        label: &LogLabel,
        value: &[u8; 32],
    ) -> Result<Published, LogError> {
        if self.0.value.0 != value {
            return Err(LogError::WrongValue);
        }
        // The library counts on it.
        if self.0.version == 0 || self.0.epoch > head.epoch {
            return Err(LogError::BadProof);
        }
        let (key, label) = (&head.vrf_key, label.akd());
        lookup_verify::<Hashing>(key, head.root, head.epoch, label, self.0)
            .map_err(|_| LogError::BadProof)
            .and_then(published)
    }
}

/// Shows the values that a label has had lately, and that there is no later one.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryProof(akd_core::HistoryProof);

impl HistoryProof {
    /// Wraps what the library has made: the AS's part.
    #[must_use]
    pub fn new(proof: akd_core::HistoryProof) -> Self {
        Self(proof)
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Self, LogError> {
        if bytes.len() > MAX_HISTORY_PROOF {
            return Err(LogError::TooLarge);
        }
        Ok(Self::from_bytes(bytes)?)
    }

    /// Checks that under `head` these are the latest values of `label`, and gives them, the latest
    /// one first. There are [`MAX_VERSIONS`], or all.
    ///
    /// # Errors
    /// [`LogError::BadProof`].
    pub fn verify(self, head: &LogHead, label: &LogLabel) -> Result<Vec<Published>, LogError> {
        // The library counts on it.
        let mut updates = self.0.update_proofs.iter();
        if updates
            .any(|update| !(1..=head.epoch).contains(&update.version) || update.epoch > head.epoch)
        {
            return Err(LogError::BadProof);
        }
        let params = HistoryVerificationParams::Default {
            history_params: HistoryParams::MostRecent(MAX_VERSIONS),
        };
        let (key, label) = (&head.vrf_key, label.akd());
        key_history_verify::<Hashing>(key, head.root, head.epoch, label, self.0, params)
            .map_err(|_| LogError::BadProof)?
            .into_iter()
            .map(published)
            .collect()
    }
}

fn published(result: akd_core::VerifyResult) -> Result<Published, LogError> {
    let value = result.value.0.try_into();
    Ok(Published {
        epoch: result.epoch,
        version: result.version,
        value: value.map_err(|_| LogError::BadProof)?,
    })
}

/// The 80 bytes of a VRF's proof.
type Vrf = [u8; 80];

fn encode_vrf(proof: &[u8], out: &mut Vec<u8>) {
    debug_assert_eq!(proof.len(), 80);
    out.extend_from_slice(proof);
}

fn decode_vrf(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    Vrf::decode(reader).map(Vec::from)
}

pub(super) fn encode_label(label: &NodeLabel, out: &mut Vec<u8>) {
    if *label == Hashing::empty_label() {
        return NO_LABEL.encode(out);
    }
    let length = label.label_len.min(256);
    (length as u16).encode(out);
    out.extend_from_slice(&label.label_val[..length.div_ceil(8) as usize]);
}

/// Bits behind the label's end must be zero.
pub(super) fn decode_label(reader: &mut Reader<'_>) -> Result<NodeLabel, DecodeError> {
    let length = u16::decode(reader)?;
    if length == NO_LABEL {
        return Ok(Hashing::empty_label());
    }
    if length > 256 {
        return Err(DecodeError::InvalidValue("label"));
    }
    let mut value = [0; 32];
    let bytes = reader.take(usize::from(length.div_ceil(8)))?;
    value[..bytes.len()].copy_from_slice(bytes);
    let label = NodeLabel::new(value, length.into());
    if label.get_prefix(length.into()) == label {
        Ok(label)
    } else {
        Err(DecodeError::InvalidValue("label"))
    }
}

pub(super) fn encode_element(element: &AzksElement, out: &mut Vec<u8>) {
    encode_label(&element.label, out);
    element.value.0.encode(out);
}

pub(super) fn decode_element(reader: &mut Reader<'_>) -> Result<AzksElement, DecodeError> {
    Ok(AzksElement {
        label: decode_label(reader)?,
        value: AzksValue(reader.array()?),
    })
}

/// Whether the bit behind the first `length` is set.
pub(super) fn bit(label: &NodeLabel, length: u32) -> bool {
    let byte = label.label_val.get(length as usize / 8);
    byte.is_some_and(|byte| byte >> (7 - length % 8) & 1 == 1)
}

fn encode_membership(proof: &MembershipProof, out: &mut Vec<u8>) {
    encode_label(&proof.label, out);
    proof.hash_val.0.encode(out);
    encode_length(proof.sibling_proofs.len(), out);
    for step in &proof.sibling_proofs {
        (step.label.label_len.min(256) as u16).encode(out);
        encode_element(&step.siblings[0], out);
    }
}

fn decode_membership(reader: &mut Reader<'_>) -> Result<MembershipProof, DecodeError> {
    let label = decode_label(reader)?;
    let hash_val = AzksValue(reader.array()?);
    let mut above = None;
    let sibling_proofs = decode_list(reader, 256, |reader| {
        let length = u32::from(u16::decode(reader)?);
        // From the root down.
        if length >= label.label_len || above.replace(length).is_some_and(|above| above >= length) {
            return Err(DecodeError::InvalidValue("path"));
        }
        let direction = if bit(&label, length) {
            Direction::Right
        } else {
            Direction::Left
        };
        Ok(SiblingProof {
            label: label.get_prefix(length),
            siblings: [decode_element(reader)?],
            direction,
        })
    })?;
    Ok(MembershipProof {
        label,
        hash_val,
        sibling_proofs,
    })
}

fn encode_non_membership(proof: &NonMembershipProof, out: &mut Vec<u8>) {
    encode_label(&proof.label, out);
    let [left, right] = &proof.longest_prefix_children;
    encode_element(left, out);
    encode_element(right, out);
    encode_membership(&proof.longest_prefix_membership_proof, out);
}

fn decode_non_membership(reader: &mut Reader<'_>) -> Result<NonMembershipProof, DecodeError> {
    let label = decode_label(reader)?;
    let longest_prefix_children = [decode_element(reader)?, decode_element(reader)?];
    let longest_prefix_membership_proof = decode_membership(reader)?;
    Ok(NonMembershipProof {
        label,
        longest_prefix: longest_prefix_membership_proof.label,
        longest_prefix_children,
        longest_prefix_membership_proof,
    })
}

/// So many elements, each of which takes some bytes: memory is bounded by what is there to read.
pub(super) fn decode_list<T>(
    reader: &mut Reader<'_>,
    most: usize,
    mut decode: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = folkmoot_mls::codec::decode_length(reader)?;
    if count > most {
        return Err(DecodeError::InvalidValue("count"));
    }
    (0..count).map(|_| decode(reader)).collect()
}

/// A value is a hash, and so is a nonce.
fn encode_hash(hash: &[u8], out: &mut Vec<u8>) {
    debug_assert_eq!(hash.len(), 32);
    out.extend_from_slice(hash);
}

fn decode_hash(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    <[u8; 32]>::decode(reader).map(Vec::from)
}

impl Encode for LookUpProof {
    fn encode(&self, out: &mut Vec<u8>) {
        let proof = &self.0;
        proof.epoch.encode(out);
        proof.version.encode(out);
        encode_hash(&proof.value, out);
        encode_hash(&proof.commitment_nonce, out);
        encode_vrf(&proof.existence_vrf_proof, out);
        encode_membership(&proof.existence_proof, out);
        encode_vrf(&proof.marker_vrf_proof, out);
        encode_membership(&proof.marker_proof, out);
        encode_vrf(&proof.freshness_vrf_proof, out);
        encode_non_membership(&proof.freshness_proof, out);
    }
}

impl Decode for LookUpProof {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(akd_core::LookupProof {
            epoch: u64::decode(reader)?,
            version: u64::decode(reader)?,
            value: AkdValue(decode_hash(reader)?),
            commitment_nonce: decode_hash(reader)?,
            existence_vrf_proof: decode_vrf(reader)?,
            existence_proof: decode_membership(reader)?,
            marker_vrf_proof: decode_vrf(reader)?,
            marker_proof: decode_membership(reader)?,
            freshness_vrf_proof: decode_vrf(reader)?,
            freshness_proof: decode_non_membership(reader)?,
        }))
    }
}

fn encode_update(update: &UpdateProof, out: &mut Vec<u8>) {
    update.epoch.encode(out);
    update.version.encode(out);
    encode_hash(&update.value, out);
    encode_hash(&update.commitment_nonce, out);
    encode_vrf(&update.existence_vrf_proof, out);
    encode_membership(&update.existence_proof, out);
    match (
        &update.previous_version_vrf_proof,
        &update.previous_version_proof,
    ) {
        (Some(vrf), Some(proof)) => {
            true.encode(out);
            encode_vrf(vrf, out);
            encode_membership(proof, out);
        }
        _ => false.encode(out),
    }
}

fn decode_update(reader: &mut Reader<'_>) -> Result<UpdateProof, DecodeError> {
    let mut update = UpdateProof {
        epoch: u64::decode(reader)?,
        version: u64::decode(reader)?,
        value: AkdValue(decode_hash(reader)?),
        commitment_nonce: decode_hash(reader)?,
        existence_vrf_proof: decode_vrf(reader)?,
        existence_proof: decode_membership(reader)?,
        previous_version_vrf_proof: None,
        previous_version_proof: None,
    };
    if bool::decode(reader)? {
        update.previous_version_vrf_proof = Some(decode_vrf(reader)?);
        update.previous_version_proof = Some(decode_membership(reader)?);
    }
    Ok(update)
}

impl Encode for HistoryProof {
    fn encode(&self, out: &mut Vec<u8>) {
        let proof = &self.0;
        encode_length(proof.update_proofs.len(), out);
        for update in &proof.update_proofs {
            encode_update(update, out);
        }
        encode_length(proof.existence_of_past_marker_proofs.len(), out);
        let past = proof.past_marker_vrf_proofs.iter();
        for (vrf, proof) in past.zip(&proof.existence_of_past_marker_proofs) {
            encode_vrf(vrf, out);
            encode_membership(proof, out);
        }
        encode_length(proof.non_existence_of_future_marker_proofs.len(), out);
        let future = proof.future_marker_vrf_proofs.iter();
        for (vrf, proof) in future.zip(&proof.non_existence_of_future_marker_proofs) {
            encode_vrf(vrf, out);
            encode_non_membership(proof, out);
        }
    }
}

impl Decode for HistoryProof {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let update_proofs = decode_list(reader, MAX_VERSIONS, decode_update)?;
        let past = decode_list(reader, 256, |reader| {
            Ok((decode_vrf(reader)?, decode_membership(reader)?))
        })?;
        let future = decode_list(reader, 256, |reader| {
            Ok((decode_vrf(reader)?, decode_non_membership(reader)?))
        })?;
        let (past_marker_vrf_proofs, existence_of_past_marker_proofs) = past.into_iter().unzip();
        let (future_marker_vrf_proofs, non_existence_of_future_marker_proofs) =
            future.into_iter().unzip();
        Ok(Self(akd_core::HistoryProof {
            update_proofs,
            past_marker_vrf_proofs,
            existence_of_past_marker_proofs,
            future_marker_vrf_proofs,
            non_existence_of_future_marker_proofs,
        }))
    }
}
