//! Components' structures, field by field (draft-ietf-mls-extensions).

use super::structures::{
    Inspect, content, field, inspect_names, inspect_structs, named, text_or_bytes,
};
use super::{Field, List, Value};
use crate::code_point::WireFormat;
use crate::codec::{Bytes, Decode, DecodeError, Reader};
use crate::component::{
    AppAck, AppComponents, AppDataDictionary, ApplicationFraming, ComponentData, ComponentID,
    LastResortKeyPackage, MediaType, MediaTypeList, MessageRange, Parameter, RequiredWireFormats,
    SafeAAD, SafeAADItem, SafeAadComponents, SupportedWireFormats,
};
use crate::proposal::AppEphemeral;
use crate::psk::ApplicationPsk;
use crate::tree_math::LeafIndex;

inspect_structs! {
    AppAck { received_ranges: Vec<MessageRange> }
    AppComponents { component_ids: Vec<ComponentID> }
    ApplicationFraming { media_type: MediaType, inner_application_content: Bytes }
    ApplicationPsk { component_id: ComponentID, psk_id: Bytes }
    MessageRange { sender: LeafIndex, first_generation: u32, last_generation: u32 }
    RequiredWireFormats { wire_formats: Vec<WireFormat> }
    SafeAADItem { component_id: ComponentID, aad_item_data: Bytes }
    SafeAadComponents { component_ids: Vec<ComponentID> }
    SupportedWireFormats { wire_formats: Vec<WireFormat> }
}

inspect_names!(ComponentID, WireFormat);

impl Inspect for LastResortKeyPackage {
    fn read<'a>(_reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        const _: fn(LastResortKeyPackage) = |mark| {
            let LastResortKeyPackage {} = mark;
        };
        Ok(Value::Fields(Vec::new()))
    }
}

/// Data of one component in a list of all: the ids rise.
fn rising(body: &[u8], error: &'static str) -> Result<(), DecodeError> {
    let (mut rest, mut last) = (Reader::new(body), None);
    while !rest.is_empty() {
        let component_id = ComponentID::decode(&mut rest)?;
        rest.prefixed()?;
        if last.replace(component_id) >= Some(component_id) {
            return Err(DecodeError::InvalidValue(error));
        }
    }
    Ok(())
}

impl Inspect for AppDataDictionary {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        let body = reader.prefixed()?;
        rising(body, "component_data")?;
        List::checked(body, ComponentData::read).map(Value::List)
    }
}

impl Inspect for ComponentData {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        const _: fn(ComponentData) = |entry| {
            let ComponentData {
                component_id: _,
                data: _,
            } = entry;
        };
        read_component_data(reader)
    }
}

impl Inspect for AppEphemeral {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        const _: fn(AppEphemeral) = |ephemeral| {
            let AppEphemeral {
                component_id: _,
                data: _,
            } = ephemeral;
        };
        read_component_data(reader)
    }
}

fn read_component_data<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
    let component_id = ComponentID::decode(reader)?;
    let data = Field {
        name: "data",
        value: component_data(component_id, reader.prefixed()?),
    };
    Ok(Value::Fields(vec![
        named("component_id", &component_id),
        data,
    ]))
}

/// A component's data, in its own format where that is known.
fn component_data(component_id: ComponentID, data: &[u8]) -> Value<'_> {
    match component_id {
        ComponentID::APP_COMPONENTS => content::<AppComponents>(data),
        ComponentID::SAFE_AAD => content::<SafeAadComponents>(data),
        ComponentID::CONTENT_MEDIA_TYPES => content::<MediaTypeList>(data),
        ComponentID::LAST_RESORT_KEY_PACKAGE => content::<LastResortKeyPackage>(data),
        ComponentID::APP_ACK => content::<AppAck>(data),
        _ => Value::Bytes(data),
    }
}

impl Inspect for SafeAAD {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        let body = reader.prefixed()?;
        rising(body, "aad_items")?;
        List::checked(body, SafeAADItem::read).map(Value::List)
    }
}

impl Inspect for MediaTypeList {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        let body = reader.prefixed()?;
        if body.is_empty() {
            return Err(DecodeError::InvalidValue("media_type_list"));
        }
        List::checked(body, MediaType::read).map(Value::List)
    }
}

impl Inspect for MediaType {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        const _: fn(MediaType) = |media_type| {
            let MediaType {
                r#type: _,
                parameters: _,
            } = media_type;
        };
        let parameters = "parameters";
        Ok(Value::Fields(vec![
            text("type", reader)?,
            field::<Vec<Parameter>>(parameters, reader)?,
        ]))
    }
}

impl Inspect for Parameter {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
        const _: fn(Parameter) = |parameter| {
            let Parameter {
                parameter_name: _,
                parameter_value: _,
            } = parameter;
        };
        Ok(Value::Fields(vec![
            text("parameter_name", reader)?,
            text("parameter_value", reader)?,
        ]))
    }
}

fn text<'a>(name: &'static str, reader: &mut Reader<'a>) -> Result<Field<'a>, DecodeError> {
    let value = text_or_bytes(reader.prefixed()?);
    Ok(Field { name, value })
}
