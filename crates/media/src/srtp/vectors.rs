//! The test vectors of the RFCs: keystreams, key derivation, whole packets under GCM.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Begin and end of the keystream segment of RFC 3711 B.2 and RFC 6188 section 7.1: 65282 blocks.
fn keystream(key: &str) -> (String, String) {
    let counter: [u8; 16] = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000").try_into().unwrap();
    let mut stream = vec![0; 65_282 * 16];
    match hex(key) {
        short if short.len() == 16 => {
            counter_mode(&Aes128::new_from_slice(&short).unwrap(), counter, &mut stream);
        }
        long => counter_mode(&Aes256::new_from_slice(&long).unwrap(), counter, &mut stream),
    }
    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    (text(&stream[..48]), text(&stream[stream.len() - 48..]))
}

#[test]
fn rfc_3711_b_2_keystream_of_aes_128() {
    let (begin, end) = keystream("2B7E151628AED2A6ABF7158809CF4F3C");
    assert_eq!(
        begin,
        "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0"
    );
    assert_eq!(
        end,
        "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae6a2cc3787889374fbeb4c81b17ba6c44"
    );
}

#[test]
fn rfc_6188_7_1_keystream_of_aes_256() {
    let (begin, end) = keystream("57f82fe3613fd170a85ec93c40b1f0922ec4cb0dc025b58272147cc438944a98");
    assert_eq!(
        begin,
        "92bdd28a93c3f52511c677d08b5515a49da71b2378a854f67050756ded165bac63c4868b7096d88421b563b8c94c9a31"
    );
    assert_eq!(
        end,
        "cea518c90fd91ced9cbb18c078a547113dbc4814f4da5f00a08772b63c6a046d6eb246913062a16891433e97dd01a57f"
    );
}

fn derived(key: &str, salt: &str, label: u8, octets: usize) -> Vec<u8> {
    let mut out = vec![0xFF; octets];
    derive(&hex(key), &hex(salt), label, &mut out);
    out
}

#[test]
fn rfc_3711_b_3_key_derivation() {
    let (key, salt) = ("E1F97A0D3E018BE0D64FA32C06DE4139", "0EC675AD498AFEEBB6960B3AABE6");
    assert_eq!(derived(key, salt, 0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(derived(key, salt, 2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
    let auth = "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE \
                E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25 \
                6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2";
    assert_eq!(derived(key, salt, 1, 94), hex(auth));
}

#[test]
fn rfc_6188_7_2_key_derivation() {
    let key = "f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6";
    let salt = "3b04803de51ee7c96423ab5b78d2";
    let cipher = "5ba1064e30ec51613cad926c5a28ef73 1ec7fb397f70a960653caf06554cd8c4";
    assert_eq!(derived(key, salt, 0, 32), hex(cipher));
    assert_eq!(derived(key, salt, 2, 14), hex("fa31791685ca444a9e07c6c64e93"));
    assert_eq!(derived(key, salt, 1, 20), hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
}

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SALT: &str = "517569642070726f2071756f0000";

fn gcm(suite: Suite) -> Transform {
    let key = hex(KEY);
    let salt = hex(SALT).try_into().unwrap();
    Transform::from_session_keys(suite, &key[..suite.key_octets()], &[], salt, 16)
}

const RTP: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 \
                   61727465 73207472 6573";

#[test]
fn rfc_7714_16_rtp_under_gcm() {
    for (suite, protected) in [
        (
            Suite::AeadAes128Gcm,
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b \
             36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        ),
        (
            Suite::AeadAes256Gcm,
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f \
             1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        ),
    ] {
        let transform = gcm(suite);
        let mut packet = hex(RTP);
        transform.protect_rtp(0x5501_A0B2, 0xF17B, 12, 0, &mut packet);
        assert_eq!(packet, hex(protected));
        transform.unprotect_rtp(0x5501_A0B2, 0xF17B, 12, &mut packet).unwrap();
        assert_eq!(packet, hex(RTP));
    }
}

/// Sections 16.1.3 and 16.2.3: a packet of which all is authenticated and nothing encrypted has its payload in the header's
/// place.
#[test]
fn rfc_7714_16_tagging_alone() {
    let everything = hex(RTP).len();
    for (suite, tag) in [
        (Suite::AeadAes128Gcm, "22493f82 d2bce397 e9d79e3b 19aa4216"),
        (Suite::AeadAes256Gcm, "a866d591 0f887463 067ceefe c45215d4"),
    ] {
        let mut packet = hex(RTP);
        gcm(suite).protect_rtp(0x5501_A0B2, 0xF17B, everything, 0, &mut packet);
        let mut tagged = hex(RTP);
        tagged.extend(hex(tag));
        assert_eq!(packet, tagged);
    }
}

const RTCP: &str = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef \
                    deadbeef deadbeef";
const MARS: u32 = 0x4D61_7273;

#[test]
fn rfc_7714_17_1_rtcp_under_gcm_128() {
    let protected = "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda \
                     4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4";
    let mut packet = hex(RTCP);
    gcm(Suite::AeadAes128Gcm).protect_rtcp(MARS, 0x5D4, 0, &mut packet);
    assert_eq!(packet, hex(protected));
}

#[test]
fn rfc_7714_17_2_rtcp_under_gcm_256() {
    let sealed = "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658 \
                  c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be";
    let mut packet = hex(sealed);
    gcm(Suite::AeadAes256Gcm).unprotect_rtcp(MARS, 0x8000_05D4, 16, &mut packet).unwrap();
    assert_eq!(packet, hex(RTCP));
}

#[test]
fn rfc_7714_17_3_and_17_4_rtcp_tagged_alone() {
    for (suite, tag) in [
        (Suite::AeadAes128Gcm, "841dd968 3dd78ec9 2ae58790 125f62b3"),
        (Suite::AeadAes256Gcm, "91db4afb feee5a97 8fab4393 ed2615fe"),
    ] {
        let mut packet = hex(RTCP);
        packet.extend(hex(tag));
        gcm(suite).unprotect_rtcp(MARS, 0x0000_05D4, 16, &mut packet).unwrap();
        assert_eq!(packet, hex(RTCP));
        packet.extend(hex(tag));
        packet[20] ^= 1;
        assert_eq!(gcm(suite).unprotect_rtcp(MARS, 0x0000_05D4, 16, &mut packet), Err(NotAuthentic));
    }
}
