#![no_main]

use folkmoot_fuzz::decodes_to_one_value;
use folkmoot_protocol::authentication::{DrawTokensRequest, DrawTokensResponse};
use folkmoot_protocol::token::draw::{Draw, IssuerEntry, IssuerList};
use folkmoot_protocol::token::{
    Blinded, IssuerKey, IssuerSecret, TOKEN, Token, TokenChallenge, TokenRequest, TokenResponse,
};

// What accounts, services and the directory say of tokens.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    decodes_to_one_value::<Token>(bytes);
    decodes_to_one_value::<TokenChallenge>(bytes);
    decodes_to_one_value::<TokenRequest>(bytes);
    decodes_to_one_value::<TokenResponse>(bytes);
    decodes_to_one_value::<Blinded>(bytes);
    decodes_to_one_value::<IssuerEntry>(bytes);
    decodes_to_one_value::<IssuerList>(bytes);
    decodes_to_one_value::<Draw>(bytes);
    if Token::read(bytes).is_ok() {
        assert_eq!(bytes.len(), TOKEN);
    }
    if let Ok(key) = IssuerKey::from_spki(bytes) {
        assert_eq!(key.spki(), bytes);
    }
    let _ = IssuerSecret::from_pkcs8(bytes);
    let signed = DrawTokensRequest {
        draw: bytes.to_vec(),
        signature: vec![7; 64],
    };
    assert!(Draw::read(&signed).is_err());
    let answer = DrawTokensResponse {
        token_responses: bytes.chunks(256).map(<[u8]>::to_vec).collect(),
    };
    let _ = answer.read();
});
