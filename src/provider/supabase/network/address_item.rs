//! An item of a list of addresses or ranges, which endpoints give as text or as an object.

use serde::Deserialize;

/// An address or a range.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum AddressItem {
    Text(String),
    Object {
        #[serde(alias = "banned_address")]
        address: String,
    },
}

impl AddressItem {
    pub(super) fn as_text(&self) -> &str {
        match self {
            AddressItem::Text(text) | AddressItem::Object { address: text } => text,
        }
    }
}
