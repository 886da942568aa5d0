//! Components' structures, field by field (draft-ietf-mls-extensions).

use super::{Field, Inspect, Value, content, field, text_or_bytes};
use crate::code_point::WireFormat;
use crate::codec::Bytes;
use crate::component::{
    AppAck, AppComponents, AppDataDictionary, ApplicationFraming, ComponentID,
    LastResortKeyPackage, MediaType, MediaTypeList, MessageRange, Parameter, RequiredWireFormats,
    SafeAAD, SafeAADItem, SafeAadComponents, SupportedWireFormats,
};
use crate::psk::ApplicationPsk;

inspect_structs! {
    AppAck { received_ranges }
    AppComponents { component_ids }
    ApplicationFraming { media_type, inner_application_content }
    ApplicationPsk { component_id, psk_id }
    LastResortKeyPackage { }
    RequiredWireFormats { wire_formats }
    SafeAADItem { component_id, aad_item_data }
    SafeAadComponents { component_ids }
    SupportedWireFormats { wire_formats }
}

inspect_names!(ComponentID, WireFormat);

impl Inspect for AppDataDictionary {
    fn value(&self) -> Value {
        let entries = self.iter().map(|(id, data)| {
            let data = component_data(id, data);
            Value::Fields(vec![
                field("component_id", &id),
                Field {
                    name: "data",
                    value: data,
                },
            ])
        });
        Value::List(entries.collect())
    }
}

/// A component's data, in its own format where that is known.
pub(super) fn component_data(component_id: ComponentID, data: &Bytes) -> Value {
    match component_id {
        ComponentID::APP_COMPONENTS => content::<AppComponents>(data),
        ComponentID::SAFE_AAD => content::<SafeAadComponents>(data),
        ComponentID::CONTENT_MEDIA_TYPES => content::<MediaTypeList>(data),
        ComponentID::LAST_RESORT_KEY_PACKAGE => content::<LastResortKeyPackage>(data),
        ComponentID::APP_ACK => content::<AppAck>(data),
        _ => data.value(),
    }
}

impl Inspect for SafeAAD {
    fn value(&self) -> Value {
        Value::List(self.aad_items().iter().map(Inspect::value).collect())
    }
}

impl Inspect for MediaTypeList {
    fn value(&self) -> Value {
        Value::List(self.iter().map(Inspect::value).collect())
    }
}

impl Inspect for MediaType {
    fn value(&self) -> Value {
        Value::Fields(vec![
            Field {
                name: "type",
                value: text_or_bytes(&self.r#type),
            },
            field("parameters", &self.parameters),
        ])
    }
}

impl Inspect for Parameter {
    fn value(&self) -> Value {
        let text = |name, bytes| Field {
            name,
            value: text_or_bytes(bytes),
        };
        Value::Fields(vec![
            text("parameter_name", &self.parameter_name),
            text("parameter_value", &self.parameter_value),
        ])
    }
}

impl Inspect for MessageRange {
    fn value(&self) -> Value {
        let number = |name, number: u32| Field {
            name,
            value: Value::Number(number.into()),
        };
        Value::Fields(vec![
            field("sender", &self.sender),
            number("first_generation", self.first_generation),
            number("last_generation", self.last_generation),
        ])
    }
}
