//! How content is signed and travels (RFC 9420, section 6).
//!
//! [`FramedContent`] is what somebody says. Signed it is an [`AuthenticatedContent`], which goes out
//! as a [`PublicMessage`] or a [`PrivateMessage`].

mod content;
mod private_message;
mod public_message;
#[cfg(all(test, feature = "aws-lc"))]
mod tests;

pub use content::{
    AuthenticatedContent, Content, ContentType, FRAMED_CONTENT_TBS, FramedContent,
    FramedContentAuthData, PROPOSAL_REFERENCE, Sender,
};
pub use private_message::{PrivateMessage, SenderData, sender_data_key};
pub use public_message::PublicMessage;
