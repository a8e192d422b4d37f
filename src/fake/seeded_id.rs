//! Identifiers that follow from a seed: the reference of a project, the id of a branch.

use sha2::{Digest as _, Sha256};

/// Returns twenty letters that follow from `seed`.
pub(super) fn derive_letters(seed: &str) -> String {
    Sha256::digest(seed).iter().take(20).map(|byte| char::from(b'a' + byte % 26)).collect()
}

/// Returns a version 4 UUID that follows from `seed`.
pub(super) fn derive_uuid(seed: &str) -> String {
    let mut bytes: Vec<u8> = Sha256::digest(seed).iter().take(16).copied().collect();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_their_seed() {
        assert_eq!(derive_letters("a"), derive_letters("a"));
        assert_ne!(derive_letters("a"), derive_letters("b"));
        assert!(
            derive_letters("a").len() == 20 && derive_letters("a").chars().all(|c| c.is_ascii_lowercase())
        );
        let id = derive_uuid("a");
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'));
    }
}
