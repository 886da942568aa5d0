//! Declaring structures once, in the order and with the names of the RFC.

/// Declares a struct whose encoding is its fields in order.
#[macro_export]
macro_rules! tls_struct {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $( $(#[$field_meta])* $field_vis $field: $type ),*
        }

        impl $crate::codec::Encode for $name {
            #[allow(unused_variables)] // A struct may be empty.
            fn encode(&self, out: &mut Vec<u8>) {
                $( $crate::codec::Encode::encode(&self.$field, out); )*
            }
        }

        impl $crate::codec::Decode for $name {
            #[allow(unused_variables)]
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                $( let $field = $crate::codec::Decode::decode(reader)?; )*
                Ok(Self { $($field),* })
            }

            #[allow(unused_variables)]
            fn skip(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<(), $crate::codec::DecodeError> {
                $( <$type as $crate::codec::Decode>::skip(reader)?; )*
                Ok(())
            }
        }
    };
}

/// Declares an enum whose encoding is a number in front of the variant's fields, as in the RFC's
/// `select`. A variant holds one structure or none.
#[macro_export]
macro_rules! tls_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident : $repr:ty {
            $( $(#[$variant_meta:meta])* $variant:ident $( ( $type:ty ) )? = $value:literal ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis enum $name {
            $( $(#[$variant_meta])* $variant $( ($type) )? ),*
        }

        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $( $crate::tls_enum!(@pattern $variant inner $( ($type) )?) => {
                        <$repr as $crate::codec::Encode>::encode(&$value, out);
                        $( <$type as $crate::codec::Encode>::encode(inner, out); )?
                    } )*
                }
            }
        }

        impl $crate::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                Ok(match <$repr as $crate::codec::Decode>::decode(reader)? {
                    $( $value => Self::$variant
                        $( (<$type as $crate::codec::Decode>::decode(reader)?) )?, )*
                    _ => return Err($crate::codec::DecodeError::InvalidValue(stringify!($name))),
                })
            }

            fn skip(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<(), $crate::codec::DecodeError> {
                match <$repr as $crate::codec::Decode>::decode(reader)? {
                    $( $value => { $( <$type as $crate::codec::Decode>::skip(reader)?; )? } )*
                    _ => return Err($crate::codec::DecodeError::InvalidValue(stringify!($name))),
                }
                Ok(())
            }
        }
    };
    (@pattern $variant:ident $inner:ident ($type:ty)) => { Self::$variant($inner) };
    (@pattern $variant:ident $inner:ident) => { Self::$variant };
}

#[cfg(test)]
mod tests {
    use crate::codec::{Bytes, Decode, DecodeError, Encode};

    tls_struct! {
        #[derive(Debug, PartialEq)]
        struct Pair { a: u16, b: Bytes }
    }

    tls_enum! {
        #[derive(Debug, PartialEq)]
        enum Choice: u8 { Nothing = 1, Some(Pair) = 2 }
    }

    #[test]
    fn structures_are_their_fields_in_order() {
        let value = Choice::Some(Pair {
            a: 3,
            b: Bytes::from([9]),
        });
        assert_eq!(value.to_bytes(), [2, 0, 3, 1, 9]);
        assert_eq!(Choice::from_bytes(&[2, 0, 3, 1, 9]).unwrap(), value);
        assert_eq!(Choice::from_bytes(&[1]).unwrap(), Choice::Nothing);
        assert_eq!(
            Choice::from_bytes(&[9]),
            Err(DecodeError::InvalidValue("Choice"))
        );
    }
}
