//! Channel binding without a secret of the connection: RFC 5929 §4 (`tls-server-end-point`).

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::{
    oid_registry::{
        OID_HASH_SHA1, OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512, OID_PKCS1_MD5WITHRSAENC,
        OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA224WITHRSA, OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_DSA_WITH_SHA1, OID_SIG_ECDSA_WITH_SHA224,
        OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, Oid, asn1_rs::oid,
    },
    prelude::{FromDer, X509Certificate},
    signature_algorithm::RsaSsaPssParams,
    x509::AlgorithmIdentifier,
};

/// RFC 5929 §4.1: the hash of a certificate in DER, exactly as it is sent. `None` if the RFC leaves it undefined (Ed25519 and others
/// without a hash of their own, RSA-PSS with two different hashes), if the hash is not SHA-2, or if the input is not a certificate.
pub fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
    if !rest.is_empty() {
        return None;
    }
    Some(match hash_of(&parsed.signature_algorithm)? {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// The hash to use for a signature algorithm: its own, or SHA-256 instead of MD5 and SHA-1.
fn hash_of(algorithm: &AlgorithmIdentifier) -> Option<Hash> {
    if algorithm.algorithm == OID_PKCS1_RSASSAPSS {
        return hash_of_pss(algorithm);
    }
    let table: [(Oid, Hash); 13] = [
        (OID_SIG_ECDSA_WITH_SHA256, Hash::Sha256),
        (OID_PKCS1_SHA256WITHRSA, Hash::Sha256),
        (OID_SIG_ECDSA_WITH_SHA384, Hash::Sha384),
        (OID_PKCS1_SHA384WITHRSA, Hash::Sha384),
        (OID_SIG_ECDSA_WITH_SHA512, Hash::Sha512),
        (OID_PKCS1_SHA512WITHRSA, Hash::Sha512),
        (OID_SIG_ECDSA_WITH_SHA224, Hash::Sha224),
        (OID_PKCS1_SHA224WITHRSA, Hash::Sha224),
        (OID_PKCS1_MD5WITHRSAENC, Hash::Sha256),
        (OID_PKCS1_SHA1WITHRSA, Hash::Sha256),
        (OID_SIG_DSA_WITH_SHA1, Hash::Sha256),
        (ECDSA_WITH_SHA1, Hash::Sha256),
        (DSA_WITH_SHA256, Hash::Sha256),
    ];
    table.into_iter().find(|(oid, _)| *oid == algorithm.algorithm).map(|(_, hash)| hash)
}

/// ecdsa-with-SHA1 (RFC 3279 §2.2.3), for which the library has no constant.
const ECDSA_WITH_SHA1: Oid<'static> = oid!(1.2.840.10045.4.1);
/// id-dsa-with-sha256 (RFC 5758 §3.1).
const DSA_WITH_SHA256: Oid<'static> = oid!(2.16.840.1.101.3.4.3.2);

/// RFC 4055 §3.1: the hash is a parameter, and so is the hash of the mask function; both must be the same.
fn hash_of_pss(algorithm: &AlgorithmIdentifier) -> Option<Hash> {
    let parameters = RsaSsaPssParams::try_from(algorithm.parameters.as_ref()?).ok()?;
    let hash = parameters.hash_algorithm_oid();
    if parameters.mask_gen_algorithm().ok()?.hash != *hash {
        return None;
    }
    let table = [
        (OID_NIST_HASH_SHA256, Hash::Sha256),
        (OID_NIST_HASH_SHA384, Hash::Sha384),
        (OID_NIST_HASH_SHA512, Hash::Sha512),
        (OID_HASH_SHA1, Hash::Sha256),
    ];
    table.into_iter().find(|(oid, _)| oid == hash).map(|(_, hash)| hash)
}
