//! Text as a field of a stored structure.

use folkmoot_mls::codec::{Decode, DecodeError, Encode, Reader, encode_bytes};

/// UTF-8 with its length in front.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(pub String);

impl std::ops::Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Encode for Text {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self.0.as_bytes(), out);
    }
}

impl Decode for Text {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        std::str::from_utf8(reader.prefixed()?)
            .map(Self::from)
            .map_err(|_| DecodeError::InvalidValue("text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utf_8() {
        let text = Text::from("groß");
        assert_eq!(Text::from_bytes(&text.to_bytes()), Ok(text));
        let malformed = [1, 0xff];
        assert_eq!(
            Text::from_bytes(&malformed),
            Err(DecodeError::InvalidValue("text"))
        );
    }
}
