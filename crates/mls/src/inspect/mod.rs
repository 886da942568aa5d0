//! Any MLS message, and evidence of one, field by field, for people and for programs that write it down.
//!
//! [`inspect`] gives a [`Field`], which prints itself as indented text. Names are the RFC's. Nothing is
//! decrypted or verified: it says what the bytes say. Authenticated data and application data may be any
//! bytes; if they can be read as a [`SafeAAD`] or an [`ApplicationFraming`] (draft-ietf-mls-extensions,
//! sections 4.9 and 6.2), they are shown as such beside the bytes.
//!
//! Messages to inspect are often those that somebody suspects. So nothing is decoded into memory: a
//! [`Value`] borrows from the bytes, and a [`List`] reads an item when its turn comes. What is taken
//! depends on how deep structures lie in each other, which the RFC fixes, and not on the message's size.
//!
//! [`SafeAAD`]: crate::component::SafeAAD
//! [`ApplicationFraming`]: crate::component::ApplicationFraming

mod components;
mod structures;

use std::fmt;

use crate::codec::{DecodeError, Reader};
use crate::evidence::Evidence;
use crate::message::MlsMessage;

/// A name and what it stands for.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// The field's name in the RFC.
    pub name: &'static str,
    /// What it holds.
    pub value: Value<'a>,
}

/// What a field holds.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// A number.
    Number(u64),
    /// A registry's name for a number, or the number where it has none.
    Name(String),
    /// Bytes that are text, at least by their look.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A vector.
    List(List<'a>),
    /// A structure.
    Fields(Vec<Field<'a>>),
    /// An optional value that is absent.
    Absent,
}

/// A vector, whose items are read one at a time.
#[derive(Clone, Debug)]
pub struct List<'a> {
    body: Reader<'a>,
    item: Read,
}

/// Reads one value.
type Read = for<'a> fn(&mut Reader<'a>) -> Result<Value<'a>, DecodeError>;

impl<'a> List<'a> {
    /// A vector whose items can all be read.
    fn checked(body: &'a [u8], item: Read) -> Result<Self, DecodeError> {
        let body = Reader::new(body);
        let mut rest = body.clone();
        while !rest.is_empty() {
            item(&mut rest)?;
        }
        Ok(Self { body, item })
    }

    /// Whether it has no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

/// Gives the items from the first to the last.
impl<'a> Iterator for List<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.body.is_empty() {
            return None;
        }
        // No item fails, since all were read once before.
        (self.item)(&mut self.body).ok()
    }
}

/// Gives an encoded `MLSMessage`, or an [`Evidence`], field by field.
///
/// # Errors
/// [`DecodeError`]: the bytes are neither; it says what they lack as a message.
///
/// ```
/// use folkmoot_mls::inspect::inspect;
///
/// assert!(inspect(b"no message").is_err());
/// ```
pub fn inspect(bytes: &[u8]) -> Result<Field<'_>, DecodeError> {
    whole::<MlsMessage>("MLSMessage", bytes)
        .or_else(|error| whole::<Evidence>("Evidence", bytes).map_err(|_| error))
}

fn whole<'a, T: structures::Inspect>(
    name: &'static str,
    bytes: &'a [u8],
) -> Result<Field<'a>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let field = structures::field::<T>(name, &mut reader)?;
    reader.finish()?;
    Ok(field)
}

/// Bytes of a longer value that are shown in text.
const SHOWN_BYTES: usize = 40;

/// Indented lines, one for each field, with no end of line behind the last. Long values are cut, with
/// their length behind.
impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl Field<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        write!(f, "{:indent$}{}:", "", self.name, indent = depth * 2)?;
        self.value.write(f, depth)
    }
}

