//! Whose tokens the Delivery Service takes, and the document that says with what our own
//! Authentication Service issues.
//!
//! The two services do not call each other. The program hands the issuer keys over, as an operator
//! would who runs them apart: from a domain's `/.well-known/folkmoot`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use folkmoot_delivery_service::TrustedIssuer;
use folkmoot_protocol::rate::Rate;
use folkmoot_protocol::token::draw::IssuerList;
use folkmoot_protocol::well_known::{TokenKey, WellKnown};

use super::{AuthenticationService, DeliveryService, ServeError};

/// How many tokens of our own domain may be spent: more than its accounts can draw.
const OWN: Rate = Rate {
    burst: 100_000,
    per_second: 1000,
};

/// How many of another domain: we do not know how freely it issues.
const OTHERS: Rate = Rate {
    burst: 1000,
    per_second: 20,
};

/// The largest document that is read of another domain, in bytes.
const MAX_DOCUMENT: u64 = 64 << 10;

/// What is published, and what is trusted; both change when issuer keys do.
pub(super) struct Issuers {
    document: RwLock<WellKnown>,
    /// Other domains' documents, as files.
    others: Vec<PathBuf>,
}

impl Issuers {
    /// With a document that names no issuer keys yet.
    pub(super) fn new(document: WellKnown, others: Vec<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            document: RwLock::new(document),
            others,
        })
    }

    /// `/.well-known/folkmoot`.
    pub(super) fn document(&self) -> String {
        let document = self.document.read().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_string(&*document).expect("plain text and numbers")
    }

    /// Looks which keys there are: those of our own service, which makes one if it is time, and
    /// those in other domains' documents. It may take seconds.
    ///
    /// # Errors
    /// [`ServeError`] for a document that is none; then all goes on as it was.
    pub(super) fn refresh(
        &self,
        authentication: Option<&AuthenticationService>,
        delivery: Option<&DeliveryService>,
        now: u64,
    ) -> Result<(), ServeError> {
        let mut trusted = Vec::new();
        if let Some(service) = authentication {
            // It reports failures itself.
            let Ok(IssuerList { domain, keys, .. }) = service.issuers(now, &mut rand::rng()) else {
                return Ok(());
            };
            let published = keys.iter().map(TokenKey::from).collect();
            self.document
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .token_keys = published;
            trusted.push(TrustedIssuer {
                name: domain.to_string(),
                keys,
                rate: OWN,
            });
        }
        for path in &self.others {
            trusted.push(read(path)?);
        }
        trusted.retain(|issuer| !issuer.keys.is_empty());
        if let Some(service) = delivery {
            let unusable = |_| ServeError::Issuer(PathBuf::new());
            service.trust(&trusted).map_err(unusable)?;
        }
        Ok(())
    }
}

/// The issuer in another domain's document.
fn read(path: &Path) -> Result<TrustedIssuer, ServeError> {
    let failed = |error: &std::io::Error| ServeError::file("read", path, error);
    let size = std::fs::metadata(path)
        .map_err(|error| failed(&error))?
        .len();
    let unusable = || ServeError::Issuer(path.to_owned());
    if size > MAX_DOCUMENT {
        return Err(unusable());
    }
    let text = std::fs::read(path).map_err(|error| failed(&error))?;
    let document: WellKnown = serde_json::from_slice(&text).map_err(|_| unusable())?;
    let keys = document.issuers();
    if keys.is_empty() || keys.iter().any(|entry| entry.key().is_err()) {
        return Err(unusable());
    }
    Ok(TrustedIssuer {
        name: document.domain,
        keys,
        rate: OTHERS,
    })
}
