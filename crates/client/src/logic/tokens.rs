//! Anonymous tokens: drawn from our AS by the clock, kept in stock, given to a DS for what it wants to
//! be paid for (`folkmoot_protocol::token`).
//!
//! A batch is drawn when we register and once a day after that, whether tokens are needed or not: when
//! and how much somebody draws tells the AS nothing. What was blinded is kept before it is sent, so a
//! lost answer is asked for again with the same bytes. A token is bound to the request that it pays for
//! before it is sent, so the same request again, by whichever process, is paid for with the same token.

use folkmoot_credential::Version;
use folkmoot_mls::codec::Encode;
use folkmoot_protocol::authentication::{DrawTokensResponse, IssuersRequest, IssuersResponse};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::Payment;
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::token::draw::{BATCH, Draw, INTERVAL, IssuerList, PLAN};
use folkmoot_protocol::token::price::Price;
use folkmoot_protocol::token::{Token, TokenChallenge, TokenError, TokenPurpose};
use folkmoot_protocol::{PaymentFault, Refusal, VERSION};

use super::rows::{self, AccountRow, PendingDraw, PendingToken, Stage, TokenRow, TokensRow};
use super::session::{Asked, State, Task};
use super::{Ask, Step, address};
use crate::error::Error;
use crate::store::{StoreError, Table};
use crate::transport::ServiceAddress;

/// Batches whose tokens are kept at most; beyond, the oldest go. After so many days there are enough to
/// add 5,000 devices at once.
const BATCHES_KEPT: usize = 8;

/// Milliseconds after which a draw that failed for good is tried anew.
const ANEW_MS: u64 = 3600 * 1000;

/// A request under way that is, or would be, paid for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paid {
    delivery: PublicKey,
    price: Price,
    /// Whether tokens were given.
    given: bool,
}

fn stock(delivery: &PublicKey, purpose: TokenPurpose) -> Vec<u8> {
    (*delivery, purpose).to_bytes()
}