impl Value<'_> {
    /// Writes what follows the colon after a name at `depth`.
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, " {number}"),
            Self::Name(name) => write!(f, " {name}"),
            Self::Text(text) => write!(f, " {text:?}"),
            Self::Absent => write!(f, " absent"),
            Self::Bytes([]) => write!(f, " empty"),
            Self::Bytes(bytes) => {
                f.write_str(" ")?;
                bytes
                    .iter()
                    .take(SHOWN_BYTES)
                    .try_for_each(|byte| write!(f, "{byte:02x}"))?;
                let dots = if bytes.len() > SHOWN_BYTES { "..." } else { "" };
                write!(f, "{dots} ({} bytes)", bytes.len())
            }
            Self::List(items) if items.is_empty() => write!(f, " none"),
            Self::List(items) => items.clone().enumerate().try_for_each(|(place, item)| {
                write!(f, "\n{:indent$}[{place}]:", "", indent = depth * 2 + 2)?;
                item.write(f, depth + 1)
            }),
            Self::Fields(fields) => fields.iter().try_for_each(|field| {
                writeln!(f)?;
                field.write(f, depth + 1)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::structures::field;
    use super::*;
    use crate::codec::{Bytes, Encode};
    use crate::component::{ApplicationFraming, MediaType, SafeAAD};
    use crate::credential::Credential;
    use crate::extension::{ApplicationId, ExtensionType, Extensions};
    use crate::framing::{Content, ContentType, FramedContent, PrivateMessage, Sender};
    use crate::tree_math::LeafIndex;

    #[test]
    fn a_message_is_shown_with_the_names_of_the_rfc() {
        let message = MlsMessage::PrivateMessage(PrivateMessage {
            group_id: Bytes::from([0xab; 32]),
            epoch: 7,
            content_type: ContentType::Commit,
            authenticated_data: Bytes::default(),
            encrypted_sender_data: Bytes::from([4; 28]),
            ciphertext: Bytes::from([5; 99]),
        });
        let text = inspect(&message.to_bytes()).unwrap().to_string();
        let expected = "\
MLSMessage:
  version: mls10
  wire_format: mls_private_message
  private_message:
    group_id: abababababababababababababababababababababababababababababababab (32 bytes)
    epoch: 7
    content_type: commit
    authenticated_data: empty
";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with("... (99 bytes)"), "{text}");
    }

    #[test]
    fn identities_that_could_disturb_a_terminal_stay_bytes() {
        let shown = |identity: &[u8]| {
            let bytes = Credential::basic(identity).to_bytes();
            let field = field::<Credential>("credential", &mut Reader::new(&bytes)).unwrap();
            field.to_string()
        };
        assert!(shown(b"alice").ends_with("identity: \"alice\""));
        assert!(shown(b"\x1b[2J").ends_with("identity: 1b5b324a (4 bytes)"));
        assert!(shown(&[0xff]).ends_with("identity: ff (1 bytes)"));
    }

    #[test]
    fn a_known_extension_is_shown_decoded() {
        let id = ApplicationId {
            application_id: Bytes::from([1]),
        };
        let mut extensions = Extensions::default().with(&id);
        extensions.set_data(ExtensionType::EXTERNAL_SENDERS, vec![9]);
        let bytes = extensions.to_bytes();
        let shown = field::<Extensions>("extensions", &mut Reader::new(&bytes)).unwrap();
        let expected = "\
extensions:
  [0]:
    extension_type: application_id
    extension_data:
      application_id: 01 (1 bytes)
  [1]:
    extension_type: external_senders
    extension_data: 09 (1 bytes)";
        assert_eq!(shown.to_string(), expected);
    }

    /// What is shown below a name, line by line.
    fn below<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let lines = text.lines().skip_while(|line| line.trim_start() != name);
        let depth = |line: &str| line.len() - line.trim_start().len();
        let mut lines = lines.peekable();
        let start = lines.next().map_or(usize::MAX, depth);
        lines
            .take_while(|line| depth(line) > start)
            .map(str::trim_start)
            .collect()
    }

    #[test]
    fn authenticated_data_is_shown_as_safe_aad_if_it_can_be_one() {
        let component = crate::component::ComponentID;
        let aad = SafeAAD::default()
            .with(component(0x8001), [7])
            .with(component(0x8002), []);
        let message = |authenticated_data: &[u8]| {
            MlsMessage::PrivateMessage(PrivateMessage {
                group_id: Bytes::from([1]),
                epoch: 7,
                content_type: ContentType::Commit,
                authenticated_data: authenticated_data.into(),
                encrypted_sender_data: Bytes::from([4]),
                ciphertext: Bytes::from([5]),
            })
        };
        let shown = |data: &[u8]| inspect(&message(data).to_bytes()).unwrap().to_string();
        let bytes = aad.to_bytes();
        let text = shown(&bytes);
        assert!(text.contains("authenticated_data: 0780010107800200 (8 bytes)"));
        let name = "authenticated_data as SafeAAD:";
        let items = [
            "[0]:",
            "component_id: 0x8001",
            "aad_item_data: 07 (1 bytes)",
            "[1]:",
            "component_id: 0x8002",
            "aad_item_data: empty",
        ];
        assert_eq!(below(&text, name), items);
        // A list of nothing is one too.
        assert!(shown(&[0]).contains("authenticated_data as SafeAAD: none\n"));
        // Not empty data, nor data with more behind, nor with less, nor out of order, nor just anything.
        let longer = [&bytes[..], &[0]].concat();
        let unsorted = b"\x06\x80\x02\x00\x80\x01\x00";
        for other in [&[][..], &longer, &bytes[..7], unsorted, b"from the app"] {
            let text = shown(other);
            assert!(text.contains("authenticated_data: ") && !text.contains("SafeAAD"));
        }
        // In clear it stands in the FramedContent.
        let content = framed(&bytes, b"").to_bytes();
        let shown = field::<FramedContent>("content", &mut Reader::new(&content)).unwrap();
        assert_eq!(below(&shown.to_string(), name), items);
    }

    #[test]
    fn application_data_is_shown_as_application_framing_if_it_can_be_one() {
        let shown = |data: &[u8]| {
            let bytes = framed(b"", data).to_bytes();
            let mut reader = Reader::new(&bytes);
            let field = field::<FramedContent>("content", &mut reader).unwrap();
            assert!(reader.is_empty());
            field.to_string()
        };
        let framing = ApplicationFraming {
            media_type: MediaType::new("text/plain").with_parameter("charset", "utf-8"),
            inner_application_content: Bytes::from(*b"hi"),
        };
        let bytes = framing.to_bytes();
        let text = shown(&bytes);
        assert!(text.contains("application_data: 0a746578742f706c61696e"));
        assert_eq!(
            below(&text, "application_data as ApplicationFraming:"),
            [
                "media_type:",
                "type: \"text/plain\"",
                "parameters:",
                "[0]:",
                "parameter_name: \"charset\"",
                "parameter_value: \"utf-8\"",
                "inner_application_content: 6869 (2 bytes)",
            ]
        );
        let longer = [&bytes[..], &[0]].concat();
        for other in [&[][..], &longer, &bytes[1..], b"just a word"] {
            let text = shown(other);
            assert!(text.contains("application_data: ") && !text.contains("Framing"));
        }
    }

    fn framed(authenticated_data: &[u8], application_data: &[u8]) -> FramedContent {
        FramedContent {
            group_id: Bytes::from([1]),
            epoch: 7,
            sender: Sender::Member(LeafIndex(2)),
            authenticated_data: authenticated_data.into(),
            content: Content::Application(application_data.into()),
        }
    }

    #[test]
    fn items_are_read_when_their_turn_comes() {
        let bytes = vec![7_u64, 8].to_bytes();
        let shown = field::<Vec<u64>>("numbers", &mut Reader::new(&bytes)).unwrap();
        let Value::List(mut items) = shown.value else {
            panic!("a list")
        };
        assert!(matches!(items.next(), Some(Value::Number(7))));
        assert!(matches!(items.next(), Some(Value::Number(8))));
        assert!(items.next().is_none());

        // A list with an item that cannot be read is refused at once.
        let cut = [9, 0, 0, 0, 0, 0, 0, 0, 7, 0];
        let refused = field::<Vec<u64>>("numbers", &mut Reader::new(&cut));
        assert_eq!(refused.unwrap_err(), DecodeError::Truncated);
    }
}
