//! Our KeyPackages: making, stocking, counting. Their private parts are rows; the DS holds them sealed.

use folkmoot_credential::{BACKDATE_SECONDS, CREDENTIAL_TYPE, EXTENSION_TYPES, Version};
use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::component::{
    AppComponents, AppDataDictionary, ComponentID, LastResortKeyPackage,
};
use folkmoot_mls::crypto::CipherSuite;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::{LeafParameters, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{CountRequest, CountResponse, Lane, Package, StockRequest};
use folkmoot_protocol::door;
use folkmoot_protocol::fence;
use folkmoot_protocol::proof::Method;
use folkmoot_protocol::sealed::{seal_package, suite};

use super::mailbox::owner;
use super::rows::{self, AccountRow, PackageRow};
use super::session::{Asked, Task};
use super::{Ask, Step, address};
use crate::error::Error;
use crate::store::Table;

/// How many packages lie on a full shelf.
pub(super) const STOCK: u64 = 20;

/// The shelf is filled when fewer are left.
const LOW: u64 = 8;

/// How long a package is good for: 28 days.
pub(super) const LIFETIME: u64 = 28 * DAY;

/// How long a package of last resort is good for: not quite the 90 days that are the most.
const LAST_RESORT_LIFETIME: u64 = 89 * DAY;

/// A package of last resort is replaced when it has less than this left.
const LAST_RESORT_LEFT: u64 = 14 * DAY;

/// How long the private keys of an expired package are kept: a commit with it may be on its way.
const KEPT: u64 = 8 * DAY;

/// In one request.
const AT_ONCE: usize = 100;

pub(super) const DAY: u64 = 24 * 3600;

/// The components that our leaves say we support. Who supports any supports the first two
/// (draft-ietf-mls-extensions, section 4.6).
const COMPONENTS: [ComponentID; 5] = [
    ComponentID::APP_COMPONENTS,
    ComponentID::SAFE_AAD,
    ComponentID::LAST_RESORT_KEY_PACKAGE,
    fence::COMPONENT,
    door::COMPONENT,
];

/// The suite that clients use.
pub(super) const SUITE: CipherSuite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;

/// The suites that clients say they support.
const SUITES: [CipherSuite; 3] = [
    CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519,
    CipherSuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_ED25519,
    CipherSuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
];

/// The lane of that suite.
pub(super) fn lane() -> Lane {
    Lane {
        version: ProtocolVersion::MLS10.0.into(),
        cipher_suite: SUITE.0.into(),
    }
}

/// What our leaves say. A KeyPackage may hold no extension that its leaf does not list, so they list that
/// with which we mark those of last resort.
pub(super) fn leaf_parameters(account: &AccountRow) -> Result<LeafParameters, Error> {
    let components = AppDataDictionary::default().with(&AppComponents {
        component_ids: COMPONENTS.to_vec(),
    });
    let parameters = LeafParameters {
        credential: account.credential()?.to_credential(),
        capabilities: Capabilities {
            versions: vec![ProtocolVersion::MLS10],
            cipher_suites: SUITES.to_vec(),
            extensions: EXTENSION_TYPES.to_vec(),
            proposals: Vec::new(),
            credentials: vec![CREDENTIAL_TYPE],
        },
        extensions: Extensions::default(),
    };
    Ok(parameters.with_components(components))
}

/// A KeyPackage as it is sealed.
pub(super) fn encode_package(package: &KeyPackage) -> Vec<u8> {
    MlsMessage::KeyPackage(Box::new(package.clone())).to_bytes()
}

impl Step<'_> {
    /// Makes packages for single use, and perhaps one of last resort. They are stocked by the task.
    pub(super) fn make_packages(
        &mut self,
        account: &AccountRow,
        single_use: u64,
        last_resort: bool,
    ) -> Result<(), Error> {
        for number in 0..single_use + u64::from(last_resort) {
            let last_resort = number == single_use;
            let lifetime = if last_resort {
                LAST_RESORT_LIFETIME
            } else {
                LIFETIME
            };
            let mut extensions = Extensions::default();
            if last_resort {
                let mark = LastResortKeyPackage::default();
                extensions.set(&AppDataDictionary::default().with(&mark));
            }
            self.make_package(account, lifetime, extensions, last_resort, false)?;
        }
        Ok(())
    }

    /// Makes a package that is good for so many seconds. `stocked`: it is for no shelf. Returns its
    /// reference.
    fn make_package(
        &mut self,
        account: &AccountRow,
        seconds: u64,
        extensions: Extensions,
        last_resort: bool,
        stocked: bool,
    ) -> Result<(Bytes, KeyPackage), Error> {
        let now = self.now / 1000;
        let lifetime = Lifetime {
            not_before: now.saturating_sub(BACKDATE_SECONDS),
            not_after: now.saturating_add(seconds),
        };
        let leaf = leaf_parameters(account)?;
        let signer = account.signer();
        let bundle = KeyPackage::create(suite(), &signer, leaf, lifetime, extensions, self.rng)
            .map_err(folkmoot_mls::error::Error::from)?;
        let reference: Bytes = bundle.key_package.reference(suite()).as_slice().into();
        let key_package = bundle.key_package.clone();
        let row = PackageRow {
            version: Version,
            expires: lifetime.not_after,
            bundle,
            last_resort,
            stocked,
        };
        rows::put(self.tx, Table::Packages, &reference, &row)?;
        Ok((reference, key_package))
    }

    /// Makes a package to knock with.
    pub(super) fn make_knock_package(
        &mut self,
        account: &AccountRow,
    ) -> Result<(Bytes, KeyPackage), Error> {
        self.make_package(account, LIFETIME, Extensions::default(), false, true)
    }

    /// The call that puts packages on the shelf which are not there, if there are any.
    pub(super) fn ask_stock(
        &mut self,
        account: &AccountRow,
        nonce: &[u8],
    ) -> Result<Option<Ask>, Error> {
        let rows: Vec<(_, PackageRow)> = rows::scan(self.tx, Table::Packages, &[])?;
        let waiting = rows
            .into_iter()
            .filter(|(_, row)| !row.stocked)
            .take(AT_ONCE);
        let mut references = Vec::new();
        let mut request = StockRequest::default();
        for (reference, row) in waiting {
            let plain = encode_package(&row.bundle.key_package);
            request.packages.push(Package {
                lane: Some(lane()),
                expires: row.expires,
                last_resort: row.last_resort,
                sealed: seal_package(account.shelf_key_version, &account.shelf_key.0, &plain),
            });
            references.push(Bytes::from(reference));
        }
        if references.is_empty() {
            return Ok(None);
        }
        request.owner = Some(owner(account, Method::Stock, nonce, &request));
        Ok(Some(Ask {
            to: address(&account.delivery),
            call: Call::Stock(request),
            asked: Asked::Stock(references),
        }))
    }

    pub(super) fn has_unstocked(&self) -> Result<bool, Error> {
        let rows: Vec<(_, PackageRow)> = rows::scan(self.tx, Table::Packages, &[])?;
        Ok(rows.iter().any(|(_, row)| !row.stocked))
    }

    pub(super) fn stocked(&mut self, references: &[Bytes]) -> Result<(), Error> {
        for reference in references {
            let row: Option<PackageRow> = rows::get(self.tx, Table::Packages, reference)?;
            if let Some(mut row) = row {
                row.stocked = true;
                rows::put(self.tx, Table::Packages, reference, &row)?;
            }
        }
        if self.has_unstocked()? {
            Ok(())
        } else {
            self.finish_registration()
        }
    }

    pub(super) fn stock_refused(
        &mut self,
        references: &[Bytes],
        refusal: Refusal,
    ) -> Result<(), Error> {
        if refusal == Refusal::Taken {
            // An answer was lost, and one of them was given out since. Counting shows what is missing.
            self.session.count = true;
            return self.stocked(references);
        }
        self.block(Task::Mailbox, refusal.into());
        Ok(())
    }

    pub(super) fn ask_count(&mut self, account: &AccountRow, nonce: &[u8]) -> Ask {
        let mut request = CountRequest::default();
        request.owner = Some(owner(account, Method::Count, nonce, &request));
        Ask {
            to: address(&account.delivery),
            call: Call::Count(request),
            asked: Asked::Count,
        }
    }

    /// Fills the shelf if it is low, and deletes the keys of packages that nobody can use any more.
    pub(super) fn counted(&mut self, answer: &CountResponse) -> Result<(), Error> {
        self.session.count = false;
        self.session.counted = Some(self.now);
        let Some(account) = self.stored_account()? else {
            return Ok(());
        };
        let now = self.now / 1000;
        let mut fresh_last_resort = false;
        let rows: Vec<(_, PackageRow)> = rows::scan(self.tx, Table::Packages, &[])?;
        for (reference, row) in rows {
            if row.expires.saturating_add(KEPT) < now {
                self.tx.delete(Table::Packages, &reference)?;
            }
            fresh_last_resort |=
                row.last_resort && row.expires > now.saturating_add(LAST_RESORT_LEFT);
        }
        let count = answer.lanes.iter().find(|count| count.lane == Some(lane()));
        let single_use = count.map_or(0, |count| count.single_use);
        let last_resort = count.is_some_and(|count| count.last_resort) && fresh_last_resort;
        if single_use < LOW || !last_resort {
            self.make_packages(&account, STOCK.saturating_sub(single_use), !last_resort)?;
        }
        Ok(())
    }
}