impl Step<'_> {
    fn tokens_row(&self) -> Result<TokensRow, StoreError> {
        let row = rows::get(self.tx, Table::Account, rows::TOKENS)?;
        Ok(row.unwrap_or(TokensRow {
            version: Version,
            next: 0,
            number: 0,
            pending: None,
        }))
    }

    fn put_tokens_row(&mut self, row: &TokensRow) -> Result<(), StoreError> {
        rows::put(self.tx, Table::Account, rows::TOKENS, row)
    }

    /// Whether a first batch is still to come, and may.
    pub(super) fn awaits_first_tokens(&self) -> Result<bool, Error> {
        let row = self.tokens_row()?;
        let is_due = row.next <= self.now;
        Ok(is_due && !self.session.is_blocked(&Task::Tokens))
    }

    /// Draws a batch if it is time.
    pub(super) fn advance_tokens(&mut self) -> Result<Option<Ask>, Error> {
        let Some(account) = self.stored_account()? else {
            return Ok(None);
        };
        let row = self.tokens_row()?;
        if account.stage == Stage::Registering || row.next > self.now {
            return Ok(None);
        }
        let to = address(&account.authentication);
        let (call, asked) = match &row.pending {
            None => (Call::Issuers(IssuersRequest {}), Asked::Issuers),
            Some(pending) => {
                let draw = draw(&account, row.number, pending);
                let call = Call::DrawTokens(draw.sign(&account.device.0));
                (call, Asked::Draw(row.number))
            }
        };
        Ok(Some(Ask { to, call, asked }))
    }

    /// Blinds a batch for the key that issues.
    pub(super) fn issuers_listed(&mut self, answer: &IssuersResponse) -> Result<(), Error> {
        let Some(account) = self.stored_account()? else {
            return Ok(());
        };
        let mut row = self.tokens_row()?;
        if row.pending.is_some() || row.next > self.now {
            return Ok(());
        }
        let pending = match blind(&account, answer, self.now / 1000, self.rng) {
            Ok(pending) => pending,
            Err(_) => return self.draw_failed(row, ANEW_MS),
        };
        match pending {
            Some(pending) => {
                row.number = row.number.saturating_add(1).max(self.now);
                row.pending = Some(pending);
            }
            // This AS issues none, today.
            None => row.next = self.next_draw(),
        }
        self.put_tokens_row(&row)?;
        Ok(())
    }

    /// Puts a batch into stock.
    pub(super) fn drawn(&mut self, number: u64, answer: &DrawTokensResponse) -> Result<(), Error> {
        let mut row = self.tokens_row()?;
        // Another process may have been faster.
        if row.number != number {
            return Ok(());
        }
        let Some(pending) = row.pending.take() else {
            return Ok(());
        };
        let Ok(tokens) = finalize(&pending, answer) else {
            return self.draw_failed(row, ANEW_MS);
        };
        for (purpose, token) in tokens {
            let token = TokenRow {
                version: Version,
                paying: None,
                token,
            };
            let prefix = stock(&pending.delivery, purpose);
            let key = [
                prefix,
                (pending.issuer.not_after, token.token.nonce).to_bytes(),
            ]
            .concat();
            rows::put(self.tx, Table::Tokens, &key, &token)?;
        }
        self.trim_stock(&pending.delivery)?;
        row.next = self.next_draw();
        self.put_tokens_row(&row)?;
        for task in std::mem::take(&mut self.session.unpaid) {
            self.session.free(&task);
            self.wake.push(task);
        }
        Ok(())
    }

    /// The AS does not issue what we drew; nobody has to hear of it as long as there are tokens left.
    pub(super) fn draw_refused(&mut self, refusal: &Refusal) -> Result<(), Error> {
        let mut row = self.tokens_row()?;
        match refusal {
            // The same again later.
            Refusal::Rate(wait) => {
                row.next = self.now.saturating_add(*wait);
                self.put_tokens_row(&row)?;
                Ok(())
            }
            refusal if refusal.is_temporary() => {
                self.session.set(Task::Tokens, State::Blocked);
                Ok(())
            }
            // Its key is over, or an old copy of this home has drawn since.
            _ => self.draw_failed(row, ANEW_MS),
        }
    }

    fn draw_failed(&mut self, mut row: TokensRow, pause: u64) -> Result<(), Error> {
        row.pending = None;
        row.next = self.now.saturating_add(pause);
        self.put_tokens_row(&row)?;
        Ok(())
    }

    /// A day from now, some hours more or less.
    fn next_draw(&mut self) -> u64 {
        const DAY: u64 = INTERVAL * 1000;
        let spread = self.rng.next_u64() % (DAY / 4);
        self.now.saturating_add(DAY - DAY / 8 + spread)
    }

    /// Deletes tokens that are too old, and the oldest if there are too many.
    fn trim_stock(&mut self, delivery: &PublicKey) -> Result<(), Error> {
        for (purpose, count) in PLAN {
            let rows = self.in_stock(delivery, purpose)?;
            let surplus = rows.len().saturating_sub(count * BATCHES_KEPT);
            for (key, _) in rows.iter().take(surplus) {
                self.tx.delete(Table::Tokens, key)?;
            }
        }
        Ok(())
    }

    /// The tokens for one purpose, those first that expire first.
    fn in_stock(
        &mut self,
        delivery: &PublicKey,
        purpose: TokenPurpose,
    ) -> Result<Vec<(Vec<u8>, TokenRow)>, Error> {
        let prefix = stock(delivery, purpose);
        let mut rows: Vec<(Vec<u8>, TokenRow)> = rows::scan(self.tx, Table::Tokens, &prefix)?;
        let now = (self.now / 1000).to_be_bytes();
        let mut over = Vec::new();
        rows.retain(|(key, _)| {
            let is_good = key[prefix.len()..] > now[..];
            if !is_good {
                over.push(key.clone());
            }
            is_good
        });
        for key in over {
            self.tx.delete(Table::Tokens, &key)?;
        }
        Ok(rows)
    }

    /// Tokens for a purpose that are bound to no request yet.
    pub(super) fn unspent(
        &mut self,
        delivery: &PublicKey,
        purpose: TokenPurpose,
    ) -> Result<usize, Error> {
        let rows = self.in_stock(delivery, purpose)?;
        Ok(rows.iter().filter(|(_, row)| row.paying.is_none()).count())
    }

    /// Gives tokens for a call that costs any, if there are enough: whether they are wanted, the
    /// service says.
    pub(super) fn pay(
        &mut self,
        to: &ServiceAddress,
        call: &mut Call,
    ) -> Result<Option<Paid>, Error> {
        let Some(priced) = call.priced() else {
            return Ok(None);
        };
        let price = priced.price();
        let mut rows = self.in_stock(&to.key, price.purpose)?;
        // Those that were bound to this request before come first.
        rows.retain(|(_, row)| row.paying.is_none_or(|paying| paying == price.request));
        rows.sort_by_key(|(_, row)| row.paying.is_none());
        let given = rows.len() >= price.tokens;
        if given {
            rows.truncate(price.tokens);
            let mut payment = Payment::default();
            for (key, row) in &mut rows {
                row.paying = Some(price.request);
                rows::put(self.tx, Table::Tokens, key, row)?;
                payment.tokens.push(row.token.to_bytes());
            }
            *priced.payment() = Some(payment);
        }
        Ok(Some(Paid {
            delivery: to.key,
            price,
            given,
        }))
    }

    /// What became of a call that costs tokens.
    pub(super) fn settle_payment(
        &mut self,
        paid: &Paid,
        result: &Result<Answer, Refusal>,
    ) -> Result<(), Error> {
        let is_gone = match result {
            Ok(_) => true,
            Err(Refusal::Payment(fault)) => is_useless(*fault),
            // It may be spent on this request, which may be sent again.
            Err(_) => return Ok(()),
        };
        let prefix = stock(&paid.delivery, paid.price.purpose);
        let rows: Vec<(Vec<u8>, TokenRow)> = rows::scan(self.tx, Table::Tokens, &prefix)?;
        for (key, mut row) in rows {
            if row.paying != Some(paid.price.request) {
                continue;
            }
            if is_gone {
                self.tx.delete(Table::Tokens, &key)?;
            } else {
                row.paying = None;
                rows::put(self.tx, Table::Tokens, &key, &row)?;
            }
        }
        Ok(())
    }

    /// The service does not take what we gave, or we gave nothing. What was to be done waits.
    pub(super) fn payment_refused(&mut self, task: Task, paid: Option<Paid>, fault: PaymentFault) {
        let given = paid.is_some_and(|paid| paid.given);
        if given && is_useless(fault) {
            // They are gone: once more with others.
            return;
        }
        let error = match fault {
            PaymentFault::Missing if !given => Error::NoTokens,
            fault => Error::Refused(Refusal::Payment(fault)),
        };
        self.session.unpaid.insert(task);
        self.block(task, error);
    }
}

