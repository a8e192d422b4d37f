//! Decoding of URLs: percent escapes and query strings.

/// Parses a query string into decoded pairs.
pub(super) fn parse_query(query: &str) -> Vec<(String, String)> {
    let read = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_percent(&name.replace('+', " ")), decode_percent(&value.replace('+', " ")))
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(read).collect()
}

/// Decodes percent escapes; malformed ones stay as they are.
pub(super) fn decode_percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                at += 3;
            }
            (byte, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let expected = [("services", "auth,db"), ("sql", "select 1"), ("bare", "")];
        let expected: Vec<_> = expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        assert_eq!(parse_query("services=auth%2Cdb&sql=select+1&bare"), expected);
        assert_eq!(decode_percent("100%"), "100%");
    }
}
