//! `transcript-hashes`: what a commit does to the running hashes.

use folkmoot_mls::codec::Decode;
use folkmoot_mls::crypto::Suite;
use folkmoot_mls::framing::{AuthenticatedContent, ContentType};
use folkmoot_mls::transcript::{
    confirmed_transcript_hash, interim_transcript_hash, verify_confirmation_tag,
};
use serde::Deserialize;

use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    confirmation_key: Hex,
    authenticated_content: Hex,
    interim_transcript_hash_before: Hex,
    confirmed_transcript_hash_after: Hex,
    interim_transcript_hash_after: Hex,
}

impl Case {
    /// Computes both hashes and verifies the tag.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self, suite: &dyn Suite) -> Result<(), Failure> {
        let commit = AuthenticatedContent::from_bytes(&self.authenticated_content)?;
        let content_type = commit.content.content.content_type();
        check(content_type == ContentType::Commit, "content_type")?;
        let tag = commit.auth.confirmation_tag.as_ref();
        let tag = tag.ok_or(Failure::Mismatch("confirmation_tag"))?;
        let before = &self.interim_transcript_hash_before;
        let confirmed = confirmed_transcript_hash(suite, before, &commit);
        check(
            *confirmed == *self.confirmed_transcript_hash_after,
            "confirmed_transcript_hash_after",
        )?;
        verify_confirmation_tag(suite, &self.confirmation_key, &confirmed, tag)?;
        check(
            *interim_transcript_hash(suite, &confirmed, tag) == *self.interim_transcript_hash_after,
            "interim_transcript_hash_after",
        )
    }
}