/// Whether a token is good for nothing any more.
fn is_useless(fault: PaymentFault) -> bool {
    matches!(fault, PaymentFault::Spent | PaymentFault::ExpiredKey)
}

fn draw(account: &AccountRow, number: u64, pending: &PendingDraw) -> Draw {
    let requests = pending.tokens.iter();
    Draw {
        version: VERSION,
        authentication_service: account.authentication.key,
        name: account.user.name.clone(),
        device: account.device.0.public(),
        number,
        token_key_id: pending.token_key_id,
        requests: requests.map(|token| token.request.clone()).collect(),
    }
}

/// Blinds a batch for our DS; nothing if the AS has no key that issues.
fn blind(
    account: &AccountRow,
    answer: &IssuersResponse,
    now: u64,
    rng: &mut dyn rand_core::CryptoRng,
) -> Result<Option<PendingDraw>, TokenError> {
    let domain = &account.user.domain;
    let list = IssuerList::read(answer, domain, &account.authentication.key)?;
    let Some(issuer) = list.current(now) else {
        return Ok(None);
    };
    let key = issuer.key()?;
    let mut tokens = Vec::with_capacity(BATCH);
    for (purpose, count) in PLAN {
        let challenge = TokenChallenge::of(domain.as_str(), &account.delivery.key, purpose);
        for _ in 0..count {
            let (request, blinded) = key.blind(&challenge, rng)?;
            tokens.push(PendingToken {
                purpose,
                request,
                blinded,
            });
        }
    }
    Ok(Some(PendingDraw {
        delivery: account.delivery.key,
        token_key_id: *key.id(),
        issuer: issuer.clone(),
        tokens,
    }))
}

fn finalize(
    pending: &PendingDraw,
    answer: &DrawTokensResponse,
) -> Result<Vec<(TokenPurpose, Token)>, TokenError> {
    let key = pending.issuer.key()?;
    let responses = answer.read()?;
    let tokens = pending.tokens.iter().zip(&responses);
    tokens
        .map(|(token, response)| Ok((token.purpose, token.blinded.finalize(&key, response)?)))
        .collect()
}
