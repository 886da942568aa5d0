//! `inspect`: any MLS message, field by field.

use std::fmt::{self, Display, Write};
use std::path::Path;

use folkmoot_mls::inspect::{Field, Value, inspect as fields_of};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::message::read_input;
use crate::error::CliError;
use crate::output::{Printer, Taming};

/// As long as a commit may be.
const LIMIT: u64 = folkmoot_protocol::limits::HANDSHAKE_MESSAGE as u64;

pub fn inspect(file: &Path, printer: &Printer) -> Result<(), CliError> {
    let (name, bytes) = read_input(file, LIMIT)?;
    let field = fields_of(&bytes).map_err(|error| CliError::NoMessage { name, error })?;
    printer.print(&Message(field)).map_err(CliError::Output)
}

struct Message<'a>(Field<'a>);

impl Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Taming(f), "{}", self.0)
    }
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0.name, &Data(&self.0.value))?;
        map.end()
    }
}

struct Data<'a>(&'a Value<'a>);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Number(number) => serializer.serialize_u64(*number),
            Value::Name(text) => serializer.serialize_str(text),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => serializer.collect_str(&Hex(bytes)),
            Value::List(values) => {
                // How many there are shows when they are read, one after the other.
                let mut list = serializer.serialize_seq(None)?;
                values
                    .clone()
                    .try_for_each(|value| list.serialize_element(&Data(&value)))?;
                list.end()
            }
            Value::Fields(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields
                    .iter()
                    .try_for_each(|field| map.serialize_entry(field.name, &Data(&field.value)))?;
                map.end()
            }
            Value::Absent => serializer.serialize_none(),
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
