//! Content advertisement: which media types the members read, and of which one a message is
//! (draft-ietf-mls-extensions, section 6.2).

use std::fmt;

use super::{ComponentContent, ComponentID};
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use crate::leaf_node::LeafNode;

crate::tls_struct! {
    /// A parameter of a media type.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Parameter {
        /// Its name.
        pub parameter_name: Bytes,
        /// Its value, without quotation marks and without the backslashes that quote characters.
        pub parameter_value: Bytes,
    }
}

crate::tls_struct! {
    /// A media type of the IANA registry. Of no type at all, it stands for the first one that the
    /// group requires.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct MediaType {
        /// The type, `/` and the subtype.
        pub r#type: Bytes,
        /// The parameters.
        pub parameters: Vec<Parameter>,
    }
}

impl MediaType {
    /// A type without parameters, such as `text/plain`.
    #[must_use]
    pub fn new(r#type: &str) -> Self {
        Self {
            r#type: r#type.as_bytes().into(),
            parameters: Vec::new(),
        }
    }

    /// The same with one parameter more.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push(Parameter {
            parameter_name: name.as_bytes().into(),
            parameter_value: value.as_bytes().into(),
        });
        self
    }

    /// Whether both are the same: type and names of parameters without regard to case, values with
    /// it, in any order (RFC 2045, section 5.1).
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let has = |parameters: &[Parameter], wanted: &Parameter| {
            parameters.iter().any(|parameter| {
                let (name, wanted_name) = (&parameter.parameter_name, &wanted.parameter_name);
                name.eq_ignore_ascii_case(wanted_name)
                    && parameter.parameter_value == wanted.parameter_value
            })
        };
        self.r#type.eq_ignore_ascii_case(&other.r#type)
            && self.parameters.len() == other.parameters.len()
            && self.parameters.iter().all(|p| has(&other.parameters, p))
            && other.parameters.iter().all(|p| has(&self.parameters, p))
    }
}

/// As in a Content-Type line: values are quoted. Bytes that are no printable ASCII are escaped.
impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.r#type.escape_ascii())?;
        for parameter in &self.parameters {
            let name = parameter.parameter_name.escape_ascii();
            let value = parameter.parameter_value.escape_ascii();
            write!(f, ";{name}=\"{value}\"")?;
        }
        Ok(())
    }
}

/// `content_media_types`: at least one media type. In a LeafNode, those that the client reads; in a
/// GroupContext, those that each member has to read, and then all application data of the group is
/// an [`ApplicationFraming`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaTypeList {
    first: MediaType,
    rest: Vec<MediaType>,
}

impl MediaTypeList {
    /// The list of one type.
    #[must_use]
    pub fn new(first: MediaType) -> Self {
        Self {
            first,
            rest: Vec::new(),
        }
    }

    /// The same with one type more.
    #[must_use]
    pub fn with(mut self, media_type: MediaType) -> Self {
        self.rest.push(media_type);
        self
    }

    /// What content is that says no type.
    #[must_use]
    pub fn first(&self) -> &MediaType {
        &self.first
    }

    /// The types, in order.
    pub fn iter(&self) -> impl Iterator<Item = &MediaType> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// Of these types, which a group requires, the first that a client does not advertise. A committer
    /// adds nobody who lacks one, unless it knows better (section 6.2.3).
    #[must_use]
    pub fn lacking_in(&self, leaf_node: &LeafNode) -> Option<&MediaType> {
        let supported: Option<Self> = leaf_node.extensions.component().ok().flatten();
        self.iter().find(|wanted| {
            let mut supported = supported.iter().flat_map(Self::iter);
            !supported.any(|supported| supported.is_same(wanted))
        })
    }
}

impl Encode for MediaTypeList {
    fn encode(&self, out: &mut Vec<u8>) {
        crate::codec::encode_prefixed(out, |out| self.iter().for_each(|one| one.encode(out)));
    }
}

impl Decode for MediaTypeList {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut list = Vec::<MediaType>::decode(reader)?.into_iter();
        let first = list
            .next()
            .ok_or(DecodeError::InvalidValue("media_type_list"))?;
        let rest = list.collect();
        Ok(Self { first, rest })
    }
}

impl ComponentContent for MediaTypeList {
    const COMPONENT_ID: ComponentID = ComponentID::CONTENT_MEDIA_TYPES;
}

crate::tls_struct! {
    /// Application data of a group that requires media types.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ApplicationFraming {
        /// What the content is.
        pub media_type: MediaType,
        /// The content.
        pub inner_application_content: Bytes,
    }
}

impl ApplicationFraming {
    /// What the content is, in a group that requires these types.
    #[must_use]
    pub fn media_type_in<'a>(&'a self, required: &'a MediaTypeList) -> &'a MediaType {
        if self.media_type.r#type.is_empty() {
            required.first()
        } else {
            &self.media_type
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> MediaType {
        MediaType::new("text/plain").with_parameter("charset", "UTF-8")
    }

    #[test]
    fn a_list_has_at_least_one_type() {
        let list = MediaTypeList::new(text()).with(MediaType::new("image/png"));
        assert_eq!(MediaTypeList::from_bytes(&list.to_bytes()), Ok(list));
        assert_eq!(
            MediaTypeList::from_bytes(&[0]),
            Err(DecodeError::InvalidValue("media_type_list"))
        );
        let bytes = b"\x1a\x0atext/plain\x0e\x07charset\x05UTF-8";
        assert_eq!(text().to_bytes(), bytes[1..]);
    }

    #[test]
    fn content_without_a_type_is_of_the_first_that_is_required() {
        let required = MediaTypeList::new(text()).with(MediaType::new("image/png"));
        let framing = |media_type| ApplicationFraming {
            media_type,
            inner_application_content: Bytes::from([1]),
        };
        let bytes = framing(MediaType::default()).to_bytes();
        assert_eq!(bytes, [0, 0, 1, 1]);
        let untyped = ApplicationFraming::from_bytes(&bytes).unwrap();
        assert_eq!(untyped.media_type_in(&required), &text());
        let json = framing(MediaType::new("application/json"));
        assert_eq!(json.media_type_in(&required), &json.media_type);
    }

    #[test]
    fn types_are_compared_as_media_types_are() {
        let shout = MediaType::new("TEXT/Plain").with_parameter("CharSet", "UTF-8");
        assert!(text().is_same(&shout));
        for other in [
            MediaType::new("text/plain"),
            MediaType::new("text/plain").with_parameter("charset", "utf-8"),
            MediaType::new("text/html").with_parameter("charset", "UTF-8"),
            text().with_parameter("format", "flowed"),
        ] {
            assert!(!text().is_same(&other), "{other}");
            assert!(!other.is_same(&text()), "{other}");
        }
        let odd = text().with_parameter("x", "\"\x1b");
        let shown = "text/plain;charset=\"UTF-8\";x=\"\\\"\\x1b\"";
        assert_eq!(odd.to_string(), shown);
    }
}
